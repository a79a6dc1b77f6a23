//! The state of the fake. `FakeStore` has the tables; [`FakeState`] is a snapshot for tests and people.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::clock;
use super::faults::{FakeEndpoint, WorldChange};
use super::multipart::ParsedUpload;
use super::options::{FakeAccount, FakeOptions, FakePerson, TaskPolicy};

/// A snapshot of the state, without keys and tokens.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FakeState {
    /// Virtual time at which the snapshot was taken.
    pub at: String,
    /// The users, without their keys.
    pub users: Vec<UserSnapshot>,
    /// The tokens that were issued, oldest first.
    pub tokens: Vec<TokenSnapshot>,
    /// The telephony extensions (plug-ins of Pyrus) that are connected to forms.
    pub accounts: Vec<FakeAccount>,
    /// The people in Pyrus who can become responsible for a call.
    pub people: Vec<FakePerson>,
    /// The tasks, sorted by id.
    pub tasks: Vec<PyrusTask>,
    /// The registered calls, in the order of registration.
    pub calls: Vec<RegisteredCall>,
    /// The uploaded files that still exist, in the order of upload.
    pub files: Vec<StoredFile>,
    /// Number of requests to each endpoint, including those to which a fault applied.
    pub requests: BTreeMap<FakeEndpoint, u64>,
    /// Number of duplicates that a user of Pyrus sees: comments because a call was registered again, and files that
    /// were attached again.
    pub duplicates: u64,
    /// Number of queued fault steps that no request has used up yet.
    pub steps_left: usize,
}

impl FakeState {
    /// Returns the number of requests to an endpoint.
    pub fn requests(&self, endpoint: FakeEndpoint) -> u64 {
        self.requests.get(&endpoint).copied().unwrap_or(0)
    }

    /// Returns the task with this id; `None` if there is no such task.
    pub fn task(&self, task_id: u64) -> Option<&PyrusTask> {
        self.tasks.iter().find(|t| t.task_id == task_id)
    }

    /// Returns the uploaded file with this id; `None` if there is no such file.
    pub fn file(&self, guid: &str) -> Option<&StoredFile> {
        self.files.iter().find(|f| f.guid == guid)
    }
}

/// A user as a snapshot shows it, without the security key.
#[derive(Clone, Debug, Serialize)]
pub struct UserSnapshot {
    /// Login of the user.
    pub login: String,
    /// Ids of the persons in Pyrus to whom the login belongs. One login can belong to several persons.
    pub person_ids: Vec<u64>,
    /// Whether an administrator has blocked the user.
    pub blocked: bool,
}

/// A token as a snapshot shows it, without its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TokenSnapshot {
    /// Login of the token's user.
    pub login: String,
    /// Virtual time at which the token was issued.
    pub issued: String,
    /// Whether the token is valid.
    pub life: TokenValidity,
}

/// Whether a token is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenValidity {
    /// The token is valid.
    Active,
    /// The token has expired: `token_ttl` has passed.
    Expired,
    /// The token was revoked by a newer token, a new key or the fault script.
    Revoked,
}

/// A task of the form, made from a call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PyrusTask {
    /// Id of the task.
    pub task_id: u64,
    /// `account_id` of the telephony extension (a plug-in of Pyrus).
    pub account_id: String,
    /// Id of the form in Pyrus to which the task belongs.
    pub form_id: u64,
    /// `from_number` of the call from which the task was made.
    pub from: String,
    /// `to_number` of the call from which the task was made.
    pub to: String,
    /// Whether the task is open.
    pub open: bool,
    /// `user_id` of the responsible person.
    pub responsible: Option<u64>,
    /// The comments, in the order in which they were made.
    pub comments: Vec<TaskComment>,
    /// The attached recordings.
    pub attachments: Vec<TaskAttachment>,
    /// Values of the form fields, by code.
    pub fields: BTreeMap<String, String>,
}

/// A comment in the history of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskComment {
    /// Virtual time of the comment.
    pub at: String,
    /// The reason why the comment was made.
    pub kind: CommentKind,
    /// `external_id` of the call; `None` if unknown.
    pub external_id: Option<String>,
    /// Id of the attached file; `None` if no file is attached.
    pub guid: Option<String>,
}

/// The reason why a comment was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CommentKind {
    /// The comment was made because a call was registered.
    Call,
    /// The comment was made because the same call was registered again.
    RepeatedCall,
    /// A recording was attached, or only form fields of the call were set.
    Recording,
}

