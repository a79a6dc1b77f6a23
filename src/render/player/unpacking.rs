//! Turns the bytes of a packet into a payload and its decoder: decrypts it, unpacks redundant audio (RED), and corrects
//! the format.

use std::sync::Arc;

use super::redundancy::UnpackedPayload;
use super::{FormatDecoder, PacketContent, StreamInputs, StreamPlayer};
use crate::call::decision::PayloadFormat;
use crate::call::payload_judge::MAX_EVENT_BYTES;
use crate::codec::{Codec, SilenceBehavior};
use crate::net::PayloadType;
use crate::render::codec;
use crate::render::decided_streams::{DecidedStream, StreamKeys, StreamProtection, is_on_timeline};
use crate::render::form_judge::PayloadForm;
use crate::render::packet::{self, CapturedPayload};
use crate::render::plan::{ArrivedPacket, StreamPlan};
use crate::render::report::{UndecodableReason, UndecryptableReason};
use crate::render::resample_stage::ResampleStage;
use crate::render::srtp::SrtpStream;
use crate::spool::reader::PacketEntry;

/// The reason why a packet gives no sound.
pub(super) enum NoSound {
    /// The call engine did not keep the payload, e.g. because the recording was paused.
    Withheld,
    /// The packet is a telephone-event, i.e. a key press.
    Event,
    Silent(UndecodableReason),
}

impl From<UndecodableReason> for NoSound {
    fn from(why: UndecodableReason) -> Self {
        Self::Silent(why)
    }
}

pub(super) struct SrtpState {
    /// Number of the call engine's decision that gave these SRTP keys. When a decision with another number applies, its
    /// keys replace these keys.
    decision: u32,
    stream: Option<SrtpStream>,
}

impl StreamPlayer {
    /// Decrypts a packet if needed, and unpacks redundant audio.
    pub(super) fn unpack(
        &mut self,
        packet: &PacketEntry<'_>,
        arrival: ArrivedPacket,
        StreamInputs { known, plan }: StreamInputs<'_>,
        sample_rate: u32,
    ) -> Result<UnpackedPayload, NoSound> {
        let pt = arrival.head.pt;
        let format = known.formats.get(&pt).and_then(Option::as_ref);
        if format.is_some_and(|format| !is_on_timeline(format)) {
            return Err(NoSound::Event);
        }
        let mut payload = self.spare.pop().unwrap_or_default();
        let form = plan.and_then(|plan| plan.form_at(packet.at));
        let captured = packet::read_payload(packet);
        let body = match (captured, &known.protection) {
            (CapturedPayload::Withheld, _) => return Err(NoSound::Withheld),
            _ if self.opens_with_former_keys(packet, known) || self.opens_with_coming_keys(packet, plan) => {
                rtp_rs::RtpReader::new(&self.plain).map_err(|_| UndecodableReason::Damaged)?.payload()
            }
            (CapturedPayload::Damaged, StreamProtection::Plain) => return Err(UndecodableReason::Cut.into()),
            (_, StreamProtection::Plain) if form == Some(PayloadForm::Encrypted) => {
                return Err(UndecodableReason::Encrypted(UndecryptableReason::NoKeys).into());
            }
            (CapturedPayload::Whole(body), StreamProtection::Plain) => {
                self.plain_ns = arrival.length_ns;
                body
            }
            (_, StreamProtection::Keys(_)) if (packet.payload.len() as u64) < u64::from(packet.wire_len) => {
                return Err(UndecodableReason::Cut.into());
            }
            (_, StreamProtection::Keys(keys)) => match (self.unprotect(packet, keys), captured) {
                (Ok(()), _) => {
                    self.plain_ns = None;
                    rtp_rs::RtpReader::new(&self.plain).map_err(|_| UndecodableReason::Damaged)?.payload()
                }
                (Err(_), CapturedPayload::Whole(body))
                    if form == Some(PayloadForm::Unencrypted) || self.is_still_plain(format, body) =>
                {
                    body
                }
                (Err(why), _) => return Err(UndecodableReason::Encrypted(why).into()),
            },
            (_, StreamProtection::Closed(why)) => return Err(UndecodableReason::Encrypted(*why).into()),
        };
        payload.clear();
        payload.extend_from_slice(body);
        let format = format.ok_or_else(|| self.unknown_payload_type(pt, payload.len()))?;
        if format.is(Codec::Red) {
            return self.unpack_red(&payload, known, format, sample_rate);
        }
        let format = plan.and_then(|plan| plan.correction(format)).unwrap_or(format);
        let decoder = self.working_decoder(pt, format, sample_rate)?;
        self.begin_straight_run(pt, known, decoder);
        Ok(UnpackedPayload { content: PacketContent::Sound { decoder, payload }, redundant: Vec::new() })
    }

