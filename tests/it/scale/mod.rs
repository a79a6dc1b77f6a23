//! Measurements with the calls of years: retention, `calls verify` and the recovery of the journal.
//!
//! They are ignored by default: `cargo test --release --test it scale -- --ignored --nocapture --test-threads=1`.

mod resume;

use std::path::Path;
use std::time::{Duration, Instant};

use callspan::call::record::{CallOutcome, CallRecord, CallVerdict, DeliveryRecord, DeliveryState, RecordingFile};
use callspan::delivery::DeliveryJob;
use callspan::journal::{self, CallFilter, Journal};
use callspan::recording::config::Config;
use callspan::recording::encrypt;
use callspan::recording::retention::{ClockTrust, DiskUsage, MAX_REMOVALS, plan};
use callspan::service::maintenance::RetentionCandidates;
use callspan::service::recovery;
use callspan::time::Timestamp;

/// Returns a delivered call of one minute with a recording. The calls begin every five minutes.
fn record(n: u32, dir: &Path) -> CallRecord {
    let at = Timestamp::from_secs(1_700_000_000 + i64::from(n) * 300);
    let id = format!("{}-{n:012x}", at.to_rfc3339_secs().replace(['-', ':'], ""));
    let recording = RecordingFile {
        part: 1,
        path: dir.join(format!("{id}.wav")).display().to_string(),
        format: "wav".to_owned(),
        starts_at: at,
        ends_at: at + Duration::from_secs(60),
        duration_s: 60.0,
        sample_rate: 8000,
        channels: 2,
        bytes: MIB,
        sha256: format!("{n:064x}"),
        plain_sha256: None,
    };
    CallRecord {
        schema: 1,
        id,
        from: Some(format!("+7977{n:07}")),
        to: Some(String::from("+74953009080")),
        invited_at: Some(at),
        answered_at: Some(at),
        ended_at: Some(at + Duration::from_secs(60)),
        duration_s: Some(60.0),
        outcome: CallOutcome::Answered,
        verdict: Some(CallVerdict::BothSides),
        verdict_reason: Some(String::from("Both sides were heard and decoded from the answer to the end of the call.")),
        recordings: vec![recording],
        delivery: DeliveryRecord {
            state: DeliveryState::Done,
            task_id: Some(u64::from(n)),
            ..DeliveryRecord::default()
        },
        ..CallRecord::default()
    }
}

fn rss_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[expect(clippy::disallowed_methods, reason = "a measurement")]
fn now() -> Instant {
    Instant::now()
}

/// Runs `work` and prints how long it took.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let (begun, before) = (now(), rss_kib());
    let done = work();
    eprintln!("{what}: {:?}, memory {:+} KiB", begun.elapsed(), rss_kib() as i64 - before as i64);
    done
}

#[test]
#[ignore = "a measurement"]
fn retention_with_a_hundred_thousand_calls() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&journal::config::Config { dir: dir.path().to_owned() }).expect("a journal");
    timed("100,000 calls entered", || {
        for batch in 0..CALLS / 500 {
            let rows: Vec<_> = (0..500)
                .map(|n| {
                    let record = record(batch * 500 + n, dir.path());
                    let job = DeliveryJob::from_record(&record).map(|job| job.to_row());
                    (record, job)
                })
                .collect();
            journal.put_rebuilt_calls(&rows).expect("written");
        }
    });
    let size = std::fs::metadata(dir.path().join(journal::FILE_NAME)).expect("there").len();
    eprintln!("the journal has {} MiB", size / MIB);
    timed("the size of all recordings", || assert_eq!(journal.kept_bytes().expect("readable"), u64::from(CALLS) * MIB));
    let walk = || RetentionCandidates::begin(&journal);
    let gib = CALLS / 1024;
    let over = Config { max_disk_gib: gib, min_free_gib: 0, ..Config::default() };
    let room = DiskUsage { kept_bytes: u64::from(gib + 1) << 30, free_bytes: None };
    let planned = timed("a plan, one call too many", || {
        let room = DiskUsage { kept_bytes: (u64::from(gib) << 30) + 1, ..room };
        plan(&over, walk, ClockTrust::Unknown, room).expect("readable")
    });
    assert_eq!(planned.len(), 1);
    let aged = Config { keep_days: 1, min_free_gib: 0, ..Config::default() };
    let now = ClockTrust::Trusted(Timestamp::from_secs(1_700_000_000));
    let planned = timed("a plan by age, nothing too old", || plan(&aged, walk, now, room).expect("readable"));
    assert_eq!(planned.len(), 0);
    let late = ClockTrust::Trusted(Timestamp::from_secs(1_900_000_000));
    let mut removed = 0;
    timed("all of them planned by age and marked", || {
        loop {
            let planned = plan(&aged, walk, late, room).expect("readable");
            for calls in planned.chunks(50) {
                let marks: Vec<_> = calls.iter().map(|(id, why)| (id.clone(), why.as_str())).collect();
                removed += journal.mark_removed(&marks, Timestamp::EPOCH).expect("written").len();
            }
            if planned.len() < MAX_REMOVALS {
                break;
            }
        }
    });
    assert_eq!(removed, CALLS as usize);
    timed("a plan with nothing left but the rows of 100,000 removed", || {
        assert!(plan(&aged, walk, late, room).expect("readable").is_empty());
    });
}

