//! Makes the files of a call: renders the first leg that can be heard, and writes WAV and record. Of a call that is
//! under way the parts that are full are made, see [`super::cutting`].

use std::io;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::cutting::{Cutter, Made, Part, Rendered, UpTo};
use super::parts::{self, Channels};
use super::publish;
use super::quality;
use super::verdict::{Answered, Facts, verdict};
use crate::call::event::{DueParts, EndedCall, EndedLeg};
use crate::call::record::{CallRecord, Outcome, Problem, Recording, Side, Sides};
use crate::render::{RenderError, Report, Silent};
use crate::spool::{LegSource, LegStore};
use crate::time::Timestamp;

/// Makes files of calls. Holds no state: may be used by several threads.
#[derive(Clone, Debug)]
pub struct Recorder {
    config: Config,
    layout: Layout,
    /// No file larger than this: what Pyrus takes.
    max_part_bytes: Option<u64>,
}

/// How the folder of recordings is arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// All files in it (`replay`).
    Flat,
    /// `YYYY/MM/DD/` by the call's beginning (`run`).
    ByDay,
}

/// Why a call's files could not be written. Trying again may help: the spool is still there.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct RecordingError {
    /// Which file or folder.
    pub path: String,
    /// What the system said.
    pub source: io::Error,
}

impl RecordingError {
    /// Whether the same may work later: always, when room or rights are given back.
    pub const fn is_retryable(&self) -> bool {
        true
    }
}

/// Parts of a call under way that are written and have no names yet. Dropped, they are taken away.
#[derive(Debug)]
pub struct ReadyParts {
    parts: Vec<Part>,
    /// Index into `record.legs` of the leg whose sound they are.
    leg: usize,
    wall_offset_ns: i64,
}

impl Recorder {
    /// A recorder; no file of it is larger than `max_part_bytes`.
    pub fn new(config: Config, layout: Layout, max_part_bytes: Option<u64>) -> Self {
        Self { config, layout, max_part_bytes }
    }

    /// Seconds after which a part of a recording is full.
    pub fn part_seconds(&self) -> u64 {
        let Config { format, part_hours, sample_rate, .. } = self.config;
        parts::part_seconds(format, part_hours, self.max_part_bytes, sample_rate)
    }

    /// Renders the parts of a call under way that are full and that its record does not name yet. `None`: there are none,
    /// or nothing can be heard so far.
    ///
    /// # Errors
    /// When a file cannot be written. What cannot be read is left to the end of the call.
    pub fn render_parts(&self, due: &DueParts, store: &dyn LegStore) -> Result<Option<ReadyParts>, RecordingError> {
        let made = made(&due.record, due.wall_offset_ns);
        if made.count >= due.parts {
            return Ok(None);
        }
        let folder = self.folder(&due.record);
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        for leg in &due.legs {
            let Some(source) = store.source(leg) else { continue };
            match self.render_leg((&source, leg), &due.record, made, UpTo::Part(due.parts)) {
                Ok(rendered) if rendered.is_heard => {
                    let Rendered { parts, .. } = rendered;
                    return Ok(Some(ReadyParts { parts, leg: leg.index, wall_offset_ns: due.wall_offset_ns }));
                }
                Ok(_) => {}
                Err(RenderError::Output(error)) => return Err(failed(&folder, error)),
                Err(RenderError::Spool(error)) => tracing::warn!(call = due.record.id, "no part can be made: {error}"),
            }
        }
        Ok(None)
    }

    /// Gives parts their names and enters them into the record.
    ///
    /// # Errors
    /// When the system refuses. Some may have their names then: the next try makes them again, with the same bytes.
    pub fn publish_parts(&self, ready: ReadyParts, record: &mut CallRecord) -> Result<(), RecordingError> {
        self.publish(ready.parts, ready.wall_offset_ns, record)?;
        if let Some(leg) = record.legs.get_mut(ready.leg) {
            leg.rendered = true;
        }
        Ok(())
    }

    /// Renders a call that is over and publishes its WAV (if it can be heard) and its record. Parts that the record names
    /// already stay as they are.
    ///
    /// # Errors
    /// When a file cannot be written. Nothing is published then but what was already whole.
    pub fn record(&self, ended: &EndedCall, store: &dyn LegStore) -> Result<CallRecord, RecordingError> {
        let mut record = ended.record.clone();
        let folder = self.folder(&record);
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        if record.verdict.is_none() {
            let facts = self.render_first_audible(ended, store, &folder, &mut record)?;
            let (word, reason) = verdict(&facts);
            record.verdict = Some(word);
            // What the engine already had to say (how the answer is known, whose sound it is) stands behind it.
            let note = record.verdict_reason.take().map(|note| format!(" {note}")).unwrap_or_default();
            record.verdict_reason = Some(format!("{reason}{note}"));
        }
        self.write_record(&record)?;
        Ok(record)
    }

