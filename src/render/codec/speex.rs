//! Decodes Speex, narrowband and wideband, with the system's libspeex (the Speex codec manual; RTP payload RFC 5574).
//!
//! libspeex 1.2.1 trusts its input: it decodes truncated packets, prints complaints to standard error, and misreads the
//! bits after an empty layer. So this module splits packets itself, by the manual's bit allocation. Then libspeex gets
//! one whole frame at a time, without the layers that it would skip.

use std::ffi::{c_char, c_int, c_void};
use std::ops::Range;
use std::ptr::NonNull;

use super::conceal::{DtxState, FrameConcealer};
use super::{DecodeError, SpeechDecoder};

/// Decoder of one Speex stream, with its state.
pub(crate) struct SpeexDecoder {
    library: LibspeexDecoder,
    band: SpeexBand,
    dtx: DtxState,
    /// Whether each frame of the last payload belongs to a pause.
    is_noise: bool,
    concealer: FrameConcealer,
}

/// The frequency band that is decoded. Layers for higher frequencies are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpeexBand {
    Narrow,
    Wide,
}

impl SpeexDecoder {
    /// Returns a decoder for a clock of 8000, 16000 or 32000 Hz. At 32000 Hz the highest layer (8 to 16 kHz) is left
    /// out.
    pub(crate) fn new(clock_hz: u32) -> Option<Self> {
        let band = match clock_hz {
            0 | NARROW_HZ => SpeexBand::Narrow,
            WIDE_HZ | ULTRA_WIDE_HZ => SpeexBand::Wide,
            _ => return None,
        };
        let concealer = FrameConcealer::new(band.rate_hz());
        Some(Self { library: LibspeexDecoder::new(band)?, band, dtx: DtxState::Talking, is_noise: false, concealer })
    }
}

impl SpeechDecoder for SpeexDecoder {
    fn sample_rate_hz(&self) -> u32 {
        self.band.rate_hz()
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        let (at, mut bits) = (out.len(), SpeexBitReader { bytes: payload, at: 0 });
        let mut end = SpeexStop::Regular;
        self.is_noise = true;
        for _ in 0..MAX_FRAMES {
            match bits.frame(self.band) {
                Ok(frame) => {
                    self.dtx = frame.dtx;
                    self.is_noise &= frame.dtx == DtxState::Paused;
                    self.library.decode(&bits.cut(frame.bits), out);
                }
                Err(why) => {
                    end = why;
                    break;
                }
            }
        }
        // If a frame is faulty, the sound of the frames before it is kept.
        match (out.len() > at, end) {
            (true, _) => self.concealer.end_gap(),
            (false, SpeexStop::Regular) => return Err(DecodeError::Length),
            (false, SpeexStop::Broken) => return Err(DecodeError::Content),
        }
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.concealer.fill(samples, self.dtx, out, |out| self.library.conceal(out));
    }

    fn is_comfort_noise(&self) -> bool {
        self.is_noise
    }
}

impl SpeexBand {
    const fn rate_hz(self) -> u32 {
        match self {
            Self::Narrow => NARROW_HZ,
            Self::Wide => WIDE_HZ,
        }
    }

    /// Returns the number of samples that a frame of 20 ms has in this band.
    const fn frame(self) -> usize {
        self.rate_hz() as usize / 50
    }
}

/// Returns the number of frames in a payload.
pub(super) fn frames(clock_hz: u32, payload: &[u8]) -> i64 {
    let band = if clock_hz > NARROW_HZ { SpeexBand::Wide } else { SpeexBand::Narrow };
    let mut bits = SpeexBitReader { bytes: payload, at: 0 };
    (0..MAX_FRAMES).take_while(|_| bits.frame(band).is_ok()).count() as i64
}

/// Why a payload has no further frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpeexStop {
    /// The payload ended as it should: after its last bit, or at the terminator.
    Regular,
    /// The frame is unusable: its mode is unknown, or it is incomplete.
    Broken,
}

