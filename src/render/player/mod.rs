//! Plays one stream: orders its packets by sequence number, decodes them and writes their sound to the mix buffer.

mod redundancy;
mod sequence_order;

use crate::net::PayloadType;
use std::collections::BTreeMap;
use std::sync::Arc;

use redundancy::{RedundantPayload, UnpackedPayload};
use sequence_order::{SequenceMark, SequenceOrder};

use super::codec::{self, SpeechDecoder};
use super::mix_buffer::MixBuffer;
use super::packet::{self, CapturedPayload};
use super::plan::{
    ArrivedPacket, DecidedStream, PlayoutTime, RenderPlan, StreamPlan, StreamProtection, is_on_timeline,
};
use super::report::{PayloadQuirk, SideReport, UndecodableReason, UndecryptableReason};
use super::resample_stage::{MixTarget, ResampleStage};
use super::rtp_clock::{TimestampUnwrapper, scaled};
use super::srtp::SrtpStream;
use crate::call::decision::{PayloadFormat, SrtpContext};
use crate::codec::{Codec, SilenceBehavior};
use crate::spool::reader::PacketEntry;
use crate::time::Timestamp;

/// The player of one stream.
pub(super) struct StreamPlayer {
    target: MixTarget,
    unwrapper: TimestampUnwrapper,
    decoders: Vec<FormatDecoder>,
    order: SequenceOrder,
    queue: BTreeMap<u64, QueuedPacket>,
    cursor: Option<PlayoutCursor>,
    srtp: Option<SrtpState>,
    /// Packets in a row that the former keys did not open.
    former_failures: u32,
    /// Payload buffers for reuse.
    spare: Vec<Vec<u8>>,
    /// Buffer for a decrypted packet.
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

/// A packet in the reordering queue.
struct QueuedPacket {
    at: Timestamp,
    playout: Option<PlayoutTime>,
    content: PacketContent,
    redundant: Vec<RedundantPayload>,
}

/// A packet's place in the sound: its playout time, and the number of packets missing before it.
#[derive(Clone, Copy, Debug)]
struct PlayTurn {
    playout: PlayoutTime,
    lost: u64,
}

/// The decisions and the plan of the stream being played.
#[derive(Clone, Copy)]
pub(super) struct StreamInputs<'a> {
    pub(super) known: &'a DecidedStream,
    /// `None` when no packet of the stream has a playout time.
    pub(super) plan: Option<&'a StreamPlan>,
}

/// Samples to be made up, and the payload after them for forward error correction.
#[derive(Clone, Copy)]
struct GapRequest<'a> {
    samples: usize,
    next: Option<&'a [u8]>,
}

/// The reason why a packet has no sound.
enum NoSound {
    /// The engine did not keep the payload.
    Withheld,
    /// A telephone-event.
    Event,
    Silent(UndecodableReason),
}

impl From<UndecodableReason> for NoSound {
    fn from(why: UndecodableReason) -> Self {
        Self::Silent(why)
    }
}

/// The result of playing a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlayOutcome {
    /// Its sound lies outside the recorded span.
    Outside,
    Sound,
    Comfort,
    /// The decoder refused it.
    Refused,
}

enum PacketContent {
    /// A payload, and the index of its decoder.
    Sound { decoder: usize, payload: Vec<u8> },
    /// No sound; the packet only has a sequence number.
    Nothing,
}

/// The end of the sound written so far.
#[derive(Clone, Copy, Debug)]
struct PlayoutCursor {
    decoder: usize,
    /// Position of the next sample, at the decoder's rate.
    at: i64,
    media_end_ns: i64,
    segment: (usize, usize),
    after: GapFill,
    /// Concealment since the last decoded packet, in samples. A gap is concealed once, however many packets in it are
    /// refused.
    concealed: i64,
}

/// The content of a gap after the last packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapFill {
    Sound,
    /// Comfort noise; `generated` samples of it were generated so far.
    Comfort {
        generated: i64,
    },
    /// The packet had no sound: a gap after it stays silent.
    Nothing,
}

