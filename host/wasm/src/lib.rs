//! WebAssembly, compiled and run: what the server needs of it, and nothing of what plugins are.
//!
//! `component` makes a component of a file, [`load()`] compiles it or takes what [`Cache`] has kept;
//! [`Engine`] has the two compilers and holds guests to their time, [`Pool`] keeps their instances.
//! What an instance's store holds and which functions a guest may call is up to the crate above, by
//! [`Code`] and [`Hosted`].

mod cache;
mod compiling;
mod component;
mod engine;
mod hash;
mod hosted;
pub mod limits;
mod load;
mod memory;
mod pace;
mod pool;

pub use cache::Cache;
pub use compiling::Compiling;
pub use component::Contract;
pub use engine::{Allocation, Compile, Engine, EngineConfig};
pub use hash::Hash;
pub use hosted::Hosted;
pub use limits::PoolLimits;
pub use load::{Loaded, load, optimise};
pub use memory::Memory;
pub use pace::{Load, Pace};
pub use pool::{Code, Instance, Pool};
