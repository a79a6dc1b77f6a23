//! The loop from source to decoder to engine to spool. Live capture and replay differ only in the source.

use crate::call::Engine;
use crate::call::event::LegSink;
use crate::capture::{CaptureError, CaptureEvent, CaptureSource, CapturedFrame};
use crate::decode::FrameDecoder;
use crate::ops::doctor::traffic::TrafficMonitor;
use crate::ops::drops::DropCounters;
use crate::ops::taps::TapTraffic;

/// Decoder and engine, driven by the events of a source.
pub struct Pipeline {
    /// Turns frames into datagrams.
    pub decoder: FrameDecoder,
    /// Turns datagrams into calls.
    pub engine: Engine,
    /// Counts the decoded traffic, for a service that watches its mirror port.
    pub(crate) traffic: Option<TrafficMonitor>,
    /// Counts SIP and RTP of each interface, for a service that watches its mirror port.
    pub(crate) taps: TapTraffic,
    /// Nanoseconds by which the source's timeline is ahead of the engine's timeline. The engine continues the timeline
    /// of an earlier process, which ignored steps of the wall clock.
    ahead_ns: i64,
}

/// Result of one step of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStep {
    /// An event was processed; more may follow.
    More,
    /// The source has ended.
    End,
}

impl Pipeline {
    /// Creates a pipeline around an engine. The engine may already know calls of an earlier process.
    pub fn new(engine: Engine) -> Self {
        Self {
            decoder: FrameDecoder::new(),
            traffic: None,
            taps: TapTraffic::default(),
            ahead_ns: engine.wall_offset_ns(),
            engine,
        }
    }

    /// Counts the traffic from now on, for a service that watches its mirror port.
    pub fn watch_traffic(&mut self) {
        self.traffic = Some(TrafficMonitor::default());
    }

    /// Passes the next event of the source through decoder and engine into the sink.
    ///
    /// # Errors
    /// When the source fails for good.
    pub fn step(
        &mut self,
        source: &mut dyn CaptureSource,
        sink: &mut dyn LegSink,
    ) -> Result<PipelineStep, CaptureError> {
        let Self { decoder, engine, traffic, taps, ahead_ns } = self;
        match source.next_event()? {
            CaptureEvent::Frame(frame) => {
                let frame = CapturedFrame { at: frame.at.offset(ahead_ns.saturating_neg()), ..frame };
                decoder.handle_frame(&frame, &mut |decoded| {
                    if let Some(traffic) = traffic {
                        traffic.handle_decoded(&decoded);
                        taps.handle_decoded(&decoded);
                    }
                    engine.handle_decoded(&decoded, sink);
                });
            }
            CaptureEvent::Tick(now) => {
                let now = now.offset(ahead_ns.saturating_neg());
                decoder.handle_timeout(now, &mut |decoded| engine.handle_decoded(&decoded, sink));
                engine.handle_timeout(now, sink);
            }
            CaptureEvent::ClockStep { by_ns, .. } => engine.handle_clock_step(by_ns, sink),
            CaptureEvent::End => return Ok(PipelineStep::End),
        }
        Ok(PipelineStep::More)
    }

    /// Returns counts of everything that was dropped so far.
    pub const fn drops(&self) -> DropCounters {
        DropCounters::of(self.decoder.counters(), self.engine.counters())
    }

    /// Flushes decoder and engine at the end of the source, and ends the open calls.
    pub fn end(&mut self, sink: &mut dyn LegSink) {
        let Self { decoder, engine, .. } = self;
        decoder.handle_end(&mut |decoded| engine.handle_decoded(&decoded, sink));
        engine.handle_end_of_capture(sink);
    }
}
