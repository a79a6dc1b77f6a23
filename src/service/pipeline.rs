//! Passes the frames of a capture source through decoder and engine to the spool (files with the packets of calls). A
//! live capture and a replay differ only in the source.

use crate::call::Engine;
use crate::call::event::LegSink;
use crate::capture::{self, CaptureError, CaptureEvent, CaptureSource, CapturedFrame};
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
    /// Counters of the decoded traffic, by which faults of the mirror port are detected; `None` if the traffic is not
    /// counted.
    pub(crate) traffic: Option<TrafficMonitor>,
    /// Counters of SIP and RTP for each network interface.
    pub(crate) taps: TapTraffic,
    /// Nanoseconds by which the source's capture times are ahead of the engine's times. After a restart the engine
    /// continues the times of the earlier process. If the wall clock was set during that process, the two differ.
    ahead_ns: i64,
    /// Number of the next frames for which the memory was loaded into the cache.
    prefetched: usize,
}

/// Result of one step of the pipeline, i.e. of processing one event of the capture source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PipelineStep {
    /// An event of the source was processed; more may follow.
    More,
    /// The source has ended.
    End,
}

impl Pipeline {
    /// Creates a pipeline with an engine. The engine may already have calls that were in progress before a restart.
    pub fn new(engine: Engine) -> Self {
        Self {
            decoder: FrameDecoder::new(),
            traffic: None,
            taps: TapTraffic::default(),
            ahead_ns: engine.wall_offset_ns(),
            engine,
            prefetched: 0,
        }
    }

    /// Starts to count the traffic, to detect faults of the mirror port.
    pub fn watch_traffic(&mut self) {
        self.traffic = Some(TrafficMonitor::default());
    }

    /// Loads the memory that the next frames need into the cache of the processor, if there are many flows.
    ///
    /// With thousands of calls, the state of a call has left the cache when its next packet comes. Loaded one after the
    /// other, each packet would wait for some loads of memory. Here the loads of several packets overlap.
    fn prefetch(&mut self, source: &dyn CaptureSource, sink: &dyn LegSink) {
        if self.prefetched > 0 || !self.engine.has_many_flows() {
            return;
        }
        let mut flows = [None; PREFETCHED_FRAMES];
        let mut slots = flows.iter_mut();
        self.prefetched = source.look_ahead(PREFETCHED_FRAMES, &mut |link, data| {
            if let Some(slot) = slots.next() {
                *slot = capture::udp_of(link, data).map(|(flow, _)| flow);
            }
        });
        if self.prefetched > 0 {
            self.engine.prefetch(&flows, sink);
        }
    }

    /// Passes the next event of the source through decoder and engine to the sink, e.g. the spool.
    ///
    /// # Errors
    /// Fails if the source has failed and cannot deliver further frames.
    pub fn step(
        &mut self,
        source: &mut dyn CaptureSource,
        sink: &mut dyn LegSink,
    ) -> Result<PipelineStep, CaptureError> {
        self.prefetch(source, sink);
        let Self { decoder, engine, traffic, taps, ahead_ns, prefetched } = self;
        match source.next_event()? {
            CaptureEvent::Frame(frame) => {
                *prefetched = prefetched.saturating_sub(1);
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

    /// Ends decoder and engine at the end of the source. The data that they still contain is processed, and the open
    /// calls end.
    pub fn end(&mut self, sink: &mut dyn LegSink) {
        let Self { decoder, engine, .. } = self;
        decoder.handle_end(&mut |decoded| engine.handle_decoded(&decoded, sink));
        engine.handle_end_of_capture(sink);
    }
}

/// Number of frames for which memory is loaded at once. A processor core loads about as many cache lines at a time.
const PREFETCHED_FRAMES: usize = 16;
