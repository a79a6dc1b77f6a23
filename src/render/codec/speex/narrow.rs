//! The narrow band of Speex. Ported from libspeex (`nb_celp.c`, `ltp.c`, `quant_lsp.c`, `filters.c`; BSD-3-Clause,
//! `COPYING` beside this file).

use super::filter::{HighPass, dot, high_pass, innovation, interpolate, rms, synthesize, to_predictor, widen};
use super::modes::{GainBook, MODES, Mode, SubframeGain};
use super::tables::{LSP, LSP_HIGH_1, LSP_HIGH_2, LSP_LOW_1, LSP_LOW_2};
use super::{Bits, End, noise};

/// Samples of a frame and of a subframe.
pub(super) const FRAME: usize = 160;
pub(super) const SUBFRAME: usize = 40;
const ORDER: usize = 10;
const SHORTEST_PITCH: usize = 17;
const LONGEST_PITCH: usize = 144;

/// Where the frame begins in the excitation buffer; before it are two longest pitch periods, a subframe and what the
/// comb filter's interpolation reaches.
const START: usize = 2 * LONGEST_PITCH + SUBFRAME + 6;
const BUFFER: usize = START + FRAME + 6;

/// The decoder's state.
pub(super) struct Narrow {
    excitation: [f32; BUFFER],
    /// Innovation of the last frame, from which the layer above is made.
    innovation: [f32; FRAME],
    first: bool,
    lost: usize,
    pausing: bool,
    wide: bool,
    lsp: [f32; ORDER],
    predictor: [f32; ORDER],
    memory: [f32; ORDER],
    high_pass: [f32; 2],
    /// Response of each subframe's predictor at 4 kHz.
    response: [f32; 4],
    last_pitch: usize,
    last_pitch_gain: f32,
    pitch_gains: [f32; 3],
    seed: u32,
    vocoder: Vocoder,
}

/// State of the lowest mode, which makes pulses instead of reading shapes.
#[derive(Default)]
struct Vocoder {
    pulse: f32,
    innovation: f32,
    mean: f32,
    /// Samples from the beginning of the next subframe to its first pulse.
    offset: usize,
}

/// What the bits before the subframes say.
struct Head {
    mode: &'static Mode,
    lsp: [f32; ORDER],
    pitch: usize,
    forced_gain: f32,
    gain: f32,
}

/// The pitch of a frame: that of its most periodic subframe.
struct BestPitch {
    pitch: usize,
    gain: f32,
    sum: f32,
}

impl Narrow {
    pub(super) fn new(wide: bool) -> Self {
        Self {
            excitation: [0.0; BUFFER],
            innovation: [0.0; FRAME],
            first: true,
            lost: 0,
            pausing: false,
            wide,
            lsp: [0.0; ORDER],
            predictor: [0.0; ORDER],
            memory: [0.0; ORDER],
            high_pass: [0.0; 2],
            response: [0.0; 4],
            last_pitch: 40,
            last_pitch_gain: 0.0,
            pitch_gains: [0.0; 3],
            seed: 1_000,
            vocoder: Vocoder::default(),
        }
    }

    /// The sender said that it pauses.
    pub(super) fn pausing(&self) -> bool {
        self.pausing
    }

    pub(super) fn response(&self) -> &[f32; 4] {
        &self.response
    }

    pub(super) fn innovation(&self) -> &[f32; FRAME] {
        &self.innovation
    }

    /// Root mean square of each subframe's excitation.
    pub(super) fn excitation_rms(&self) -> [f32; 4] {
        std::array::from_fn(|i| rms(&self.excitation[START + i * SUBFRAME..START + (i + 1) * SUBFRAME]))
    }

    /// One frame; without bits it is concealed, or a pause goes on.
    pub(super) fn frame(&mut self, bits: Option<&mut Bits<'_>>) -> Result<[f32; FRAME], End> {
        let Some(bits) = bits else {
            return Ok(if self.pausing { self.nothing() } else { self.conceal() });
        };
        let Some(mode) = next_mode(bits)? else { return Ok(self.nothing()) };
        if bits.left() < mode.bits {
            return Err(End::Broken);
        }
        Ok(self.speech(mode, bits))
    }

