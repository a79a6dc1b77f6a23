//! The body of an upload: streams one file with a known length, and computes the MD5 of the sent bytes.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use md5::{Digest, Md5};
use reqwest::multipart::{Form, Part};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::delivery::WavSlice;
use crate::text::hex;

/// A multipart form that contains one recording.
pub(super) struct UploadForm {
    pub(super) form: Form,
    /// Length of the file part of the form in bytes.
    pub(super) length: u64,
    pub(super) progress: UploadProgress,
}

/// Progress of an upload. The body stream updates it, and a watchdog looks for a stall.
#[derive(Clone, Debug)]
pub(super) struct UploadProgress(Arc<Mutex<UploadCounters>>);

#[derive(Debug)]
struct UploadCounters {
    md5: Md5,
    bytes: u64,
    length: u64,
    moved_at: Instant,
    /// Error that ended the upload while the recording was read; `None` if there was none.
    read_error: Option<String>,
}

impl UploadProgress {
    #[expect(clippy::disallowed_methods, reason = "an I/O module: a stalled transfer is seen by the monotonic clock")]
    fn new(length: u64) -> Self {
        let (md5, moved_at) = (Md5::new(), Instant::now());
        Self(Arc::new(Mutex::new(UploadCounters { md5, bytes: 0, length, moved_at, read_error: None })))
    }

    #[expect(clippy::disallowed_methods, reason = "an I/O module: a stalled transfer is seen by the monotonic clock")]
    fn add(&self, bytes: &[u8]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.md5.update(bytes);
        inner.bytes += bytes.len() as u64;
        inner.moved_at = Instant::now();
    }

    fn note_read_error(&self, error: &std::io::Error) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read_error = Some(error.to_string());
    }

    /// Returns the error that ended the upload while the recording was read; `None` if there was none.
    pub(super) fn read_error(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read_error.clone()
    }

    /// Returns the time since the HTTP client last read bytes of the body to send. Returns `None` after it has read all
    /// bytes.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.bytes < inner.length).then(|| inner.moved_at.elapsed())
    }

    /// Returns the MD5 of the sent bytes in lower-case hexadecimal; `None` before all bytes were sent.
    pub(super) fn md5(&self) -> Option<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.bytes == inner.length).then(|| hex(&inner.md5.clone().finalize()))
    }
}

impl UploadForm {
    /// Opens the recording and creates a form with the single part `file`. The length is known in advance, because
    /// Pyrus requires a Content-Length.
    ///
    /// # Errors
    /// Returns an error if the file cannot be opened or is empty, or if the slice cannot be cut from it.
    pub(super) async fn open(path: &Path, slice: Option<WavSlice>, name: String) -> std::io::Result<Self> {
        let mut file = tokio::fs::File::open(path).await?;
        let metadata = file.metadata().await?;
        if !metadata.is_file() || metadata.len() == 0 {
            return Err(std::io::Error::other("it is empty or no regular file"));
        }
        let (header, samples) = match slice {
            None => (Vec::new(), metadata.len()),
            Some(slice) => slice_header(&mut file, slice, metadata.len()).await?,
        };
        let length = header.len() as u64 + samples;
        let progress = UploadProgress::new(length);
        let (counted, failed) = (progress.clone(), progress.clone());
        // If the file still grows, `take` ends the body at the announced length.
        let body = std::io::Cursor::new(header).chain(file.take(samples));
        let stream = ReaderStream::with_capacity(body, CHUNK_BYTES)
            .inspect_ok(move |chunk| counted.add(chunk))
            .inspect_err(move |error| failed.note_read_error(error));
        let part = Part::stream_with_length(reqwest::Body::wrap_stream(stream), length)
            .file_name(name)
            .mime_str("application/octet-stream")
            .map_err(std::io::Error::other)?;
        Ok(Self { form: Form::new().part("file", part), length, progress })
    }
}

/// Makes the WAV header of a slice from the header of the file, and moves the read position to the first sample of the
/// slice. Returns the header and the number of bytes of samples.
async fn slice_header(file: &mut tokio::fs::File, slice: WavSlice, file_bytes: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let unfit = || std::io::Error::other("it is not a WAV file that can be sliced");
    let mut header = vec![0; MAX_HEADER_BYTES.min(usize::try_from(file_bytes).unwrap_or(MAX_HEADER_BYTES))];
    file.read_exact(&mut header).await?;
    let data = memchr::memmem::find(&header, b"data").ok_or_else(unfit)? + 8;
    header.truncate(data);
    if header.len() < data || !header.starts_with(b"RIFF") || header.get(8..16) != Some(b"WAVEfmt ") {
        return Err(unfit());
    }
    let from = data as u64 + slice.offset_bytes;
    let bytes = slice.bytes.min(file_bytes.saturating_sub(from));
    let size = u32::try_from(bytes).map_err(std::io::Error::other)?;
    let mut put = |at: usize, value: u32| {
        if let Some(field) = header.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    };
    // The RIFF size counts all bytes after the size field.
    put(4, size + data as u32 - 8);
    put(data - 4, size);
    // G.711 files have a "fact" chunk with the number of samples per channel. Each of the two channels has one byte per
    // sample, so this number is half the size.
    if let Some(fact) = memchr::memmem::find(&header, b"fact") {
        let at = fact + 8;
        if let Some(field) = header.get_mut(at..at + 4) {
            field.copy_from_slice(&(size / 2).to_le_bytes());
        }
    }
    file.seek(std::io::SeekFrom::Start(from)).await?;
    Ok((header, bytes))
}

/// Number of bytes at the beginning of a file that are searched for the WAV header. The headers of callspan have 44 or
/// 58 bytes.
const MAX_HEADER_BYTES: usize = 256;

/// Number of bytes read at once. Reading 300 MiB took 0.13 s in pieces of 256 KiB, but 2.4 s in pieces of 8 KiB
/// (`Part::file`).
const CHUNK_BYTES: usize = 256 * 1024;
