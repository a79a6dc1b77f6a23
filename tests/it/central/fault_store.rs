//! An object store with the part of the S3 API that callspan uses. Chosen requests get a fault.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// How a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreFault {
    /// The answer is status 500, and the request is not carried out.
    InternalError,
    /// The answer is status 503 with the code SlowDown, and the request is not carried out.
    SlowDown,
    /// The answer is status 403, and the request is not carried out.
    AccessDenied,
    /// The connection is reset while the request is sent.
    Reset,
    /// The request is carried out, but the connection closes without an answer.
    AnswerLost,
    /// The request is carried out, but the answer ends in its middle.
    AnswerCut,
    /// The server waits, and then closes the connection. The request is not carried out.
    Stall,
    /// The server waits for ten minutes, which is longer than any test. The request is not carried out.
    Silence,
}

impl StoreFault {
    /// The faults that end in a moment.
    pub(super) const ALL: [Self; 7] = [
        Self::InternalError,
        Self::SlowDown,
        Self::AccessDenied,
        Self::Reset,
        Self::AnswerLost,
        Self::AnswerCut,
        Self::Stall,
    ];
}

/// The store. Its thread ends with the test process.
pub(super) struct FaultStore {
    state: Arc<Mutex<StoreState>>,
    port: u16,
}

#[derive(Default)]
struct StoreState {
    objects: BTreeMap<String, StoredObject>,
    /// Parts of the uploads that were not completed, by the number of the upload.
    uploads: BTreeMap<u64, BTreeMap<u32, Vec<u8>>>,
    next_upload: u64,
    fault: Option<StoreFault>,
    /// Index of the first request that fails, from 0; `count` requests fail.
    first: u32,
    count: u32,
    seen: u32,
    failed: u32,
}

/// The content of an object, and how often it was created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredObject {
    pub(super) content: Vec<u8>,
    pub(super) created: u32,
}

struct StoreRequest {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    is_create: bool,
    length: usize,
}

struct StoreAnswer {
    status: &'static str,
    body: Vec<u8>,
}

impl FaultStore {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::<Mutex<StoreState>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || while serve(&stream, &state).is_some() {});
            }
        });
        Self { state, port }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Lets `first` requests pass and the next `count` requests fail.
    pub(super) fn fail(&self, fault: StoreFault, first: u32, count: u32) {
        let mut state = self.state();
        (state.fault, state.first, state.count) = (Some(fault), first, count);
        (state.seen, state.failed) = (0, 0);
    }

    /// Ends the faults. Returns two numbers since [`FaultStore::fail`]: requests, and failed requests.
    pub(super) fn stop(&self) -> (u32, u32) {
        let mut state = self.state();
        state.fault = None;
        (state.seen, state.failed)
    }

    pub(super) fn objects(&self) -> Vec<StoredObject> {
        self.state().objects.values().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().expect("no panic")
    }
}

/// Answers one request. Returns `None` if the connection has ended.
fn serve(stream: &TcpStream, state: &Mutex<StoreState>) -> Option<()> {
    let request = StoreRequest::read(stream)?;
    let fault = state.lock().expect("no panic").next_fault();
    if fault == Some(StoreFault::Reset) {
        return None; // unread bytes make the system reset the connection
    }
    let mut body = vec![0; request.length];
    (&*stream).read_exact(&mut body).ok()?;
    let refused = |status, code: &str| StoreAnswer {
        status,
        body: format!("<Error><Code>{code}</Code><Message>made up</Message></Error>").into_bytes(),
    };
    let answer = match fault {
        Some(StoreFault::InternalError) => refused("500 Internal Server Error", "InternalError"),
        Some(StoreFault::SlowDown) => refused("503 Slow Down", "SlowDown"),
        Some(StoreFault::AccessDenied) => refused("403 Forbidden", "AccessDenied"),
        Some(StoreFault::Stall) => return wait(Duration::from_millis(300)),
        Some(StoreFault::Silence) => return wait(Duration::from_secs(600)),
        _ => state.lock().expect("no panic").handle(&request, body),
    };
    let is_head = request.method == "HEAD";
    let head = format!(
        "HTTP/1.1 {}\r\nContent-Length: {}\r\nETag: \"tag\"\r\nLast-Modified: Sun, 01 Mar 2026 10:00:00 GMT\r\n\r\n",
        answer.status,
        answer.body.len()
    );
    let bytes = [head.as_bytes(), if is_head { &[] } else { &answer.body }].concat();
    match fault {
        Some(StoreFault::AnswerLost) => None,
        Some(StoreFault::AnswerCut) => {
            // Cuts the answer in the middle of its body, or of its head if it has no body.
            let cut = if bytes.len() > head.len() { head.len() + answer.body.len() / 2 } else { head.len() / 2 };
            (&*stream).write_all(&bytes[..cut]).ok()?;
            None
        }
        _ => (&*stream).write_all(&bytes).ok(),
    }
}

