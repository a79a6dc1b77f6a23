//! AMR and AMR-WB: RTP payloads of RFC 4867, bandwidth-efficient and octet-aligned.

use codec_core::codecs::amr::{AmrCodec, AmrFrameType, AmrPayloadCodec, AmrPayloadConfig, AmrPayloadFrame, AmrVariant};
use codec_core::types::{CodecConfig, CodedFrame, FrameKind, VariableRateCodec};

use super::conceal::MadeUp;
use super::{Decoder, Undecodable, fmtp};

/// Which of the two codecs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// AMR: 8 kHz.
    Narrow,
    /// AMR-WB: 16 kHz.
    Wide,
}

/// Decoder of one AMR or AMR-WB stream.
pub struct Amr {
    codec: AmrCodec,
    payloads: AmrPayloadCodec,
    variant: AmrVariant,
    /// The last speech mode: a lost frame has none of its own.
    mode: u8,
    pause: Pause,
    made_up: MadeUp,
}

/// Whether the sender is between talk spurts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Talking,
    /// A silence descriptor or "no data" was the last frame.
    Silent,
}

impl Amr {
    /// A decoder for what the `fmtp` line says (RFC 4867 section 8.1). `None` for interleaving, which spreads frames over
    /// packets and which no SIP device is known to use.
    pub fn new(band: Band, parameters: &str) -> Option<Self> {
        let (variant, config) = match band {
            Band::Narrow => (AmrVariant::NarrowBand, CodecConfig::amr_nb()),
            Band::Wide => (AmrVariant::WideBand, CodecConfig::amr_wb()),
        };
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        if fmtp(parameters, "interleaving").is_some() {
            return None;
        }
        // RFC 4867 section 8.1: the check sums of frames and the sorting of their octets come with octet alignment only.
        let (crc, sorted) = (on("crc"), on("robust-sorting"));
        let mut payload = match on("octet-align") || crc || sorted {
            true => AmrPayloadConfig::octet_aligned(variant),
            false => AmrPayloadConfig::bandwidth_efficient(variant),
        };
        (payload.crc, payload.robust_sorting) = (crc, sorted);
        Some(Self {
            codec: AmrCodec::new(&config).ok()?,
            payloads: AmrPayloadCodec::new(payload).ok()?,
            variant,
            mode: 0,
            pause: Pause::Talking,
            made_up: MadeUp::new(variant.sample_rate()),
        })
    }

    /// One frame of a payload. One that cannot be decoded is made up: its neighbours are good.
    fn frame(&mut self, frame: AmrPayloadFrame, out: &mut Vec<i16>) {
        self.pause = match frame.frame_type {
            AmrFrameType::Speech(_) => Pause::Talking,
            AmrFrameType::Sid(_) => Pause::Silent,
            AmrFrameType::NoData | AmrFrameType::SpeechLost => self.pause,
        };
        if let AmrFrameType::Speech(mode) = frame.frame_type {
            self.mode = mode.index();
        }
        let kind = match frame.frame_type {
            AmrFrameType::Speech(_) => FrameKind::Speech,
            AmrFrameType::Sid(_) => FrameKind::ComfortNoise,
            AmrFrameType::NoData => FrameKind::NoData,
            AmrFrameType::SpeechLost => FrameKind::Lost,
        };
        let coded = CodedFrame { kind, mode: self.mode, quality_ok: frame.quality_ok, data: frame.data };
        self.play(&coded, out);
    }

    /// Appends one frame of sound, whatever happens.
    fn play(&mut self, coded: &CodedFrame, out: &mut Vec<i16>) {
        let lost = || CodedFrame { kind: FrameKind::Lost, mode: coded.mode, quality_ok: false, data: Vec::new() };
        let sound = self.codec.decode_frame(coded).or_else(|_| self.codec.decode_frame(&lost())).unwrap_or_default();
        let end = out.len() + self.variant.frame_samples();
        out.extend(sound);
        out.resize(end, 0);
    }
}

impl Decoder for Amr {
    fn sample_rate_hz(&self) -> u32 {
        self.variant.sample_rate()
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Undecodable> {
        if payload.len() < 2 {
            return Err(Undecodable::Length); // request and table of contents take 10 bits
        }
        let packet = self.payloads.unpack(payload).map_err(|_| Undecodable::Content)?;
        for frame in packet.frames {
            self.frame(frame, out);
        }
        self.made_up.end();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        let silent = self.pause == Pause::Silent;
        let kind = if silent { FrameKind::NoData } else { FrameKind::Lost };
        let coded = CodedFrame { kind, mode: self.mode, quality_ok: silent, data: Vec::new() };
        let mut made_up = std::mem::replace(&mut self.made_up, MadeUp::new(self.variant.sample_rate()));
        made_up.fill(samples, silent.into(), out, |out| self.play(&coded, out));
        self.made_up = made_up;
    }
}
