//! A real Chromium, controlled by chromedriver, for tests. The environment variable `CALLSPAN_SCREENSHOTS` names a
//! folder for pictures of the pages.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// A session of a browser. Dropping this value ends the session.
pub(super) struct Browser {
    driver: Child,
    addr: SocketAddr,
    session: String,
}

impl Browser {
    pub(super) fn start() -> Self {
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
        // chromedriver keeps the connection open, so only Content-Length shows where its response ends.
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

    pub(super) fn post(&self, path: &str, body: &Value) -> Value {
        self.send("POST", &format!("/session/{}{path}", self.session), body)
    }

    pub(super) fn open(&self, url: &str) {
        self.post("/url", &json!({ "url": url }));
    }

    /// Runs the body of a JavaScript function in the page, and returns its result.
    pub(super) fn run(&self, script: &str) -> Value {
        self.post("/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until a JavaScript expression is true in the page.
    #[expect(clippy::disallowed_methods, reason = "a browser takes real time")]
    pub(super) fn wait(&self, expression: &str) {
        for _ in 0..200 {
            if self.run(&format!("return Boolean({expression})")) == true {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("never true: {expression}\n{}", self.run("return document.body.innerText"));
    }

    pub(super) fn press(&self, selector: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("an element").to_owned();
        self.post(&format!("/element/{id}/click"), &json!({}));
    }

    pub(super) fn write(&self, selector: &str, text: &str) {
        let found = self.post("/element", &json!({ "using": "css selector", "value": selector }));
        let id =
            found.as_object().and_then(|o| o.values().next()).and_then(Value::as_str).expect("an element").to_owned();
        self.post(&format!("/element/{id}/value"), &json!({ "text": text }));
    }

    /// Checks the page at two widths and in both colour schemes. The page must not scroll sideways, and axe must find
    /// no problem. A Russian page must have no English sentence. Saves screenshots if `CALLSPAN_SCREENSHOTS` is set.
    pub(super) fn look(&self, name: &str) {
        self.run(AXE);
        assert_eq!(self.run(ENGLISH), json!([]), "{name} has English sentences on a Russian page");
        for (width, scheme) in [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")] {
            self.show_as(width, scheme);
            let overflow = self.run("return document.documentElement.scrollWidth - innerWidth");
            assert!(overflow.as_i64().unwrap_or(0) <= 0, "{name} scrolls sideways at {width}");
            let found = self.post("/execute/async", &json!({ "script": RUN_AXE, "args": [] }));
            assert_eq!(found, json!([]), "axe at {name}, {width} pixels, {scheme}: {found:#}");
            self.save_picture(&format!("{name}-{width}-{scheme}"));
        }
        self.cdp("Emulation.clearDeviceMetricsOverride", &json!({}));
        self.cdp("Emulation.setEmulatedMedia", &json!({ "features": [] }));
    }

    fn show_as(&self, width: u32, scheme: &str) {
        let is_mobile = width < 700;
        let size = json!({ "width": width, "height": 1100, "deviceScaleFactor": 1, "mobile": is_mobile });
        self.cdp("Emulation.setDeviceMetricsOverride", &size);
        self.cdp(
            "Emulation.setEmulatedMedia",
            &json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    fn save_picture(&self, name: &str) {
        let Some(folder) = std::env::var_os("CALLSPAN_SCREENSHOTS") else { return };
        let shot = self.cdp("Page.captureScreenshot", &json!({ "captureBeyondViewport": true }));
        let path = std::path::Path::new(&folder).join(format!("{name}.b64"));
        std::fs::write(path, shot["data"].as_str().unwrap_or_default()).expect("written");
    }

    pub(super) fn cdp(&self, command: &str, parameters: &Value) -> Value {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": parameters }))
    }

    /// Checks that the browser reported no error.
    pub(super) fn is_quiet(&self) {
        let log = self.post("/se/log", &json!({ "type": "browser" }));
        let severe: Vec<&Value> = log.as_array().into_iter().flatten().filter(|row| row["level"] == "SEVERE").collect();
        assert!(severe.is_empty(), "{severe:#?}");
    }
}

impl Browser {
    /// Clears the errors that the browser has reported so far.
    pub(super) fn forget_log(&self) {
        self.post("/se/log", &json!({ "type": "browser" }));
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

/// The script of axe-core, which checks accessibility. A test loads it through chromedriver, which ignores the
/// Content-Security-Policy of the page.
const AXE: &str = include_str!("../../../tests/vendor/axe-core/axe.min.js");

/// JavaScript that returns the findings of axe: each rule, and its first elements.
const RUN_AXE: &str = "
    const done = arguments[0];
    axe.run().then(r => done(r.violations.map(v => [v.id, ...v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + n.failureSummary)])),
        e => done([String(e)]));";

/// JavaScript that returns English sentences in a Russian page. It looks for three Latin words in a row that are not
/// marked as English or as code.
const ENGLISH: &str = r"
    if (document.documentElement.lang !== 'ru') return [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
    while (walk.nextNode()) {
        const node = walk.currentNode;
        if (node.parentElement.closest('[lang=en], code, kbd, script, noscript, .wire, footer')) continue;
        if (/[A-Za-z]{2,}\s+[A-Za-z]{2,}\s+[A-Za-z]{2,}/.test(node.data)) found.push(node.data.trim());
    }
    return found;";
