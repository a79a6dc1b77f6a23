//! The description of the API (OpenAPI 3.1), and a page with examples. Both are made from the same list of operations.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use maud::html;
use serde_json::{Value, json};

use super::access::Viewer;
use super::pages::{self, NavEntry};
use super::server::ConsoleState;

/// One operation of the API, as it appears in the description and the examples.
struct ApiOperation {
    /// HTTP method: `get` or `post`.
    method: &'static str,
    /// Path of the request, with parameters in `{}`.
    path: &'static str,
    /// Purpose of the request, as an English and a Russian sentence.
    does: [&'static str; 2],
    /// Names of the query parameters, or of the form fields of a POST.
    parameters: &'static [&'static str],
    /// Media type of the response.
    answer: &'static str,
}

/// Responds with the description of the API as JSON.
pub(super) async fn description() -> Response {
    Json(document()).into_response()
}

/// Responds with the page of example requests.
pub(super) async fn page(State(state): State<ConsoleState>, Extension(viewer): Extension<Viewer>) -> Response {
    let t = |en, ru| viewer.lang.of_two(en, ru);
    let public = state.site.public_url.clone();
    let site = public.unwrap_or_else(|| format!("{}://HOST", if state.site.is_https { "https" } else { "http" }));
    let body = html! {
        h1 { (t("API for programs", "API для программ")) }
        section.card.stack {
            p { (t("Make a token on the box, and send it with each request:", "Сделайте токен на машине и посылайте его с каждым запросом:")) }
            div.cmd { code { "callspan token add crm --role listener --extensions 1xx --days 90" } }
            p { a href="/api/v1/openapi.json" { "openapi.json" } " (OpenAPI 3.1)" }
        }
        @for operation in OPERATIONS {
            section.card.stack {
                h2 { code { (operation.method.to_uppercase()) " " (operation.path) } }
                p { (viewer.lang.of_two(operation.does[0], operation.does[1])) }
                div.cmd { code { (example(operation, &site)) } button.plain type="button" data-copy { (t("Copy", "Копировать")) } }
                @if !operation.parameters.is_empty() {
                    p.small.muted { (t("Parameters: ", "Параметры: ")) @for (n, name) in operation.parameters.iter().enumerate() { @if n > 0 { ", " } code { (name) } } }
                }
            }
        }
    };
    pages::shell(&viewer, "API", NavEntry::Other, &[], &body).into_response()
}

/// Returns an example of an API operation: a `curl` command that sends its request.
fn example(operation: &ApiOperation, site: &str) -> String {
    let path = operation.path.replace("{id}", "ID").replace("{part}", "1").replace("{leg}", "1");
    let fields = match (operation.method, operation.parameters) {
        ("post", [first, ..]) => format!(" -d {first}=…"),
        ("post", []) => String::from(" -X POST"),
        _ => String::new(),
    };
    let range = if operation.answer.starts_with("audio") { " -o call.wav" } else { "" };
    format!("curl -H \"Authorization: Bearer $TOKEN\"{fields}{range} {site}{path}")
}

fn document() -> Value {
    let mut paths = serde_json::Map::new();
    for operation in OPERATIONS {
        let entry = paths.entry(operation.path).or_insert_with(|| json!({}));
        entry[operation.method] = described(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "callspan", "version": env!("CARGO_PKG_VERSION"), "license": { "name": "MIT OR Apache-2.0" } },
        "security": [{ "token": [] }, { "session": [] }],
        "components": {
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer" },
                "session": { "type": "apiKey", "in": "cookie", "name": "callspan" },
            },
            "schemas": {
                "Error": { "type": "object", "required": ["error"], "properties": { "error": { "type": "string" } } },
                "Status": { "type": "object", "properties": {
                    "ports": { "type": "array", "items": { "$ref": "#/components/schemas/Port" } } } },
                "Port": port(),
                "Direction": direction(),
            },
        },
        "paths": paths,
    })
}

