//! Test: Pyrus is unreachable for a day and then gets ten thousand calls.

use std::collections::VecDeque;

use super::*;

/// A simulated Pyrus with a rate limit: 5,000 requests in each window of 600 s. Each response has headers about the
/// limit.
#[derive(Default)]
struct RateLimitedPyrus {
    window: i64,
    used: i64,
    refused: u32,
    requests: u32,
}

impl RateLimitedPyrus {
    fn answer(&mut self, request: &PyrusRequest, s: i64) -> RequestOutcome {
        self.requests += 1;
        if self.window != s / WINDOW_S {
            (self.window, self.used) = (s / WINDOW_S, 0);
        }
        // `auth` requests have no token and do not count towards the rate limit.
        if !matches!(request, PyrusRequest::Auth) {
            self.used += 1;
        }
        let (status, body) = match good(request) {
            _ if self.used > LIMIT => {
                self.refused += 1;
                (429, br#"{"error_code":"too_many_requests"}"#.to_vec())
            }
            RequestOutcome::Response(answer) => (answer.status, answer.body),
            RequestOutcome::Failed(failure) => panic!("it is good: {failure:?}"),
        };
        let rate = RateLimitHeaders {
            remaining: Some((LIMIT - self.used).max(0).to_string()),
            reset: Some((WINDOW_S - s % WINDOW_S).to_string()),
            retry_after: None,
        };
        RequestOutcome::Response(PyrusResponse { status, rate, body, sent_md5: Some("00".into()) })
    }
}

#[test]
fn backlog_of_a_day_is_delivered_in_order_within_the_rate() {
    let mut m = machine();
    let mut handed_over = 0;
    let mut now = at(0);
    // Pyrus is unreachable: each request fails after a second. 10,000 calls begin in a day, i.e. one every 8.64 s, and
    // every second call has a recording.
    let mut tries = 0;
    while handed_over < CALLS {
        let due = at(i64::from(handed_over) * DAY_S / i64::from(CALLS));
        match m.poll_action(now) {
            NextAction::Send(action) => {
                tries += 1;
                now = now + Duration::from_secs(1);
                m.handle_outcome(now, action.id, &RequestOutcome::Failed(RequestFailure::NotSent("no route".into())));
            }
            NextAction::WaitUntil(then) if then < due => now = then,
            NextAction::WaitUntil(_) | NextAction::Idle => {
                now = now.max(due);
                m.handle_call(&call(&format!("c{handed_over:05}"), CallProgress::Complete, handed_over % 2));
                handed_over += 1;
            }
        }
        rows(&mut m);
    }
    // The pauses grow to 150 s on average and 300 s at most. A day of 86,400 s then has about 576 attempts, and at
    // least 288. At the beginning the pauses are shorter, which adds some attempts.
    assert!((288..1_200).contains(&tries), "{tries} tries in a day");
    let summary = m.summary();
    assert_eq!((summary.owed, summary.blocked_by), (CALLS as usize, Some(DeliveryBlocker::Unreachable)));
    // Pyrus can be reached again. Each request takes 200 ms.
    let mut pyrus = RateLimitedPyrus::default();
    let mut flying: VecDeque<DeliveryAction> = VecDeque::new();
    let (begin, mut registered) = (now, Vec::new());
    while !m.is_settled() {
        match m.poll_action(now) {
            NextAction::Send(action) => {
                if let PyrusRequest::Register(body) = &action.request {
                    registered.push(body.external_id.clone());
                }
                flying.push_back(action);
            }
            other => match (flying.pop_front(), other) {
                (Some(action), _) => {
                    now = now + Duration::from_millis(50); // 200 ms each, four in parallel
                    let reply = pyrus.answer(&action.request, now.as_micros() / 1_000_000);
                    m.handle_outcome(now, action.id, &reply);
                }
                (None, NextAction::WaitUntil(then)) => now = then,
                (None, other) => panic!("it stands still: {other:?}"),
            },
        }
        rows(&mut m);
    }
    assert_eq!((m.summary().done, pyrus.refused), (CALLS as usize, 0));
    // Calls with odd numbers have a recording and are delivered first. Within the odd and the even calls, the oldest
    // call comes first.
    let is_odd = |id: &String| id.ends_with(['1', '3', '5', '7', '9']);
    assert!(registered.is_sorted_by_key(|id| (!is_odd(id), id.clone())), "the oldest call first");
    assert_eq!(registered.len(), CALLS as usize, "each once");
    // The login and two requests for each of 10,000 calls are 20,001 requests. At 5,000 requests in each window, they
    // fill four rate-limit windows and parts of the windows before and after.
    assert_eq!(pyrus.requests, 2 * CALLS + 1);
    let took = now.since(begin).as_secs();
    assert!((4 * 600 - 600..=6 * 600).contains(&took), "{took} s");
}

const CALLS: u32 = 10_000;
const DAY_S: i64 = 86_400;
const LIMIT: i64 = 5_000;
const WINDOW_S: i64 = 600;
