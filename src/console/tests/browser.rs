//! Tests of the pages in a real Chromium. A test fails on a violation of the Content-Security-Policy, an error in the
//! browser's console, or a finding of axe (accessibility).

use serde_json::json;

use super::Office;
use super::chromium::Browser;
use crate::console::accounts::AccountRole;

#[test]
#[cfg_attr(not(has_chromium), ignore = "needs chromium and chromedriver")]
fn call_is_found_opened_and_heard_in_chromium() {
    let office = Office::with_calls(&["120", "121", "220"]);
    office.add("anna", AccountRole::Admin, &[]);
    let id = office.write_tones("120");
    let (browser, site) = (Browser::start(), format!("http://{}", office.addr()));
    browser.open(&format!("{site}/calls"));
    browser.write("#un", "anna");
    browser.write("#pw", "correct horse");
    browser.press("form button.primary");
    browser.wait("document.querySelectorAll('.calls a.go').length === 3");
    browser.look("calls");
    // The search runs while a user types: the list of calls and the URL change without a new page.
    browser.write("#q", "8 495 300-00-00");
    browser.wait("document.querySelectorAll('.calls a.go').length === 1");
    assert!(browser.run("return location.search").as_str().unwrap_or_default().contains("q=8"));
    browser.is_quiet();

    browser.open(&format!("{site}/calls/{id}"));
    browser.wait("document.querySelector('[data-player]').audio");
    browser.look("call");
    assert_eq!(office.played(&id), 0, "nothing is asked for before somebody plays");
    browser.press("[data-toggle]");
    browser.wait("document.querySelector('[data-player]').audio.currentTime > 0.3");
    assert!(office.played(&id) >= 1);
    browser.run(
        "const p = document.querySelector('[data-player]'), s = document.querySelector('.seek');
         s.value = 5; s.dispatchEvent(new Event('input')); p.audio.pause();",
    );
    browser.wait("!document.querySelector('[data-player]').audio.seeking");
    let place =
        browser.run("return document.querySelector('[data-player]').audio.currentTime").as_f64().expect("a time");
    assert!((place - 5.0).abs() < 0.05, "at {place} instead of 5 s");
    assert_tones(&browser);
    browser.is_quiet();
}

/// Checks the tones of both channels through Web Audio: 400 Hz left, 1,000 Hz right.
fn assert_tones(browser: &Browser) {
    let tones = browser.post(
        "/execute/async",
        &json!({ "args": [], "script": "
            const done = arguments[0], p = document.querySelector('[data-player]'), { context, join } = p.graph;
            const split = context.createChannelSplitter(2), tops = [0, 1].map(n => {
                const a = context.createAnalyser(); a.fftSize = 4096; split.connect(a, n); return a;
            });
            join.connect(split);
            p.audio.play();
            setTimeout(() => done(tops.map(a => {
                const bins = new Float32Array(a.frequencyBinCount); a.getFloatFrequencyData(bins);
                return bins.indexOf(Math.max(...bins)) * context.sampleRate / a.fftSize;
            })), 800);" }),
    );
    let tone = |n: usize| tones[n].as_f64().unwrap_or_default();
    assert!((tone(0) - 400.0).abs() < 30.0 && (tone(1) - 1_000.0).abs() < 30.0, "left and right: {tones}");
}

#[test]
#[cfg_attr(not(has_chromium), ignore = "needs chromium and chromedriver")]
fn every_page_is_accessible_and_whole_in_both_languages() {
    let office = Office::with_replayed_calls();
    let (browser, site) = (Browser::start(), format!("http://{}", office.addr()));
    let calls = office.ids();
    let page = |id: &str| format!("/calls/{id}");
    browser.open(&format!("{site}/login"));
    browser.look("login");
    office.add("anna", AccountRole::Admin, &[]);
    office.add("boris", AccountRole::Listener, &["1xx"]);
    office.raise_alarms();
    browser.open(&format!("{site}/calls"));
    browser.write("#un", "anna");
    browser.write("#pw", "correct horse");
    browser.press("form button.primary");
    browser.wait("document.querySelector('.calls a.go')");
    for lang in ["en", "ru"] {
        let mut pages = vec![
            (String::from("calls"), String::from("/calls?day=all")),
            (String::from("none"), String::from("/calls?day=all&q=nobody")),
            (String::from("why"), String::from("/why?number=102&day=2023-11-14")),
            (String::from("live"), String::from("/live")),
            (String::from("health"), String::from("/health")),
            (String::from("audit"), String::from("/audit")),
            (String::from("users"), String::from("/users")),
            (String::from("api"), String::from("/api")),
        ];
        pages.extend(calls.iter().enumerate().map(|(n, id)| (format!("call{n}"), page(id))));
        browser.open(&format!("{site}/calls?lang={lang}"));
        for (name, path) in pages {
            browser.open(&format!("{site}{path}"));
            browser.look(&format!("{name}-{lang}"));
        }
        browser.is_quiet();
        browser.open(&format!("{site}/calls/none"));
        browser.look(&format!("missing-{lang}"));
        browser.forget_log(); // the browser logs the expected 404
    }
}

#[test]
#[cfg_attr(not(has_chromium), ignore = "needs chromium and chromedriver")]
fn encrypted_recording_is_opened_in_the_browser_with_the_listeners_key() {
    let office = Office::with_calls(&["120"]);
    office.write_tones("120");
    let (id, key) = office.encrypt("120");
    let (browser, site) = (Browser::start(), format!("http://{}", office.addr()));
    browser.open(&format!("{site}/calls/{id}"));
    browser
        .wait("document.querySelector('[data-unlock]:not([hidden])') && document.querySelector('[data-player]').audio");
    browser.look("locked");
    assert_eq!(browser.run("return document.querySelector('.pk-l').getAttribute('d')"), json!(""), "no peaks");
    browser.write("#key", "AGE-SECRET-KEY-1QQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQQSQQQQQQ");
    browser.press("[data-unlock] button");
    browser.wait("document.querySelector('[data-unlock-said].bad')");
    browser.run("document.querySelector('#key').value = ''");
    browser.write("#key", &key);
    browser.press("[data-unlock] button");
    browser.wait("document.querySelector('[data-opened]:not([hidden])')");
    browser.wait("document.querySelector('.pk-r').getAttribute('d').length > 1000");
    assert_eq!(
        browser.run("return document.querySelector('#key').value + localStorage.length + sessionStorage.length"),
        json!("00")
    );
    browser.look("unlocked");
    browser.press("[data-toggle]");
    browser.wait("document.querySelector('[data-player]').audio.currentTime > 0.3");
    assert_tones(&browser);
    assert_eq!(office.played(&id), 1, "one listening");
    browser.is_quiet();
}
