//! Scores a recording: each voice must be in its own channel, at the time at which it was heard.
//!
//! The expected sound comes from the capture (G.711, decoded in this module) or from the played speech (other codecs).
//! The score searches it in the recording window by window, and shares no code with the code under test.

/// Sampling rate of all compared sound, Hz.
pub const RATE: i64 = 8_000;
/// Number of samples in a window: 1 s.
const WINDOW: usize = 8_000;
/// Maximum distance from its position at which a voice is searched, samples: 250 ms.
const FAR: i64 = 2_000;
/// Maximum distance at which the other side's voice is searched, samples: 60 ms. Echo and crosstalk are near.
const NEAR_LEAK: i64 = 480;

/// One RTP packet of a capture.
#[derive(Clone, Debug)]
pub struct CapturedRtp {
    pub at_ns: i64,
    pub time: u32,
    pub pt: u8,
    pub payload: Vec<u8>,
}

/// The expected sound of one channel.
#[derive(Clone, Debug)]
pub struct ExpectedTrack {
    pub samples: Vec<i16>,
    /// Whether each sample is known to have been heard. Empty if only the speech is known, and not its packets.
    pub heard: Vec<bool>,
}

/// The result of comparing a channel with its expected sound.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChannelScore {
    /// Number of windows with speech.
    pub windows: usize,
    /// Number of windows with speech that was not found within [`FAR`].
    pub lost: usize,
    /// Median lag of the windows, ms; positive if the recording is late.
    pub lag_ms: f64,
    /// Largest difference between a window's lag and the median, ms.
    pub spread_ms: f64,
    /// Median similarity of the windows, each at the position where it is most similar.
    pub corr: f64,
    /// Time in which the expected sound is loud and the recording is silent, ms.
    pub missing_ms: usize,
    /// Similarity to the other side's voice. A value of about 0.08 is chance.
    pub leak: f64,
}

impl ExpectedTrack {
    pub fn silence(len: usize) -> Self {
        Self { samples: vec![0; len], heard: Vec::new() }
    }

    /// Places G.711 packets at the times at which they were heard. The times come from the RTP timestamps, with the
    /// offset of the packet that had the least delay within 2 s. Other payloads are left out.
    pub fn lay_g711(&mut self, packets: &[CapturedRtp], start_ns: i64) {
        self.heard.resize(self.samples.len(), false);
        let (mut last, mut time) = (None::<u32>, 0_i64);
        let mut placed = Vec::new();
        for p in packets {
            time += last.map_or(0, |last| i64::from(p.time.wrapping_sub(last).cast_signed()));
            last = Some(p.time);
            placed.push((p.at_ns - time * 125_000, p));
        }
        for (i, (delay, p)) in placed.iter().enumerate() {
            let time_ns = p.at_ns - delay;
            let around = placed[i.saturating_sub(200)..].iter().take(400);
            let of_its_kind =
                around.filter(|(d, q)| (q.at_ns - p.at_ns).abs() < 2_000_000_000 && (d - delay).abs() < 200_000_000);
            let earliest = of_its_kind.map(|(d, _)| *d).min().unwrap_or(*delay);
            let decode: fn(u8) -> i16 = match p.pt {
                0 => ulaw,
                8 => alaw,
                _ => continue,
            };
            let from = to_sample(earliest + time_ns - start_ns);
            for (k, byte) in p.payload.iter().enumerate() {
                if let Ok(at) = usize::try_from(from + k as i64)
                    && at < self.samples.len()
                {
                    (self.samples[at], self.heard[at]) = (decode(*byte), true);
                }
            }
        }
    }

    /// Places speech that was played in a loop from one time to another. The first second is left out, because the
    /// player does not send speech from its beginning.
    pub fn lay_played(&mut self, speech: &[i16], span_ns: (i64, i64), start_ns: i64) {
        let (from, to) = (to_sample(span_ns.0 - start_ns), to_sample(span_ns.1 - start_ns));
        for at in (from + RATE).max(0)..to.min(self.samples.len() as i64) {
            self.samples[at as usize] = speech[((at - from) as usize) % speech.len()];
        }
    }
}

