//! Makes the files of a call: its recording and its call record.
//!
//! The sound is that of the anchor leg (the leg that the engine chose), or of another leg with more sound (module
//! `leg_choice`). Complete segments (files of a long recording) are rendered while the call is still in progress
//! (module `segmenter`).

mod leg_choice;

use std::io;
use std::path::{Path, PathBuf};

use leg_choice::ChosenLeg;

use super::config::Config;
use super::publish::{self, PublishGroup, SyncNeed};
use super::quality;
use super::segmenter::{FinishedSegments, NewSegment, RenderUpTo, RenderedLeg, Segmenter};
use super::segments::{self, ChannelOrder};
use super::verdict::{AnswerState, FaxKind, SideFacts, VerdictFacts, verdict};
use crate::call::errno::OsErrno;
use crate::call::event::{DueSegments, EndedCall, EndedLeg};
use crate::call::record::{
    CallOutcome, CallProblem, CallRecord, EventKind, EventRecord, ProblemKind, RecordingFile, Side, SideRecords,
    T38_REFUSED,
};
use crate::render::{PayloadQuirk, RenderReport, SideReport, UndecodableReason};
use crate::spool::LegStore;
use crate::spool::storage::FolderMarker;
use crate::time::Timestamp;

/// Makes the files of calls. It keeps no state from one call to another, so several threads may use it at the same
/// time.
#[derive(Clone, Debug)]
pub struct Recorder {
    config: Config,
    /// Marker file that shows whether the disk of the recordings is mounted; `None` if no service writes to the folder.
    marker: Option<FolderMarker>,
    layout: FolderLayout,
    /// Size of the largest file that Pyrus accepts, bytes; `None` without a limit.
    max_segment_bytes: Option<u64>,
}

/// Layout of the folder with the recordings: flat, or by day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FolderLayout {
    /// All files are in one folder (`replay`).
    Flat,
    /// Files are in subfolders `YYYY/MM/DD/` by the day on which the call began (`run`).
    ByDay,
}

/// A file of a call could not be written. The packets are still in the spool, so a later attempt may succeed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct RecordingError {
    /// Path of the file or folder that could not be written.
    pub(crate) path: String,
    /// The error of the operating system for this path.
    pub(crate) source: io::Error,
}

/// Segments (files of a long recording) that were rendered during a call and do not have their final file names yet.
/// Dropping this value removes their files.
#[derive(Debug)]
pub struct ReadySegments {
    segments: Vec<NewSegment>,
    /// Index in `record.legs` of the leg that supplied the sound of the segments.
    leg: usize,
    wall_offset_ns: i64,
}

/// The files of ended calls, complete but without their final names. Dropping this value removes the files.
#[derive(Debug, Default)]
pub(crate) struct PreparedCalls {
    records: Vec<CallRecord>,
    files: PublishGroup,
}

impl PreparedCalls {
    /// Adds the calls of `other`, so that the files of all these calls get their final names together.
    pub(crate) fn append(&mut self, mut other: Self) {
        self.records.append(&mut other.records);
        self.files.append(other.files);
    }

    /// Returns the number of files that stay open until they get their final names.
    pub(crate) fn open_files(&self) -> usize {
        self.files.open_files()
    }

    /// Syncs the files of all calls and gives them their final names. Returns the records in the order in which the
    /// calls were added.
    ///
    /// # Errors
    /// Fails if a file cannot be synced or renamed.
    pub(crate) fn publish(self) -> Result<Vec<CallRecord>, RecordingError> {
        publish_group(self.files)?;
        Ok(self.records)
    }
}

impl Recorder {
    /// Creates a recorder that makes files of at most `max_segment_bytes`.
    pub fn new(config: Config, layout: FolderLayout, max_segment_bytes: Option<u64>) -> Self {
        Self { marker: FolderMarker::of(&config.dir), config, layout, max_segment_bytes }
    }

