//! Scripts, styles and images of the pages. The binary contains them.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Responds with an embedded file (script, style or image) by its name.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    let found = ASSETS.iter().find(|(known, _, _)| *known == name);
    let Some((_, kind, text)) = found else { return StatusCode::NOT_FOUND.into_response() };
    // `no-cache` makes the browser ask each time whether the file has changed. It is needed because new versions of a
    // file have the same name.
    ([(header::CONTENT_TYPE, *kind), (header::CACHE_CONTROL, "no-cache")], *text).into_response()
}

/// SVG symbols that every page includes.
pub(super) const SPRITE: &str = include_str!("files/sprite.svg");

const SCRIPT: &str = "text/javascript; charset=utf-8";

const ASSETS: &[(&str, &str, &str)] = &[
    ("console.css", "text/css; charset=utf-8", include_str!("files/console.css")),
    ("console.js", SCRIPT, include_str!("files/console.js")),
    ("search.js", SCRIPT, include_str!("files/search.js")),
    ("player.js", SCRIPT, include_str!("files/player.js")),
    ("unlock.js", SCRIPT, include_str!("files/unlock.js")),
    ("age.js", SCRIPT, include_str!("files/vendor/age.js")),
    ("live.js", SCRIPT, include_str!("files/live.js")),
];
