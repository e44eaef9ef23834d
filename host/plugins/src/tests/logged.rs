//! What plugins log, for tests to look at.

use parking_lot::Mutex;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::set_global_default;
use tracing::{Event, Metadata, Subscriber};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// One for all tests: a script runs on a thread of its own, where no test has a subscriber.
struct Lines;

/// From here on lines are kept.
pub(super) fn listen() {
    // Another test may have been first.
    let _ = set_global_default(Lines);
}

/// The first line with this in it.
pub(super) fn line_with(text: &str) -> Option<String> {
    LINES.lock().iter().find(|line| line.contains(text)).cloned()
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "plugin"
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "message" {
                LINES.lock().push(format!("{value:?}"));
            }
        });
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
