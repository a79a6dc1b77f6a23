//! Plays one stream: packets in order of sequence through their decoders onto the canvas.

mod redundancy;
mod sequence_order;

use std::collections::BTreeMap;
use std::sync::Arc;

use redundancy::{RedundantBlock, UnpackedPayload};
use sequence_order::{SequenceMark, SequenceOrder};

use super::codec::{self, SpeechDecoder};
use super::mix_buffer::MixBuffer;
use super::packet::{self, CapturedPayload};
use super::plan::{
    ArrivedPacket, DecidedStream, PlayoutTime, RenderPlan, StreamPlan, StreamProtection, is_on_timeline,
};
use super::report::{SideReport, UndecodableReason, UndecryptableReason};
use super::resample_stage::{MixTarget, ResampleStage};
use super::rtp_clock::{TimestampUnwrapper, scaled};
use super::srtp::SrtpStream;
use crate::call::decision::PayloadFormat;
use crate::codec::{Codec, SilenceBehavior};
use crate::spool::reader::PacketEntry;
use crate::time::Timestamp;

/// A stream being played.
pub(super) struct StreamPlayer {
    painter: MixTarget,
    unwrapper: TimestampUnwrapper,
    voices: Vec<FormatDecoder>,
    order: SequenceOrder,
    queue: BTreeMap<u64, QueuedPacket>,
    cursor: Option<PlayoutCursor>,
    srtp: Option<SrtpState>,
    /// Payload buffers to be used again.
    spare: Vec<Vec<u8>>,
    /// An unprotected packet.
    plain: Vec<u8>,
    sound: Vec<i16>,
}

/// One meaning of one payload type.
struct FormatDecoder {
    pt: u8,
    format: Arc<PayloadFormat>,
    decoder: Option<Box<dyn SpeechDecoder>>,
    silence: SilenceBehavior,
    outlet: ResampleStage,
}

/// A packet that waits for its turn.
struct QueuedPacket {
    at: Timestamp,
    heard: Option<PlayoutTime>,
    content: PacketContent,
    repeats: Vec<RedundantBlock>,
}

/// Why a packet has nothing to be heard.
enum NoSound {
    /// It was deliberately not kept, or is no sound.
    Withheld,
    Silent(UndecodableReason),
}

impl From<UndecodableReason> for NoSound {
    fn from(why: UndecodableReason) -> Self {
        Self::Silent(why)
    }
}

/// What came of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PlayOutcome {
    /// It lies outside of what is recorded.
    Outside,
    Sound,
    Comfort,
    /// The decoder refused it.
    Refused,
}

enum PacketContent {
    /// A payload for a voice.
    Sound { voice: usize, payload: Vec<u8> },
    /// It takes part in the sequence and gives no sound.
    Nothing,
}

/// Where the stream's sound has come to.
#[derive(Clone, Copy, Debug)]
struct PlayoutCursor {
    voice: usize,
    /// The next sample, at the voice's rate.
    at: i64,
    media_end_ns: i64,
    segment: (usize, usize),
    after: GapFill,
}

/// What the last packet means for a gap after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GapFill {
    Sound,
    /// Noise, so many samples of it so far.
    Comfort {
        made: i64,
    },
    /// Payload that is not to be heard: nothing is made up after it.
    Nothing,
}

struct SrtpState {
    /// The decision that its keys come from.
    decision: u32,
    stream: Option<SrtpStream>,
}

/// What a player works with.
pub(super) struct PlayContext<'a> {
    pub(super) plan: &'a RenderPlan,
    pub(super) canvas: &'a mut MixBuffer,
    pub(super) report: &'a mut SideReport,
}

impl StreamPlayer {
    /// A stream of a channel; of two that sound at once, the higher rank is heard.
    pub(super) fn new(channel: usize, rank: u16) -> Self {
        Self {
            painter: MixTarget { channel, rank },
            unwrapper: TimestampUnwrapper::default(),
            voices: Vec::new(),
            order: SequenceOrder::default(),
            queue: BTreeMap::new(),
            cursor: None,
            srtp: None,
            spare: Vec::new(),
            plain: Vec::new(),
            sound: Vec::new(),
        }
    }