/// One frame of 20 ms in a payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SpeexFrame {
    /// The range of bits in the payload that the decoder needs.
    bits: Range<usize>,
    /// `Paused` if a pause of the sender begins with this frame.
    dtx: DtxState,
}

/// Reads bit fields of a payload, most significant bit first.
struct SpeexBitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl SpeexBitReader<'_> {
    /// Skips to the next frame, and returns this frame with all its layers.
    fn frame(&mut self, band: SpeexBand) -> Result<SpeexFrame, SpeexStop> {
        self.layers()?; // skips layers without a frame before them
        loop {
            let from = self.at;
            if self.left() < MODE_BITS {
                return Err(SpeexStop::Regular);
            }
            match self.take(MODE_BITS)? {
                TERMINATOR => return Err(SpeexStop::Regular),
                MESSAGE => {
                    let kind = self.take(4)?;
                    self.skip(MESSAGE_BITS[kind / 2])?;
                }
                OWN_MESSAGE => {
                    let bytes = self.take(4)?;
                    self.skip(5 + 8 * bytes)?;
                }
                mode => {
                    let dtx = self.narrow(mode)?;
                    let (narrow, wide) = (self.at, self.layers()?);
                    let end = if band == SpeexBand::Wide { wide } else { narrow };
                    return Ok(SpeexFrame { bits: from..end, dtx });
                }
            }
            self.layers()?;
        }
    }

    /// Skips the rest of a narrowband frame. Returns whether the sender pauses after this frame.
    fn narrow(&mut self, mode: usize) -> Result<DtxState, SpeexStop> {
        let length = NARROW_BITS.get(mode).ok_or(SpeexStop::Broken)? - MODE_BITS;
        if mode != NOISE_MODE {
            self.skip(length)?;
            return Ok(DtxState::Talking);
        }
        // A noise frame announces a pause if all bits of its last field are 1.
        self.skip(length - 4)?;
        Ok(if self.take(4)? == 15 { DtxState::Paused } else { DtxState::Talking })
    }

    /// Skips the wideband and the ultra-wideband layer, if present. Returns the bit position after the wideband layer.
    /// If too few bits are left for a layer, these bits are padding.
    fn layers(&mut self) -> Result<usize, SpeexStop> {
        let mut first = self.at;
        for layer in 0.. {
            if self.left() < LAYER_BITS[0] || self.bit(self.at) == 0 {
                break;
            }
            let mode = self.take(LAYER_BITS[0])? & 7;
            let length = LAYER_BITS.get(mode).filter(|_| layer < 2).ok_or(SpeexStop::Broken)?;
            self.skip(length - LAYER_BITS[0])?;
            if layer == 0 {
                first = self.at;
            }
        }
        Ok(first)
    }

    /// Copies the bits of a frame into a new buffer, padded with zeros to whole bytes.
    fn cut(&self, bits: Range<usize>) -> Vec<u8> {
        let octet = |from| {
            (from..from + 8).fold(0, |octet, at| octet << 1 | if at < bits.end { self.bit(at) as u8 } else { 0 })
        };
        bits.clone().step_by(8).map(octet).collect()
    }

    fn take(&mut self, width: usize) -> Result<usize, SpeexStop> {
        let from = self.at;
        self.skip(width)?;
        Ok((from..self.at).fold(0, |value, at| value << 1 | self.bit(at)))
    }

    fn skip(&mut self, width: usize) -> Result<(), SpeexStop> {
        if self.left() < width {
            return Err(SpeexStop::Broken);
        }
        self.at += width;
        Ok(())
    }

    fn bit(&self, at: usize) -> usize {
        self.bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1))
    }

    fn left(&self) -> usize {
        self.bytes.len() * 8 - self.at // `skip` never passes the end
    }
}

/// A decoder of the library libspeex, and its packet buffer.
struct LibspeexDecoder {
    state: NonNull<c_void>,
    packet: SpeexBits,
    band: SpeexBand,
}

#[expect(unsafe_code, reason = "libspeex is C: each call here is within what its header asks for")]
mod library {
    use super::*;

    // SAFETY: state and buffer belong to this value alone, and libspeex has no thread-local state. So another thread
    // may use this value.
    unsafe impl Send for LibspeexDecoder {}