    /// Writes (or writes again) the record of a call beside its recording.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_record(&self, record: &CallRecord) -> Result<PathBuf, RecordingError> {
        let folder = self.folder(record);
        std::fs::create_dir_all(&folder).map_err(|error| failed(&folder, error))?;
        let path = folder.join(format!("{}.json", stem(record)));
        let mut json = serde_json::to_vec_pretty(record).map_err(|error| failed(&path, io::Error::other(error)))?;
        json.push(b'\n');
        publish::write(&path, &json).map_err(|error| failed(&path, error))?;
        Ok(path)
    }

    /// Where the files of a call are.
    pub fn folder(&self, record: &CallRecord) -> PathBuf {
        match self.layout {
            Layout::Flat => self.config.dir.clone(),
            Layout::ByDay => {
                let day = begin(record).to_rfc3339();
                let mut folder = self.config.dir.clone();
                folder.extend(day.get(..10).unwrap_or("1970-01-01").split('-'));
                folder
            }
        }
    }

    /// Where the packets of a leg of a call are kept after delivery (`keep_pcap`): beside its recording.
    pub fn kept_path(&self, record: &CallRecord, leg_index: usize) -> PathBuf {
        self.folder(record).join(format!("{}.{}.pcapng", stem(record), leg_index + 1))
    }

    fn render_first_audible(
        &self,
        ended: &EndedCall,
        store: &dyn LegStore,
        folder: &Path,
        record: &mut CallRecord,
    ) -> Result<Facts, RecordingError> {
        let mut facts = facts_of(record);
        let made = made(record, ended.wall_offset_ns);
        let mut first: Option<(Rendered, &EndedLeg)> = None;
        for leg in &ended.legs {
            let Some(source) = store.source(leg) else { continue };
            match self.render_leg((&source, leg), record, made, UpTo::End) {
                Ok(rendered) if rendered.is_heard => {
                    first = Some((rendered, leg));
                    break;
                }
                // What is wrong with the anchor leg is what an admin should hear of.
                Ok(rendered) if first.is_none() => first = Some((rendered, leg)),
                Ok(_) => {}
                Err(RenderError::Output(error)) => return Err(failed(folder, error)),
                Err(RenderError::Spool(error)) => {
                    record.problems.push(problem("render_error", None));
                    facts.failure = Some(error.to_string());
                }
            }
        }
        if let (Some((rendered, leg)), Some(anchor)) = (&first, ended.legs.first())
            && leg.leg != anchor.leg
            && rendered.is_heard
        {
            let note = "The sound is that of another leg of the call: the outside party's own cannot be decoded.";
            record.verdict_reason = Some(note.to_owned());
        }
        if let Some((rendered, leg)) = first {
            // Without an end in the spool they are the record's own, and of the wall clock already.
            let of_spool = rendered.plan.ended.is_some();
            self.take_over(rendered, (leg, ended.wall_offset_ns), record, &mut facts)?;
            if of_spool {
                shift_streams(&mut record.sides, ended.wall_offset_ns);
            }
        }
        Ok(facts)
    }

    fn render_leg(
        &self,
        (source, leg): (&LegSource, &EndedLeg),
        record: &CallRecord,
        made: Made,
        up_to: UpTo,
    ) -> Result<Rendered, RenderError> {
        let format = self.config.format;
        let cutter = Cutter {
            format,
            sample_rate: format.fixed_rate().or(self.config.sample_rate),
            part_s: self.part_seconds(),
            folder: &self.folder(record),
            stem: &stem(record),
            channels: if leg.same_sides { Channels::Same } else { Channels::Swapped },
        };
        cutter.render(source, made, up_to)
    }

    /// Publishes what was rendered and writes it into the record.
    fn take_over(
        &self,
        rendered: Rendered,
        (leg, wall_offset_ns): (&EndedLeg, i64),
        record: &mut CallRecord,
        facts: &mut Facts,
    ) -> Result<(), RecordingError> {
        note_sides(&rendered, leg, record);
        note_problems(&rendered.report, record);
        let [caller, callee] = &rendered.report.sides;
        let (left, right) = if leg.same_sides { (caller, callee) } else { (callee, caller) };
        (facts.caller, facts.callee) = (left.into(), right.into());
        facts.packets = record.sides.caller.packets + record.sides.callee.packets;
        if !rendered.is_heard {
            return Ok(());
        }
        if let Some((side, problem)) = quality::one_way(&rendered.report, rendered.plan.sample_rate) {
            facts.mute = Some(if leg.same_sides { side } else { side.other() });
            record.problems.push(problem);
        }
        note_legs(leg, record);
        self.publish(rendered.parts, wall_offset_ns, record)
    }

    /// Files get their names, one after the other, and their places in the record.
    fn publish(&self, parts: Vec<Part>, wall_offset_ns: i64, record: &mut CallRecord) -> Result<(), RecordingError> {
        for Part { number, starts_at, ends_at, sample_rate, file } in parts {
            let folder = self.folder(record);
            let (path, bytes, sha256) = file.publish().map_err(|error| failed(&folder, error))?;
            record.recordings.push(Recording {
                part: number,
                path: path.display().to_string(),
                format: self.config.format.name().to_owned(),
                starts_at: starts_at.offset(wall_offset_ns),
                ends_at: ends_at.offset(wall_offset_ns),
                duration_s: ends_at.nanos_since(starts_at) as f64 / 1e9,
                sample_rate,
                channels: 2,
                bytes,
                sha256,
            });
        }
        Ok(())
    }
}