/// A recording that is attached to a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskAttachment {
    /// Id of the attached file.
    pub guid: String,
    /// Name of the attached file.
    pub name: String,
    /// `external_id` of the call; `None` if unknown.
    pub external_id: Option<String>,
    /// Virtual time at which the file was attached.
    pub at: String,
}

/// A call that was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegisteredCall {
    /// `account_id` of the telephony extension (a plug-in of Pyrus).
    pub account_id: String,
    /// Id of the call that the client sent (`external_id`); `None` if it sent no id.
    pub external_id: Option<String>,
    /// Id of the call's task.
    pub task_id: u64,
    /// Telephone number of the caller.
    pub from: String,
    /// Telephone number of the callee.
    pub to: String,
    /// Telephone extension that took part in the call; `None` if unknown.
    pub internal: Option<String>,
    /// Number of times that the call was registered.
    pub registered: u32,
}

/// A file that was uploaded and still exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredFile {
    /// Id that the fake gave the file.
    pub guid: String,
    /// Login that uploaded the file.
    pub owner: String,
    /// File name as the client sent it.
    pub name: String,
    /// Size of the file in bytes.
    pub size: u64,
    /// MD5 of the content, lower-case hexadecimal.
    pub md5: String,
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
    /// Virtual time at which the file was uploaded.
    pub created: String,
    /// Whether a task uses the file. If false, the file is removed after [`FakeOptions::orphan_ttl`].
    pub referenced: bool,
    /// Content of the file; `None` if the file is larger than 64 MiB, or if 512 MiB of files were already stored.
    #[serde(skip)]
    pub bytes: Option<Arc<Vec<u8>>>,
}

/// A token that the fake issued, with its secret value.
#[derive(Debug)]
pub(super) struct IssuedToken {
    pub(super) value: String,
    pub(super) login: String,
    issued: Duration,
    revoked: bool,
}

/// The tables of the fake: tokens, tasks, calls and files.
#[derive(Debug)]
pub(super) struct FakeStore {
    tokens: Vec<IssuedToken>,
    tasks: BTreeMap<u64, PyrusTask>,
    calls: Vec<RegisteredCall>,
    by_external_id: HashMap<(String, String), usize>,
    /// Id of the newest task, by `account_id` and `from_number`.
    latest_task: HashMap<(String, String), u64>,
    files: Vec<(Duration, StoredFile)>,
    file_index: HashMap<String, usize>,
    bytes_kept: u64,
    pub(super) requests: BTreeMap<FakeEndpoint, u64>,
    pub(super) duplicates: u64,
    next_task: u64,
    rng: fastrand::Rng,
}

impl FakeStore {
    pub(super) fn new(options: &FakeOptions) -> FakeStore {
        FakeStore {
            tokens: Vec::new(),
            tasks: BTreeMap::new(),
            calls: Vec::new(),
            by_external_id: HashMap::new(),
            latest_task: HashMap::new(),
            files: Vec::new(),
            file_index: HashMap::new(),
            bytes_kept: 0,
            requests: BTreeMap::new(),
            duplicates: 0,
            next_task: options.first_task_id,
            rng: options.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
        }
    }

    // The methods below handle tokens.

