//! Checks the layers of the library: which module may use which, and which modules may have effects (clock, file,
//! socket, thread).
//!
//! The order is that of the table in `src/lib.rs`. The check reads the paths that occur in the sources. Test modules
//! (`mod tests` at the bottom of a file, `tests.rs`) may use every module.

mod circles;
mod language;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each module, and the modules that it may use besides itself and [`BASE`]. Every module must be in this list.
const MAY_USE: &[(&str, &[&str])] = &[
    ("codec", &[]),
    ("net", &[]),
    ("text", &[]),
    ("time", &[]),
    ("capture", &[]),
    ("decode", &["capture"]),
    ("sip", &[]),
    ("sdp", &[]),
    ("rtp", &[]),
    ("call", &["decode", "sip", "sdp", "rtp"]),
    // The spool uses `capture` for link types only.
    ("spool", &["capture", "decode", "rtp", "call"]),
    ("render", &["rtp", "call", "spool"]),
    ("recording", &["call", "spool", "render"]),
    // The state machine of delivery, without side effects. It declares the rows in which its state is stored.
    ("delivery", &["call"]),
    // The state machine of the central archive, without side effects.
    ("archive", &[]),
    // Stores the rows that delivery and archive declare.
    ("journal", &["call", "recording", "delivery", "archive"]),
    // The clients of the central archive.
    ("central", &["call", "recording", "journal", "archive"]),
    // The HTTP client executes the actions of delivery. It knows nothing of capture.
    ("pyrus", &["call", "recording", "journal", "delivery"]),
    // The fake shares no code with the client that it tests. Otherwise both could have the same mistake.
    ("fake_pyrus", &[]),
    (
        "ops",
        &[
            "capture",
            "decode",
            "sip",
            "sdp",
            "rtp",
            "call",
            "spool",
            "render",
            "recording",
            "journal",
            "delivery",
            "pyrus",
            "central",
        ],
    ),
    (
        "service",
        &[
            "capture",
            "decode",
            "sip",
            "sdp",
            "rtp",
            "call",
            "spool",
            "render",
            "recording",
            "journal",
            "delivery",
            "pyrus",
            "archive",
            "central",
            "ops",
        ],
    ),
    // Pages over the journal or the central archive. Uses `service` for its clock.
    ("console", &["call", "recording", "journal", "delivery", "central", "ops", "service"]),
    (
        "cmd",
        &[
            "capture",
            "decode",
            "sip",
            "sdp",
            "rtp",
            "call",
            "spool",
            "render",
            "recording",
            "journal",
            "delivery",
            "pyrus",
            "archive",
            "central",
            "fake_pyrus",
            "ops",
            "service",
            "console",
        ],
    ),
];

/// Modules that every module may use.
const BASE: &[&str] = &["codec", "net", "text", "time"];

/// Modules with effects (clock, file, socket, thread).
const IO: &[&str] =
    &["capture", "spool", "recording", "journal", "pyrus", "central", "fake_pyrus", "ops", "service", "console", "cmd"];

/// Paths of the standard library and of crates that have effects.
const EFFECTS: &[&str] = &[
    "std::fs",
    "std::process",
    "std::thread",
    "std::env",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::net::ToSocketAddrs",
    "std::os::unix::net",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "reqwest",
    "rusqlite",
    "axum",
    "pcap",
    "crossbeam_channel",
    "tracing",
];

/// Exceptions to [`MAY_USE`] for single files, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[];

/// Exceptions to [`EFFECTS`]: file, path, reason.
const EFFECT_EXCEPTIONS: &[(&str, &str, &str)] =
    &[("render/codec/test_codec.rs", "std::process::abort", "in debug builds only: a decoder that crashes on demand")];

#[test]
fn every_module_of_lib_rs_has_a_place_in_the_order() {
    let lib = read(&root().join("src/lib.rs"));
    let declared: BTreeSet<&str> = lib
        .lines()
        .filter_map(|l| l.strip_prefix("pub mod ").or_else(|| l.strip_prefix("pub(crate) mod ")))
        .filter_map(|l| l.strip_suffix(';'))
        .collect();
    let ordered: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    assert_eq!(declared, ordered);
}

