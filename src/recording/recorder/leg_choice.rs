//! Choice of the leg that supplies the sound of a recording.
//!
//! Usually this is the anchor leg, i.e. the leg that the engine chose; it is the first leg in the list. Another leg of
//! the same call is rendered instead in three cases:
//!
//! - The anchor leg cannot be decoded.
//! - The anchor leg has hardly any sound of one side.
//! - The mirror port lost a part of one side's sound, and the other leg has this part.

use std::io;
use std::path::Path;

use super::{Recorder, RecordingError, RenderTask, failed, is_passing, stem};
use crate::call::event::EndedLeg;
use crate::call::record::CallRecord;
use crate::recording::segmenter::{FinishedSegments, RenderedLeg};
use crate::render::{RenderError, RenderReport};
use crate::spool::{LegSource, LegStore, SpoolError};

/// The leg chosen for the recording, with the result of its rendering.
#[derive(Debug)]
pub(super) struct ChosenLeg<'a> {
    pub(super) rendered: RenderedLeg,
    pub(super) leg: &'a EndedLeg,
    /// Sentence for the record that explains why another leg than the anchor leg (the leg that the engine chose)
    /// supplies the sound. `None` if the anchor leg supplies it.
    pub(super) note: Option<&'static str>,
}

/// Duration of sound that a leg has on its two sides, µs. Concealment, i.e. sound that replaces lost packets, is not
/// counted.
#[derive(Clone, Copy, Debug)]
struct HeardTime {
    /// Duration of sound on the side with less sound, µs.
    less_us: u64,
    /// Duration of sound on the side with more sound, µs.
    more_us: u64,
}

impl HeardTime {
    fn of(report: &RenderReport) -> Self {
        let [caller, callee] = report.sides.each_ref().map(|side| side.heard_us.saturating_sub(side.concealed_us));
        Self { less_us: caller.min(callee), more_us: caller.max(callee) }
    }

    const fn sum_us(self) -> u64 {
        self.less_us + self.more_us
    }
}

/// A fault in the sound of a rendered leg. If there is a fault, another leg with better sound is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SoundFault {
    /// One side of the leg has hardly any sound.
    OneSided,
    /// The mirror port lost consecutive packets of one side, at least [`LEAST_GAP_PACKETS`].
    Gap,
}

impl SoundFault {
    /// Returns the fault of a rendered leg; `None` if its sound is good enough.
    ///
    /// A gap is no fault if earlier parts of the recording (segments) are finished. They keep their gaps, and the rest
    /// of the recording comes from the same leg.
    fn of(rendered: &RenderedLeg, finished: FinishedSegments) -> Option<Self> {
        let length_us = rendered.report.samples * 1_000_000 / u64::from(rendered.plan.sample_rate.max(1));
        let heard = HeardTime::of(&rendered.report);
        if !rendered.is_heard {
            None
        } else if heard.less_us * ONE_SIDED_RATIO < length_us {
            Some(Self::OneSided)
        } else {
            (finished.count == 0 && has_gap(&rendered.report)).then_some(Self::Gap)
        }
    }

    /// Returns whether another leg mends this fault. `other` is the sound of that leg, and `best` the sound of the best
    /// leg so far.
    const fn is_mended_by(self, other: HeardTime, best: HeardTime) -> bool {
        match self {
            Self::OneSided => other.less_us > 2 * best.less_us && other.sum_us() >= best.sum_us(),
            Self::Gap => other.less_us >= best.less_us + LEAST_GAP_US && other.more_us + TOLERANCE_US >= best.more_us,
        }
    }

    /// Returns the sentence for the record about this fault of the anchor leg.
    const fn note(self) -> &'static str {
        match self {
            Self::OneSided => ONE_SIDED_ANCHOR,
            Self::Gap => ANCHOR_WITH_GAP,
        }
    }
}