    /// Takes in a packet of the stream.
    pub(super) fn handle_packet(
        &mut self,
        packet: &PacketEntry<'_>,
        arrival: ArrivedPacket,
        (known, plan): (&DecidedStream, Option<&StreamPlan>),
        stage: &mut PlayContext<'_>,
    ) {
        let format = known.formats.get(&arrival.head.pt).and_then(Option::as_ref);
        let heard = match (format, plan) {
            // Followed even where it is late or cannot be decoded: the first pass did so too.
            (Some(format), Some(plan)) if is_on_timeline(format) => {
                plan.playout_time(&mut self.unwrapper, arrival, format)
            }
            _ => None,
        };
        let inside = stage.is_inside(heard.map_or(arrival.at, |heard| heard.at));
        let counted = matches!((format, plan), (Some(format), Some(plan)) if plan.is_counted(arrival.head.pt, format));
        stage.report.broken_stamps += u64::from(inside && counted && heard.is_some());
        let Some(sequence) =
            self.order.extend(arrival.head.sequence, heard.map(|heard| SequenceMark::new(arrival.at, heard)))
        else {
            // A telephone-event that comes late has no sound that could be missed.
            stage.report.late += u64::from(inside && heard.is_some());
            return;
        };
        if self.queue.contains_key(&sequence) {
            return;
        }
        let opened = self.content(packet, arrival.head.pt, (known, format), stage.plan.sample_rate);
        let UnpackedPayload { content, repeats } = opened.unwrap_or_else(|why| {
            match why {
                _ if !inside => {}
                NoSound::Withheld => stage.report.withheld += 1,
                NoSound::Silent(why) => *stage.report.silent.entry(why).or_default() += 1,
            }
            UnpackedPayload { content: PacketContent::Nothing, repeats: Vec::new() }
        });
        let item = QueuedPacket { at: arrival.at, heard, content, repeats };
        if self.order.is_next(sequence) && self.queue.is_empty() {
            self.play(sequence, item, stage);
        } else {
            self.queue.insert(sequence, item);
            self.release(arrival.at, stage);
        }
    }

    /// Plays what need not wait any longer, and goes on with comfort noise up to `finished`, a position of the recording
    /// before which nothing else will come.
    pub(super) fn handle_timeout(&mut self, now: Timestamp, finished: i64, stage: &mut PlayContext<'_>) {
        self.release(now, stage);
        if let Some(cursor) = self.cursor
            && let GapFill::Comfort { made } = cursor.after
        {
            let rate = self.voices[cursor.voice].outlet.input_hz();
            let until = (i128::from(finished) * i128::from(rate) / i128::from(stage.plan.sample_rate)) as i64;
            let count = (until - cursor.at).min(i64::from(rate) * MAX_COMFORT_S - made);
            if count > 0 {
                self.fill(cursor.voice, cursor.at, (count as usize, None), stage);
                let after = GapFill::Comfort { made: made + count };
                self.cursor = Some(PlayoutCursor { at: cursor.at + count, after, ..cursor });
            }
        }
        for voice in &mut self.voices {
            voice.outlet.finish_before(finished, stage.canvas);
        }
    }

    /// Plays all that is left.
    pub(super) fn finish(&mut self, stage: &mut PlayContext<'_>) {
        self.release(Timestamp::MAX, stage);
        for voice in &mut self.voices {
            voice.outlet.finish(stage.canvas);
        }
    }

    fn release(&mut self, now: Timestamp, stage: &mut PlayContext<'_>) {
        while let Some(entry) = self.queue.first_entry() {
            let sequence = *entry.key();
            let waited = now.since(entry.get().at) >= REORDER;
            if !(self.order.is_next(sequence) || waited || self.queue.len() > MAX_QUEUE) {
                break;
            }
            if let Some((sequence, item)) = self.queue.pop_first() {
                self.play(sequence, item, stage);
            }
        }
    }

