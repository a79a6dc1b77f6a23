//! Tests of the access rights of a site's key in S3, and of kills while calls are sent.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{Central, Moto, Site, callspan, text};
use crate::faults::failing_files::FileFaults;

/// An access key of the object store: id and secret.
pub(super) struct AccessKey {
    id: String,
    secret: String,
}

/// Adds a user that may do `action` below `prefix`. Returns the user's key.
pub(super) fn access_key(moto: &Moto, user: &str, action: &str, prefix: &str) -> AccessKey {
    moto.iam(&format!("Action=CreateUser&UserName={user}"));
    allow(moto, user, action, prefix);
    let answer = moto.iam(&format!("Action=CreateAccessKey&UserName={user}"));
    let field = |name: &str| {
        let (_, rest) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {answer}"));
        rest.split_once('<').map(|(value, _)| value.to_owned()).unwrap_or_default()
    };
    AccessKey { id: field("AccessKeyId"), secret: field("SecretAccessKey") }
}

/// Lets a user do `action` below `prefix`, and nothing else.
pub(super) fn allow(moto: &Moto, user: &str, action: &str, prefix: &str) {
    let statement = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Action":{action},"Resource":["arn:aws:s3:::calls{prefix}"]}}]}}"#
    );
    let policy = encoded(&statement);
    moto.iam(&format!("Action=PutUserPolicy&UserName={user}&PolicyName=own&PolicyDocument={policy}"));
}

/// Takes all rights in the object store from a user.
pub(super) fn revoke(moto: &Moto, user: &str) {
    moto.iam(&format!("Action=DeleteUserPolicy&UserName={user}&PolicyName=own"));
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// Replaces the key of the object store in a configuration.
pub(super) fn use_key(config: &std::path::Path, folder: &std::path::Path, key: &AccessKey) {
    let secret = folder.join(format!("secret-{}", key.id));
    std::fs::write(&secret, &key.secret).expect("written");
    let text = std::fs::read_to_string(config).expect("written");
    let kept = text.lines().map(|line| {
        if line.starts_with("access_key") {
            format!("access_key = \"{}\"", key.id)
        } else if line.starts_with("secret_key_file") {
            format!("secret_key_file = \"{}\"", secret.display())
        } else {
            line.to_owned()
        }
    });
    let text = kept.collect::<Vec<_>>().join("\n");
    std::fs::write(config, text).expect("written");
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_moto)),
    ignore = "needs PostgreSQL 15 and moto_server (pip install 'moto[server]')"
)]
fn stolen_key_reads_nothing_and_writes_below_its_prefix_only() {
    let moto = Moto::start();
    let central = Central::start_with(Some(&moto));
    let (north, south) = (central.add("north"), central.add("south"));
    let put = "\"s3:PutObject\"";
    let [north_key, south_key] =
        ["north", "south"].map(|site| access_key(&moto, site, put, &format!("/archive/{site}/*")));
    let centre = access_key(&moto, "centre", "\"s3:*\"", "*");
    moto.enforce_rights();
    use_key(&north.config(), north.folder.path(), &north_key);
    use_key(&south.config(), south.folder.path(), &south_key);
    use_key(&central.config(), central.folder.path(), &centre);
    north.record(1, "a@b", b"sound of the north");
    south.record(1, "c@d", b"sound of the south");
    for site in [&north, &south] {
        let pushed = site.push();
        assert!(pushed.status.success(), "each site puts its own: {}", text(&pushed));
        let verified = central.verify(site);
        assert!(verified.status.success(), "{}", text(&verified));
    }
    // The thief has the key of the site north. The thief even has the rights of the central console in the index.
    let stolen = central.folder.path().join("stolen.toml");
    std::fs::copy(central.config(), &stolen).expect("copied");
    use_key(&stolen, north.folder.path(), &north_key);
    for site in ["south", "north"] {
        let out = central.folder.path().join("loot").display().to_string();
        let restored =
            callspan(&["archive", "restore", "-c", &stolen.display().to_string(), "--site", site, "--out", &out], "");
        assert!(text(&restored).contains("0 of 1 call restored"), "{}", text(&restored));
    }
    // The key of north may not create an object in the folder of south.
    use_key(&south.config(), south.folder.path(), &north_key);
    south.record(2, "e@f", b"forged");
    let forged = south.push();
    assert!(text(&forged).contains("0 calls sent, 1 still to send"), "{}", text(&forged));
    assert_eq!(moto.keys().len(), 2, "{:?}", moto.keys());
    // A revoked key loses no call: the call is sent later with a valid key.
    use_key(&south.config(), south.folder.path(), &south_key);
    let pushed = south.push();
    assert!(text(&pushed).contains("0 still to send"), "{}", text(&pushed));
    assert!(central.verify(&south).status.success());
}