/// What a record says of the parts that were made.
fn made(record: &CallRecord, wall_offset_ns: i64) -> Made {
    Made {
        count: record.recordings.iter().map(|r| r.part).max().unwrap_or(0),
        starts_at: record.recordings.first().map(|first| first.starts_at.offset(-wall_offset_ns)),
    }
}

/// Marks the leg whose sound the recording has. Parts made while the call was live may have that of another.
fn note_legs(leg: &EndedLeg, record: &mut CallRecord) {
    let earlier = record.recordings.len();
    let other = earlier > 0 && record.legs.iter().enumerate().any(|(n, l)| l.rendered && n != leg.index);
    for (index, record_leg) in record.legs.iter_mut().enumerate() {
        record_leg.rendered = index == leg.index || (earlier > 0 && record_leg.rendered);
    }
    if other {
        let part = if earlier == 1 { String::from("the first part") } else { format!("the first {earlier} parts") };
        let note =
            format!("The sound of {part} is that of another leg, which was the outside party's when it was made.");
        record.verdict_reason = Some(record.verdict_reason.take().map_or(note.clone(), |n| format!("{n} {note}")));
    }
}

/// What the engine counted of the rendered leg, and what rendering adds.
fn note_sides(rendered: &Rendered, leg: &EndedLeg, record: &mut CallRecord) {
    let mut sides = match &rendered.plan.ended {
        Some(ended) => Sides { caller: ended.sides[0].clone(), callee: ended.sides[1].clone() },
        None => return,
    };
    for side in [Side::Caller, Side::Callee] {
        let report = &rendered.report.sides[side.channel()];
        let target = sides.get_mut(side);
        if rendered.is_heard {
            quality::note(target, report);
        }
        target.clock_drift_ppm = report.clock_drift_ppm;
    }
    record.sides = if leg.same_sides { sides } else { Sides { caller: sides.callee, callee: sides.caller } };
    note_losses(record, rendered.plan.recounted);
}

/// What was lost, as the engine says it, where it could not count it: after a restart.
fn note_losses(record: &mut CallRecord, recounted: bool) {
    let lost = record.sides.caller.lost + record.sides.callee.lost;
    let known = ["lost_by_us", "restart_gap", "lost_before_us"];
    match record.problems.iter_mut().find(|p| known.contains(&p.kind.as_str())) {
        Some(problem) if recounted => problem.packets = (lost > 0).then_some(lost),
        None if lost > 0 => record.problems.push(problem("lost_before_us", Some(lost))),
        _ => {}
    }
}

/// The spool's times are of the capture timeline; the record's are of the wall clock as it was when the call began.
fn shift_streams(sides: &mut Sides, by_ns: i64) {
    for side in [Side::Caller, Side::Callee] {
        for stream in &mut sides.get_mut(side).streams {
            stream.first_at = stream.first_at.offset(by_ns);
            stream.last_at = stream.last_at.offset(by_ns);
        }
    }
}

fn note_problems(report: &Report, record: &mut CallRecord) {
    if report.torn_tail {
        record.problems.push(problem("torn_tail", None));
    }
    let count = |reason: &Silent| report.sides.iter().filter_map(|side| side.silent.get(reason)).sum::<u64>();
    for (kind, reason) in [("cut_by_snaplen", Silent::Cut), ("undecodable", Silent::Damaged)] {
        let packets = count(&reason);
        if packets > 0 {
            record.problems.push(problem(kind, Some(packets)));
        }
    }
}

/// What the record alone tells.
fn facts_of(record: &CallRecord) -> Facts {
    let refused = matches!(
        record.outcome,
        Outcome::Cancelled
            | Outcome::Busy
            | Outcome::Declined
            | Outcome::NoAnswer
            | Outcome::Redirected
            | Outcome::Failed
    );
    let answered = match (record.answered_at, record.invited_at) {
        (None, None) if !refused => Answered::BeganBefore,
        (None, _) => Answered::No,
        (Some(_), _) => Answered::Yes,
    };
    Facts { answered, packets: record.sides.caller.packets + record.sides.callee.packets, ..Facts::default() }
}

/// The names of a call's files begin with its id, which the engine makes of a stamp and a hash.
fn stem(record: &CallRecord) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    record.id.chars().map(safe).collect()
}

fn begin(record: &CallRecord) -> Timestamp {
    record.invited_at.or(record.answered_at).or(record.ended_at).unwrap_or(Timestamp::EPOCH)
}

fn problem(kind: &str, packets: Option<u64>) -> Problem {
    Problem { kind: kind.to_owned(), packets, ms: None }
}

fn failed(path: &Path, source: io::Error) -> RecordingError {
    RecordingError { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests;
