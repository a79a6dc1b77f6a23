//! The messages between the service and its render workers. Each message is a line of JSON.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::call::event::{DueSegments, EndedCall, EndedLeg, LegId, RegistrationPolicy};
use crate::call::record::CallRecord;
use crate::recording::config::{Config, RecordingFormat};
use crate::recording::{FolderLayout, Recorder};
use crate::spool::{LegSource, LegStore};

/// First message to a worker: the folders that the worker may read and write, and the settings of recordings. It
/// contains no secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct WorkerSettings {
    pub(super) spool_dir: PathBuf,
    pub(super) recording_dir: PathBuf,
    format: String,
    sample_rate: Option<u32>,
    part_hours: u32,
    max_segment_bytes: Option<u64>,
    /// Whether all files are in one folder, as in a `replay`.
    is_flat: bool,
}

impl WorkerSettings {
    /// Returns the settings for the recordings of a service, which are in folders by day.
    pub(super) fn new(spool_dir: PathBuf, recording: &Config, max_segment_bytes: Option<u64>) -> Self {
        Self {
            spool_dir,
            recording_dir: recording.dir.clone(),
            format: recording.format.name().to_owned(),
            sample_rate: recording.sample_rate,
            part_hours: recording.part_hours,
            max_segment_bytes,
            is_flat: false,
        }
    }

    /// Returns the settings for the recordings of a replay, which are all in one folder.
    pub(crate) fn flat(spool_dir: PathBuf, recording: &Config, max_segment_bytes: Option<u64>) -> Self {
        Self { is_flat: true, ..Self::new(spool_dir, recording, max_segment_bytes) }
    }

    pub(super) fn recorder(&self) -> Recorder {
        let config = Config {
            dir: self.recording_dir.clone(),
            format: RecordingFormat::from_name(&self.format).unwrap_or_default(),
            sample_rate: self.sample_rate,
            part_hours: self.part_hours,
            ..Config::default()
        };
        let layout = if self.is_flat { FolderLayout::Flat } else { FolderLayout::ByDay };
        Recorder::new(config, layout, self.max_segment_bytes)
    }
}

/// Request to a worker: the call and the legs to render.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RenderRequest {
    pub(super) record: CallRecord,
    legs: Vec<RequestedLeg>,
    wall_offset_ns: i64,
    /// Number of complete segments (parts of the recording) to render, if the call is in progress. `None` if the call
    /// has ended and is rendered as a whole.
    pub(super) parts: Option<u32>,
    /// Whether nothing is published if a leg cannot be rendered.
    pub(super) is_whole: bool,
}

/// A leg to be rendered, with the file of its spool.
#[derive(Debug, Serialize, Deserialize)]
struct RequestedLeg {
    id: u64,
    name: String,
    index: usize,
    same_sides: bool,
    path: Option<PathBuf>,
}

/// Reply of a worker: progress or the result of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum RenderReply {
    /// The worker has entered its sandbox. `by_landlock` is true if Landlock limits its access to files.
    Confined { by_landlock: bool },
    /// The worker begins to read the leg with this id. A further reply with the result follows.
    Reading(u64),
    /// The call was rendered: the record with its new recordings.
    Done(Box<CallRecord>),
    /// The request was handled, but no part of the recording is complete yet.
    Nothing,
    /// A file could not be written. Holds its path, the error number of the operating system, and the error as a text.
    Failed { path: String, errno: Option<i32>, text: String },
    /// The renderer panicked because of a bug.
    Panicked,
}

impl RenderReply {
    /// Writes the worker's reply as one line to standard output, from which the service reads it.
    pub(super) fn send(&self) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line).and_then(|()| out.flush())
    }
}

impl RenderRequest {
    pub(super) fn of_call(call: &EndedCall, store: &dyn LegStore) -> Self {
        let legs = requested_legs(&call.legs, store);
        let (record, wall_offset_ns) = (call.record.clone(), call.wall_offset_ns);
        Self { record, legs, wall_offset_ns, parts: None, is_whole: false }
    }

    pub(super) fn of_segments(due: &DueSegments, store: &dyn LegStore) -> Self {
        let legs = requested_legs(&due.legs, store);
        let (record, wall_offset_ns) = (due.record.clone(), due.wall_offset_ns);
        Self { record, legs, wall_offset_ns, parts: Some(due.parts), is_whole: false }
    }

    /// Removes a leg from the request, because it cannot be rendered. Returns whether the request still has a leg.
    pub(super) fn remove_leg(&mut self, id: u64) -> bool {
        self.legs.retain(|leg| leg.id != id);
        !self.legs.is_empty()
    }

    /// Returns the total size of all spools (packet files) of the request in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let size = |leg: &RequestedLeg| Some(std::fs::metadata(leg.path.as_ref()?).ok()?.len());
        self.legs.iter().filter_map(size).sum()
    }

    fn ended_legs(&self) -> Vec<EndedLeg> {
        let leg = |leg: &RequestedLeg| EndedLeg {
            leg: LegId(leg.id),
            name: leg.name.clone(),
            index: leg.index,
            same_sides: leg.same_sides,
        };
        self.legs.iter().map(leg).collect()
    }

    pub(super) fn ended_call(&self) -> EndedCall {
        EndedCall {
            record: self.record.clone(),
            legs: self.ended_legs(),
            registration: RegistrationPolicy::Allowed,
            wall_offset_ns: self.wall_offset_ns,
        }
    }

    pub(super) fn due_segments(&self, parts: u32) -> DueSegments {
        DueSegments {
            record: self.record.clone(),
            legs: self.ended_legs(),
            registration: RegistrationPolicy::Allowed,
            wall_offset_ns: self.wall_offset_ns,
            parts,
        }
    }

    pub(super) fn store(&self) -> RequestedSpools {
        RequestedSpools(self.legs.iter().filter_map(|leg| Some((leg.id, leg.path.clone()?))).collect())
    }
}

fn requested_legs(legs: &[EndedLeg], store: &dyn LegStore) -> Vec<RequestedLeg> {
    let path = |leg: &EndedLeg| match store.source(leg) {
        Some(LegSource::File(path)) => Some(path),
        _ => None,
    };
    let requested = |leg: &EndedLeg| RequestedLeg {
        id: leg.leg.0,
        name: leg.name.clone(),
        index: leg.index,
        same_sides: leg.same_sides,
        path: path(leg),
    };
    legs.iter().map(requested).collect()
}

/// The spools (packet files) of a request, as the worker reads them. The worker reports each leg to the service before
/// it reads the leg's spool. So after a crash the service knows which leg caused it.
pub(super) struct RequestedSpools(HashMap<u64, PathBuf>);

impl LegStore for RequestedSpools {
    fn source(&self, leg: &EndedLeg) -> Option<LegSource> {
        let _ = RenderReply::Reading(leg.leg.0).send(); // if this fails, sending the result fails, too
        self.0.get(&leg.leg.0).cloned().map(LegSource::File)
    }
}