    /// Returns the maximum length of a segment (one file of a long recording), seconds.
    pub fn segment_seconds(&self) -> u64 {
        let Config { format, part_hours, sample_rate, .. } = self.config;
        segments::segment_seconds(format, part_hours, self.max_segment_bytes, sample_rate)
    }

    /// Renders those complete segments (parts of the recording) of a live call that its record does not contain yet.
    /// Returns `None` if there are none, or if no sound can be decoded so far.
    ///
    /// # Errors
    /// Fails if a file cannot be written. An unreadable spool is no error here, because it is read again at the end of
    /// the call.
    pub fn render_segments(
        &self,
        due: &DueSegments,
        store: &dyn LegStore,
    ) -> Result<Option<ReadySegments>, RecordingError> {
        let finished_segments = segments_in_record(&due.record, due.wall_offset_ns);
        if finished_segments.count >= due.parts {
            return Ok(None);
        }
        let folder = self.folder(&due.record);
        self.make_folder(&folder)?;
        let task = RenderTask { record: &due.record, finished_segments, up_to: RenderUpTo::Segment(due.parts) };
        let best = self.render_best(&due.legs, store, task, &mut |error| {
            tracing::warn!(call = due.record.id, "a part of the recording cannot be rendered: {error}");
        })?;
        Ok(best.filter(|best| best.rendered.is_heard).map(
            |ChosenLeg { rendered: RenderedLeg { segments, .. }, leg, .. }| ReadySegments {
                segments,
                leg: leg.index,
                wall_offset_ns: due.wall_offset_ns,
            },
        ))
    }

    /// Renames the files of segments (parts of a recording) to their final names, and adds the segments to the record.
    ///
    /// # Errors
    /// Fails if a file cannot be renamed. By then, some segments may have their final names. Another attempt replaces
    /// these files by the same bytes.
    pub fn publish_segments(&self, ready: ReadySegments, record: &mut CallRecord) -> Result<(), RecordingError> {
        publish_group(self.complete(ready.segments, ready.wall_offset_ns, record)?)?;
        if let Some(leg) = record.legs.get_mut(ready.leg) {
            leg.rendered = true;
        }
        Ok(())
    }

    /// Renders an ended call, and publishes its record and its recording. There is no recording if no sound can be
    /// decoded. Parts of the recording (segments) that the record already contains are not changed.
    ///
    /// # Errors
    /// Fails if a file cannot be written. Then only complete files are published.
    pub fn record(&self, ended: &EndedCall, store: &dyn LegStore) -> Result<CallRecord, RecordingError> {
        let PreparedCalls { files, mut records } = self.prepare(ended, store)?;
        publish_group(files)?;
        Ok(records.pop().unwrap_or_else(|| ended.record.clone()))
    }

    /// Renders an ended call like [`Recorder::record`], but publishes nothing if a leg cannot be rendered.
    ///
    /// # Errors
    /// Fails if a leg cannot be rendered, or if a file cannot be written.
    pub(crate) fn record_whole(&self, ended: &EndedCall, store: &dyn LegStore) -> Result<CallRecord, RecordingError> {
        let PreparedCalls { files, mut records } = self.prepare(ended, store)?;
        let record = records.pop().unwrap_or_else(|| ended.record.clone());
        if record.problems.iter().any(|problem| problem.kind == ProblemKind::RenderError) {
            let lost = io::Error::other("a leg cannot be rendered, so the earlier recording stays");
            return Err(failed(&self.folder(&ended.record), lost));
        }
        publish_group(files)?;
        Ok(record)
    }

