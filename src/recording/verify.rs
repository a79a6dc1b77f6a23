//! Verifies a finished file against its call record: size, hash and length, and that it can be decoded to its end.
//!
//! The crate symphonia reads the files and decodes WAV. It has no Opus decoder, so libopus decodes Opus. The decoded
//! samples also yield the peaks for a waveform.

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
use super::peaks::PeakFinder;
use super::publish::{digest, digest_of};
use crate::call::record::RecordingFile;

/// Function that takes the decoded samples of both channels. If the function fails, the decoding ends.
type FrameOutput<'a> = &'a mut dyn FnMut(&[[i16; 2]]) -> io::Result<()>;

/// A file that matches its call record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRecording {
    /// Number of samples per channel that the file has.
    pub samples: u64,
    /// Peaks of the left and the right channel: lowest and highest sample of each interval. The intervals have equal
    /// length. There are as many intervals as requested, or fewer if the file has fewer samples.
    pub peaks: [Vec<(i16, i16)>; 2],
}

/// Why a file does not match its call record.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The file does not exist or cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    /// The size of the file differs from the record.
    #[error("it has {found} bytes, but the record says {expected}")]
    Size {
        /// Size of the file in bytes.
        found: u64,
        /// Size of the file in bytes according to the call record.
        expected: u64,
    },
    /// The hash (SHA-256) of the file differs from the record.
    #[error("it was changed: its SHA-256 differs from the record")]
    HashMismatch,
    /// The file is encrypted; only `verify_encrypted` can decode it.
    #[error("it is encrypted: its audio cannot be decoded without the identity file")]
    Encrypted,
    /// The file cannot be decoded, for this reason.
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
    /// The decoded audio is longer or shorter than the record says.
    #[error("it has {found} samples, but the times in the record say {expected}")]
    Length {
        /// Number of samples per channel that the file has.
        found: u64,
        /// Number of samples per channel according to the times in the record.
        expected: u64,
    },
}

/// Verifies a file against its entry in the record. Also finds the peaks for a waveform of at most [`PEAKS`] pieces.
///
/// # Errors
/// Returns the first mismatch.
pub fn verify(path: &Path, recording: &RecordingFile) -> Result<VerifiedRecording, VerifyError> {
    verify_with_peaks(path, recording, PEAKS)
}