/// Keeps a request without an answer for some time. Then its connection ends.
fn wait(silence: Duration) -> Option<()> {
    std::thread::sleep(silence);
    None
}

impl StoreRequest {
    fn read(mut stream: &TcpStream) -> Option<Self> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).ok()?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).ok()?;
        let mut lines = head.lines();
        let mut words = lines.next()?.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let field = |name: &str| {
            let mut fields = lines.clone().filter_map(|line| line.split_once(": "));
            fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (name.to_owned(), value.to_owned())
        };
        Some(Self {
            method,
            path: path.to_owned(),
            query: query.split('&').map(pair).collect(),
            is_create: field("if-none-match").is_some(),
            length: field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0),
        })
    }
}

impl StoreState {
    fn next_fault(&mut self) -> Option<StoreFault> {
        let fault = self.fault?;
        let is_hit = (self.first..self.first.saturating_add(self.count)).contains(&self.seen);
        self.seen += 1;
        self.failed += u32::from(is_hit);
        is_hit.then_some(fault)
    }

    fn handle(&mut self, request: &StoreRequest, body: Vec<u8>) -> StoreAnswer {
        let done = |text: &str| StoreAnswer { status: "200 OK", body: text.as_bytes().to_vec() };
        let missing =
            || StoreAnswer { status: "404 Not Found", body: b"<Error><Code>NoSuchKey</Code></Error>".to_vec() };
        let upload = request.query.get("uploadId").and_then(|id| id.parse::<u64>().ok());
        match (request.method.as_str(), upload) {
            ("POST", None) => {
                self.next_upload += 1;
                self.uploads.insert(self.next_upload, BTreeMap::new());
                let id = self.next_upload;
                done(&format!(
                    "<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"
                ))
            }
            ("PUT", Some(upload)) => {
                let number = request.query.get("partNumber").and_then(|number| number.parse().ok());
                let (Some(parts), Some(number)) = (self.uploads.get_mut(&upload), number) else { return missing() };
                parts.insert(number, body);
                done("")
            }
            ("POST", Some(upload)) => {
                let Some(parts) = self.uploads.remove(&upload) else { return missing() };
                self.create(&request.path, parts.into_values().flatten().collect());
                done("<CompleteMultipartUploadResult><ETag>\"tag\"</ETag></CompleteMultipartUploadResult>")
            }
            ("DELETE", Some(upload)) => {
                self.uploads.remove(&upload);
                StoreAnswer { status: "204 No Content", body: Vec::new() }
            }
            ("PUT", None) if request.is_create && self.objects.contains_key(&request.path) => StoreAnswer {
                status: "412 Precondition Failed",
                body: b"<Error><Code>PreconditionFailed</Code></Error>".to_vec(),
            },
            ("PUT", None) => {
                self.create(&request.path, body);
                done("")
            }
            ("GET" | "HEAD", None) => self
                .objects
                .get(&request.path)
                .map_or_else(missing, |object| StoreAnswer { status: "200 OK", body: object.content.clone() }),
            _ => StoreAnswer { status: "501 Not Implemented", body: Vec::new() },
        }
    }

    fn create(&mut self, path: &str, content: Vec<u8>) {
        let object = self.objects.entry(path.to_owned()).or_insert(StoredObject { content: Vec::new(), created: 0 });
        (object.content, object.created) = (content, object.created + 1);
    }
}
