//! Tests of the story of a delivery: its requests with times, responses and the time of the next try.

use super::*;
use crate::delivery::story::{AttemptResult, AttemptedStep, DeliveryStory};

/// Returns the list of requests (story) from the newest row that the state machine wants to store.
fn story(machine: &mut DeliveryMachine) -> DeliveryStory {
    rows(machine).last().expect("a row").story()
}

#[test]
fn each_request_is_in_the_row_with_its_time_and_answer() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 1));
    let register = action(&mut m, at(0));
    m.handle_outcome(at(1), register.id, &good(&register.request));
    for second in [2, 400] {
        let upload = action(&mut m, at(second));
        m.handle_outcome(at(second + 1), upload.id, &http(500, r#"{"error":"a secret of Pyrus"}"#));
    }
    let [registered, failed] = &story(&mut m).attempts[..] else { panic!("two entries") };
    assert_eq!((registered.step, registered.result), (AttemptedStep::Register, AttemptResult::Done));
    assert_eq!((registered.at, registered.answered_at), (at(0), at(1)));
    assert_eq!((registered.answer.as_str(), &registered.reason, registered.next_at), ("HTTP 200", &None, None));
    assert_eq!((failed.step, failed.part, failed.times), (AttemptedStep::Upload, Some(1), 2));
    assert_eq!((failed.at, failed.answered_at, failed.answer.as_str()), (at(2), at(401), "HTTP 500"));
    assert!(failed.reason.as_deref().is_some_and(|reason| reason.contains("HTTP 500")), "{failed:?}");
    assert!(failed.next_at.is_some_and(|next| next > at(401)), "{failed:?}");

    // Requests after a restart are added to the same list of requests (story).
    let kept = rows_after_restart(&mut m, 900);
    let steps: Vec<_> = kept.attempts.iter().map(|attempt| (attempt.step, attempt.result)).collect();
    let done = AttemptResult::Done;
    assert_eq!(
        steps,
        [
            (AttemptedStep::Register, done),
            (AttemptedStep::Upload, AttemptResult::Failed),
            (AttemptedStep::Upload, done),
            (AttemptedStep::Attach, done)
        ]
    );
}

/// Simulates a restart: loads the rows into a new state machine, delivers the rest, and returns the list of requests.
fn rows_after_restart(machine: &mut DeliveryMachine, second: i64) -> DeliveryStory {
    let row = job(machine).to_row();
    let mut next = self::machine();
    assert_eq!(next.load(at(second), [row]), []);
    run(&mut next, at(second));
    story(&mut next)
}

#[test]
fn refused_account_names_the_time_of_the_next_probe() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 1));
    let register = action(&mut m, at(0));
    m.handle_outcome(at(0), register.id, &http(403, r#"{"error_code":"access_denied"}"#));
    let [refused] = &story(&mut m).attempts[..] else { panic!("one entry") };
    assert_eq!((refused.result, refused.answer.as_str()), (AttemptResult::Failed, "HTTP 403 access_denied"));
    assert_eq!(m.poll_action(at(0)), NextAction::WaitUntil(refused.next_at.expect("a next try")));
}

#[test]
fn row_of_an_earlier_version_has_no_story() {
    let new = DeliveryJob::new(&call("a", CallProgress::Live, 0).record, CallProgress::Live).to_row();
    assert!(!new.body.contains("story"), "nothing was sent yet");
    assert_eq!(new.story(), DeliveryStory::default());
    assert_eq!(DeliveryJob::from_row(&new).expect("a job").story, DeliveryStory::default());
}