    impl LibspeexDecoder {
        /// Returns a decoder; `None` if there is no memory.
        pub(super) fn new(band: SpeexBand) -> Option<Self> {
            let mode = match band {
                SpeexBand::Narrow => 0,
                SpeexBand::Wide => 1,
            };
            // SAFETY: modes 0 to 2 exist in every libspeex; init accepts the result of get_mode.
            let state = NonNull::new(unsafe { speex_decoder_init(speex_lib_get_mode(mode)) })?;
            let mut packet = SpeexBits::EMPTY;
            // SAFETY: init writes every field; drop frees the allocation.
            unsafe { speex_bits_init(&mut packet) };
            let library = Self { state, packet, band };
            (!library.packet.chars.is_null()).then_some(library)
        }

        /// Appends the sound of one whole frame. A frame that libspeex refuses is concealed.
        pub(super) fn decode(&mut self, frame: &[u8], out: &mut Vec<i16>) {
            debug_assert!(frame.len() <= MAX_BYTES, "a frame as it was cut out");
            let length = frame.len().min(MAX_BYTES) as c_int;
            let mut sound = [0.0; MAX_FRAME];
            // SAFETY: state and packet were initialised. libspeex copies `length` bytes of `frame`, which has as many.
            // The longest frame of any mode fits into `sound`.
            let status = unsafe {
                speex_bits_read_from(&mut self.packet, frame.as_ptr().cast(), length);
                speex_decode(self.state.as_ptr(), &mut self.packet, sound.as_mut_ptr())
            };
            debug_assert!(status == 0, "libspeex takes a whole frame");
            if status != 0 {
                return self.conceal(out);
            }
            out.extend(sound[..self.band.frame()].iter().map(to_sample));
        }

        /// Appends one frame of concealment or of comfort noise.
        pub(super) fn conceal(&mut self, out: &mut Vec<i16>) {
            let mut sound = [0.0; MAX_FRAME];
            // SAFETY: the state was initialised, and the longest frame of any mode fits into `sound`. A null packet
            // means a lost frame, which cannot fail.
            unsafe { speex_decode(self.state.as_ptr(), std::ptr::null_mut(), sound.as_mut_ptr()) };
            out.extend(sound[..self.band.frame()].iter().map(to_sample));
        }
    }

    impl Drop for LibspeexDecoder {
        fn drop(&mut self) {
            // SAFETY: state and packet were initialised, and nothing uses them afterwards.
            unsafe {
                speex_bits_destroy(&mut self.packet);
                speex_decoder_destroy(self.state.as_ptr());
            }
        }
    }

    // These are the declarations of speex/speex.h and speex/speex_bits.h 1.2 that this module uses. `build.rs` links
    // the library.
    unsafe extern "C" {
        fn speex_lib_get_mode(mode: c_int) -> *const c_void;
        fn speex_decoder_init(mode: *const c_void) -> *mut c_void;
        fn speex_decoder_destroy(state: *mut c_void);
        fn speex_decode(state: *mut c_void, bits: *mut SpeexBits, out: *mut f32) -> c_int;
        fn speex_bits_init(bits: *mut SpeexBits);
        fn speex_bits_destroy(bits: *mut SpeexBits);
        fn speex_bits_read_from(bits: *mut SpeexBits, bytes: *const c_char, length: c_int);
    }
}

/// The C structure `SpeexBits` of a packet being read: libspeex's buffer, positions in it, and reserved space.
#[repr(C)]
struct SpeexBits {
    chars: *mut c_char,
    places: [c_int; 7],
    reserved: *mut c_void,
}

impl SpeexBits {
    const EMPTY: Self = Self { chars: std::ptr::null_mut(), places: [0; 7], reserved: std::ptr::null_mut() };
}

/// Rounds a float sample to 16 bits, just as `speex_decode_int` of libspeex does. That function is not used, because
/// version 1.2.1 does not initialise its buffer. Above an empty narrowband frame, the high band would sound different
/// in each run.
fn to_sample(value: &f32) -> i16 {
    (value + 0.5).floor() as i16 // saturates; NaN becomes 0
}

