//! Tests of every output format: the length of the file, the position of each sample, and the result of `verify`.

use std::path::Path;

use callspan::call::config::Config;
use callspan::call::event::EndedCall;
use callspan::call::record::Side;
use callspan::recording::config::{Config as RecordingConfig, RecordingFormat};
use callspan::recording::verify::{PEAKS, VerifyError, decode, verify};
use callspan::recording::{FolderLayout, Recorder};

use crate::support::phones::{EngineWithSpool, MirroredTraffic, RecordedCall, RtpPhone, recorded};

/// Returns a call. The caller talks from 1 s and the callee from 3 s, both until 7.003 s. That is not a whole number of
/// packets.
fn call() -> (EngineWithSpool, EndedCall) {
    let mut wire = MirroredTraffic::answered();
    RtpPhone::new(Side::Caller).talk(&mut wire, 1_000.0, 7_000.0);
    RtpPhone::new(Side::Callee).talk(&mut wire, 3_000.0, 7_000.0);
    wire.bye(7_003.0);
    let mut stage = EngineWithSpool::new(Config::default());
    stage.play(&wire.sorted());
    stage.engine.handle_end_of_capture(&mut stage.spool);
    let more = crate::support::phones::ended(&mut stage.engine);
    stage.ended.extend(more);
    let call = stage.ended[0].clone();
    (stage, call)
}

fn as_format(stage: &EngineWithSpool, call: &EndedCall, format: RecordingFormat) -> (RecordedCall, Vec<[i16; 2]>) {
    let recorded = recorded_as(stage, call, format);
    let file = &recorded.record.recordings[0];
    let mut frames = Vec::new();
    decode(Path::new(&file.path), file.sample_rate, &mut |some| frames.extend_from_slice(some)).unwrap();
    (recorded, frames)
}

fn recorded_as(stage: &EngineWithSpool, call: &EndedCall, format: RecordingFormat) -> RecordedCall {
    recorded(call, &stage.spool, RecordingConfig { format, ..RecordingConfig::default() })
}

