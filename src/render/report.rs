//! The results of rendering a leg: counts, levels and errors.

use crate::net::{PayloadType, Ssrc};
use std::collections::BTreeMap;

use crate::call::decision::MissingKeyReason;
use crate::spool::SpoolError;

/// The reason why packets of a side gave no sound.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UndecodableReason {
    /// There is no decoder for this encoding name.
    UnknownCodec(String),
    /// No session description announced this payload type.
    UnknownPayloadType(PayloadType),
    /// A stream with sound changed to a payload type that no session description announced. Packets that are short
    /// enough to be telephone-events (RFC 4733) do not count.
    UnannouncedChange(PayloadType),
    /// The stream cannot be decrypted, for this reason.
    Encrypted(UndecryptableReason),
    /// The capture truncated the packet, or its header contradicts its length.
    Cut,
    /// The decoder refused the payload.
    Damaged,
}

/// A deviation of a payload from its announced format, found by examining the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PayloadQuirk {
    /// AMR in another alignment than announced (RFC 4867 section 4).
    AmrAlignment,
    /// G.726 with the code words in another order than announced (RFC 3551 instead of AAL2, or the reverse).
    G726Packing,
    /// Bytes follow the last whole frame.
    TrailingBytes,
    /// The two channels have opposite phases.
    OppositePhases,
    /// The bytes of linear samples came in little-endian order instead of network byte order.
    ByteOrder,
    /// G.711 in the other companding law than announced: A-law instead of mu-law, or the reverse.
    CompandingLaw,
    /// The payload is unencrypted, although both sides agreed on SRTP.
    Unencrypted,
}

/// The reason why a stream cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UndecryptableReason {
    /// DTLS-SRTP: the keys are never sent in clear.
    DtlsSrtp,
    /// Keys from ZRTP: the parties never send them in clear, so a recorder cannot get them.
    Zrtp,
    /// SRTP, but the captured signalling contains no keys.
    NoKeys,
    /// SRTP, but the announced keys do not decrypt the packets.
    WrongKeys,
    /// SRTP with a crypto suite that callspan does not support.
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

/// A place in the recording where packets of a side are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundLoss {
    /// Start of the missing sound, microseconds from the start of the recording.
    pub from_us: u64,
    /// End of the missing sound, microseconds from the start of the recording.
    pub to_us: u64,
    /// Number of packets missing at this place.
    pub packets: u64,
    /// Duration of the concealment of lost packets at this place, microseconds.
    pub concealed_us: u64,
}

/// Counts and levels of one side in the recorded part of the call.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SideReport {
    /// Number of packets that were decoded and gave sound.
    pub decoded: u64,
    /// Number of packets that gave no sound, by reason.
    pub silent: BTreeMap<UndecodableReason, u64>,
    /// Number of lost packets that were restored, because a later packet repeated their sound (RFC 2198).
    pub repaired: u64,
    /// Number of packets with a payload that the call engine did not keep, e.g. because the recording was paused.
    pub withheld: u64,
    /// Number of packets that are telephone-events, e.g. DTMF digits.
    pub events: u64,
    /// Number of packets that were decoded although they deviate from their announced format, by kind of deviation.
    pub quirks: BTreeMap<PayloadQuirk, u64>,
    /// Number of comfort noise packets (RFC 3389).
    pub comfort: u64,
    /// Number of packets that arrived too late to be played.
    pub late: u64,
    /// The largest number of consecutive packets that were lost or gave no sound.
    pub burst_loss: u64,
    /// Duration of all sound, concealment and comfort noise included, microseconds.
    pub heard_us: u64,
    /// Duration of concealment for lost packets, microseconds.
    pub concealed_us: u64,
    /// Places where packets are missing, oldest first, at most [`MAX_LOSSES`].
    pub losses: Vec<SoundLoss>,
    /// Drift of the sender's clock against the capture clock, parts per million. Positive: the sender's clock is fast.
    /// It is `None` for streams of less than half a minute.
    pub clock_drift_ppm: Option<f64>,
    /// The largest magnitude of a sample, 0 to 32768.
    pub peak: u32,
    /// Root mean square of the samples in the pieces of 20 ms with talk.
    pub talk_rms: f64,
    /// Number of clipped samples: samples at the largest value of 16 bits, or of G.711.
    pub clipped: u64,
    /// Time with sound louder than -45 dBov, seconds.
    pub talk_s: f64,
    /// Time without sound louder than -45 dBov, seconds.
    pub silence_s: f64,
    /// Whether the answering tone of a fax or modem was heard.
    pub answer_tone: bool,
    /// Streams with RTP timestamps at another clock rate than the SDP announces: SSRC, announced clock rate and true
    /// clock rate (Hz).
    pub wrong_clocks: Vec<(Ssrc, u32, u32)>,
    /// Number of packets with useless timestamps. Their sequence numbers and durations give their place in the
    /// recording.
    pub broken_stamps: u64,
    /// Number of packets in streams with RTP timestamps that jump every few packets, whatever clock rate is assumed.
    pub scattered: u64,
}