    /// Renders an ended call like [`Recorder::record`], but does not give its files their final names.
    /// [`PreparedCalls::publish`] does that.
    ///
    /// # Errors
    /// Fails if a file cannot be written.
    pub(crate) fn prepare(&self, ended: &EndedCall, store: &dyn LegStore) -> Result<PreparedCalls, RecordingError> {
        let mut record = ended.record.clone();
        let folder = self.folder(&record);
        self.make_folder(&folder)?;
        let mut files = PublishGroup::default();
        if record.verdict.is_none() {
            let facts = self.render_ended(ended, store, &mut record, &mut files)?;
            let (word, reason) = verdict(&facts);
            record.verdict = Some(word);
            // The engine, which follows the signalling, may have left a note in the record. For example, the note says
            // how the engine recognised that the call was answered. The note is appended to the reason of the verdict.
            let note = record.verdict_reason.take().map(|note| format!(" {note}")).unwrap_or_default();
            record.verdict_reason = Some(format!("{reason}{note}"));
        }
        self.write_record_part(&record, &mut files)?;
        Ok(PreparedCalls { records: vec![record], files })
    }

    /// Writes or replaces the file with the call record beside the recording. Returns its path.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn write_record(&self, record: &CallRecord) -> Result<PathBuf, RecordingError> {
        self.make_folder(&self.folder(record))?;
        let mut files = PublishGroup::default();
        let path = self.write_record_part(record, &mut files)?;
        publish_group(files)?;
        Ok(path)
    }

    /// Writes the call record under its temporary name and adds the file to `files`, which get their final names
    /// together. Returns the final path of the record.
    fn write_record_part(&self, record: &CallRecord, files: &mut PublishGroup) -> Result<PathBuf, RecordingError> {
        let path = self.folder(record).join(format!("{}.json", stem(record)));
        let mut json = serde_json::to_vec_pretty(record).map_err(|error| failed(&path, io::Error::other(error)))?;
        json.push(b'\n');
        files.add(publish::write_part(path.clone(), &json, SyncNeed::Synced).map_err(|error| failed(&path, error))?);
        Ok(path)
    }

    /// Creates the folder of a call's files. Fails if the disk of the recordings is not mounted.
    fn make_folder(&self, folder: &Path) -> Result<(), RecordingError> {
        if let Some(Err(error)) = self.marker.as_ref().map(FolderMarker::check) {
            return Err(failed(folder, io::Error::other(error)));
        }
        publish::make_private_folder(folder).map_err(|error| failed(folder, error))
    }

    /// Returns the folder that holds the files of a call.
    pub(crate) fn folder(&self, record: &CallRecord) -> PathBuf {
        match self.layout {
            FolderLayout::Flat => self.config.dir.clone(),
            FolderLayout::ByDay => {
                let day = start_of(record).to_rfc3339();
                let mut folder = self.config.dir.clone();
                folder.extend(day.get(..10).unwrap_or("1970-01-01").split('-'));
                folder
            }
        }
    }

    /// Returns whether the packets of a call are kept beside its recording (`recording.keep_pcap`).
    pub(crate) const fn keeps_packets(&self) -> bool {
        self.config.keep_pcap
    }

    /// Returns the path at which a leg's spool is kept after delivery (`keep_pcap`).
    pub(crate) fn kept_path(&self, record: &CallRecord, leg_index: usize) -> PathBuf {
        self.folder(record).join(format!("{}.{}.pcapng", stem(record), leg_index + 1))
    }

    fn render_ended(
        &self,
        ended: &EndedCall,
        store: &dyn LegStore,
        record: &mut CallRecord,
        files: &mut PublishGroup,
    ) -> Result<VerdictFacts, RecordingError> {
        let mut facts = facts_from_record(record);
        let mut problems = Vec::new();
        let finished_segments = segments_in_record(record, ended.wall_offset_ns);
        let task = RenderTask { record, finished_segments, up_to: RenderUpTo::End };
        let best = self.render_best(&ended.legs, store, task, &mut |error| {
            let errno = error.io_error().and_then(io::Error::raw_os_error).map(OsErrno);
            problems.push(CallProblem { errno, ..ProblemKind::RenderError.problem() });
            facts.failure = Some(error.to_string());
        })?;
        // Without a rendered leg and without an error, no leg has a spool file.
        if !ended.legs.is_empty() && best.is_none() && problems.is_empty() {
            let missing = missing_spool();
            facts.spool_loss = facts.spool_loss.or_else(|| spool_loss(missing));
            if !record.problems.contains(&missing) {
                record.problems.push(missing);
            }
        }
        record.problems.extend(problems);
        if let Some(ChosenLeg { rendered, leg, note }) = best {
            if let Some(note) = note {
                record.verdict_reason = Some(note.to_owned());
            }
            // If the spool lacks the end of the leg, the times of the streams come from the record. Such times are
            // wall-clock times already, so they are not converted.
            let is_from_spool = rendered.plan.ended.is_some();
            let segments = apply_rendered(rendered, leg, record, &mut facts);
            files.append(self.complete(segments, ended.wall_offset_ns, record)?);
            if is_from_spool {
                shift_times(&mut record.sides, ended.wall_offset_ns);
            }
        }
        Ok(facts)
    }

    fn segmenter<'a>(&self, leg: &EndedLeg, folder: &'a Path, stem: &'a str) -> Segmenter<'a> {
        let format = self.config.format;
        Segmenter {
            format,
            sample_rate: format.fixed_rate().or(self.config.sample_rate),
            segment_s: self.segment_seconds(),
            folder,
            stem,
            channels: if leg.same_sides { ChannelOrder::Same } else { ChannelOrder::Swapped },
        }
    }

    /// Adds segments (parts of the recording) to the record. Returns their files, which do not have their final names
    /// yet.
    fn complete(
        &self,
        segments: Vec<NewSegment>,
        wall_offset_ns: i64,
        record: &mut CallRecord,
    ) -> Result<PublishGroup, RecordingError> {
        let mut files = PublishGroup::default();
        for NewSegment { number, starts_at, ends_at, sample_rate, file } in segments {
            let folder = self.folder(record);
            let (path, bytes, sha256) = file.add_to(&mut files).map_err(|error| failed(&folder, error))?;
            record.recordings.push(RecordingFile {
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
                plain_sha256: None,
            });
        }
        Ok(files)
    }
}

