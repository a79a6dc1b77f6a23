//! Rendering a leg into parts.
//!
//! # Invariants
//! - Part n is the span from `starts_at + (n - 1) * segment_s` to `starts_at + n * segment_s`; the last one ends with the call.
//!   So parts abut to the sample, whenever they are made and at whatever rate.
//! - All of a part but the last is a function of what the spool has up to [`PART_SETTLE`] after its end. So a part made
//!   while the call is live has the same bytes as the same part of the same leg made after its end, or from a replayed
//!   capture.
//! - The call is decoded from its beginning for each part: decoders, keys and clocks stand at a part's beginning as if
//!   there were no parts. It costs a call of n parts (n + 1) / 2 times the work, and there is no seam.
//! - A part has the rate that was needed up to its end: a call that turns wideband has parts of two rates.
//! - Parts that were made stay as they are. When another leg becomes the anchor meanwhile, the rest is that leg's, and
//!   the record says so.

use std::path::Path;
use std::time::Duration;

use super::config::RecordingFormat;
use super::segments::{ChannelOrder, SegmentSpec, SegmentWriter, WrittenSegment};
use super::verdict::SideFacts;
use crate::call::event::PART_SETTLE;
use crate::render::{self, Options, Plan, RenderError, Report};
use crate::spool::LegSource;
use crate::time::Timestamp;

/// How a leg is rendered, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segmenter<'a> {
    pub(super) format: RecordingFormat,
    /// Samples a second; `None`: what is needed.
    pub(super) sample_rate: Option<u32>,
    /// Length of a part, seconds.
    pub(super) segment_s: u64,
    pub(super) folder: &'a Path,
    pub(super) stem: &'a str,
    pub(super) channels: ChannelOrder,
}

/// The parts that were made before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FinishedSegments {
    pub(super) count: u32,
    /// Where the first begins, on the capture timeline; `None` if there are none.
    pub(super) starts_at: Option<Timestamp>,
}

/// What is to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RenderUpTo {
    /// Parts up to this one, of a leg that goes on.
    Segment(u32),
    /// All the rest.
    End,
}

/// A leg that was rendered.
#[derive(Debug)]
pub(super) struct RenderedLeg {
    /// Up to its end, or that of the last part.
    pub(super) plan: Plan,
    /// From its beginning on.
    pub(super) report: Report,
    /// Anything could be heard.
    pub(super) is_heard: bool,
    /// Those that were not there yet; none when nothing could be heard.
    pub(super) segments: Vec<NewSegment>,
}

/// A file that waits for its name.
#[derive(Debug)]
pub(super) struct NewSegment {
    pub(super) number: u32,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) sample_rate: u32,
    pub(super) file: WrittenSegment,
}

impl Segmenter<'_> {
    /// Renders what is not made yet.
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
                segments.push(self.write(&plan, source, number)?.0);
            }
        }
        let report = if plan.has_sound && last > finished.count {
            let (segment, report) = self.write(&plan, source, last)?;
            segments.push(segment);
            report
        } else {
            render::render(&plan, source, &mut |_| Ok(()))?
        };
        let is_heard = report.sides.iter().any(|side| SideFacts::from(side).heard);
        if !is_heard {
            segments.clear();
        }
        Ok(RenderedLeg { plan, report, is_heard, segments })
    }

    /// What a leg gives from its beginning on, without writing it.
    pub(super) fn measure(
        &self,
        source: &LegSource,
        finished: FinishedSegments,
        up_to: RenderUpTo,
    ) -> Result<Report, RenderError> {
        let (plan, _) = self.last_segment_plan(source, finished, up_to)?;
        render::render(&plan, source, &mut |_| Ok(()))
    }

    /// The plan of the last part, and its number.
    fn last_segment_plan(
        &self,
        source: &LegSource,
        finished: FinishedSegments,
        up_to: RenderUpTo,
    ) -> Result<(Plan, u32), RenderError> {
        if let (RenderUpTo::Segment(number), Some(starts_at)) = (up_to, finished.starts_at) {
            return Ok((self.segment_plan(source, starts_at, number)?, number));
        }
        let mut plan = render::plan(source, &Options { sample_rate: self.sample_rate, until: None })?;
        let starts_at = finished.starts_at.unwrap_or(plan.starts_at);
        if let RenderUpTo::Segment(number) = up_to {
            return Ok((self.segment_plan(source, starts_at, number)?, number));
        }
        plan.set_span(starts_at, plan.ends_at);
        let length_us = plan.ends_at.since(starts_at).as_micros();
        let last = length_us.div_ceil(u128::from(self.segment_s) * 1_000_000);
        Ok((plan, u32::try_from(last).unwrap_or(u32::MAX)))
    }

    /// The plan of a part that is not the last, from the beginning of the call to the part's end.
    fn segment_plan(&self, source: &LegSource, starts_at: Timestamp, number: u32) -> Result<Plan, RenderError> {
        let ends_at = self.segment_start(starts_at, number.saturating_add(1));
        let options = Options { sample_rate: self.sample_rate, until: Some(ends_at + PART_SETTLE) };
        let mut plan = render::plan(source, &options)?;
        plan.set_span(starts_at, ends_at);
        Ok(plan)
    }

    fn segment_start(&self, starts_at: Timestamp, number: u32) -> Timestamp {
        let seconds = self.segment_s.saturating_mul(u64::from(number.saturating_sub(1)));
        starts_at + Duration::from_secs(seconds)
    }

    /// Writes the end of a plan as a part.
    fn write(&self, plan: &Plan, source: &LegSource, number: u32) -> Result<(NewSegment, Report), RenderError> {
        let sample_rate = plan.sample_rate;
        let before = u64::from(number - 1) * self.segment_s * u64::from(sample_rate);
        let samples = plan.samples.saturating_sub(before);
        let spec = SegmentSpec { format: self.format, sample_rate, channels: self.channels, samples };
        let mut writer = SegmentWriter::new(self.folder, self.stem, number, spec)?;
        let mut given = 0_u64;
        let report = render::render(plan, source, &mut |frames| {
            let skip = usize::try_from(before.saturating_sub(given)).unwrap_or(usize::MAX).min(frames.len());
            given += frames.len() as u64;
            writer.write(&frames[skip..])
        })?;
        let file = writer.finish()?;
        let starts_at = self.segment_start(plan.starts_at, number);
        Ok((NewSegment { number, starts_at, ends_at: plan.ends_at, sample_rate, file }, report))
    }
}
