//! Sends a recording in another format than its own. The conversion runs on a thread of its own and waits for the
//! client, so it needs little memory.
//!
//! # Invariant
//! A conversion occupies the processor only while it converts. While it waits for its client, another conversion has
//! its turn. So a client that does not read stops no other download. A client that reads quickly stops no other download
//! either: its conversion gives its turn to the next conversion after each [`TURN_CHUNKS`].

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::control::refused;
use crate::call::record::RecordingFile;
use crate::recording::convert::{DownloadFormat, convert};
use crate::recording::verify::VerifyError;

/// Permits to convert recordings to another audio format. They limit how many conversions run at the same time. Clones
/// share the permits.
#[derive(Clone)]
pub(super) struct ConversionPermits {
    /// Permits to have a thread. A conversion keeps its permit while its thread waits for the client or for the
    /// processor.
    threads: Arc<Semaphore>,
    /// Permits to use the processor for a conversion.
    processor: Arc<Semaphore>,
}

impl Default for ConversionPermits {
    fn default() -> Self {
        Self { threads: Arc::new(Semaphore::new(MAX_THREADS)), processor: Arc::new(Semaphore::new(MAX_RUNNING)) }
    }
}

/// Responds with a recording, converted to the format `to`. At most [`MAX_RUNNING`] conversions use the processor at a
/// time, and further conversions wait.
pub(super) fn send(
    permits: &ConversionPermits,
    path: PathBuf,
    recording: &RecordingFile,
    to: DownloadFormat,
) -> Response {
    let Ok(thread_permit) = permits.threads.clone().try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "other recordings are being converted: try again later");
    };
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("recording").replace(['"', '\\'], "_");
    let disposition = format!("attachment; filename=\"{name}.{}\"", to.extension());
    let kind = match to {
        DownloadFormat::Wav => "audio/wav",
        DownloadFormat::Opus => "audio/ogg",
    };
    let (chunks, received) = mpsc::channel(CHUNKS);
    let (processor, recording) = (permits.processor.clone(), recording.clone());
    let writer = ChunkWriter { chunks, runtime: Handle::current(), processor, turn: None, sent: 0 };
    let work = move || {
        let _thread_permit = thread_permit;
        let mut out = BufWriter::with_capacity(CHUNK, writer);
        let begun = out.get_mut().take_turn().map_err(VerifyError::from);
        let result = begun.and_then(|()| convert(&path, &recording, to, &mut out)).and_then(|()| Ok(out.flush()?));
        if let Err(error) = result {
            tracing::warn!(part = recording.part, "a recording could not be converted: {error}");
            // After an error, the connection ends without the last chunk, so the client notices that the file is not
            // whole.
            out.get_mut().fail(error);
        }
    };
    if let Err(error) = std::thread::Builder::new().name(String::from("convert")).spawn(work) {
        tracing::error!("the thread of a conversion cannot be started: {error}");
        return refused(StatusCode::SERVICE_UNAVAILABLE, "the recording cannot be converted now");
    }
    let body = stream::unfold(received, |mut received: mpsc::Receiver<io::Result<Bytes>>| async move {
        received.recv().await.map(|chunk| (chunk, received))
    });
    let headers = [
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CONTENT_DISPOSITION, disposition),
        (header::CACHE_CONTROL, String::from("private, no-cache")),
    ];
    (headers, Body::from_stream(body)).into_response()
}

/// An output that passes its bytes to the response. It waits for a slow client, but at most for [`PATIENCE`].
struct ChunkWriter {
    chunks: mpsc::Sender<io::Result<Bytes>>,
    runtime: Handle,
    processor: Arc<Semaphore>,
    /// Permit to use the processor; `None` while this output waits for its client.
    turn: Option<OwnedSemaphorePermit>,
    /// Number of chunks that were sent since this output last got a permit to use the processor.
    sent: usize,
}

impl ChunkWriter {
    /// Waits for a permit to use the processor. Fails if the client disconnects meanwhile.
    fn take_turn(&mut self) -> io::Result<()> {
        let permit = self.runtime.block_on(async {
            tokio::select! {
                permit = self.processor.clone().acquire_owned() => permit.ok(),
                () = self.chunks.closed() => None,
            }
        });
        self.turn = Some(permit.ok_or_else(client_is_gone)?);
        self.sent = 0;
        Ok(())
    }

    fn put(&mut self, chunk: io::Result<Bytes>) -> io::Result<()> {
        match self.chunks.try_send(chunk) {
            Ok(()) => {
                self.sent += 1;
                if self.sent < TURN_CHUNKS {
                    return Ok(());
                }
                // The semaphore is fair: a conversion that already waits for it gets the processor before this
                // conversion.
                self.turn = None;
                self.take_turn()
            }
            Err(TrySendError::Closed(_)) => Err(client_is_gone()),
            Err(TrySendError::Full(chunk)) => {
                self.turn = None; // another conversion may use the processor meanwhile
                let sent = self.runtime.block_on(self.chunks.send_timeout(chunk, PATIENCE));
                sent.map_err(|_| client_is_gone())?;
                self.take_turn()
            }
        }
    }

    fn fail(&mut self, error: VerifyError) {
        let _ = self.put(Err(io::Error::other(error))); // the client may be gone
    }
}

/// Returns the error that ends a conversion if its client reads no more.
fn client_is_gone() -> io::Error {
    io::Error::other("the client does not take the recording")
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(Ok(Bytes::copy_from_slice(bytes)))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Maximum number of conversions that use the processor at a time. Capture and rendering need the processor more.
const MAX_RUNNING: usize = 2;
/// Maximum number of conversions, including those that wait. Each conversion has a thread, an open file and less than a
/// MiB of memory.
const MAX_THREADS: usize = 32;
/// Size of a chunk of the response, bytes.
const CHUNK: usize = 64 * 1024;
/// Maximum number of chunks that wait for the client. If the maximum is reached, the conversion waits, too.
const CHUNKS: usize = 4;
/// Number of chunks after which a conversion lets the next conversion use the processor. These chunks take a second of
/// work at most.
const TURN_CHUNKS: usize = 16;
/// Time after which a conversion ends if the client reads no chunk.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn conversion_for_a_quick_client_gives_its_turn_to_the_next() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let processor = Arc::new(Semaphore::new(1));
        let writer = || {
            let (chunks, received) = mpsc::channel(4 * TURN_CHUNKS);
            let runtime = runtime.handle().clone();
            (ChunkWriter { chunks, runtime, processor: processor.clone(), turn: None, sent: 0 }, received)
        };
        let (mut long, long_client) = writer();
        long.take_turn().expect("a free turn");
        let mut next = Box::pin(processor.clone().acquire_owned());
        assert!((&mut next).now_or_never().is_none(), "the next conversion waits");
        std::thread::scope(|scope| {
            // The channel has room for all chunks, so the long conversion never waits for its client. Still it must
            // give its turn to the next conversion.
            scope.spawn(move || (0..=TURN_CHUNKS).for_each(|_| long.put(Ok(Bytes::new())).expect("a client")));
            let turn = runtime.block_on(next);
            assert_eq!(long_client.len(), TURN_CHUNKS);
            drop(turn);
        });
    }
}
