//! The second pass: packets are decoded and painted where the plan says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mix_buffer::{MixBuffer, SampleSink};
use super::packet;
use super::plan::{ArrivedPacket, DecidedStreams, RenderPlan};
use super::player::{PlayContext, StreamPlayer};
use super::report::{RenderError, RenderReport};
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::Timestamp;

/// Reads a spool a second time and gives out its sound, from sample 0 to the last, in pieces of up to a second.
///
/// # Errors
/// When the spool cannot be read or `out` fails.
pub fn render(plan: &RenderPlan, source: &LegSource, out: &mut SampleSink<'_>) -> Result<RenderReport, RenderError> {
    let mut pass = RenderPass::new(plan);
    if plan.samples > 0 {
        let mut reader = source.open()?;
        while let Some(entry) = reader.next_entry()? {
            match entry {
                SpoolEntry::Decided(decided) => pass.known.handle_decision(&decided.decision),
                SpoolEntry::Packet(packet) => {
                    if packet.at > plan.ends_at + MARGIN {
                        break;
                    }
                    // First, so that after a long pause the window lies around the packet.
                    if packet.at >= pass.next_step {
                        pass.step(packet.at, out)?;
                    }
                    packet::split_joined(&packet).for_each(|packet| pass.handle_packet(&packet));
                }
            }
        }
    }
    pass.finish(out)
}

/// The second pass under way.
struct RenderPass<'a> {
    plan: &'a RenderPlan,
    known: DecidedStreams,
    players: BTreeMap<u32, StreamPlayer>,
    canvas: MixBuffer,
    report: RenderReport,
    next_step: Timestamp,
}

impl<'a> RenderPass<'a> {
    fn new(plan: &'a RenderPlan) -> Self {
        let position = |at: Timestamp| plan.position(at).clamp(-1e15, 1e15) as i64;
        let muted = plan.pauses.iter().map(|&(from, to)| (position(from), position(to))).collect();
        Self {
            plan,
            known: DecidedStreams::default(),
            players: BTreeMap::new(),
            canvas: MixBuffer::new(plan.sample_rate, plan.samples, muted),
            report: RenderReport { samples: plan.samples, torn_tail: plan.torn_tail, ..RenderReport::default() },
            next_step: Timestamp::from_nanos(i64::MIN),
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::read_header(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get(&number) else { return };
        let channel = known.side.channel();
        let rank = u16::try_from(self.players.len() + 1).unwrap_or(u16::MAX);
        let player = self.players.entry(number).or_insert_with(|| StreamPlayer::new(channel, rank));
        let mut stage =
            PlayContext { plan: self.plan, canvas: &mut self.canvas, report: &mut self.report.sides[channel] };
        let arrival = ArrivedPacket::new(packet, head, known);
        player.handle_packet(packet, arrival, (known, self.plan.streams.get(&number)), &mut stage);
    }

    /// Brings everyone up to now and gives out what is finished.
    fn step(&mut self, now: Timestamp, out: &mut SampleSink<'_>) -> Result<(), RenderError> {
        self.next_step = now + STEP;
        let finished = self.plan.position(now - MARGIN) as i64;
        let resting = self.plan.position(now - RESTING) as i64;
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut stage = PlayContext { plan: self.plan, canvas: &mut self.canvas, report };
            player.handle_timeout(now, resting, &mut stage);
        }
        self.canvas.give_until(finished, out)?;
        Ok(())
    }

    fn finish(mut self, out: &mut SampleSink<'_>) -> Result<RenderReport, RenderError> {
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut stage = PlayContext { plan: self.plan, canvas: &mut self.canvas, report };
            player.handle_timeout(self.plan.ends_at, stage.canvas.total(), &mut stage);
            player.finish(&mut stage);
        }
        let total = self.canvas.total();
        self.canvas.give_until(total, out)?;
        for (channel, report) in self.report.sides.iter_mut().enumerate() {
            self.canvas.measure(channel, report);
            for stream in self.plan.streams.values().filter(|stream| stream.side.channel() == channel) {
                report.clock_drift_ppm = stream.drift_ppm.or(report.clock_drift_ppm);
                let wrong = stream.wrong_clocks();
                report.wrong_clocks.extend(wrong.into_iter().map(|(announced, clock)| (stream.ssrc, announced, clock)));
            }
        }
        Ok(self.report)
    }
}

/// Sound is given out so long after it was heard: more than packets wait for each other, and than a reader sorts.
const MARGIN: Duration = Duration::from_secs(6);
/// A pause of so long is one: by then, what was on its way has come.
const RESTING: Duration = Duration::from_secs(3);
/// How often finished sound is given out.
const STEP: Duration = Duration::from_millis(500);
