//! Finds the tones in a channel of a recording, in their order.

use callspan::call::record::CallRecord;

/// Returns the frequencies in Hz of the tones in one channel of a record's recordings, in their order. If `pauses` is
/// true, a pause between two tones counts as the tone 0.
pub fn channel_tones(record: &CallRecord, channel: usize, pauses: bool) -> Vec<u32> {
    let mut windows = Vec::new();
    for recording in &record.recordings {
        let mut wav = hound::WavReader::open(&recording.path).unwrap();
        let samples: Vec<i16> = wav.samples().map(Result::unwrap).collect();
        let channel: Vec<f64> = samples.iter().skip(channel).step_by(2).map(|s| f64::from(*s)).collect();
        let size = recording.sample_rate as usize / WINDOWS_PER_SECOND;
        windows.extend(channel.chunks_exact(size).map(|window| tone_of(window, f64::from(recording.sample_rate))));
    }
    let mut out: Vec<u32> = Vec::new();
    for run in windows.chunk_by(|a, b| a == b) {
        match run[0] {
            Some(0) if !pauses || run.len() < PAUSE_WINDOWS => {}
            Some(tone) if run.len() >= TONE_WINDOWS && out.last() != Some(&tone) => out.push(tone),
            _ => {}
        }
    }
    let is_tone = |tone: &u32| *tone != 0;
    let (first, last) = (out.iter().position(is_tone), out.iter().rposition(is_tone));
    first.zip(last).map_or_else(Vec::new, |(first, last)| out[first..=last].to_vec())
}

/// Returns the frequency of the tone in a window, Hz. Returns 0 for silence, and `None` if no tone has most of the
/// energy.
fn tone_of(window: &[f64], rate: f64) -> Option<u32> {
    let energy: f64 = window.iter().map(|s| s * s).sum();
    if energy / (window.len() as f64) < SILENCE_AMPLITUDE * SILENCE_AMPLITUDE {
        return Some(0);
    }
    let powers = (3..=36).map(|n| (n * 100, power(window, f64::from(n * 100), rate)));
    let (tone, power) = powers.max_by(|a, b| a.1.total_cmp(&b.1))?;
    // A sine of amplitude a in n samples has the energy n·a²/2. Its own frequency has the squared magnitude (n·a/2)².
    (power * 2.0 / window.len() as f64 > TONE_SHARE * energy).then_some(tone)
}

/// Returns the squared magnitude of one frequency in a window (one bin of the Fourier transform).
fn power(window: &[f64], hz: f64, rate: f64) -> f64 {
    let step = std::f64::consts::TAU * hz / rate;
    let (re, im) = window.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, s)| {
        let phase = step * n as f64;
        (re + s * phase.cos(), im + s * phase.sin())
    });
    re * re + im * im
}

/// Number of windows in a second. In 100 ms, each multiple of 100 Hz has a whole number of periods.
const WINDOWS_PER_SECOND: usize = 10;
/// Minimum length of a tone, windows. A single window can be a transition between two tones.
const TONE_WINDOWS: usize = 2;
/// Minimum length of a pause, windows: one second.
const PAUSE_WINDOWS: usize = 10;
/// Maximum amplitude (root mean square) of silence, 0 to 32,768.
const SILENCE_AMPLITUDE: f64 = 50.0;
/// Minimum share of a window's energy, 0 to 1, in the frequency of a tone.
const TONE_SHARE: f64 = 0.7;
