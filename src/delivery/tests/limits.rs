//! Tests of rate limits, outages and refusals that concern all calls.

use super::*;

#[test]
fn too_many_requests_pauses_every_call() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    m.handle_call(&call("b", CallProgress::Complete, 0));
    let register = action(&mut m, at(0));
    let rate = RateLimitHeaders { reset: Some("40".into()), ..RateLimitHeaders::default() };
    let answer = PyrusResponse { status: 429, rate, body: Vec::new(), sent_md5: None };
    m.handle_outcome(at(0), register.id, &RequestOutcome::Response(answer));
    let NextAction::WaitUntil(until) = m.poll_action(at(0)) else { panic!("a wait") };
    assert!(until >= at(40) && until <= at(41), "40 s and up to one of jitter");
    assert_eq!(m.poll_action(at(39)), NextAction::WaitUntil(until));
    assert!(m.is_rate_limited(at(39)) && !m.is_settled());
    assert_eq!(run(&mut m, until), "call call");
}

#[test]
fn rate_limit_waits_without_a_time_double_up_to_ten_minutes() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let mut now = at(0);
    for seconds in [60, 120, 240, 480, 600, 600] {
        let register = action(&mut m, now);
        m.handle_outcome(now, register.id, &http(429, ""));
        let NextAction::WaitUntil(until) = m.poll_action(now) else { panic!("a wait") };
        assert_eq!(until.since(now).as_secs_f64().floor() as u64 / 2 * 2, seconds); // pauses vary by up to 1 s
        now = until;
    }
}

#[test]
fn requests_do_not_exceed_the_rest_of_the_window() {
    let mut m = logged_in();
    for n in 0..10 {
        m.handle_call(&call(&format!("c{n}"), CallProgress::Complete, 0));
    }
    let rate = |remaining: &str| RateLimitHeaders {
        remaining: Some(remaining.into()),
        reset: Some("100".into()),
        retry_after: None,
    };
    let with = |remaining: &str| {
        RequestOutcome::Response(PyrusResponse {
            status: 200,
            rate: rate(remaining),
            body: b"{\"task_id\":1}".to_vec(),
            sent_md5: None,
        })
    };
    let first = action(&mut m, at(0));
    m.handle_outcome(at(0), first.id, &with("3"));
    let flying: Vec<DeliveryAction> = (0..3).map(|_| action(&mut m, at(0))).collect();
    let NextAction::WaitUntil(until) = m.poll_action(at(0)) else { panic!("the window is used up") };
    assert_eq!(until, at(101)); // 100 s from the header, and 1 s for rounding
    // This response says that 2 requests are left, but Pyrus sent the response before it received the last two
    // requests. So no request may be sent yet.
    m.handle_outcome(at(1), flying[0].id, &with("2"));
    assert_eq!(m.poll_action(at(1)), NextAction::WaitUntil(until));
    m.handle_outcome(at(1), flying[1].id, &with("1"));
    m.handle_outcome(at(1), flying[2].id, &with("0"));
    assert_eq!(m.poll_action(at(100)), NextAction::WaitUntil(until));
    assert!(matches!(m.poll_action(until), NextAction::Send(_)));
}

#[test]
fn during_an_outage_one_request_at_a_time_probes() {
    let mut m = logged_in();
    for n in 0..10_000 {
        m.handle_call(&call(&format!("c{n:05}"), CallProgress::Complete, 0));
    }
    let away = RequestOutcome::Failed(RequestFailure::NotSent("refused".into()));
    let mut now = at(0);
    let end = at(24 * 3600);
    let (mut tries, mut most) = (0, 0);
    while now < end {
        let mut flying = Vec::new();
        loop {
            match m.poll_action(now) {
                NextAction::Send(action) => flying.push(action.id),
                NextAction::WaitUntil(then) if flying.is_empty() => {
                    now = then;
                    break;
                }
                _ => break,
            }
        }
        if tries > 5 {
            most = most.max(flying.len());
        }
        tries += flying.len();
        for id in flying {
            m.handle_outcome(now, id, &away);
        }
    }
    assert_eq!(most, 1);
    // Random pauses of up to 300 s are 150 s long on average. That is 576 attempts in a day.
    assert!((400..900).contains(&tries), "{tries} tries in a day");
    // From here on Pyrus can be reached again, and all calls are delivered.
    let back = now;
    loop {
        run(&mut m, now);
        rows(&mut m);
        match m.poll_action(now) {
            NextAction::WaitUntil(then) => now = then,
            NextAction::Idle => break,
            NextAction::Send(_) => panic!("all actions were taken"),
        }
    }
    assert_eq!(m.summary().done, 10_001);
    assert!(now.since(back) <= Duration::from_secs(300));
}

