//! Live capture of many calls: `cargo bench --bench live` (as root).
//!
//! The bench makes a network namespace with a pair of virtual interfaces. It plays 3,000 G.711 calls of 40 s (300,000
//! packets a second) onto one end in real time. `callspan run` captures at the other end. The argument `-- 1000x20`
//! means 1,000 calls of 20 s.
//!
//! The sender and the kernel's copy to the mirror port use the same processors as the recorder. So a machine that only
//! records can capture more.

#![allow(clippy::print_stdout, reason = "a measurement says what it measured")]
#![expect(clippy::disallowed_methods, reason = "real time passes on a real wire")]

mod traffic;

use std::error::Error;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use callspan::call::record::{CallRecord, CallVerdict, SideRecord};
use traffic::Trunk;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (calls, seconds) = args.iter().find_map(|arg| shape(arg)).unwrap_or((3_000, 40));
    let trunk = Trunk { calls, length: Duration::from_secs(seconds), spread: Duration::from_secs(10) };
    if args.iter().any(|arg| arg == SEND) {
        return Ok(send(&trunk)?);
    }
    // `cargo test --benches` must not touch interfaces.
    if args.iter().any(|arg| arg == "--bench") { measure(&trunk, &args) } else { Ok(()) }
}

fn shape(arg: &str) -> Option<(u32, u64)> {
    let (calls, seconds) = arg.split_once('x')?;
    Some((calls.parse().ok()?, seconds.parse().ok()?))
}

