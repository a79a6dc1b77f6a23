//! The state of the first rendering pass: the recorded period, the pauses, and the streams.

use std::collections::{BTreeMap, BTreeSet};

use super::collector::StreamCollector;
use super::stream_plan::{ArrivedPacket, StreamPlan};
use super::{ReadEnd, RenderOptions, RenderPlan, SpooledEnd, StoredForm, read_sorting, samples_between};
use crate::call::decision::{Decision, PayloadFormat, SrtpContext, TimedDecision};
use crate::codec::Codec;
use crate::render::clock_rate::MediaClock;
use crate::render::codec;
use crate::render::decided_streams::{DecidedStream, DecidedStreams, StreamProtection, is_on_timeline};
use crate::render::packet;
use crate::render::report::RenderError;
use crate::render::second_look::{ClockPolicy, TimelineFit};
use crate::spool::reader::{LegSource, PacketEntry, SortedEntries, SpoolEntry};
use crate::time::Timestamp;

/// The first rendering pass, with the results of all entries that it has read so far.
#[derive(Debug, Default)]
pub(super) struct PlanPass {
    known: DecidedStreams,
    streams: BTreeMap<u32, StreamCollector>,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    pub(super) ended: Option<SpooledEnd>,
    pauses: Vec<(Timestamp, Timestamp)>,
    last_packet_at: Option<Timestamp>,
    widest_hz: u32,
    /// SRTP keys of each stream, with the times from which they apply.
    keys: BTreeMap<u32, Vec<(Timestamp, SrtpContext)>>,
    /// Whether the call engine's counts of packets are wrong, e.g. after a restart during the call. Then the packets
    /// are counted again.
    pub(super) is_miscounted: bool,
    policy: ClockPolicy,
    /// Numbers of the streams that this pass examines; `None` means all streams.
    only: Option<BTreeSet<u32>>,
}

impl PlanPass {
    pub(super) fn handle_decided(&mut self, decided: &TimedDecision) {
        let at = decided.at();
        self.known.handle_decision(&decided.decision);
        match &decided.decision {
            Decision::Start => self.starts_at = Some(self.starts_at.map_or(at, |start| start.min(at))),
            Decision::End { ended_by, caller, callee } => {
                self.ends_at = Some(at);
                self.ended = Some(SpooledEnd { by: *ended_by, sides: [caller.clone(), callee.clone()] });
            }
            Decision::Srtp { stream, context, .. } => {
                let keys = self.keys.entry(*stream).or_default();
                let is_known = keys.last().is_some_and(|(_, last)| last == context);
                if keys.len() < MAX_KEYS && !is_known {
                    keys.push((at, context.clone()));
                }
            }
            Decision::Restart { .. } => self.is_miscounted = true,
            Decision::Pause if self.pauses.last().is_none_or(|&(_, to)| to != Timestamp::MAX) => {
                self.pauses.push((at, Timestamp::MAX));
            }
            Decision::Resume => {
                if let Some((_, to)) = self.pauses.last_mut().filter(|(from, to)| *to == Timestamp::MAX && *from <= at)
                {
                    *to = at;
                }
            }
            _ => {}
        }
    }

    pub(super) fn handle_datagram(&mut self, datagram: &PacketEntry<'_>) {
        self.last_packet_at = Some(self.last_packet_at.map_or(datagram.at, |last| last.max(datagram.at)));
        for (n, packet) in packet::split_joined(datagram).enumerate() {
            self.handle_packet(&packet);
            if n > 0 {
                // The datagram contains several packets. The call engine counted only the first packet as received and
                // the others as lost. So all packets must be counted again.
                self.is_miscounted = true;
            }
        }
    }

    fn handle_packet(&mut self, packet: &PacketEntry<'_>) {
        let Some(head) = packet::read_header(packet) else { return };
        let Some(number) = self.known.stream_of(packet, &head) else { return };
        let Some(known) = self.known.streams.get_mut(&number) else { return };
        known.try_unused_keys(packet, &head);
        let known = &*known;
        let Some(Some(format)) = known.formats.get(&head.pt) else { return };
        if !is_on_timeline(format) || self.only.as_ref().is_some_and(|only| !only.contains(&number)) {
            return;
        }
        let collector =
            self.streams.entry(number).or_insert_with(|| StreamCollector::new(known, packet.at, self.policy));
        if !matches!(known.protection, StreamProtection::Closed(_)) && collector.is_new(format) {
            // One wideband codec makes the recording wideband. Comfort noise does not count, because it has no
            // bandwidth of its own.
            self.widest_hz = self.widest_hz.max(sampling_rate_hz(known, format));
        }
        if self.policy == ClockPolicy::Detect && known.is_unencrypted() {
            collector.judges.handle_packet(head.pt, format, packet);
        }
        if self.policy == ClockPolicy::Detect {
            collector.judge_form(known, packet, head);
        }
        // The duration is computed only for the few packets that need it. These are packets that come before the RTP
        // clock rate of their format is decided, and packets with useless timestamps. Computing the duration takes as
        // long as all other steps together.
        match collector.settled_clock(head.pt, format) {
            Some(clock @ MediaClock::Clock(_)) => {
                collector.place_on_track(ArrivedPacket::without_length(packet, head), clock);
            }
            Some(clock) => collector.place_on_track(ArrivedPacket::with_length(packet, head, known), clock),
            None => collector.handle_packet(ArrivedPacket::with_length(packet, head, known), format),
        }
    }

