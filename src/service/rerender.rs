//! Renders a call again, e.g. after a bug in a decoder was fixed.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::set_aside::SetAsidePackets;
use crate::call::event::{EndedCall, EndedLeg, LegId, RegistrationPolicy};
use crate::call::record::{CallRecord, ProblemKind};
use crate::journal::{CallStage, Journal};
use crate::recording::Recorder;
use crate::recording::encrypt::encrypted_path;
use crate::recording::recorder::{RENDERING_PROBLEMS, missing_spool};
use crate::spool::disk::DiskStore;
use crate::spool::{self, LegSource, LegStore};

/// Renders a call again from the packets in its spool or beside its recording, and updates the journal.
///
/// # Errors
/// Fails if the call is unknown or in progress, if none of its packets is kept, or if a file cannot be written.
pub fn rerender(
    journal: &Journal,
    recorder: &Recorder,
    spool: Option<&DiskStore>,
    id: &str,
) -> anyhow::Result<CallRecord> {
    let render = |call: &EndedCall, store: &dyn LegStore, loss| match loss {
        LegLoss::Accepted => Ok(recorder.record(call, store)?),
        LegLoss::Refused => Ok(recorder.record_whole(call, store)?),
    };
    rerender_by(journal, recorder, spool, id, &render)
}

/// A function that renders a call, and writes its recording and its record.
pub(super) type RenderCall<'a> = dyn Fn(&EndedCall, &dyn LegStore, LegLoss) -> anyhow::Result<CallRecord> + 'a;

/// Whether a new recording may lack the sound of a leg that cannot be rendered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LegLoss {
    /// The call has no recording of all legs, so that any recording is better.
    Accepted,
    /// The call has a recording of all legs, which must stay.
    Refused,
}

impl LegLoss {
    fn of(stored: &CallRecord) -> Self {
        let is_complete = !stored.problems.iter().any(|problem| problem.kind == ProblemKind::RenderError);
        let mut files = stored.recordings.iter().map(|file| Path::new(&file.path)).peekable();
        let is_there = files.peek().is_some() && files.all(Path::is_file);
        if is_complete && is_there { Self::Refused } else { Self::Accepted }
    }
}

/// Renders a call again as [`rerender`] does, with the given rendering function.
pub(super) fn rerender_by(
    journal: &Journal,
    recorder: &Recorder,
    spool: Option<&DiskStore>,
    id: &str,
    render: &RenderCall<'_>,
) -> anyhow::Result<CallRecord> {
    let stored = journal.call(id)?.with_context(|| format!("there is no call {id} in the journal"))?;
    if stored.stage == CallStage::Live {
        bail!("call {id} still lasts: it is rendered when it ends");
    }
    let packets = find_packets(journal, recorder, spool, &stored.record)?;
    if let ([], Some(encrypted)) = (packets.legs.as_slice(), &packets.encrypted) {
        bail!(
            "the packets of call {id} are encrypted ({0}). On the machine with the secret key, decrypt them with `age -d -i \
             KEYFILE -o PACKETS {0}`. Put the result beside {0} under the same name without .age, and render again",
            encrypted.display()
        );
    }
    if packets.legs.is_empty() {
        bail!(
            "no packets of call {id} are left: they are removed once the call is rendered, unless recording.keep_pcap is set"
        );
    }
    let wall_offset_ns = packets.wall_offset_ns()?;
    let registration = journal.calls_to_announce()?.into_iter().find(|(c, _)| c.record.id == id).map(|(_, r)| r);
    let loss = LegLoss::of(&stored.record);
    let ended = EndedCall {
        record: as_ended(stored.record),
        legs: packets.legs.clone(),
        registration: registration.unwrap_or_default(),
        wall_offset_ns,
    };
    let record = render(&ended, &packets, loss)?;
    match (registration, stored.stage) {
        // The call was not passed to delivery yet, so it is passed now.
        (Some(registration), _) => journal.put_call_for_delivery(&record, CallStage::Complete, registration)?,
        // The call must not be delivered to Pyrus, because a rule or the section `[pyrus]` of the configuration
        // excludes it. So only its record is stored.
        (None, CallStage::Complete) if journal.job(id)?.is_none() => journal.put_call(&record, CallStage::Complete)?,
        (None, _) => journal.put_call_for_delivery(&record, CallStage::Complete, RegistrationPolicy::Allowed)?,
    }
    journal.mark_present(id)?;
    if let Some(store) = spool
        && let Err(error) = (SetAsidePackets { journal, store }).clear_rendered(&record, recorder)
    {
        tracing::warn!(call = id, "the packets that were set aside cannot be removed: {error:#}");
    }
    Ok(record)
}