/// Writes the results of rendering into the record. Returns the new segments (parts of the recording); there are none
/// if no sound could be decoded.
fn apply_rendered(
    rendered: RenderedLeg,
    leg: &EndedLeg,
    record: &mut CallRecord,
    facts: &mut VerdictFacts,
) -> Vec<NewSegment> {
    apply_side_statistics(&rendered, leg, record);
    add_problems(&rendered.report, record);
    let [caller, callee] = &rendered.report.sides;
    let (left, right) = if leg.same_sides { (caller, callee) } else { (callee, caller) };
    (facts.caller, facts.callee) = (left.into(), right.into());
    if rendered.plan.has_no_pause() {
        // If the recording was never paused, the recorder left out no payload on purpose. So a missing payload means
        // that the capture truncated the packet.
        for side in [&mut facts.caller, &mut facts.callee].into_iter().filter(|side| side.withheld) {
            side.withheld = false;
            side.undecodable.insert(UndecodableReason::Cut);
        }
    }
    facts.packets = record.sides.caller.packets + record.sides.callee.packets;
    if !rendered.is_heard {
        return Vec::new();
    }
    facts.fax = facts.fax.or((caller.answer_tone || callee.answer_tone).then_some(FaxKind::Tones));
    if facts.fax.is_none()
        && let Some((side, problem)) = quality::find_one_way_audio(&rendered.report, rendered.plan.sample_rate)
    {
        facts.mute = Some(if leg.same_sides { side } else { side.other() });
        record.problems.push(problem);
    }
    mark_rendered_legs(leg, record);
    rendered.segments
}