#[test]
fn a_module_uses_only_the_modules_it_may_use() {
    let mut wrong = Vec::new();
    for file in sources() {
        let may = MAY_USE.iter().find(|(module, _)| *module == file.module).map(|(_, may)| *may);
        let may = may.unwrap_or_else(|| panic!("the module {} is not in the order", file.module));
        for path in &file.paths {
            let Some(module) = path.strip_prefix("crate::").and_then(|p| p.split("::").next()) else { continue };
            let known = module == file.module || BASE.contains(&module) || may.contains(&module);
            let is_module = MAY_USE.iter().any(|(r, _)| *r == module);
            let excepted = EXCEPTIONS.iter().any(|(f, r, _)| file.name == *f && module == *r);
            if is_module && !known && !excepted {
                wrong.push(format!("{}: {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "modules that may not be used here:\n{}", wrong.join("\n"));
}

#[test]
fn a_module_may_use_only_modules_above_it() {
    for (at, (module, may)) in MAY_USE.iter().enumerate() {
        let above: Vec<&str> = MAY_USE.iter().take(at).map(|(r, _)| *r).collect();
        assert!(may.iter().all(|m| above.contains(m)), "{module} may use {may:?}, above it are {above:?}");
    }
}

#[test]
fn sip_sdp_and_rtp_meet_only_in_call() {
    for (module, others) in [("sip", ["sdp", "rtp"]), ("sdp", ["sip", "rtp"]), ("rtp", ["sip", "sdp"])] {
        let may = MAY_USE.iter().find(|(r, _)| *r == module).expect("in the order").1;
        assert!(!others.iter().any(|other| may.contains(other)), "{module}");
    }
}

#[test]
fn effects_are_only_in_the_modules_marked_io() {
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|f| !IO.contains(&f.module.as_str())) {
        for path in &file.paths {
            let effect = EFFECTS.iter().find(|e| path == *e || path.starts_with(&format!("{e}::")));
            let is_excepted =
                EFFECT_EXCEPTIONS.iter().any(|(name, excepted, _)| file.name == *name && path == *excepted);
            if effect.is_some() && !is_excepted {
                wrong.push(format!("{}: {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "effects in modules that are not marked [IO] in src/lib.rs:\n{}", wrong.join("\n"));
}

#[test]
fn the_io_modules_are_those_marked_in_lib_rs() {
    let lib = read(&root().join("src/lib.rs"));
    let marked: BTreeSet<&str> = lib
        .lines()
        .filter_map(|l| l.strip_prefix("//!   "))
        .filter(|l| l.contains("[IO]"))
        .filter_map(|l| l.split_whitespace().next())
        .collect();
    assert_eq!(marked, IO.iter().copied().collect());
}

#[test]
fn no_struct_of_call_has_more_than_twelve_fields() {
    // Records of the output, configurations and counters are lists of fields, so they may have many fields.
    let is_list = |path: &Path| ["record.rs", "config.rs", "counters.rs"].iter().any(|name| path.ends_with(name));
    let mut files = Vec::new();
    walk(&root().join("src/call"), &mut files);
    for path in files.iter().filter(|path| !is_list(path)) {
        for (name, fields) in structs(before_tests(&read(path))) {
            assert!(fields <= MAX_FIELDS, "{name} in {} has {fields} fields, more than {MAX_FIELDS}", path.display());
        }
    }
    assert_eq!(
        structs("pub(crate) struct A {\n    /// B\n    pub(super) b: u8,\n    c: u8,\n}\n"),
        [("A".to_owned(), 2)]
    );
}

/// Returns the structs in a formatted file: name and number of fields.
fn structs(text: &str) -> Vec<(String, usize)> {
    let mut found: Vec<(String, usize)> = Vec::new();
    let mut is_inside = false;
    for line in text.lines() {
        if let Some((_, rest)) =
            line.split_once("struct ").filter(|_| !line.starts_with([' ', '/']) && line.ends_with('{'))
        {
            let name = rest.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            found.push((name.to_owned(), 0));
            is_inside = true;
        } else if line.starts_with('}') {
            is_inside = false;
        } else if is_inside && line.starts_with("    ") && !line.starts_with("     ") {
            let code = line.trim_start();
            if let Some((_, fields)) = found.last_mut().filter(|_| code.contains(": ") && !code.starts_with(['/', '#']))
            {
                *fields += 1;
            }
        }
    }
    found
}

/// Maximum number of fields of a struct. A struct with more fields should be several structs.
const MAX_FIELDS: usize = 12;

#[test]
fn grouped_nested_and_inline_paths_are_found() {
    let text = r#"
//! This fixture of the test names [`crate::ops`] in a comment, which is no dependency.
use crate::{call::record::{CallRecord, Side}, net, time::Timestamp};
use std::{fmt, fs::File as F, net::{IpAddr, UdpSocket}};
pub(crate) use super::config;
fn g<'a>() -> impl Iterator<Item = u8> + use<'a> { std::iter::empty() }
fn f() { let _ = crate::spool::config::Config::default(); /* crate::pyrus */ let s = "crate::journal::x"; }
#[cfg(test)]
mod tests { use crate::cmd; }
"#;
    let found = paths(text, "call", &[]);
    let has = |path: &str| found.contains(path);
    assert!(has("crate::call::record::CallRecord") && has("crate::net") && has("crate::time::Timestamp"), "{found:?}");
    assert!(has("std::fs::File") && has("std::net::UdpSocket") && has("std::net::IpAddr"), "{found:?}");
    assert!(has("crate::spool::config::Config::default"), "{found:?}");
    for absent in ["crate::ops", "crate::pyrus", "crate::journal::x", "crate::cmd"] {
        assert!(!has(absent), "{absent} in {found:?}");
    }
}

#[test]
fn imported_modules_and_super_are_resolved() {
    let text = "use std::fs;\nuse super::super::spool::x;\nfn f() { fs::read(\"x\"); }\n";
    let found = paths(text, "call", &["dialog"]);
    assert!(found.contains("std::fs") && found.contains("crate::spool::x"), "{found:?}");
}

struct SourceFile {
    /// Path of the file below `src/`.
    name: String,
    module: String,
    paths: BTreeSet<String>,
}

fn sources() -> Vec<SourceFile> {
    let src = root().join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    assert!(files.len() > 20, "the sources were found");
    let source_of = |file: &PathBuf| {
        let name = file.strip_prefix(&src).expect("below src").to_string_lossy().into_owned();
        let parts: Vec<&str> = name.trim_end_matches(".rs").split('/').collect();
        let (module, rest) = parts.split_first().expect("a path has a part");
        if ["lib", "main"].contains(module) || parts.contains(&"tests") {
            return None;
        }
        let modules: Vec<&str> = rest.iter().copied().filter(|m| *m != "mod").collect();
        let paths = paths(&read(file), module, &modules);
        Some(SourceFile { module: (*module).to_owned(), paths, name: name.clone() })
    };
    files.iter().filter_map(source_of).collect()
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src can be read") {
        let path = entry.expect("src can be read").path();
        if path.is_dir() {
            walk(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every path in the code of a file, in absolute form. Paths are in `use` trees and in expressions.
fn paths(text: &str, module: &str, modules: &[&str]) -> BTreeSet<String> {
    let code = without_comments_and_strings(before_tests(text));
    let tokens = tokens(&code);
    let mut found = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at] == "use" && tokens.get(at + 1) == Some(&"<") {
            at += 2; // `use<'_>` of a return type names captured lifetimes and imports nothing
        } else if tokens[at] == "use" {
            at = use_tree(&tokens, at + 1, "", &mut found);
        } else if is_word(tokens[at]) && tokens.get(at + 1) == Some(&"::") && (at == 0 || tokens[at - 1] != "::") {
            let mut path = String::from(tokens[at]);
            at += 1;
            while tokens.get(at) == Some(&"::") && tokens.get(at + 1).is_some_and(|t| is_word(t)) {
                path = format!("{path}::{}", tokens[at + 1]);
                at += 2;
            }
            found.insert(path);
        } else {
            at += 1;
        }
    }
    found.iter().map(|p| absolute(p, module, modules)).collect()
}

/// Reads one tree of a `use`, for example `a::{b, c::d as e}`. Returns the index of the token after it.
fn use_tree(tokens: &[&str], mut at: usize, prefix: &str, found: &mut BTreeSet<String>) -> usize {
    let mut path = String::from(prefix);
    while let Some(token) = tokens.get(at) {
        match *token {
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|t| !["}", ";"].contains(t)) {
                    at = use_tree(tokens, at, &path, found);
                    if tokens.get(at) == Some(&",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "::" => at += 1,
            "as" => at += 2,
            "," | "}" | ";" => {
                found.insert(path);
                return at;
            }
            word => {
                path = if path.is_empty() { word.to_owned() } else { format!("{path}::{word}") };
                at += 1;
            }
        }
    }
    at
}

/// Replaces `super::` and `self::` by the path of the module.
fn absolute(path: &str, module: &str, modules: &[&str]) -> String {
    let mut here: Vec<&str> = std::iter::once("crate").chain([module]).chain(modules.iter().copied()).collect();
    let mut parts: Vec<&str> = path.split("::").collect();
    if !["super", "self"].contains(&parts[0]) {
        return path.to_owned();
    }
    while let Some(first) = parts.first() {
        match *first {
            "self" => drop(parts.remove(0)),
            "super" => {
                parts.remove(0);
                here.pop();
            }
            _ => break,
        }
    }
    here.extend(parts);
    here.join("::")
}

/// Returns the code of a file up to its test module.
fn before_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod ").map_or(text, |at| &text[..at])
}

fn is_word(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// Splits code into words, `::` and other single characters.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_alphanumeric() || first == '_' {
            rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, after) = rest.split_at(length);
        if !first.is_whitespace() {
            tokens.push(token);
        }
        rest = after;
    }
    tokens
}

/// Returns the code with blanks in place of comments and string literals.
fn without_comments_and_strings(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skip = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let from = hashes + 2;
            rest[from..].find(&end).map_or(rest.len(), |at| from + at + end.len())
        } else if first == '"' {
            string_end(rest)
        } else if rest.starts_with("'\"'") {
            3
        } else {
            out.push(first);
            rest = &rest[first.len_utf8()..];
            continue;
        };
        out.push(' ');
        rest = &rest[skip..];
    }
    out
}

/// Returns the number of `#` if a raw string begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let after = rest.strip_prefix('r')?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    after[hashes..].starts_with('"').then_some(hashes)
}

fn string_end(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}