    pub(super) fn issue_token(&mut self, login: &str, options: &FakeOptions, now: Duration) -> String {
        let value = format!("gAAAAA{}", (0..40).map(|_| self.rng.alphanumeric()).collect::<String>());
        let mut active: Vec<usize> = self.active_tokens(login, options, now);
        while active.len() >= options.max_tokens_per_user.max(1) {
            let oldest = active.remove(0);
            if let Some(token) = self.tokens.get_mut(oldest) {
                token.revoked = true;
            }
        }
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.remove(0);
        }
        self.tokens.push(IssuedToken { value: value.clone(), login: login.into(), issued: now, revoked: false });
        value
    }

    pub(super) fn token(&self, value: &str) -> Option<&IssuedToken> {
        self.tokens.iter().rev().find(|t| t.value == value)
    }

    pub(super) fn life(token: &IssuedToken, options: &FakeOptions, now: Duration) -> TokenValidity {
        if token.revoked {
            TokenValidity::Revoked
        } else if now.saturating_sub(token.issued) >= options.token_ttl {
            TokenValidity::Expired
        } else {
            TokenValidity::Active
        }
    }

    pub(super) fn has_active_token(&self, login: &str, options: &FakeOptions, now: Duration) -> bool {
        !self.active_tokens(login, options, now).is_empty()
    }

    pub(super) fn revoke(&mut self, login: Option<&str>) {
        for token in self.tokens.iter_mut().filter(|t| login.is_none_or(|l| l == t.login)) {
            token.revoked = true;
        }
    }

    /// Returns whether a text, e.g. a URL, contains an issued token.
    pub(super) fn holds_token(&self, text: &str) -> bool {
        text.contains("gAAAAA") && self.tokens.iter().any(|t| text.contains(&t.value))
    }

    fn active_tokens(&self, login: &str, options: &FakeOptions, now: Duration) -> Vec<usize> {
        let active = |t: &IssuedToken| t.login == login && FakeStore::life(t, options, now) == TokenValidity::Active;
        self.tokens.iter().enumerate().filter(|(_, t)| active(t)).map(|(i, _)| i).collect()
    }

    // The methods below handle calls and tasks.

    pub(super) fn find_call(&self, account_id: Option<&str>, external_id: &str) -> Option<RegisteredCall> {
        match account_id {
            Some(account) => {
                let index = self.by_external_id.get(&(account.to_owned(), external_id.to_owned()))?;
                self.calls.get(*index).cloned()
            }
            None => self.calls.iter().rev().find(|c| c.external_id.as_deref() == Some(external_id)).cloned(),
        }
    }

    /// Returns the newest registered call from the number `from` to the number `to`. If an `account_id` is given, the
    /// call must have it.
    pub(super) fn find_numbers(&self, account_id: Option<&str>, from: &str, to: &str) -> Option<RegisteredCall> {
        let same = |c: &&RegisteredCall| c.from == from && c.to == to && account_id.is_none_or(|a| a == c.account_id);
        self.calls.iter().rev().find(same).cloned()
    }

    pub(super) fn task_mut(&mut self, task_id: u64) -> Option<&mut PyrusTask> {
        self.tasks.get_mut(&task_id)
    }

    pub(super) fn count_repeat(&mut self, call: &RegisteredCall) {
        if let Some(ext) = &call.external_id {
            let key = (call.account_id.clone(), ext.clone());
            if let Some(known) = self.by_external_id.get(&key).and_then(|i| self.calls.get_mut(*i)) {
                known.registered = known.registered.saturating_add(1);
            }
        }
    }

    /// Returns the id of the task for a new call, and whether this function created the task.
    pub(super) fn task_for(&mut self, account: &FakeAccount, from: &str, to: &str, policy: TaskPolicy) -> (u64, bool) {
        let key = (account.account_id.clone(), from.to_owned());
        if policy == TaskPolicy::SameFromOpenTask
            && let Some(task) = self.latest_task.get(&key).and_then(|id| self.tasks.get(id)).filter(|t| t.open)
        {
            return (task.task_id, false);
        }
        let task_id = self.next_task;
        self.next_task += 1;
        self.latest_task.insert(key, task_id);
        let task = PyrusTask {
            task_id,
            account_id: account.account_id.clone(),
            form_id: account.form_id,
            from: from.into(),
            to: to.into(),
            open: true,
            ..PyrusTask::default()
        };
        self.tasks.insert(task_id, task);
        (task_id, true)
    }

    pub(super) fn add_call(&mut self, call: RegisteredCall) {
        if let Some(ext) = &call.external_id {
            self.by_external_id.insert((call.account_id.clone(), ext.clone()), self.calls.len());
        }
        self.calls.push(call);
    }

    // The methods below handle files.

    pub(super) fn add_file(&mut self, owner: &str, name: &str, upload: ParsedUpload, now: Duration) -> StoredFile {
        let guid = self.guid();
        let keep = upload.bytes.filter(|b| self.bytes_kept + b.len() as u64 <= MAX_BYTES_KEPT);
        self.bytes_kept += keep.as_ref().map_or(0, |b| b.len() as u64);
        let file = StoredFile {
            guid: guid.clone(),
            owner: owner.into(),
            name: name.into(),
            size: upload.size,
            md5: upload.md5,
            sha256: upload.sha256,
            created: clock::text(now),
            referenced: false,
            bytes: keep.map(Arc::new),
        };
        self.file_index.insert(guid, self.files.len());
        self.files.push((now, file.clone()));
        file
    }

    pub(super) fn file(&self, guid: &str) -> Option<&StoredFile> {
        self.files.get(*self.file_index.get(guid)?).map(|(_, f)| f)
    }

    pub(super) fn reference(&mut self, guid: &str) {
        if let Some((_, file)) = self.file_index.get(guid).and_then(|i| self.files.get_mut(*i)) {
            file.referenced = true;
        }
    }

    /// Removes files that no task uses and that are at least as old as `ttl`.
    pub(super) fn sweep(&mut self, ttl: Duration, now: Duration) {
        let old = |created: &Duration| now.saturating_sub(*created) >= ttl;
        // The files are sorted by age, oldest first. So the check stops at the first recent file.
        if self.files.iter().take_while(|(created, _)| old(created)).any(|(_, f)| !f.referenced) {
            self.remove_files(|created, f| !f.referenced && old(created));
        }
    }

    /// Applies a change to the tables of the fake, e.g. closes a task. Ignores changes of anything else, e.g. of the
    /// options.
    pub(super) fn change(&mut self, change: &WorldChange) {
        match change {
            WorldChange::DropAllTokens => self.revoke(None),
            WorldChange::DeleteFile(Some(guid)) => self.remove_files(|_, f| f.guid == *guid),
            WorldChange::DeleteFile(None) => self.remove_files(|_, f| !f.referenced),
            WorldChange::CloseTask(task_id) => {
                if let Some(task) = self.tasks.get_mut(task_id) {
                    task.open = false;
                }
            }
            WorldChange::DeleteTask(task_id) => {
                self.tasks.remove(task_id);
                self.forget_calls(|c| c.task_id == *task_id);
            }
            WorldChange::ForgetCall(ext) => self.forget_calls(|c| c.external_id.as_deref() == Some(ext)),
            _ => {}
        }
    }

    pub(super) fn guid(&mut self) -> String {
        let r = self.rng.u128(..);
        // A random UUID must have these fixed bits: version 4 and variant 10 (RFC 9562).
        let r = (r & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let hex = format!("{r:032x}");
        let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
        [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
    }

    pub(super) fn snapshot(&self, options: &FakeOptions, now: Duration) -> FakeState {
        let user = |u: &super::options::FakeUser| UserSnapshot {
            login: u.login.clone(),
            person_ids: u.person_ids.clone(),
            blocked: u.blocked,
        };
        let token = |t: &IssuedToken| TokenSnapshot {
            login: t.login.clone(),
            issued: clock::text(t.issued),
            life: FakeStore::life(t, options, now),
        };
        FakeState {
            at: clock::text(now),
            users: options.users.iter().map(user).collect(),
            tokens: self.tokens.iter().map(token).collect(),
            accounts: options.accounts.clone(),
            people: options.people.clone(),
            tasks: self.tasks.values().cloned().collect(),
            calls: self.calls.clone(),
            files: self.files.iter().map(|(_, f)| f.clone()).collect(),
            requests: self.requests.clone(),
            duplicates: self.duplicates,
            steps_left: 0,
        }
    }

    fn remove_files(&mut self, gone: impl Fn(&Duration, &StoredFile) -> bool) {
        self.files.retain(|(created, f)| !gone(created, f));
        self.file_index = self.files.iter().enumerate().map(|(i, (_, f))| (f.guid.clone(), i)).collect();
        self.bytes_kept = self.files.iter().filter_map(|(_, f)| f.bytes.as_ref()).map(|b| b.len() as u64).sum();
    }

    fn forget_calls(&mut self, gone: impl Fn(&RegisteredCall) -> bool) {
        self.calls.retain(|c| !gone(c));
        self.by_external_id = self
            .calls
            .iter()
            .enumerate()
            .filter_map(|(i, c)| Some(((c.account_id.clone(), c.external_id.clone()?), i)))
            .collect();
    }
}

/// Maximum size of a file of which the content is kept, bytes. A larger file is only hashed.
pub(super) const MAX_FILE_KEPT: usize = 64 * 1024 * 1024;
/// Maximum total size of the kept files, bytes. The same limit holds for the total size of the unfinished uploads.
pub(super) const MAX_BYTES_KEPT: u64 = 512 * 1024 * 1024;
/// Maximum number of tokens that are kept in memory.
const MAX_TOKENS: usize = 10_000;