struct SrtpState {
    /// The number of the decision with the keys.
    decision: u32,
    stream: Option<SrtpStream>,
}

/// The plan, and the outputs of a player.
pub(super) struct PlayContext<'a> {
    pub(super) plan: &'a RenderPlan,
    pub(super) buffer: &'a mut MixBuffer,
    pub(super) report: &'a mut SideReport,
}

impl StreamPlayer {
    /// Returns a player that writes to a channel. If two streams sound at once, the higher rank wins.
    pub(super) fn new(channel: usize, rank: u16) -> Self {
        Self {
            target: MixTarget { channel, rank },
            unwrapper: TimestampUnwrapper::default(),
            decoders: Vec::new(),
            order: SequenceOrder::default(),
            queue: BTreeMap::new(),
            cursor: None,
            srtp: None,
            former_failures: 0,
            spare: Vec::new(),
            plain: Vec::new(),
            sound: Vec::new(),
        }
    }

    /// Handles the next packet of the stream, in order of arrival.
    pub(super) fn handle_packet(
        &mut self,
        packet: &PacketEntry<'_>,
        arrival: ArrivedPacket,
        StreamInputs { known, plan }: StreamInputs<'_>,
        context: &mut PlayContext<'_>,
    ) {
        let format = known.formats.get(&arrival.head.pt).and_then(Option::as_ref);
        let playout = match (format, plan) {
            // The first pass unwrapped late and undecodable packets too, so both passes must.
            (Some(format), Some(plan)) if is_on_timeline(format) => {
                plan.playout_time(&mut self.unwrapper, arrival, format)
            }
            _ => None,
        };
        let inside = context.is_inside(playout.map_or(arrival.at, |playout| playout.at));
        let counted = matches!((format, plan), (Some(format), Some(plan)) if plan.is_counted(arrival.head.pt, format));
        context.report.broken_stamps += u64::from(inside && counted && playout.is_some());
        let Some(sequence) =
            self.order.extend(arrival.head.sequence, playout.map(|playout| SequenceMark::new(arrival.at, playout)))
        else {
            // A late telephone-event has no sound that could be missing.
            context.report.late += u64::from(inside && playout.is_some());
            return;
        };
        if self.queue.contains_key(&sequence) {
            return;
        }
        let unpacked = self.unpack(packet, arrival.head.pt, StreamInputs { known, plan }, context.plan.sample_rate);
        if inside && matches!((format, plan), (Some(format), Some(plan)) if plan.correction(format).is_some()) {
            *context.report.quirks.entry(PayloadQuirk::G726Packing).or_default() += 1;
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
        let item = QueuedPacket { at: arrival.at, playout, content, redundant };
        if self.order.is_next(sequence) && self.queue.is_empty() {
            self.play(sequence, item, context);
        } else {
            self.queue.insert(sequence, item);
            self.release(arrival.at, context);
        }
    }

    /// Plays packets whose wait is over. Continues comfort noise up to `finished`, the position of the recording up to
    /// which all sound has arrived.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, finished: i64, context: &mut PlayContext<'_>) {
        self.release(now, context);
        if let Some(cursor) = self.cursor
            && let GapFill::Comfort { generated } = cursor.after
        {
            let rate = self.decoders[cursor.decoder].output.input_hz();
            let until = (i128::from(finished) * i128::from(rate) / i128::from(context.plan.sample_rate)) as i64;
            let count = (until - cursor.at).min(i64::from(rate) * MAX_COMFORT_S - generated);
            if count > 0 {
                self.fill(cursor.decoder, cursor.at, GapRequest { samples: count as usize, next: None }, context);
                let after = GapFill::Comfort { generated: generated + count };
                self.cursor = Some(PlayoutCursor { at: cursor.at + count, after, ..cursor });
            }
        }
        for format_decoder in &mut self.decoders {
            format_decoder.output.finish_before(finished, context.buffer);
        }
    }

