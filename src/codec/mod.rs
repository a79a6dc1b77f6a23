//! Facts about the codecs of calls: one table for every module (RFC 3551, RFC 4855; ITU-T G.113 for speech quality).
//!
//! # Invariants
//! - Every [`Codec`] has exactly one row in [`CODECS`], at the index of its variant.
//! - No two rows share a name, an alias or a static payload type.
//! - SDP, spools and call records keep encoding names as text, because a sender may announce any name.

mod amr_contents;
pub(crate) mod amr_form;
pub(crate) mod fixed_bits;
pub(crate) mod g711;
mod payload_duration;

pub(crate) use payload_duration::FormatParameters;

use crate::net::PayloadType;

/// An encoding that RTP can carry and that callspan knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Codec {
    /// G.711 with A-law companding: 64 kbit/s telephone speech, usual outside North America and Japan.
    Pcma,
    /// G.711 with mu-law companding: 64 kbit/s telephone speech, usual in North America and Japan.
    Pcmu,
    /// Packets that are no sound but events, e.g. DTMF digits (RFC 4733).
    TelephoneEvent,
    /// G.722: wideband speech (7 kHz) at 64 kbit/s.
    G722,
    /// G.729: telephone speech at 8 kbit/s, with or without its annexes A (simpler) and B (silence).
    G729,
    /// Opus: speech and music at a variable bit rate (RFC 7587).
    Opus,
    /// Comfort noise: describes the background noise while nobody speaks (RFC 3389).
    ComfortNoise,
    /// Redundant audio (RFC 2198): each packet repeats the payloads of earlier packets.
    Red,
    /// GSM full rate: telephone speech at 13 kbit/s.
    Gsm,
    /// iLBC, the Internet Low Bit Rate Codec: telephone speech (RFC 3952).
    Ilbc,
    /// Adaptive Multi-Rate, narrowband (RFC 4867).
    Amr,
    /// AMR-WB, Adaptive Multi-Rate for wideband speech (RFC 4867).
    AmrWb,
    /// Uncompressed samples of 16 bits (RFC 3551 section 4.5.11).
    L16,
    /// Uncompressed samples of 8 bits (RFC 3551 section 4.5.10).
    L8,
    /// IMA ADPCM: 4 bits a sample (RFC 3551 section 4.5.1).
    Dvi4,
    /// G.726 at 32 kbit/s, packed as in RFC 3551 section 4.5.4.
    G726At32,
    /// G.726 at 16 kbit/s, packed as in RFC 3551 section 4.5.4.
    G726At16,
    /// G.726 at 24 kbit/s, packed as in RFC 3551 section 4.5.4.
    G726At24,
    /// G.726 at 40 kbit/s, packed as in RFC 3551 section 4.5.4.
    G726At40,
    /// G.726 at 32 kbit/s, packed as in ATM (I.366.2 annex E).
    Aal2G726At32,
    /// G.726 at 16 kbit/s, packed as in ATM (I.366.2 annex E).
    Aal2G726At16,
    /// G.726 at 24 kbit/s, packed as in ATM (I.366.2 annex E).
    Aal2G726At24,
    /// G.726 at 40 kbit/s, packed as in ATM (I.366.2 annex E).
    Aal2G726At40,
    /// Speex: speech at a variable bit rate (RFC 5574).
    Speex,
    /// G.723.1: telephone speech at 5.3 or 6.3 kbit/s.
    G723,
    /// LPC, an experimental 1990s codec.
    Lpc,
    /// QCELP, the speech codec of early CDMA telephones.
    Qcelp,
    /// MPEG audio (RFC 2250).
    Mpa,
    /// G.728: telephone speech at 16 kbit/s.
    G728,
    /// CellB video (RFC 2029).
    CelB,
    /// JPEG video (RFC 2435).
    Jpeg,
    /// Video of the program `nv`.
    Nv,
    /// H.261 video (RFC 4587).
    H261,
    /// MPEG-1 and MPEG-2 video (RFC 2250).
    Mpv,
    /// MPEG-2 transport stream (RFC 2250).
    Mp2t,
    /// H.263 video (RFC 4629).
    H263,
}

