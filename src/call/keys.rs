//! Keys of legs and calls in the [call table](super::call_table). A key is never used again: after the removal of a leg
//! or call, its key finds nothing.

use slotmap::new_key_type;

new_key_type! {
    /// Key of a leg in the call table.
    pub(crate) struct LegKey;
    /// Key of a call in the call table.
    pub(crate) struct CallKey;
}