impl Recorder {
    /// Renders the best leg: the first leg with a side that can be heard, or a later leg with much more sound. If no
    /// leg can be heard, returns the first leg, so that the verdict explains why this leg is silent.
    pub(super) fn render_best<'a>(
        &self,
        legs: &'a [EndedLeg],
        store: &dyn LegStore,
        task: RenderTask<'_>,
        on_unreadable: &mut dyn FnMut(SpoolError),
    ) -> Result<Option<ChosenLeg<'a>>, RecordingError> {
        let folder = self.folder(task.record);
        let mut first: Option<(RenderedLeg, &EndedLeg)> = None;
        let mut others = legs.iter();
        for leg in others.by_ref() {
            let Some(source) = store.source(leg) else { continue };
            match self.segmenter(leg, &folder, &stem(task.record)).render(&source, task.finished_segments, task.up_to) {
                Ok(rendered) if rendered.is_audible => {
                    first = Some((rendered, leg));
                    break;
                }
                Ok(rendered) if first.is_none() => first = Some((rendered, leg)),
                Ok(_) => {}
                Err(RenderError::Output(error)) => return Err(failed(&folder, error)),
                Err(RenderError::Spool(SpoolError::Io { path, source })) if is_passing(&source) => {
                    return Err(RecordingError { path, source });
                }
                Err(RenderError::Spool(error)) => on_unreadable(error),
            }
        }
        let Some((rendered, leg)) = first else { return Ok(None) };
        let fault = SoundFault::of(&rendered, task.finished_segments);
        if let Some(fault) = fault
            && let Some((source, leg)) = self.find_fuller_leg((fault, &rendered, leg), others, store, &task)
        {
            // Dropping the rendering of the first leg removes its `.part` files. The files of the better leg get the
            // same names, so this must happen before that leg is rendered.
            drop(rendered);
            let rendered =
                self.segmenter(leg, &folder, &stem(task.record)).render(&source, task.finished_segments, task.up_to);
            let rendered = rendered.map_err(|error| failed(&folder, io::Error::other(error)))?;
            return Ok(Some(ChosenLeg { rendered, leg, note: Some(fault.note()) }));
        }
        let is_undecodable = rendered.is_heard && legs.first().is_some_and(|anchor| anchor.leg != leg.leg);
        Ok(Some(ChosenLeg { rendered, leg, note: is_undecodable.then_some(UNDECODABLE_ANCHOR) }))
    }

    /// Looks for a leg with the sound that the rendered leg lacks, and with at least as much sound in total.
    fn find_fuller_leg<'a>(
        &self,
        (fault, rendered, rendered_leg): (SoundFault, &RenderedLeg, &EndedLeg),
        others: impl Iterator<Item = &'a EndedLeg>,
        store: &dyn LegStore,
        task: &RenderTask<'_>,
    ) -> Option<(LegSource, &'a EndedLeg)> {
        let mut best = HeardTime::of(&rendered.report);
        let mut found = None;
        for leg in others {
            if fault == SoundFault::Gap && !lasts_as_long(task.record, leg, rendered_leg) {
                continue;
            }
            let Some(source) = store.source(leg) else { continue };
            let segmenter = self.segmenter(leg, Path::new(""), "");
            let Ok(report) = segmenter.measure(&source, task.finished_segments, task.up_to) else { continue };
            let here = HeardTime::of(&report);
            let is_whole = fault != SoundFault::Gap || !has_gap(&report);
            if is_whole && fault.is_mended_by(here, best) {
                (best, found) = (here, Some((source, leg)));
            }
        }
        found
    }
}

/// Returns whether the mirror port lost at least [`LEAST_GAP_PACKETS`] consecutive packets of one side.
fn has_gap(report: &RenderReport) -> bool {
    report.sides.iter().any(|side| side.burst_loss >= LEAST_GAP_PACKETS)
}

/// Returns whether `leg` was connected for the whole time of `other`. If not, `leg` lacks a part of the call, even if
/// it has more sound: a PBX may suppress silence on `other`.
fn lasts_as_long(record: &CallRecord, leg: &EndedLeg, other: &EndedLeg) -> bool {
    let span = |leg: &EndedLeg| {
        let leg = record.legs.get(leg.index)?;
        Some((leg.answered_at?, leg.ended_at?))
    };
    span(leg).zip(span(other)).is_some_and(|((from, to), (other_from, other_to))| {
        from.since(other_from) <= SPAN_TOLERANCE && other_to.since(to) <= SPAN_TOLERANCE
    })
}

/// Sentence for the record if the anchor leg (the leg that the engine chose) cannot be decoded.
const UNDECODABLE_ANCHOR: &str =
    "The sound comes from another leg of the call: the leg of the outside party cannot be decoded.";
/// Sentence for the record if the anchor leg (the leg that the engine chose) has the sound of one side only.
const ONE_SIDED_ANCHOR: &str = "The sound comes from another leg of the call: on the leg of the outside party, the mirror showed almost nothing of one side.";
/// Sentence for the record if the anchor leg (the leg that the engine chose) has a gap (lost packets).
const ANCHOR_WITH_GAP: &str = "The sound comes from another leg of the call: on the leg of the outside party, the mirror lost a second or more of one side.";
/// A side that has sound for less than a tenth of the recording counts as missing; this number is the divisor. A
/// missing side still has a few packets: from before the media took another path, or keep-alives that look like RTP.
const ONE_SIDED_RATIO: u64 = 10;
/// Minimum number of consecutive lost packets of one side that starts the search for another leg: 1 s at 20 ms a
/// packet.
const LEAST_GAP_PACKETS: u64 = 50;
/// Minimum gain of sound when a leg with a gap (lost packets of one side) is replaced by another leg, µs. Of each leg,
/// the side with less sound is compared.
const LEAST_GAP_US: u64 = 1_000_000;
/// Maximum loss of sound when a leg with a gap (lost packets of one side) is replaced by another leg, µs. Of each leg,
/// the side with more sound is compared.
const TOLERANCE_US: u64 = 200_000;
/// Maximum time by which another leg may be answered later, or end earlier, than the rendered leg. Beyond this time,
/// the other leg lacks a part of the conversation.
const SPAN_TOLERANCE: std::time::Duration = std::time::Duration::from_secs(1);
