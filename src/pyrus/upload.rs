//! The body of an upload: one file, streamed with its length, its MD5 taken on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use md5::{Digest, Md5};
use reqwest::multipart::{Form, Part};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::delivery::{Cut, HEADER_BYTES};

/// What has been sent so far.
#[derive(Clone, Debug)]
pub(super) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    md5: Md5,
    bytes: u64,
    length: u64,
    moved_at: Instant,
}

impl Tally {
    #[expect(clippy::disallowed_methods, reason = "an IO room: a stalled transfer is seen by the monotonic clock")]
    fn new(length: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner { md5: Md5::new(), bytes: 0, length, moved_at: Instant::now() })))
    }

    #[expect(clippy::disallowed_methods, reason = "an IO room: a stalled transfer is seen by the monotonic clock")]
    fn add(&self, bytes: &[u8]) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.md5.update(bytes);
        inner.bytes += bytes.len() as u64;
        inner.moved_at = Instant::now();
    }

    /// How long nothing has been taken; `None` once all was.
    pub(super) fn stalled(&self) -> Option<Duration> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.bytes < inner.length).then(|| inner.moved_at.elapsed())
    }

    /// Lower-case hex, when all was sent.
    pub(super) fn md5(&self) -> Option<String> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.bytes == inner.length).then(|| {
            use std::fmt::Write as _;
            inner.md5.clone().finalize().iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            })
        })
    }
}

/// A form with the one part `file`, its length known (chunked transfer is not allowed: "Content-Length must be
/// calculated for the entire body").
///
/// # Errors
/// When the file cannot be opened, or is empty, or is not one of which a piece can be cut.
pub(super) async fn form(path: &Path, cut: Option<Cut>, name: String) -> std::io::Result<(Form, u64, Tally)> {
    let mut file = tokio::fs::File::open(path).await?;
    let metadata = file.metadata().await?;
    if !metadata.is_file() || metadata.len() == 0 {
        return Err(std::io::Error::other("it is empty or no file"));
    }
    let (head, samples) = match cut {
        None => (Vec::new(), metadata.len()),
        Some(cut) => (cut_header(&mut file, cut, metadata.len()).await?, cut.bytes),
    };
    let length = head.len() as u64 + samples;
    let tally = Tally::new(length);
    let counted = tally.clone();
    // `take`: a file that grows meanwhile must not exceed the length that was announced.
    let body = std::io::Cursor::new(head).chain(file.take(samples));
    let stream = ReaderStream::with_capacity(body, CHUNK_BYTES).inspect_ok(move |chunk| counted.add(chunk));
    let part = Part::stream_with_length(reqwest::Body::wrap_stream(stream), length)
        .file_name(name)
        .mime_str("application/octet-stream")
        .map_err(std::io::Error::other)?;
    Ok((Form::new().part("file", part), length, tally))
}

/// The header of a piece, made of that of the file, which is left standing at the piece's first sample.
async fn cut_header(file: &mut tokio::fs::File, cut: Cut, file_bytes: u64) -> std::io::Result<Vec<u8>> {
    let mut header = vec![0; HEADER_BYTES as usize];
    file.read_exact(&mut header).await?;
    let is_ours =
        header.starts_with(b"RIFF") && header.get(8..16) == Some(b"WAVEfmt ") && header.get(36..40) == Some(b"data");
    if !is_ours || HEADER_BYTES + cut.from + cut.bytes > file_bytes {
        return Err(std::io::Error::other("it is no WAV of which such a piece can be cut"));
    }
    let bytes = u32::try_from(cut.bytes).map_err(std::io::Error::other)?;
    // RIFF: its size is that of all that follows the size; the header is checked to be as long as this.
    header[4..8].copy_from_slice(&(bytes + HEADER_BYTES as u32 - 8).to_le_bytes());
    header[40..44].copy_from_slice(&bytes.to_le_bytes());
    file.seek(std::io::SeekFrom::Start(HEADER_BYTES + cut.from)).await?;
    Ok(header)
}

/// Measured: 300 MiB in 0.13 s with 256 KiB, 2.4 s with the 8 KiB of `Part::file`.
const CHUNK_BYTES: usize = 256 * 1024;