/// The facts about one codec: a row of the table [`CODECS`].
#[derive(Clone, Copy, Debug)]
struct CodecFacts {
    codec: Codec,
    /// Encoding name as in an `a=rtpmap` line, in upper case.
    name: &'static str,
    /// Other names that devices use for the same codec, upper case.
    aliases: &'static [&'static str],
    /// RTP clock of the codec if a session description announces none, Hz.
    clock_hz: u32,
    static_payload_types: &'static [StaticPayloadType],
    payload_length: PayloadLength,
    silence: SilenceBehavior,
    /// Impairment of speech quality by this codec for the E-model; `None` where G.113 has no narrowband value.
    impairment: Option<EquipmentImpairment>,
    /// The decoder for this codec; `None` if callspan cannot decode it.
    decoder: Option<DecoderKind>,
}

/// A payload type that needs no rtpmap (RFC 3551 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct StaticPayloadType {
    /// Payload type, 0 to 34.
    pt: PayloadType,
    /// Rate of the RTP timestamps, Hz.
    clock_hz: u32,
    /// Number of audio channels, 1 or 2.
    channels: u8,
}

/// The payload format that a static payload type has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StaticFormat {
    /// Codec that the payload type stands for.
    pub(crate) codec: Codec,
    /// Rate of the RTP timestamps, Hz. For G.722 it is 8000 although the sound has 16,000 samples a second (RFC 3551
    /// section 4.5.2).
    pub(crate) clock_hz: u32,
    /// Number of audio channels, 1 or 2.
    pub(crate) channels: u8,
}

/// How the length of a payload in bytes gives the duration of its sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PayloadLength {
    /// The length gives no duration: the bit rate varies, or the payload is no sound.
    Variable,
    /// Each sample of each channel has the given number of bytes. The sampling rate is the RTP clock rate.
    BytesPerSample(u8),
    /// The payload has this bit rate, kbit/s, so its length divided by the rate is its duration.
    BitRate(u8),
    /// All frames have the same size in bytes and the same duration in ms.
    Frames { bytes: u8, frame_ms: u8 },
    /// G.729 frames of 10 bytes; the last frame may be a silence descriptor of 2 bytes (annex B).
    G729,
    /// iLBC frames of 38 bytes (20 ms) or of 50 bytes (30 ms).
    Ilbc,
    /// IMA ADPCM: four bytes of predictor state, then two samples a byte (RFC 3551 section 4.5.1).
    Dvi4,
}

/// The behaviour of a sender while nobody speaks. It decides how a gap is filled if no packet was lost in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SilenceBehavior {
    /// The codec cannot describe silence: its sender always sends, or stops without notice. A gap in which no packet
    /// was lost is played as silence.
    NoDescriptor,
    /// The codec can describe silence (silence descriptors or discontinuous transmission, DTX). Its decoder fills the
    /// gap.
    OwnDescriptor,
    /// The payload is itself a description of noise, which lasts until the next packet (RFC 3389).
    ComfortNoise,
}

/// Equipment impairment of a codec for the E-model (ITU-T G.107, G.113 appendix I).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct EquipmentImpairment {
    /// Ie: loss of quality by the codec itself, without packet loss; 0 (none) to 95.
    pub(crate) ie: f64,
    /// Bpl: robustness against packet loss, at least 1. With a higher value, lost packets impair the quality less.
    pub(crate) bpl: f64,
}

