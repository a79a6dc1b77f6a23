//! The control paths: URL paths that do the same as the methods of [`super::FakePyrus`], e.g. for `curl`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::faults::{FakeEndpoint, FaultStep, WorldChange};
use super::http::{ConnectionReuse, HttpConnection, RequestHead};
use super::options::FakeOptions;
use super::page;
use super::reply::{FakeReply, ReplyMode};
use super::server::{ServerShared, read_small};

/// Content of a script file, and body of the request `POST /__fake/script`. The request also accepts just a list of
/// steps.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScriptFile {
    /// Options to change, by name. Options that are not named get their defaults from a script file, but stay unchanged
    /// by a control request.
    pub options: serde_json::Map<String, Value>,
    /// Whether the queued fault steps are removed before the new fault steps are added.
    pub clear: bool,
    /// Fault steps that are appended to the queues of their endpoints, in this order.
    pub steps: Vec<ScriptStep>,
}

/// A fault step, and the endpoint whose requests it affects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScriptStep {
    /// The endpoint with the requests to which the fault step applies.
    pub endpoint: FakeEndpoint,
    /// The fault step that is added to the queue.
    #[serde(flatten)]
    pub step: FaultStep,
}

pub(super) fn is_control(path: &str) -> bool {
    path == "/" || path.starts_with("/__fake/")
}

/// Handles a request to a control path, e.g. from `curl`.
pub(super) async fn exchange(shared: &ServerShared, conn: &mut HttpConnection, head: &RequestHead) -> ConnectionReuse {
    let Some(body) = read_small(conn, head).await else { return ConnectionReuse::Close };
    let reply = answer(shared, head, &body);
    shared.apply_refusals();
    conn.send(&reply, ReplyMode::Normal, head.last()).await;
    head.last()
}

/// Returns the options after each member of `over` has replaced the option with the same name.
pub(super) fn overlay(options: &FakeOptions, over: &serde_json::Map<String, Value>) -> Result<FakeOptions, String> {
    let Ok(Value::Object(mut all)) = serde_json::to_value(options) else {
        return Err("the options are no object".into());
    };
    all.extend(over.clone());
    serde_json::from_value(Value::Object(all)).map_err(|e| e.to_string())
}

fn answer(shared: &ServerShared, head: &RequestHead, body: &[u8]) -> FakeReply {
    let result = match (head.method.as_str(), head.path()) {
        ("GET", "/") => return FakeReply::html(200, page::render(&shared.world().state())),
        ("GET", "/__fake/state") => to_json(&shared.world().state()),
        ("GET", "/__fake/log") => to_json(&shared.world().log()),
        ("GET", "/__fake/violations") => to_json(&shared.world().checker.violations()),
        ("POST", "/__fake/script") => script(shared, body),
        ("POST", "/__fake/clock") => clock(shared, body),
        ("POST", "/__fake/config") => config(shared, body),
        ("POST", "/__fake/change") => change(shared, body),
        ("GET", path) => match path.strip_prefix("/__fake/files/") {
            Some(guid) => return file(shared, guid, head),
            None => return unknown(),
        },
        _ => return unknown(),
    };
    match result {
        Ok(value) => FakeReply::json(200, &value),
        Err(reason) => FakeReply::json(400, &json!({"error": reason})),
    }
}

fn unknown() -> FakeReply {
    FakeReply::json(
        404,
        &json!({"error": "control paths: POST /__fake/script, clock, config, change; GET /__fake/state, log, violations, files/GUID, and /"}),
    )
}

fn script(shared: &ServerShared, body: &[u8]) -> Result<Value, String> {
    let script = match serde_json::from_slice::<Value>(body).map_err(|e| e.to_string())? {
        Value::Array(steps) => ScriptFile { steps: parse(Value::Array(steps))?, ..ScriptFile::default() },
        value => parse(value)?,
    };
    let mut world = shared.world();
    if !script.options.is_empty() {
        let options = overlay(&world.options, &script.options)?;
        world.set_options(options);
    }
    if script.clear {
        world.script.clear();
    }
    for ScriptStep { endpoint, step } in script.steps {
        if !world.script.push(endpoint, step) {
            return Err("the queue is full".into());
        }
    }
    Ok(json!({"steps_left": world.script.left()}))
}

fn clock(shared: &ServerShared, body: &[u8]) -> Result<Value, String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct ClockAdvance {
        #[serde(with = "super::options::seconds")]
        advance: std::time::Duration,
    }
    let ClockAdvance { advance } = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let mut world = shared.world();
    world.clock.advance(advance);
    Ok(json!({"now": super::clock::text(world.clock.now())}))
}

fn config(shared: &ServerShared, body: &[u8]) -> Result<Value, String> {
    let over = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let mut world = shared.world();
    let options = overlay(&world.options, &over)?;
    world.set_options(options);
    Ok(json!({}))
}

fn change(shared: &ServerShared, body: &[u8]) -> Result<Value, String> {
    let change: WorldChange = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    shared.world().change(&change);
    Ok(json!({}))
}

/// Returns a recording or a range of its bytes. Media players request ranges when they seek (RFC 9110 section 14).
fn file(shared: &ServerShared, guid: &str, head: &RequestHead) -> FakeReply {
    let found = shared.world().store.file(guid).cloned();
    let Some((file, bytes)) = found.and_then(|f| f.bytes.clone().map(|b| (f, b))) else {
        return FakeReply::json(404, &json!({"error": "no such file, or its content was not kept (over 64 MiB)"}));
    };
    let reply = FakeReply {
        status: 200,
        content_type: Some(page::content_type(&file.name)),
        headers: vec![("Accept-Ranges".into(), "bytes".into())],
        body: Vec::new(),
    };
    let size = bytes.len();
    let Some((from, to)) = head.header("range").and_then(|r| range(r, size)) else {
        return FakeReply { body: bytes.to_vec(), ..reply };
    };
    let body = bytes.get(from..to).unwrap_or_default().to_vec();
    let stands = format!("bytes {from}-{}/{size}", to.saturating_sub(1));
    FakeReply { status: 206, body, ..reply }.with_header("Content-Range", stands)
}

/// Parses the value of a Range header, `bytes=A-` or `bytes=A-B`. Returns the position of the first byte and the
/// position after the last byte. Returns `None` if the value is malformed or the range is empty.
fn range(header: &str, size: usize) -> Option<(usize, usize)> {
    let (from, to) = header.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = if to.is_empty() { size } else { to.parse::<usize>().ok()?.checked_add(1)?.min(size) };
    (from < to).then_some((from, to))
}

fn to_json(value: &impl Serialize) -> Result<Value, String> {
    serde_json::to_value(value).map_err(|e| e.to_string())
}

fn parse<T: for<'de> Deserialize<'de>>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|e| e.to_string())
}
