//! Memory of calls in progress: `cargo bench --bench memory`.
//!
//! The bench passes 10,000 G.711 calls through engine and spool, as `run` does. It prints how much memory the process
//! needs when both sides of all calls talk. The argument `-- 2000` sets another number of calls.

#![allow(clippy::print_stdout, reason = "a measurement says what it measured")]

mod traffic;

use std::error::Error;
use std::io;
use std::time::Duration;

use callspan::call::Engine;
use callspan::call::config::Config;
use callspan::capture::{CapturedFrame, LinkType};
use callspan::decode::FrameDecoder;
use callspan::spool;
use callspan::spool::disk::DiskSpool;
use callspan::time::Timestamp;
use traffic::Trunk;

#[expect(clippy::disallowed_methods, reason = "a bench waits for the disk")]
fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let is_bench = args.iter().any(|arg| arg == "--bench");
    let named = args.iter().find_map(|arg| arg.parse().ok());
    let calls = named.unwrap_or(if is_bench { 10_000 } else { 100 });
    // The calls begin within 10 s. After that, both sides of all calls talk.
    let trunk = Trunk { calls, length: Duration::from_secs(60), spread: Duration::from_secs(10) };
    let folder = tempfile::tempdir()?;
    let config = spool::config::Config { dir: folder.path().into(), ..Default::default() };
    let (mut spool, events) = DiskSpool::start(&config)?;
    spool.start_rolling_file();
    let mut engine = Engine::new(Config::default(), "made up");
    let mut decoder = FrameDecoder::new();
    let mut seen = Seen::default();
    let mut due = Duration::ZERO;
    let result = trunk.play(&mut |after, data| {
        if after >= LOOK_AT {
            return Err(io::ErrorKind::Other.into());
        }
        let at = Timestamp::from_secs(1_795_417_200) + after;
        let frame = CapturedFrame { at, link: LinkType::Ethernet, interface: 0, orig_len: data.len() as u32, data };
        decoder.handle_frame(&frame, &mut |decoded| engine.handle_decoded(&decoded, &mut spool));
        while let Some(event) = engine.poll_event() {
            spool.forward(event);
        }
        if after >= due {
            due = after + HOUSEKEEPING;
            spool.handle_timeout(at);
            // `run` has a thread that takes the events as they come.
            events.try_iter().for_each(drop);
            seen.look(after, &engine, &spool);
        }
        // The bench is faster than real time, so it waits for the writer thread.
        while spool.queued_bytes() > WAITING {
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    });
    assert!(result.is_err(), "it ended with calls under way");
    assert_eq!(engine.live_calls(), calls as usize);
    assert_eq!(spool.lost_packets(), 0, "nothing was dropped");
    seen.tell(calls);
    Ok(())
}

/// Memory of the process at different times, bytes.
#[derive(Default)]
struct Seen {
    /// Memory after the first packet. By then the generator and the tables of fixed size are allocated.
    before: Option<u64>,
    most: u64,
    queued: usize,
    shown: Option<u64>,
}

impl Seen {
    fn look(&mut self, after: Duration, engine: &Engine, spool: &DiskSpool) {
        let now = rss();
        self.before.get_or_insert(now);
        if now > self.most {
            (self.most, self.queued) = (now, spool.queued_bytes());
        }
        if self.shown.replace(after.as_secs()) != Some(after.as_secs()) {
            println!("  {:>3} s: {:>6} calls, {:>5} MiB", after.as_secs(), engine.live_calls(), now >> 20);
        }
    }

    fn tell(&self, calls: u32) {
        let more = self.most.saturating_sub(self.before.unwrap_or(0));
        println!(
            "{calls} calls: at most {} MiB more than with none, {:.1} KiB a call; of that {} MiB waited for the disk",
            more >> 20,
            more as f64 / 1024.0 / f64::from(calls),
            self.queued >> 20
        );
    }
}

/// Returns the resident memory, bytes.
fn rss() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
}

/// Time of the measurement, at which both sides of every call have talked for some seconds.
const LOOK_AT: Duration = Duration::from_secs(20);
/// Maximum number of bytes that may wait for the writer: a tenth of a second of 3,000 calls.
const WAITING: usize = 8 << 20;
/// Interval of the engine's timers, as in `run`.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
