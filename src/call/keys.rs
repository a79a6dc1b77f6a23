//! Keys of legs and calls in the [call table](super::call_table). After the removal of a leg or call, its key is never
//! used for another.

use slotmap::new_key_type;

new_key_type! {
    /// Key by which the call table finds a leg.
    pub(crate) struct LegKey;
    /// Key by which the call table finds a call.
    pub(crate) struct CallKey;
}
