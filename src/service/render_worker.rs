//! `callspan render-worker`: the process that renders calls for `run`.
//!
//! The decoders handle bytes from strangers, and a fault in a decoder may let an attacker control the process. So this
//! process has no capability, no network, no key, and limited memory. It can only read the spool and write recordings.

use std::io::BufRead;
use std::panic::AssertUnwindSafe;

use anyhow::Context;

use super::render_protocol::{RenderReply, RenderRequest, WorkerSettings};
use super::sandbox;
use crate::recording::Recorder;
use crate::recording::recorder::RecordingError;

/// Reads requests from standard input and writes replies to standard output, until the input ends.
///
/// # Errors
/// Fails if the settings cannot be read, the sandbox cannot be set up, or a line cannot be read or written.
pub(crate) fn serve() -> anyhow::Result<()> {
    let mut lines = std::io::stdin().lock().lines();
    let settings = lines.next().context("no settings")?.context("the settings cannot be read")?;
    let settings: WorkerSettings = serde_json::from_str(&settings).context("the settings cannot be read")?;
    let entered = sandbox::enter(&[&settings.spool_dir], &[&settings.recording_dir]);
    let by_landlock = entered.context("the sandbox cannot be set up")?;
    RenderReply::Confined { by_landlock }.send()?;
    #[cfg(debug_assertions)]
    switch_test_codec();
    let recorder = settings.recorder();
    for line in lines {
        let request: RenderRequest = serde_json::from_str(&line?).context("a request cannot be read")?;
        let reply = std::panic::catch_unwind(AssertUnwindSafe(|| handle(&recorder, &request)));
        reply.unwrap_or(RenderReply::Panicked).send()?;
    }
    Ok(())
}

fn handle(recorder: &Recorder, request: &RenderRequest) -> RenderReply {
    let store = request.store();
    let done = match request.parts {
        None if request.is_whole => recorder.record_whole(&request.ended_call(), &store).map(Some),
        None => recorder.record(&request.ended_call(), &store).map(Some),
        Some(parts) => recorder.render_segments(&request.due_segments(parts), &store).and_then(|ready| {
            let mut record = request.record.clone();
            ready
                .map(|ready| recorder.publish_segments(ready, &mut record))
                .transpose()
                .map(|done| done.map(|()| record))
        }),
    };
    match done {
        Ok(Some(record)) => RenderReply::Done(Box::new(record)),
        Ok(None) => RenderReply::Nothing,
        Err(RecordingError { path, source }) => {
            RenderReply::Failed { path, errno: source.raw_os_error(), text: source.to_string() }
        }
    }
}

/// Replaces a decoder by the faulty decoder of the tests, if the environment variable [`TEST_CODEC`] is set.
#[cfg(debug_assertions)]
pub(crate) fn switch_test_codec() {
    if std::env::var_os(TEST_CODEC).is_some() {
        crate::render::codec::test_codec::switch_on();
    }
}

/// Name of the environment variable by which the tests activate the faulty decoder.
#[cfg(debug_assertions)]
pub(super) const TEST_CODEC: &str = "CALLSPAN_TEST_CODEC";
