//! Decodes AMR and AMR-WB in RTP payloads of RFC 4867, bandwidth-efficient and octet-aligned.

use codec_core::codecs::amr::{AmrCodec, AmrFrameType, AmrPayloadCodec, AmrPayloadConfig, AmrPayloadFrame, AmrVariant};
use codec_core::types::{CodecConfig, CodedFrame, FrameKind, VariableRateCodec};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder, fmtp};
use crate::codec::AmrBand;
use crate::codec::amr_form::{AmrAlignment, AmrForm, AmrHistory};
use crate::render::report::PayloadQuirk;

/// Decoder of one AMR or AMR-WB stream, with its state.
pub(crate) struct AmrDecoder {
    codec: AmrCodec,
    /// Parser of payloads with the announced alignment.
    announced: AmrPayloadCodec,
    /// Parser for the alignment that was not announced, in case a sender ignores its announcement. `None` if frame CRCs
    /// or robust sorting are announced, because they require octet alignment.
    other: Option<AmrPayloadCodec>,
    form: AmrForm,
    history: AmrHistory,
    in_use: AmrAlignment,
    variant: AmrVariant,
    /// Speech mode (bit rate) of the last frame. A lost frame is concealed in this mode.
    mode: u8,
    dtx: DtxState,
    /// Whether the last payload had no speech.
    is_noise: bool,
    concealer: FrameConcealer,
    /// Whether the last payload had stray bytes after its frames.
    has_stray_bytes: bool,
}

impl AmrDecoder {
    /// Returns a decoder for the parameters of a `fmtp` line (RFC 4867 section 8.1). Returns `None` if they announce
    /// interleaving, which no known SIP device uses.
    pub(crate) fn new(band: AmrBand, parameters: &str) -> Option<Self> {
        let (variant, config) = match band {
            AmrBand::Narrow => (AmrVariant::NarrowBand, CodecConfig::amr_nb()),
            AmrBand::Wide => (AmrVariant::WideBand, CodecConfig::amr_wb()),
        };
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        if fmtp(parameters, "interleaving").is_some() {
            return None;
        }
        // RFC 4867 section 8.1: frame CRCs and robust sorting imply octet alignment. So with them, the other alignment
        // is not tried.
        let (crc, sorted) = (on("crc"), on("robust-sorting"));
        let config_of = |alignment| match alignment {
            AmrAlignment::Octet => AmrPayloadConfig::octet_aligned(variant),
            AmrAlignment::Bit => AmrPayloadConfig::bandwidth_efficient(variant),
        };
        let form = AmrForm::new(band, parameters);
        let mut payload = config_of(form.announced);
        (payload.crc, payload.robust_sorting) = (crc, sorted);
        let other = AmrPayloadCodec::new(config_of(form.announced.other())).ok();
        Some(Self {
            codec: AmrCodec::new(&config).ok()?,
            announced: AmrPayloadCodec::new(payload).ok()?,
            other: other.filter(|_| !crc && !sorted),
            form,
            history: form.no_history(),
            in_use: form.announced,
            variant,
            mode: 0,
            dtx: DtxState::Talking,
            is_noise: false,
            concealer: FrameConcealer::new(variant.sample_rate()),
            has_stray_bytes: false,
        })
    }

    /// Decodes one frame of a payload. A frame that cannot be decoded is concealed, because the other frames may be
    /// good.
    fn frame(&mut self, frame: AmrPayloadFrame, out: &mut Vec<i16>) {
        self.dtx = match frame.frame_type {
            AmrFrameType::Speech(_) => DtxState::Talking,
            AmrFrameType::Sid(_) => DtxState::Paused,
            AmrFrameType::NoData | AmrFrameType::SpeechLost => self.dtx,
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

    /// Decodes a frame, and appends exactly the duration of one frame. Conceals the frame if the codec refuses it.
    fn play(&mut self, coded: &CodedFrame, out: &mut Vec<i16>) {
        let lost = || CodedFrame { kind: FrameKind::Lost, mode: coded.mode, quality_ok: false, data: Vec::new() };
        let sound = self.codec.decode_frame(coded).or_else(|_| self.codec.decode_frame(&lost())).unwrap_or_default();
        let end = out.len() + self.variant.frame_samples();
        out.extend(sound);
        out.resize(end, 0);
    }
}

impl SpeechDecoder for AmrDecoder {
    fn sample_rate_hz(&self) -> u32 {
        self.variant.sample_rate()
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        if payload.len() < 2 {
            return Err(DecodeError::Length); // 4 bits of mode request and 6 bits of one table entry
        }
        let reading = self.form.reading(payload, &mut self.history);
        (self.in_use, self.has_stray_bytes) = (reading.alignment, reading.frames.len() < payload.len());
        let payloads = match &mut self.other {
            Some(other) if self.in_use != self.form.announced => other,
            _ => &mut self.announced,
        };
        let packet = payloads.unpack(reading.frames).map_err(|_| DecodeError::Content)?;
        let has_speech = packet.frames.iter().any(|frame| matches!(frame.frame_type, AmrFrameType::Speech(_)));
        for frame in packet.frames {
            self.frame(frame, out);
        }
        self.is_noise = self.dtx == DtxState::Paused && !has_speech;
        self.concealer.end_gap();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        let silent = self.dtx == DtxState::Paused;
        let kind = if silent { FrameKind::NoData } else { FrameKind::Lost };
        let coded = CodedFrame { kind, mode: self.mode, quality_ok: silent, data: Vec::new() };
        let mut concealer = std::mem::replace(&mut self.concealer, FrameConcealer::new(self.variant.sample_rate()));
        let dtx = self.dtx;
        concealer.fill(samples, dtx, out, |out| self.play(&coded, out));
        self.concealer = concealer;
    }

    fn may_pause(&self) -> bool {
        self.dtx == DtxState::Paused
    }

    fn is_comfort_noise(&self) -> bool {
        self.is_noise
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        match self.in_use != self.form.announced {
            true => Some(PayloadQuirk::AmrAlignment),
            false => self.has_stray_bytes.then_some(PayloadQuirk::TrailingBytes),
        }
    }
}