/// The files with the packets of one call. They are in the spool, or beside the recording of the call.
struct CallPackets {
    legs: Vec<EndedLeg>,
    /// Paths of the packet files, by leg name.
    paths: HashMap<String, PathBuf>,
    /// Path of the first packet file that cannot be read, because it is encrypted; `None` if no file is encrypted.
    encrypted: Option<PathBuf>,
}

impl CallPackets {
    /// Returns the difference in ns between the wall-clock times in the record and the capture times of the packets. It
    /// is not zero if the wall clock was set between the start of the capture and the call.
    fn wall_offset_ns(&self) -> anyhow::Result<i64> {
        for leg in &self.legs {
            if let Some(source) = self.source(leg) {
                return Ok(spool::wall_offset_ns(&source)?);
            }
        }
        Ok(0)
    }
}

impl LegStore for CallPackets {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        self.paths.get(&leg.name).cloned().map(LegSource::File)
    }
}

fn find_packets(
    journal: &Journal,
    recorder: &Recorder,
    spool: Option<&DiskStore>,
    record: &CallRecord,
) -> anyhow::Result<CallPackets> {
    let mut packets = CallPackets { legs: Vec::new(), paths: HashMap::new(), encrypted: None };
    for (n, row) in (0_u64..).zip(journal.legs(&record.id)?) {
        let index = row.index as usize;
        let spooled = spool.into_iter().flat_map(|s| [s.path(&row.name), s.failed_path(&row.name)]);
        let kept = recorder.kept_path(record, index);
        let encrypted = encrypted_path(&kept);
        let Some(path) = spooled.chain([kept]).find(|p| p.is_file()) else {
            packets.encrypted = packets.encrypted.or_else(|| encrypted.is_file().then_some(encrypted));
            continue;
        };
        packets.paths.insert(row.name.clone(), path);
        packets.legs.push(EndedLeg { leg: LegId(n), name: row.name, index, same_sides: row.same_sides });
    }
    // The renderer takes the sound from the first leg of the list. So the leg that the engine chose for the sound is
    // moved to the front.
    packets.legs.sort_by_key(|leg| !record.legs.get(leg.index).is_some_and(|l| l.rendered));
    Ok(packets)
}

/// Returns the record as the engine made it when the call ended, without the results of rendering.
fn as_ended(mut record: CallRecord) -> CallRecord {
    record.verdict = None;
    record.verdict_reason = None;
    // If the call has a recording, its spool was there, and the same problem names a part that was lost during the call.
    // The same is true if its rendering failed.
    let had_spool = !record.recordings.is_empty() || record.problems.iter().any(|p| p.kind == ProblemKind::RenderError);
    let missing = (!had_spool).then(missing_spool);
    record.recordings.clear();
    record.problems.retain(|problem| !RENDERING_PROBLEMS.contains(&problem.kind) && Some(*problem) != missing);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::record::{CallVerdict, RecordingFile};
    use crate::time::Timestamp;

    #[test]
    fn missing_spool_is_no_problem_any_more_when_it_is_found() {
        let full = ProblemKind::DiskFull.problem();
        let problems = vec![missing_spool(), full];
        let mut record = CallRecord { verdict: Some(CallVerdict::Failed), problems, ..CallRecord::default() };
        assert_eq!(as_ended(record.clone()).problems, [full]);
        let mut broken = record.clone();
        broken.problems.push(ProblemKind::RenderError.problem());
        assert_eq!(as_ended(broken).problems, [missing_spool(), full], "its spool was there");
        record.recordings.push(RecordingFile::sample("a.wav", Timestamp::EPOCH, 0.0));
        assert_eq!(as_ended(record).problems, [missing_spool(), full], "a part was lost during the call");
    }
}
