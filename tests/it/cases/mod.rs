//! Situations from public bug reports of other recorders. Each capture of `fixtures/cases/calls` must give the records
//! and the tones in `expect.json`.
//!
//! [`KNOWN_FAILURES`] lists the cases that fail today, each with its cause. If a listed case passes, the test fails, so
//! that the list stays true.

#![allow(clippy::print_stdout, reason = "a test prints what it measured")]
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod tones;

use callspan::call::record::CallRecord;
use callspan::ops::config::Config;
use serde::Deserialize;
use serde_json::Value;

use crate::support::captures::{fixture, replay_with};
use tones::channel_tones;

/// Cases that fail today: the beginning of the file name, and the cause.
const KNOWN_FAILURES: &[(&str, &str)] = &[];

/// One case in `expect.json`.
#[derive(Deserialize)]
struct CaseFile {
    file: String,
    situation: String,
    expected: String,
    checks: Vec<serde_json::Map<String, Value>>,
    /// Values for the section `[numbers]` of the configuration; `None` for the default values.
    numbers: Option<CaseNumbers>,
}

#[derive(Deserialize)]
struct CaseNumbers {
    extension_pattern: String,
    country_code: String,
    national_prefix: String,
    international_prefix: String,
}

#[test]
fn every_case_gives_its_records_and_its_sound() {
    let text = std::fs::read_to_string(fixture("cases/calls/expect.json")).unwrap();
    let cases: Vec<CaseFile> = serde_json::from_str(&text).unwrap();
    let (first, second) = cases.split_at(cases.len() / 2);
    let run = |cases: &[CaseFile]| cases.iter().map(|case| (case.file.clone(), failures(case))).collect::<Vec<_>>();
    let results = std::thread::scope(|scope| {
        let other = scope.spawn(|| run(second));
        let mut results = run(first);
        results.extend(other.join().unwrap());
        results
    });
    let known = |file: &str| KNOWN_FAILURES.iter().any(|(name, _)| file.starts_with(name));
    let mut wrong = Vec::new();
    for (file, found) in &results {
        match (found.is_empty(), known(file)) {
            (false, false) => wrong.push(format!("{file} fails:\n  {}", found.join("\n  "))),
            (true, true) => wrong.push(format!("{file} passes: remove it from KNOWN_FAILURES")),
            _ => {}
        }
    }
    for (name, _) in KNOWN_FAILURES {
        assert!(results.iter().any(|(file, _)| file.starts_with(name)), "{name} names no case");
    }
    println!("{} of {} cases pass", results.iter().filter(|(_, found)| found.is_empty()).count(), results.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Replays a case. Returns the differences from the expected values.
fn failures(case: &CaseFile) -> Vec<String> {
    let mut config = Config::default();
    if let Some(numbers) = &case.numbers {
        let own = &mut config.call.numbers;
        own.extension_pattern.clone_from(&numbers.extension_pattern);
        own.country_code.clone_from(&numbers.country_code);
        own.national_prefix.clone_from(&numbers.national_prefix);
        own.international_prefix.clone_from(&numbers.international_prefix);
    }
    let replayed = replay_with(config, &[fixture(&format!("cases/calls/{}", case.file))]).unwrap();
    let mut out: Vec<String> = case.checks.iter().flat_map(|check| differences(check, &replayed.records)).collect();
    if !out.is_empty() {
        out.insert(0, format!("{}; expected: {}", case.situation, case.expected));
    }
    out
}

fn differences(check: &serde_json::Map<String, Value>, records: &[CallRecord]) -> Vec<String> {
    let mut out = Vec::new();
    if let Some(wanted) = check.get("records").and_then(Value::as_u64)
        && wanted as usize != records.len()
    {
        out.push(format!("{} records, not {wanted}", records.len()));
    }
    let index = check["index"].as_i64().unwrap();
    let index = if index < 0 { records.len() as i64 + index } else { index };
    let Some(record) = usize::try_from(index).ok().and_then(|index| records.get(index)) else {
        out.push(format!("no record {index}"));
        return out;
    };
    let json = serde_json::to_value(record).unwrap();
    for (name, wanted) in check.iter().filter(|(name, _)| !matches!(name.as_str(), "records" | "index")) {
        let (fits, found) = compare(name, wanted, record, &json);
        if !fits {
            out.push(format!("record {index}: {name} is {found}, not {wanted}"));
        }
    }
    out
}

/// Compares one value of a check with a record. Returns whether they are equal, and the record's value.
fn compare(name: &str, wanted: &Value, record: &CallRecord, json: &Value) -> (bool, Value) {
    match name {
        "dur" => {
            let found = record.duration_s.unwrap_or(-1.0);
            ((found - wanted.as_f64().unwrap()).abs() <= DURATION_TOLERANCE_S, found.into())
        }
        "wav" => {
            let found: f64 = record.recordings.iter().map(|r| r.duration_s).sum();
            ((found - wanted.as_f64().unwrap()).abs() <= DURATION_TOLERANCE_S, found.into())
        }
        "legs" => (wanted.as_u64() == Some(record.legs.len() as u64), record.legs.len().into()),
        "related" => (wanted.as_bool() == Some(!record.related.is_empty()), record.related.is_empty().into()),
        "L" | "R" => {
            let wanted: Vec<u32> = serde_json::from_value(wanted.clone()).unwrap();
            let found = channel_tones(record, usize::from(name == "R"), wanted.contains(&0));
            (found == wanted, found.into())
        }
        _ => {
            let found = json.get(name).cloned().unwrap_or_default();
            let fits = match wanted {
                Value::Array(any) => any.contains(&found),
                one => *one == found,
            };
            (fits, found)
        }
    }
}

/// Maximum difference of a duration, seconds.
const DURATION_TOLERANCE_S: f64 = 0.15;