    fn speech(&mut self, mode: &'static Mode, bits: &mut Bits<'_>) -> [f32; FRAME] {
        self.shift();
        let head = self.head(mode, bits);
        let mut best = BestPitch { pitch: 40, gain: 0.0, sum: 0.0 };
        for subframe in 0..4 {
            self.subframe(&head, bits, subframe * SUBFRAME, &mut best);
        }
        let mut sound = self.enhanced(mode, &best);
        if self.lost > 0 {
            // The excitation is scaled to the level that the frame names: what it was predicted from is made up.
            let factor = (head.gain / (rms(&self.excitation[START..START + FRAME]) + 1.0)).min(2.0);
            self.excitation[START..START + FRAME].iter_mut().for_each(|sample| *sample *= factor);
            sound.copy_from_slice(&self.excitation[START - SUBFRAME..START - SUBFRAME + FRAME]);
        }
        self.synthesis(&head.lsp, &mut sound);
        self.lsp = head.lsp;
        self.first = false;
        self.lost = 0;
        self.last_pitch = best.pitch;
        self.last_pitch_gain = 0.25 * best.sum;
        self.pitch_gains = [self.pitch_gains[1], self.pitch_gains[2], self.last_pitch_gain];
        sound
    }

    /// Spectrum, open loop pitch and gain of the frame.
    fn head(&mut self, mode: &'static Mode, bits: &mut Bits<'_>) -> Head {
        let lsp = read_lsp(mode.fine_lsp, bits);
        if self.lost > 0 {
            let distance: f32 = self.lsp.iter().zip(&lsp).map(|(old, new)| (old - new).abs()).sum();
            let damping = 0.6 * (-0.2 * distance).exp();
            self.memory.iter_mut().for_each(|value| *value *= damping);
        }
        if self.first || self.lost > 0 {
            self.lsp = lsp;
        }
        let pitch = if mode.open_loop_pitch { SHORTEST_PITCH + bits.take(7) } else { 0 };
        let forced_gain = if mode.forced_pitch { 0.066_667 * bits.take(4) as f32 } else { 0.0 };
        let gain = (bits.take(5) as f32 / 3.5).exp();
        self.pausing = mode.vocoder && bits.take(4) == 15;
        Head { mode, lsp, pitch, forced_gain, gain }
    }

    fn subframe(&mut self, head: &Head, bits: &mut Bits<'_>, offset: usize, best: &mut BestPitch) {
        let (mut periodic, pitch, gains) = match &head.mode.gains {
            None => self.forced(head, offset),
            Some(book) => self.predicted(head, book, bits, offset),
        };
        // As libspeex does: no sender may make the filters run away.
        periodic.iter_mut().for_each(|value| *value = if value.is_nan() { 0.0 } else { value.clamp(-32e3, 32e3) });
        best.consider(pitch, one_tap(&gains));

        let gain = match head.mode.subframe_gain {
            SubframeGain::None => head.gain,
            SubframeGain::OneBit => [0.704_69, 1.051_27][bits.take(1)] * head.gain,
            SubframeGain::ThreeBits => GAIN_CORRECTIONS[bits.take(3)] * head.gain,
        };
        let mut fixed = [0.0; SUBFRAME];
        match &head.mode.shapes {
            None => fixed.iter_mut().for_each(|value| *value = gain * noise(1.0, &mut self.seed)),
            Some(book) => innovation(book, bits, gain, &mut fixed),
        }
        if let (Some(book), true) = (&head.mode.shapes, head.mode.twice) {
            innovation(book, bits, 0.454_545 * gain, &mut fixed);
        }
        self.innovation[offset..offset + SUBFRAME].copy_from_slice(&fixed);
        let out = &mut self.excitation[START + offset..START + offset + SUBFRAME];
        if head.mode.vocoder {
            self.vocoder.fill(head, &fixed, out);
        } else {
            for ((out, periodic), fixed) in out.iter_mut().zip(&periodic).zip(&fixed) {
                *out = periodic + fixed;
            }
        }
    }

    /// The past excitation at the open loop pitch, with one gain for the frame.
    fn forced(&mut self, head: &Head, offset: usize) -> ([f32; SUBFRAME], usize, [f32; 3]) {
        let gain = head.forced_gain.min(0.99);
        let mut out = [0.0; SUBFRAME];
        for (i, value) in out.iter_mut().enumerate() {
            let at = START + offset + i;
            *value = self.excitation[at - head.pitch] * gain;
            self.excitation[at] = *value;
        }
        (out, head.pitch, [0.0, gain, 0.0])
    }