impl SideReport {
    /// Returns the number of packets that gave no sound, whatever the reason.
    pub(crate) fn undecodable(&self) -> u64 {
        self.silent.values().sum()
    }

    /// Adds a place where packets are missing. Places less than [`SAME_LOSS_US`] apart become one place. If there are
    /// then too many places, the two nearest places become one.
    pub(super) fn add_loss(&mut self, loss: SoundLoss) {
        let at = self.losses.partition_point(|known| known.from_us <= loss.from_us);
        self.losses.insert(at, loss);
        let distance = |pair: &[SoundLoss]| pair[1].from_us.saturating_sub(pair[0].to_us);
        let nearest = |losses: &[SoundLoss]| losses.windows(2).map(distance).enumerate().min_by_key(|(_, far)| *far);
        while let Some((first, far)) = nearest(&self.losses)
            && (far < SAME_LOSS_US || self.losses.len() > MAX_LOSSES)
        {
            let later = self.losses.remove(first + 1);
            let joined = &mut self.losses[first];
            joined.to_us = joined.to_us.max(later.to_us);
            joined.packets += later.packets;
            joined.concealed_us += later.concealed_us;
        }
    }
}

/// Maximum number of places with missing packets of a side. Nobody reads a longer list.
const MAX_LOSSES: usize = 20;
/// Distance in microseconds between two places with missing packets, below which they count as one place.
const SAME_LOSS_US: u64 = 1_000_000;

/// The result of rendering a leg.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RenderReport {
    /// Number of samples per channel.
    pub samples: u64,
    /// The report about the leg's caller (left), and the report about the leg's callee (right).
    pub sides: [SideReport; 2],
    /// Whether the spool ended in the middle of a block.
    pub torn_tail: bool,
}

/// The reason why a leg cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The spool cannot be read.
    #[error("the spool cannot be read: {0}")]
    Spool(#[from] SpoolError),
    /// The receiver of the samples failed.
    #[error("the recording cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_losses_become_a_bounded_number_of_places() {
        let at = |s: u64| SoundLoss {
            from_us: s * 1_000_000,
            to_us: s * 1_000_000 + 20_000,
            packets: 1,
            concealed_us: 20_000,
        };
        let mut side = SideReport::default();
        // The order of the losses does not matter. The losses at 10 s and 10.5 s are less than a second apart, so they
        // become one place.
        let half = SoundLoss { from_us: 10_500_000, to_us: 10_520_000, ..at(10) };
        for loss in [at(30), at(10), half, at(20)] {
            side.add_loss(loss);
        }
        let places: Vec<_> = side.losses.iter().map(|loss| (loss.from_us, loss.to_us, loss.packets)).collect();
        assert_eq!(places, [(10_000_000, 10_520_000, 2), (20_000_000, 20_020_000, 1), (30_000_000, 30_020_000, 1)]);
        (0..500).for_each(|n| side.add_loss(at(40 + 7 * n)));
        assert_eq!(side.losses.len(), MAX_LOSSES);
        assert_eq!(side.losses.iter().map(|loss| loss.packets).sum::<u64>(), 504);
        assert!(side.losses.windows(2).all(|pair| pair[0].to_us < pair[1].from_us), "{:?}", side.losses);
    }
}
