//! The crate's specification, as requests and their answers.

mod actions;
mod documents;
mod enforce;
mod harness;
mod kv;
mod lists;
mod live;
mod odd;
mod openapi;
mod reload;
mod rows;
mod rules;
mod sync;
mod writes;