    /// Plays all queued packets.
    pub(super) fn finish(&mut self, context: &mut PlayContext<'_>) {
        self.release(Timestamp::MAX, context);
        for format_decoder in &mut self.decoders {
            format_decoder.output.finish(context.buffer);
        }
    }

    fn release(&mut self, now: Timestamp, context: &mut PlayContext<'_>) {
        while let Some(entry) = self.queue.first_entry() {
            let sequence = *entry.key();
            let waited = now.since(entry.get().at) >= MAX_WAIT;
            if !(self.order.is_next(sequence) || waited || self.queue.len() > MAX_QUEUE) {
                break;
            }
            if let Some((sequence, item)) = self.queue.pop_first() {
                self.play(sequence, item, context);
            }
        }
    }

    /// Decrypts and unpacks a packet.
    fn unpack(
        &mut self,
        packet: &PacketEntry<'_>,
        pt: PayloadType,
        StreamInputs { known, plan }: StreamInputs<'_>,
        sample_rate: u32,
    ) -> Result<UnpackedPayload, NoSound> {
        let format = known.formats.get(&pt).and_then(Option::as_ref);
        if format.is_some_and(|format| !is_on_timeline(format)) {
            return Err(NoSound::Event);
        }
        let mut payload = self.spare.pop().unwrap_or_default();
        let captured = packet::read_payload(packet);
        let body = match (captured, &known.protection) {
            (CapturedPayload::Withheld, _) => return Err(NoSound::Withheld),
            _ if self.opens_with_former_keys(packet, known) => {
                rtp_rs::RtpReader::new(&self.plain).map_err(|_| UndecodableReason::Damaged)?.payload()
            }
            (CapturedPayload::Damaged, StreamProtection::Plain) => return Err(UndecodableReason::Cut.into()),
            (CapturedPayload::Whole(body), StreamProtection::Plain) => body,
            (_, StreamProtection::Keys(..)) if (packet.payload.len() as u64) < u64::from(packet.wire_len) => {
                return Err(UndecodableReason::Cut.into());
            }
            (_, StreamProtection::Keys(..)) => {
                let StreamProtection::Keys(context, decision) = &known.protection else {
                    return Err(UndecodableReason::Encrypted(UndecryptableReason::NoKeys).into());
                };
                self.unprotect(packet, context, *decision).map_err(UndecodableReason::Encrypted)?;
                rtp_rs::RtpReader::new(&self.plain).map_err(|_| UndecodableReason::Damaged)?.payload()
            }
            (_, StreamProtection::Closed(why)) => return Err(UndecodableReason::Encrypted(*why).into()),
        };
        payload.clear();
        payload.extend_from_slice(body);
        let format = format.ok_or(UndecodableReason::UnknownPayloadType(pt))?;
        if format.is(Codec::Red) {
            return self.unpack_red(&payload, known, format, sample_rate);
        }
        let format = plan.and_then(|plan| plan.correction(format)).unwrap_or(format);
        let decoder = self.working_decoder(pt, format, sample_rate)?;
        Ok(UnpackedPayload { content: PacketContent::Sound { decoder, payload }, redundant: Vec::new() })
    }

    /// Decrypts a packet into `plain` if the stream's former keys still open it. After [`MAX_FORMER_FAILURES`] packets
    /// in a row that they do not open, they are not tried any more.
    fn opens_with_former_keys(&mut self, packet: &PacketEntry<'_>, known: &DecidedStream) -> bool {
        let Some((context, decision)) = &known.former_keys else {
            self.former_failures = 0;
            return false;
        };
        if self.former_failures >= MAX_FORMER_FAILURES || (packet.payload.len() as u64) < u64::from(packet.wire_len) {
            return false;
        }
        let opened = self.unprotect(packet, context, *decision).is_ok();
        self.former_failures = if opened { 0 } else { self.former_failures + 1 };
        opened
    }

