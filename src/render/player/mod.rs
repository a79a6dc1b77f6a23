//! Plays one stream: orders its packets by sequence number, decodes them and writes their sound to the mix buffer.

mod context;
mod packet_ends;
mod redundancy;
mod sequence_order;
mod sounding;
mod straight;
mod unpacking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(super) use context::PlayContext;
use packet_ends::PacketEnd;
use redundancy::{RedundantPayload, UnpackedPayload};
use sequence_order::{SequenceMark, SequenceOrder};
use sounding::{GapFill, GapRequest, PlayTurn, PlayoutCursor};
pub(super) use straight::PlayPaths;
use straight::StraightRun;
use unpacking::{NoSound, SrtpState};

use super::clock_rate::MediaClock;
use super::codec::SpeechDecoder;
use super::decided_streams::{DecidedStream, StreamProtection, is_on_timeline};
use super::form_judge::PayloadForm;
use super::mix_buffer::{MixTarget, SoundPrecedence};
use super::packet::RtpHeaderFields;
use super::plan::{ArrivedPacket, PlayoutTime, StreamPlan};
use super::report::PayloadQuirk;
use super::resample_stage::ResampleStage;
use super::rtp_clock::TimestampUnwrapper;
use super::sample_index::SampleIndex;
use super::srtp::SrtpStream;
use crate::call::decision::PayloadFormat;
use crate::codec::{Codec, SilenceBehavior};
use crate::net::{PayloadType, Ssrc};
use crate::spool::reader::PacketEntry;
use crate::time::Timestamp;

/// Plays the packets of one stream.
pub(super) struct StreamPlayer {
    target: MixTarget,
    ssrc: Ssrc,
    unwrapper: TimestampUnwrapper,
    decoders: Vec<FormatDecoder>,
    order: SequenceOrder,
    queue: BTreeMap<u64, QueuedPacket>,
    /// Maximum time for which a packet waits for a missing earlier packet.
    max_wait: Duration,
    cursor: Option<PlayoutCursor>,
    end: PacketEnd,
    srtp: Option<SrtpState>,
    /// Decryption with keys that will apply soon; `None` if no new keys follow soon.
    coming: Option<SrtpStream>,
    /// Duration of the sound in the last packet that arrived unencrypted, ns. `None` before the first such packet, and
    /// after a packet was decrypted.
    plain_ns: Option<i64>,
    /// Number of consecutive packets that the former keys (from before the encryption ended) could not decrypt.
    former_failures: u32,
    paths: PlayPaths,
    /// The format with packets that may skip the general steps of decoding; `None` until a packet of that format went
    /// through all steps.
    straight: Option<StraightRun>,
    /// Whether the stream had sound that is louder than quiet noise.
    is_heard: bool,
    /// Empty payload buffers that can be reused.
    spare: Vec<Vec<u8>>,
    /// Buffer for the plain text of a decrypted packet.
    plain: Vec<u8>,
    sound: Vec<i16>,
}

/// The decoder of one format of one payload type.
struct FormatDecoder {
    pt: PayloadType,
    format: Arc<PayloadFormat>,
    decoder: Option<Box<dyn SpeechDecoder>>,
    silence: SilenceBehavior,
    output: ResampleStage,
}

/// A packet that waits in the reordering queue for its turn.
struct QueuedPacket {
    at: Timestamp,
    playout: Option<PlayoutTime>,
    precedence: SoundPrecedence,
    content: PacketContent,
    redundant: Vec<RedundantPayload>,
}

enum PacketContent {
    /// A payload with sound, and the index of its decoder.
    Sound { decoder: usize, payload: Vec<u8> },
    /// The packet has no sound, so only its sequence number counts.
    Nothing,
}

/// The call engine's decisions about a stream, and the playout times of its packets.
#[derive(Clone, Copy)]
pub(super) struct StreamInputs<'a> {
    pub(super) known: &'a DecidedStream,
    /// The playout times of the stream's packets; `None` if no packet has a playout time.
    pub(super) plan: Option<&'a StreamPlan>,
}

