//! Rendering a leg into parts.
//!
//! # Invariants
//! - Part n is the span from `starts_at + (n - 1) * part_s` to `starts_at + n * part_s`; the last one ends with the call.
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

use super::config::Format;
use super::parts::{Channels, PartWriter, Shape, WrittenPart};
use super::verdict::SideFacts;
use crate::call::event::PART_SETTLE;
use crate::render::{self, Options, Plan, RenderError, Report};
use crate::spool::LegSource;
use crate::time::Timestamp;

/// How a leg is rendered, and where to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cutter<'a> {
    pub(super) format: Format,
    /// Samples a second; `None`: what is needed.
    pub(super) sample_rate: Option<u32>,
    /// Length of a part, seconds.
    pub(super) part_s: u64,
    pub(super) folder: &'a Path,
    pub(super) stem: &'a str,
    pub(super) channels: Channels,
}

/// The parts that were made before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) count: u32,
    /// Where the first begins, on the capture timeline; `None` if there are none.
    pub(super) starts_at: Option<Timestamp>,
}

/// What is to be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UpTo {
    /// Parts up to this one, of a leg that goes on.
    Part(u32),
    /// All the rest.
    End,
}

/// A leg that was rendered.
#[derive(Debug)]
pub(super) struct Rendered {
    /// Up to its end, or that of the last part.
    pub(super) plan: Plan,
    /// From its beginning on.
    pub(super) report: Report,
    /// Anything could be heard.
    pub(super) is_heard: bool,
    /// Those that were not there yet; none when nothing could be heard.
    pub(super) parts: Vec<Part>,
}

/// A file that waits for its name.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) number: u32,
    pub(super) starts_at: Timestamp,
    pub(super) ends_at: Timestamp,
    pub(super) sample_rate: u32,
    pub(super) file: WrittenPart,
}

impl Cutter<'_> {
    /// Renders what is not made yet.
    pub(super) fn render(&self, source: &LegSource, made: Made, up_to: UpTo) -> Result<Rendered, RenderError> {
        let (plan, last) = self.last_plan(source, made, up_to)?;
        let starts_at = plan.starts_at;
        let mut parts = Vec::new();
        if plan.has_sound {
            for number in made.count + 1..last {
                let plan = self.plan_of(source, starts_at, number)?;
                parts.push(self.write(&plan, source, number)?.0);
            }
        }
        let report = if plan.has_sound && last > made.count {
            let (part, report) = self.write(&plan, source, last)?;
            parts.push(part);
            report
        } else {
            render::render(&plan, source, &mut |_| Ok(()))?
        };
        let is_heard = report.sides.iter().any(|side| SideFacts::from(side).heard);
        if !is_heard {
            parts.clear();
        }
        Ok(Rendered { plan, report, is_heard, parts })
    }

    /// What a leg gives from its beginning on, without writing it.
    pub(super) fn listen(&self, source: &LegSource, made: Made, up_to: UpTo) -> Result<Report, RenderError> {
        let (plan, _) = self.last_plan(source, made, up_to)?;
        render::render(&plan, source, &mut |_| Ok(()))
    }

    /// The plan of the last part, and its number.
    fn last_plan(&self, source: &LegSource, made: Made, up_to: UpTo) -> Result<(Plan, u32), RenderError> {
        if let (UpTo::Part(number), Some(starts_at)) = (up_to, made.starts_at) {
            return Ok((self.plan_of(source, starts_at, number)?, number));
        }
        let mut plan = render::plan(source, &Options { sample_rate: self.sample_rate, until: None })?;
        let starts_at = made.starts_at.unwrap_or(plan.starts_at);
        if let UpTo::Part(number) = up_to {
            return Ok((self.plan_of(source, starts_at, number)?, number));
        }
        plan.set_span(starts_at, plan.ends_at);
        let length_us = plan.ends_at.since(starts_at).as_micros();
        let last = length_us.div_ceil(u128::from(self.part_s) * 1_000_000);
        Ok((plan, u32::try_from(last).unwrap_or(u32::MAX)))
    }

    /// The plan of a part that is not the last, from the beginning of the call to the part's end.
    fn plan_of(&self, source: &LegSource, starts_at: Timestamp, number: u32) -> Result<Plan, RenderError> {
        let ends_at = self.begin_of(starts_at, number.saturating_add(1));
        let options = Options { sample_rate: self.sample_rate, until: Some(ends_at + PART_SETTLE) };
        let mut plan = render::plan(source, &options)?;
        plan.set_span(starts_at, ends_at);
        Ok(plan)
    }

    fn begin_of(&self, starts_at: Timestamp, number: u32) -> Timestamp {
        let seconds = self.part_s.saturating_mul(u64::from(number.saturating_sub(1)));
        starts_at + Duration::from_secs(seconds)
    }

    /// Writes the end of a plan as a part.
    fn write(&self, plan: &Plan, source: &LegSource, number: u32) -> Result<(Part, Report), RenderError> {
        let sample_rate = plan.sample_rate;
        let before = u64::from(number - 1) * self.part_s * u64::from(sample_rate);
        let samples = plan.samples.saturating_sub(before);
        let shape = Shape { format: self.format, sample_rate, channels: self.channels, samples };
        let mut writer = PartWriter::new(self.folder, (self.stem, number), shape)?;
        let mut given = 0_u64;
        let report = render::render(plan, source, &mut |frames| {
            let skip = usize::try_from(before.saturating_sub(given)).unwrap_or(usize::MAX).min(frames.len());
            given += frames.len() as u64;
            writer.write(&frames[skip..])
        })?;
        let file = writer.finish()?;
        let starts_at = self.begin_of(plan.starts_at, number);
        Ok((Part { number, starts_at, ends_at: plan.ends_at, sample_rate, file }, report))
    }
}
