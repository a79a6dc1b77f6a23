//! Sends the sound of a call, and its kept packets (pcapng files), as whole files or byte ranges. A row is written to
//! the audit log before the first byte is sent.

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio_util::io::ReaderStream;

use super::access::{self, Viewer};
use super::accounts::{AccountRight, AuditAction};
use super::control::refused;
use super::convert;
use super::listening::ListeningKey;
use super::open_downloads::MAX_OPEN;
use super::server::ConsoleState;
use super::source::CentralArchive;
use crate::call::record::{CallRecord, RecordingFile};
use crate::recording::convert::DownloadFormat;
use crate::service::clock::wall_clock;

/// Query parameters of a request for sound.
#[derive(Debug, Default, Deserialize)]
pub(super) struct SoundQuery {
    /// If this parameter is present, the browser saves the file and does not play it.
    download: Option<String>,
    /// Format into which the recording is converted; `None` to send the file as it is. A conversion is a download.
    #[serde(rename = "as")]
    format: Option<DownloadFormat>,
}

/// Where the bytes of a file are stored.
enum StoredBytes {
    /// The bytes are in a file on this machine.
    File(PathBuf),
    /// The bytes are an object of the central archive. The values are the archive, the key of the object, and the
    /// object's size in bytes.
    Object(Arc<CentralArchive>, String, u64),
}

/// A file that is sent to the browser.
struct SentFile {
    bytes: StoredBytes,
    kind: &'static str,
    etag: String,
    /// Name under which the browser saves the file; `None` to play it.
    save_as: Option<String>,
}

/// The bytes of a file that a request asks for (RFC 9110 section 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteRange {
    /// The request asks for the whole file.
    Whole,
    /// The request asks for the bytes from the first to the second position, both included.
    Part(u64, u64),
    /// The range lies outside of the file, so nothing can be sent.
    Unsatisfiable,
}

/// Responds with a segment of a recording, i.e. one file of a long recording.
pub(super) async fn sound(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path((id, part)): Path<(String, u32)>,
    Query(query): Query<SoundQuery>,
    headers: HeaderMap,
) -> Response {
    let is_download = query.download.is_some() || query.format.is_some();
    let right = if is_download { AccountRight::Download } else { AccountRight::Play };
    if !viewer.user.may(right) {
        return access::missing(None, true);
    }
    let (wanted, scope) = (id.clone(), viewer.user.visible());
    let found = state.read(&viewer, move |journal| journal.call_in_scope(&wanted, &scope)).await;
    let record = match found {
        Ok(Some(call)) => call.record,
        Ok(None) => return access::missing(None, true),
        Err(error) => return access::failed(&error),
    };
    let id = viewer.call_key(&record);
    let Some(file) = record.recordings.iter().find(|file| file.part == part) else {
        return access::missing(None, true);
    };
    let is_encrypted = file.plain_sha256.is_some();
    let kind = if is_encrypted { "application/octet-stream" } else { audio_type(file) };
    if query.format.is_some_and(|to| state.centre.is_some() || !may_convert(file, to)) {
        return refused(StatusCode::UNPROCESSABLE_ENTITY, "this recording cannot be converted here");
    }
    let path = PathBuf::from(&file.path);
    let name = match state.centre {
        None => path.file_name().and_then(|name| name.to_str()).unwrap_or("recording").to_owned(),
        Some(_) => name_at_centre(&record, file),
    };
    // A player is not limited: it opens few ranges at once, and a pause is no reason to refuse the next call.
    let open = if is_download { state.downloads.begin(&viewer.user.name) } else { None };
    if is_download && open.is_none() {
        return too_many();
    }
    let bytes = match state.centre.clone() {
        None => StoredBytes::File(path),
        Some(centre) => StoredBytes::Object(centre, file.path.clone(), file.bytes),
    };
    let sent = SentFile { bytes, kind, etag: format!("\"{}\"", file.sha256), save_as: is_download.then_some(name) };
    let action = if is_download { AuditAction::Downloaded } else { AuditAction::Played };
    // The audit row is on the disk before the file is opened. A player requests several ranges of a file, which share
    // one row.
    let listening = ListeningKey::of(&viewer, &id, part, action);
    if !state.listenings.goes_on(&listening, wall_clock()) {
        if let Err(error) = state.record(&viewer, action, Some(&id), &format!("part {part}")).await {
            return access::failed(&error);
        }
        state.listenings.begin(listening, wall_clock());
    }
    let response = match (query.format, sent.bytes) {
        (Some(to), StoredBytes::File(path)) => convert::send(&state.conversions, path, file, to),
        (_, bytes) => send(SentFile { bytes, ..sent }, &headers).await,
    };
    match open {
        Some(open) => open.until_sent(response),
        None => response,
    }
}

