//! Renders a leg (one captured SIP dialog) into segments. A segment is one file of a long recording.
//!
//! # Invariants
//! - Segment n spans from `starts_at + (n - 1) * segment_s` to `starts_at + n * segment_s`; the last segment ends with
//!   the call. `starts_at` is the start of the recording, and `segment_s` the length of a segment. So each segment
//!   begins with the sample after the end of the previous segment. This does not depend on the sample rates, nor on
//!   when the segments are made.
//! - Every segment except the last depends only on the packets up to [`SEGMENT_SETTLE`] (a waiting time) after its end.
//!   So a segment has the same bytes whether it is made during the call, after its end, or from a replayed capture.
//! - For each segment the call is decoded from its beginning. So decoders, keys and clocks have the same state as in a
//!   recording without segments, and the transition cannot be heard. A call of n segments takes (n + 1) / 2 times the
//!   work.
//! - A segment has the sample rate that the codecs needed until [`SEGMENT_SETTLE`] after its end. A call that changes to
//!   a wideband codec has segments of two rates.
//! - Finished segments are not changed. If the engine later chooses another leg for the sound (the anchor leg), the
//!   following segments have the sound of that leg. The call record says so.

use std::path::Path;
use std::time::Duration;

use super::config::RecordingFormat;
use super::segments::{ChannelOrder, SegmentSpec, SegmentWriter, WrittenSegment};
use super::verdict::SideFacts;
use crate::call::event::SEGMENT_SETTLE;
use crate::render::{self, RenderError, RenderOptions, RenderPlan, RenderReport};
use crate::spool::LegSource;
use crate::time::Timestamp;

/// Renders a leg into the segments (files) of a recording.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segmenter<'a> {
    pub(super) format: RecordingFormat,
    /// Sample rate in Hz; `None` means the lowest rate that suffices for the codecs of the call.
    pub(super) sample_rate: Option<u32>,
    /// Length of a segment (one file of a long recording), seconds.
    pub(super) segment_s: u64,
    pub(super) folder: &'a Path,
    pub(super) stem: &'a str,
    pub(super) channels: ChannelOrder,
}

/// The segments (parts) of the same recording that are already finished: their count and their start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FinishedSegments {
    pub(super) count: u32,
    /// Capture time at which the first segment starts; `None` if there are no segments.
    pub(super) starts_at: Option<Timestamp>,
}

/// The moment up to which a leg is rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenderUpTo {
    /// Up to the end of the segment (part of the recording) with this number, while the call is still in progress.
    Segment(u32),
    /// Up to the end of the call, which is over.
    End,
}

/// The result of rendering a leg: a report on its sound, and the new segments, i.e. parts of the recording.
#[derive(Debug)]
pub(super) struct RenderedLeg {
    /// The render plan (playout times of the packets) up to the end of the call or of the last segment.
    pub(super) plan: RenderPlan,
    /// The report on the decoded sound, from the beginning of the call.
    pub(super) report: RenderReport,
    /// Whether any sound could be decoded.
    pub(super) is_heard: bool,
    /// Whether at least one side can be heard, as the verdict defines it (module `verdict`).
    pub(super) is_audible: bool,
    /// New segments (parts of the recording); empty if no sound could be decoded.
    pub(super) segments: Vec<NewSegment>,
}

/// A new segment, i.e. a part of a recording. Its file is complete but has no final name yet.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) number: u32,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) sample_rate: u32,
    pub(super) file: WrittenSegment,
}