impl StreamPlayer {
    /// Returns a player for an SSRC. It writes to `target` in the mix buffer.
    pub(super) fn new(target: MixTarget, ssrc: Ssrc, paths: PlayPaths) -> Self {
        Self {
            target,
            ssrc,
            unwrapper: TimestampUnwrapper::default(),
            decoders: Vec::new(),
            order: SequenceOrder::default(),
            queue: BTreeMap::new(),
            max_wait: MIN_WAIT,
            cursor: None,
            end: PacketEnd::default(),
            srtp: None,
            coming: None,
            plain_ns: None,
            former_failures: 0,
            paths,
            straight: None,
            is_heard: false,
            spare: Vec::new(),
            plain: Vec::new(),
            sound: Vec::new(),
        }
    }

    /// Handles the next packet of the stream, in order of arrival.
    pub(super) fn handle_packet(
        &mut self,
        packet: &PacketEntry<'_>,
        head: RtpHeaderFields,
        StreamInputs { known, plan }: StreamInputs<'_>,
        context: &mut PlayContext<'_>,
    ) {
        if known.ssrc != self.ssrc {
            self.continue_as(known.ssrc, context);
        }
        let precedence = if known.is_superseded { SoundPrecedence::Superseded } else { SoundPrecedence::Current };
        let format = known.formats.get(&head.pt).and_then(Option::as_ref);
        let clock = format.zip(plan).map(|(format, plan)| plan.clock(head.pt, format));
        let arrival = if clock.is_some_and(MediaClock::needs_lengths) || plan.is_some_and(StreamPlan::has_keys) {
            ArrivedPacket::with_length(packet, head, known)
        } else {
            ArrivedPacket::without_length(packet, head)
        };
        let misfits = self.unwrapper.joined_misfits();
        let playout = match (format, plan, clock) {
            // The first pass passed every packet to the plan, also late and undecodable packets. Both passes must do
            // the same, so these packets are passed here, too.
            (Some(format), Some(plan), Some(clock)) if is_on_timeline(format) => {
                plan.playout_time(&mut self.unwrapper, arrival, clock)
            }
            _ => None,
        };
        let inside = context.is_inside(playout.map_or(arrival.at, |playout| playout.at));
        if inside && playout.is_some() {
            context.report.broken_stamps += match clock {
                Some(MediaClock::Counted { .. }) => 1,
                Some(MediaClock::Joined { .. }) => u64::from(self.unwrapper.joined_misfits() - misfits),
                Some(MediaClock::Clock(_)) | None => 0,
            };
        }
        let Some(sequence) =
            self.order.extend(arrival.head.sequence, playout.map(|playout| SequenceMark::new(arrival.at, playout)))
        else {
            // A late telephone-event is not counted as late, because it has no sound that could be missing.
            context.report.late += u64::from(inside && playout.is_some());
            return;
        };
        if self.queue.contains_key(&sequence) {
            return;
        }
        if self.order.is_next(sequence)
            && self.queue.is_empty()
            && let (Some(playout), Some(format)) = (playout, format)
            && let Some((decoder, payload)) =
                self.straight_payload(packet, arrival, format, StreamInputs { known, plan })
        {
            let lost = self.order.advance(sequence);
            self.target.precedence = precedence;
            return self.play_payload(decoder, payload, PlayTurn { playout, lost }, context);
        }
        let unpacked = self.unpack(packet, arrival, StreamInputs { known, plan }, context.plan.sample_rate);
        if inside
            && let Some(format) = format
            && plan.is_some_and(|plan| plan.correction(format).is_some())
        {
            *context.report.quirks.entry(quirk_of_correction(format)).or_default() += 1;
        }
        if inside && unpacked.is_ok() && is_unencrypted_despite_keys(known, plan, arrival.at) {
            *context.report.quirks.entry(PayloadQuirk::Unencrypted).or_default() += 1;
        }
        let UnpackedPayload { content, redundant } = unpacked.unwrap_or_else(|why| {
            match why {
                _ if !inside => {}
                NoSound::Withheld => context.report.withheld += 1,
                NoSound::Event => context.report.events += 1,
                NoSound::Silent(why) => *context.report.silent.entry(why).or_default() += 1,
            }
            UnpackedPayload { content: PacketContent::Nothing, redundant: Vec::new() }
        });
        let item = QueuedPacket { at: arrival.at, playout, precedence, content, redundant };
        if self.order.is_next(sequence) && self.queue.is_empty() {
            self.play(sequence, item, context);
        } else {
            self.queue.insert(sequence, item);
            self.max_wait = plan.map_or(MIN_WAIT, longest_wait);
            self.release(arrival.at, context);
        }
    }