/// Compares a channel with the expected sound of its own side and of the other side.
pub fn judge(channel: &[i16], own: &ExpectedTrack, other: &ExpectedTrack) -> ChannelScore {
    let mut score = ChannelScore::default();
    let (mut lags, mut likeness, mut leaks) = (Vec::new(), Vec::new(), Vec::new());
    for at in (0..own.samples.len().saturating_sub(WINDOW - 1)).step_by(WINDOW) {
        if is_loud(&own.samples[at..at + WINDOW]) {
            score.windows += 1;
            let (lag, corr) = find(&own.samples[at..at + WINDOW], channel, at as i64);
            if corr > 0.5 {
                lags.push(lag as f64 / 8.0);
                likeness.push(corr);
            } else {
                score.lost += 1;
            }
        }
        if (at / WINDOW).is_multiple_of(2) && is_loud(&other.samples[at..at + WINDOW]) {
            leaks.push(best(&other.samples[at..at + WINDOW], channel, at as i64, (-NEAR_LEAK, NEAR_LEAK)).1);
        }
    }
    score.lag_ms = median(&mut lags);
    score.spread_ms = lags.iter().map(|l| (l - score.lag_ms).abs()).fold(0.0, f64::max);
    score.corr = median(&mut likeness);
    score.leak = median(&mut leaks);
    score.missing_ms = missing(channel, own, (score.lag_ms * 8.0).round() as i64);
    score
}

/// Returns how many samples after its expected position a window is found in a channel, and the similarity there.
fn find(window: &[i16], channel: &[i16], at: i64) -> (i64, f64) {
    let near = best(window, channel, at, (-4, 4));
    if near.1 > 0.95 {
        return near;
    }
    // The first search runs at 2 kHz, which takes a sixteenth of the time.
    let coarse = best(&quarter(window), &quarter(channel), at / 4, (-FAR / 4, FAR / 4));
    let around = coarse.0 * 4;
    // Neighbouring periods of a voice are similar, too. So the finer search includes them.
    let far = best(window, channel, at, (around - 120, around + 120));
    if far.1 > 0.6 {
        return far;
    }
    // At 2 kHz another word can be more similar. So the expected position is searched, too, with the delay that any
    // codec may have.
    let here = best(window, channel, at, (-160, 160));
    if here.1 > far.1 { here } else { far }
}

/// Returns the lag within `range` at which window and channel are most similar (normalised correlation).
fn best(window: &[i16], channel: &[i16], at: i64, range: (i64, i64)) -> (i64, f64) {
    let own = energy(window);
    let mut found = (0, 0.0);
    for lag in range.0..=range.1 {
        // The part of a window before the beginning of the recording is left out.
        let before = usize::try_from(-(at + lag)).unwrap_or(0).min(window.len());
        let (from, part) = (usize::try_from(at + lag).unwrap_or(0), &window[before..]);
        let Some(there) = channel.get(from..from + part.len()) else { continue };
        let own = if before == 0 { own } else { energy(part) };
        let energies = (own * energy(there)).sqrt();
        let corr = if energies > 0.0 { product(part, there) as f64 / energies } else { 0.0 };
        if corr > found.1 {
            found = (lag, corr);
        }
    }
    found
}

fn energy(samples: &[i16]) -> f64 {
    product(samples, samples) as f64
}

/// Returns the sum of products of two sounds. It uses indices, because an iterator takes five times as long in a debug
/// build.
fn product(a: &[i16], b: &[i16]) -> i64 {
    let (mut sum, mut i) = (0, 0);
    while i < a.len() {
        sum += a[i] as i64 * b[i] as i64;
        i += 1;
    }
    sum
}

fn is_loud(samples: &[i16]) -> bool {
    energy(samples) / samples.len() as f64 > 150.0 * 150.0
}

