//! Whether a finished file is what its record says: hash, size, length, and that it can be decoded to its end.
//!
//! symphonia reads the files: it decodes WAV, and takes Ogg apart; it has no decoder for Opus, so those packets go to
//! libopus. On the way the peaks for a waveform are found.

use std::fs::File;
use std::io;
use std::path::Path;

use opus::MSDecoder;
use symphonia::core::codecs::audio::well_known::CODEC_ID_OPUS;
use symphonia::core::codecs::audio::{AudioCodecParameters, AudioDecoder, AudioDecoderOptions};
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::meta::MetadataOptions;

use super::encrypt::{self, AgeIdentities};
use super::publish::{digest, digest_of};
use crate::call::record::Recording;

/// A file that is what its record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecording {
    /// Samples of each channel.
    pub samples: u64,
    /// Lowest and highest sample of each piece, left and right: as many pieces of equal length as were asked for, fewer
    /// if the file has fewer samples.
    pub peaks: [Vec<(i16, i16)>; 2],
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not there, or cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Its size is another.
    #[error("it has {found} bytes, {expected} were written")]
    Size {
        /// Bytes of the file.
        found: u64,
        /// Bytes of the record.
        expected: u64,
    },
    /// Its contents are others.
    #[error("it was changed: its SHA-256 is not that of the record")]
    HashMismatch,
    /// It is encrypted: only [`verify_encrypted`] can decode it.
    #[error("it is encrypted: its sound cannot be decoded without the identity")]
    Encrypted,
    /// It cannot be decoded.
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
    /// It is decoded to another length.
    #[error("it has {found} samples, its times say {expected}")]
    Length {
        /// Samples of a channel in the file.
        found: u64,
        /// Samples that the record's times make.
        expected: u64,
    },
}

/// Checks a file against its entry in the record, and finds its peaks in up to [`PEAKS`] pieces.
///
/// # Errors
/// [`VerifyError`], the first thing that is wrong.
pub fn verify(path: &Path, recording: &Recording) -> Result<VerifiedRecording, VerifyError> {
    verify_with_peaks(path, recording, PEAKS)
}

/// As [`verify`], with the peaks of up to so many pieces.
///
/// # Errors
/// [`VerifyError`], the first thing that is wrong.
pub fn verify_with_peaks(path: &Path, recording: &Recording, pieces: u64) -> Result<VerifiedRecording, VerifyError> {
    let (bytes, sha256) = digest(path)?;
    if bytes != recording.bytes {
        return Err(VerifyError::Size { found: bytes, expected: recording.bytes });
    }
    if sha256 != recording.sha256 {
        return Err(VerifyError::HashMismatch);
    }
    if recording.plain_sha256.is_some() {
        return Err(VerifyError::Encrypted);
    }
    verify_audio(Box::new(File::open(path)?), recording, pieces)
}

/// Checks what is in an encrypted file against its entry in the record, and finds its peaks; it is decrypted on the way,
/// nothing is written.
///
/// # Errors
/// [`VerifyError`], the first thing that is wrong; [`VerifyError::Io`] when no identity opens it.
pub fn verify_encrypted(
    path: &Path,
    recording: &Recording,
    identities: &AgeIdentities,
    pieces: u64,
) -> Result<VerifiedRecording, VerifyError> {
    let (_, sha256) = digest_of(&mut encrypt::open_encrypted(path, identities)?)?;
    if Some(sha256) != recording.plain_sha256 {
        return Err(VerifyError::HashMismatch);
    }
    verify_audio(Box::new(encrypt::open_encrypted(path, identities)?), recording, pieces)
}

fn verify_audio(
    source: Box<dyn MediaSource>,
    recording: &Recording,
    pieces: u64,
) -> Result<VerifiedRecording, VerifyError> {
    let expected = crate::render::samples_between(recording.starts_at, recording.ends_at, recording.sample_rate);
    let mut peaks = PeakFinder::new(expected, pieces);
    decode_from(source, recording.sample_rate, &mut |frames| peaks.add(frames))?;
    if peaks.samples != expected {
        return Err(VerifyError::Length { found: peaks.samples, expected });
    }
    Ok(VerifiedRecording { samples: peaks.samples, peaks: peaks.channels })
}

/// Decodes a finished file of any [`super::config::RecordingFormat`] to its end, at its own sample rate.
///
/// # Errors
/// [`VerifyError::Io`] or [`VerifyError::Undecodable`].
pub fn decode(path: &Path, sample_rate: u32, out: &mut dyn FnMut(&[[i16; 2]])) -> Result<(), VerifyError> {
    decode_from(Box::new(File::open(path)?), sample_rate, out)
}

