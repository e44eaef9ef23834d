//! The crate's specification, as requests and their answers.

mod actions;
mod harness;
mod kv;
mod lists;
mod live;
mod reload;
mod rows;
mod sync;
mod writes;
