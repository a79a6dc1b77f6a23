//! Finds a leg with the talk that the rendered leg lacks for some time, e.g. because its media takes another path.
//!
//! The two legs are compared piece by piece (module `sound_course`). The other leg must have the talk that the rendered
//! leg has, so a leg of another conversation is not taken.

use std::ops::Range;

use super::leg_choice::lasts_as_long;
use super::{Recorder, RenderTask};
use crate::call::event::EndedLeg;
use crate::call::record::{CallRecord, EventKind};
use crate::recording::segmenter::RenderedLeg;
use crate::recording::sound_course::pieces_between;
use crate::spool::{LegSource, LegStore};
use crate::time::Timestamp;

impl Recorder {
    /// Looks for a leg with at least a second of talk that the rendered leg lacks. Of several, returns the leg with
    /// most such talk.
    ///
    /// Returns `None` if earlier parts of the recording (segments) are finished: the rest comes from the same leg.
    pub(super) fn find_missing_part<'a>(
        &self,
        (rendered, rendered_leg): (&RenderedLeg, &EndedLeg),
        others: impl Iterator<Item = &'a EndedLeg>,
        store: &dyn LegStore,
        task: &RenderTask<'_>,
    ) -> Option<(LegSource, &'a EndedLeg)> {
        let lacking = lacking_sides(rendered, rendered_leg);
        if task.finished_segments.count > 0 || !rendered.is_heard || lacking == [false; 2] {
            return None;
        }
        let course = |leg: &EndedLeg| {
            let source = store.source(leg)?;
            let segmenter = self.segmenter(leg, std::path::Path::new(""), "");
            let course = segmenter.sound_course(&source, task.up_to, &rendered.plan).ok()?;
            Some((source, course))
        };
        let mut others = others.filter(|leg| lasts_as_long(task.record, leg, rendered_leg)).peekable();
        others.peek()?;
        let (_, own) = course(rendered_leg)?;
        let held = held_pieces(task.record, rendered.plan.starts_at.offset(task.wall_offset_ns));
        let gains = others.filter_map(|leg| {
            let (source, other) = course(leg)?;
            Some((own.compare(&other, lacking, &held).gain(), (source, leg)))
        });
        gains.filter(|(gain, _)| *gain > 0).max_by_key(|(gain, _)| *gain).map(|(_, found)| found)
    }
}

/// Returns for each side of the call whether the rendered leg lacks at least [`LEAST_MISSING_US`] of its sound.
fn lacking_sides(rendered: &RenderedLeg, leg: &EndedLeg) -> [bool; 2] {
    let length_us = rendered.report.samples * 1_000_000 / u64::from(rendered.plan.sample_rate.max(1));
    let mut lacking = rendered.report.sides.each_ref().map(|side| {
        let heard_us = side.heard_us.saturating_sub(side.concealed_us);
        heard_us + LEAST_MISSING_US <= length_us
    });
    if !leg.same_sides {
        lacking.reverse();
    }
    lacking
}

/// Returns the pieces of the recording in which a side was on hold. The recording begins at the wall-clock time
/// `starts_at`.
fn held_pieces(record: &CallRecord, starts_at: Timestamp) -> Vec<Range<usize>> {
    let holds = record.events.iter().enumerate().filter(|(_, event)| event.kind == EventKind::Hold);
    let period = holds.map(|(n, hold)| {
        let mut later = record.events[n..].iter();
        let resumed = later.find(|event| event.kind == EventKind::Resume && event.side == hold.side);
        let to = resumed.map_or(Timestamp::MAX, |event| event.at);
        pieces_between(hold.at.nanos_since(starts_at), to.nanos_since(starts_at))
    });
    period.collect()
}

/// Minimum duration of the sound that a side lacks before another leg is examined, µs. Legs without such a gap are
/// rendered only once.
const LEAST_MISSING_US: u64 = 1_000_000;
