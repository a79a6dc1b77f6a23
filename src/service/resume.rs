//! Continues calls after a restart: the engine reads the spool (files with the packets of calls) of the earlier
//! process.
//!
//! The spool of a leg contains its signalling from the first INVITE on, and the engine's decisions about the leg. The
//! decisions name the leg, its conversation and its transport. The engine processes the signalling again, and only
//! those media packets that led to a decision. No packet is written to the spool twice. Time and memory do not grow
//! with the length of the calls ([`crate::spool::restore`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::clock::wall_clock;
use crate::call::Engine;
use crate::call::decision::Decision;
use crate::call::engine::RestoredLeg;
use crate::call::event::{DiscardReason, KeptBytes, LegId, LegSink};
use crate::call::record::CallRecord;
use crate::decode::UdpDatagram;
use crate::sip::{SipFraming, SipMessage};
use crate::spool::SpoolError;
use crate::spool::disk::DiskSpool;
use crate::spool::restore::{self, RestorableLeg, RestoreItem, RestoreSequence};
use crate::time::Timestamp;

/// The calls of earlier processes, as the journal knows them.
pub trait EarlierCalls {
    /// Returns whether the call with this id has ended.
    fn is_over(&self, id: &str) -> bool;

    /// Returns the record of the ended call to which the leg with this name belongs; `None` if no ended call has it.
    fn owner_of(&self, leg: &str) -> Option<CallRecord>;

    /// Returns the record of the call with this id; `None` if there is none, or if the call is complete. The call may
    /// have ended, as long as it is not rendered.
    fn unrendered_record(&self, id: &str) -> Option<CallRecord>;
}

/// A list of earlier calls that contains no call, for a process without a journal or with an empty journal.
#[derive(Clone, Copy, Debug)]
pub struct NoEarlierCalls;

impl EarlierCalls for NoEarlierCalls {
    fn is_over(&self, _: &str) -> bool {
        false
    }

    fn owner_of(&self, _: &str) -> Option<CallRecord> {
        None
    }

    fn unrendered_record(&self, _: &str) -> Option<CallRecord> {
        None
    }
}

/// Makes the engine read the spool (files with the packets of calls) of an earlier process. Returns the names of the
/// legs that the engine continues.
///
/// A damaged spool is read up to the damage. A file that cannot be read at all is renamed. Legs without a separate
/// spool file are skipped if `earlier` says that their call has ended.
///
/// # Errors
/// Fails if the folder cannot be read, or a spool is of a newer version.
pub fn resume(
    engine: &mut Engine,
    spool: &mut DiskSpool,
    earlier: &dyn EarlierCalls,
) -> Result<HashSet<String>, SpoolError> {
    resume_at(engine, spool, earlier, wall_clock())
}

/// Does the work of [`resume`]; `now` is the wall-clock time at the start of the recorder.
///
/// # Errors
/// Fails if the folder cannot be read, or a spool is of a newer version.
pub fn resume_at(
    engine: &mut Engine,
    spool: &mut DiskSpool,
    earlier: &dyn EarlierCalls,
    now: Timestamp,
) -> Result<HashSet<String>, SpoolError> {
    let legs = find_legs(spool, earlier)?;
    for leg in &legs {
        recall_leg(engine, leg, earlier);
    }
    let mut sink = ResumeSink::new(spool, &legs);
    let mut sequence = RestoreSequence::new(&legs);
    loop {
        match sequence.next_item() {
            Ok(None) => break,
            Ok(Some((leg, RestoreItem::Packet(packet)))) => {
                engine.route_restored_packet(&legs[leg].name, &packet.datagram());
                engine.handle_datagram(&packet.datagram(), &mut sink);
            }
            Ok(Some((leg, RestoreItem::Decided(decided)))) => {
                // The time of a decision `Restart` (the recorder was restarted) comes from the wall clock, which may be
                // ahead of the packets. So it must not advance the timers of the engine.
                if !matches!(decided.decision, Decision::Restart { .. }) {
                    engine.handle_timeout(decided.at(), &mut sink);
                }
                if let Decision::Conversation(state) = &decided.decision
                    && state.missing.is_left
                    && let Some(record) = earlier.unrendered_record(&state.conversation)
                {
                    engine.handle_left_record(record);
                }
                engine.handle_restored_decision(&legs[leg].name, &decided.decision, decided.at(), &mut sink);
            }
            Err((_, error)) if is_damaged(&error) => tracing::error!("{error}: the rest of this spool is skipped"),
            Err((_, error)) => return Err(error),
        }
    }
    if !legs.is_empty() {
        sink.is_read = true;
        engine.handle_restart(now.offset(engine.wall_offset_ns().saturating_neg()), &mut sink);
    }
    let names = sink.names;
    spool.start_rolling_file();
    Ok(names)
}

/// Lists the legs that an earlier process left in the spool.
fn find_legs(spool: &DiskSpool, earlier: &dyn EarlierCalls) -> Result<Vec<RestorableLeg>, SpoolError> {
    let store = spool.store();
    let folder = |source| SpoolError::Io { path: store.path("").display().to_string(), source };
    let mut legs = Vec::new();
    for path in store.list().map_err(folder)? {
        legs.extend(usable(restore::find(&path), &path)?);
    }
    // The spool has one rolling file for all legs without media. When a leg gets media, it gets a separate file, but it
    // also stays in the rolling file for a while. So a leg with a separate file is not read from the rolling file.
    let filed: HashSet<String> = legs.iter().map(|leg| leg.name.clone()).collect();
    let rolled = restore::find_pending(&store).unwrap_or_else(|error| {
        tracing::error!("{error}: calls that were being set up cannot be resumed");
        Vec::new()
    });
    legs.extend(rolled.into_iter().filter(|leg| !filed.contains(&leg.name) && !earlier.is_over(&leg.conversation)));
    Ok(legs)
}

