//! Checks for `check-config` that depend on this machine. They test whether the configured interfaces and the alarm
//! command exist, and whether the service can read the configured files.
//!
//! Most findings are only warnings, because a configuration may be checked on another machine. A file that is there, and
//! that the service's user cannot read, is a mistake: the service would not start. It stays a warning if an access control
//! list of the file or a drop-in of the unit can give the service more rights.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Config;
use super::finding::ConfigFinding;
use super::folders;
use super::plausible::relative;
use super::raw::RawConfig;

/// The parts of a machine that a configuration depends on: interfaces, and the user of the service.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckedMachine {
    /// Names of the network interfaces; empty if unknown.
    pub(crate) interfaces: Vec<String>,
    /// The user under which the service runs; `None` if the package is not installed.
    pub(crate) service: Option<ServiceUser>,
}

/// A user of the operating system, with its groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceUser {
    /// Numeric user id (uid) of the operating system.
    pub(crate) uid: u32,
    /// Numeric ids of all groups of the user (gid).
    pub(crate) gids: Vec<u32>,
}

impl CheckedMachine {
    /// Returns the facts about the machine on which this process runs.
    pub(crate) fn this() -> Self {
        let names = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let mut interfaces: Vec<String> =
            names.filter_map(|e| e.file_name().into_string().ok()).filter(|n| n != "bonding_masters").collect();
        interfaces.sort_unstable();
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self { interfaces, service: ServiceUser::parse(&read("/etc/passwd"), &read("/etc/group")) }
    }

    /// Appends a warning for each configured interface, command or file that this machine lacks or the service cannot
    /// use.
    pub(crate) fn check(&self, config: &Config, raw: &RawConfig, findings: &mut Vec<ConfigFinding>) {
        let mut unreadable = Vec::new();
        let line_of = |section: &str, key: &str| raw.get(section, key).map(|g| g.line);
        let mut warn = |section: &str, key: &str, what: String, remedy: String| {
            let line = line_of(section, key);
            findings.push(ConfigFinding::warning(line, format!("{section}.{key}: {what}"), remedy));
        };
        for (what, remedy) in config.capture.interfaces.iter().filter_map(|name| self.missing_interface(name)) {
            warn("capture", "interface", what, remedy);
        }
        if let Some((what, remedy)) = config.alerts.command.as_deref().and_then(|command| self.wrong_command(command)) {
            warn("alerts", "command", what, remedy);
        }
        let files =
            [("security_key_file", &config.pyrus.security_key_file), ("ca_file", &config.pyrus.ca_file)].into_iter();
        for (key, path) in files.filter_map(|(key, path)| path.as_deref().map(|p| (key, p))) {
            if let Some((what, remedy)) = relative(path).or_else(|| hidden_by_unit(path)) {
                warn("pyrus", key, what, remedy);
            } else if let Some((what, remedy)) = self.unreadable(path) {
                if has_access_list(path) || folders::unit_changes_user() {
                    warn("pyrus", key, what, remedy);
                    continue;
                }
                unreadable.push(ConfigFinding::mistake(line_of("pyrus", key), format!("pyrus.{key}: {what}"), remedy));
            }
        }
        findings.append(&mut unreadable);
    }

    fn missing_interface(&self, name: &str) -> Option<(String, String)> {
        if name == ANY_INTERFACE || self.interfaces.is_empty() || self.interfaces.iter().any(|have| have == name) {
            return None;
        }
        let what = format!("this machine has no interface {name}; `callspan run` does not start without it");
        Some((what, format!("it has: {}", self.interfaces.join(", "))))
    }

    /// Returns problem and remedy if `/bin/sh` could not run a command; `None` if it could.
    fn wrong_command(&self, command: &str) -> Option<(String, String)> {
        if !is_shell_syntax(command) {
            let what = "/bin/sh cannot parse this command";
            return Some((String::from(what), String::from("try it in a shell: sh -n -c 'COMMAND'")));
        }
        let word = program_of(command)?;
        if !word.contains('/') {
            let is_found = SERVICE_PATH.iter().any(|dir| Path::new(dir).join(word).exists());
            let what = format!("there is no program {word} in {}", SERVICE_PATH.join(":"));
            return (!is_found).then(|| (what, String::from("write its whole path, or install it")));
        }
        let path = Path::new(word);
        if let Some(found) = relative(path).or_else(|| hidden_by_unit(path)) {
            return Some(found);
        }
        match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Some((format!("{word} does not exist"), String::from("check the path")))
            }
            Ok(meta) if meta.is_dir() => {
                Some((format!("{word} is a folder"), String::from("write the path of a program")))
            }
            Ok(meta) if meta.mode() & 0o111 == 0 => {
                Some((format!("{word} is not executable"), format!("chmod 755 {word}")))
            }
            _ => wrong_interpreter(path).or_else(|| self.unreadable(path)),
        }
    }

    /// Returns problem and remedy if a file exists but the user of the service cannot read it; `None` otherwise. Access
    /// control lists are not checked.
    fn unreadable(&self, path: &Path) -> Option<(String, String)> {
        let service = self.service.as_ref()?;
        let blocked_at = service.blocked_at(path)?;
        let what = match blocked_at == path {
            true => format!("the user of the service, {SERVICE_USER}, cannot read {}", path.display()),
            false => format!("the user of the service, {SERVICE_USER}, cannot enter {}", blocked_at.display()),
        };
        let remedy = match blocked_at == path {
            true => format!("as root: chown {SERVICE_USER}: {0}; chmod 600 {0}", path.display()),
            false => String::from("move the file below /etc/callspan"),
        };
        Some((what, remedy))
    }
}

