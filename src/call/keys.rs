//! Keys of legs and calls in the [call table](super::call_table). They are generational: after a leg or call is removed, its
//! key finds nothing.

use slotmap::new_key_type;

new_key_type! {
    /// Key of a leg.
    pub(crate) struct LegKey;
    /// Key of a call.
    pub(crate) struct CallKey;
}