fn measure(trunk: &Trunk, args: &[String]) -> Result<(), Box<dyn Error>> {
    let namespace = Namespace::new()?;
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let config = configuration(folder.path())?;
    let mut service = namespace.command(env!("CARGO_BIN_EXE_callspan"));
    service.args(["run", "-c"]).arg(&config).stdout(Stdio::null()).stderr(File::create(&log)?);
    let begin = Instant::now();
    let mut service = Ended(service.spawn()?);
    let until = begin + Duration::from_secs(10);
    while !std::fs::read_to_string(&log)?.contains("capturing on") {
        if Instant::now() > until {
            return Err(format!("the service did not come up: {}", std::fs::read_to_string(&log)?).into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    println!(
        "callspan run: ready {} ms after its start, with nothing on the disk; {} MiB resident, with the capture ring",
        begin.elapsed().as_millis(),
        memory_mib(service.0.id(), "VmRSS"),
    );
    let shape = args.iter().find(|arg| shape(arg).is_some());
    let sender = namespace.command(std::env::current_exe()?).arg(SEND).args(shape).output()?;
    print!("{}", String::from_utf8_lossy(&sender.stdout));
    if !sender.status.success() {
        return Err(String::from_utf8_lossy(&sender.stderr).into_owned().into());
    }
    // After the last packet, the renderers finish the calls that have ended.
    let until = Instant::now() + Duration::from_secs(300);
    while records(folder.path()).len() < trunk.calls as usize && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (cpu, peak) = (cpu(service.0.id()), memory_mib(service.0.id(), "VmHWM"));
    Command::new("kill").args(["-TERM", &service.0.id().to_string()]).status()?;
    service.0.wait()?;
    let text = std::fs::read_to_string(&log)?;
    let stopped = text.lines().find(|line| line.contains("stopped"));
    println!("  callspan: {}", stopped.unwrap_or("(said nothing)").trim());
    let records = records(folder.path());
    let read = |path: &PathBuf| serde_json::from_slice::<CallRecord>(&std::fs::read(path).ok()?).ok();
    let records: Vec<CallRecord> = records.iter().filter_map(read).collect();
    let sum = |of: &dyn Fn(&SideRecord) -> u64| -> u64 {
        records.iter().map(|record| of(&record.sides.caller) + of(&record.sides.callee)).sum()
    };
    println!(
        "  {} records, {} with both sides, {} with a loss of our own; {} packets, {} lost; {cpu:.1} s of CPU, at most {peak} MiB",
        records.len(),
        records.iter().filter(|record| record.verdict == Some(CallVerdict::BothSides)).count(),
        records
            .iter()
            .filter(|record| record.problems.iter().any(|p| p.kind == callspan::call::record::ProblemKind::LostByUs))
            .count(),
        sum(&|side| side.packets),
        sum(&|side| side.lost),
    );
    let mut delays: Vec<f64> = records.iter().filter_map(delay_of_recording).collect();
    delays.sort_by(f64::total_cmp);
    if let (Some(middle), Some(last)) = (delays.get(delays.len() / 2), delays.last()) {
        println!("  a recording was ready {middle:.1} s after its BYE (median), {last:.1} s at most");
    }
    Ok(())
}

/// Returns the seconds from the end of a call to the publication of its recording, i.e. the last change of the file's
/// name.
fn delay_of_recording(record: &CallRecord) -> Option<f64> {
    let file = std::fs::metadata(&record.recordings.first()?.path).ok()?;
    let published_ns = file.ctime() * 1_000_000_000 + file.ctime_nsec();
    Some((published_ns - record.ended_at?.as_nanos()) as f64 / 1e9)
}

/// Returns one line of `/proc/PID/status` about the memory of a process, MiB.
fn memory_mib(id: u32, line: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let found = text.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    found.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Returns the processor time (user and system) of a process and its threads so far, seconds.
fn cpu(id: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    let ticks = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    ticks.filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() / 100.0
}

fn records(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).fold(Vec::new(), |mut found, path| {
        if path.is_dir() {
            found.extend(records(&path));
        } else if path.extension().is_some_and(|e| e == "json") {
            found.push(path);
        }
        found
    })
}

fn configuration(folder: &Path) -> io::Result<PathBuf> {
    let dir = |name: &str| folder.join(name).display().to_string();
    let text = format!(
        "[capture]\ninterface = \"mirror0\"\n[spool]\ndir = \"{}\"\n[state]\ndir = \"{}\"\n[recording]\ndir = \"{}\"\nmin_free_gib = 0\n[pyrus]\nenabled = false\n",
        dir("spool"),
        dir("state"),
        dir("recordings")
    );
    let path = folder.join("callspan.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// A running process. Dropping this value kills the process.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill(); // the process may have ended
        let _ = self.0.wait();
    }
}

/// A network namespace with the interfaces `tap0` and `mirror0`. Dropping this value removes it.
struct Namespace(String);

impl Namespace {
    fn new() -> Result<Self, Box<dyn Error>> {
        let namespace = Self(format!("callspan-bench-{}", std::process::id()));
        let name = namespace.0.as_str();
        for line in [
            format!("netns add {name}"),
            format!("-n {name} link add tap0 type veth peer name mirror0"),
            format!("-n {name} link set tap0 up"),
            format!("-n {name} link set mirror0 up"),
        ] {
            let done = Command::new("ip").args(line.split(' ')).output()?;
            if !done.status.success() {
                return Err(format!("ip {line}: {}", String::from_utf8_lossy(&done.stderr)).into());
            }
        }
        Ok(namespace)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status(); // on failure `ip netns` shows it
    }
}

/// Plays the calls onto `tap0`. Each frame is sent at its time.
fn send(trunk: &Trunk) -> io::Result<()> {
    let mut wire = Wire::open("tap0")?;
    let begin = Instant::now();
    let mut latest = Duration::ZERO;
    trunk.play(&mut |after, frame| {
        let now = begin.elapsed();
        if after > now + TOGETHER || wire.frames.len() == BATCH {
            wire.flush()?;
            std::thread::sleep(after.saturating_sub(begin.elapsed()));
        }
        latest = latest.max(begin.elapsed().saturating_sub(after));
        wire.frames.push(frame.to_vec());
        Ok(())
    })?;
    wire.flush()?;
    println!(
        "{} calls of {} s: {} frames sent in {:.1} s, {} refused by the interface, at most {} ms late",
        trunk.calls,
        trunk.length.as_secs(),
        wire.sent,
        begin.elapsed().as_secs_f64(),
        wire.refused,
        latest.as_millis(),
    );
    Ok(())
}

/// A packet socket. It sends many frames with one system call.
struct Wire {
    socket: libc::c_int,
    frames: Vec<Vec<u8>>,
    sent: u64,
    refused: u64,
}

#[expect(unsafe_code, reason = "packet(7) and sendmmsg(2) have no safe form in std")]
impl Wire {
    fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: the name ends with a zero, the address has the given length, and zero is valid for all fields.
        unsafe {
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
            let length = size_of::<libc::sockaddr_ll>() as u32;
            if socket < 0 || libc::bind(socket, (&raw const address).cast(), length) < 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(Self { socket, frames: Vec::with_capacity(BATCH), sent: 0, refused: 0 })
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut pieces: Vec<libc::iovec> = self
            .frames
            .iter_mut()
            .map(|frame| libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() })
            .collect();
        // SAFETY: zeros and null pointers are a valid empty message.
        let mut messages: Vec<libc::mmsghdr> = pieces.iter().map(|_| unsafe { std::mem::zeroed() }).collect();
        for (message, piece) in messages.iter_mut().zip(&mut pieces) {
            message.msg_hdr.msg_iov = piece;
            message.msg_hdr.msg_iovlen = 1;
        }
        let mut from = 0;
        while from < messages.len() {
            let count = (messages.len() - from) as u32;
            // SAFETY: messages, pieces and frames live until after the call.
            match unsafe { libc::sendmmsg(self.socket, messages[from..].as_mut_ptr(), count, 0) } {
                sent if sent > 0 => {
                    from += sent as usize;
                    self.sent += sent as u64;
                }
                _ if io::Error::last_os_error().raw_os_error() == Some(libc::ENOBUFS) => {
                    from += 1;
                    self.refused += 1;
                }
                _ => return Err(io::Error::last_os_error()),
            }
        }
        self.frames.clear();
        Ok(())
    }
}

/// Argument that makes this program the sender. It runs inside the namespace.
const SEND: &str = "--send";
/// Maximum number of frames passed with one system call.
const BATCH: usize = 64;
/// Frames within this time are sent together, as a switch sends the queue of a port.
const TOGETHER: Duration = Duration::from_micros(500);