impl Segmenter<'_> {
    /// Renders those segments (parts of the recording) of a leg that are not finished yet.
    pub(super) fn render(
        &self,
        source: &LegSource,
        finished: FinishedSegments,
        up_to: RenderUpTo,
    ) -> Result<RenderedLeg, RenderError> {
        let (plan, last) = self.last_segment_plan(source, finished, up_to)?;
        let starts_at = plan.starts_at;
        let mut segments = Vec::new();
        if plan.has_sound {
            for number in finished.count + 1..last {
                let plan = self.segment_plan(source, starts_at, number)?;
                let (mut segment, _) = self.write(&plan, source, number)?;
                segment.file.close();
                segments.push(segment);
            }
        }
        let report = if plan.has_sound && last > finished.count {
            let (segment, report) = self.write(&plan, source, last)?;
            segments.push(segment);
            report
        } else {
            render::render(&plan, source, &mut |_| Ok(()))?
        };
        let is_heard = report.sides.iter().any(|side| side.decoded + side.comfort > 0);
        if !is_heard {
            segments.clear();
        }
        let is_audible = report.sides.iter().any(|side| SideFacts::from(side).is_heard());
        Ok(RenderedLeg { plan, report, is_heard, is_audible, segments })
    }

    /// Renders a leg from its beginning without writing a file, to measure its sound.
    pub(super) fn measure(
        &self,
        source: &LegSource,
        finished: FinishedSegments,
        up_to: RenderUpTo,
    ) -> Result<RenderReport, RenderError> {
        let (plan, _) = self.last_segment_plan(source, finished, up_to)?;
        render::render(&plan, source, &mut |_| Ok(()))
    }

    /// Plans the rendering up to the moment `up_to`, i.e. up to the end of a given segment or of the call. Returns the
    /// render plan (playout times of the packets), and the number of the last segment before that moment.
    fn last_segment_plan(
        &self,
        source: &LegSource,
        finished: FinishedSegments,
        up_to: RenderUpTo,
    ) -> Result<(RenderPlan, u32), RenderError> {
        if let (RenderUpTo::Segment(number), Some(starts_at)) = (up_to, finished.starts_at) {
            return Ok((self.segment_plan(source, starts_at, number)?, number));
        }
        let mut plan = render::plan(source, &RenderOptions { sample_rate: self.sample_rate, until: None })?;
        let starts_at = finished.starts_at.unwrap_or(plan.starts_at);
        if let RenderUpTo::Segment(number) = up_to {
            return Ok((self.segment_plan(source, starts_at, number)?, number));
        }
        plan.set_span(starts_at, plan.ends_at);
        let length_us = plan.ends_at.since(starts_at).as_micros();
        let last = length_us.div_ceil(u128::from(self.segment_s) * 1_000_000);
        Ok((plan, u32::try_from(last).unwrap_or(u32::MAX)))
    }

    /// Returns the render plan (playout times of the packets) for a segment that ends before the call. The plan reaches
    /// from the beginning of the call to the segment's end.
    fn segment_plan(&self, source: &LegSource, starts_at: Timestamp, number: u32) -> Result<RenderPlan, RenderError> {
        let ends_at = self.segment_start(starts_at, number.saturating_add(1));
        let options = RenderOptions { sample_rate: self.sample_rate, until: Some(ends_at + SEGMENT_SETTLE) };
        let mut plan = render::plan(source, &options)?;
        plan.set_span(starts_at, ends_at);
        Ok(plan)
    }

    fn segment_start(&self, starts_at: Timestamp, number: u32) -> Timestamp {
        let seconds = self.segment_s.saturating_mul(u64::from(number.saturating_sub(1)));
        starts_at + Duration::from_secs(seconds)
    }

    /// Renders a call from its beginning to the end of a segment (part of the recording). Writes only the sound of this
    /// last segment to a file.
    fn write(
        &self,
        plan: &RenderPlan,
        source: &LegSource,
        number: u32,
    ) -> Result<(NewSegment, RenderReport), RenderError> {
        let sample_rate = plan.sample_rate;
        let before = u64::from(number - 1) * self.segment_s * u64::from(sample_rate);
        let samples = plan.samples.saturating_sub(before);
        let spec = SegmentSpec { format: self.format, sample_rate, channels: self.channels, samples };
        let mut writer = SegmentWriter::new(self.folder, self.stem, number, spec)?;
        let mut rendered = 0_u64;
        let report = render::render(plan, source, &mut |frames| {
            let skip = usize::try_from(before.saturating_sub(rendered)).unwrap_or(usize::MAX).min(frames.len());
            rendered += frames.len() as u64;
            writer.write(&frames[skip..])
        })?;
        let file = writer.finish()?;
        let starts_at = self.segment_start(plan.starts_at, number);
        Ok((NewSegment { number, starts_at, ends_at: plan.ends_at, sample_rate, file }, report))
    }
}
