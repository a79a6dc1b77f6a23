//! The pages in a real Chromium, driven by chromedriver. A violation of the policy or an error in the browser's console is a
//! failure. `CALLSPAN_SCREENSHOTS` names a folder for pictures of the pages.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::Office;
use crate::console::accounts::AccountRole;

/// A browser session. It ends when it is dropped.
struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
}

impl Browser {
    fn start() -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver starts");
        let lines = BufReader::new(driver.stdout.take().expect("its output")).lines();
        let port = lines.map_while(Result::ok).find_map(|line| {
            let (_, rest) = line.split_once("successfully on port ")?;
            rest.trim_end_matches('.').parse::<u16>().ok()
        });
        let addr = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
        let mut browser = Self { driver, addr, session: String::new() };
        let options = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en",
                "--autoplay-policy=no-user-gesture-required", "--window-size=1280,1000",
            ] },
            "goog:loggingPrefs": { "browser": "ALL" },
        } } });
        let session = browser.send("POST", "/session", &options);
        session["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let mut stream = TcpStream::connect(self.addr).expect("connects");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.addr,
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("writes");
        stream.write_all(body.as_bytes()).expect("writes");
        // chromedriver keeps the connection open, so its answer ends after Content-Length.
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("reads");
            match line.trim_end().split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    length = value.trim().parse().expect("a length");
                }
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut json = vec![0; length];
        reader.read_exact(&mut json).expect("reads");
        let value: Value = serde_json::from_slice(&json).expect("JSON");
        assert!(value["value"]["error"].is_null(), "{path}: {}", value["value"]);
        value["value"].clone()
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a function and returns its result.
    fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    #[expect(clippy::disallowed_methods, reason = "a browser takes real time")]
    fn wait(&self, expression: &str) {
        for _ in 0..200 {
            if self.run(&format!("return Boolean({expression})")) == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never true: {expression}\n{}", self.run("return document.body.innerText"));
    }

    fn press(&self, selector: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("an element").to_owned();
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    fn write(&self, selector: &str, text: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("an element").to_owned();
        self.post(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Saves pictures of the page at two widths, if somebody wants them.
    fn picture(&self, name: &str) {
        let overflow = "return document.documentElement.scrollWidth - innerWidth";
        for (width, height) in [(1280, 1100), (390, 1100)] {
            self.post(
                "/goog/cdp/execute",
                &json!({ "cmd": "Emulation.setDeviceMetricsOverride",
                "params": { "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 700 } }),
            );
            assert!(self.run(overflow).as_i64().unwrap_or(0) <= 0, "{name} scrolls sideways at {width}");
            let Some(folder) = std::env::var_os("CALLSPAN_SCREENSHOTS") else { continue };
            let shot = self.post("/goog/cdp/execute", &json!({ "cmd": "Page.captureScreenshot", "params": {} }));
            let path = std::path::Path::new(&folder).join(format!("{name}-{width}.b64"));
            std::fs::write(path, shot["data"].as_str().unwrap_or_default()).expect("written");
        }
        self.post("/goog/cdp/execute", &json!({ "cmd": "Emulation.clearDeviceMetricsOverride", "params": {} }));
    }

    /// Fails if the browser reported an error.
    fn is_quiet(&self) {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let severe: Vec<&Value> = log.as_array().into_iter().flatten().filter(|row| row["level"] == "SEVERE").collect();
        assert!(severe.is_empty(), "{severe:#?}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.send("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

#[test]
#[ignore = "needs chromium and chromedriver; run by hand"]
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
    browser.picture("calls");
    // The search changes the page while somebody types, and its address.
    browser.write("#q", "8 495 300-00-00");
    browser.wait("document.querySelectorAll('.calls a.go').length === 1");
    assert!(browser.run("return location.search").as_str().unwrap_or_default().contains("q=8"));
    browser.is_quiet();

    browser.open(&format!("{site}/calls/{id}"));
    browser.wait("document.querySelector('[data-player]').audio");
    browser.picture("call");
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
    for (name, path) in [
        ("why", "/why?number=300&day=2026-11-18"),
        ("live", "/live"),
        ("health", "/health"),
        ("audit", "/audit"),
        ("users", "/users"),
        ("calls_ru", "/calls?lang=ru"),
        ("call_ru", &*format!("/calls/{id}")),
    ] {
        browser.open(&format!("{site}{path}"));
        browser.picture(name);
    }
    browser.is_quiet();
}
