//! What is measured, and what ours must reach.

use std::time::Duration;

use anyhow::Result;

use crate::report::Sample;
use crate::server::Running;
use crate::traffic::{Pace, Times, Traffic};
use crate::{idle, join, traffic};

/// A load, and what is asked of our server under it.
pub struct Scenario {
    /// How `--only` names it.
    pub name: &'static str,
    pub title: &'static str,
    load: Load,
    pub targets: &'static [Target],
    /// What was measured on such a machine before, for when a peer is not there.
    pub recorded: &'static str,
}

enum Load {
    Traffic(Traffic),
    Idle { connections: usize },
    Join { entries: usize },
}

/// A figure of ours, and what it is held against.
pub struct Target {
    pub metric: &'static str,
    pub label: &'static str,
    pub bound: Bound,
}

/// At most this much; for all figures that have a target, less is better.
#[derive(Clone, Copy)]
pub enum Bound {
    /// Of the best peer's.
    TimesBest(f64),
    /// In the metric's own unit.
    Absolute(f64),
}

const CPU: &str = "cpu_ms_per_1000";
const CPU_LABEL: &str = "CPU ms per 1,000 deliveries";
const CPU_08: Target = Target { metric: CPU, label: CPU_LABEL, bound: Bound::TimesBest(0.8) };
const CPU_05: Target = Target { metric: CPU, label: CPU_LABEL, bound: Bound::TimesBest(0.5) };
const JOIN: &[Target] =
    &[Target { metric: "cpu_ms_per_join", label: "CPU ms per join", bound: Bound::TimesBest(0.3) }];

/// The scenarios, in the order in which they are run.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "one-room",
        title: "1 room × 50 clients, 5 writers × 20/s",
        load: traffic(1, 50, 5, Pace::Rate(20)),
        targets: &[
            CPU_08,
            Target { metric: "p99_ms", label: "latency p99, ms", bound: Bound::TimesBest(1.0) },
        ],
        recorded: "y-sweet 7.3–9.2 ms, p99 33 ms",
    },
    Scenario {
        name: "many-rooms",
        title: "100 rooms × 5 clients, 1 writer × 10/s",
        load: traffic(100, 5, 1, Pace::Rate(10)),
        targets: &[CPU_08],
        recorded: "y-sweet 23–30 ms",
    },
    Scenario {
        name: "window-16",
        title: "10 rooms × 10 clients, 2 writers, window 16",
        load: traffic(10, 10, 2, Pace::Window(16)),
        targets: &[CPU_05],
        recorded: "hocuspocus 4.4–5.4 ms",
    },
    Scenario {
        name: "window-1024",
        title: "1 room × 20 clients, 4 writers, window 1024",
        load: traffic(1, 20, 4, Pace::Window(1024)),
        targets: &[CPU_05],
        recorded: "hocuspocus 4.3–5.5 ms, p99 0.75 s",
    },
    Scenario {
        name: "idle",
        title: "2,000 idle connections",
        load: Load::Idle { connections: 2000 },
        targets: &[
            Target { metric: "kib_each", label: "KiB each", bound: Bound::Absolute(8.0) },
            Target {
                metric: "cpu_ms_per_connect",
                label: "CPU ms per connect",
                bound: Bound::Absolute(0.07),
            },
        ],
        recorded: "y-sweet 12.5 KiB each, 8 MiB base; 0.07 ms",
    },
    Scenario {
        name: "join-10k",
        title: "cold join, map of 10,000 entries",
        load: Load::Join { entries: 10_000 },
        targets: JOIN,
        recorded: "y-sweet 1.2 ms",
    },
    Scenario {
        name: "join-100k",
        title: "cold join, map of 100,000 entries",
        load: Load::Join { entries: 100_000 },
        targets: JOIN,
        recorded: "y-sweet 11.5 ms",
    },
];

const fn traffic(rooms: usize, clients: usize, writers: usize, pace: Pace) -> Load {
    Load::Traffic(Traffic { rooms, clients, writers, pace })
}

impl Scenario {
    /// Measures a server that has just been started.
    pub async fn measure(&self, server: &Running, times: Times) -> Result<Sample> {
        match self.load {
            Load::Traffic(load) => traffic::measure(server, load, times).await,
            Load::Idle { connections } => idle::measure(server, connections).await,
            Load::Join { entries } => join::measure(server, entries, times.measured).await,
        }
    }
}

impl Times {
    /// The times of a measurement of so many seconds.
    pub fn of(seconds: u64) -> Self {
        Self { warm_up: Duration::from_secs(2), measured: Duration::from_secs(seconds) }
    }
}
