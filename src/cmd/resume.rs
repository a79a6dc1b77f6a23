//! Going on after a restart: the spools that an earlier process left are read back into the engine.
//!
//! A leg's spool holds its signalling from the first INVITE, so the engine comes to the same legs, names and ids as
//! before; the packets are not written again, only what is decided from then on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::call::Engine;
use crate::call::decision::Decision;
use crate::call::event::{Keep, LegId, LegSink};
use crate::decode::Datagram;
use crate::net::Endpoint;
use crate::spool::disk::DiskSpool;
use crate::spool::reader::{Entry, Reader};
use crate::spool::{LegSource, SpoolError};
use crate::time::Timestamp;

/// Reads back what is in the spool. Gives the names of the legs that the engine knows again. A file that is no spool
/// (its first bytes never reached the disk) is renamed, so that a person may look at it and no start does again.
///
/// # Errors
/// When the folder cannot be read, or a spool is of a newer version.
pub fn resume(engine: &mut Engine, spool: &mut DiskSpool) -> Result<HashSet<String>, SpoolError> {
    let store = spool.store();
    let folder = |source| SpoolError::Io { path: store.path("").display().to_string(), source };
    let mut readers = Vec::new();
    let mut waiting: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    let mut heads: Vec<Option<Packet>> = Vec::new();
    for path in store.list().map_err(folder)? {
        let Some((reader, head)) = begin(path)? else { continue };
        waiting.extend(head.as_ref().map(|p| Reverse((p.at, readers.len()))));
        heads.push(head);
        readers.push(reader);
    }
    if readers.is_empty() {
        return Ok(HashSet::new());
    }
    let mut sink = Resuming { spool, names: HashSet::new() };
    while let Some(Reverse((_, n))) = waiting.pop() {
        if let Some(packet) = heads[n].take() {
            engine.handle_datagram(&packet.datagram(), &mut sink);
        }
        heads[n] = match next_packet(&mut readers[n]) {
            Err(error @ SpoolError::TooNew { .. }) => return Err(error),
            // What was read so far counts: a bad sector at the end must not cost the call, nor the start.
            Err(error) => {
                tracing::error!("the rest of a spool cannot be read: {error}");
                None
            }
            Ok(packet) => packet,
        };
        waiting.extend(heads[n].as_ref().map(|p| Reverse((p.at, n))));
    }
    engine.handle_restart(wall_clock());
    Ok(sink.names)
}

/// A spool at its first packet; `None`: it is none, and was renamed.
fn begin(path: PathBuf) -> Result<Option<(Reader, Option<Packet>)>, SpoolError> {
    let begun = LegSource::File(path.clone()).open().and_then(|mut reader| {
        let head = next_packet(&mut reader)?;
        Ok((reader, head))
    });
    match begun {
        Ok((_, None)) => {
            // Born, and killed before its first packet was written.
            let _ = std::fs::remove_file(&path);
            Ok(None)
        }
        Ok(begun) => Ok(Some(begun)),
        Err(error) if is_damaged(&error) => {
            tracing::error!("{error}; it is set aside, its call goes on without it");
            let aside = path.with_extension("unreadable");
            if let Err(error) = std::fs::rename(&path, &aside) {
                tracing::warn!(path = %path.display(), "cannot be renamed: {error}");
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether it is this file that is bad, and not the whole start (a newer version, no rights, too many files).
fn is_damaged(error: &SpoolError) -> bool {
    match error {
        SpoolError::NotASpool { .. } => true,
        SpoolError::TooNew { .. } => false,
        SpoolError::Io { source, .. } => source.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()),
    }
}

/// A packet of a spool, as the wire had it.
struct Packet {
    at: Timestamp,
    src: Endpoint,
    dst: Endpoint,
    payload: Vec<u8>,
    wire_len: u32,
}

impl Packet {
    fn datagram(&self) -> Datagram<'_> {
        Datagram {
            at: self.at,
            src: self.src,
            dst: self.dst,
            payload: &self.payload,
            wire_len: self.wire_len,
            interface: 0,
        }
    }
}

fn next_packet(reader: &mut Reader) -> Result<Option<Packet>, SpoolError> {
    while let Some(entry) = reader.next_entry()? {
        if let Entry::Packet(p) = entry {
            let (at, src, dst, wire_len) = (p.at, p.src, p.dst, p.wire_len);
            return Ok(Some(Packet { at, src, dst, payload: p.payload.to_vec(), wire_len }));
        }
    }
    Ok(None)
}

/// Lets through only what may not be in the files yet: how legs begin again, start and end. Said twice, it is the same.
struct Resuming<'a> {
    spool: &'a mut DiskSpool,
    names: HashSet<String>,
}

impl LegSink for Resuming<'_> {
    fn open(&mut self, leg: LegId, name: &str) {
        self.names.insert(name.to_owned());
        self.spool.resume(leg, name);
    }

    fn packet(&mut self, _leg: LegId, _datagram: &Datagram<'_>, _keep: Keep) {}

    fn decide(&mut self, leg: LegId, at: Timestamp, decision: &Decision) {
        if matches!(decision, Decision::Start | Decision::End { .. } | Decision::Join { .. }) {
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
