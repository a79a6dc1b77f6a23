//! Tests of the page that explains why a call is missing: what the mirror port showed at that time.

use super::*;

/// Asks the console why there are no calls of a certain number on a certain day. Returns the sentence on the page, and
/// the state of the mirror port from the API.
fn answer(office: &Office) -> (String, String) {
    let day = "2026-11-18";
    let page = office.get(&format!("/why?number=300-99-99&day={day}&lang=en"), "").body;
    let api = office.get(&format!("/api/v1/why?number=300-99-99&day={day}"), "").body;
    let api: serde_json::Value = serde_json::from_str(&api).expect("JSON");
    assert_eq!(api["answer"], "number_not_seen");
    let sentence = page.split("<p class=\"answer\">").nth(1).and_then(|rest| rest.split("</p>").next());
    (sentence.expect("an answer").to_owned(), api["mirror"].as_str().expect("a state").to_owned())
}

#[test]
fn missing_call_says_whether_the_mirror_was_healthy_then() {
    let verdicts = |verdicts: &[CallVerdict]| {
        let office = Office::with_calls(&[]);
        let journal = Journal::open(&office.config.journal).expect("a journal");
        for (n, verdict) in (0..).zip(verdicts) {
            let record = CallRecord { verdict: Some(*verdict), ..call(office.dir.path(), n, "120") };
            journal.put_call(&record, CallStage::Complete).expect("put");
        }
        answer(&office)
    };
    use CallVerdict::{BothSides, CallerOnly, NoMedia, NotAnswered};
    for (calls, state, words) in [
        (&[BothSides, BothSides, NotAnswered][..], "healthy", "The mirror was healthy then: 2 calls of other numbers"),
        (&[CallerOnly, NotAnswered], "one_sided", "The mirror was one-sided then: 1 call of other numbers"),
        (&[BothSides, CallerOnly], "partial", "1 call of other numbers heard on both sides, 1 without a side"),
        (&[NoMedia], "silent", "The mirror showed no sound then: 1 call of other numbers"),
        (&[NotAnswered], "unknown", "nothing is known about the mirror"),
    ] {
        let (sentence, mirror) = verdicts(calls);
        assert_eq!(mirror, state);
        assert!(sentence.contains(words), "{sentence}");
    }
}
