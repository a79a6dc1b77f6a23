//! Tests of `callspan fake-pyrus`: its output, and its end by SIGTERM.

use std::io::Write;
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::support::process::is_own_process;

#[derive(Clone, Default)]
struct SharedOutput(Arc<Mutex<Vec<u8>>>);

impl Write for SharedOutput {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl SharedOutput {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("whole")).into_owned()
    }
}

#[test]
fn it_says_where_it_listens_and_ends_by_sigterm() {
    if !is_own_process("cli::fake_pyrus::it_says_where_it_listens_and_ends_by_sigterm") {
        return;
    }
    let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
    let out = SharedOutput::default();
    let to = out.clone();
    let serving = std::thread::spawn(move || callspan::fake_pyrus::serve(address, None, to));
    while !out.text().contains("control") {
        assert!(!serving.is_finished(), "it ended: {}", out.text());
        std::thread::yield_now();
    }
    assert!(out.text().contains(&format!("auth_url = \"http://{address}/api/v4/auth\"")), "{}", out.text());
    let killed = Command::new("kill").args(["-TERM", &std::process::id().to_string()]).status().expect("kill runs");
    assert!(killed.success());
    serving.join().expect("no panic").expect("no error");
    assert!(out.text().ends_with("stopped\n"));
    assert!(TcpListener::bind(address).is_ok(), "the port is free again");
}
