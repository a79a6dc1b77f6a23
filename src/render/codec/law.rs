//! Finds the companding law of a G.711 stream by its sound in both laws (ITU-T G.711).
//!
//! Quirk `companding_law`: some gateways send A-law bytes under the payload type of mu-law, or the reverse. Both laws
//! have the same sign bit. But in the wrong law, quiet samples are loud and loud samples are quieter. So smooth sound
//! becomes rough. Noise and high tones are rough in both laws and show nothing. Neither do quiet payloads, because
//! their steps are coarse.

use crate::call::decision::PayloadFormat;
use crate::codec::g711::linear_values;
use crate::codec::{Codec, CompandingLaw, DecoderKind};

/// Compares how rough the payloads of a stream are in both companding laws.
#[derive(Clone, Debug)]
pub(crate) struct LawJudge {
    announced: &'static [i16; 256],
    other: &'static [i16; 256],
    other_codec: Codec,
    /// Number of payloads in a row that told nothing.
    unclear: u32,
    /// Payloads that tell the laws apart, since the last block of them was complete.
    block: PayloadBlock,
    /// Number of blocks that are sound in the other law only.
    for_other: u32,
    /// Whether a block is sound in the announced law only.
    is_announced: bool,
}

/// Payloads that tell the laws apart.
#[derive(Clone, Copy, Debug, Default)]
struct PayloadBlock {
    payloads: u32,
    /// Sum of the logarithms (nepers) of how much rougher the payloads are in the announced law.
    excess: f64,
}

impl LawJudge {
    /// Begins to find the companding law of a stream of this format. Returns `None` if the format is not G.711 with one
    /// channel.
    pub(crate) fn new(format: &PayloadFormat) -> Option<Self> {
        let DecoderKind::G711(announced) = format.codec()?.decoder()? else { return None };
        let other = match announced {
            CompandingLaw::A => CompandingLaw::Mu,
            CompandingLaw::Mu => CompandingLaw::A,
        };
        (format.channels == 1).then_some(Self {
            announced: linear_values(announced),
            other: linear_values(other),
            other_codec: Codec::with_decoder(DecoderKind::G711(other))?,
            unclear: 0,
            block: PayloadBlock::default(),
            for_other: 0,
            is_announced: false,
        })
    }

    /// Examines a payload. Returns the number of payloads that may be left out before the next; `None` if no further
    /// payload can change the result.
    pub(crate) fn handle_payload(&mut self, payload: &[u8]) -> Option<u32> {
        if self.is_announced {
            return None;
        }
        match self.excess(payload) {
            Some(excess) => {
                self.unclear = 0;
                self.block.payloads += 1;
                self.block.excess += excess;
                self.judge_block();
            }
            None => self.unclear = self.unclear.saturating_add(1),
        }
        let left_out = if self.unclear < MAX_UNCLEAR { 0 } else { LEFT_OUT };
        (!self.is_announced).then_some(left_out)
    }

    /// Returns the codec with the other companding law if all payloads that tell the laws apart have that law.
    pub(crate) fn true_codec(&self) -> Option<Codec> {
        (self.for_other > 0 && !self.is_announced).then_some(self.other_codec)
    }

    fn judge_block(&mut self) {
        let PayloadBlock { payloads, excess } = self.block;
        let mean = excess / f64::from(payloads.max(1));
        if payloads >= MIN_ANNOUNCED && mean < -MIN_EXCESS {
            self.is_announced = true;
        } else if payloads >= BLOCK_PAYLOADS {
            self.for_other += u32::from(mean > MIN_EXCESS);
            self.block = PayloadBlock::default();
        }
    }

    /// Returns by how much a payload is rougher in the announced law than in the other, nepers. Returns `None` if the
    /// payload tells nothing: it is quiet or rough in both laws, or hardly ever changes its sign.
    fn excess(&self, payload: &[u8]) -> Option<f64> {
        let pairs = || payload.iter().zip(payload.iter().skip(1));
        let turns = pairs().filter(|(one, next)| (**one ^ **next) & SIGN_BIT != 0).count();
        let (announced, other) = (SampleSteps::of(payload, self.announced), SampleSteps::of(payload, self.other));
        let is_loud = announced.is_loud() && other.is_loud();
        let is_clear = turns >= MIN_TURNS && is_loud && (announced.roughness() < SMOOTH || other.roughness() < SMOOTH);
        is_clear.then(|| (announced.roughness() / other.roughness()).ln())
    }
}

/// Steps from one sample of a payload to the next with another value. Equal samples, e.g. of digital silence, show
/// nothing: in the wrong law they are an offset.
#[derive(Clone, Copy, Default)]
struct SampleSteps {
    count: u32,
    /// Sum of the magnitudes of the differences.
    differences: u32,
    /// Sum of the mean magnitudes of the two samples.
    magnitudes: u32,
}

impl SampleSteps {
    fn of(payload: &[u8], table: &[i16; 256]) -> Self {
        let mut steps = Self::default();
        for (one, next) in payload.iter().zip(payload.iter().skip(1)).filter(|(one, next)| one != next) {
            let (one, next) = (table[usize::from(*one)], table[usize::from(*next)]);
            steps.count += 1;
            steps.differences += u32::from(one.abs_diff(next));
            steps.magnitudes += (u32::from(one.unsigned_abs()) + u32::from(next.unsigned_abs())) / 2;
        }
        steps
    }

    fn is_loud(self) -> bool {
        self.count >= MIN_STEPS && self.magnitudes > u32::from(MIN_LEVEL) * self.count
    }

    fn roughness(self) -> f64 {
        f64::from(self.differences.max(1)) / f64::from(self.magnitudes.max(1))
    }
}

