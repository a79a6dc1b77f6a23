//! Sends a recording in another format than its own. The conversion runs on a thread of its own and waits for the
//! client, so it needs little memory.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::control::refused;
use super::server::ConsoleState;
use crate::call::record::RecordingFile;
use crate::recording::convert::{DownloadFormat, convert};
use crate::recording::verify::VerifyError;

/// Responds with a recording, converted to the format `to`. Only [`MAX_CONVERSIONS`] conversions run at a time.
pub(super) fn send(state: &ConsoleState, path: PathBuf, recording: &RecordingFile, to: DownloadFormat) -> Response {
    let Ok(permit) = state.conversions.clone().try_acquire_owned() else {
        return refused(StatusCode::SERVICE_UNAVAILABLE, "other recordings are being converted: try again later");
    };
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or("recording").replace(['"', '\\'], "_");
    let disposition = format!("attachment; filename=\"{name}.{}\"", to.extension());
    let kind = match to {
        DownloadFormat::Wav => "audio/wav",
        DownloadFormat::Opus => "audio/ogg",
    };
    let (chunks, received) = mpsc::channel(CHUNKS);
    let (runtime, recording) = (Handle::current(), recording.clone());
    let work = move || {
        let _permit = permit;
        let mut out = BufWriter::with_capacity(CHUNK, ChunkWriter { chunks, runtime });
        let result = convert(&path, &recording, to, &mut out).and_then(|()| Ok(out.flush()?));
        if let Err(error) = result {
            tracing::warn!(part = recording.part, "a recording could not be converted: {error}");
            // The connection ends without the last chunk, so the client notices that the file is not whole.
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
}

impl ChunkWriter {
    fn put(&self, chunk: io::Result<Bytes>) -> io::Result<()> {
        let sent = self.runtime.block_on(self.chunks.send_timeout(chunk, PATIENCE));
        sent.map_err(|_| io::Error::other("the client does not take the recording"))
    }

    fn fail(&self, error: VerifyError) {
        let _ = self.put(Err(io::Error::other(error))); // the client may be gone
    }
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

/// Maximum number of conversions at a time. Capture and rendering need the processor more.
pub(super) const MAX_CONVERSIONS: usize = 2;
/// Size of a chunk of the response, bytes.
const CHUNK: usize = 64 * 1024;
/// Number of chunks that wait for the client. If there are more, the conversion waits.
const CHUNKS: usize = 4;
/// Time after which a conversion ends, if the client takes no chunk.
const PATIENCE: Duration = Duration::from_secs(20);