/// The decoder for a codec, with the parameters it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecoderKind {
    /// Decoder of G.711 for one of its two companding laws.
    G711(CompandingLaw),
    /// Decoder of G.722 (wideband).
    G722,
    /// Decoder of GSM full rate.
    Gsm,
    /// Decoder of iLBC, for frames of 20 ms and of 30 ms.
    Ilbc,
    /// Decoder of G.729 and its annexes A and B.
    G729,
    /// Decoder of Opus.
    Opus,
    /// Decoder of AMR or AMR-WB.
    Amr(AmrBand),
    /// Decoder of uncompressed samples.
    LinearPcm(PcmWidth),
    /// Decoder of IMA ADPCM.
    Dvi4,
    /// Decoder of G.726 for one bit rate and one packing (order of the code words in a byte).
    G726(G726Rate, G726Packing),
    /// Decoder of Speex. A build without the Cargo feature `speex` has none.
    Speex,
    /// Generator of comfort noise from its description.
    ComfortNoise,
}

/// How G.711 maps linear samples to 8 bits: in fine steps for quiet samples, in coarse steps for loud samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CompandingLaw {
    /// A-law, the law of the encoding PCMA.
    A,
    /// Mu-law, the law of the encoding PCMU.
    Mu,
}

/// Bandwidth of the speech of AMR and AMR-WB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AmrBand {
    /// AMR: 8000 samples a second.
    Narrow,
    /// AMR-WB: 16,000 samples a second.
    Wide,
}

/// Size of an uncompressed sample in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PcmWidth {
    /// Two bytes, big-endian, signed.
    Sixteen,
    /// One unsigned byte; 128 is the zero level.
    Eight,
}

/// Bit rate of G.726, named by the number of bits in a code word. A code word is a compressed sample; there are 8000 a
/// second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum G726Rate {
    /// 16 kbit/s: 2 bits a code word.
    Two,
    /// 24 kbit/s: 3 bits a code word.
    Three,
    /// 32 kbit/s: 4 bits a code word.
    Four,
    /// 40 kbit/s: 5 bits a code word.
    Five,
}

/// Order of the G.726 code words (compressed samples) within a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum G726Packing {
    /// The first code word of a byte is in the least significant bits: `G726-32` (RFC 3551 section 4.5.4).
    Rfc3551,
    /// The first code word of a byte is in the most significant bits: `AAL2-G726-32` (I.366.2 annex E).
    Aal2,
}

impl Codec {
    /// Returns the codec that has this encoding name or alias, in upper or lower case (RFC 4855 section 3). Returns
    /// `None` for unknown names.
    pub(crate) fn from_name(encoding: &str) -> Option<Self> {
        CODECS.iter().find(|facts| facts.is_named(encoding)).map(|facts| facts.codec)
    }

    /// Returns whether a text is the encoding name or an alias of this codec. Compares it with this codec only, which
    /// is faster than [`Self::from_name`].
    pub(crate) fn is_named(self, encoding: &str) -> bool {
        self.facts().is_named(encoding)
    }