fn missing(channel: &[i16], own: &ExpectedTrack, lag: i64) -> usize {
    if own.heard.is_empty() {
        return 0;
    }
    let silent = |at: usize| {
        let heard = |i: &usize| own.heard[*i] && own.samples[*i].unsigned_abs() > 200;
        let is_there = |i: usize| usize::try_from(i as i64 + lag).ok().and_then(|i| channel.get(i));
        (at..at + 80).filter(heard).count() > 20
            && (at..at + 80).all(|i| is_there(i).is_none_or(|s| s.unsigned_abs() < 8))
    };
    let edge = lag.unsigned_abs() as usize; // sound that the lag moved out of the file is late and not missing
    let blocks = (0..own.samples.len().saturating_sub(80 + edge)).step_by(80);
    blocks.filter(|at| *at >= edge && silent(*at)).count() * 10
}

fn quarter(samples: &[i16]) -> Vec<i16> {
    samples.chunks_exact(4).map(|c| ((c[0] as i32 + c[1] as i32 + c[2] as i32 + c[3] as i32) / 4) as i16).collect()
}

/// Converts 16 kHz to 8 kHz without delay, by a windowed sinc filter of 31 taps.
pub fn halved(samples: &[i16]) -> Vec<i16> {
    let tap = |k: i32| {
        let x = std::f64::consts::PI * f64::from(k) * 0.46;
        let sinc = if k == 0 { 1.0 } else { x.sin() / x };
        0.46 * sinc * (0.5 + 0.5 * (std::f64::consts::PI * f64::from(k) / 16.0).cos())
    };
    let taps: Vec<i64> = (-15..=15).map(|k| (tap(k) * 65_536.0).round() as i64).collect();
    let padded = [&[0; 15][..], samples, &[0; 16]].concat();
    let at = |i: usize| (product_with(&taps, &padded[i..i + 31]) >> 16).clamp(-32_768, 32_767) as i16;
    (0..samples.len()).step_by(2).map(at).collect()
}

