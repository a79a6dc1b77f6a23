//! Keys of legs and calls in the [call table](super::call_table). The keys are generational: a key of a removed leg or
//! call finds nothing.

use slotmap::new_key_type;

new_key_type! {
    /// Key of a leg.
    pub(crate) struct LegKey;
    /// Key of a call.
    pub(crate) struct CallKey;
}