const NARROW_HZ: u32 = 8_000;
const WIDE_HZ: u32 = 16_000;
const ULTRA_WIDE_HZ: u32 = 32_000;

/// Maximum number of frames in a packet: 640 ms. A packet with more frames is not speech (an empty frame takes 5 bits).
const MAX_FRAMES: usize = 32;

/// Capacity of libspeex's buffer, bytes. The largest frame, 844 bits, needs 106 bytes.
const MAX_BYTES: usize = 2_000;

/// Number of samples in an ultra-wideband frame, the longest frame that libspeex writes.
const MAX_FRAME: usize = 640;

/// Number of bits at the beginning of a frame: a 0 bit and the mode number. A layer, in contrast, begins with a 1 bit
/// and a shorter mode number.
const MODE_BITS: usize = 5;

/// Number of bits of a narrowband frame in each mode, including the [`MODE_BITS`].
const NARROW_BITS: [usize; 9] = [5, 43, 119, 160, 220, 300, 364, 492, 79];

/// Number of bits of a layer in each mode. The first entry is the header: a 1 bit and the mode.
const LAYER_BITS: [usize; 5] = [4, 36, 112, 192, 352];

/// Narrowband mode for frames that only describe noise.
const NOISE_MODE: usize = 1;
/// Mode number that announces a message of an application instead of a frame. `MESSAGE` announces a message of Speex,
/// and `TERMINATOR` the end of the packet.
const OWN_MESSAGE: usize = 13;
const MESSAGE: usize = 14;
const TERMINATOR: usize = 15;

