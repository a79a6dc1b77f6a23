//! Decides whether the clock of a file was set between two frames, by the frames that follow.
//!
//! A jump of the stamps can be disorder between cores, or a pause. A clock that was set stays set: all later frames have
//! the new time. RTP streams show the exact size, because their packets have a known spacing.

use super::lookahead::LookaheadReader;
use super::reader::FileFrameHeader;
use super::rtp_witness::{RtpWitness, SenderKey};
use crate::capture::CaptureError;
use crate::time::Timestamp;

/// Returns by how much the clock was set before the current frame, ns; negative if it was set back. `last` is the stamp of
/// the frame before on the same interface.
pub(super) fn find_step(
    reader: &mut LookaheadReader,
    head: &FileFrameHeader,
    last: Timestamp,
    witness: &RtpWitness,
) -> Result<Option<i64>, CaptureError> {
    let passed_ns = head.stamp.nanos_since(last);
    if passed_ns.abs() < MIN_STEP_NS || passed_ns.abs() > MAX_STEP_NS {
        Ok(None)
    } else if passed_ns < 0 {
        find_step_back(reader, head, -passed_ns, witness)
    } else {
        find_step_ahead(reader, head, witness)
    }
}

fn find_step_back(
    reader: &mut LookaheadReader,
    head: &FileFrameHeader,
    back_ns: i64,
    witness: &RtpWitness,
) -> Result<Option<i64>, CaptureError> {
    let own = witness.step_back(head.link, head.stamp, reader.data(head));
    if own.is_some() {
        return Ok(own.map(|ns| -ns));
    }
    // A stream that goes on in time shows that the frames before were ahead by disorder.
    let is_in_time = |late: Option<(SenderKey, i64)>| late.is_some_and(|(_, ns)| ns > -back_ns / 2);
    if is_in_time(witness.lateness(head.link, head.stamp, reader.data(head))) {
        return Ok(None);
    }
    let (mut before, mut proven, mut followed) = (head.stamp, None, 0);
    for frame in reader.look_ahead(head, LOOKAHEAD)?.filter(|frame| frame.head.interface == head.interface) {
        let passed_ns = frame.head.stamp.nanos_since(before);
        let returns = passed_ns >= back_ns - back_ns / 5;
        let late = witness.lateness(frame.head.link, frame.head.stamp, &frame.data);
        if returns || passed_ns <= -MIN_STEP_NS || is_in_time(late) {
            return Ok(None);
        }
        (before, followed) = (frame.head.stamp, followed + 1);
        proven = witness.step_back(frame.head.link, frame.head.stamp, &frame.data);
        if proven.is_some() {
            break;
        }
    }
    if proven.is_none() && back_ns < MAX_DISORDER_NS && followed < ENOUGH_FRAMES {
        return Ok(None);
    }
    // Without a stream the size is not known: the frame gets the time of the frame before.
    Ok(Some(-proven.unwrap_or(back_ns)))
}

/// Searches for two senders whose packets come late by the same time. One alone can have paused.
fn find_step_ahead(
    reader: &mut LookaheadReader,
    head: &FileFrameHeader,
    witness: &RtpWitness,
) -> Result<Option<i64>, CaptureError> {
    if witness.is_empty() {
        return Ok(None);
    }
    let mut found = witness.lateness(head.link, head.stamp, reader.data(head));
    for frame in reader.look_ahead(head, LOOKAHEAD)?.filter(|frame| frame.head.interface == head.interface) {
        let late = witness.lateness(frame.head.link, frame.head.stamp, &frame.data);
        match (found, late) {
            (None, _) => found = late,
            (Some((_, ns)), _) if ns < MIN_STEP_NS => return Ok(None),
            // Packets that waited come in a burst.
            (Some((_, ns)), Some((_, other_ns))) if ns.abs_diff(other_ns) > SAME_STEP_NS => return Ok(None),
            (Some((sender, ns)), Some((other, _))) if other != sender => return Ok(Some(ns)),
            _ => {}
        }
    }
    Ok(None)
}

/// Frames after a jump that are examined. A call has a hundred a second.
const LOOKAHEAD: usize = 64;
/// Smallest step that is searched for, ns. Smaller jumps are disorder of the network or of a sender that bursts.
const MIN_STEP_NS: i64 = 50_000_000;
/// Largest step that is searched for, ns. A larger jump back is a step without proof; a larger pause is a pause.
const MAX_STEP_NS: i64 = 5_000_000_000;
/// Jump back that disorder between cores or interfaces may reach, ns. Without a stream, few frames do not prove a step.
const MAX_DISORDER_NS: i64 = 150_000_000;
/// Frames after a jump that prove a step without a stream.
const ENOUGH_FRAMES: usize = 16;
/// Largest difference between two streams that show the same step, ns.
const SAME_STEP_NS: u64 = 15_000_000;
