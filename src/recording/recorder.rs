//! Makes the files of a call that is over: renders the first leg that can be heard, and writes WAV and record.

use std::io;
use std::path::{Path, PathBuf};

use super::config::Config;
use super::parts::{self, Channels, PartWriter, Shape, WrittenPart};
use super::publish;
use super::quality;
use super::verdict::{Answered, Facts, SideFacts, verdict};
use crate::call::event::{EndedCall, EndedLeg};
use crate::call::record::{CallRecord, Outcome, Problem, Recording, Side, Sides};
use crate::render::{self, Options, Plan, RenderError, Report, Silent};
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

/// A leg that was rendered into `.part` files.
struct Rendered {
    plan: Plan,
    report: Report,
    /// Empty when nothing could be heard.
    parts: Vec<WrittenPart>,
    writer: PartWriter,
}

impl Recorder {
    /// A recorder; no file of it is larger than `max_part_bytes`.
    pub fn new(config: Config, layout: Layout, max_part_bytes: Option<u64>) -> Self {
        Self { config, layout, max_part_bytes }
    }

    /// Renders a call that is over and publishes its WAV (if it can be heard) and its record.
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
        let mut first: Option<(Rendered, &EndedLeg)> = None;
        for leg in &ended.legs {
            let Some(source) = store.source(leg) else { continue };
            let channels = if leg.same_sides { Channels::Same } else { Channels::Swapped };
            match self.render_leg(&source, folder, (&stem(record), channels)) {
                Ok(rendered) if !rendered.parts.is_empty() => {
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
            && !rendered.parts.is_empty()
        {
            let note = "The sound is that of another leg of the call: the outside party's own cannot be decoded.";
            record.verdict_reason = Some(note.to_owned());
        }
        if let Some((mut rendered, leg)) = first {
            rendered.plan.starts_at = rendered.plan.starts_at.offset(ended.wall_offset_ns);
            rendered.plan.ends_at = rendered.plan.ends_at.offset(ended.wall_offset_ns);
            self.take_over(&mut rendered, leg, record, &mut facts)?;
            // Without an end in the spool they are the record's own, and of the wall clock already.
            if rendered.plan.ended.is_some() {
                shift_streams(&mut record.sides, ended.wall_offset_ns);
            }
        }
        Ok(facts)
    }

    fn render_leg(
        &self,
        source: &LegSource,
        folder: &Path,
        (stem, channels): (&str, Channels),
    ) -> Result<Rendered, RenderError> {
        let format = self.config.format;
        let sample_rate = format.fixed_rate().or(self.config.sample_rate);
        let plan = render::plan(source, &Options { sample_rate })?;
        let sample_rate = plan.sample_rate;
        let part_samples = parts::part_samples(format, self.config.part_hours, self.max_part_bytes, sample_rate);
        let mut writer = PartWriter::new(folder, stem, Shape { format, sample_rate, channels, part_samples });
        if !plan.has_sound {
            let report = render::render(&plan, source, &mut |_| Ok(()))?;
            return Ok(Rendered { plan, report, parts: Vec::new(), writer });
        }
        let report = render::render(&plan, source, &mut |frames| writer.write(frames))?;
        let heard = report.sides.iter().any(|side| SideFacts::from(side).heard);
        // Dropped with its writer, an inaudible recording takes its files along.
        let parts = if heard { writer.finish()? } else { Vec::new() };
        Ok(Rendered { plan, report, parts, writer })
    }

    /// Publishes what was rendered and writes it into the record.
    fn take_over(
        &self,
        rendered: &mut Rendered,
        leg: &EndedLeg,
        record: &mut CallRecord,
        facts: &mut Facts,
    ) -> Result<(), RecordingError> {
        note_sides(rendered, leg, record);
        note_problems(&rendered.report, record);
        let [caller, callee] = &rendered.report.sides;
        let (left, right) = if leg.same_sides { (caller, callee) } else { (callee, caller) };
        (facts.caller, facts.callee) = (left.into(), right.into());
        facts.packets = record.sides.caller.packets + record.sides.callee.packets;
        if rendered.parts.is_empty() {
            return Ok(());
        }
        if let Some((side, problem)) = quality::one_way(&rendered.report, rendered.plan.sample_rate) {
            facts.mute = Some(if leg.same_sides { side } else { side.other() });
            record.problems.push(problem);
        }
        for (index, record_leg) in record.legs.iter_mut().enumerate() {
            record_leg.rendered = index == leg.index;
        }
        let mut from = 0;
        for (number, part) in rendered.parts.iter().enumerate() {
            let last = number + 1 == rendered.parts.len();
            publish::publish(&part.path).map_err(|error| failed(&part.path, error))?;
            let (bytes, sha256) = publish::digest(&part.path).map_err(|error| failed(&part.path, error))?;
            let starts_at = moment(&rendered.plan, from);
            from += part.samples;
            let ends_at = if last { rendered.plan.ends_at } else { moment(&rendered.plan, from) };
            record.recordings.push(Recording {
                part: number as u32 + 1,
                path: part.path.display().to_string(),
                format: self.config.format.name().to_owned(),
                starts_at,
                ends_at,
                duration_s: ends_at.nanos_since(starts_at) as f64 / 1e9,
                sample_rate: rendered.plan.sample_rate,
                channels: 2,
                bytes,
                sha256,
            });
        }
        rendered.writer.published();
        Ok(())
    }
}

/// The moment of a sample.
fn moment(plan: &Plan, sample: u64) -> Timestamp {
    let ns = u128::from(sample) * 1_000_000_000 / u128::from(plan.sample_rate.max(1));
    plan.starts_at.offset(i64::try_from(ns).unwrap_or(i64::MAX))
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
        if !rendered.parts.is_empty() {
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