fn too_many() -> Response {
    let why = format!("you have {MAX_OPEN} open downloads: wait until one of them has ended");
    refused(StatusCode::TOO_MANY_REQUESTS, &why)
}

/// Returns the media type of the sound in a recording.
pub(super) fn audio_type(file: &RecordingFile) -> &'static str {
    if file.format.starts_with("wav") { "audio/wav" } else { "audio/ogg" }
}

/// Returns whether a recording of this machine can be downloaded in another format. An encrypted recording cannot be
/// decoded here.
pub(super) fn may_convert(file: &RecordingFile, to: DownloadFormat) -> bool {
    file.plain_sha256.is_none() && !to.is_format_of(file)
}

/// Responds with the kept packets of a leg, as a pcapng file.
pub(super) async fn packets(
    State(state): State<ConsoleState>,
    Extension(viewer): Extension<Viewer>,
    Path((id, leg)): Path<(String, u32)>,
    headers: HeaderMap,
) -> Response {
    if !viewer.user.may(AccountRight::Download) {
        return access::missing(None, true);
    }
    let (wanted, scope) = (id.clone(), viewer.user.visible());
    let record = match state.read(&viewer, move |journal| journal.call_in_scope(&wanted, &scope)).await {
        Ok(Some(call)) => call.record,
        Ok(None) => return access::missing(None, true),
        Err(error) => return access::failed(&error),
    };
    let id = viewer.call_key(&record);
    let Some(path) = kept_packets(&record, leg) else { return access::missing(None, true) };
    let Some(open) = state.downloads.begin(&viewer.user.name) else { return too_many() };
    if let Err(error) =
        state.record(&viewer, AuditAction::Downloaded, Some(&id), &format!("packets of leg {leg}")).await
    {
        return access::failed(&error);
    }
    let save_as = path.file_name().and_then(|name| name.to_str()).map(str::to_owned);
    let bytes = StoredBytes::File(path);
    let sent = SentFile { bytes, kind: "application/octet-stream", etag: format!("\"{id}.{leg}\""), save_as };
    open.until_sent(send(sent, &headers).await)
}

/// Returns the file name that a recording had at its site, made from the call record. The archive's object has another
/// name.
fn name_at_centre(record: &CallRecord, file: &RecordingFile) -> String {
    let extension = file.path.rsplit('/').next().and_then(|name| name.split_once('.')).map_or("bin", |(_, e)| e);
    let part = if record.recordings.len() > 1 { format!(".part{}", file.part) } else { String::new() };
    format!("{}{part}.{extension}", record.id)
}

/// Returns the path of the kept packets of a leg: `ID.LEG.pcapng` beside the recording, possibly encrypted. Returns
/// `None` if there are none.
pub(super) fn kept_packets(record: &CallRecord, leg: u32) -> Option<PathBuf> {
    let folder = FilePath::new(&record.recordings.first()?.path).parent()?;
    let plain = folder.join(format!("{}.{leg}.pcapng", record.id));
    let encrypted = folder.join(format!("{}.{leg}.pcapng.age", record.id));
    [plain, encrypted].into_iter().find(|path| path.is_file())
}

