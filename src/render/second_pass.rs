//! The second pass: packets are decoded and painted where the plan says.

use std::collections::BTreeMap;
use std::time::Duration;

use super::mix_buffer::{Canvas, Output};
use super::packet;
use super::plan::{Arrival, Known, Plan};
use super::player::{Player, Stage};
use super::report::{RenderError, Report};
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::Timestamp;

/// Reads a spool a second time and gives out its sound, from sample 0 to the last, in pieces of up to a second.
///
/// # Errors
/// When the spool cannot be read or `out` fails.
pub fn render(plan: &Plan, source: &LegSource, out: &mut Output<'_>) -> Result<Report, RenderError> {
    let mut pass = Pass::new(plan);
    if plan.samples > 0 {
        let mut reader = source.open()?;
        while let Some(entry) = reader.next_entry()? {
            match entry {
                SpoolEntry::Decided(decided) => pass.known.handle(&decided.decision),
                SpoolEntry::Packet(packet) => {
                    if packet.at > plan.ends_at + MARGIN {
                        break;
                    }
                    // First, so that after a long pause the window lies around the packet.
                    if packet.at >= pass.next_step {
                        pass.step(packet.at, out)?;
                    }
                    packet::each(&packet).for_each(|packet| pass.handle_packet(&packet));
                }
            }
        }
    }
    pass.finish(out)
}

/// The second pass under way.
struct Pass<'a> {
    plan: &'a Plan,
    known: Known,
    players: BTreeMap<u32, Player>,
    canvas: Canvas,
    report: Report,
    next_step: Timestamp,
}

impl<'a> Pass<'a> {
    fn new(plan: &'a Plan) -> Self {
        let position = |at: Timestamp| plan.position(at).clamp(-1e15, 1e15) as i64;
        let muted = plan.pauses.iter().map(|&(from, to)| (position(from), position(to))).collect();
        Self {
            plan,
            known: Known::default(),
            players: BTreeMap::new(),
            canvas: Canvas::new(plan.sample_rate, plan.samples, muted),
            report: Report { samples: plan.samples, torn_tail: plan.torn_tail, ..Report::default() },
            next_step: Timestamp::from_nanos(i64::MIN),
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::head(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get(&number) else { return };
        let channel = known.side.channel();
        let rank = u16::try_from(self.players.len() + 1).unwrap_or(u16::MAX);
        let player = self.players.entry(number).or_insert_with(|| Player::new(channel, rank));
        let mut stage = Stage { plan: self.plan, canvas: &mut self.canvas, report: &mut self.report.sides[channel] };
        let arrival = Arrival::new(packet, head, known);
        player.handle_packet(packet, arrival, (known, self.plan.streams.get(&number)), &mut stage);
    }

    /// Brings everyone up to now and gives out what is finished.
    fn step(&mut self, now: Timestamp, out: &mut Output<'_>) -> Result<(), RenderError> {
        self.next_step = now + STEP;
        let finished = self.plan.position(now - MARGIN) as i64;
        let resting = self.plan.position(now - RESTING) as i64;
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut stage = Stage { plan: self.plan, canvas: &mut self.canvas, report };
            player.handle_timeout(now, resting, &mut stage);
        }
        self.canvas.give_until(finished, out)?;
        Ok(())
    }

    fn finish(mut self, out: &mut Output<'_>) -> Result<Report, RenderError> {
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut stage = Stage { plan: self.plan, canvas: &mut self.canvas, report };
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
