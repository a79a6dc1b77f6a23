//! The one loop: source -> decoder -> engine -> spool. Live capture and replay differ only in the source.

use crate::call::Engine;
use crate::call::event::LegSink;
use crate::capture::{CaptureError, Event, Frame, Source};
use crate::decode::Decoder;
use crate::ops::drops::LeftAside;

/// What drives a source to its end.
pub struct Pipeline {
    /// Frames to datagrams.
    pub decoder: Decoder,
    /// Datagrams to calls.
    pub engine: Engine,
    /// How far the source's timeline is ahead of the engine's, which goes on where an earlier process was: by the steps of
    /// the wall clock that one saw.
    ahead_ns: i64,
}

/// Whether there is more to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Call again.
    More,
    /// The source has ended.
    End,
}

impl Pipeline {
    /// A pipeline around an engine, which may know calls of an earlier process (`resume`).
    pub fn new(engine: Engine) -> Self {
        Self { decoder: Decoder::new(), ahead_ns: engine.wall_offset_ns(), engine }
    }

    /// Takes one event of the source through decoder and engine into the sink.
    ///
    /// # Errors
    /// When the source fails for good.
    pub fn step(&mut self, source: &mut dyn Source, sink: &mut dyn LegSink) -> Result<Step, CaptureError> {
        let Self { decoder, engine, ahead_ns } = self;
        match source.next_event()? {
            Event::Frame(frame) => {
                let frame = Frame { at: frame.at.offset(ahead_ns.saturating_neg()), ..frame };
                decoder.handle_frame(&frame, &mut |decoded| engine.handle_decoded(&decoded, sink));
            }
            Event::Tick(now) => {
                let now = now.offset(ahead_ns.saturating_neg());
                decoder.handle_timeout(now, &mut |decoded| engine.handle_decoded(&decoded, sink));
                engine.handle_timeout(now, sink);
            }
            Event::ClockStep { by_ns, .. } => engine.handle_clock_step(by_ns, sink),
            Event::End => return Ok(Step::End),
        }
        Ok(Step::More)
    }

    /// What did not fit into a table or could not be read so far.
    pub const fn left_aside(&self) -> LeftAside {
        LeftAside::of(self.decoder.counters(), self.engine.counters())
    }

    /// The source has ended: gives out what was still held back, and ends the calls that are open.
    pub fn end(&mut self, sink: &mut dyn LegSink) {
        let Self { decoder, engine, .. } = self;
        decoder.handle_end(&mut |decoded| engine.handle_decoded(&decoded, sink));
        engine.handle_end_of_capture(sink);
    }
}