/// Restores a leg of the earlier process in the engine. The first INVITE identifies the leg.
///
/// A leg can leave its call when the call ends. Its spool is closed by then and still names the old call. So for a
/// closed spool, the call of the leg is read from the journal.
fn recall_leg(engine: &mut Engine, leg: &RestorableLeg, earlier: &dyn EarlierCalls) {
    let Some(packet) = leg.message.as_ref().filter(|_| !leg.name.is_empty()) else { return };
    let datagram = packet.datagram();
    let Ok(message) = SipMessage::parse(datagram.payload, SipFraming::Datagram) else { return };
    let owner = if leg.has_end() { earlier.owner_of(&leg.name) } else { None };
    let mut restored = RestoredLeg {
        name: leg.name.clone(),
        conversation: leg.conversation.clone(),
        call_id: message.call_id().to_owned(),
        hop: (datagram.src, datagram.dst),
        begun_at: leg.begun_at,
        first_requester: leg.first_requester,
        transport: leg.transport,
        wall_offset_ns: leg.wall_offset_ns,
        last_media_at: leg.last_media_at,
        joined_by: leg.joined_by,
    };
    if let Some(owner) = owner {
        if owner.id != restored.conversation {
            let known = owner.legs.iter().find(|known| known.sip_call_id == restored.call_id);
            restored.joined_by = known.and_then(|known| known.joined_by);
            restored.conversation.clone_from(&owner.id);
        }
        engine.handle_restored_relations(&owner.id, owner.relations);
    }
    engine.handle_restored_leg(restored);
}

/// Returns the result of reading a spool file. If the file is damaged, renames it and returns `None`, so that it does
/// not prevent the start.
fn usable<T>(read: Result<T, SpoolError>, path: &Path) -> Result<Option<T>, SpoolError> {
    match read {
        Ok(value) => Ok(Some(value)),
        // Errors that concern all spools, e.g. missing access rights or a spool of a newer version, stop the start of
        // the service.
        Err(error) if !is_damaged(&error) => Err(error),
        Err(error) => {
            tracing::error!("{error}: this spool is skipped and kept as .pcapng.failed");
            if let Err(error) = std::fs::rename(path, path.with_extension("pcapng.failed")) {
                tracing::warn!(path = %path.display(), "the spool cannot be renamed: {error}");
            }
            Ok(None)
        }
    }
}

fn is_damaged(error: &SpoolError) -> bool {
    match error {
        SpoolError::NotASpool { .. } => true,
        SpoolError::TooNew { .. } => false,
        SpoolError::Io { source, .. } => {
            source.kind() == std::io::ErrorKind::NotFound
                || source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
        }
    }
}

/// Receives the output of the engine while the spool is read.
///
/// If a leg already has a spool file, only those decisions (stored results of the engine) are written that may be
/// missing there. These are new decisions, and `Start`, `End` and `Restart`, which may occur twice without harm. If a
/// leg has no file, everything is written, as for a new leg.
struct ResumeSink<'a> {
    spool: &'a mut DiskSpool,
    /// Legs that have a spool file, by name.
    by_name: HashMap<&'a str, &'a RestorableLeg>,
    /// Legs that have a spool file, by id. The value is true if the file already contains the end of the leg.
    filed: HashMap<LegId, bool>,
    /// Names of all legs that the engine has found in the spool so far.
    names: HashSet<String>,
    /// Whether all spool files were read. Later decisions of the engine are new, so they must be written to the spool.
    is_read: bool,
}

impl<'a> ResumeSink<'a> {
    fn new(spool: &'a mut DiskSpool, legs: &'a [RestorableLeg]) -> Self {
        let by_name = legs.iter().filter(|leg| leg.has_file()).map(|leg| (leg.name.as_str(), leg)).collect();
        Self { spool, by_name, filed: HashMap::new(), names: HashSet::new(), is_read: false }
    }
}

impl LegSink for ResumeSink<'_> {
    fn open(&mut self, leg: LegId, name: &str) {
        self.names.insert(name.to_owned());
        match self.by_name.get(name) {
            Some(found) => {
                self.filed.insert(leg, found.has_end());
                found.resume(self.spool, leg);
            }
            None => self.spool.open(leg, name),
        }
    }

    fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, keep: KeptBytes) {
        if !self.filed.contains_key(&leg) {
            self.spool.packet(leg, datagram, keep);
        }
    }

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        use Decision::{Conversation, End, Join, Refer, Restart, Start};
        let filed = self.filed.get(&leg).copied();
        if let (End { .. }, Some(false)) = (decision, filed) {
            // When a spool is resumed, only a part of the media is read again. So the packet counts in the decision
            // `End` (the end of the leg) are too low. A decision `Restart` is written before it to mark that.
            self.spool.decide(leg, at, &Restart { away_ms: 0 });
        }
        if filed.is_none()
            || matches!(decision, Start | End { .. } | Restart { .. })
            || self.is_read && matches!(decision, Join(_) | Conversation(_) | Refer(_))
        {
            self.spool.decide(leg, at, decision);
        }
    }

    fn close(&mut self, leg: LegId) {
        self.spool.close(leg);
    }

    fn discard(&mut self, leg: LegId, reason: DiscardReason) {
        self.spool.discard(leg, reason);
    }
}
