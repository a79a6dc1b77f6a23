//! Resumes calls after a restart: reads the spool of an earlier process back into the engine.
//!
//! A leg's spool holds its signalling from the first INVITE, and the engine's decisions about it. The decisions name
//! the leg, its conversation and its transport. The engine then processes the signalling again, and the media packets
//! that led to decisions. No packet is written twice. Time and memory do not grow with the length of the calls
//! ([`crate::spool::restore`]).

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::clock::wall_clock;
use crate::call::Engine;
use crate::call::decision::Decision;
use crate::call::engine::RestoredLeg;
use crate::call::event::{KeptBytes, LegId, LegSink};
use crate::decode::UdpDatagram;
use crate::sip::{SipFraming, SipMessage};
use crate::spool::SpoolError;
use crate::spool::disk::DiskSpool;
use crate::spool::restore::{self, RestorableLeg, RestoreItem, RestoreSequence};
use crate::time::Timestamp;

/// Reads the spool back into the engine. Returns the names of the legs that the engine knows again.
///
/// A file that is no spool, such as a full disk can leave, is renamed. A damaged spool is read up to the damage.
/// `is_over` returns true for the id of a conversation that the journal knows as ended. Legs of such a conversation that
/// have no spool file of their own are skipped.
///
/// # Errors
/// When the folder cannot be read, or a spool is of a newer version.
pub fn resume(
    engine: &mut Engine,
    spool: &mut DiskSpool,
    is_over: &dyn Fn(&str) -> bool,
) -> Result<HashSet<String>, SpoolError> {
    let legs = find_legs(spool, is_over)?;
    for leg in &legs {
        recall_leg(engine, leg);
    }
    let mut sink = ResumeSink::new(spool, &legs);
    let mut sequence = RestoreSequence::new(&legs);
    loop {
        match sequence.next_item() {
            Ok(None) => break,
            Ok(Some((_, RestoreItem::Packet(packet)))) => engine.handle_datagram(&packet.datagram(), &mut sink),
            Ok(Some((leg, RestoreItem::Decided(decided)))) => {
                // The time of a restart comes from the wall clock, which may be ahead. So a `Restart` must not advance
                // the timers.
                if !matches!(decided.decision, Decision::Restart { .. }) {
                    engine.handle_timeout(decided.at(), &mut sink);
                }
                engine.handle_restored_decision(&legs[leg].name, &decided.decision, decided.at(), &mut sink);
            }
            Err((_, error)) if is_damaged(&error) => tracing::error!("{error}: the rest of this spool is skipped"),
            Err((_, error)) => return Err(error),
        }
    }
    if !legs.is_empty() {
        let now = wall_clock().offset(engine.wall_offset_ns().saturating_neg());
        engine.handle_restart(now, &mut sink);
    }
    let names = sink.names;
    spool.start_rolling_file();
    Ok(names)
}

/// Lists the legs that an earlier process left in the spool.
fn find_legs(spool: &DiskSpool, is_over: &dyn Fn(&str) -> bool) -> Result<Vec<RestorableLeg>, SpoolError> {
    let store = spool.store();
    let folder = |source| SpoolError::Io { path: store.path("").display().to_string(), source };
    let mut legs = Vec::new();
    for path in store.list().map_err(folder)? {
        legs.extend(usable(restore::find(&path), &path)?);
    }
    // A leg that got its own file stays in the rolling file until the rolling file is rewritten.
    let filed: HashSet<String> = legs.iter().map(|leg| leg.name.clone()).collect();
    let rolled = restore::find_pending(&store).unwrap_or_else(|error| {
        tracing::error!("{error}: calls that were being set up cannot be resumed");
        Vec::new()
    });
    legs.extend(rolled.into_iter().filter(|leg| !filed.contains(&leg.name) && !is_over(&leg.conversation)));
    Ok(legs)
}

/// Restores a leg of the earlier process in the engine. Its first INVITE identifies the leg.
fn recall_leg(engine: &mut Engine, leg: &RestorableLeg) {
    let Some(packet) = leg.message.as_ref().filter(|_| !leg.name.is_empty()) else { return };
    let datagram = packet.datagram();
    let Ok(message) = SipMessage::parse(datagram.payload, SipFraming::Datagram) else { return };
    engine.handle_restored_leg(RestoredLeg {
        name: leg.name.clone(),
        conversation: leg.conversation.clone(),
        call_id: message.call_id().to_owned(),
        hop: (datagram.src, datagram.dst),
        begun_at: leg.begun_at,
        transport: leg.transport,
        wall_offset_ns: leg.wall_offset_ns,
        last_media_at: leg.last_media_at,
        joined_by: leg.joined_by,
    });
}

/// Turns a damaged spool into `None` and renames its file, so that a damaged spool does not prevent the start.
fn usable<T>(read: Result<T, SpoolError>, path: &Path) -> Result<Option<T>, SpoolError> {
    match read {
        Ok(value) => Ok(Some(value)),
        // A newer version or missing access rights concern all spools.
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

/// Sink of the engine while the spool is read back.
///
/// For a leg with a file it passes on only the decisions that may be missing in the file: `Start`, `End`, `Join` and
/// `Restart`, which may stand there twice without harm. A leg without a file is written as if it were captured now.
struct ResumeSink<'a> {
    spool: &'a mut DiskSpool,
    /// Legs with a file, by name.
    by_name: HashMap<&'a str, &'a RestorableLeg>,
    /// Legs with a file. True: the file already holds the end of the leg.
    filed: HashMap<LegId, bool>,
    /// Names of all legs that the engine opened.
    names: HashSet<String>,
}

impl<'a> ResumeSink<'a> {
    fn new(spool: &'a mut DiskSpool, legs: &'a [RestorableLeg]) -> Self {
        let by_name = legs.iter().filter(|leg| leg.has_file()).map(|leg| (leg.name.as_str(), leg)).collect();
        Self { spool, by_name, filed: HashMap::new(), names: HashSet::new() }
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
        use Decision::{End, Join, Restart, Start};
        let filed = self.filed.get(&leg).copied();
        if let (End { .. }, Some(false)) = (decision, filed) {
            // Only a part of the media was read back, so the counts in `End` would be wrong without this mark.
            self.spool.decide(leg, at, &Restart { away_ms: 0 });
        }
        if filed.is_none() || matches!(decision, Start | End { .. } | Join { .. } | Restart { .. }) {
            self.spool.decide(leg, at, decision);
        }
    }

    fn close(&mut self, leg: LegId) {
        self.spool.close(leg);
    }

    fn discard(&mut self, leg: LegId) {
        self.spool.discard(leg);
    }
}