/// A call to be rendered, and the point in time up to which it is rendered.
#[derive(Clone, Copy, Debug)]
struct RenderTask<'a> {
    record: &'a CallRecord,
    finished_segments: FinishedSegments,
    up_to: RenderUpTo,
}

/// Returns count and start of the segments (finished parts of the recording) that a record already contains.
fn segments_in_record(record: &CallRecord, wall_offset_ns: i64) -> FinishedSegments {
    FinishedSegments {
        count: record.recordings.iter().map(|r| r.part).max().unwrap_or(0),
        starts_at: record.recordings.first().map(|first| first.starts_at.offset(-wall_offset_ns)),
    }
}

/// Marks in the record the leg that supplied the sound of the recording. If parts of the recording were made from
/// another leg during the call, that leg stays marked, too.
fn mark_rendered_legs(leg: &EndedLeg, record: &mut CallRecord) {
    let earlier = record.recordings.len();
    let other = earlier > 0 && record.legs.iter().enumerate().any(|(n, l)| l.rendered && n != leg.index);
    for (index, record_leg) in record.legs.iter_mut().enumerate() {
        record_leg.rendered = index == leg.index || (earlier > 0 && record_leg.rendered);
    }
    if other {
        let part = if earlier == 1 { String::from("the first part") } else { format!("the first {earlier} parts") };
        let note =
            format!("The sound of {part} comes from another leg, which was the outside party's leg at that time.");
        record.verdict_reason = Some(record.verdict_reason.take().map_or(note.clone(), |n| format!("{n} {note}")));
    }
}

/// Writes the statistics of both sides into the record: the packet counts of the engine and the measurements of
/// rendering.
fn apply_side_statistics(rendered: &RenderedLeg, leg: &EndedLeg, record: &mut CallRecord) {
    let mut sides = match &rendered.plan.ended {
        Some(ended) => SideRecords { caller: ended.sides[0].clone(), callee: ended.sides[1].clone() },
        None => return,
    };
    for side in [Side::Caller, Side::Callee] {
        let report = &rendered.report.sides[side.channel()];
        let target = sides.get_mut(side);
        if rendered.is_heard {
            quality::apply_quality(target, report, rendered.plan.starts_at);
        }
        target.clock_drift_ppm = report.clock_drift_ppm;
    }
    record.sides = if leg.same_sides { sides } else { SideRecords { caller: sides.callee, callee: sides.caller } };
    apply_losses(record, rendered.plan.recounted);
}

/// Corrects the number of lost packets in the record's list of problems. The engine's count is wrong if the service was
/// restarted during the call. Then rendering has counted the losses again (`recounted`).
fn apply_losses(record: &mut CallRecord, recounted: bool) {
    let lost = record.sides.caller.lost + record.sides.callee.lost;
    if recounted && lost == 0 {
        record.problems.retain(|p| p.kind != ProblemKind::LostBeforeUs);
    }
    let known = [ProblemKind::LostByUs, ProblemKind::RestartGap, ProblemKind::LostBeforeUs];
    match record.problems.iter_mut().find(|p| known.contains(&p.kind)) {
        Some(problem) if recounted => problem.packets = (lost > 0).then_some(lost),
        None if lost > 0 => record.problems.push(ProblemKind::LostBeforeUs.with_packets(lost)),
        _ => {}
    }
}

/// Converts the times of streams and losses from capture time to wall-clock time. `by_ns` is wall-clock time minus
/// capture time at the start of the call.
fn shift_times(sides: &mut SideRecords, by_ns: i64) {
    for side in [Side::Caller, Side::Callee] {
        for stream in &mut sides.get_mut(side).streams {
            stream.first_at = stream.first_at.offset(by_ns);
            stream.last_at = stream.last_at.offset(by_ns);
        }
        for loss in &mut sides.get_mut(side).losses {
            (loss.from, loss.to) = (loss.from.offset(by_ns), loss.to.offset(by_ns));
        }
    }
}

