//! The second rendering pass: decodes the packets and mixes their sound at the times in the plan.

use std::collections::BTreeMap;
use std::time::Duration;

use super::decided_streams::DecidedStreams;
use super::mix_buffer::{MixBuffer, MixTarget, SampleSink, SoundPrecedence};
use super::packet;
use super::plan::RenderPlan;
use super::player::{PlayContext, PlayPaths, StreamInputs, StreamPlayer};
use super::report::{RenderError, RenderReport};
use super::sample_index::SampleIndex;
use crate::call::decision::Decision;
use crate::spool::reader::{LegSource, PacketEntry, SpoolEntry};
use crate::time::Timestamp;

/// Reads a spool a second time and passes its sound to `out`, in order. `out` gets at most one second of sound at a
/// time.
///
/// # Errors
/// Fails if the spool cannot be read or `out` fails.
pub fn render(plan: &RenderPlan, source: &LegSource, out: &mut SampleSink<'_>) -> Result<RenderReport, RenderError> {
    render_by(PlayPaths::All, plan, source, out)
}

/// Renders like [`render`], but packets may take only the given paths: straight to their decoder if possible, or always
/// through the queue.
pub(super) fn render_by(
    paths: PlayPaths,
    plan: &RenderPlan,
    source: &LegSource,
    out: &mut SampleSink<'_>,
) -> Result<RenderReport, RenderError> {
    let mut pass = RenderPass::new(plan, paths);
    if plan.samples > 0 {
        let mut reader = source.open_sorting(plan.stored.sorted)?;
        while let Some(entry) = reader.next_entry()? {
            match entry {
                SpoolEntry::Decided(decided) => pass.handle_decision(&decided.decision),
                SpoolEntry::Packet(packet) => {
                    if packet.at > plan.ends_at + FLUSH_DELAY {
                        break;
                    }
                    // Finished samples are output before the packet is handled. So even after a long pause, the samples
                    // that the mix buffer has in memory are those around this packet.
                    if packet.at >= pass.next_flush {
                        pass.advance(packet.at, out)?;
                    }
                    if plan.stored.may_be_merged {
                        packet::split_joined(&packet).for_each(|packet| pass.handle_packet(&packet));
                    } else {
                        pass.handle_packet(&packet);
                    }
                }
            }
        }
    }
    pass.finish(out)
}

/// The state of the second rendering pass: players, buffer and report.
struct RenderPass<'a> {
    plan: &'a RenderPlan,
    paths: PlayPaths,
    known: DecidedStreams,
    players: BTreeMap<u32, StreamPlayer>,
    buffer: MixBuffer,
    report: RenderReport,
    next_flush: Timestamp,
}

impl<'a> RenderPass<'a> {
    fn new(plan: &'a RenderPlan, paths: PlayPaths) -> Self {
        let position = |at: Timestamp| SampleIndex(plan.position(at).clamp(-1e15, 1e15) as i64);
        let muted = plan.pauses.iter().map(|&(from, to)| position(from)..position(to)).collect();
        Self {
            plan,
            paths,
            known: DecidedStreams::default(),
            players: BTreeMap::new(),
            buffer: MixBuffer::new(plan.sample_rate, plan.samples, muted),
            report: RenderReport { samples: plan.samples, torn_tail: plan.torn_tail, ..RenderReport::default() },
            next_flush: Timestamp::from_nanos(i64::MIN),
        }
    }

    fn handle_decision(&mut self, decision: &Decision) {
        self.known.handle_decision(decision);
        if let Decision::Detour { stream } = decision
            && let Some(player) = self.players.get_mut(stream)
        {
            player.accept_gap();
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::read_header(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get_mut(&number) else { return };
        known.try_unused_keys(packet, &head);
        let known = &*known;
        let channel = known.side.channel();
        let next = u16::try_from(self.players.len() + 1).unwrap_or(u16::MAX);
        let player = self.players.entry(number).or_insert_with(|| {
            let (layer, precedence) = (known.layer, SoundPrecedence::Current);
            StreamPlayer::new(MixTarget { channel, layer, number: next, precedence }, known.ssrc, self.paths)
        });
        let mut context =
            PlayContext { plan: self.plan, buffer: &mut self.buffer, report: &mut self.report.sides[channel] };
        let inputs = StreamInputs { known, plan: self.plan.streams.get(&number) };
        player.handle_packet(packet, head, inputs, &mut context);
    }

    /// Advances all players to the time `now`, and outputs the finished samples.
    fn advance(&mut self, now: Timestamp, out: &mut SampleSink<'_>) -> Result<(), RenderError> {
        self.next_flush = now + FLUSH_INTERVAL;
        let finished = SampleIndex(self.plan.position(now - FLUSH_DELAY) as i64);
        let comfort_until = SampleIndex(self.plan.position(now - COMFORT_DELAY) as i64);
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut context = PlayContext { plan: self.plan, buffer: &mut self.buffer, report };
            player.handle_timeout(now, comfort_until, &mut context);
        }
        self.buffer.flush_until(finished, out)?;
        Ok(())
    }

    fn finish(mut self, out: &mut SampleSink<'_>) -> Result<RenderReport, RenderError> {
        for (number, player) in &mut self.players {
            let Some(known) = self.known.streams.get(number) else { continue };
            let report = &mut self.report.sides[known.side.channel()];
            let mut context = PlayContext { plan: self.plan, buffer: &mut self.buffer, report };
            player.handle_timeout(self.plan.ends_at, context.buffer.total(), &mut context);
            player.finish(&mut context);
        }
        let total = self.buffer.total();
        self.buffer.flush_until(total, out)?;
        for (channel, report) in self.report.sides.iter_mut().enumerate() {
            self.buffer.fill_report(channel, report);
            for stream in self.plan.streams.values().filter(|stream| stream.side.channel() == channel) {
                report.clock_drift_ppm = stream.drift_ppm.or(report.clock_drift_ppm);
                report.scattered += stream.scattered_packets;
                let wrong = stream.wrong_clocks();
                report.wrong_clocks.extend(wrong.into_iter().map(|(announced, clock)| (stream.ssrc, announced, clock)));
            }
        }
        Ok(self.report)
    }
}

/// Age at which samples are finished and output. It is longer than the time that the player and the spool reader wait
/// for late packets.
const FLUSH_DELAY: Duration = Duration::from_secs(6);
/// Comfort noise in a pause is written only this long after its time. So a late speech packet can still take the place
/// of the noise.
const COMFORT_DELAY: Duration = Duration::from_secs(3);
/// Interval between two outputs of finished samples.
const FLUSH_INTERVAL: Duration = Duration::from_millis(500);
