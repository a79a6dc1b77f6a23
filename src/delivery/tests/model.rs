//! Runs random calls with faults, crashes and restarts against a model of Pyrus in memory. At the end, each call must
//! be registered and its recording attached exactly once, unless a request had an uncertain outcome.

use std::collections::BTreeMap;

use super::*;

/// A simulated Pyrus in memory that stores all requests it got.
#[derive(Default)]
struct PyrusModel {
    /// Number of times that each call was registered in this Pyrus, by `external_id`.
    calls: BTreeMap<String, u32>,
    /// Path of each uploaded file, by the id that Pyrus gave it.
    files: BTreeMap<String, String>,
    /// Number of times that each file was attached, by path.
    attached: BTreeMap<String, u32>,
    token: u64,
    made: u64,
    /// Id of the file that the last attach request named for each recording, by the path of the recording.
    named: BTreeMap<String, String>,
    /// Number of requests with an uncertain outcome, by the id of the call or the path of the recording.
    unsure: BTreeMap<String, u32>,
}

impl PyrusModel {
    fn work(&mut self, request: &PyrusRequest) -> RequestOutcome {
        self.made += 1;
        match request {
            PyrusRequest::Auth => {
                self.token += 1;
                good(request)
            }
            PyrusRequest::Register(body) => {
                *self.calls.entry(body.external_id.clone()).or_default() += 1;
                http(200, &format!(r#"{{"task_id":{}}}"#, 1000 + self.made))
            }
            PyrusRequest::Upload { path, .. } => {
                let guid = format!("guid{}", self.made);
                self.files.insert(guid.clone(), path.clone());
                http(200, &format!(r#"{{"guid":"{guid}","md5_hash":"00"}}"#))
            }
            PyrusRequest::Attach(body) => {
                if !self.calls.contains_key(&body.external_id) {
                    return http(400, r#"{"error_code":"unrecognized_call_id"}"#);
                }
                let Some(path) = body.record_file.as_ref().and_then(|guid| self.files.get(guid)) else {
                    return http(200, r#"{"error_code":"unrecognized_attachment_id"}"#);
                };
                *self.attached.entry(path.clone()).or_default() += 1;
                http(200, "")
            }
        }
    }

    /// Checks that a repeated attach request names the same file as before, as long as Pyrus has that file.
    fn check_file(&mut self, request: &PyrusRequest) {
        let PyrusRequest::Attach(body) = request else { return };
        let Some(guid) = &body.record_file else { return };
        let Some(path) = self.files.get(guid) else { return };
        if let Some(before) = self.named.insert(path.clone(), guid.clone()) {
            assert!(before == *guid || !self.files.contains_key(&before), "{path} was uploaded again");
        }
    }

    fn note_unsure(&mut self, request: &PyrusRequest) {
        let key = match request {
            PyrusRequest::Register(body) => body.external_id.clone(),
            PyrusRequest::Attach(body) => {
                body.record_file.as_ref().and_then(|guid| self.files.get(guid)).cloned().unwrap_or_default()
            }
            PyrusRequest::Auth | PyrusRequest::Upload { .. } => return,
        };
        *self.unsure.entry(key).or_default() += 1;
    }
}

/// A process that can crash at any time, with the rows that it has stored.
struct SimulatedProcess {
    machine: DeliveryMachine,
    disk: BTreeMap<String, JobRow>,
    now: Timestamp,
    rng: fastrand::Rng,
    handed_over: BTreeMap<String, CallUpdate>,
}

impl SimulatedProcess {
    fn new(seed: u64) -> Self {
        Self {
            machine: DeliveryMachine::new(policy(), DeliveryTuning::default(), seed),
            disk: BTreeMap::new(),
            now: at(0),
            rng: fastrand::Rng::with_seed(seed),
            handed_over: BTreeMap::new(),
        }
    }

    fn persist(&mut self) {
        while let Some(row) = self.machine.poll_row() {
            if let DeliveryRow::Job(job) = row {
                self.disk.insert(job.id.clone(), job);
            }
        }
    }

    /// Passes a call to the state machine as the service does. If the machine does not know the call, its stored row is
    /// loaded first.
    fn hand_over(&mut self, update: CallUpdate) {
        let id = update.record.id.clone();
        if !self.machine.contains(&id) {
            self.machine.load(self.now, self.disk.get(&id).cloned());
        }
        self.machine.handle_call(&update);
        self.handed_over.insert(id, update);
        self.persist();
    }

    /// Simulates a crash and a restart: a new state machine loads the stored rows. Then it gets all calls again, even
    /// delivered calls.
    fn crash(&mut self) {
        self.machine = DeliveryMachine::new(policy(), DeliveryTuning::default(), self.rng.u64(..));
        let owed: Vec<JobRow> = self.disk.values().filter(|r| !r.is_settled()).cloned().collect();
        assert!(self.machine.load(self.now, owed).is_empty());
        for update in self.handed_over.clone().into_values() {
            self.hand_over(update);
        }
        self.persist();
    }

    fn check_intent(&self, request: &PyrusRequest) {
        let (id, stage) = match request {
            PyrusRequest::Auth => return,
            PyrusRequest::Register(body) => (&body.external_id, JobStage::Registering),
            PyrusRequest::Attach(body) => (&body.external_id, JobStage::Attaching),
            PyrusRequest::Upload { path, .. } => {
                let owner = self.handed_over.values().find(|u| u.record.recordings.iter().any(|r| r.path == *path));
                (&owner.expect("a file of a call").record.id, JobStage::Uploading)
            }
        };
        let row = self.disk.get(id).expect("a row before the request");
        let job = DeliveryJob::from_row(row).expect("a job");
        let is_parked = matches!(job.status, JobStatus::Parked { .. });
        assert!(row.stage == stage || is_parked, "{stage:?} is durable before the request, not {:?}", row.stage);
    }

    /// Executes one request, possibly with a fault. Returns false if no request was due.
    fn step(&mut self, pyrus: &mut PyrusModel, faults: FaultLevel) -> bool {
        let next = self.machine.poll_action(self.now);
        if faults == FaultLevel::Wild && self.rng.u8(..100) == 0 {
            self.crash(); // crash before the rows are stored: nothing was sent
            return true;
        }
        self.persist();
        let action = match next {
            NextAction::Send(action) => action,
            NextAction::WaitUntil(then) => {
                self.now = then;
                return true;
            }
            NextAction::Idle => return false,
        };
        self.check_intent(&action.request);
        pyrus.check_file(&action.request);
        let dice = if faults == FaultLevel::Wild { self.rng.u8(..100) } else { 100 };
        let reply = match dice {
            0..8 => {
                pyrus.note_unsure(&action.request);
                http(500, "")
            }
            8..16 => {
                pyrus.work(&action.request);
                pyrus.note_unsure(&action.request);
                RequestOutcome::Failed(RequestFailure::Unanswered("reset".into()))
            }
            16..20 => RequestOutcome::Failed(RequestFailure::NotSent("refused".into())),
            20..23 => http(503, "<html>"),
            23..26 => http(401, r#"{"error_code":"revoked_token"}"#),
            26..29 => http(429, ""),
            29..32 if !matches!(action.request, PyrusRequest::Auth) => {
                http(400, r#"{"error_code":"webhook_is_disabled"}"#)
            }
            32..34 => {
                pyrus.files.clear(); // Pyrus deletes files that are not attached
                pyrus.work(&action.request)
            }
            34..37 => {
                pyrus.note_unsure(&action.request);
                self.crash(); // crash before the request was sent
                return true;
            }
            37..40 => {
                pyrus.work(&action.request);
                pyrus.note_unsure(&action.request);
                self.crash(); // crash before the response arrived
                return true;
            }
            _ => pyrus.work(&action.request),
        };
        self.machine.handle_outcome(self.now, action.id, &reply);
        if faults == FaultLevel::Wild && self.rng.u8(..50) == 0 {
            // The process crashed before it stored the outcome of the request, so the restarted process does not know
            // the outcome.
            pyrus.note_unsure(&action.request);
            self.crash();
        } else {
            self.persist();
        }
        true
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FaultLevel {
    Wild,
    None,
}

fn run_seed(seed: u64) {
    let mut life = SimulatedProcess::new(seed);
    let mut pyrus = PyrusModel::default();
    let mut calls: Vec<(String, u32, CallProgress)> =
        (0..life.rng.u32(1..6)).map(|n| (format!("call{n}"), life.rng.u32(0..3), CallProgress::Live)).collect();
    for _ in 0..life.rng.u32(20..120) {
        if life.rng.u8(..4) == 0 {
            let at = life.rng.usize(..calls.len());
            let (id, parts, progress) = &mut calls[at];
            let update = match progress {
                CallProgress::Live => call(id, CallProgress::Live, 0),
                CallProgress::Ended => call(id, CallProgress::Ended, 0),
                CallProgress::Complete => call(id, CallProgress::Complete, *parts),
            };
            *progress = if *progress == CallProgress::Live { CallProgress::Ended } else { CallProgress::Complete };
            life.hand_over(update);
        }
        life.step(&mut pyrus, FaultLevel::Wild);
    }
    for (id, parts, _) in &calls {
        life.hand_over(call(id, CallProgress::Complete, *parts));
    }
    // From here on no request fails. Parked calls are retried automatically after their pause.
    for _ in 0..10_000 {
        if !life.step(&mut pyrus, FaultLevel::None) {
            break;
        }
    }
    for (id, parts, _) in &calls {
        check(seed, &life, &pyrus, id, *parts);
    }
    assert!(life.machine.is_settled(), "seed {seed}: {:?}", life.machine.summary());
    assert_eq!(life.machine.jobs().count(), 0, "seed {seed}: what is settled is not kept in memory");
}

fn check(seed: u64, life: &SimulatedProcess, pyrus: &PyrusModel, id: &str, parts: u32) {
    let row = &life.disk[id];
    let unsure = |key: &str| pyrus.unsure.get(key).copied().unwrap_or(0);
    let registered = pyrus.calls.get(id).copied().unwrap_or(0);
    if parts > 0 {
        assert_eq!(row.stage, JobStage::Done, "seed {seed} {id}");
        assert_eq!(registered, 1, "seed {seed} {id}: a recorded call is registered exactly once, whatever happened");
    } else if unsure(id) == 0 {
        assert_eq!((row.stage, registered), (JobStage::Done, 1), "seed {seed} {id}");
    } else {
        assert!(registered <= 2, "seed {seed} {id}: one blind repeat at most, {registered}");
        assert!(registered >= 1 || row.stage == JobStage::Dead, "seed {seed} {id}: lost");
    }
    for part in 1..=parts {
        let path = format!("/r/{id}-{part}.wav");
        let attached = pyrus.attached.get(&path).copied().unwrap_or(0);
        let most = 1 + unsure(&path);
        assert!((1..=most).contains(&attached), "seed {seed} {path}: attached {attached} times");
    }
}

#[test]
fn definite_outcomes_deliver_every_call_exactly_once() {
    let seeds = std::env::var("CALLSPAN_MODEL_SEEDS").ok().and_then(|s| s.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        run_seed(seed);
    }
}

/// Number of random runs. They take about 10 s without compiler optimisation. The environment variable
/// `CALLSPAN_MODEL_SEEDS` sets another number.
const SEEDS: u64 = 2_000;
