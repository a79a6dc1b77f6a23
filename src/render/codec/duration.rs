//! Computes the duration of a payload's sound.
//!
//! The timeline relies on this duration where arrival times mislead, e.g. when a sender sends packets two at a time.

use crate::call::decision::PayloadFormat;
#[cfg(feature = "speex")]
use crate::codec::Codec;

/// Returns the duration of a payload in ns; `None` if its content does not determine it, or contains no whole frame.
pub(crate) fn duration_ns(format: &PayloadFormat, payload: &[u8]) -> Option<i64> {
    #[cfg(feature = "speex")]
    if format.is(Codec::Speex) {
        let length_ns = super::speex::frames(format.clock_hz, payload) * SPEEX_FRAME_NS;
        return (length_ns > 0).then_some(length_ns);
    }
    format.duration_ns(payload)
}

/// Returns the duration of a payload in ns from its length alone; `None` if the length does not determine it.
pub(crate) fn duration_of_bytes(format: &PayloadFormat, bytes: u32) -> Option<i64> {
    let length_ns = format.codec()?.duration_ns(bytes, format.clock_hz, format.channels)?;
    (length_ns > 0).then_some(length_ns)
}

/// Duration of a Speex frame, ns. It is used for a payload with a damaged end, because its good frames are still
/// played.
#[cfg(feature = "speex")]
const SPEEX_FRAME_NS: i64 = 20_000_000;