#[test]
fn refused_account_is_probed_by_one_request_for_all_calls() {
    let mut m = logged_in();
    for n in 0..1000 {
        m.handle_call(&call(&format!("c{n:04}"), CallProgress::Complete, 0));
    }
    let refused = http(400, r#"{"error_code":"unrecognized_account_id"}"#);
    let mut tries = 0;
    let mut now = at(0);
    while now < at(24 * 3600) {
        while let NextAction::Send(action) = m.poll_action(now) {
            tries += 1;
            m.handle_outcome(now, action.id, &refused);
        }
        rows(&mut m);
        assert!(m.is_settled(), "only a person can help");
        assert!(m.summary().alarm.is_some_and(|a| a.contains("account_id")));
        let NextAction::WaitUntil(then) = m.poll_action(now) else { panic!("a pause") };
        now = then;
    }
    // Attempts are made after 0, 15 and 45 minutes, and then each hour: 3 + 23 in a day.
    assert_eq!(tries, 26);
    run(&mut m, now);
    while let NextAction::WaitUntil(then) = m.poll_action(now) {
        now = then; // each refused job also has its own pause
        run(&mut m, now);
    }
    rows(&mut m);
    assert_eq!((m.summary().done, m.summary().alarm), (1001, None));
}

#[test]
fn outage_raises_one_alarm_with_its_first_reason() {
    let mut m = logged_in();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    let mut now = at(0);
    for n in 0..8 {
        let register = action(&mut m, now);
        let failure = RequestFailure::NotSent(format!("certificate expired, try {n}"));
        m.handle_outcome(now, register.id, &RequestOutcome::Failed(failure));
        let NextAction::WaitUntil(then) = m.poll_action(now) else { panic!("a pause") };
        now = then;
    }
    let mut alarms = Vec::new();
    let drain = |m: &mut DeliveryMachine, alarms: &mut Vec<Option<String>>| {
        while let Some(row) = m.poll_row() {
            if let DeliveryRow::Alarm(alarm) = row {
                alarms.push(alarm);
            }
        }
    };
    drain(&mut m, &mut alarms);
    run(&mut m, now);
    drain(&mut m, &mut alarms);
    let [Some(first), None] = &alarms[..] else { panic!("one alarm and its end: {alarms:?}") };
    assert!(first.contains("cannot be reached") && first.contains("try 4"), "{first}"); // 5th failure
}

#[test]
fn check_of_the_login_keeps_the_pause_that_pyrus_asks_for() {
    for (status, body) in [(429, ""), (503, r#"{"error_code":"temporarily_unavailable"}"#)] {
        let mut m = machine();
        m.check_login();
        let login = action(&mut m, at(0));
        let rate = RateLimitHeaders { retry_after: Some("300".into()), ..RateLimitHeaders::default() };
        let answer = PyrusResponse { status, rate, body: body.into(), sent_md5: None };
        m.handle_outcome(at(0), login.id, &RequestOutcome::Response(answer));
        let NextAction::WaitUntil(until) = m.poll_action(at(0)) else { panic!("a pause after {status}") };
        assert!(until >= at(300) && until <= at(301), "{status}: 300 s and up to one of jitter, not {until:?}");
        m.handle_call(&call("a", CallProgress::Complete, 0));
        assert_eq!(m.poll_action(at(299)), NextAction::WaitUntil(until), "{status}");
        assert_eq!(run(&mut m, until), "auth call", "{status}");
    }
}

#[test]
fn check_of_the_login_keeps_the_rest_of_the_window() {
    let mut m = machine();
    m.check_login();
    let login = action(&mut m, at(0));
    let rate = RateLimitHeaders { remaining: Some("0".into()), reset: Some("100".into()), retry_after: None };
    let answer = PyrusResponse { status: 500, rate, body: Vec::new(), sent_md5: None };
    m.handle_outcome(at(0), login.id, &RequestOutcome::Response(answer));
    assert_eq!(m.poll_action(at(20)), NextAction::WaitUntil(at(101)), "100 s, and 1 s for rounding");
}

/// Simulates that requests cannot reach Pyrus from `begin` until `end`. Returns the time of the alarm; `None` without
/// an alarm.
fn unreachable_until(m: &mut DeliveryMachine, begin: i64, end: i64) -> Option<Timestamp> {
    let mut now = at(begin);
    while now < at(end) {
        match m.poll_action(now) {
            NextAction::Send(request) => {
                let failure = RequestFailure::NotSent("no route to host".into());
                m.handle_outcome(now, request.id, &RequestOutcome::Failed(failure));
            }
            NextAction::WaitUntil(then) => now = then,
            NextAction::Idle => panic!("a pause"),
        }
        if m.summary().alarm.is_some() {
            return Some(now);
        }
    }
    None
}

#[test]
fn unreachable_pyrus_at_the_start_is_no_alarm_for_a_minute() {
    let mut m = machine();
    m.check_login();
    assert_eq!(unreachable_until(&mut m, 0, 60), None, "the router may start later than this machine");
    let alarm = unreachable_until(&mut m, 60, 3600).expect("an alarm");
    assert!(alarm >= at(60) && alarm <= at(600), "{alarm:?}");
    m.handle_call(&call("a", CallProgress::Complete, 0));
    assert_eq!(run(&mut m, alarm + Duration::from_secs(600)), "auth call", "the pauses are over");
    assert_eq!(m.summary().alarm, None);
}

#[test]
fn unreachable_pyrus_is_an_alarm_at_once_if_a_call_waits() {
    let mut m = machine();
    m.check_login();
    m.handle_call(&call("a", CallProgress::Complete, 0));
    // Five failures open the circuit breaker, which raises the alarm. The four pauses between them are at most 2, 4, 8
    // and 16 s. So the alarm comes within 30 s.
    let alarm = unreachable_until(&mut m, 0, 3600).expect("an alarm");
    assert!(alarm <= at(30), "{alarm:?}");
}

#[test]
fn outage_that_lasts_over_a_restart_ends_no_alarm() {
    let mut m = machine();
    m.load_client([], Some("Pyrus cannot be reached: as the earlier process found".into()));
    m.check_login();
    let login = action(&mut m, at(0));
    let failure = RequestFailure::NotSent("no route to host".into());
    m.handle_outcome(at(0), login.id, &RequestOutcome::Failed(failure));
    assert!(m.summary().alarm.is_some(), "a failure is no recovery");
}
