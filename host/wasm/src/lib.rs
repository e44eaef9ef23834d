//! WebAssembly, compiled and run: what the server needs of it, and nothing of what plugins are.
//!
//! [`load()`] has a file compiled or takes what [`Cache`] has kept; [`child`] compiles, in a process of
//! its own, what `component` has made a component of. [`Engine`] runs the code and holds guests to
//! their time, [`Pool`] keeps their instances.
//! What an instance's store holds and which functions a guest may call is up to the crate above, by
//! [`Code`] and [`Hosted`].

mod cache;
pub mod child;
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
mod settings;

pub use cache::Cache;
pub use compiling::Compiling;
pub use component::{Contract, Rehearsal};
pub use engine::{Allocation, Engine, EngineConfig};
pub use hash::Hash;
pub use hosted::Hosted;
pub use limits::PoolLimits;
pub use load::{Loaded, load, optimise};
pub use memory::Memory;
pub use pace::{Load, Pace};
pub use pool::{Code, Instance, Pool};
pub use settings::Compile;
