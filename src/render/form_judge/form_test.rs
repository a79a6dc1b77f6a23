//! The properties of payload formats that show whether payloads are encrypted.

use crate::call::decision::PayloadFormat;
use crate::codec::fixed_bits::{G729_FRAME_BYTES, ILBC_FRAME_BYTES};
use crate::codec::{Codec, DecoderKind, G726Rate};

/// The property of a payload format that shows whether payloads are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormTest {
    /// Each tick of the RTP clock has this number of bits, and the bytes are not evenly distributed.
    BitsPerTick(u32),
    /// The first five bits of a payload have only a few values.
    FirstBits,
    /// The frames of this codec have a fixed length and fixed bits.
    FixedBits(Codec),
}

impl FormTest {
    /// Returns the test for a format; `None` if the form of its payloads shows nothing.
    ///
    /// A G.726 encoder of 24, 32 or 40 kbit/s never sends the code word 0. At 16 kbit/s it sends all four code words,
    /// and those of loud noise are evenly distributed.
    pub(crate) fn new(format: &PayloadFormat) -> Option<Self> {
        let channels = u32::from(format.channels.max(1));
        match format.codec()? {
            Codec::Pcma | Codec::Pcmu | Codec::G722 | Codec::L8 => Some(Self::BitsPerTick(8 * channels)),
            Codec::L16 => Some(Self::BitsPerTick(16 * channels)),
            // The first five bits name the configuration of Opus (RFC 6716 section 3.1), or the mode of Speex. With AMR
            // they contain the requested mode (RFC 4867 section 4), with GSM the signature.
            Codec::Opus | Codec::Speex | Codec::Amr | Codec::AmrWb | Codec::Gsm => Some(Self::FirstBits),
            codec @ (Codec::Ilbc | Codec::G729) => Some(Self::FixedBits(codec)),
            codec => match codec.decoder()? {
                DecoderKind::G726(G726Rate::Three, _) => Some(Self::BitsPerTick(3)),
                DecoderKind::G726(G726Rate::Four, _) => Some(Self::BitsPerTick(4)),
                DecoderKind::G726(G726Rate::Five, _) => Some(Self::BitsPerTick(5)),
                _ => None,
            },
        }
    }

    /// Returns whether payloads of different lengths are examined together.
    pub(super) const fn allows_any_length(self) -> bool {
        !matches!(self, Self::BitsPerTick(_))
    }

    /// Returns the number of bytes by which a payload is longer than `ticks` of the RTP clock last. Returns `None` if
    /// it is shorter, or if its length has nothing to do with its duration. A payload of whole iLBC frames has no
    /// surplus, whatever its timestamps say. A frame of G.729 is as long as the usual tag of SRTP, so there they decide.
    pub(super) fn surplus(self, bytes: u32, ticks: u32) -> Option<u32> {
        if ticks == 0 {
            return None;
        }
        let frames = |frame_ticks: u32| ticks.is_multiple_of(frame_ticks).then_some(ticks / frame_ticks);
        match self {
            Self::BitsPerTick(bits) => bytes.checked_sub(ticks.checked_mul(bits)? / 8),
            Self::FirstBits => None,
            Self::FixedBits(Codec::Ilbc)
                if ILBC_FRAME_BYTES.iter().any(|frame| bytes.is_multiple_of(*frame as u32)) =>
            {
                Some(0)
            }
            Self::FixedBits(codec) => frames_of(codec)
                .filter_map(|frame| bytes.checked_sub(frames(frame.ticks)?.checked_mul(frame.bytes as u32)?))
                .min(),
        }
    }
}

/// The size of a frame of a codec.
struct FrameSize {
    codec: Codec,
    /// Duration of the frame in ticks of an RTP clock of 8000 Hz.
    ticks: u32,
    bytes: usize,
}

fn frames_of(codec: Codec) -> impl Iterator<Item = &'static FrameSize> {
    FRAMES.iter().filter(move |frame| frame.codec == codec)
}

/// The sizes of the frames that have fixed bits.
static FRAMES: [FrameSize; 3] = [
    FrameSize { codec: Codec::G729, ticks: 80, bytes: G729_FRAME_BYTES },
    FrameSize { codec: Codec::Ilbc, ticks: 160, bytes: ILBC_FRAME_BYTES[0] },
    FrameSize { codec: Codec::Ilbc, ticks: 240, bytes: ILBC_FRAME_BYTES[1] },
];