/// The sign bit of a code word in both laws.
const SIGN_BIT: u8 = 0x80;
/// Minimum mean magnitude of the samples of a payload that tells the laws apart (-43 dBov).
const MIN_LEVEL: u16 = 240;
/// Roughness below which a payload is smooth: the mean step from sample to sample, as a share of the mean magnitude.
/// White noise has 1.4, a tone of 1 kHz has 0.8.
const SMOOTH: f64 = 0.8;
/// Minimum number of changes of the sign in a payload that tells the laws apart.
const MIN_TURNS: usize = 2;
/// Minimum number of samples that differ from the sample before, in a payload that tells the laws apart.
const MIN_STEPS: u32 = 40;
/// Minimum mean difference between the two roughnesses, nepers. A second of speech has more than 0.3 in the wrong law.
/// In the right law, speech has less than -0.3, and a tone less than 0.05.
const MIN_EXCESS: f64 = 0.25;
/// Number of payloads in a block: a second of loud, smooth sound.
const BLOCK_PAYLOADS: u32 = 50;
/// Minimum number of payloads that prove the announced law. More are not examined, so that clear sound costs little.
const MIN_ANNOUNCED: u32 = 10;
/// Number of payloads in a row that tell nothing, e.g. of a pause or of noise, after which most are left out. So a long
/// pause costs little.
const MAX_UNCLEAR: u32 = 30;
const LEFT_OUT: u32 = 63;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(encoding: &str) -> LawJudge {
        let format = PayloadFormat { encoding: encoding.into(), clock_hz: 8_000, channels: 1, fmtp: String::new() };
        LawJudge::new(&format).unwrap()
    }

    /// The values of a law with their code words, in ascending order.
    struct LawEncoder(Vec<(i16, u8)>);

    impl LawEncoder {
        fn new(law: CompandingLaw) -> Self {
            let mut codes: Vec<_> = (0..=u8::MAX).map(|code| (linear_values(law)[usize::from(code)], code)).collect();
            codes.sort_unstable();
            Self(codes)
        }

        /// Passes payloads of a sound to a judge. Stops as soon as the judge needs no more.
        fn play(&self, judge: &mut LawJudge, payloads: u32, sound: impl Fn(f64) -> f64) {
            let code = |sample: f64| {
                let at = self.0.partition_point(|(value, _)| f64::from(*value) < sample);
                self.0[at.min(self.0.len() - 1)].1
            };
            for payload in 0..payloads {
                let coded = |n: u32| code(sound(f64::from(payload * 160 + n) / 8_000.0));
                if judge.handle_payload(&(0..160).map(coded).collect::<Vec<_>>()).is_none() {
                    break;
                }
            }
        }
    }

    /// Returns the codec that is found for 120 payloads of a sound in a law, announced as `encoding`.
    fn found(encoding: &str, law: CompandingLaw, sound: impl Fn(f64) -> f64) -> Option<Codec> {
        let mut judge = judge(encoding);
        LawEncoder::new(law).play(&mut judge, 120, sound);
        judge.true_codec()
    }

    fn tone(hz: f64, level: f64) -> impl Fn(f64) -> f64 {
        move |s| (s * hz * std::f64::consts::TAU).sin() * level
    }

    #[test]
    fn smooth_sound_in_the_other_law_is_found() {
        let (mu, a) = (CompandingLaw::Mu, CompandingLaw::A);
        for (encoding, law, expected) in
            [("PCMU", a, Some(Codec::Pcma)), ("PCMA", mu, Some(Codec::Pcmu)), ("PCMU", mu, None), ("PCMA", a, None)]
        {
            let speech = |s: f64| tone(210.0, 6_000.0)(s) * tone(2.0, 1.0)(s) + tone(640.0, 1_500.0)(s);
            assert_eq!(found(encoding, law, speech), expected, "{encoding} as {law:?}");
        }
    }

    #[test]
    fn announced_law_stays_for_each_tone_level_and_offset() {
        for law in [CompandingLaw::Mu, CompandingLaw::A] {
            let encoding = if law == CompandingLaw::A { "PCMA" } else { "PCMU" };
            for hz in [25.0, 50.0, 425.0, 1_000.0, 1_100.0, 2_100.0, 3_000.0, 3_500.0] {
                for level in [10.0, 100.0, 400.0, 1_500.0, 8_000.0, 32_000.0, 90_000.0] {
                    for offset in [0.0, 250.0, 1_000.0] {
                        let sound = |s: f64| tone(hz, level)(s) + offset;
                        assert_eq!(found(encoding, law, sound), None, "{law:?}, {hz} Hz, {level}, {offset}");
                    }
                }
            }
        }
    }

    #[test]
    fn square_tone_between_digital_silence_shows_no_law() {
        for magnitude in (20..=110).step_by(6) {
            let mut judge = judge("PCMA");
            for payload in 0..3_500_u32 {
                let code = |n: u32| {
                    let is_on = n % 5_600 < 2_800;
                    0xD5 ^ if is_on { magnitude | (n / 9 % 2 * 128) as u8 } else { 0 }
                };
                judge.handle_payload(&(payload * 160..payload * 160 + 160).map(code).collect::<Vec<_>>());
            }
            assert_eq!(judge.true_codec(), None, "{magnitude}");
        }
    }

    #[test]
    fn stream_that_changes_its_law_keeps_the_announced_law() {
        let mut judge = judge("PCMU");
        for law in [CompandingLaw::A, CompandingLaw::Mu] {
            LawEncoder::new(law).play(&mut judge, 100, tone(210.0, 6_000.0));
        }
        assert_eq!(judge.true_codec(), None);
    }
}