/// Starts `archive push` and kills it after a time. Returns whether it had ended before the kill.
fn push_and_kill(site: &Site, after: Duration) -> bool {
    let mut push = Command::new(env!("CARGO_BIN_EXE_callspan"))
        .args(["archive", "push", "--since", "2026-01-01", "-c", &site.config().display().to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    std::thread::sleep(after);
    let is_over = push.try_wait().expect("a child").is_some();
    let _ = push.kill(); // the process has ended already
    let _ = push.wait();
    is_over
}

#[test]
#[cfg_attr(
    not(all(has_postgres, has_moto)),
    ignore = "needs PostgreSQL 15 and moto_server (pip install 'moto[server]')"
)]
fn kills_at_any_moment_leave_each_recording_once() {
    /// Minimum number of calls that wait when the push begins.
    const WAITING: u32 = 30;
    let moto = Moto::start();
    let central = Central::start_with(Some(&moto));
    let north = central.add("north");
    let (mut calls, mut rows, mut kills) = (0, 0, 0);
    for attempt in 0..80_u64 {
        while calls < rows + WAITING {
            calls += 1;
            north.record(calls, &format!("{calls}@b"), format!("sound {calls}").repeat(2_000).as_bytes());
        }
        let is_over = push_and_kill(&north, Duration::from_millis(30 + attempt * 53 % 220));
        kills += u32::from(!is_over);
        let stored = moto.keys().len();
        rows = central.calls().parse().expect("a number");
        assert!(
            stored >= rows as usize,
            "a row never names an object that is not there: {stored} objects, {rows} rows"
        );
        if kills == 10 {
            break;
        }
    }
    assert!(kills >= 5, "only {kills} kills hit a running push");
    let pushed = north.push();
    assert!(pushed.status.success(), "{}", text(&pushed));
    assert_eq!((moto.keys().len(), central.calls()), (calls as usize, calls.to_string()));
    let verified = central.verify(&north);
    assert!(verified.status.success(), "{}", text(&verified));
}

/// The object store is a folder. Each operation on its files fails in turn, with a random error, once or until the push
/// ends.
#[test]
#[cfg_attr(
    not(all(has_postgres, has_c_compiler)),
    ignore = "needs PostgreSQL 15 and setpriv, as root, and a C compiler (cc)"
)]
fn an_error_at_each_operation_of_the_object_store_costs_no_recording() {
    let central = Central::start();
    let site = central.add("north");
    let (faults, environment) = FileFaults::of_children(central.folder.path());
    faults.watch(&central.folder.path().join("objects"));
    let mut rng = fastrand::Rng::with_seed(3);
    let push = |n: u32, errno: i32, first: u32, count: u32| {
        site.record(n, &format!("{n}@trunk"), format!("the sound of call {n}").as_bytes());
        faults.fail(errno, first, count);
        let config = site.config().display().to_string();
        let mut command = Command::new(env!("CARGO_BIN_EXE_callspan"));
        command.args(["archive", "push", "--since", "2026-01-01", "-c", &config]).envs(environment.clone());
        let failed = command.output().expect("starts");
        faults.stop();
        let case = format!("error {errno} at operations {first} to {}: {}", first + count, text(&failed));
        let pushed = site.push();
        assert!(pushed.status.success(), "{case}\nthen {}", text(&pushed));
        let verified = central.verify(&site);
        assert!(verified.status.success(), "{case}\nthen {}", text(&verified));
        faults.failed()
    };
    // The first push also makes the folders, which needs more operations.
    assert_eq!(push(1, 0, 0, 0) + push(2, 0, 0, 0), 0);
    let operations = faults.seen();
    assert!(operations >= 4, "{operations} operations: a file is opened, written, synced and gets its name");
    let reached = (0..operations).filter(|&first| {
        let errno = *rng.choice(&[1, 5, 12, 13, 23, 24, 28, 30, 116, 122]).expect("some");
        let count = *rng.choice(&[1, 1_000]).expect("some");
        push(first + 3, errno, first, count) >= 1
    });
    let reached = reached.count() as u32;
    assert!(2 * reached > operations, "{reached} of {operations} operations failed");
}