    /// Decrypts a packet into `plain`.
    fn unprotect(
        &mut self,
        packet: &PacketEntry<'_>,
        context: &SrtpContext,
        decision: u32,
    ) -> Result<(), UndecryptableReason> {
        let srtp = match &mut self.srtp {
            Some(srtp) if srtp.decision == decision => srtp,
            Some(SrtpState { decision: last, stream: Some(stream) }) => {
                // If the new keys are invalid, the old ones stay in force: packets on their way still use them.
                let _ = stream.rekey(context);
                *last = decision;
                self.srtp.as_mut().ok_or(UndecryptableReason::Unsupported)?
            }
            _ => self.srtp.insert(SrtpState { decision, stream: SrtpStream::new(context).ok() }),
        };
        let stream = srtp.stream.as_mut().ok_or(UndecryptableReason::Unsupported)?;
        stream.unprotect(packet.payload, &mut self.plain).map_err(|_| UndecryptableReason::WrongKeys)
    }

    /// Returns the index of a format's decoder.
    fn working_decoder(
        &mut self,
        pt: PayloadType,
        format: &Arc<PayloadFormat>,
        sample_rate: u32,
    ) -> Result<usize, UndecodableReason> {
        let decoder = self.decoder_index(pt, format, sample_rate);
        match &self.decoders[decoder].decoder {
            Some(_) => Ok(decoder),
            None => Err(UndecodableReason::UnknownCodec(format.encoding.clone())),
        }
    }

    fn decoder_index(&mut self, pt: PayloadType, format: &Arc<PayloadFormat>, sample_rate: u32) -> usize {
        if let Some(decoder) = self.decoders.iter().position(|known| known.pt == pt && known.format == *format) {
            return decoder;
        }
        let decoder = if self.decoders.len() < MAX_FORMATS { codec::decoder_for(format) } else { None };
        let rate = decoder.as_ref().map_or(sample_rate, |decoder| decoder.sample_rate_hz());
        let silence = format.codec().map_or(SilenceBehavior::NoDescriptor, Codec::silence);
        let output = ResampleStage::new(rate, sample_rate, self.target);
        self.decoders.push(FormatDecoder { pt, format: Arc::clone(format), decoder, silence, output });
        self.decoders.len() - 1
    }

    /// Plays the next packet in sequence.
    fn play(&mut self, sequence: u64, mut item: QueuedPacket, context: &mut PlayContext<'_>) {
        let lost = self.order.advance(sequence);
        if context.is_inside(item.at) {
            context.report.burst_loss = context.report.burst_loss.max(lost);
        }
        let content = std::mem::replace(&mut item.content, PacketContent::Nothing);
        let (PacketContent::Sound { decoder, payload }, Some(playout)) = (content, item.playout) else {
            if let Some(cursor) = &mut self.cursor {
                cursor.after = GapFill::Nothing;
            }
            return;
        };
        let lost = self.play_redundant(&item, PlayTurn { playout, lost }, context);
        match self.play_sound(decoder, &payload, PlayTurn { playout, lost }, context) {
            PlayOutcome::Outside => {}
            PlayOutcome::Sound => context.report.decoded += 1,
            PlayOutcome::Comfort => context.report.comfort += 1,
            PlayOutcome::Refused => {
                *context.report.silent.entry(UndecodableReason::Damaged).or_default() +=
                    u64::from(context.is_inside(playout.at));
                // The packet counts as lost, so that the next packet conceals it.
                self.order.count_as_lost();
            }
        }
        if self.spare.len() < MAX_QUEUE {
            self.spare.push(payload);
        }
    }

