//! Converts a finished recording to another format, for a download. The original file is not changed.

use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

use serde::Deserialize;

use super::config::RecordingFormat;
use super::ogg_opus::OggOpusWriter;
use super::pcm::PcmWriter;
use super::verify::{VerifyError, decode_into};
use crate::call::record::RecordingFile;

/// A format in which a recording can be downloaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DownloadFormat {
    /// WAV with 16-bit PCM samples, which every program can play.
    Wav,
    /// Opus in Ogg: about a tenth of the size of WAV.
    Opus,
}

impl DownloadFormat {
    /// Both formats for downloads.
    pub(crate) const ALL: [Self; 2] = [Self::Wav, Self::Opus];

    /// Returns the name of the format in URLs.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Opus => "opus",
        }
    }

    /// Returns whether a recording has this format already.
    pub(crate) fn is_format_of(self, recording: &RecordingFile) -> bool {
        recording.format == self.recording_format().name()
    }

    /// Returns the file name extension of the format.
    pub(crate) const fn extension(self) -> &'static str {
        self.recording_format().extension()
    }

    const fn recording_format(self) -> RecordingFormat {
        match self {
            Self::Wav => RecordingFormat::Wav,
            Self::Opus => RecordingFormat::OggOpus,
        }
    }
}

/// Converts the recording at `path` and writes it to `out`, in constant memory. If a write to `out` fails, the
/// conversion ends at once.
///
/// # Errors
/// Fails if the file cannot be read or decoded, or if `out` fails.
pub(crate) fn convert(
    path: &Path,
    recording: &RecordingFile,
    to: DownloadFormat,
    out: impl Write,
) -> Result<(), VerifyError> {
    let rate = recording.sample_rate;
    let expected = crate::render::samples_between(recording.starts_at, recording.ends_at, rate);
    let mut found = 0;
    let checked = |found| if found == expected { Ok(()) } else { Err(VerifyError::Length { found, expected }) };
    match to {
        DownloadFormat::Wav => {
            let mut wav = PcmWriter::new(Forward(out), rate, expected)?;
            decode_into(path, rate, &mut |frames| {
                found += frames.len() as u64;
                wav.write(frames)
            })?;
            checked(found)?;
            Ok(wav.finish()?)
        }
        DownloadFormat::Opus => {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let mut opus = OggOpusWriter::new(out, rate, name)?;
            decode_into(path, rate, &mut |frames| {
                found += frames.len() as u64;
                opus.write(frames)
            })?;
            checked(found)?;
            Ok(opus.finish()?)
        }
    }
}

/// An output in which a writer cannot seek. A WAV writer seeks only to correct the lengths in its header. It does so if
/// the recording is longer or shorter than its record says. In this case the conversion fails.
struct Forward<W>(W);

impl<W: Write> Write for Forward<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W> Seek for Forward<W> {
    fn seek(&mut self, _: SeekFrom) -> io::Result<u64> {
        Err(io::Error::other("the recording is longer or shorter than its record says"))
    }
}