    /// What a packet has for us.
    fn content(
        &mut self,
        packet: &PacketEntry<'_>,
        pt: u8,
        (known, format): (&DecidedStream, Option<&Arc<PayloadFormat>>),
        sample_rate: u32,
    ) -> Result<UnpackedPayload, NoSound> {
        if let StreamProtection::Closed(why) = known.protection {
            return Err(UndecodableReason::Encrypted(why).into());
        }
        let mut payload = self.spare.pop().unwrap_or_default();
        let body = match (packet::read_payload(packet), &known.protection) {
            (CapturedPayload::Withheld, _) => return Err(NoSound::Withheld),
            (CapturedPayload::Damaged, StreamProtection::Plain) => return Err(UndecodableReason::Cut.into()),
            (CapturedPayload::Whole(body), StreamProtection::Plain) => body,
            (_, StreamProtection::Keys(..)) if (packet.payload.len() as u64) < u64::from(packet.wire_len) => {
                return Err(UndecodableReason::Cut.into());
            }
            (_, StreamProtection::Keys(..)) => {
                self.unprotect(packet, known).map_err(UndecodableReason::Encrypted)?;
                rtp_rs::RtpReader::new(&self.plain).map_err(|_| UndecodableReason::Damaged)?.payload()
            }
            (_, StreamProtection::Closed(why)) => return Err(UndecodableReason::Encrypted(*why).into()),
        };
        payload.clear();
        payload.extend_from_slice(body);
        let format = format.ok_or(UndecodableReason::UnknownPayloadType(pt))?;
        if !is_on_timeline(format) {
            return Err(NoSound::Withheld);
        }
        if format.is(Codec::Red) {
            return self.open_red(&payload, (known, format), sample_rate);
        }
        let voice = self.audible_voice(pt, format, sample_rate)?;
        Ok(UnpackedPayload { content: PacketContent::Sound { voice, payload }, repeats: Vec::new() })
    }

    /// Decrypts a packet into `plain`.
    fn unprotect(&mut self, packet: &PacketEntry<'_>, known: &DecidedStream) -> Result<(), UndecryptableReason> {
        let StreamProtection::Keys(context, decision) = &known.protection else {
            return Err(UndecryptableReason::NoKeys);
        };
        let srtp = match &mut self.srtp {
            Some(srtp) if srtp.decision == *decision => srtp,
            Some(SrtpState { decision: last, stream: Some(stream) }) => {
                // Keys that make no sense leave the old ones in force: packets under way still have them.
                let _ = stream.rekey(context);
                *last = *decision;
                self.srtp.as_mut().ok_or(UndecryptableReason::Unsupported)?
            }
            _ => self.srtp.insert(SrtpState { decision: *decision, stream: SrtpStream::new(context).ok() }),
        };
        let stream = srtp.stream.as_mut().ok_or(UndecryptableReason::Unsupported)?;
        stream.unprotect(packet.payload, &mut self.plain).map_err(|_| UndecryptableReason::WrongKeys)
    }

    /// The voice of a format that we can decode.
    fn audible_voice(
        &mut self,
        pt: u8,
        format: &Arc<PayloadFormat>,
        sample_rate: u32,
    ) -> Result<usize, UndecodableReason> {
        let voice = self.voice(pt, format, sample_rate);
        match &self.voices[voice].decoder {
            Some(_) => Ok(voice),
            None => Err(UndecodableReason::UnknownCodec(format.encoding.clone())),
        }
    }

    fn voice(&mut self, pt: u8, format: &Arc<PayloadFormat>, sample_rate: u32) -> usize {
        if let Some(voice) = self.voices.iter().position(|voice| voice.pt == pt && voice.format == *format) {
            return voice;
        }
        let decoder = if self.voices.len() < MAX_VOICES { codec::decoder_for(format) } else { None };
        let rate = decoder.as_ref().map_or(sample_rate, |decoder| decoder.sample_rate_hz());
        let silence = format.codec().map_or(SilenceBehavior::NoDescriptor, Codec::silence);
        let outlet = ResampleStage::new(rate, sample_rate, self.painter);
        self.voices.push(FormatDecoder { pt, format: Arc::clone(format), decoder, silence, outlet });
        self.voices.len() - 1
    }