fn decode_from(
    source: Box<dyn MediaSource>,
    sample_rate: u32,
    out: &mut dyn FnMut(&[[i16; 2]]),
) -> Result<(), VerifyError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let probe = symphonia::default::get_probe();
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let mut reader = probe.probe(&Hint::new(), stream, format, metadata).map_err(undecodable)?;
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| undecodable("no sound in it"))?;
    let delay = u64::from(track.delay.unwrap_or(0));
    let codec =
        track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(|| undecodable("no sound in it"))?.clone();
    if codec.channels.as_ref().map(|channels| channels.count()) != Some(2) {
        return Err(undecodable("it is not stereo"));
    }
    if codec.codec == CODEC_ID_OPUS {
        return decode_opus(reader.as_mut(), &codec, sample_rate, delay, out);
    }
    if codec.sample_rate != Some(sample_rate) {
        return Err(undecodable("its sample rate is another"));
    }
    let decoders = symphonia::default::get_codecs();
    let mut decoder = decoders.make_audio_decoder(&codec, &AudioDecoderOptions::default()).map_err(undecodable)?;
    decode_pcm(reader.as_mut(), decoder.as_mut(), out)
}

fn decode_pcm(
    reader: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    out: &mut dyn FnMut(&[[i16; 2]]),
) -> Result<(), VerifyError> {
    let mut samples: Vec<i16> = Vec::new();
    while let Some(packet) = reader.next_packet().map_err(undecodable)? {
        let decoded = decoder.decode(&packet).map_err(undecodable)?;
        decoded.copy_to_vec_interleaved(&mut samples);
        out(samples.as_chunks::<2>().0);
    }
    Ok(())
}

/// `delay` is the pre-skip at 48 kHz (RFC 7845 section 4.2); the last packet says how much of it is too much.
fn decode_opus(
    reader: &mut dyn FormatReader,
    codec: &AudioCodecParameters,
    sample_rate: u32,
    delay: u64,
    out: &mut dyn FnMut(&[[i16; 2]]),
) -> Result<(), VerifyError> {
    let head = codec.extra_data.as_deref().unwrap_or_default();
    let (streams, coupled, mapping) = match (head.get(18), head.get(19..)) {
        (Some(0), _) => (1, 1, &[0, 1][..]),
        (Some(_), Some([streams, coupled, mapping @ ..])) if mapping.len() == 2 => (*streams, *coupled, mapping),
        _ => return Err(undecodable("its header is damaged")),
    };
    let mut decoder = MSDecoder::new(sample_rate, streams, coupled, mapping).map_err(undecodable)?;
    let here = |ticks: u64| (ticks * u64::from(sample_rate) / OPUS_CLOCK_HZ) as usize;
    let mut skip = here(delay);
    // Room for 120 ms, the longest packet.
    let mut samples = vec![0; 2 * sample_rate as usize * 120 / 1_000];
    while let Some(packet) = reader.next_packet().map_err(undecodable)? {
        let count = decoder.decode(&packet.data, &mut samples, false).map_err(undecodable)?;
        let kept = count.saturating_sub(here(packet.trim_end.get()));
        let from = skip.min(kept);
        skip -= from;
        out(samples.as_chunks::<2>().0.get(from..kept).unwrap_or_default());
    }
    Ok(())
}

fn undecodable(why: impl ToString) -> VerifyError {
    VerifyError::Undecodable(why.to_string())
}

/// Lowest and highest samples of pieces of equal length.
struct PeakFinder {
    expected: u64,
    pieces: u64,
    samples: u64,
    channels: [Vec<(i16, i16)>; 2],
}

impl PeakFinder {
    fn new(expected: u64, pieces: u64) -> Self {
        let pieces = expected.min(pieces);
        let empty = vec![(i16::MAX, i16::MIN); pieces as usize];
        Self { expected, pieces, samples: 0, channels: [empty.clone(), empty] }
    }

    fn add(&mut self, frames: &[[i16; 2]]) {
        for frame in frames {
            let piece = u128::from(self.samples) * u128::from(self.pieces) / u128::from(self.expected.max(1));
            self.samples += 1;
            for (channel, &sample) in self.channels.iter_mut().zip(frame) {
                // A file that is too long has no piece for its end.
                if let Some((low, high)) = channel.get_mut(piece as usize) {
                    (*low, *high) = ((*low).min(sample), (*high).max(sample));
                }
            }
        }
    }
}

/// Pieces of a waveform where nobody says how many: about the width of a screen.
pub const PEAKS: u64 = 1_000;
/// RFC 7845: Ogg Opus counts in this clock.
const OPUS_CLOCK_HZ: u64 = 48_000;
