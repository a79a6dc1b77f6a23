//! The values that the players of all streams share: the plan (playout times), the mix buffer and the report.

use crate::render::mix_buffer::MixBuffer;
use crate::render::plan::RenderPlan;
use crate::render::report::{SideReport, SoundLoss};
use crate::render::rtp_clock::scaled;
use crate::render::sample_index::DecoderIndex;
use crate::time::Timestamp;

/// The plan (playout times) of the leg, and the outputs of a player: mix buffer and report of its side.
pub(in crate::render) struct PlayContext<'a> {
    pub(in crate::render) plan: &'a RenderPlan,
    pub(in crate::render) buffer: &'a mut MixBuffer,
    pub(in crate::render) report: &'a mut SideReport,
}

/// A gap between two packets of a stream, where packets are missing. All lengths are in samples.
#[derive(Clone, Copy)]
pub(super) struct LossGap {
    /// Position at which the gap begins, at the sampling rate of the decoder.
    pub(super) at: DecoderIndex,
    /// Length of the gap between two packets, samples.
    pub(super) samples: i64,
    /// Length of the concealment of lost packets at the start of the gap, samples.
    pub(super) concealed: i64,
    /// Number of packets missing in the gap.
    pub(super) packets: u64,
}

impl PlayContext<'_> {
    /// Returns the position of a time in the recording, in samples at the rate `rate_hz`.
    pub(super) fn position(&self, at: Timestamp, rate_hz: u32) -> f64 {
        let samples = at.nanos_since(self.plan.starts_at) as f64 * f64::from(rate_hz) / 1e9;
        samples.clamp(-MAX_POSITION, MAX_POSITION)
    }

    pub(super) fn is_inside(&self, at: Timestamp) -> bool {
        at >= self.plan.starts_at && at < self.plan.ends_at
    }

    pub(super) fn count_sound(&mut self, at: DecoderIndex, samples: usize, rate_hz: u32) {
        self.report.heard_us += self.inside_us(at, samples, rate_hz);
    }

    /// Counts lost packets and their concealment. If the gap is longer than the lost packets can have been, the sender
    /// also paused. Then only the start of the gap counts as lost.
    pub(super) fn count_loss(&mut self, gap: LossGap, rate_hz: u32) {
        let concealed_us = self.inside_us(gap.at, gap.concealed as usize, rate_hz);
        self.report.concealed_us += concealed_us;
        let packets = i64::try_from(gap.packets).unwrap_or(i64::MAX);
        let longest = packets.saturating_mul(i64::from(rate_hz) * LONGEST_PACKET_MS / 1_000);
        let length_us = self.inside_us(gap.at, gap.samples.min(longest) as usize, rate_hz);
        if length_us > 0 {
            let from_us = gap.at.0.max(0) as u64 * 1_000_000 / u64::from(rate_hz.max(1));
            let to_us = from_us + length_us;
            self.report.add_loss(SoundLoss { from_us, to_us, packets: gap.packets, concealed_us });
        }
    }

    /// Returns how much of some sound lies inside the recording, in microseconds. The sound has `samples` samples at
    /// the rate `rate_hz` and begins at position `at`.
    pub(super) fn inside_us(&self, at: DecoderIndex, samples: usize, rate_hz: u32) -> u64 {
        let total = i64::try_from(self.plan.samples).ok();
        let total = total.and_then(|total| scaled(total, rate_hz.into(), self.plan.sample_rate.into()));
        let end = at.after(samples).0.min(total.unwrap_or(i64::MAX));
        (end - at.0.max(0)).max(0) as u64 * 1_000_000 / u64::from(rate_hz.max(1))
    }
}

/// Duration of the sound in the longest usual RTP packets, ms.
const LONGEST_PACKET_MS: i64 = 60;
/// Maximum absolute position, in samples. It is centuries away from any recording, and small enough that sums cannot
/// overflow.
const MAX_POSITION: f64 = 1e15;