#[test]
#[ignore = "a measurement"]
fn all_files_of_a_hundred_thousand_calls() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = Journal::open(&journal::config::Config { dir: dir.path().to_owned() }).expect("a journal");
    for batch in 0..CALLS / 500 {
        let rows: Vec<_> = (0..500).map(|n| (record(batch * 500 + n, dir.path()), None)).collect();
        journal.put_rebuilt_calls(&rows).expect("written");
    }
    drop(journal);
    let config = journal::config::Config { dir: dir.path().to_owned() };
    let journal = timed("opened and checked", || Journal::open(&config).expect("whole"));
    let files = timed("Journal::files()", || journal.recordings().expect("readable"));
    assert_eq!(files.len(), CALLS as usize);
    let page = timed("one page of 500", || journal.recordings_after(files.get(50_000), 500).expect("readable"));
    assert_eq!(page.len(), 500);
    let ids = timed("the first 100 to encrypt", || journal.calls_to_encrypt("", 100).expect("readable"));
    assert_eq!(ids.len(), 100);
    let newest = CallFilter { limit: Some(100), ..CallFilter::default() };
    timed("the newest 100 calls", || assert_eq!(journal.calls(&newest).expect("readable").len(), 100));
}

#[test]
#[ignore = "a measurement"]
fn a_hundred_thousand_calls_are_listed_in_the_memory_of_a_thousand() {
    let mut most = Vec::new();
    for count in [1_000, CALLS] {
        let dir = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(&journal::config::Config { dir: dir.path().to_owned() }).expect("a journal");
        for batch in 0..count / 500 {
            let rows: Vec<_> = (0..500).map(|n| (record(batch * 500 + n, dir.path()), None)).collect();
            journal.put_rebuilt_calls(&rows).expect("written");
        }
        drop(journal);
        for json in [&["--json"][..], &[]] {
            let mut list = std::process::Command::new(env!("CARGO_BIN_EXE_callspan"));
            list.args(["calls", "list", "--state"]).arg(dir.path()).args(json).stdout(std::process::Stdio::piped());
            let mut list = list.spawn().expect("the binary runs");
            let out = std::io::BufReader::new(list.stdout.take().expect("piped"));
            let (mut lines, mut peak) = (0, 0);
            timed(&format!("{count} calls listed {json:?}"), || {
                for line in std::io::BufRead::lines(out) {
                    lines += usize::from(line.expect("text").contains("+7977"));
                    if lines % 1_000 == 900 {
                        peak = peak.max(peak_kib(list.id()));
                    }
                }
            });
            assert!(list.wait().expect("it ends").success());
            assert_eq!(lines, count as usize);
            eprintln!("peak {peak} KiB");
            most.push(peak);
        }
    }
    // A short list ends before its memory is read a second time, so the peaks of the short lists may be too small. The
    // first peak is the base for the long lists.
    assert!(most[2..].iter().all(|peak| (1..most[0] + 8 * 1_024).contains(peak)), "{most:?}");
}

fn peak_kib(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[test]
#[ignore = "a measurement"]
fn a_journal_made_anew_from_ten_thousand_records() {
    let dir = tempfile::tempdir().expect("a folder");
    let (state, recordings) = (dir.path().join("state"), dir.path().join("calls"));
    std::fs::create_dir(&state).expect("made");
    for n in 0..RECORDS {
        let day = recordings.join(format!("2026/11/{:02}", n / 500 + 1));
        if n % 500 == 0 {
            std::fs::create_dir_all(&day).expect("made");
        }
        let record = record(n, &day);
        std::fs::write(&record.recordings[0].path, b"").expect("written");
        let json = serde_json::to_vec_pretty(&record).expect("JSON");
        std::fs::write(day.join(format!("{}.json", record.id)), json).expect("written");
    }
    std::fs::write(state.join(journal::FILE_NAME), [0xA5; 8_192]).expect("written");
    let config = journal::config::Config { dir: state };
    let opened = timed("10,000 records", || recovery::open(&config, &recordings).expect("healed"));
    assert!(opened.alarm.expect("told").contains("10000 calls"));
    assert_eq!(opened.journal.recordings().expect("readable").len(), RECORDS as usize);
}

#[test]
#[ignore = "a measurement"]
fn a_gibibyte_encrypted_in_constant_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let plain = dir.path().join("a.wav");
    std::fs::File::create(&plain).and_then(|file| file.set_len(1 << 30)).expect("a sparse file");
    let identity = age::x25519::Identity::generate();
    let recipient = identity.to_public().to_string().parse().expect("a public key");
    let before = rss_kib();
    let encrypted = timed("1 GiB encrypted and on the disk", || {
        encrypt::encrypt_file(&plain, &encrypt::encrypted_path(&plain), &[recipient]).expect("written")
    });
    // Each 64 KiB have a tag of 16 bytes (age-encryption.org/v1, payload). The header is shorter than a KiB.
    let tags = (1 << 30) / (64 * 1024) * 16;
    assert!((tags..tags + 1_024).contains(&(encrypted.bytes - (1 << 30))), "{} bytes", encrypted.bytes);
    assert!(rss_kib() - before < 4 * 1_024, "{} KiB more", rss_kib() - before);
}

const CALLS: u32 = 100_000;
const RECORDS: u32 = 10_000;
const MIB: u64 = 1 << 20;