    /// Examines streams with a doubtful timeline again: with joined packets, with another RTP clock rate, or by counting
    /// packets. Keeps such a way for a stream if the timeline is clearly better with it. Only the given entries of the
    /// spool are sorted.
    pub(super) fn look_again(
        &mut self,
        source: &LegSource,
        sorted: SortedEntries,
        until: Option<Timestamp>,
    ) -> Result<(), RenderError> {
        self.streams.values_mut().for_each(StreamCollector::place_pending);
        let mut fits: BTreeMap<u32, TimelineFit> =
            self.streams.iter().map(|(number, stream)| (*number, stream.fit())).collect();
        for policy in ClockPolicy::ALTERNATIVES {
            let doubtful = fits.iter().filter(|(_, fit)| fit.is_doubtful(policy));
            let doubtful: BTreeSet<u32> = doubtful.map(|(number, _)| *number).collect();
            if doubtful.is_empty() {
                continue;
            }
            let mut again = PlanPass { policy, only: Some(doubtful), ..PlanPass::default() };
            read_sorting(source, sorted, until, &mut |entry| match entry {
                SpoolEntry::Decided(decided) => again.known.handle_decision(&decided.decision),
                SpoolEntry::Packet(datagram) => {
                    packet::split_joined(&datagram).for_each(|packet| again.handle_packet(&packet));
                }
            })?;
            for (number, mut other) in again.streams {
                other.place_pending();
                let fit = other.fit();
                if let Some(stream) = self.streams.get_mut(&number)
                    && let Some(known) = fits.get_mut(&number)
                    && fit.replaces(known, policy)
                {
                    *known = fit;
                    other.judges = std::mem::take(&mut stream.judges);
                    other.forms = std::mem::take(&mut stream.forms);
                    *stream = other;
                }
            }
        }
        Ok(())
    }

    pub(super) fn finish(mut self, options: &RenderOptions, read: ReadEnd) -> RenderPlan {
        // If the spool has no end of the leg (e.g. after a crash), the time of the last packet is the end.
        let ends_at = self.ends_at.or(self.last_packet_at);
        let (starts_at, ends_at) = match (self.starts_at, ends_at) {
            (Some(start), Some(end)) => (start.floor_micros(), end.floor_micros().max(start.floor_micros())),
            (None, Some(end)) => (end.floor_micros(), end.floor_micros()),
            (start, None) => {
                let at = start.unwrap_or(Timestamp::EPOCH).floor_micros();
                (at, at)
            }
        };
        let ends_at = ends_at.min(starts_at + MAX_DURATION);
        let wide = if self.widest_hz > NARROW_HZ { WIDE_HZ } else { NARROW_HZ };
        let sample_rate = options.sample_rate.unwrap_or(wide).max(1);
        let mut keys = std::mem::take(&mut self.keys);
        let finished = |(number, collector): (u32, StreamCollector)| {
            let keys = keys.remove(&number).unwrap_or_default();
            (number, StreamPlan { keys, ..collector.finish() })
        };
        let streams = self.streams.into_iter().map(finished).collect();
        RenderPlan {
            starts_at,
            ends_at,
            sample_rate,
            samples: samples_between(starts_at, ends_at, sample_rate),
            ended: self.ended,
            streams,
            pauses: self.pauses,
            torn_tail: read.torn_tail,
            has_sound: self.widest_hz > 0,
            recounted: self.is_miscounted,
            stored: match (options.until, read.to_sort) {
                (None, Some(sorted)) => StoredForm { sorted, may_be_merged: self.is_miscounted },
                _ => StoredForm::UNKNOWN,
            },
        }
    }
}

/// Returns the sampling rate of the sound in packets of a format, Hz; 0 if callspan has no decoder for it.
fn sampling_rate_hz(known: &DecidedStream, format: &PayloadFormat) -> u32 {
    let rate = |format: &PayloadFormat| codec::decoder_for(format).map_or(0, |decoder| decoder.sample_rate_hz());
    if !format.is(Codec::Red) {
        return rate(format);
    }
    known.formats_within(format).into_iter().map(rate).max().unwrap_or(0)
}

/// Maximum duration of a recording: a week, which is longer than `calls.max_hours` allows. Without it, a damaged
/// capture time could lead to a file of centuries.
const MAX_DURATION: std::time::Duration = std::time::Duration::from_secs(7 * 24 * 3_600);
/// Maximum number of key changes of a stream that are used. A call has only a few.
const MAX_KEYS: usize = 64;
/// Sampling rate of narrowband telephone speech, Hz.
const NARROW_HZ: u32 = 8_000;
/// Sampling rate of wideband speech, Hz.
const WIDE_HZ: u32 = 16_000;