    /// Makes packets that are missing before the next packet not count as lost.
    pub(super) const fn accept_gap(&mut self) {
        self.order.accept_gap();
    }

    /// Ends the sound of the current SSRC, because the stream continues with another SSRC. The assignment of packets to
    /// tracks (packets with about the same lag) goes on.
    #[cold]
    fn continue_as(&mut self, ssrc: Ssrc, context: &mut PlayContext<'_>) {
        self.finish(context);
        *self = Self { unwrapper: std::mem::take(&mut self.unwrapper), ..Self::new(self.target, ssrc, self.paths) };
    }

    /// Plays the packets that have waited long enough for missing earlier packets. Continues comfort noise up to the
    /// position `finished`, because all sound before it has arrived.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, finished: SampleIndex, context: &mut PlayContext<'_>) {
        self.release(now, context);
        if let Some(cursor) = self.cursor
            && let GapFill::Comfort { generated } = cursor.after
        {
            let rate = self.decoders[cursor.decoder].output.input_hz();
            let until = finished.at_decoder(context.plan.sample_rate, rate);
            let count = (until.0 - cursor.at.0).min(i64::from(rate) * MAX_COMFORT_S - generated);
            if count > 0 {
                let gap = GapRequest { samples: count as usize, next: None, is_pause: true };
                self.fill(cursor.decoder, cursor.at, gap, context);
                let after = GapFill::Comfort { generated: generated + count };
                self.cursor = Some(PlayoutCursor { at: cursor.at.after(count as usize), after, ..cursor });
            }
        }
        for format_decoder in &mut self.decoders {
            format_decoder.output.finish_before(finished, context.buffer);
        }
    }

    /// Plays all packets that still wait in the queue.
    pub(super) fn finish(&mut self, context: &mut PlayContext<'_>) {
        self.release(Timestamp::MAX, context);
        for format_decoder in &mut self.decoders {
            format_decoder.output.finish(context.buffer);
        }
    }

    fn release(&mut self, now: Timestamp, context: &mut PlayContext<'_>) {
        while let Some(entry) = self.queue.first_entry() {
            let sequence = *entry.key();
            let waited = now.since(entry.get().at) >= self.max_wait;
            if !(self.order.is_next(sequence) || waited || self.queue.len() > MAX_QUEUE) {
                break;
            }
            if let Some((sequence, item)) = self.queue.pop_first() {
                self.play(sequence, item, context);
            }
        }
    }
}

/// Returns how payloads deviate that were announced as `format` and have a correction.
fn quirk_of_correction(format: &PayloadFormat) -> PayloadQuirk {
    if format.is(Codec::Pcma) || format.is(Codec::Pcmu) {
        PayloadQuirk::CompandingLaw
    } else {
        PayloadQuirk::G726Packing
    }
}

/// Returns whether payloads are unencrypted at a time although the session descriptions name keys.
fn is_unencrypted_despite_keys(known: &DecidedStream, plan: Option<&StreamPlan>, at: Timestamp) -> bool {
    matches!(known.protection, StreamProtection::Keys(_))
        && plan.and_then(|plan| plan.form_at(at)) == Some(PayloadForm::Unencrypted)
}

/// Returns the maximum time for which packets of a stream wait for a missing earlier packet. It covers the latest
/// packet of the stream.
fn longest_wait(plan: &StreamPlan) -> Duration {
    (plan.latest + WAIT_MARGIN).clamp(MIN_WAIT, MAX_WAIT)
}

/// Minimum and maximum of the time for which a packet waits for a missing earlier packet. The spool reader sorts
/// packets that are late by up to the maximum.
const MIN_WAIT: Duration = Duration::from_secs(2);
const MAX_WAIT: Duration = Duration::from_secs(5);
/// Time that is added to the largest delay in a stream, because jitter also delays the packets that wait.
const WAIT_MARGIN: Duration = Duration::from_millis(200);
/// Maximum number of packets in the reordering queue. Within [`MAX_WAIT`], 500 packets of 10 ms arrive.
const MAX_QUEUE: usize = 512;
/// Maximum duration of comfort noise after one packet, seconds. Senders repeat these packets within seconds, so a
/// longer pause, e.g. a hold, becomes silence.
const MAX_COMFORT_S: i64 = 10;
