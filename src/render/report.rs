//! What rendering counts, and why it may fail.

use std::collections::BTreeMap;

use crate::call::decision::MissingKeyReason;
use crate::spool::SpoolError;

/// Why packets gave no sound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UndecodableReason {
    /// There is no decoder for this encoding.
    UnknownCodec(String),
    /// Nothing announced what this payload type means.
    UnknownPayloadType(u8),
    /// The stream cannot be decrypted.
    Encrypted(UndecryptableReason),
    /// The capture cut the packet, or its header contradicts its length.
    Cut,
    /// The decoder refused the payload.
    Damaged,
}

/// Why a stream cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UndecryptableReason {
    /// DTLS-SRTP: keys never cross the wire in clear.
    DtlsSrtp,
    /// ZRTP: likewise.
    Zrtp,
    /// SRTP whose keys the mirror did not show.
    NoKeys,
    /// SRTP whose keys do not open the packets.
    WrongKeys,
    /// SRTP whose keys are known but cannot be used (suite not supported).
    Unsupported,
}

impl From<MissingKeyReason> for UndecryptableReason {
    fn from(why: MissingKeyReason) -> Self {
        match why {
            MissingKeyReason::DtlsSrtp => Self::DtlsSrtp,
            MissingKeyReason::Zrtp => Self::Zrtp,
            MissingKeyReason::NoKeys => Self::NoKeys,
        }
    }
}

/// What was heard of one side, within the recorded part of the call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideReport {
    /// Packets that gave sound.
    pub decoded: u64,
    /// Packets that gave none, by reason.
    pub silent: BTreeMap<UndecodableReason, u64>,
    /// Lost packets whose sound a later packet repeated (RFC 2198).
    pub repaired: u64,
    /// Packets whose payload was deliberately not kept, telephone-events among them.
    pub withheld: u64,
    /// Comfort noise packets.
    pub comfort: u64,
    /// Packets that came too late to be put in order.
    pub late: u64,
    /// The longest run of packets that never came, or gave nothing.
    pub burst_loss: u64,
    /// Sound that packets gave, and what was made up between them, microseconds.
    pub heard_us: u64,
    /// Sound made up for lost packets, microseconds.
    pub concealed_us: u64,
    /// The sender's clock against the capture clock; positive = fast. Known for streams of half a minute and more.
    pub clock_drift_ppm: Option<f64>,
    /// The largest sample, 0 to 32768.
    pub peak: u32,
    /// Root mean square of the 20 ms pieces in which there is talk.
    pub talk_rms: f64,
    /// Samples at full scale, or at the largest value that G.711 can say.
    pub clipped: u64,
    /// Seconds with sound louder than -45 dBov.
    pub talk_s: f64,
    /// The other seconds.
    pub silence_s: f64,
    /// Streams whose stamps run on another clock than announced: SSRC, announced and true clock.
    pub wrong_clocks: Vec<(u32, u32, u32)>,
    /// Packets with sound whose stamps mean nothing: they were placed by their number and length.
    pub broken_stamps: u64,
}

impl SideReport {
    /// Packets that gave no sound for want of a decoder, a key or a whole payload.
    pub fn undecodable(&self) -> u64 {
        self.silent.values().sum()
    }
}

/// What rendering a leg gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderReport {
    /// Samples of each channel.
    pub samples: u64,
    /// Left and right: the leg's caller and callee.
    pub sides: [SideReport; 2],
    /// The spool ended in the middle of a block.
    pub torn_tail: bool,
}

/// Why a leg cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The spool cannot be read.
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] SpoolError),
    /// Whoever takes the samples failed.
    #[error("the recording cannot be written: {0}")]
    Output(#[from] std::io::Error),
}
