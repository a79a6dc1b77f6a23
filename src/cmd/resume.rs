//! Going on after a restart: the spools that an earlier process left are read back into the engine.
//!
//! A leg's spool holds its signalling from the first INVITE, so the engine comes to the same legs, names and ids as
//! before; the packets are not written again, only what is decided from then on.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::call::Engine;
use crate::call::decision::Decision;
use crate::call::event::{Keep, LegId, LegSink};
use crate::call::pause::Order;
use crate::decode::Datagram;
use crate::net::Endpoint;
use crate::spool::disk::DiskSpool;
use crate::spool::reader::{Entry, Reader};
use crate::spool::{LegSource, SpoolError};
use crate::time::Timestamp;

/// Reads back what is in the spool. Gives the names of the legs that the engine knows again. A file that is no spool (a disk that was full can leave
/// such) is set aside; what can be read of a damaged one is read.
///
/// # Errors
/// When the folder cannot be read, or a spool is of a newer version.
pub fn resume(engine: &mut Engine, spool: &mut DiskSpool) -> Result<HashSet<String>, SpoolError> {
    let store = spool.store();
    let folder = |source| SpoolError::Io { path: store.path("").display().to_string(), source };
    let mut spools = Vec::new();
    for path in store.list().map_err(folder)? {
        let reader = usable(LegSource::File(path.clone()).open(), &path)?;
        spools.extend(reader.map(|reader| Open { path, reader, leg: String::new(), head: None }));
    }
    if spools.is_empty() {
        return Ok(HashSet::new());
    }
    let mut waiting: BinaryHeap<Reverse<(Timestamp, usize)>> = BinaryHeap::new();
    for (n, open) in spools.iter_mut().enumerate() {
        waiting.extend(open.advance()?.map(|at| Reverse((at, n))));
    }
    let mut sink = Resuming { spool, names: HashSet::new() };
    while let Some(Reverse((_, n))) = waiting.pop() {
        let open = &mut spools[n];
        match open.head.take() {
            Some(Told::Packet(packet)) => engine.handle_datagram(&packet.datagram(), &mut sink),
            Some(Told::Order(order, at)) => {
                engine.handle_timeout(at, &mut sink);
                engine.handle_pause_of_leg(&open.leg, order, at, &mut sink);
            }
            None => {}
        }
        waiting.extend(open.advance()?.map(|at| Reverse((at, n))));
    }
    engine.handle_restart(wall_clock());
    Ok(sink.names)
}

/// A spool that is being read back.
struct Open {
    path: PathBuf,
    reader: Reader,
    /// Name of its leg, once that was read.
    leg: String,
    /// What comes next.
    head: Option<Told>,
}

impl Open {
    /// Reads what comes next, and gives its time.
    fn advance(&mut self) -> Result<Option<Timestamp>, SpoolError> {
        self.head = usable(next_told(&mut self.reader, &mut self.leg), &self.path)?.flatten();
        Ok(self.head.as_ref().map(Told::at))
    }
}

/// A spool that cannot be read must not keep the service from starting.
fn usable<T>(read: Result<T, SpoolError>, path: &Path) -> Result<Option<T>, SpoolError> {
    match read {
        Ok(value) => Ok(Some(value)),
        // Not this file is bad but the whole start: a newer version, too many files, no rights.
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

/// What of a spool the engine must hear again.
enum Told {
    Packet(Packet),
    /// A pause or its end: what led to it (keys, the body of an INFO, the local API) is not in the spool.
    Order(Order, Timestamp),
}

impl Told {
    const fn at(&self) -> Timestamp {
        match self {
            Self::Packet(packet) => packet.at,
            Self::Order(_, at) => *at,
        }
    }
}

/// The next thing to be told; the leg's name is noted on the way.
fn next_told(reader: &mut Reader, name: &mut String) -> Result<Option<Told>, SpoolError> {
    while let Some(entry) = reader.next_entry()? {
        match entry {
            Entry::Packet(p) => {
                let (at, src, dst, wire_len) = (p.at, p.src, p.dst, p.wire_len);
                return Ok(Some(Told::Packet(Packet { at, src, dst, payload: p.payload.to_vec(), wire_len })));
            }
            Entry::Decided(decided) => match &decided.decision {
                Decision::Begin { leg, .. } => name.clone_from(leg),
                Decision::Pause => return Ok(Some(Told::Order(Order::Pause, decided.at()))),
                Decision::Resume => return Ok(Some(Told::Order(Order::Resume, decided.at()))),
                _ => {}
            },
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
