//! The body of an upload: one file, streamed with its length, its MD5 taken on the way.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use md5::{Digest, Md5};
use reqwest::multipart::{Form, Part};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;

use crate::delivery::Cut;

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
        Some(cut) => cut_header(&mut file, cut, metadata.len()).await?,
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

/// The header of a piece, made of that of the file, which is left standing at the piece's first sample; and the bytes
/// of samples that there are for it.
async fn cut_header(file: &mut tokio::fs::File, cut: Cut, file_bytes: u64) -> std::io::Result<(Vec<u8>, u64)> {
    let unfit = || std::io::Error::other("it is no WAV of which such a piece can be cut");
    let mut header = vec![0; LONGEST_HEADER.min(usize::try_from(file_bytes).unwrap_or(LONGEST_HEADER))];
    file.read_exact(&mut header).await?;
    let data = memchr::memmem::find(&header, b"data").ok_or_else(unfit)? + 8;
    header.truncate(data);
    if header.len() < data || !header.starts_with(b"RIFF") || header.get(8..16) != Some(b"WAVEfmt ") {
        return Err(unfit());
    }
    let from = data as u64 + cut.from;
    let bytes = cut.bytes.min(file_bytes.saturating_sub(from));
    let size = u32::try_from(bytes).map_err(std::io::Error::other)?;
    let mut put = |at: usize, value: u32| {
        if let Some(field) = header.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_le_bytes());
        }
    };
    // RIFF: its size is that of all that follows the size.
    put(4, size + data as u32 - 8);
    put(data - 4, size);
    // G.711 has a "fact" chunk with the samples of one channel; a frame has a byte of each of the two.
    if let Some(fact) = memchr::memmem::find(&header, b"fact") {
        let at = fact + 8;
        if let Some(field) = header.get_mut(at..at + 4) {
            field.copy_from_slice(&(size / 2).to_le_bytes());
        }
    }
    file.seek(std::io::SeekFrom::Start(from)).await?;
    Ok((header, bytes))
}

/// Ours have 44 or 58 bytes before the samples.
const LONGEST_HEADER: usize = 256;

/// Measured: 300 MiB in 0.13 s with 256 KiB, 2.4 s with the 8 KiB of `Part::file`.
const CHUNK_BYTES: usize = 256 * 1024;
