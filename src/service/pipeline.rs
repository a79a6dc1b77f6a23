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

    /// Loads the next frames into the cache of the processor. If there are many flows, loads the state of their calls,
    /// too.
    ///
    /// A frame was copied by the kernel or read by another thread, so it may not be in this processor's cache. With
    /// thousands of calls, the state of a call has left the cache when its next packet comes. Loaded one after the
    /// other, each packet would wait for some loads of memory. Here the loads of several packets overlap.
    fn prefetch(&mut self, source: &dyn CaptureSource, sink: &mut dyn LegSink) {
        if self.prefetched > 0 {
            return;
        }
        let has_many_flows = self.engine.has_many_flows();
        let mut flows = [None; PREFETCHED_FRAMES];
        let mut slots = flows.iter_mut();
        self.prefetched = source.look_ahead(PREFETCHED_FRAMES, &mut |link, data| {
            load_into_cache(data);
            if has_many_flows && let Some(slot) = slots.next() {
                *slot = capture::udp_of(link, data).map(|(flow, _)| flow);
            }
        });
        if has_many_flows && self.prefetched > 0 {
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

/// Reads one byte of each cache line of a frame, so that the processor loads the frame into its cache.
fn load_into_cache(frame: &[u8]) {
    let lines = frame.iter().step_by(CACHE_LINE);
    std::hint::black_box(lines.chain(frame.last()).fold(0, |sum, byte| sum ^ byte));
}

/// Length of a cache line of usual processors in bytes.
const CACHE_LINE: usize = 64;
/// Number of frames for which memory is loaded at once. A processor core loads about as many cache lines at a time.
const PREFETCHED_FRAMES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::config::Config;
    use crate::call::decision::Decision;
    use crate::call::event::{DiscardReason, KeptBytes, LegId};
    use crate::capture::{CaptureCounters, CaptureWarning, LinkType};
    use crate::decode::{UdpDatagram, wire};
    use crate::time::Timestamp;

    /// Frames in memory, which the source shows ahead or not.
    struct Frames {
        frames: Vec<Vec<u8>>,
        next: usize,
        is_shown: bool,
    }

    impl CaptureSource for Frames {
        fn next_event(&mut self) -> Result<CaptureEvent<'_>, CaptureError> {
            let Some(data) = self.frames.get(self.next) else { return Ok(CaptureEvent::End) };
            let at = Timestamp::from_secs(1_795_417_200).offset(self.next as i64 * 20_000);
            self.next += 1;
            Ok(CaptureEvent::Frame(CapturedFrame {
                at,
                link: LinkType::Ethernet,
                interface: 0,
                orig_len: data.len() as u32,
                data,
            }))
        }

        fn look_ahead(&self, count: usize, each: &mut dyn FnMut(LinkType, &[u8])) -> usize {
            let ahead = self.frames[self.next..].iter().take(if self.is_shown { count } else { 0 });
            ahead.map(|frame| each(LinkType::Ethernet, frame)).count()
        }

        fn counters(&mut self) -> CaptureCounters {
            CaptureCounters::default()
        }

        fn name(&self) -> &str {
            "test"
        }

        fn take_warnings(&mut self) -> Vec<CaptureWarning> {
            Vec::new()
        }
    }

    /// Keeps the packets of each leg, and counts the announcements of packets.
    #[derive(Default)]
    struct Kept {
        packets: Vec<(LegId, Vec<u8>)>,
        announced: usize,
    }

    impl LegSink for Kept {
        fn open(&mut self, _: LegId, _: &str) {}
        fn prefetch(&mut self, _: LegId) {
            self.announced += 1;
        }
        fn packet(&mut self, leg: LegId, datagram: &UdpDatagram<'_>, _: KeptBytes) {
            self.packets.push((leg, datagram.payload.to_vec()));
        }
        fn decide(&mut self, _: LegId, _: Timestamp, _: &Decision) {}
        fn close(&mut self, _: LegId) {}
        fn discard(&mut self, _: LegId, _: DiscardReason) {}
    }

    fn frame(src: ([u8; 4], u16), dst: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
        wire::ethernet(0x0800, &wire::ipv4(src.0, dst.0, 17, 1, &wire::udp(src.1, dst.1, payload)))
    }

    /// Returns the frames of calls that are in progress at the same time: signalling, then media of both sides in turn.
    fn calls(count: u16, packets: u16) -> Vec<Vec<u8>> {
        let (pbx, sip) = ([192, 0, 2, 1], 5060);
        let phone = |call: u16| [[10, 0], call.to_be_bytes()].concat().try_into().unwrap();
        let port = |call: u16| 10_000 + 2 * call;
        let mut frames = Vec::new();
        for call in 0..count {
            let sdp = |ip: [u8; 4], port: u16| {
                let ip = ip.map(|octet| octet.to_string()).join(".");
                format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP 8\r\n")
            };
            let head = format!(
                "Via: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{call}\r\nFrom: <sip:{call}@192.0.2.1>;tag=a{call}\r\n\
                 Call-ID: {call}@test\r\nCSeq: 1 INVITE\r\nContent-Type: application/sdp\r\nTo: <sip:9@192.0.2.1>"
            );
            let invite = format!("INVITE sip:9@192.0.2.1 SIP/2.0\r\n{head}\r\n\r\n{}", sdp(phone(call), 4_000));
            let answer = format!("SIP/2.0 200 OK\r\n{head};tag=b{call}\r\n\r\n{}", sdp(pbx, port(call)));
            frames.push(frame((phone(call), sip), (pbx, sip), invite.as_bytes()));
            frames.push(frame((pbx, sip), (phone(call), sip), answer.as_bytes()));
        }
        for packet in 0..packets {
            for call in 0..count {
                let rtp = |ssrc: u16| {
                    let head = [[0x80, 8], packet.to_be_bytes(), [0, 0], (packet * 160).to_be_bytes()].concat();
                    [head, [[0, 0], ssrc.to_be_bytes()].concat(), vec![0xd5; 160]].concat()
                };
                frames.push(frame((phone(call), 4_000), (pbx, port(call)), &rtp(2 * call)));
                frames.push(frame((pbx, port(call)), (phone(call), 4_000), &rtp(2 * call + 1)));
            }
        }
        frames
    }

    #[test]
    fn packets_are_the_same_whether_the_source_shows_them_ahead_or_not() {
        let (count, packets) = (300, 5);
        let run = |is_shown: bool| {
            let mut source = Frames { frames: calls(count, packets), next: 0, is_shown };
            let (mut pipeline, mut kept) = (Pipeline::new(Engine::new(Config::default(), "test")), Kept::default());
            while pipeline.step(&mut source, &mut kept).unwrap() == PipelineStep::More {}
            kept
        };
        let (shown, unshown) = (run(true), run(false));
        assert!(shown.packets == unshown.packets);
        let all = usize::from(count) * 2 * usize::from(packets);
        assert!(shown.packets.len() >= all, "{} packets of {all}", shown.packets.len());
        // The first packet of a flow has no route yet, so it is not announced.
        assert!(shown.announced >= all / 2, "{} announced", shown.announced);
        assert_eq!(unshown.announced, 0);
    }
}