/// Returns by how many samples `other` is later than `one`, and their similarity. Compares a range of one channel.
fn offset(one: &[[i16; 2]], other: &[[i16; 2]], channel: usize, range: std::ops::Range<usize>) -> (i64, f64) {
    let energy = |frames: &[[i16; 2]]| frames.iter().map(|f| f64::from(f[channel]).powi(2)).sum::<f64>().sqrt();
    let part = &one[range.clone()];
    let likeness = |lag: i64| {
        let from = (range.start as i64 + lag) as usize;
        let shifted = &other[from..from + part.len()];
        let dot: f64 = part.iter().zip(shifted).map(|(a, b)| f64::from(a[channel]) * f64::from(b[channel])).sum();
        dot / (energy(part) * energy(shifted)).max(1.0)
    };
    (-80..=80).map(|lag| (lag, likeness(lag))).max_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[test]
fn every_format_has_the_same_samples_at_the_same_places() {
    let (stage, call) = call();
    let (wav, pcm) = as_format(&stage, &call, RecordingFormat::Wav);
    assert_eq!((pcm.len(), &pcm), (6_003 * 8, &wav.frames), "symphonia reads what hound reads");
    for format in RecordingFormat::ALL {
        let (recorded, frames) = as_format(&stage, &call, format);
        let file = &recorded.record.recordings[0];
        assert_eq!(file.format, format.name());
        assert!(file.path.ends_with(format.extension()));
        assert_eq!(frames.len(), pcm.len(), "{format:?}");
        // At 24 kbit/s, Opus changes the waveform of white noise. So the similarity is low, but the position must be
        // exact.
        let least = if format == RecordingFormat::OggOpus { 0.5 } else { 0.999 };
        for (channel, from) in [(0, 4_000), (0, 40_000), (1, 20_000), (1, 40_000)] {
            let (lag, likeness) = offset(&pcm, &frames, channel, from..from + 4_000);
            assert_eq!(lag, 0, "{format:?} channel {channel} at {from}");
            assert!(likeness > least, "{format:?} channel {channel}: {likeness}");
        }
        let right = |from: usize, to: usize| frames[from..to].iter().map(|f| f[1].unsigned_abs()).max().unwrap();
        assert!(right(0, 15_000) <= 8, "{format:?}: {} of the left is heard in the right", right(0, 15_000));
        let verified = verify(Path::new(&file.path), file).unwrap();
        assert_eq!((verified.samples, verified.peaks[0].len() as u64), (pcm.len() as u64, PEAKS));
        assert!(verified.peaks[0].iter().all(|(low, high)| *low < -1_000 && *high > 1_000), "it is loud everywhere");
        assert!(verified.peaks[1][..300].iter().all(|(low, high)| *low >= -8 && *high <= 8), "and silent at first");
        eprintln!(
            "{format:?}: {} bytes, {:.1} of WAV",
            file.bytes,
            file.bytes as f64 / wav.record.recordings[0].bytes as f64
        );
    }
}

#[test]
fn rendering_is_deterministic_and_verify_finds_changed_bytes() {
    let (stage, call) = call();
    for format in RecordingFormat::ALL {
        let (one, two) = (recorded_as(&stage, &call, format), recorded_as(&stage, &call, format));
        let file = &one.record.recordings[0];
        assert_eq!(file.sha256, two.record.recordings[0].sha256, "{format:?}");
        let path = Path::new(&file.path);
        let good = std::fs::read(path).unwrap();
        let mut bad = good.clone();
        bad[good.len() / 2] ^= 1;
        std::fs::write(path, &bad).unwrap();
        assert!(matches!(verify(path, file), Err(VerifyError::HashMismatch)), "{format:?}");
        std::fs::write(path, &good[..good.len() - 1]).unwrap();
        assert!(matches!(verify(path, file), Err(VerifyError::Size { .. })), "{format:?}");
        std::fs::write(path, &good).unwrap();
        let longer =
            callspan::call::record::RecordingFile { ends_at: file.ends_at.offset(1_000_000_000), ..file.clone() };
        assert!(matches!(verify(path, &longer), Err(VerifyError::Length { .. })), "{format:?}");
        std::fs::remove_file(path).unwrap();
        assert!(matches!(verify(path, file), Err(VerifyError::Io(_))), "{format:?}");
    }
}

#[test]
fn parts_of_every_format_abut_to_the_sample() {
    let (stage, call) = call();
    let (_, pcm) = as_format(&stage, &call, RecordingFormat::Wav);
    for format in RecordingFormat::ALL {
        let folder = tempfile::tempdir().unwrap();
        // Without a configured rate, segments would be shorter, because a call may change to a wideband codec.
        let sample_rate = Some(8_000);
        let config =
            RecordingConfig { dir: folder.path().to_owned(), format, sample_rate, ..RecordingConfig::default() };
        // The size limit of each format allows two seconds and a little more.
        let limit = match format {
            RecordingFormat::Wav => 70_000,
            RecordingFormat::WavAlaw | RecordingFormat::WavUlaw => 35_000,
            RecordingFormat::OggOpus => 35_000,
        };
        let record = Recorder::new(config, FolderLayout::Flat, Some(limit)).record(&call, &stage.spool).unwrap();
        let parts = &record.recordings;
        assert_eq!(parts.len(), 4, "{format:?}");
        assert!(parts.windows(2).all(|pair| pair[0].ends_at == pair[1].starts_at));
        let mut frames = Vec::new();
        for part in parts {
            assert!(part.bytes <= limit, "{format:?}: {} bytes", part.bytes);
            verify(Path::new(&part.path), part).unwrap();
            decode(Path::new(&part.path), part.sample_rate, &mut |some| frames.extend_from_slice(some)).unwrap();
        }
        assert_eq!(frames.len(), pcm.len());
        for from in [15_800, 31_800] {
            assert_eq!(offset(&pcm, &frames, 0, from..from + 4_000).0, 0, "{format:?} across the cut at {from}");
        }
    }
}

#[test]
fn a_wideband_opus_file_is_in_place_too() {
    let (stage, call) = call();
    let config = |format| RecordingConfig { format, sample_rate: Some(16_000), ..RecordingConfig::default() };
    let wav = recorded(&call, &stage.spool, config(RecordingFormat::Wav));
    let ogg = recorded(&call, &stage.spool, config(RecordingFormat::OggOpus));
    let file = &ogg.record.recordings[0];
    let mut frames = Vec::new();
    decode(Path::new(&file.path), 16_000, &mut |some| frames.extend_from_slice(some)).unwrap();
    assert_eq!((file.sample_rate, frames.len()), (16_000, wav.frames.len()));
    assert_eq!(offset(&wav.frames, &frames, 0, 40_000..46_000).0, 0);
    let law = recorded(&call, &stage.spool, config(RecordingFormat::WavAlaw));
    assert_eq!(law.record.recordings[0].sample_rate, 8_000, "G.711 is 8 kHz");
}
