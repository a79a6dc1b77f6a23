//! AMR and AMR-WB, with RTP payloads of RFC 4867, bandwidth-efficient and octet-aligned.

use codec_core::codecs::amr::{AmrCodec, AmrFrameType, AmrPayloadCodec, AmrPayloadConfig, AmrPayloadFrame, AmrVariant};
use codec_core::types::{CodecConfig, CodedFrame, FrameKind, VariableRateCodec};

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder, fmtp};
use crate::codec::AmrBand;
use crate::render::report::PayloadQuirk;

/// Decodes one AMR or AMR-WB stream.
pub(crate) struct AmrDecoder {
    codec: AmrCodec,
    /// Payloads as announced.
    announced: AmrPayloadCodec,
    /// Payloads in the other alignment; `None` for frame CRCs and robust sorting.
    other: Option<AmrPayloadCodec>,
    form: AmrForm,
    in_use: AmrAlignment,
    variant: AmrVariant,
    /// The last speech mode. A lost frame is concealed in this mode.
    mode: u8,
    dtx: DtxState,
    concealer: FrameConcealer,
}

impl AmrDecoder {
    /// Returns a decoder for the parameters of a `fmtp` line (RFC 4867 section 8.1). Returns `None` for interleaving,
    /// which no known SIP device uses.
    pub(crate) fn new(band: AmrBand, parameters: &str) -> Option<Self> {
        let (variant, config) = match band {
            AmrBand::Narrow => (AmrVariant::NarrowBand, CodecConfig::amr_nb()),
            AmrBand::Wide => (AmrVariant::WideBand, CodecConfig::amr_wb()),
        };
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        if fmtp(parameters, "interleaving").is_some() {
            return None;
        }
        // RFC 4867 section 8.1: frame CRCs and robust sorting imply octet alignment.
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
            in_use: form.announced,
            variant,
            mode: 0,
            dtx: DtxState::Talking,
            concealer: FrameConcealer::new(variant.sample_rate()),
        })
    }

    /// Decodes one frame of a payload. A frame that cannot be decoded is concealed, because its neighbours are good.
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

    /// Appends exactly one frame of sound. A frame that the codec refuses is treated as lost.
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
            return Err(DecodeError::Length); // the request and one table of contents entry take 10 bits
        }
        self.in_use = self.form.alignment(payload, self.in_use);
        let payloads = match &mut self.other {
            Some(other) if self.in_use != self.form.announced => other,
            _ => &mut self.announced,
        };
        let packet = payloads.unpack(payload).map_err(|_| DecodeError::Content)?;
        for frame in packet.frames {
            self.frame(frame, out);
        }
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

    fn quirk(&self) -> Option<PayloadQuirk> {
        (self.in_use != self.form.announced).then_some(PayloadQuirk::AmrAlignment)
    }
}

/// Alignment of a payload (RFC 4867 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AmrAlignment {
    /// Bandwidth-efficient: fields follow each other bit by bit.
    Bit,
    /// Octet-aligned.
    Octet,
}

impl AmrAlignment {
    const fn other(self) -> Self {
        match self {
            Self::Bit => Self::Octet,
            Self::Octet => Self::Bit,
        }
    }
}

/// The announced form of payloads, and the means to tell both forms apart.
///
/// Quirk `amr_alignment`: a device leaves `octet-align` out of an answer or a re-INVITE and sends octet-aligned.
#[derive(Clone, Copy, Debug)]
struct AmrForm {
    band: AmrBand,
    announced: AmrAlignment,
    /// False with frame CRCs or robust sorting, for which no form is computed.
    is_plain: bool,
}

impl AmrForm {
    fn new(band: AmrBand, parameters: &str) -> Self {
        let on = |name| fmtp(parameters, name).is_some_and(|value| value != "0");
        let is_plain = !on("crc") && !on("robust-sorting");
        let announced = if on("octet-align") || !is_plain { AmrAlignment::Octet } else { AmrAlignment::Bit };
        Self { band, announced, is_plain }
    }

    /// Returns the alignment of a payload: the announced one or `last` if they fit, else the other one if it fits.
    fn alignment(self, payload: &[u8], last: AmrAlignment) -> AmrAlignment {
        let fits = |alignment| self.frames_in(payload, alignment).is_some();
        let candidates = [last, self.announced, self.announced.other()];
        let found = candidates.into_iter().find(|alignment| self.is_plain && fits(*alignment));
        found.unwrap_or(self.announced)
    }

    /// Returns the number of frames if the frame types in a payload give exactly its length.
    fn frames_in(self, payload: &[u8], alignment: AmrAlignment) -> Option<i64> {
        let bits: &[u16] = match self.band {
            AmrBand::Narrow => &NARROW_BITS,
            AmrBand::Wide => &WIDE_BITS,
        };
        let bit = |at: usize| payload.get(at / 8).map(|byte| usize::from(byte >> (7 - at % 8) & 1));
        let field = |at: usize, count: usize| (at..at + count).try_fold(0, |value, at| Some(value << 1 | bit(at)?));
        // A request of 4 bits, then entries of F (1 bit), FT (4 bits) and Q (1 bit).
        let (header, entry) = match alignment {
            AmrAlignment::Bit => (4, 6),
            AmrAlignment::Octet => (8, 8),
        };
        let (mut frames, mut speech) = (0, 0);
        loop {
            let at = header + frames * entry;
            let follows = field(at, 1)? == 1;
            let frame_bits = usize::from(*bits.get(field(at + 1, 4)?).filter(|bits| **bits != RESERVED)?);
            let is_octet = alignment == AmrAlignment::Octet;
            if is_octet && field(at + 6, 2)? != 0 {
                return None; // padding of an entry is 0
            }
            speech += if is_octet { frame_bits.next_multiple_of(8) } else { frame_bits };
            frames += 1;
            if !follows || frames > MAX_FRAMES {
                break;
            }
        }
        let total = header + frames * entry + speech;
        (total.div_ceil(8) == payload.len()).then_some(i64::try_from(frames).ok()?)
    }
}

/// Returns the frames in a payload, in whichever alignment fits its length; `None` if none fits.
pub(super) fn frames(band: AmrBand, parameters: &str, payload: &[u8]) -> Option<i64> {
    let form = AmrForm::new(band, parameters);
    if !form.is_plain {
        return None;
    }
    form.frames_in(payload, form.announced).or_else(|| form.frames_in(payload, form.announced.other()))
}

/// A frame type that no sender uses.
const RESERVED: u16 = u16::MAX;
/// Bits of a frame by its type (3GPP TS 26.101 table 1a).
const NARROW_BITS: [u16; 16] = [95, 103, 118, 134, 148, 159, 204, 244, 39, 43, 38, 37, RESERVED, RESERVED, RESERVED, 0];
/// Bits of a frame by its type (3GPP TS 26.201 table 2).
const WIDE_BITS: [u16; 16] =
    [132, 177, 253, 285, 317, 365, 397, 461, 477, 40, RESERVED, RESERVED, RESERVED, RESERVED, 0, 0];
/// A packet of 640 ms. Longer tables of contents are damaged.
const MAX_FRAMES: usize = 32;