    /// Plays a packet whose turn it is.
    fn play(&mut self, sequence: u64, mut item: QueuedPacket, stage: &mut PlayContext<'_>) {
        let lost = self.order.advance(sequence);
        if stage.is_inside(item.at) {
            stage.report.burst_loss = stage.report.burst_loss.max(lost);
        }
        let content = std::mem::replace(&mut item.content, PacketContent::Nothing);
        let (PacketContent::Sound { voice, payload }, Some(heard)) = (content, item.heard) else {
            if let Some(cursor) = &mut self.cursor {
                cursor.after = GapFill::Nothing;
            }
            return;
        };
        let lost = self.play_repeats(&item, (heard, lost), stage);
        match self.play_sound(voice, &payload, (heard, lost), stage) {
            PlayOutcome::Outside => {}
            PlayOutcome::Sound => stage.report.decoded += 1,
            PlayOutcome::Comfort => stage.report.comfort += 1,
            PlayOutcome::Refused => {
                *stage.report.silent.entry(UndecodableReason::Damaged).or_default() +=
                    u64::from(stage.is_inside(heard.at));
                // As good as lost: the next packet conceals it.
                self.order.spoil();
            }
        }
        if self.spare.len() < MAX_QUEUE {
            self.spare.push(payload);
        }
    }

    /// Decodes a payload and paints it where it was heard.
    fn play_sound(
        &mut self,
        voice: usize,
        payload: &[u8],
        (heard, lost): (PlayoutTime, u64),
        stage: &mut PlayContext<'_>,
    ) -> PlayOutcome {
        let rate = self.voices[voice].outlet.input_hz();
        // The codec's own delay (look-ahead, filters) stays in: a listener at the mirror hears it too, and the other
        // side answered to what it heard.
        let ideal = stage.position(heard.at, rate);
        let goes_on = self.cursor.filter(|cursor| {
            cursor.voice == voice
                && cursor.segment == heard.segment
                && lost == 0
                && cursor.after == GapFill::Sound
                && (heard.media_ns - cursor.media_end_ns).abs() < SAME_MOMENT_NS
                && (ideal - cursor.at as f64).abs() < MAX_SLIP
        });
        if goes_on.is_none() {
            self.fill_gap(heard, (voice, payload, lost), stage);
        }
        self.sound.clear();
        let voice_now = &mut self.voices[voice];
        let decoded = voice_now.decoder.as_mut().map(|decoder| decoder.decode(payload, &mut self.sound));
        if !matches!(decoded, Some(Ok(()))) {
            return PlayOutcome::Refused;
        }
        let length_ns = self.sound.len() as i64 * 1_000_000_000 / i64::from(rate.max(1));
        let at = goes_on.map_or(ideal.round() as i64, |cursor| cursor.at);
        if goes_on.is_some() {
            slip(&mut self.sound, ideal - at as f64);
        }
        let end = at + self.sound.len() as i64;
        let inside = stage.is_inside(heard.at) || (at < 0 && end > 0 && stage.plan.samples > 0);
        let comfort = voice_now.silence == SilenceBehavior::ComfortNoise;
        stage.heard(at, self.sound.len(), rate);
        voice_now.outlet.write(at, &self.sound, stage.canvas);
        let after = if comfort { GapFill::Comfort { made: 0 } } else { GapFill::Sound };
        self.cursor = Some(PlayoutCursor {
            voice,
            at: end,
            media_end_ns: heard.media_ns + length_ns,
            segment: heard.segment,
            after,
        });
        match (inside, comfort) {
            (false, _) => PlayOutcome::Outside,
            (true, false) => PlayOutcome::Sound,
            (true, true) => PlayOutcome::Comfort,
        }
    }

