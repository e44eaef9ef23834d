//! Lines for the host's log, with the workspace and the action named beside them.
//!
//! The macros take what `format!` takes: `log::info!("published {id}")`. A message is cut after
//! 8 KiB, and a call that writes more than 1,000 lines loses the rest. In tests on the author's own
//! machine the lines go to standard error.

#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __warn as warn};

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the plugin's author only.
    Debug,
    /// Something worth knowing happened.
    Info,
    /// Something is odd, and the call goes on.
    Warn,
    /// Something went wrong.
    Error,
}

/// Writes one line. The macros beside it read better.
pub fn write(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    {
        use crate::__bindings::epicenter::workspace::log as host;
        let level = match level {
            Level::Debug => host::Level::Debug,
            Level::Info => host::Level::Info,
            Level::Warn => host::Level::Warn,
            Level::Error => host::Level::Error,
        };
        host::write(level, message);
    }
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {message}");
}

/// Writes a line for the plugin's author: `log::debug!("{count} rows")`.
#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Debug, &format!($($message)+)) };
}

/// Writes that something worth knowing happened: `log::info!("published {id}")`.
#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Info, &format!($($message)+)) };
}

/// Writes that something is odd while the call goes on: `log::warn!("{id} has no author")`.
#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Warn, &format!($($message)+)) };
}

/// Writes that something went wrong: `log::error!("{id}: {error}")`.
#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($message:tt)+) => { $crate::log::write($crate::log::Level::Error, &format!($($message)+)) };
}
