//! Decides from later frames whether the clock of a file was set between two frames.
//!
//! If timestamps jump back, the clock was set, or frames are in disorder, e.g. between processor cores. After a clock
//! was set, all later frames have the new time. RTP streams show the exact size of the step, because their packets have
//! a known spacing.

use super::lookahead::LookaheadReader;
use super::reader::FileFrameHeader;
use super::rtp_witness::RtpWitness;
use crate::time::Timestamp;

/// Returns by how much the clock was set back before the current frame, ns, as a negative number. `last` is the
/// timestamp of the previous frame on the same interface.
///
/// A clock that was set forward looks like a pause of all senders, e.g. because a line failed for a moment. Such a jump
/// is not corrected. It moves both sides of a call by the same time.
pub(super) fn find_step(
    reader: &mut LookaheadReader,
    head: &FileFrameHeader,
    last: Timestamp,
    witness: &RtpWitness,
) -> Option<i64> {
    let passed_ns = head.stamp.nanos_since(last);
    let found_ns = match passed_ns.saturating_neg() {
        ..MIN_STEP_NS => None,
        back_ns @ MIN_STEP_NS..=MAX_STEP_NS => find_step_back(reader, head, back_ns, witness),
        _ => Some(passed_ns),
    };
    found_ns.map(|found_ns| measured(reader, head, found_ns, witness))
}

/// Returns the exact size of a clock step of about `found_ns` before the current frame, ns. Each packet has jitter, so
/// the size is the median over the next packets of all streams.
fn measured(reader: &mut LookaheadReader, head: &FileFrameHeader, found_ns: i64, witness: &RtpWitness) -> i64 {
    let is_near = |ns: &i64| (*ns - found_ns).abs() < MIN_STEP_NS;
    let mut sizes: Vec<i64> =
        witness.earliness(head, reader.data(head)).map(|ns| -ns).into_iter().filter(is_near).collect();
    let frames = reader.look_ahead(head, MEASURED_FRAMES).filter(|frame| frame.head.interface == head.interface);
    let of_frames = frames.filter_map(|frame| witness.earliness(&frame.head, &frame.data));
    sizes.extend(of_frames.map(|ns| -ns).filter(is_near));
    let middle = sizes.len() / 2;
    if sizes.is_empty() { found_ns } else { *sizes.select_nth_unstable(middle).1 }
}

fn find_step_back(
    reader: &mut LookaheadReader,
    head: &FileFrameHeader,
    back_ns: i64,
    witness: &RtpWitness,
) -> Option<i64> {
    let own = witness.step_back(head, reader.data(head));
    if own.is_some() {
        return own.map(|ns| -ns);
    }
    // If an RTP stream continues at its usual spacing with this frame, the clock was not set. Then the frames before it
    // are only out of order.
    let is_in_time = |late: Option<i64>| late.is_some_and(|ns| ns > -back_ns / 2);
    let is_earlier = |head: &FileFrameHeader, data: &[u8]| {
        is_in_time(witness.lateness(head, data)) || witness.is_repeated(head, data)
    };
    if is_earlier(head, reader.data(head)) {
        return None;
    }
    let (mut before, mut proven, mut followed) = (head.stamp, None, 0);
    for frame in reader.look_ahead(head, LOOKAHEAD).filter(|frame| frame.head.interface == head.interface) {
        let passed_ns = frame.head.stamp.nanos_since(before);
        let returns = passed_ns >= back_ns - back_ns / 5;
        if returns || passed_ns <= -MIN_STEP_NS || is_earlier(&frame.head, &frame.data) {
            return None;
        }
        (before, followed) = (frame.head.stamp, followed + 1);
        proven = witness.step_back(&frame.head, &frame.data);
        if proven.is_some() {
            break;
        }
    }
    if proven.is_none() && back_ns < MAX_DISORDER_NS && followed < ENOUGH_FRAMES {
        return None;
    }
    // If no RTP stream shows the clock step, its exact size is unknown. Then the frame gets the time of the previous
    // frame.
    Some(-proven.unwrap_or(back_ns))
}

/// Maximum number of frames that are examined after a jump of the timestamps: 0.6 s of a call with 100 frames a second.
const LOOKAHEAD: usize = 64;
/// Number of frames after a clock step from which the exact size of the step is measured: a quarter of a second of a
/// call.
const MEASURED_FRAMES: usize = 24;
/// Minimum clock step that is searched for, ns. A smaller jump can be disorder of the network, or come from a sender
/// that sends in bursts.
const MIN_STEP_NS: i64 = 50_000_000;
/// Maximum clock step that is searched for, ns. A larger jump back needs no proof: it always counts as a clock step.
/// RTP streams only show its exact size.
const MAX_STEP_NS: i64 = 5_000_000_000;
/// Maximum jump back of the timestamps that disorder between processor cores or interfaces can cause, ns. A smaller
/// jump needs an RTP stream or [`ENOUGH_FRAMES`] as proof.
const MAX_DISORDER_NS: i64 = 150_000_000;
/// Number of later frames with the new time that prove a small clock step, if no RTP stream shows the step.
const ENOUGH_FRAMES: usize = 16;
