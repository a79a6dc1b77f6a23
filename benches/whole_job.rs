//! The whole job of `callspan replay`: a capture of many G.711 calls, from the packets to the published files.
//!
//! `cargo bench --bench whole_job` measures 1,000 calls of 8 s and 300 calls of 3 min. The argument `-- 1000x8` selects
//! other numbers, and `-- --in DIR` keeps the captures in a folder. With `1000x8@1` all calls begin within one second,
//! so that they are in progress at the same time. `--write` only writes the captures (`benches/speed.sh`).
//!
//! CPU time is that of the process in user and system mode. Other programs influence it less than wall-clock time. The
//! bench only prints its results and compares them with nothing.

#![allow(clippy::print_stdout, reason = "a measurement says what it measured")]

mod traffic;

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use traffic::Trunk;

/// Time and memory of a command.
#[derive(Clone, Copy, Debug)]
struct Took {
    user: Duration,
    system: Duration,
    wall: Duration,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let folder = tempfile::tempdir()?;
    let kept = args.iter().position(|arg| arg == "--in").and_then(|at| args.get(at + 1)).map(PathBuf::from);
    let captures = kept.unwrap_or_else(|| folder.path().to_owned());
    let mut shapes: Vec<Trunk> = args.iter().filter_map(|arg| shape(arg)).collect();
    if shapes.is_empty() {
        // `cargo test --benches` only checks that the bench runs, so a small capture is enough.
        let names: &[&str] = if args.iter().any(|arg| arg == "--bench") { &["1000x8", "300x180"] } else { &["5x2"] };
        shapes = names.iter().filter_map(|name| shape(name)).collect();
    }
    for trunk in shapes {
        let capture = captures.join(format!("{}x{}.pcap", trunk.calls, trunk.length.as_secs()));
        if !capture.exists() {
            let mut out = BufWriter::with_capacity(1 << 20, File::create(&capture)?);
            trunk.write(&mut out)?;
            out.flush()?;
        }
        if !args.iter().any(|arg| arg == "--write") {
            measure(&trunk, &capture, &folder.path().join("out"))?;
        }
    }
    if args.iter().any(|arg| arg == "--write") {
        return Ok(());
    }
    start(folder.path())
}

/// Measures the time for the smallest capture, i.e. the cost of starting the command.
fn start(folder: &Path) -> Result<(), Box<dyn Error>> {
    let capture = folder.join("small.pcap");
    let trunk = Trunk { calls: 1, length: Duration::from_secs(1), spread: Duration::ZERO };
    trunk.write(&mut File::create(&capture)?)?;
    let mut walls = Vec::new();
    for run in 0..STARTS {
        walls.push(replay(&capture, &folder.join(format!("small{run}")))?.wall);
    }
    walls.sort_unstable();
    println!("one call of 1 s, from the command to its end: {} ms (median of {STARTS})", walls[STARTS / 2].as_millis());
    Ok(())
}

/// Parses the shape of a trunk such as `1000x8@1`: number of calls, seconds of each and, optionally, seconds within
/// which they begin.
fn shape(arg: &str) -> Option<Trunk> {
    let (shape, spread) = arg.split_once('@').map_or((arg, None), |(shape, spread)| (shape, Some(spread)));
    let (calls, seconds) = shape.split_once('x')?;
    let length = Duration::from_secs(seconds.parse().ok()?);
    let spread = match spread {
        Some(spread) => Duration::from_secs(spread.parse().ok()?),
        // With this time between the first and the last INVITE, two fifths of the calls are in progress at the same
        // time.
        None => length * 5 / 2,
    };
    Some(Trunk { calls: calls.parse().ok()?, length, spread })
}

fn measure(trunk: &Trunk, capture: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    println!("{} G.711 calls of {} s, {} MiB", trunk.calls, trunk.length.as_secs(), capture.metadata()?.len() >> 20);
    for run in 1..=RUNS {
        // Each run has a folder of its own. Some file systems become slow at creating files soon after many files were
        // removed.
        let out = out.with_extension(format!("{}-{run}", trunk.calls));
        let took = replay(capture, &out)?;
        let made = std::fs::read_dir(&out)?.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "wav"));
        assert_eq!(made.count(), trunk.calls as usize, "every call has its recording");
        let cpu = (took.user + took.system).as_secs_f64();
        println!(
            "  run {run}: {:.0} call-seconds a CPU-second ({:.2} s user, {:.2} s system, {:.2} s on the wall, {} MiB at most)",
            trunk.call_seconds() / cpu,
            took.user.as_secs_f64(),
            took.system.as_secs_f64(),
            took.wall.as_secs_f64(),
            usage().2 >> 20,
        );
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn replay(capture: &Path, out: &Path) -> Result<Took, Box<dyn Error>> {
    let (user, system, _) = usage();
    let begin = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
    command.arg("replay").arg("--out").arg(out).arg(capture).stdout(Stdio::null());
    let status = command.status()?;
    let wall = begin.elapsed();
    if !status.success() {
        return Err(format!("callspan replay: {status}").into());
    }
    let after = usage();
    Ok(Took { user: after.0 - user, system: after.1 - system, wall })
}

/// Returns the user and system time of all commands so far, and the largest memory of one command in bytes.
#[expect(unsafe_code, reason = "getrusage(2) has no safe form in std")]
fn usage() -> (Duration, Duration, u64) {
    // SAFETY: the structure consists of plain numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let time = |t: libc::timeval| Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64);
    (time(usage.ru_utime), time(usage.ru_stime), usage.ru_maxrss as u64 * 1024)
}

const RUNS: u32 = 3;
const STARTS: usize = 21;