fn product_with(taps: &[i64], samples: &[i16]) -> i64 {
    let (mut sum, mut i) = (0, 0);
    while i < taps.len() {
        sum += taps[i] * samples[i] as i64;
        i += 1;
    }
    sum
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn to_sample(ns: i64) -> i64 {
    (ns * RATE + 500_000_000).div_euclid(1_000_000_000)
}

/// Decodes ITU-T G.711 mu-law.
pub fn ulaw(byte: u8) -> i16 {
    let u = !byte;
    let magnitude = (((i16::from(u & 15) << 3) + 132) << ((u >> 4) & 7)) - 132;
    if u & 0x80 == 0 { magnitude } else { -magnitude }
}

/// Decodes ITU-T G.711 A-law.
pub fn alaw(byte: u8) -> i16 {
    let a = byte ^ 0x55;
    let (exponent, mantissa) = ((a >> 4) & 7, i16::from(a & 15) << 4);
    let magnitude = if exponent == 0 { mantissa + 8 } else { (mantissa + 0x108) << (exponent - 1) };
    if a & 0x80 == 0 { -magnitude } else { magnitude }
}

mod tests {
    use super::{CapturedRtp, ChannelScore, ExpectedTrack, WINDOW, halved, judge, ulaw};

    /// Returns six seconds of a voice: noise with a level that rises and falls five times a second. Each seed is
    /// another voice.
    fn voice(seed: u32) -> Vec<i16> {
        let mut state = seed;
        let mut noise = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from((state >> 16) as i16)
        };
        let mut low = 0.0;
        (0..6 * WINDOW)
            .map(|i| {
                low += 0.3 * (noise() - low);
                (low * 0.3 * (1.0 + (i as f64 / 255.0).sin())) as i16
            })
            .collect()
    }

    fn tracks() -> (ExpectedTrack, ExpectedTrack) {
        let track = |seed| ExpectedTrack { samples: voice(seed), heard: vec![true; 6 * WINDOW] };
        (track(1), track(2))
    }

    fn score(change: impl Fn(&[i16]) -> Vec<i16>) -> ChannelScore {
        let (own, other) = tracks();
        judge(&change(&own.samples), &own, &other)
    }

    fn late(samples: &[i16], by: usize) -> Vec<i16> {
        [&vec![0; by], &samples[..samples.len() - by]].concat()
    }

    #[test]
    fn a_perfect_recording_has_a_perfect_score() {
        let s = score(<[i16]>::to_vec);
        assert_eq!((s.windows, s.lost, s.missing_ms), (6, 0, 0), "{s:?}");
        assert!(s.lag_ms == 0.0 && s.spread_ms == 0.0 && s.corr > 0.999 && s.leak < 0.15, "{s:?}");
    }

    #[test]
    fn a_recording_that_is_late_or_early_shows_by_how_much() {
        let s = score(|own| late(own, 40));
        assert!((s.lag_ms - 5.0).abs() < 0.01 && s.spread_ms < 0.2, "40 samples are 5 ms: {s:?}");
        let s = score(|own| [&own[1_200..], &[0; 1_200]].concat());
        assert!((s.lag_ms + 150.0).abs() < 0.01, "{s:?}");
    }

    #[test]
    fn a_recording_that_jumps_half_way_has_a_spread() {
        let s = score(|own| [&own[..3 * WINDOW], &late(&own[3 * WINDOW..], 64)].concat());
        assert!(s.spread_ms > 7.0, "64 samples are 8 ms: {s:?}");
    }

    #[test]
    fn a_gap_in_the_recording_is_missing_sound() {
        let s = score(|own| {
            let mut gapped = own.to_vec();
            gapped[16_300..18_000].fill(0);
            gapped
        });
        assert!((180..=220).contains(&s.missing_ms), "1,700 samples are 212 ms: {s:?}");
    }

    #[test]
    fn swapped_channels_are_lost_and_leak() {
        let (own, other) = tracks();
        let s = judge(&other.samples, &own, &other);
        assert!(s.lost == 6 && s.leak > 0.99, "{s:?}");
    }

    #[test]
    fn a_little_of_the_other_voice_is_a_leak() {
        let (own, other) = tracks();
        let mixed: Vec<i16> = own.samples.iter().zip(&other.samples).map(|(a, b)| a + b / 4).collect();
        let s = judge(&mixed, &own, &other);
        assert!(s.lost == 0 && s.leak > 0.15, "a quarter of the other voice: {s:?}");
    }

    #[test]
    fn packets_are_laid_by_their_stamps_and_the_earliest_of_them() {
        let packet = |i: i64, late_ms: i64| CapturedRtp {
            at_ns: 1_000_000_000 + (i * 20 + late_ms) * 1_000_000,
            time: (u32::MAX - 200).wrapping_add(i as u32 * 160),
            pt: 0,
            payload: vec![0x10 + i as u8; 160],
        };
        // The timestamps wrap after the second packet. The third packet is 15 ms late, and the first is 3 ms late.
        let packets = [packet(0, 3), packet(1, 0), packet(2, 15), packet(3, 1)];
        let mut track = ExpectedTrack::silence(800);
        track.lay_g711(&packets, 1_000_000_000);
        for (i, sample) in [(0, 0x10), (159, 0x10), (160, 0x11), (320, 0x12), (480, 0x13), (639, 0x13)] {
            assert_eq!(track.samples[i], ulaw(sample), "sample {i}");
        }
        assert!(track.heard[639] && !track.heard[640]);
    }

    #[test]
    fn halving_keeps_the_place_and_the_level_of_a_tone() {
        let tone = |hz: f64, rate: f64, n: usize| -> Vec<i16> {
            (0..n).map(|i| (8_000.0 * (i as f64 * hz * std::f64::consts::TAU / rate).sin()) as i16).collect()
        };
        let (got, wanted) = (halved(&tone(1_000.0, 16_000.0, 4_000)), tone(1_000.0, 8_000.0, 2_000));
        let worst = got[50..1_950].iter().zip(&wanted[50..]).map(|(a, b)| (a - b).abs()).max();
        assert!(worst.is_some_and(|w| w < 80), "1 % of the amplitude: {worst:?}");
    }
}
