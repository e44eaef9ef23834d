//! What a store holds, as far as this crate needs to know it.

use crate::memory::Memory;
use crate::pace::Pace;

/// What this crate needs of the data in a store.
pub trait Hosted: Send + 'static {
    /// The memory of the instance.
    fn memory(&mut self) -> &mut Memory;

    /// The time of the call that the instance serves; none between calls.
    fn pace(&mut self) -> Option<&mut Pace>;
}