    /// Decodes a payload and writes it at its playout time.
    fn play_sound(
        &mut self,
        decoder: usize,
        payload: &[u8],
        turn: PlayTurn,
        context: &mut PlayContext<'_>,
    ) -> PlayOutcome {
        let PlayTurn { playout, lost } = turn;
        let rate = self.decoders[decoder].output.input_hz();
        // The codec's own delay (look-ahead, filters) stays in: the listener hears it too and answers accordingly.
        let ideal = context.position(playout.at, rate);
        let continues = self.cursor.filter(|cursor| {
            cursor.decoder == decoder
                && cursor.segment == playout.segment
                && lost == 0
                && cursor.after == GapFill::Sound
                && (playout.media_ns - cursor.media_end_ns).abs() < SAME_MOMENT_NS
                && (ideal - cursor.at as f64).abs() < MAX_ADJUSTMENT
        });
        if continues.is_none() {
            self.fill_gap(decoder, payload, turn, context);
        }
        self.sound.clear();
        let format_decoder = &mut self.decoders[decoder];
        let decoded = format_decoder.decoder.as_mut().map(|decoder| decoder.decode(payload, &mut self.sound));
        if !matches!(decoded, Some(Ok(()))) {
            return PlayOutcome::Refused;
        }
        if let Some(quirk) = format_decoder.decoder.as_ref().and_then(|decoder| decoder.quirk()) {
            *context.report.quirks.entry(quirk).or_default() += u64::from(context.is_inside(playout.at));
        }
        let length_ns = self.sound.len() as i64 * 1_000_000_000 / i64::from(rate.max(1));
        let at = continues.map_or(ideal.round() as i64, |cursor| cursor.at);
        if continues.is_some() {
            adjust_length(&mut self.sound, ideal - at as f64);
        }
        let end = at + self.sound.len() as i64;
        let inside = context.is_inside(playout.at) || (at < 0 && end > 0 && context.plan.samples > 0);
        let comfort = format_decoder.silence == SilenceBehavior::ComfortNoise;
        context.count_sound(at, self.sound.len(), rate);
        format_decoder.output.write(at, &self.sound, context.buffer);
        let after = if comfort { GapFill::Comfort { generated: 0 } } else { GapFill::Sound };
        self.cursor = Some(PlayoutCursor {
            decoder,
            at: end,
            media_end_ns: playout.media_ns + length_ns,
            segment: playout.segment,
            after,
            concealed: 0,
        });
        match (inside, comfort) {
            (false, _) => PlayOutcome::Outside,
            (true, false) => PlayOutcome::Sound,
            (true, true) => PlayOutcome::Comfort,
        }
    }

    /// Fills the gap between the end of the sound so far and the playout time of the next packet.
    fn fill_gap(
        &mut self,
        decoder: usize,
        payload: &[u8],
        PlayTurn { playout, lost }: PlayTurn,
        context: &mut PlayContext<'_>,
    ) {
        let Some(cursor) = self.cursor else { return };
        let last = &self.decoders[cursor.decoder];
        let rate = i64::from(last.output.input_hz());
        let gap = context.position(playout.at, last.output.input_hz()).round() as i64 - cursor.at;
        if gap <= 0 || cursor.after == GapFill::Nothing {
            return;
        }
        let longest = rate * CONCEAL_MS / 1_000 - cursor.concealed;
        let (count, next) = match (cursor.after, last.silence) {
            (GapFill::Comfort { generated }, _) => (gap.min(rate * MAX_COMFORT_S - generated), None),
            (_, SilenceBehavior::OwnDescriptor) if lost == 0 => (gap.min(rate * MAX_COMFORT_S), None),
            // Forward error correction in the next packet describes the sound just before it.
            _ if lost > 0 && decoder == cursor.decoder && gap <= longest => (gap, Some(payload)),
            _ if lost > 0 => (gap.min(longest), None),
            _ => return,
        };
        if count <= 0 {
            return;
        }
        self.fill(cursor.decoder, cursor.at, GapRequest { samples: count as usize, next }, context);
        if lost > 0 && cursor.after == GapFill::Sound {
            context.report.concealed_us += context.inside_us(cursor.at, count as usize, rate as u32);
            // If the packet after the gap is refused too, the next gap begins here.
            self.cursor = Some(PlayoutCursor {
                at: cursor.at + count,
                media_end_ns: cursor.media_end_ns + count * 1_000_000_000 / rate.max(1),
                concealed: cursor.concealed + count,
                ..cursor
            });
        }
    }

