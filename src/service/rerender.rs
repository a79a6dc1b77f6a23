//! Rendering a call once more: after a bug in a decoder was mended, or after a disk was full.

use std::collections::HashMap;
use std::path::PathBuf;

use anyhow::{Context, bail};

use crate::call::event::{EndedCall, EndedLeg, LegId, Registration};
use crate::call::record::CallRecord;
use crate::journal::{CallStage, Journal};
use crate::recording::Recorder;
use crate::recording::encrypt::encrypted_path;
use crate::spool::disk::DiskStore;
use crate::spool::{self, LegSource, LegStore};

/// Renders a call from its spool, or from the packets kept beside its recording, and writes the journal.
///
/// # Errors
/// When the call is not known or under way, nothing of its packets is kept, or a file cannot be written.
pub fn rerender(
    journal: &Journal,
    recorder: &Recorder,
    spool: Option<&DiskStore>,
    id: &str,
) -> anyhow::Result<CallRecord> {
    let stored = journal.call(id)?.with_context(|| format!("there is no call {id} in the journal"))?;
    if stored.stage == CallStage::Live {
        bail!("call {id} is under way: it is rendered when it ends");
    }
    let packets = find(journal, recorder, spool, &stored.record)?;
    if let ([], Some(sealed)) = (packets.legs.as_slice(), &packets.sealed) {
        bail!(
            "the packets of call {id} are encrypted ({0}): where the secret key is, decrypt them with `age -d -i KEYFILE \
             -o PACKETS {0}`, put them beside it under the same name without .age, and render again",
            sealed.display()
        );
    }
    if packets.legs.is_empty() {
        bail!(
            "nothing is left of the packets of call {id}: they are kept until it is rendered, and longer only with \
             recording.keep_pcap"
        );
    }
    let wall_offset_ns = packets.wall_offset_ns()?;
    let registration = journal.calls_to_announce()?.into_iter().find(|(c, _)| c.record.id == id).map(|(_, r)| r);
    let ended = EndedCall {
        record: as_ended(stored.record),
        legs: packets.legs.clone(),
        registration: registration.unwrap_or_default(),
        wall_offset_ns,
    };
    let record = recorder.record(&ended, &packets)?;
    match (registration, stored.stage) {
        // Delivery waits for its recording, or never heard of it.
        (Some(registration), _) => journal.put_call_for_delivery(&record, CallStage::Complete, registration)?,
        // Delivery did not want it: a rule forbids it, or the configuration leaves it out.
        (None, CallStage::Complete) if journal.job(id)?.is_none() => journal.put_call(&record, CallStage::Complete)?,
        (None, _) => journal.put_call_for_delivery(&record, CallStage::Complete, Registration::Allowed)?,
    }
    journal.mark_present(id)?;
    Ok(record)
}

/// The packets of one call, wherever they are.
struct Packets {
    legs: Vec<EndedLeg>,
    paths: HashMap<String, PathBuf>,
    /// Kept packets that only somebody with the secret key can read.
    sealed: Option<PathBuf>,
}

impl Packets {
    /// What is added to the stamps of the packets for the record: the wall clock was stepped before the call.
    fn wall_offset_ns(&self) -> anyhow::Result<i64> {
        for leg in &self.legs {
            if let Some(source) = self.source(leg) {
                return Ok(spool::wall_offset_ns(&source)?);
            }
        }
        Ok(0)
    }
}

impl LegStore for Packets {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        self.paths.get(&leg.name).cloned().map(LegSource::File)
    }
}

fn find(
    journal: &Journal,
    recorder: &Recorder,
    spool: Option<&DiskStore>,
    record: &CallRecord,
) -> anyhow::Result<Packets> {
    let mut packets = Packets { legs: Vec::new(), paths: HashMap::new(), sealed: None };
    for (n, row) in (0_u64..).zip(journal.legs(&record.id)?) {
        let index = row.index as usize;
        let spooled = spool.into_iter().flat_map(|s| [s.path(&row.name), s.failed_path(&row.name)]);
        let kept = recorder.kept_path(record, index);
        let sealed = encrypted_path(&kept);
        let Some(path) = spooled.chain([kept]).find(|p| p.is_file()) else {
            packets.sealed = packets.sealed.or_else(|| sealed.is_file().then_some(sealed));
            continue;
        };
        packets.paths.insert(row.name.clone(), path);
        packets.legs.push(EndedLeg { leg: LegId(n), name: row.name, index, same_sides: row.same_sides });
    }
    // The leg that was rendered comes first again.
    packets.legs.sort_by_key(|leg| !record.legs.get(leg.index).is_some_and(|l| l.rendered));
    Ok(packets)
}

/// The record as the engine gave it: without what rendering adds.
fn as_ended(mut record: CallRecord) -> CallRecord {
    record.verdict = None;
    record.verdict_reason = None;
    record.recordings.clear();
    record.problems.retain(|p| !BY_RENDERING.contains(&p.kind.as_str()));
    record
}

/// Problems that rendering finds: it finds them again.
const BY_RENDERING: [&str; 7] =
    ["torn_tail", "cut_by_snaplen", "undecodable", "late", "broken_stamps", "one_way_audio", "render_error"];