    /// Fills what lies between the last sound and the packet `heard` next.
    fn fill_gap(
        &mut self,
        heard: PlayoutTime,
        (voice, payload, lost): (usize, &[u8], u64),
        stage: &mut PlayContext<'_>,
    ) {
        let Some(cursor) = self.cursor else { return };
        let last = &self.voices[cursor.voice];
        let rate = i64::from(last.outlet.input_hz());
        let gap = stage.position(heard.at, last.outlet.input_hz()).round() as i64 - cursor.at;
        if gap <= 0 || cursor.after == GapFill::Nothing {
            return;
        }
        let longest = rate * CONCEAL_MS / 1_000;
        let (count, next) = match (cursor.after, last.silence) {
            (GapFill::Comfort { made }, _) => (gap.min(rate * MAX_COMFORT_S - made), None),
            (_, SilenceBehavior::OwnDescriptor) if lost == 0 => (gap.min(rate * MAX_COMFORT_S), None),
            // Error correction in the next packet speaks of the sound just before it.
            _ if lost > 0 && voice == cursor.voice && gap <= longest => (gap, Some(payload)),
            _ if lost > 0 => (gap.min(longest), None),
            _ => return,
        };
        if count <= 0 {
            return;
        }
        self.fill(cursor.voice, cursor.at, (count as usize, next), stage);
        if lost > 0 && cursor.after == GapFill::Sound {
            stage.report.concealed_us += stage.inside_us(cursor.at, count as usize, rate as u32);
        }
    }

    /// Lets a voice make up sound, in pieces of bounded size.
    fn fill(&mut self, voice: usize, at: i64, (count, next): (usize, Option<&[u8]>), stage: &mut PlayContext<'_>) {
        let voice = &mut self.voices[voice];
        let Some(decoder) = &mut voice.decoder else { return };
        self.sound.clear();
        decoder.conceal(count, next, &mut self.sound);
        self.sound.truncate(count);
        stage.heard(at, self.sound.len(), voice.outlet.input_hz());
        voice.outlet.write(at, &self.sound, stage.canvas);
    }
}

impl PlayContext<'_> {
    /// Position of a moment in samples of a rate.
    fn position(&self, at: Timestamp, rate_hz: u32) -> f64 {
        let samples = at.nanos_since(self.plan.starts_at) as f64 * f64::from(rate_hz) / 1e9;
        samples.clamp(-FAR, FAR)
    }

    fn is_inside(&self, at: Timestamp) -> bool {
        at >= self.plan.starts_at && at < self.plan.ends_at
    }

    fn heard(&mut self, at: i64, samples: usize, rate_hz: u32) {
        self.report.heard_us += self.inside_us(at, samples, rate_hz);
    }

    /// How much of some samples of a rate lies within the recording, microseconds.
    fn inside_us(&self, at: i64, samples: usize, rate_hz: u32) -> u64 {
        let total = i64::try_from(self.plan.samples).ok();
        let total = total.and_then(|total| scaled(total, rate_hz.into(), self.plan.sample_rate.into()));
        let end = at.saturating_add(samples as i64).min(total.unwrap_or(i64::MAX));
        (end - at.max(0)).max(0) as u64 * 1_000_000 / u64::from(rate_hz.max(1))
    }
}

/// Takes out or puts in samples where it can be heard least, so that the sound is where it should be to the sample.
/// Up to three quarters of a sample are left alone.
fn slip(sound: &mut Vec<i16>, by: f64) {
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

/// A packet waits so long for one before it.
const REORDER: std::time::Duration = std::time::Duration::from_secs(2);
/// Packets that wait: 2 s at 10 ms are 200.
const MAX_QUEUE: usize = 512;
/// Formats of one stream; a call has a handful.
const MAX_VOICES: usize = 32;
/// Lost packets are made up for so long.
const CONCEAL_MS: i64 = 60;
/// Comfort noise after one packet of it: senders repeat theirs within seconds; a hold of hours is silence.
const MAX_COMFORT_S: i64 = 10;
/// Media times nearer than this are the same moment.
const SAME_MOMENT_NS: i64 = 1_000_000;
/// Sound goes on where it is while it is off by less than so many samples; more than drift can do between two packets
/// is a step and is taken as one.
const MAX_SLIP: f64 = 16.0;
/// Samples: centuries away from the recording, and far from where sums of positions overflow.
const FAR: f64 = 1e15;
