//! Passes the frames of a capture source through decoder and engine to the spool. Live capture and replay differ only
//! in the source.

use crate::call::Engine;
use crate::call::event::LegSink;
use crate::capture::{CaptureError, CaptureEvent, CaptureSource, CapturedFrame};
use crate::decode::FrameDecoder;
use crate::ops::doctor::traffic::TrafficMonitor;
use crate::ops::drops::DropCounters;
use crate::ops::taps::TapTraffic;

/// Decoder and engine, driven by the events of a capture source.
pub struct Pipeline {
    /// Decodes frames to datagrams and TCP streams.
    pub decoder: FrameDecoder,
    /// The engine: finds the calls in datagrams and streams.
    pub engine: Engine,
    /// Counters of the decoded traffic, for a service that watches its mirror port; `None` otherwise.
    pub(crate) traffic: Option<TrafficMonitor>,
    /// Counters of SIP and RTP by interface, for a service that watches its mirror port.
    pub(crate) taps: TapTraffic,
    /// Difference between the capture times of the source and the times of the engine, ns. The engine continues the
    /// times of an earlier process, which ignored steps of the wall clock.
    ahead_ns: i64,
}

/// Result of one step of the pipeline, i.e. of one event of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStep {
    /// An event of the source was processed; more may follow.
    More,
    /// The source has ended.
    End,
}

impl Pipeline {
    /// Creates a pipeline around an engine. The engine may already have calls that an earlier process left.
    pub fn new(engine: Engine) -> Self {
        Self {
            decoder: FrameDecoder::new(),
            traffic: None,
            taps: TapTraffic::default(),
            ahead_ns: engine.wall_offset_ns(),
            engine,
        }
    }

    /// Starts to count the traffic, for a service that watches its mirror port.
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

    /// Returns counts of everything that capture, decoder and engine dropped so far.
    pub const fn drops(&self) -> DropCounters {
        DropCounters::of(self.decoder.counters(), self.engine.counters())
    }

    /// Ends decoder and engine at the end of the source: passes on everything that they still hold, and ends the open
    /// calls.
    pub fn end(&mut self, sink: &mut dyn LegSink) {
        let Self { decoder, engine, .. } = self;
        decoder.handle_end(&mut |decoded| engine.handle_decoded(&decoded, sink));
        engine.handle_end_of_capture(sink);
    }
}