    /// Returns why a payload of `len` bytes, with a payload type that nobody announced, gives no sound.
    fn unknown_payload_type(&self, pt: PayloadType, len: usize) -> UndecodableReason {
        if len <= MAX_EVENT_BYTES || self.decoders.iter().all(|known| known.decoder.is_none()) {
            UndecodableReason::UnknownPayloadType(pt)
        } else {
            UndecodableReason::UnannouncedChange(pt)
        }
    }

    /// Decrypts a packet into `plain` with the keys from before the encryption ended. Returns true on success. After
    /// [`MAX_FORMER_FAILURES`] failures in a row, the former keys are not tried any more.
    fn opens_with_former_keys(&mut self, packet: &PacketEntry<'_>, known: &DecidedStream) -> bool {
        let Some(keys) = &known.former_keys else {
            self.former_failures = 0;
            return false;
        };
        if self.former_failures >= MAX_FORMER_FAILURES || (packet.payload.len() as u64) < u64::from(packet.wire_len) {
            return false;
        }
        let opened = self.unprotect(packet, keys).is_ok();
        self.former_failures = if opened { 0 } else { self.former_failures + 1 };
        opened
    }

    /// Decrypts a packet into `plain` with keys that do not apply yet but will soon. A sender may already use new keys
    /// after its offer, before the SDP answer makes them apply. Returns true on success.
    fn opens_with_coming_keys(&mut self, packet: &PacketEntry<'_>, plan: Option<&StreamPlan>) -> bool {
        let Some(context) = plan.and_then(|plan| plan.coming_keys(packet.at)) else {
            self.coming = None;
            return false;
        };
        if (packet.payload.len() as u64) < u64::from(packet.wire_len) {
            return false;
        }
        if self.coming.is_none() {
            self.coming = SrtpStream::new(context).ok();
        }
        self.coming.as_mut().is_some_and(|keys| keys.unprotect(packet.payload, &mut self.plain).is_ok())
    }

    /// Returns whether a packet that no key can decrypt is in fact still unencrypted. The stream must have been
    /// unencrypted until its keys were announced. The payload must also last as long as earlier payloads, because an
    /// authentication tag would make it longer.
    fn is_still_plain(&self, format: Option<&Arc<PayloadFormat>>, body: &[u8]) -> bool {
        let length_ns = format.and_then(|format| codec::duration_ns(format, body));
        length_ns.is_some() && length_ns == self.plain_ns
    }

    /// Decrypts a packet into `plain` with the current keys.
    fn unprotect(&mut self, packet: &PacketEntry<'_>, keys: &StreamKeys) -> Result<(), UndecryptableReason> {
        let StreamKeys { context, offered, decision } = keys;
        let srtp = match &mut self.srtp {
            Some(srtp) if srtp.decision == *decision => srtp,
            Some(SrtpState { decision: last, stream: Some(stream) }) => {
                // If the new keys are invalid, only the old keys stay in use: late packets are still encrypted with
                // them.
                let _ = stream.rekey(context, offered);
                *last = *decision;
                self.srtp.as_mut().ok_or(UndecryptableReason::Unsupported)?
            }
            _ => self
                .srtp
                .insert(SrtpState { decision: *decision, stream: SrtpStream::with_offered(context, offered).ok() }),
        };
        let stream = srtp.stream.as_mut().ok_or(UndecryptableReason::Unsupported)?;
        stream.unprotect(packet.payload, &mut self.plain).map_err(|_| UndecryptableReason::WrongKeys)
    }

    /// Returns the index of the decoder for a format. Creates the decoder at the first use.
    pub(super) fn working_decoder(
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
}

/// Number of consecutive failures after which the keys from before the end of the encryption are no longer tried: 1 s
/// at 20 ms. Fewer failures can come from damaged packets.
const MAX_FORMER_FAILURES: u32 = 50;
/// Maximum number of formats of one stream. A call has only a few.
const MAX_FORMATS: usize = 32;
