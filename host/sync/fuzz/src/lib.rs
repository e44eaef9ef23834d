//! What is fuzzed: each module takes bytes from a fuzzer and panics if something is wrong.
//!
//! `cargo xtask fuzz` runs them with libFuzzer, which looks for inputs that reach new code. The test
//! `tests/fuzzed.rs` of `host-sync` runs the same modules on the seeds and on random changes of them.

pub mod frame;
pub mod sequence;
pub mod socket;
pub mod update;