fn add_problems(report: &RenderReport, record: &mut CallRecord) {
    if report.torn_tail {
        record.problems.push(ProblemKind::TornTail.problem());
    }
    let count =
        |reason: &UndecodableReason| report.sides.iter().filter_map(|side| side.silent.get(reason)).sum::<u64>();
    let missing =
        |is_it: fn(&UndecodableReason) -> bool| report.sides.iter().map(|side| missing_part(side, is_it)).sum::<u64>();
    let quirk = |quirk| report.sides.iter().filter_map(|side| side.quirks.get(&quirk)).sum::<u64>();
    let sum = |of: fn(&SideReport) -> u64| report.sides.iter().map(of).sum::<u64>();
    for (kind, packets) in [
        (ProblemKind::CutBySnaplen, count(&UndecodableReason::Cut)),
        (ProblemKind::Undecodable, count(&UndecodableReason::Damaged)),
        (ProblemKind::EncryptedPart, missing(|reason| matches!(reason, UndecodableReason::Encrypted(_)))),
        (ProblemKind::UnknownCodecPart, missing(is_unknown_codec)),
        (ProblemKind::Late, sum(|side| side.late)),
        (ProblemKind::BrokenStamps, sum(|side| side.broken_stamps)),
        (ProblemKind::ScatteredStamps, sum(|side| side.scattered)),
        (ProblemKind::AmrAlignment, quirk(PayloadQuirk::AmrAlignment)),
        (ProblemKind::G726Packing, quirk(PayloadQuirk::G726Packing)),
        (ProblemKind::TrailingBytes, quirk(PayloadQuirk::TrailingBytes)),
        (ProblemKind::OppositePhases, quirk(PayloadQuirk::OppositePhases)),
        (ProblemKind::ByteOrder, quirk(PayloadQuirk::ByteOrder)),
        (ProblemKind::CompandingLaw, quirk(PayloadQuirk::CompandingLaw)),
        (ProblemKind::SentUnencrypted, quirk(PayloadQuirk::Unencrypted)),
    ] {
        // A problem that the engine has already reported is not added to the record again, e.g. the truncated packets
        // of the whole call.
        if packets > 0 && !record.problems.iter().any(|p| p.kind == kind) {
            record.problems.push(kind.with_packets(packets));
        }
    }
}

/// Returns the problem of a call with media whose spool files are all missing when it is rendered.
pub(crate) const fn missing_spool() -> CallProblem {
    CallProblem::of_spool(OsErrno(rustix::io::Errno::NOENT.raw_os_error()))
}

/// Returns the number of packets of a side that gave no sound for a reason, although the side can be heard. The verdict
/// does not name these packets. Returns 0 for fewer than [`MIN_MISSING_PACKETS`].
fn missing_part(side: &SideReport, is_it: fn(&UndecodableReason) -> bool) -> u64 {
    let packets = side.silent.iter().filter(|(reason, _)| is_it(reason)).map(|(_, count)| count).sum();
    if packets >= MIN_MISSING_PACKETS && SideFacts::from(side).is_heard() { packets } else { 0 }
}

/// Returns whether packets give no sound because their codec is unknown, or has no decoder.
const fn is_unknown_codec(reason: &UndecodableReason) -> bool {
    matches!(reason, UndecodableReason::UnknownCodec(_) | UndecodableReason::UnannouncedChange(_))
}