    /// The past excitation through three taps around a pitch.
    fn predicted(
        &self,
        head: &Head,
        book: &GainBook,
        bits: &mut Bits<'_>,
        offset: usize,
    ) -> ([f32; SUBFRAME], usize, [f32; 3]) {
        let lowest = if head.mode.open_loop_pitch { head.pitch } else { SHORTEST_PITCH };
        let pitch = lowest + bits.take(book.pitch_bits);
        let at = 4 * bits.take(book.gain_bits);
        let mut gains = [0, 1, 2].map(|i| 0.015_625 * f32::from(book.table[at + i]) + 0.5);
        if self.lost > 0 && pitch > offset {
            let most = (if self.lost < 4 { self.last_pitch_gain } else { 0.5 * self.last_pitch_gain }).min(0.95);
            let sum = one_tap(&gains);
            if sum > most {
                gains = gains.map(|gain| gain * most / sum);
            }
        }
        let mut out = [0.0; SUBFRAME];
        for tap in 0..3 {
            let lag = pitch + 1 - tap;
            for (i, value) in out.iter_mut().enumerate().take(lag + pitch) {
                // Beyond one period the excitation is not there yet: the period before it is repeated.
                let back = if i < lag { lag } else { lag + pitch };
                *value += gains[2 - tap] * self.excitation[START + offset + i - back];
            }
        }
        (out, pitch, gains)
    }

    /// The excitation, one subframe late, through the pitch enhancing comb filter.
    fn enhanced(&self, mode: &Mode, best: &BestPitch) -> [f32; FRAME] {
        let mut sound = [0.0; FRAME];
        let from = START - SUBFRAME;
        if mode.comb_gain > 0.0 && self.lost == 0 {
            for half in [0, FRAME / 2] {
                let out = &mut sound[half..half + FRAME / 2];
                comb(&self.excitation, from + half, best.pitch, mode.comb_gain, out);
            }
        } else {
            sound.copy_from_slice(&self.excitation[from..from + FRAME]);
        }
        sound
    }

    fn synthesis(&mut self, lsp: &[f32; ORDER], sound: &mut [f32; FRAME]) {
        for (subframe, samples) in sound.as_chunks_mut::<SUBFRAME>().0.iter_mut().enumerate() {
            let predictor = to_predictor(&interpolate(&self.lsp, lsp, subframe, MARGIN));
            self.response[subframe] = 1.0 + predictor.as_chunks().0.iter().map(|[a, b]| b - a).sum::<f32>();
            synthesize(&self.predictor, &mut self.memory, samples);
            self.predictor = predictor;
        }
        high_pass(if self.wide { &WIDE } else { &NARROW }, &mut self.high_pass, sound);
    }

    /// A frame that was not sent: noise of the last level.
    fn nothing(&mut self) -> [f32; FRAME] {
        self.shift();
        let predictor = widen(0.93, &self.predictor);
        let level = rms(&self.excitation[START..START + FRAME]);
        let mut sound: [f32; FRAME] = std::array::from_fn(|_| noise(level, &mut self.seed));
        self.excitation[START..START + FRAME].copy_from_slice(&sound);
        self.first = true;
        self.lost = 0;
        synthesize(&predictor, &mut self.memory, &mut sound);
        sound
    }

    /// A lost frame: the last pitch, fading, with noise.
    fn conceal(&mut self) -> [f32; FRAME] {
        let fading = FADING.get(self.lost).copied().unwrap_or(0.0);
        let [a, b, c] = self.pitch_gains;
        let median = a.min(b).max(a.max(b).min(c));
        self.last_pitch_gain = self.last_pitch_gain.min(median);
        let gain = fading * self.last_pitch_gain.min(0.85);
        let level = rms(&self.excitation[START..START + FRAME]) * fading * (1.0 - gain * gain);
        self.shift();
        let stray = noise(1.0 + self.lost as f32, &mut self.seed) as isize;
        let pitch = self.last_pitch.saturating_add_signed(stray).clamp(SHORTEST_PITCH, LONGEST_PITCH);
        for at in START..START + FRAME {
            self.excitation[at] = gain * self.excitation[at - pitch] + noise(level, &mut self.seed);
        }
        self.predictor = widen(0.98, &self.predictor);
        let mut sound = [0.0; FRAME];
        sound.copy_from_slice(&self.excitation[START - SUBFRAME..START - SUBFRAME + FRAME]);
        synthesize(&self.predictor, &mut self.memory, &mut sound);
        high_pass(&NARROW, &mut self.high_pass, &mut sound);
        self.first = false;
        self.lost += 1;
        self.pitch_gains = [b, c, gain];
        sound
    }

    /// Makes room for a frame; what stands there meanwhile is the last one.
    fn shift(&mut self) {
        self.excitation.copy_within(FRAME.., 0);
    }
}