    /// Returns the encoding name as in an rtpmap, upper case.
    pub(crate) fn name(self) -> &'static str {
        self.facts().name
    }

    /// Returns the RTP clock in Hz that applies if a session description announces none.
    pub(crate) fn default_clock_hz(self) -> u32 {
        self.facts().clock_hz
    }

    /// Returns how a sender of this codec behaves while nobody speaks.
    pub(crate) fn silence(self) -> SilenceBehavior {
        self.facts().silence
    }

    /// Returns the loss of quality by the codec for the E-model; `None` if G.113 has no narrowband value.
    pub(crate) fn impairment(self) -> Option<EquipmentImpairment> {
        self.facts().impairment
    }

    /// Returns the decoder of the codec; `None` if callspan has none.
    pub(crate) fn decoder(self) -> Option<DecoderKind> {
        self.facts().decoder
    }

    /// Returns the first codec in the table that has this decoder; `None` if no codec has it.
    pub(crate) fn with_decoder(decoder: DecoderKind) -> Option<Self> {
        CODECS.iter().find(|facts| facts.decoder == Some(decoder)).map(|facts| facts.codec)
    }

    /// Returns whether the encoding only accompanies a speech codec, like telephone events and comfort noise do.
    pub(crate) fn accompanies_speech(self) -> bool {
        matches!(self, Self::TelephoneEvent | Self::ComfortNoise)
    }

    /// Returns the duration in ns of the sound in a payload of `bytes` bytes; `None` if the length does not determine
    /// it.
    pub(crate) fn duration_ns(self, bytes: u32, clock_hz: u32, channels: u8) -> Option<i64> {
        let bytes = i64::from(bytes);
        let samples_ns = |count: i64| Some(count * 1_000_000_000 / i64::from(clock_hz.max(1)));
        match self.facts().payload_length {
            PayloadLength::Variable => None,
            PayloadLength::BytesPerSample(size) => samples_ns(bytes / i64::from(size) / i64::from(channels.max(1))),
            PayloadLength::BitRate(kbits) => Some(bytes * 8 * 1_000_000 / i64::from(kbits)),
            PayloadLength::Frames { bytes: frame, frame_ms } => {
                Some(bytes / i64::from(frame) * i64::from(frame_ms) * 1_000_000)
            }
            // A stray byte may follow the frames (quirk `trailing_bytes`), so 3 remaining bytes count like a silence
            // descriptor of 2 bytes.
            PayloadLength::G729 => Some((bytes / 10 + i64::from(matches!(bytes % 10, 2 | 3))) * 10_000_000),
            PayloadLength::Ilbc if bytes % 38 == 0 => Some(bytes / 38 * 20_000_000),
            PayloadLength::Ilbc if bytes % 50 == 0 => Some(bytes / 50 * 30_000_000),
            PayloadLength::Ilbc => None,
            PayloadLength::Dvi4 => samples_ns(2 * (bytes - 4).max(0)),
        }
    }

    /// Returns whether any number of bytes decodes to sound, because the codec has samples and no frames.
    pub(crate) fn has_no_frames(self) -> bool {
        matches!(self.facts().payload_length, PayloadLength::BytesPerSample(_) | PayloadLength::BitRate(_))
    }

    fn facts(self) -> &'static CodecFacts {
        &CODECS[self as usize]
    }
}

/// Returns the format of a payload type that needs no rtpmap; `None` for dynamic, reserved and unassigned types.
pub(crate) fn static_format(pt: PayloadType) -> Option<StaticFormat> {
    CODECS.iter().find_map(|facts| {
        let found = facts.static_payload_types.iter().find(|known| known.pt == pt)?;
        Some(StaticFormat { codec: facts.codec, clock_hz: found.clock_hz, channels: found.channels })
    })
}

/// Returns the value of a parameter in a `fmtp` line such as `mode=20;octet-align=1`. The case of names does not
/// matter. A name without a value has the empty value.
pub(crate) fn fmtp<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl CodecFacts {
    /// Returns a row of the codec table with only a name and a clock. Further methods add the other facts.
    const fn new(codec: Codec, name: &'static str, clock_hz: u32) -> Self {
        Self {
            codec,
            name,
            aliases: &[],
            clock_hz,
            static_payload_types: &[],
            payload_length: PayloadLength::Variable,
            silence: SilenceBehavior::NoDescriptor,
            impairment: None,
            decoder: None,
        }
    }

    const fn aliases(mut self, aliases: &'static [&'static str]) -> Self {
        self.aliases = aliases;
        self
    }

    const fn static_types(mut self, types: &'static [StaticPayloadType]) -> Self {
        self.static_payload_types = types;
        self
    }

    const fn length(mut self, payload_length: PayloadLength) -> Self {
        self.payload_length = payload_length;
        self
    }

    const fn silence(mut self, silence: SilenceBehavior) -> Self {
        self.silence = silence;
        self
    }

    const fn impairment(mut self, ie: f64, bpl: f64) -> Self {
        self.impairment = Some(EquipmentImpairment { ie, bpl });
        self
    }

    const fn decoder(mut self, decoder: DecoderKind) -> Self {
        self.decoder = Some(decoder);
        self
    }

    /// Returns a row of the codec table for one bit rate and packing of G.726.
    const fn g726(codec: Codec, name: &'static str, rate: G726Rate, packing: G726Packing) -> Self {
        let kbits = match rate {
            G726Rate::Two => 16,
            G726Rate::Three => 24,
            G726Rate::Four => 32,
            G726Rate::Five => 40,
        };
        let row = Self::new(codec, name, 8_000).length(PayloadLength::BitRate(kbits));
        row.decoder(DecoderKind::G726(rate, packing))
    }

    fn is_named(&self, encoding: &str) -> bool {
        self.name.eq_ignore_ascii_case(encoding)
            || self.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(encoding))
    }
}