/// Lengths of Speex messages in bits. Two consecutive message numbers have the same length, so the index is half the
/// message number.
const MESSAGE_BITS: [usize; 8] = [1, 4, 4, 4, 8, 16, 32, 64];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::FileFailurePersistence;

    use super::*;

    /// Packs fields of (value, number of bits) into bytes.
    fn packed(fields: &[(u64, usize)]) -> Vec<u8> {
        let bits: Vec<u8> =
            fields.iter().flat_map(|&(value, width)| (0..width).rev().map(move |at| (value >> at & 1) as u8)).collect();
        bits.chunks(8).map(|bits| bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | bit << (7 - at))).collect()
    }

    fn samples(clock_hz: u32, fields: &[(u64, usize)]) -> Result<usize, DecodeError> {
        let mut out = Vec::new();
        SpeexDecoder::new(clock_hz).unwrap().decode(&packed(fields), &mut out).map(|()| out.len())
    }

    /// The smallest narrowband speech frame (79 bits) as fields of (value, bits): these two and [`REST`]. [`NOTHING`]
    /// is an empty frame, and [`END`] the terminator.
    const SPEECH: [(u64, usize); 2] = [(8, 5), (0x1234_5678, 74 - 32)];
    const REST: (u64, usize) = (0x0BAD_CAFE, 32);
    const NOTHING: (u64, usize) = (0, 5);
    const END: (u64, usize) = (15, 5);

    #[test]
    fn a_packet_has_as_many_frames_as_fit_into_it() {
        assert_eq!(samples(8_000, &[SPEECH[0], SPEECH[1], REST, END]), Ok(160));
        assert_eq!(samples(8_000, &[SPEECH[0], SPEECH[1], REST, SPEECH[0], SPEECH[1], REST]), Ok(320));
        assert_eq!(samples(8_000, &[NOTHING; 3]), Ok(480), "15 bits and one of padding");
        assert_eq!(samples(8_000, &[NOTHING; 1_000]), Ok(32 * 160));
        assert_eq!(samples(16_000, &[NOTHING, END]), Ok(320));
    }

    #[test]
    fn layers_and_messages_are_not_counted_as_frames() {
        let (wide, ultra) = ([(0b1001, 4), (0, 32)], [(0b1001, 4), (0, 32)]);
        assert_eq!(samples(16_000, &[NOTHING, wide[0], wide[1], NOTHING, wide[0], wide[1], END]), Ok(640));
        let both = [NOTHING, wide[0], wide[1], ultra[0], ultra[1]];
        assert_eq!(samples(32_000, &[&both[..], &both, &[END]].concat()), Ok(640));
        assert_eq!(
            samples(8_000, &[&both[..], &both, &[END]].concat()),
            Ok(320),
            "to a narrow decoder they are nothing"
        );
        let empty = [NOTHING, (0b1000, 4), (0b1000, 4), NOTHING, (0b1000, 4), (0b1000, 4), END];
        assert_eq!(samples(8_000, &empty), Ok(320));
        assert_eq!(samples(32_000, &empty), Ok(640));
        // Each payload contains a message, which is skipped: message 12 of Speex itself with 32 bits, and a message of
        // an application with 2 bytes.
        assert_eq!(samples(8_000, &[(14, 5), (12, 4), (7, 32), NOTHING, END]), Ok(160));
        assert_eq!(samples(8_000, &[(13, 5), (2, 4), (0, 5 + 16), NOTHING, END]), Ok(160));
    }

    #[test]
    fn frames_before_a_fault_are_kept_and_a_lone_fault_is_refused() {
        assert_eq!(samples(8_000, &[(9, 5), (0, 40)]), Err(DecodeError::Content), "there is no mode 9");
        assert_eq!(samples(8_000, &[SPEECH[0], SPEECH[1]]), Err(DecodeError::Content), "cut short");
        assert_eq!(samples(8_000, &[NOTHING, SPEECH[0], SPEECH[1]]), Ok(160));
        assert_eq!(samples(16_000, &[NOTHING, (0b1101, 4), (0, 32)]), Err(DecodeError::Content), "no layer mode 5");
        assert_eq!(samples(8_000, &[END]), Err(DecodeError::Length));
        assert_eq!(samples(8_000, &[]), Err(DecodeError::Length));
    }

    #[test]
    fn noise_mode_announces_whether_a_pause_begins() {
        let frame = |last| packed(&[(1, 5), (0x2A, 34), (last, 4)]);
        for (last, dtx) in [(15, DtxState::Paused), (14, DtxState::Talking)] {
            assert_eq!(
                SpeexBitReader { bytes: &frame(last), at: 0 }.frame(SpeexBand::Narrow),
                Ok(SpeexFrame { bits: 0..43, dtx })
            );
        }
    }

    /// Returns random bit fields (value and number of bits) for a payload. Some of them begin a frame, a layer or a
    /// message.
    fn fields() -> impl Strategy<Value = Vec<(u64, usize)>> {
        let head = prop_oneof![
            (0..16u64).prop_map(|mode| (mode, 5)),
            (8..16u64).prop_map(|layer| (layer, 4)),
            any::<u64>().prop_map(|bits| (bits, 7)),
        ];
        let body = (any::<u64>(), 0..64usize);
        prop::collection::vec(prop_oneof![3 => head, 1 => body], 0..40)
    }

    proptest! {
        // If a random test fails, proptest stores its input in a file beside this file, and repeats it in later runs.
        #![proptest_config(ProptestConfig {
            failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("proptest-regressions"))),
            ..ProptestConfig::default()
        })]

        #[test]
        fn libspeex_decodes_whatever_passes_for_a_frame(packets in prop::collection::vec(fields(), 1..6)) {
            for band in [SpeexBand::Narrow, SpeexBand::Wide] {
                let mut library = LibspeexDecoder::new(band).unwrap();
                for fields in &packets {
                    let payload = packed(fields);
                    let mut bits = SpeexBitReader { bytes: &payload, at: 0 };
                    while let Ok(frame) = bits.frame(band) {
                        let mut out = Vec::new();
                        library.decode(&bits.cut(frame.bits), &mut out); // fails if libspeex refuses the frame
                        prop_assert_eq!(out.len(), band.frame());
                    }
                    let mut concealer = Vec::new();
                    library.conceal(&mut concealer);
                    prop_assert_eq!(concealer.len(), band.frame());
                }
            }
        }
    }
}