async fn send(sent: SentFile, headers: &HeaderMap) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_NONE_MATCH).is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == sent.etag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, sent.etag)]).into_response();
    }
    let Some(length) = sent.bytes.length().await else { return access::missing(None, true) };
    // With `If-Range`, a client asks for a range only if its copy is of this version of the file (RFC 9110 section
    // 13.1.5). Otherwise the client gets the whole file.
    let is_same = text(header::IF_RANGE).is_none_or(|tag| tag == sent.etag);
    let range = text(header::RANGE).filter(|_| is_same).map_or(ByteRange::Whole, |range| parse_range(range, length));
    let (status, from, count) = match range {
        ByteRange::Whole => (StatusCode::OK, 0, length),
        ByteRange::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to - from + 1),
        ByteRange::Unsatisfiable => {
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, format!("bytes */{length}"))])
                .into_response();
        }
    };
    let Some(body) = sent.bytes.body(from, count).await else { return access::missing(None, true) };
    let mut response = (status, body).into_response();
    let out = response.headers_mut();
    let mut put = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            out.insert(name, value);
        }
    };
    put(header::CONTENT_TYPE, sent.kind);
    put(header::CONTENT_LENGTH, &count.to_string());
    put(header::ACCEPT_RANGES, "bytes");
    put(header::ETAG, &sent.etag);
    put(header::CACHE_CONTROL, "private, no-cache");
    if status == StatusCode::PARTIAL_CONTENT {
        put(header::CONTENT_RANGE, &format!("bytes {from}-{}/{length}", from + count - 1));
    }
    if let Some(name) = &sent.save_as {
        put(header::CONTENT_DISPOSITION, &format!("attachment; filename=\"{}\"", name.replace(['"', '\\'], "_")));
    }
    response
}

impl StoredBytes {
    /// Returns the size of the file in bytes; `None` if the file does not exist any more.
    async fn length(&self) -> Option<u64> {
        match self {
            Self::File(path) => tokio::fs::metadata(path).await.ok().filter(|found| found.is_file()).map(|f| f.len()),
            Self::Object(_, _, bytes) => Some(*bytes),
        }
    }

    /// Returns the body of a response with `count` bytes from the position `from` on; `None` if the file does not exist
    /// any more.
    async fn body(&self, from: u64, count: u64) -> Option<Body> {
        if count == 0 {
            return Some(Body::empty());
        }
        match self {
            Self::File(path) => {
                let mut file = tokio::fs::File::open(path).await.ok()?;
                file.seek(std::io::SeekFrom::Start(from)).await.ok()?;
                Some(Body::from_stream(ReaderStream::with_capacity(file.take(count), CHUNK)))
            }
            Self::Object(centre, key, _) => match centre.objects.range(key, from..from + count).await {
                Ok(bytes) => Some(Body::from_stream(bytes)),
                Err(error) => {
                    tracing::error!("a recording cannot be read from the archive: {error}");
                    None
                }
            },
        }
    }
}

/// Parses a Range header (RFC 9110 section 14.2). If it has several ranges or an unknown unit, the whole file is sent.
fn parse_range(text: &str, length: u64) -> ByteRange {
    let Some(range) = text.strip_prefix("bytes=").filter(|range| !range.contains(',')) else { return ByteRange::Whole };
    let Some((first, last)) = range.trim().split_once('-') else { return ByteRange::Whole };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => ByteRange::Whole,
        (Ok(first), _) if first >= length => ByteRange::Unsatisfiable,
        (Ok(first), Ok(last)) => ByteRange::Part(first, last.min(length - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => ByteRange::Part(first, length - 1),
        (Err(_), Ok(0)) if first.trim().is_empty() => ByteRange::Unsatisfiable,
        (Err(_), Ok(_)) if first.trim().is_empty() && length == 0 => ByteRange::Unsatisfiable,
        (Err(_), Ok(count)) if first.trim().is_empty() => ByteRange::Part(length.saturating_sub(count), length - 1),
        _ => ByteRange::Whole,
    }
}

/// Number of bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_rfc_9110() {
        use ByteRange::{Part, Unsatisfiable, Whole};
        for (text, range) in [
            ("bytes=0-1", Part(0, 1)),
            ("bytes=0-", Part(0, 99)),
            ("bytes=50-1000", Part(50, 99)),
            ("bytes=-10", Part(90, 99)),
            ("bytes=-1000", Part(0, 99)),
            ("bytes=100-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=0-1,5-6", Whole),
            ("bytes=99999999999999999999999-", Whole),
            ("items=0-1", Whole),
            ("bytes=a-b", Whole),
        ] {
            assert_eq!(parse_range(text, 100), range, "{text}");
        }
        assert_eq!(parse_range("bytes=0-", 0), Unsatisfiable);
    }
}