impl Vocoder {
    /// Pulses at the pitch, as strong as the frame is voiced, and noise.
    fn fill(&mut self, head: &Head, noise: &[f32; SUBFRAME], out: &mut [f32]) {
        let voiced = (1.5 * (head.forced_gain - 0.2)).clamp(0.0, 1.0);
        let mut pulses = [0.0; SUBFRAME];
        while let Some(pulse) = pulses.get_mut(self.offset) {
            *pulse = (2.0 * head.pitch as f32).sqrt() * voiced * head.gain;
            self.offset += head.pitch;
        }
        self.offset -= SUBFRAME;
        for ((out, &pulse), &noise) in out.iter_mut().zip(&pulses).zip(noise) {
            let value =
                0.7 * pulse + 0.3 * self.pulse + (1.0 - 0.85 * voiced) * noise - 0.15 * voiced * self.innovation;
            (self.pulse, self.innovation) = (pulse, noise);
            self.mean = 0.8 * self.mean + 0.2 * value;
            *out = value - self.mean;
        }
    }
}

impl BestPitch {
    /// Takes this subframe's pitch if it is clearer than that so far, with an eye on multiples.
    fn consider(&mut self, pitch: usize, gain: f32) {
        self.sum += gain;
        let near = |a: usize, b: usize, within: usize| a.abs_diff(b) < within;
        let best = self.pitch;
        let multiple_of_best = near(2 * best, pitch, 3) || near(3 * best, pitch, 4) || near(4 * best, pitch, 5);
        let part_of_best = near(best, 2 * pitch, 3) || near(best, 3 * pitch, 4) || near(best, 4 * pitch, 5);
        if (gain > self.gain && !multiple_of_best)
            || (gain > 0.6 * self.gain && part_of_best)
            || (0.67 * gain > self.gain && multiple_of_best)
        {
            self.pitch = pitch;
            self.gain = self.gain.max(gain);
        }
    }
}