fn described(operation: &ApiOperation) -> Value {
    let in_path = operation.path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let mut parameters: Vec<Value> = in_path
        .map(|name| {
            let kind = if name == "id" { "string" } else { "integer" };
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": kind } })
        })
        .collect();
    let is_post = operation.method == "post";
    let query = operation.parameters.iter().filter(|_| !is_post);
    parameters.extend(query.map(|name| json!({ "name": name, "in": "query", "schema": { "type": "string" } })));
    let problem = json!({ "description": "the reason",
        "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } } });
    let has_schema = operation.path == "/api/v1/status";
    let content = if has_schema { json!({ "schema": { "$ref": "#/components/schemas/Status" } }) } else { json!({}) };
    let mut answer = json!({
        "summary": operation.does[0],
        "parameters": parameters,
        "responses": {
            "200": { "description": "done", "content": { operation.answer: content } },
            "401": problem, "403": problem, "404": problem,
        },
    });
    if is_post && !operation.parameters.is_empty() {
        let fields = operation.parameters.iter().map(|name| ((*name).to_owned(), json!({ "type": "string" })));
        let schema = json!({ "type": "object", "properties": fields.collect::<serde_json::Map<_, _>>() });
        answer["requestBody"] = json!({ "content": { "application/x-www-form-urlencoded": { "schema": schema } } });
    }
    answer
}

/// Returns the JSON schema of a mirror port, i.e. of a capture interface.
fn port() -> Value {
    let count = |what: &str| json!({ "type": "integer", "description": format!("{what} since the start") });
    json!({ "type": "object", "properties": {
        "name": { "type": "string", "description": "name of the interface" },
        "is_up": { "type": "boolean" },
        "frames": count("frames"),
        "sip": count("SIP messages"),
        "rtp": count("RTP packets"),
        "copies": count("packets that another port had shown before"),
        "dropped_by_kernel": count("frames lost by the kernel"),
        "dropped_by_interface": count("frames lost by the interface"),
        "flow": { "type": "object", "properties": {
            "frames_per_s": { "type": "integer", "description": "frames a second, in the last five seconds" },
            "to_pbx": { "$ref": "#/components/schemas/Direction" },
            "from_pbx": { "$ref": "#/components/schemas/Direction" },
        } },
    } })
}

/// Returns the JSON schema of the counters of one direction at a mirror port.
fn direction() -> Value {
    json!({ "type": "object", "properties": {
        "packets": { "type": "integer", "description": "SIP and RTP packets since the start" },
        "per_s": { "type": "integer", "description": "packets a second, in the last five seconds" },
        "last_at": { "type": "string", "format": "date-time", "description": "when packets last arrived" },
    } })
}

const JSON: &str = "application/json";
const SEARCH: &[&str] = &[
    "q",
    "day",
    "from",
    "to",
    "t1",
    "t2",
    "direction",
    "outcome",
    "heard",
    "delivery",
    "ext",
    "site",
    "min",
    "max",
    "cursor",
];

const fn operation(
    method: &'static str,
    path: &'static str,
    does: [&'static str; 2],
    parameters: &'static [&'static str],
    answer: &'static str,
) -> ApiOperation {
    ApiOperation { method, path, does, parameters, answer }
}

const OPERATIONS: &[ApiOperation] = &[
    operation(
        "get",
        "/api/v1/calls",
        ["Finds calls, newest first; text/csv is available.", "Находит звонки, новые сначала; есть text/csv."],
        SEARCH,
        JSON,
    ),
    operation(
        "get",
        "/api/v1/report",
        ["Counts calls by how much was heard.", "Считает звонки по тому, что слышно."],
        SEARCH,
        JSON,
    ),
    operation("get", "/api/v1/calls/{id}", ["Returns the record of a call.", "Возвращает карточку звонка."], &[], JSON),
    operation(
        "get",
        "/api/v1/calls/{id}/peaks",
        ["Returns the waveform of each part.", "Возвращает форму звука каждой части."],
        &["n"],
        JSON,
    ),
    operation(
        "get",
        "/api/v1/calls/{id}/parts/{part}/audio",
        [
            "Returns the sound; Range and ETag. One row in the audit.",
            "Возвращает звук; Range и ETag. Одна строка в аудите.",
        ],
        &["download"],
        "audio/wav",
    ),
    operation(
        "get",
        "/api/v1/calls/{id}/packets/{leg}",
        ["Returns the kept packets of a leg, for Wireshark.", "Возвращает пакеты плеча для Wireshark."],
        &[],
        "application/octet-stream",
    ),
    operation(
        "get",
        "/api/v1/calls/{id}/ladder",
        [
            "Returns the signalling as messages between machines.",
            "Возвращает сигнализацию как сообщения между машинами.",
        ],
        &[],
        JSON,
    ),
    operation(
        "get",
        "/api/v1/calls/{id}/delivery",
        ["Returns the requests to Pyrus, their times and answers.", "Возвращает запросы в Pyrus, их время и ответы."],
        &[],
        JSON,
    ),
    operation("get", "/api/v1/calls/{id}/audit", ["Returns who listened.", "Возвращает, кто слушал."], &[], JSON),
    operation("get", "/api/v1/calls/{id}/notes", ["Returns notes and tags.", "Возвращает заметки и метки."], &[], JSON),
    operation("post", "/api/v1/calls/{id}/note", ["Writes a note.", "Записывает заметку."], &["text"], JSON),
    operation(
        "post",
        "/api/v1/calls/{id}/tag",
        ["Adds a tag; calls are found by #tag.", "Добавляет метку; звонки находятся по #метке."],
        &["text"],
        JSON,
    ),
    operation(
        "post",
        "/api/v1/calls/{id}/unnote",
        ["Removes a note or tag.", "Удаляет заметку или метку."],
        &["n"],
        JSON,
    ),
    operation("post", "/api/v1/calls/{id}/retry", ["Tries the delivery again.", "Повторяет передачу."], &[], JSON),
    operation(
        "post",
        "/api/v1/delivery/retry",
        ["Tries every failed delivery again.", "Повторяет каждую неудачную передачу."],
        &[],
        JSON,
    ),
    operation(
        "post",
        "/api/v1/calls/{id}/hold",
        ["Holds the files of a call.", "Удерживает файлы звонка."],
        &["why"],
        JSON,
    ),
    operation("post", "/api/v1/calls/{id}/release", ["Ends the hold.", "Отпускает файлы."], &[], JSON),
    operation(
        "post",
        "/api/v1/calls/{id}/pause",
        ["Pauses the recording of a live call.", "Приостанавливает запись идущего звонка."],
        &[],
        JSON,
    ),
    operation("post", "/api/v1/calls/{id}/resume", ["Resumes it.", "Продолжает запись."], &[], JSON),
    operation(
        "get",
        "/api/v1/why",
        ["Says why a call is not there.", "Говорит, почему звонка нет."],
        &["number", "day", "from", "to"],
        JSON,
    ),
    operation(
        "get",
        "/api/v1/audit",
        ["Returns rows of the audit.", "Возвращает строки аудита."],
        &["who", "action", "call", "from", "before"],
        JSON,
    ),
    operation(
        "get",
        "/api/v1/status",
        [
            "Returns the counters of the service, and packets a second of each mirror port to and from the PBX.",
            "Возвращает счётчики службы и пакеты в секунду на каждом порту зеркала, к АТС и от АТС.",
        ],
        &[],
        JSON,
    ),
    operation(
        "get",
        "/api/v1/sites",
        [
            "Returns the sites and their health. Only at the centre.",
            "Возвращает площадки и их состояние. Только в центре.",
        ],
        &[],
        JSON,
    ),
    operation("get", "/api/v1/openapi.json", ["Returns this description.", "Возвращает это описание."], &[], JSON),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn description_has_every_route_of_the_api() {
        let routes = include_str!("server.rs").split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
        let document = document();
        for route in routes.filter(|route| route.starts_with("/api/v1/") && !route.ends_with("{action}")) {
            assert!(document["paths"].get(route).is_some(), "{route} is not described");
        }
        assert!(document["paths"]["/api/v1/calls/{id}/hold"]["post"]["requestBody"].is_object());
        assert_eq!(document["paths"]["/api/v1/calls/{id}"]["get"]["parameters"][0]["name"], "id");
    }
}