    /// Writes concealment or comfort noise at a position.
    fn fill(&mut self, decoder: usize, at: i64, gap: GapRequest<'_>, context: &mut PlayContext<'_>) {
        let format_decoder = &mut self.decoders[decoder];
        let Some(decoder) = &mut format_decoder.decoder else { return };
        self.sound.clear();
        decoder.conceal(gap.samples, gap.next, &mut self.sound);
        self.sound.truncate(gap.samples);
        context.count_sound(at, self.sound.len(), format_decoder.output.input_hz());
        format_decoder.output.write(at, &self.sound, context.buffer);
    }
}

impl PlayContext<'_> {
    /// Returns the position of a moment, in samples at a rate.
    fn position(&self, at: Timestamp, rate_hz: u32) -> f64 {
        let samples = at.nanos_since(self.plan.starts_at) as f64 * f64::from(rate_hz) / 1e9;
        samples.clamp(-MAX_POSITION, MAX_POSITION)
    }

    fn is_inside(&self, at: Timestamp) -> bool {
        at >= self.plan.starts_at && at < self.plan.ends_at
    }

    fn count_sound(&mut self, at: i64, samples: usize, rate_hz: u32) {
        self.report.heard_us += self.inside_us(at, samples, rate_hz);
    }

    /// Returns how many microseconds of `samples` samples at a position lie within the recording.
    fn inside_us(&self, at: i64, samples: usize, rate_hz: u32) -> u64 {
        let total = i64::try_from(self.plan.samples).ok();
        let total = total.and_then(|total| scaled(total, rate_hz.into(), self.plan.sample_rate.into()));
        let end = at.saturating_add(samples as i64).min(total.unwrap_or(i64::MAX));
        (end - at.max(0)).max(0) as u64 * 1_000_000 / u64::from(rate_hz.max(1))
    }
}

/// Removes or inserts `by` samples where it is heard least, so that the sound is at its playout time to the sample. Up
/// to three quarters of a sample are ignored.
fn adjust_length(sound: &mut Vec<i16>, by: f64) {
    let count = by.abs().round() as usize;
    if by.abs() <= 0.75 || count == 0 || sound.len() < 8 * (count + 1) {
        return;
    }
    for section in 0..count {
        let length = sound.len() / count;
        let from = (section * length).max(1);
        let to = (from + length).min(sound.len() - 1);
        let step = |i: &usize| (i32::from(sound[*i]) - i32::from(sound[i - 1])).abs();
        let Some(quietest) = (from..to).min_by_key(step) else { continue };
        if by < 0.0 {
            sound.remove(quietest);
        } else {
            let between = sound[quietest - 1].midpoint(sound[quietest]);
            sound.insert(quietest, between);
        }
    }
}

/// How long a packet waits for a missing packet before it.
const MAX_WAIT: std::time::Duration = std::time::Duration::from_secs(2);
/// Packets in the queue: 2 s at 10 ms are 200.
const MAX_QUEUE: usize = 512;
/// Packets on their way and lost keys aside, a sender that stopped encrypting is known by then; 1 s at 20 ms.
const MAX_FORMER_FAILURES: u32 = 50;
/// Formats of one stream. A call has a handful.
const MAX_FORMATS: usize = 32;
/// The longest concealment of lost packets.
const CONCEAL_MS: i64 = 60;
/// Comfort noise after one packet. Senders repeat theirs within seconds; a hold of hours is silence.
const MAX_COMFORT_S: i64 = 10;
/// Media times that differ by less are equal.
const SAME_MOMENT_NS: i64 = 1_000_000;
/// Sound continues without a step while it is off by fewer samples. More than drift can cause between two packets is a
/// step.
const MAX_ADJUSTMENT: f64 = 16.0;
/// Bound of positions, in samples: centuries away from the recording, and far from overflow of sums.
const MAX_POSITION: f64 = 1e15;
