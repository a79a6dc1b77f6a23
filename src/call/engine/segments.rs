//! Segments of a long recording: finds out when a segment of a live call is complete, so that it can be rendered.
//!
//! A segment is complete when a packet of the anchor leg (the recorded leg) arrives at least [`SEGMENT_SETTLE`] after
//! the end of the segment. If the call falls silent before, the segment stays incomplete, because the call may have
//! ended with its last packet.

use std::time::Duration;

use crate::call::engine::Engine;
use crate::call::event::{CallEvent, DueSegments, EndedLeg, LegSink, SEGMENT_SETTLE};
use crate::call::keys::CallKey;
use crate::call::leg::Leg;
use crate::call::numbers::NumberPlan;
use crate::call::roles::CallRoles;
use crate::call::timers::EngineTimer;
use crate::time::Timestamp;

impl Engine {
    /// Sets the timer for the segments of a recording that began at `started_at`, unless the timer is already set.
    pub(super) fn schedule_segments(&mut self, conversation: CallKey, started_at: Timestamp) {
        let is_armed =
            self.table.call(conversation).is_none() || self.timers.is_armed(EngineTimer::Segment(conversation));
        if self.settings.config.part_s > 0 && !is_armed {
            self.timers.arm(
                EngineTimer::Segment(conversation),
                started_at + self.segment_length() + SEGMENT_SETTLE + PACKET_WAIT,
            );
        }
    }

    /// Emits an event if segments (files) of the recording are complete, and sets the timer for the next segment.
    pub(super) fn handle_segment_timer(&mut self, conversation: CallKey, sink: &mut dyn LegSink) {
        let Some(call) = self.table.call(conversation) else { return };
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let anchor = CallRoles::from_legs(&legs, &self.site.plan).map(|roles| roles.anchor);
        let span = anchor.and_then(|leg| Some((leg.spool.started_at()?, leg.media.last_at()?)));
        let mut next = self.clock.now + SEGMENT_SETTLE;
        if let Some((started_at, last_media_at)) = span {
            let complete =
                last_media_at.since(started_at + SEGMENT_SETTLE).as_secs() / self.settings.config.part_s.max(1);
            let segments = u32::try_from(complete).unwrap_or(u32::MAX);
            let next_end = started_at + self.segment_length().saturating_mul(segments.saturating_add(1));
            next = next.max(next_end + SEGMENT_SETTLE + PACKET_WAIT);
            // A rule has deleted media of this call. So no part of its recording is rendered before the call ends.
            if segments > call.recording.segments() && !call.recording.is_excluded() && !call.recording.is_deleted() {
                self.emit_segments_due(conversation, segments, sink);
            }
        }
        self.timers.arm(EngineTimer::Segment(conversation), next);
    }

    fn emit_segments_due(&mut self, conversation: CallKey, segments: u32, sink: &mut dyn LegSink) {
        let Some(record) = self.record_of(conversation) else { return };
        let Some(call) = self.table.call_mut(conversation) else { return };
        if call.recording.announce_segments(segments) {
            self.store_call(conversation, sink);
        }
        let legs: Vec<&Leg> = self.table.legs_of(conversation).collect();
        let Some(call) = self.table.call(conversation) else { return };
        let due = DueSegments {
            record,
            legs: legs_with_media(&legs, &self.site.plan),
            registration: call.recording.policy().registration(),
            wall_offset_ns: call.wall_offset_ns,
            parts: segments,
        };
        self.events.push_back(CallEvent::SegmentsDue(Box::new(due)));
    }

    const fn segment_length(&self) -> Duration {
        // The length is at most a year, so that adding it to a timestamp cannot overflow. No call lasts that long.
        Duration::from_secs(if self.settings.config.part_s > YEAR_S { YEAR_S } else { self.settings.config.part_s })
    }
}

/// A segment of the recording is complete only if a packet arrives within this time after [`SEGMENT_SETTLE`]. If none
/// arrives, the call may have ended with its last packet.
const PACKET_WAIT: Duration = Duration::from_secs(1);
/// Number of seconds in a leap year: the maximum length of a segment of a recording.
const YEAR_S: u64 = 366 * 86_400;

/// Returns the legs of a call that have media. The leg that supplies the sound of the recording comes first.
pub(super) fn legs_with_media(legs: &[&Leg], plan: &NumberPlan) -> Vec<EndedLeg> {
    let roles = CallRoles::from_legs(legs, plan);
    let heard = legs.iter().enumerate().filter(|(_, leg)| leg.has_media());
    let mut heard: Vec<EndedLeg> = heard
        .map(|(index, leg)| EndedLeg {
            leg: leg.id,
            name: leg.name.clone(),
            index,
            same_sides: roles.as_ref().is_none_or(|r| r.has_same_sides(leg)),
        })
        .collect();
    heard.sort_by_key(|leg| roles.as_ref().map_or(0, |r| r.render_rank(leg.leg)));
    heard
}