/// Finds the next narrow band frame: skips layers above it and messages in between. `None` is a frame without speech.
fn next_mode(bits: &mut Bits<'_>) -> Result<Option<&'static Mode>, End> {
    loop {
        for _ in 0..MOST_LAYERS {
            if bits.left() < 5 {
                return Err(End::Regular);
            }
            if bits.peek(1) == 0 {
                break;
            }
            bits.take(1);
            let mode = bits.take(3);
            bits.skip(LAYER_BITS[mode].saturating_sub(4));
        }
        if bits.left() < 5 {
            return Err(End::Regular);
        }
        if bits.take(1) == 1 {
            return Err(End::Broken);
        }
        match bits.take(4) {
            0 => return Ok(None),
            mode @ 1..=8 => return Ok(Some(&MODES[mode - 1])),
            13 => {
                let bytes = bits.take(4);
                bits.skip(5 + 8 * bytes);
            }
            14 => {
                let id = bits.take(4);
                bits.skip(MESSAGE_BITS[id]);
            }
            15 => return Err(End::Regular),
            _ => return Err(End::Broken),
        }
    }
}

fn read_lsp(fine: bool, bits: &mut Bits<'_>) -> [f32; ORDER] {
    let mut lsp: [f32; ORDER] = std::array::from_fn(|i| 0.25 * i as f32 + 0.25);
    let mut add = |table: &[i8], from: usize, size: usize, scale: f32| {
        let at = bits.take(6) * size;
        for (value, &step) in lsp[from..from + size].iter_mut().zip(&table[at..at + size]) {
            *value += scale * f32::from(step);
        }
    };
    add(&LSP, 0, 10, 0.003_906_2);
    add(&LSP_LOW_1, 0, 5, 0.001_953_1);
    if fine {
        add(&LSP_LOW_2, 0, 5, 0.000_976_56);
    }
    add(&LSP_HIGH_1, 5, 5, 0.001_953_1);
    if fine {
        add(&LSP_HIGH_2, 5, 5, 0.000_976_56);
    }
    lsp
}

/// The gain of one tap as strong as three.
fn one_tap(gains: &[f32; 3]) -> f32 {
    let side = |gain: f32| if gain > 0.0 { gain } else { -0.5 * gain };
    gains[1].abs() + side(gains[0]) + side(gains[2])
}

/// Adds what one pitch period before and after (or two before) have in common with these 80 samples.
fn comb(excitation: &[f32; BUFFER], from: usize, pitch: usize, comb_gain: f32, out: &mut [f32]) {
    let length = out.len();
    let here = &excitation[from..from + length];
    let pitch = pitch as isize;
    let far = if pitch > 40 { 2 * pitch } else { -pitch };
    let near = at_pitch(excitation, from, pitch, length);
    let other = at_pitch(excitation, from, far, length);
    let size = (1.0 + dot(here, here)).sqrt();
    let (c1, c2) = (0.4 * comb_gain + 0.07, 0.5 + 1.72 * 0.4 * comb_gain);
    let gain = |there: &[f32]| {
        let there_size = (1_000.0 + dot(there, there)).sqrt();
        let likeness = (dot(there, here).max(0.0) / size / there_size).min(1.0);
        c1 / (1.0 - c2 * likeness * likeness).max(c1) * size / there_size
    };
    let (near_share, far_share) = if pitch > 40 { (0.7, 0.3) } else { (0.6, 0.6) };
    let (near_gain, far_gain) = (near_share * gain(&near), far_share * gain(&other));
    for (i, out) in out.iter_mut().enumerate() {
        *out = here[i] + near_gain * near[i] + far_gain * other[i];
    }
    let (new, old) = (rms(out).max(1.0), rms(here).max(1.0));
    let level = old.min(new) / new;
    out.iter_mut().for_each(|sample| *sample *= level);
}

/// The excitation a pitch period before, at the best of the places around it to a quarter of a sample.
fn at_pitch(excitation: &[f32; BUFFER], from: usize, pitch: isize, length: usize) -> Vec<f32> {
    let at = |offset: isize| from.checked_add_signed(offset).map_or(0, |at| at.min(BUFFER - length));
    let here = &excitation[from..from + length];
    let whole: [f32; 7] = std::array::from_fn(|i| {
        let there = at(i as isize - pitch - 3);
        dot(here, &excitation[there..there + length])
    });
    let (mut best, mut shift, mut filter) = (whole[0], 0, None);
    for (i, &likeness) in whole.iter().enumerate() {
        if likeness > best {
            (best, shift) = (likeness, i);
        }
    }
    for (kind, taps) in SHIFTS.iter().enumerate() {
        for i in 0..7usize {
            let taps = (3usize.saturating_sub(i)..(10 - i).min(7)).map(|k| taps[k] * whole[i + k - 3]);
            let likeness: f32 = taps.sum();
            if likeness > best {
                (best, shift, filter) = (likeness, i, Some(kind));
            }
        }
    }
    let lag = pitch - shift as isize + 3;
    let sample = |offset: isize| {
        let at = from.checked_add_signed(offset);
        at.and_then(|at| excitation.get(at)).copied().unwrap_or(0.0)
    };
    let place = |i: usize| match filter {
        None => sample(i as isize - lag),
        Some(kind) => (0..7).map(|k| SHIFTS[kind][k] * sample(i as isize - lag + k as isize - 3)).sum(),
    };
    (0..length).map(place).collect()
}

const GAIN_CORRECTIONS: [f32; 8] =
    [0.061_130, 0.163_546, 0.310_413, 0.428_220, 0.555_887, 0.719_055, 0.938_694, 1.326_874];

/// Bits of each mode of a layer above, its header included; and how many such layers there are.
const LAYER_BITS: [usize; 8] = [0, 36, 112, 192, 352, 0, 0, 0];
const MOST_LAYERS: usize = 2;

/// Bits of in-band messages by number.
const MESSAGE_BITS: [usize; 16] = [1, 1, 4, 4, 4, 4, 4, 4, 8, 8, 16, 16, 32, 32, 64, 64];

/// Fading of lost frames.
const FADING: [f32; 10] = [1.0, 0.961, 0.852, 0.698, 0.527, 0.368, 0.237, 0.141, 0.077, 0.039];

const MARGIN: f32 = 0.002;

static NARROW: HighPass = HighPass { zeros: [0.964_46, -1.928_79, 0.964_46], poles: [-1.926_83, 0.930_71] };
static WIDE: HighPass = HighPass { zeros: [0.986_45, -1.972_77, 0.986_45], poles: [-1.972_26, 0.973_32] };

/// Interpolation by a half and a quarter either way.
const SHIFTS: [[f32; 7]; 3] = [
    [-0.011_915, 0.046_995, -0.152_373, 0.614_108, 0.614_108, -0.152_373, 0.046_995],
    [-0.032_485_5, 0.085_976_8, -0.204_298_6, 0.964_029_7, 0.208_642, -0.030_205_4, -0.006_364_6],
    [-0.006_364_6, -0.030_205_4, 0.208_642, 0.964_029_7, -0.204_298_6, 0.085_976_8, -0.032_485_5],
];
