//! Going on after a restart: what an earlier process left in the spool is read back into the engine.
//!
//! A leg's spool holds its signalling from the first INVITE, and what was decided about it. Who a leg is (its name, its
//! conversation, its transport) is told to the engine from the decisions; its signalling is handed in again, and of its
//! media what led to decisions; the packets are not written again. What this takes does not grow with the length of the
//! calls: see [`crate::spool::restore`].

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::call::Engine;
use crate::call::decision::Decision;
use crate::call::engine::Recall;
use crate::call::event::{Keep, LegId, LegSink};
use crate::decode::Datagram;
use crate::sip::{Framing, Message};
use crate::spool::SpoolError;
use crate::spool::disk::DiskSpool;
use crate::spool::restore::{self, RestorableLeg, RestoreItem, RestoreSequence};
use crate::time::Timestamp;

/// Reads back what is in the spool. Gives the names of the legs that the engine knows again. A file that is no spool (a
/// disk that was full can leave such) is set aside; what can be read of a damaged one is read. `is_over` tells of a
/// conversation, by its id, that the journal knows as ended: of one without media nothing is left to do.
///
/// # Errors
/// When the folder cannot be read, or a spool is of a newer version.
pub fn resume(
    engine: &mut Engine,
    spool: &mut DiskSpool,
    is_over: &dyn Fn(&str) -> bool,
) -> Result<HashSet<String>, SpoolError> {
    let legs = find(spool, is_over)?;
    for leg in &legs {
        engine_recalls(engine, leg);
    }
    let mut sink = Resuming::new(spool, &legs);
    let mut recollection = RestoreSequence::new(&legs);
    loop {
        match recollection.next_item() {
            Ok(None) => break,
            Ok(Some((_, RestoreItem::Packet(packet)))) => engine.handle_datagram(&packet.datagram(), &mut sink),
            Ok(Some((leg, RestoreItem::Decided(decided)))) => {
                // The end of an absence is of the wall clock, which may have been ahead: no timer fires by it.
                if !matches!(decided.decision, Decision::Restart { .. }) {
                    engine.handle_timeout(decided.at(), &mut sink);
                }
                engine.handle_recalled(&legs[leg].name, &decided.decision, decided.at(), &mut sink);
            }
            Err((_, error)) if is_damaged(&error) => tracing::error!("{error}: the rest of it is left out"),
            Err((_, error)) => return Err(error),
        }
    }
    if !legs.is_empty() {
        let now = wall_clock().offset(engine.wall_offset_ns().saturating_neg());
        engine.handle_restart(now, &mut sink);
    }
    let names = sink.names;
    spool.go_live();
    Ok(names)
}

/// The legs that an earlier process left.
fn find(spool: &DiskSpool, is_over: &dyn Fn(&str) -> bool) -> Result<Vec<RestorableLeg>, SpoolError> {
    let store = spool.store();
    let folder = |source| SpoolError::Io { path: store.path("").display().to_string(), source };
    let mut legs = Vec::new();
    for path in store.list().map_err(folder)? {
        legs.extend(usable(restore::find(&path), &path)?);
    }
    // Those that got a file stand in the rolling file, too, until it is made anew.
    let filed: HashSet<String> = legs.iter().map(|leg| leg.name.clone()).collect();
    let rolled = restore::find_pending(&store).unwrap_or_else(|error| {
        tracing::error!("{error}: calls that were being set up are not gone on with");
        Vec::new()
    });
    legs.extend(rolled.into_iter().filter(|leg| !filed.contains(&leg.name) && !is_over(&leg.conversation)));
    Ok(legs)
}

fn engine_recalls(engine: &mut Engine, leg: &RestorableLeg) {
    let Some(packet) = leg.message.as_ref().filter(|_| !leg.name.is_empty()) else { return };
    let datagram = packet.datagram();
    let Ok(message) = Message::parse(datagram.payload, Framing::Datagram) else { return };
    engine.handle_recall(Recall {
        name: leg.name.clone(),
        conversation: leg.conversation.clone(),
        call_id: message.call_id().to_owned(),
        hop: (datagram.src, datagram.dst),
        begun_at: leg.begun_at,
        transport: leg.transport,
        wall_offset_ns: leg.wall_offset_ns,
        heard_until: leg.heard_until,
    });
}

/// A spool that cannot be read must not keep the service from starting.
fn usable<T>(read: Result<T, SpoolError>, path: &Path) -> Result<Option<T>, SpoolError> {
    match read {
        Ok(value) => Ok(Some(value)),
        // Not this file is bad but the whole start: a newer version, no rights.
        Err(error) if !is_damaged(&error) => Err(error),
        Err(error) => {
            tracing::error!("{error}: it is left out and kept as .pcapng.failed");
            if let Err(error) = std::fs::rename(path, path.with_extension("pcapng.failed")) {
                tracing::warn!(path = %path.display(), "it cannot be renamed: {error}");
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

/// Of a leg that has a file, lets through only what may not be in it yet: how it begins again, starts and ends; said
/// twice, it is the same. One without a file is kept as if it were heard now.
struct Resuming<'a> {
    spool: &'a mut DiskSpool,
    by_name: HashMap<&'a str, &'a RestorableLeg>,
    /// Legs with a file, and whether it has an end.
    filed: HashMap<LegId, bool>,
    names: HashSet<String>,
}

impl<'a> Resuming<'a> {
    fn new(spool: &'a mut DiskSpool, legs: &'a [RestorableLeg]) -> Self {
        let by_name = legs.iter().filter(|leg| leg.has_file()).map(|leg| (leg.name.as_str(), leg)).collect();
        Self { spool, by_name, filed: HashMap::new(), names: HashSet::new() }
    }
}

impl LegSink for Resuming<'_> {
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

    fn packet(&mut self, leg: LegId, datagram: &Datagram<'_>, keep: Keep) {
        if !self.filed.contains_key(&leg) {
            self.spool.packet(leg, datagram, keep);
        }
    }

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        use Decision::{End, Join, Restart, Start};
        let filed = self.filed.get(&leg).copied();
        if let (End { .. }, Some(false)) = (decision, filed) {
            // Of the media that were read back the counts say nothing.
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

#[expect(clippy::disallowed_methods, reason = "how long the recorder was away is a question to the wall clock")]
fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::EPOCH + since
}