impl ServiceUser {
    /// Finds the user of the service in the texts of `/etc/passwd` and `/etc/group` (passwd(5), group(5)). Returns
    /// `None` if there is no such user.
    pub(crate) fn parse(passwd: &str, groups: &str) -> Option<Self> {
        let entry =
            passwd.lines().map(|l| l.split(':').collect::<Vec<_>>()).find(|f| f.first() == Some(&SERVICE_USER))?;
        let (uid, gid) = (entry.get(2)?.parse().ok()?, entry.get(3)?.parse().ok()?);
        let member_of = groups.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let is_member = fields.get(3)?.split(',').any(|name| name == SERVICE_USER);
            is_member.then(|| fields.get(2)?.parse().ok()).flatten()
        });
        Some(Self { uid, gids: std::iter::once(gid).chain(member_of).collect() })
    }

    /// Returns the first parent folder that this user cannot enter, or the file itself if the user cannot read it.
    /// Returns `None` if the user can read the file.
    pub(crate) fn blocked_at(&self, path: &Path) -> Option<PathBuf> {
        let mut folders: Vec<&Path> = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()).collect();
        folders.reverse();
        let blocked = folders.into_iter().find(|dir| !self.may(dir, MODE_ENTER));
        blocked.or_else(|| (!self.may(path, MODE_READ)).then_some(path)).map(Path::to_owned)
    }

    /// Returns whether the mode of a file grants all of `bits` (e.g. read and enter) to this user. Returns true also if
    /// the file does not exist.
    pub(crate) fn may(&self, path: &Path, bits: u32) -> bool {
        let Ok(meta) = std::fs::metadata(path) else { return true };
        let granted = match meta.mode() {
            mode if meta.uid() == self.uid => mode >> 6,
            mode if self.gids.contains(&meta.gid()) => mode >> 3,
            mode => mode,
        };
        granted & bits == bits
    }
}

/// Returns whether a file has an access control list (acl(5)), which can grant more than its mode.
fn has_access_list(path: &Path) -> bool {
    let mut none: [u8; 0] = [];
    // With an empty buffer, `getxattr` returns only the length of the access control list. It fails if there is no
    // list.
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut none).is_ok_and(|length| length > 0)
}

/// Returns problem and remedy if a file is in a folder that the systemd unit hides from the service (`ProtectHome=`,
/// `PrivateTmp=`).
fn hidden_by_unit(path: &Path) -> Option<(String, String)> {
    let hidden = HIDDEN_FOLDERS.iter().find(|folder| path.starts_with(folder))?;
    let what = format!("the systemd unit hides {hidden} from the service");
    Some((what, String::from("move the file below /etc/callspan or /usr/local/bin")))
}

/// Returns the program of a simple command, i.e. its first word. Returns `None` for a command with shell syntax, e.g.
/// quotes or variables.
fn program_of(command: &str) -> Option<&str> {
    let is_assignment =
        |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.is_empty() && !name.contains('/'));
    let word = command.split_whitespace().find(|word| !is_assignment(word))?;
    let word = word.trim_end_matches(';').trim_matches(['"', '\'']);
    let is_plain = !word.contains(|c: char| "$`|&;<>(){}*?'\"\\!#~".contains(c) && c != '~');
    (is_plain && !SHELL_WORDS.contains(&word)).then_some(word)
}

/// Returns whether the shell can parse a command (`sh -n`). Returns true also if there is no shell.
fn is_shell_syntax(command: &str) -> bool {
    let null = Stdio::null;
    let asked =
        Command::new("/bin/sh").args(["-n", "-c", command]).stdin(null()).stdout(null()).stderr(null()).status();
    asked.map_or(true, |status| status.success())
}

/// Returns problem and remedy if the first line of a script names an interpreter that does not exist or ends as in
/// Windows.
fn wrong_interpreter(path: &Path) -> Option<(String, String)> {
    use std::io::Read as _;
    let mut head = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX_INTERPRETER_LINE).read_to_end(&mut head).ok()?;
    let line = head.split(|b| *b == b'\n').next()?.strip_prefix(b"#!")?;
    let shown = path.display();
    if line.ends_with(b"\r") {
        let what = format!("{shown} has the line ends of Windows, so its interpreter is not found");
        return Some((what, format!("sed -i 's/\\r$//' {shown}")));
    }
    let interpreter = String::from_utf8_lossy(line).split_whitespace().next()?.to_owned();
    let what = format!("{shown} needs {interpreter}, which does not exist");
    (!Path::new(&interpreter).exists())
        .then(|| (what, String::from("install it, or mend the first line of the script")))
}

/// User of the service, as `User=` in deploy/callspan.service names it.
const SERVICE_USER: &str = "callspan";
/// Interface name that means all interfaces to libpcap.
const ANY_INTERFACE: &str = "any";
/// Bit of a file mode that allows entering a folder.
const MODE_ENTER: u32 = 0o1;
/// Bit of a file mode that allows reading a file.
const MODE_READ: u32 = 0o4;
/// Folders in the `PATH` of systemd services (systemd.exec(5)).
const SERVICE_PATH: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// Folders that deploy/callspan.service hides from the service or replaces by empty folders.
const HIDDEN_FOLDERS: [&str; 5] = ["/home", "/root", "/run/user", "/tmp", "/var/tmp"];
/// Commands that are built into the shell. They need no program file.
const SHELL_WORDS: [&str; 20] = [
    "[", ":", ".", "!", "if", "case", "for", "while", "until", "cd", "echo", "eval", "exec", "export", "printf",
    "read", "set", "test", "trap", "umask",
];
/// Maximum number of bytes read of a script's first line. Linux reads at most 256.
const MAX_INTERPRETER_LINE: u64 = 256;