/// Returns a static payload type (RFC 3551 section 6) with one audio channel.
const fn mono(pt: u8, clock_hz: u32) -> StaticPayloadType {
    StaticPayloadType { pt: PayloadType(pt), clock_hz, channels: 1 }
}

/// The table of all codecs. Values of Ie and Bpl are those of G.113 tables I.2 and I.3.
static CODECS: [CodecFacts; 36] = [
    // The values Ie and Bpl ([`EquipmentImpairment`]) of G.711 are those for a receiver that conceals lost packets.
    CodecFacts::new(Codec::Pcma, "PCMA", 8_000)
        .static_types(&[mono(8, 8_000)])
        .length(PayloadLength::BytesPerSample(1))
        .impairment(0.0, 25.1)
        .decoder(DecoderKind::G711(CompandingLaw::A)),
    CodecFacts::new(Codec::Pcmu, "PCMU", 8_000)
        .static_types(&[mono(0, 8_000)])
        .length(PayloadLength::BytesPerSample(1))
        .impairment(0.0, 25.1)
        .decoder(DecoderKind::G711(CompandingLaw::Mu)),
    CodecFacts::new(Codec::TelephoneEvent, "TELEPHONE-EVENT", 8_000),
    CodecFacts::new(Codec::G722, "G722", 8_000)
        .static_types(&[mono(9, 8_000)])
        .length(PayloadLength::BitRate(64))
        .decoder(DecoderKind::G722),
    // The values for the E-model were measured with G.729A and voice activity detection. Annex A decodes the same bit
    // stream, so the values hold for G.729 too.
    CodecFacts::new(Codec::G729, "G729", 8_000)
        .aliases(&["G729A", "G729B", "G729AB"])
        .static_types(&[mono(18, 8_000)])
        .length(PayloadLength::G729)
        .silence(SilenceBehavior::OwnDescriptor)
        .impairment(11.0, 19.0)
        .decoder(DecoderKind::G729),
    CodecFacts::new(Codec::Opus, "OPUS", 48_000).silence(SilenceBehavior::OwnDescriptor).decoder(DecoderKind::Opus),
    // Payload type 19 is reserved, but devices older than RFC 3389 send comfort noise with it. So it is in the table,
    // too.
    CodecFacts::new(Codec::ComfortNoise, "CN", 8_000)
        .static_types(&[mono(13, 8_000), mono(19, 8_000)])
        .silence(SilenceBehavior::ComfortNoise)
        .decoder(DecoderKind::ComfortNoise),
    CodecFacts::new(Codec::Red, "RED", 8_000),
    // G.113 gives no value Bpl (robustness against packet loss) for GSM full rate. So the Bpl of GSM enhanced full rate
    // is used.
    CodecFacts::new(Codec::Gsm, "GSM", 8_000)
        .static_types(&[mono(3, 8_000)])
        .length(PayloadLength::Frames { bytes: 33, frame_ms: 20 })
        .impairment(20.0, 10.0)
        .decoder(DecoderKind::Gsm),
    CodecFacts::new(Codec::Ilbc, "ILBC", 8_000).length(PayloadLength::Ilbc).decoder(DecoderKind::Ilbc),
    // GSM enhanced full rate is the same codec as AMR at 12.2 kbit/s, so its values for the E-model are used for AMR.
    CodecFacts::new(Codec::Amr, "AMR", 8_000)
        .silence(SilenceBehavior::OwnDescriptor)
        .impairment(5.0, 10.0)
        .decoder(DecoderKind::Amr(AmrBand::Narrow)),
    CodecFacts::new(Codec::AmrWb, "AMR-WB", 16_000)
        .silence(SilenceBehavior::OwnDescriptor)
        .decoder(DecoderKind::Amr(AmrBand::Wide)),
    CodecFacts::new(Codec::L16, "L16", 8_000)
        .static_types(&[StaticPayloadType { pt: PayloadType(10), clock_hz: 44_100, channels: 2 }, mono(11, 44_100)])
        .length(PayloadLength::BytesPerSample(2))
        .decoder(DecoderKind::LinearPcm(PcmWidth::Sixteen)),
    CodecFacts::new(Codec::L8, "L8", 8_000)
        .length(PayloadLength::BytesPerSample(1))
        .decoder(DecoderKind::LinearPcm(PcmWidth::Eight)),
    CodecFacts::new(Codec::Dvi4, "DVI4", 8_000)
        .static_types(&[mono(5, 8_000), mono(6, 16_000), mono(16, 11_025), mono(17, 22_050)])
        .length(PayloadLength::Dvi4)
        .decoder(DecoderKind::Dvi4),
    // Payload type 2 was G721 (RFC 1890). RFC 3551 reserves it, but devices still send it without an rtpmap. So it is
    // accepted.
    CodecFacts::g726(Codec::G726At32, "G726-32", G726Rate::Four, G726Packing::Rfc3551)
        .aliases(&["G721"])
        .static_types(&[mono(2, 8_000)]),
    CodecFacts::g726(Codec::G726At16, "G726-16", G726Rate::Two, G726Packing::Rfc3551),
    CodecFacts::g726(Codec::G726At24, "G726-24", G726Rate::Three, G726Packing::Rfc3551),
    CodecFacts::g726(Codec::G726At40, "G726-40", G726Rate::Five, G726Packing::Rfc3551),
    CodecFacts::g726(Codec::Aal2G726At32, "AAL2-G726-32", G726Rate::Four, G726Packing::Aal2),
    CodecFacts::g726(Codec::Aal2G726At16, "AAL2-G726-16", G726Rate::Two, G726Packing::Aal2),
    CodecFacts::g726(Codec::Aal2G726At24, "AAL2-G726-24", G726Rate::Three, G726Packing::Aal2),
    CodecFacts::g726(Codec::Aal2G726At40, "AAL2-G726-40", G726Rate::Five, G726Packing::Aal2),
    CodecFacts::new(Codec::Speex, "SPEEX", 8_000).silence(SilenceBehavior::OwnDescriptor).decoder(DecoderKind::Speex),
    CodecFacts::new(Codec::G723, "G723", 8_000).static_types(&[mono(4, 8_000)]),
    CodecFacts::new(Codec::Lpc, "LPC", 8_000).static_types(&[mono(7, 8_000)]),
    CodecFacts::new(Codec::Qcelp, "QCELP", 8_000).static_types(&[mono(12, 8_000)]),
    CodecFacts::new(Codec::Mpa, "MPA", 90_000).static_types(&[mono(14, 90_000)]),
    CodecFacts::new(Codec::G728, "G728", 8_000).static_types(&[mono(15, 8_000)]),
    CodecFacts::new(Codec::CelB, "CELB", 90_000).static_types(&[mono(25, 90_000)]),
    CodecFacts::new(Codec::Jpeg, "JPEG", 90_000).static_types(&[mono(26, 90_000)]),
    CodecFacts::new(Codec::Nv, "NV", 90_000).static_types(&[mono(28, 90_000)]),
    CodecFacts::new(Codec::H261, "H261", 90_000).static_types(&[mono(31, 90_000)]),
    CodecFacts::new(Codec::Mpv, "MPV", 90_000).static_types(&[mono(32, 90_000)]),
    CodecFacts::new(Codec::Mp2t, "MP2T", 90_000).static_types(&[mono(33, 90_000)]),
    CodecFacts::new(Codec::H263, "H263", 90_000).static_types(&[mono(34, 90_000)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_codec_has_the_row_of_its_own_index() {
        for (index, facts) in CODECS.iter().enumerate() {
            assert_eq!(facts.codec as usize, index, "{}", facts.name);
        }
        assert_eq!(Codec::H263 as usize + 1, CODECS.len(), "the last variant has the last row");
    }

    #[test]
    fn names_aliases_and_static_payload_types_are_unique() {
        let names: Vec<&str> = CODECS.iter().flat_map(|f| f.aliases.iter().copied().chain([f.name])).collect();
        let types: Vec<u8> = CODECS.iter().flat_map(|f| f.static_payload_types).map(|known| known.pt.0).collect();
        for (n, name) in names.iter().enumerate() {
            assert!(!names[..n].contains(name), "{name}");
            assert_eq!(*name, name.to_ascii_uppercase());
        }
        for (n, pt) in types.iter().enumerate() {
            assert!(!types[..n].contains(pt), "{pt}");
        }
    }

    #[test]
    fn a_name_in_any_case_and_an_alias_find_their_codec() {
        assert_eq!(Codec::from_name("pcma"), Some(Codec::Pcma));
        assert_eq!(Codec::from_name("iLBC"), Some(Codec::Ilbc));
        assert_eq!(Codec::from_name("G729A"), Some(Codec::G729));
        assert_eq!(Codec::from_name("G721"), Some(Codec::G726At32));
        // G729D (annex D, 6.4 kbit/s) is a codec of its own and no alias of G.729.
        assert_eq!((Codec::from_name("G729D"), Codec::from_name("")), (None, None));
        assert!(Codec::TelephoneEvent.is_named("telephone-event") && !Codec::TelephoneEvent.is_named("CN"));
    }

    #[test]
    fn static_payload_types_are_those_of_rfc_3551() {
        let format = |pt: u8| static_format(PayloadType(pt)).map(|f| (f.codec.name(), f.clock_hz, f.channels));
        assert_eq!(format(0), Some(("PCMU", 8_000, 1)));
        assert_eq!(format(8), Some(("PCMA", 8_000, 1)));
        // G.722 has a sampling rate of 16 kHz, but its RTP clock is 8 kHz (RFC 3551 section 4.5.2).
        assert_eq!(format(9), Some(("G722", 8_000, 1)));
        assert_eq!(format(10), Some(("L16", 44_100, 2)));
        assert_eq!(format(17), Some(("DVI4", 22_050, 1)));
        assert_eq!(format(18), Some(("G729", 8_000, 1)));
        // RFC 3551 reserves payload type 2, but devices use it for G.726 at 32 kbit/s.
        assert_eq!(format(2), Some(("G726-32", 8_000, 1)));
        // Payload type 35 is unassigned, and 96 is dynamic, so neither has a static format.
        assert_eq!((format(35), format(96)), (None, None));
    }

    #[test]
    fn a_constant_bit_rate_gives_the_duration_of_a_payload() {
        let duration_ms = |name: &str, clock_hz, channels, bytes| {
            Codec::from_name(name)
                .and_then(|codec| codec.duration_ns(bytes, clock_hz, channels))
                .map(|ns| ns / 1_000_000)
        };
        for (name, bytes) in [
            ("PCMA", 160),
            ("G722", 160),
            ("GSM", 33),
            ("G729", 20),
            ("G729", 12),
            ("G726-16", 40),
            ("G726-24", 60),
            ("AAL2-G726-32", 80),
            ("G726-40", 100),
            ("DVI4", 84),
            ("L16", 320),
            ("ILBC", 38),
        ] {
            assert_eq!(duration_ms(name, 8_000, 1, bytes), Some(20), "{name}");
        }
        assert_eq!(duration_ms("ILBC", 8_000, 1, 50), Some(30));
        assert_eq!(duration_ms("L16", 44_100, 2, 1_764), Some(10));
        assert_eq!(duration_ms("OPUS", 48_000, 2, 60), None);
    }
}