/// Verifies a file like [`verify`]. Also finds the peaks for a waveform of at most `pieces` pieces.
///
/// # Errors
/// Returns the first mismatch.
pub(crate) fn verify_with_peaks(
    path: &Path,
    recording: &RecordingFile,
    pieces: u64,
) -> Result<VerifiedRecording, VerifyError> {
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

/// Verifies the content of an encrypted file against its entry in the record. Also finds the peaks for a waveform of at
/// most `pieces` pieces. The content is decrypted in memory only.
///
/// # Errors
/// Returns the first mismatch, or [`VerifyError::Io`] if no identity decrypts the file.
pub(crate) fn verify_encrypted(
    path: &Path,
    recording: &RecordingFile,
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
    recording: &RecordingFile,
    pieces: u64,
) -> Result<VerifiedRecording, VerifyError> {
    let expected = crate::render::samples_between(recording.starts_at, recording.ends_at, recording.sample_rate);
    let mut peaks = PeakFinder::new(expected, pieces);
    decode_from(source, recording.sample_rate, &mut |frames| {
        peaks.add(frames);
        Ok(())
    })?;
    if peaks.samples() != expected {
        return Err(VerifyError::Length { found: peaks.samples(), expected });
    }
    Ok(VerifiedRecording { samples: peaks.samples(), peaks: peaks.into_channels() })
}

/// Decodes a finished file of any [`super::config::RecordingFormat`] at its own sample rate.
///
/// # Errors
/// Fails with [`VerifyError::Io`] or [`VerifyError::Undecodable`].
pub fn decode(path: &Path, sample_rate: u32, out: &mut dyn FnMut(&[[i16; 2]])) -> Result<(), VerifyError> {
    decode_into(path, sample_rate, &mut |frames| {
        out(frames);
        Ok(())
    })
}

/// Decodes a finished file as [`decode`] does. Ends at once if `out` fails.
///
/// # Errors
/// Fails with [`VerifyError::Io`] or [`VerifyError::Undecodable`].
pub(super) fn decode_into(path: &Path, sample_rate: u32, out: FrameOutput<'_>) -> Result<(), VerifyError> {
    decode_from(Box::new(File::open(path)?), sample_rate, out)
}

fn decode_from(source: Box<dyn MediaSource>, sample_rate: u32, out: FrameOutput<'_>) -> Result<(), VerifyError> {
    let stream = MediaSourceStream::new(source, Default::default());
    let probe = symphonia::default::get_probe();
    let (format, metadata) = (FormatOptions::default(), MetadataOptions::default());
    let mut reader = probe.probe(&Hint::new(), stream, format, metadata).map_err(undecodable)?;
    let track = reader.default_track(TrackType::Audio).ok_or_else(|| undecodable("it has no audio"))?;
    let delay = u64::from(track.delay.unwrap_or(0));
    let codec =
        track.codec_params.as_ref().and_then(|p| p.audio()).ok_or_else(|| undecodable("it has no audio"))?.clone();
    if codec.channels.as_ref().map(|channels| channels.count()) != Some(2) {
        return Err(undecodable("it is not stereo"));
    }
    if codec.codec == CODEC_ID_OPUS {
        return decode_opus(reader.as_mut(), &codec, sample_rate, delay, out);
    }
    if codec.sample_rate != Some(sample_rate) {
        return Err(undecodable("its sample rate differs from the record"));
    }
    let decoders = symphonia::default::get_codecs();
    let mut decoder = decoders.make_audio_decoder(&codec, &AudioDecoderOptions::default()).map_err(undecodable)?;
    decode_pcm(reader.as_mut(), decoder.as_mut(), out)
}

fn decode_pcm(
    reader: &mut dyn FormatReader,
    decoder: &mut dyn AudioDecoder,
    out: FrameOutput<'_>,
) -> Result<(), VerifyError> {
    let mut samples: Vec<i16> = Vec::new();
    while let Some(packet) = reader.next_packet().map_err(undecodable)? {
        let decoded = decoder.decode(&packet).map_err(undecodable)?;
        decoded.copy_to_vec_interleaved(&mut samples);
        out(samples.as_chunks::<2>().0)?;
    }
    Ok(())
}

/// Decodes an Opus file. `delay` is the pre-skip at 48 kHz (RFC 7845 section 4.2). The last granule position gives the
/// number of samples to trim at the end.
fn decode_opus(
    reader: &mut dyn FormatReader,
    codec: &AudioCodecParameters,
    sample_rate: u32,
    delay: u64,
    out: FrameOutput<'_>,
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
    // The buffer has space for 120 ms of sound, the duration of the longest Opus packet.
    let mut samples = vec![0; 2 * sample_rate as usize * 120 / 1_000];
    while let Some(packet) = reader.next_packet().map_err(undecodable)? {
        let count = decoder.decode(&packet.data, &mut samples, false).map_err(undecodable)?;
        let kept = count.saturating_sub(here(packet.trim_end.get()));
        let from = skip.min(kept);
        skip -= from;
        out(samples.as_chunks::<2>().0.get(from..kept).unwrap_or_default())?;
    }
    Ok(())
}

fn undecodable(why: impl ToString) -> VerifyError {
    VerifyError::Undecodable(why.to_string())
}

/// Number of pieces of a waveform by default: about the width of a screen in pixels.
pub const PEAKS: u64 = 1_000;
/// Rate of the time stamps of Ogg Opus, Hz (RFC 7845).
const OPUS_CLOCK_HZ: u64 = 48_000;
