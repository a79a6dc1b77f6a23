//! An HTTP client for tests. It can send exact bytes, and has a session that sends well-formed requests.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use callspan::fake_pyrus::FakePyrus;
use serde_json::{Value, json};

pub const ACCOUNT: &str = "uniqueID12345";

/// A reply. It may be incomplete.
#[derive(Clone, Debug, Default)]
pub struct HttpReply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
    /// Whether the connection ended before `Content-Length` bytes were received.
    pub short: bool,
}

impl HttpReply {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn code(&self) -> String {
        self.json()["error_code"].as_str().unwrap_or_default().to_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &&str| line.split(':').next().is_some_and(|n| n.eq_ignore_ascii_case(name));
        self.head.lines().skip(1).find(named).and_then(|l| l.split_once(':')).map(|(_, v)| v.trim())
    }
}

pub fn connect(url: &str) -> TcpStream {
    let stream = TcpStream::connect(host(url)).expect("the fake listens");
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time-out can be set");
    stream
}

/// Returns the part `HOST:PORT` of a URL.
pub fn host(url: &str) -> &str {
    url.strip_prefix("http://").and_then(|u| u.split('/').next()).expect("a http URL")
}

/// Returns the path of a URL.
pub fn path(url: &str) -> &str {
    &url["http://".len() + host(url).len()..]
}

/// Reads one reply. Fails if the connection ends before the head is complete.
pub fn read_reply(stream: &mut TcpStream) -> std::io::Result<HttpReply> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let split = bytes.windows(4).position(|w| w == b"\r\n\r\n");
        if let Some(at) = split {
            let head = String::from_utf8_lossy(&bytes[..at]).into_owned();
            let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
            let mut reply = HttpReply { status, head, body: bytes[at + 4..].to_vec(), short: false };
            let length = reply.header("content-length").and_then(|l| l.parse::<usize>().ok());
            while length.is_none_or(|l| reply.body.len() < l) {
                match stream.read(&mut piece) {
                    Ok(0) => {
                        reply.short = length.is_some();
                        break;
                    }
                    Ok(n) => reply.body.extend_from_slice(&piece[..n]),
                    Err(_) => {
                        reply.short = true;
                        break;
                    }
                }
            }
            return Ok(reply);
        }
        let n = stream.read(&mut piece)?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..n]);
    }
}

/// Sends one request on a connection of its own. Returns the reply.
pub fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> std::io::Result<HttpReply> {
    let mut stream = connect(url);
    let mut head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", path(url), host(url));
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(n, _)| n.eq_ignore_ascii_case("transfer-encoding")) {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    read_reply(&mut stream)
}

pub fn get(url: &str) -> HttpReply {
    request("GET", url, &[], b"").expect("a reply")
}

pub fn post_json(url: &str, token: Option<&str>, body: &Value) -> std::io::Result<HttpReply> {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let mut headers = vec![("Content-Type", "application/json")];
    if token.is_some() {
        headers.push(("Authorization", bearer.as_str()));
    }
    request("POST", url, &headers, body.to_string().as_bytes())
}

/// Returns a multipart body with one file.
pub fn multipart(name: &str, content: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--xYzZy\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: audio/wav\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(content);
    body.extend_from_slice(b"\r\n--xYzZy--\r\n");
    body
}

/// A client with an access token that sends only correct requests.
pub struct PyrusSession<'a> {
    pub fake: &'a FakePyrus,
    pub token: String,
}

impl<'a> PyrusSession<'a> {
    pub fn login(fake: &'a FakePyrus) -> PyrusSession<'a> {
        let reply = auth(fake).expect("a reply");
        let token = reply.json()["access_token"].as_str().expect("a token").to_owned();
        PyrusSession { fake, token }
    }

    pub fn call_with(&self, body: &Value) -> HttpReply {
        self.try_call(body).expect("a reply")
    }

    pub fn try_call(&self, body: &Value) -> std::io::Result<HttpReply> {
        post_json(&format!("{}integrations/call", self.fake.api_url()), Some(&self.token), body)
    }

    pub fn call(&self, external_id: &str) -> HttpReply {
        self.call_with(&call_body(external_id))
    }

    pub fn try_upload(&self, name: &str, content: &[u8]) -> std::io::Result<HttpReply> {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "multipart/form-data; boundary=xYzZy")];
        request("POST", &self.upload_url(), &headers, &multipart(name, content))
    }

    pub fn upload(&self, name: &str, content: &[u8]) -> HttpReply {
        self.try_upload(name, content).expect("a reply")
    }

    pub fn upload_url(&self) -> String {
        format!("{}v4/files/upload", self.fake.files_url())
    }

    /// Uploads a small recording. Returns the GUID of the file.
    pub fn guid(&self) -> String {
        self.upload("call.wav", b"RIFF").json()["guid"].as_str().expect("a guid").to_owned()
    }

    pub fn attach_with(&self, body: &Value) -> HttpReply {
        self.try_attach(body).expect("a reply")
    }

    pub fn try_attach(&self, body: &Value) -> std::io::Result<HttpReply> {
        post_json(&format!("{}integrations/attachcallrecord", self.fake.api_url()), Some(&self.token), body)
    }

    pub fn attach(&self, external_id: &str, guid: &str) -> HttpReply {
        self.attach_with(&attach_body(external_id, guid))
    }
}

pub fn auth(fake: &FakePyrus) -> std::io::Result<HttpReply> {
    post_json(&fake.auth_url(), None, &json!({"login": "bot@callspan", "security_key": "secret"}))
}

pub fn call_body(external_id: &str) -> Value {
    json!({
        "account_id": ACCOUNT, "from_number": "+79774221338", "to_number": "+74953009080", "internal_number": "200",
        "external_id": external_id, "mappings": [{"code": "CallStartTime", "value": "2021-12-23T00:11:32Z"}],
    })
}

pub fn attach_body(external_id: &str, guid: &str) -> Value {
    json!({"account_id": ACCOUNT, "external_id": external_id, "record_file": guid})
}

/// Returns a JSON object with one member added or replaced.
pub fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Returns a JSON object without one of its members.
pub fn without(mut body: Value, name: &str) -> Value {
    body.as_object_mut().expect("an object").remove(name);
    body
}