/// Returns the facts for the verdict that the record contains. The facts that only rendering finds are still missing.
fn facts_from_record(record: &CallRecord) -> VerdictFacts {
    let refused = matches!(
        record.outcome,
        CallOutcome::Cancelled
            | CallOutcome::Busy
            | CallOutcome::Declined
            | CallOutcome::NoAnswer
            | CallOutcome::Redirected
            | CallOutcome::Failed
    );
    let answered = match (record.answered_at, record.invited_at) {
        (None, None) if !refused => AnswerState::BeganBefore,
        (None, _) => AnswerState::No,
        (Some(_), _) => AnswerState::Yes,
    };
    VerdictFacts {
        answered,
        spool_loss: record.problems.iter().find_map(|problem| spool_loss(*problem)),
        packets: record.sides.caller.packets + record.sides.callee.packets,
        fax: fax_of(record),
        is_behind_nat: record.problems.iter().any(|problem| problem.kind == ProblemKind::MediaBehindNat),
        is_over_tcp: record.problems.iter().any(|problem| problem.kind == ProblemKind::MediaOverTcp),
        ..VerdictFacts::default()
    }
}

/// Returns the kind of fax that the signalling shows; `None` if the call is no fax.
fn fax_of(record: &CallRecord) -> Option<FaxKind> {
    let faxes = || record.events.iter().filter(|event| event.kind == EventKind::Fax);
    let is_refused = |event: &EventRecord| event.detail.as_deref() == Some(T38_REFUSED);
    match (faxes().next(), faxes().all(is_refused)) {
        (None, _) => None,
        (Some(_), true) => Some(FaxKind::RefusedT38),
        (Some(_), false) => Some(FaxKind::T38),
    }
}

/// Returns the reason why sound of a call was not kept; `None` if the problem did not cause a loss of sound.
fn spool_loss(problem: CallProblem) -> Option<String> {
    let error = problem.errno.map(|errno| format!(" ({errno})")).unwrap_or_default();
    match problem.kind {
        ProblemKind::DiskFull => Some(format!("the disk of the spool was full{error}")),
        _ if problem == missing_spool() => Some(format!("packets of the call disappeared from the spool{error}")),
        ProblemKind::SpoolError => Some(format!("the spool could not be written{error}")),
        ProblemKind::LostByUs => Some("this machine lost packets of the call".to_owned()),
        _ => None,
    }
}

/// Returns whether an error may be temporary, so that the spool may be readable later. Returns false for a bad sector
/// (EIO) and a missing file, because these are permanent.
fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.raw_os_error().is_some_and(|n| n != Errno::IO.raw_os_error() && n != Errno::NOENT.raw_os_error())
}

/// Returns the common beginning of a call's file names: the call id, with unusual characters replaced by `_`.
fn stem(record: &CallRecord) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '_' };
    record.id.chars().map(safe).collect()
}

fn start_of(record: &CallRecord) -> Timestamp {
    record.invited_at.or(record.answered_at).or(record.ended_at).unwrap_or(Timestamp::EPOCH)
}

fn publish_group(files: PublishGroup) -> Result<(), RecordingError> {
    files.publish().map_err(|(path, error)| failed(&path, error))
}

fn failed(path: &Path, source: io::Error) -> RecordingError {
    RecordingError { path: path.display().to_string(), source }
}

/// Kinds of problems that rendering finds. They are removed from the record before a call is rendered again.
pub(crate) const RENDERING_PROBLEMS: [ProblemKind; 17] = [
    ProblemKind::TornTail,
    ProblemKind::CutBySnaplen,
    ProblemKind::Undecodable,
    ProblemKind::EncryptedPart,
    ProblemKind::UnknownCodecPart,
    ProblemKind::Late,
    ProblemKind::BrokenStamps,
    ProblemKind::ScatteredStamps,
    ProblemKind::AmrAlignment,
    ProblemKind::G726Packing,
    ProblemKind::TrailingBytes,
    ProblemKind::OppositePhases,
    ProblemKind::ByteOrder,
    ProblemKind::CompandingLaw,
    ProblemKind::SentUnencrypted,
    ProblemKind::OneWayAudio,
    ProblemKind::RenderError,
];
/// Minimum number of packets without sound that are a problem although the side can be heard: a second of speech. Fewer
/// packets are usual while keys change.
const MIN_MISSING_PACKETS: u64 = 50;

#[cfg(test)]
mod tests;
