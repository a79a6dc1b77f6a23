//! Captures by others, when `CALLSPAN_CORPUS` names a folder that has `pcaps/` with an `oracle.json`; none of them is
//! ours to ship. The oracle is a second opinion by tshark, which can be wrong where we are right: each difference is in
//! a table with who is right and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::common::calls::{Replayed, replay_files};

/// A call as tshark sees it; without a Call-ID: RTP that it could tie to none.
#[derive(Debug, Deserialize)]
struct Opinion {
    call_id: Option<String>,
    #[serde(default)]
    rtp: Vec<OpinionStream>,
}

#[derive(Debug, Deserialize)]
struct OpinionStream {
    src: String,
    dst: String,
    ssrc: String,
    packets: u64,
    #[serde(default)]
    dups: u64,
    codecs: Vec<String>,
}

#[test]
fn captures_by_others_give_the_calls_codecs_and_packets_of_the_oracle() {
    let Some(folder) = std::env::var_os("CALLSPAN_CORPUS").map(|c| PathBuf::from(c).join("pcaps")) else {
        println!("skipped: CALLSPAN_CORPUS is not set");
        return;
    };
    let text = std::fs::read_to_string(folder.join("oracle.json")).expect("the corpus has an oracle");
    let oracle: BTreeMap<String, Vec<Opinion>> = serde_json::from_str(&text).expect("the oracle is JSON");
    let mut differences = Vec::new();
    for (name, opinions) in &oracle {
        let replayed = replay_files(&[folder.join(name)]);
        compare(name, opinions, &replayed, &mut differences);
    }
    for d in &differences { println!("{d}"); }
}

fn compare(name: &str, opinions: &[Opinion], replayed: &Replayed, differences: &mut Vec<String>) {
    let legs: BTreeSet<&str> =
        replayed.records.iter().flat_map(|r| &r.legs).map(|l| l.sip_call_id.as_str()).collect();
    let known: BTreeSet<&str> = opinions.iter().filter_map(|o| o.call_id.as_deref()).collect();
    for id in known.difference(&legs) { differences.push(format!("{name}: call {id} is missing")); }
    for id in legs.difference(&known) { differences.push(format!("{name}: call {id} is unknown to the oracle")); }
    let mut ours = BTreeMap::new();
    for s in replayed.records.iter().flat_map(|r| r.sides.caller.streams.iter().chain(&r.sides.callee.streams)) {
        let e = ours.entry((s.src.to_string(), s.dst.to_string(), s.ssrc.clone())).or_insert((0, String::new()));
        e.0 += s.packets; e.1 = s.codec.clone().unwrap_or_default();
    }
    let mut theirs = BTreeMap::new();
    for s in opinions.iter().flat_map(|o| &o.rtp) {
        let e = theirs.entry((s.src.clone(), s.dst.clone(), s.ssrc.clone())).or_insert((0, 0, String::new()));
        e.0 += s.packets; e.1 += s.dups; e.2 = s.codecs.join(",");
    }
    for (k, t) in &theirs {
        match ours.get(k) {
            None => differences.push(format!("{name}: {k:?} {t:?} not heard")),
            Some(o) if o.0 != t.0 - t.1 || !t.2.to_uppercase().contains(&o.1.to_uppercase()) => differences.push(format!("{name}: {k:?} {t:?} ours {o:?}")),
            Some(_) => {}
        }
    }
    for (k, o) in &ours {
        if !theirs.contains_key(k) { differences.push(format!("{name}: {k:?} {o:?} unknown to the oracle")); }
    }
}

#[test]
fn no_capture_by_others_makes_us_panic() {
    let Some(folder) = std::env::var_os("CALLSPAN_CORPUS").map(|c| PathBuf::from(c).join("pcaps")) else {
        println!("skipped: CALLSPAN_CORPUS is not set");
        return;
    };
    let mut files = Vec::new();
    walk(&folder, &mut files);
    println!("{}", files.len());
    for file in files {
        replay_files(&[file]);
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the corpus can be read") {
        let path = entry.expect("the corpus can be read").path();
        if path.is_dir() {
            walk(&path, files);
        } else if !["md", "json", "tsv"].iter().any(|e| path.extension().is_some_and(|x| x == *e)) {
            files.push(path);
        }
    }
}
