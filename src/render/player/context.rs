//! The values that the players of all streams share: the plan, the mix buffer and the report.

use crate::render::mix_buffer::MixBuffer;
use crate::render::plan::RenderPlan;
use crate::render::report::SideReport;
use crate::render::rtp_clock::scaled;
use crate::time::Timestamp;

/// The plan of the leg, and the outputs of a player: mix buffer and report of its side.
pub(in crate::render) struct PlayContext<'a> {
    pub(in crate::render) plan: &'a RenderPlan,
    pub(in crate::render) buffer: &'a mut MixBuffer,
    pub(in crate::render) report: &'a mut SideReport,
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

    pub(super) fn count_sound(&mut self, at: i64, samples: usize, rate_hz: u32) {
        self.report.heard_us += self.inside_us(at, samples, rate_hz);
    }

    /// Returns how much of some sound lies inside the recording, in microseconds. The sound has `samples` samples at
    /// the rate `rate_hz` and begins at position `at`.
    pub(super) fn inside_us(&self, at: i64, samples: usize, rate_hz: u32) -> u64 {
        let total = i64::try_from(self.plan.samples).ok();
        let total = total.and_then(|total| scaled(total, rate_hz.into(), self.plan.sample_rate.into()));
        let end = at.saturating_add(samples as i64).min(total.unwrap_or(i64::MAX));
        (end - at.max(0)).max(0) as u64 * 1_000_000 / u64::from(rate_hz.max(1))
    }
}

/// Maximum absolute position, in samples. It is centuries away from any recording, and small enough that sums cannot
/// overflow.
const MAX_POSITION: f64 = 1e15;
