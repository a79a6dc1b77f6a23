//! The playout times of one stream.
//!
//! A *track* is a group of packets with about the same delay. A *segment* is a part of a track in which sound continues
//! without a gap (modules `rtp_clock` and `timeline`).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::call::decision::{PayloadFormat, SrtpContext};
use crate::call::record::Side;
use crate::net::{PayloadType, Ssrc};
use crate::render::arrived_numbers::ArrivalOrder;
use crate::render::clock_rate::MediaClock;
use crate::render::codec;
use crate::render::decided_streams::DecidedStream;
use crate::render::form_judge::{FormPeriod, PayloadForm};
use crate::render::packet::{self, CapturedPayload, RtpHeaderFields};
use crate::render::rtp_clock::{MediaPosition, PacketTiming, TimestampUnwrapper, TimingUnit};
use crate::render::timeline::{LagTimeline, PlayoutOffset};
use crate::spool::reader::PacketEntry;
use crate::time::Timestamp;

/// A payload type with the RTP clock rate that the SDP announces for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AnnouncedClock {
    pub(super) pt: PayloadType,
    /// RTP clock rate that the SDP announces, Hz.
    pub(super) clock_hz: u32,
}

/// The way to compute the media times of packets (by a clock rate or by counting), for each payload type and announced
/// RTP clock rate.
pub(super) type MediaClocks = HashMap<AnnouncedClock, MediaClock, foldhash::fast::FixedState>;

/// The playout times of the packets of one stream.
#[derive(Clone, Debug)]
pub(in crate::render) struct StreamPlan {
    pub(in crate::render) side: Side,
    pub(in crate::render) ssrc: Ssrc,
    /// Arrival time of the first packet that has a playout time.
    pub(super) first_at: Timestamp,
    pub(super) clocks: MediaClocks,
    pub(super) tracks: Vec<LagTimeline>,
    /// Maps each track (packets with about the same lag) that consists of a few late packets to the track to which they
    /// really belong.
    pub(super) aliases: HashMap<usize, usize>,
    /// The largest delay of a packet that others overtook by more than the usual jitter.
    pub(in crate::render) latest: Duration,
    pub(in crate::render) drift_ppm: Option<f64>,
    /// Number of packets in the stream if a new track (group of packets with about the same lag) begins every few
    /// packets; 0 otherwise. A value above 0 means that the playout times are probably wrong.
    pub(in crate::render) scattered_packets: u64,
    /// SRTP keys of the stream, each with the time from which it applies, in order of time.
    pub(super) keys: Vec<(Timestamp, SrtpContext)>,
    /// Pairs of an announced format and the true format of its payloads.
    pub(super) corrections: Vec<(Arc<PayloadFormat>, Arc<PayloadFormat>)>,
    /// Periods in which the payloads are encrypted or unencrypted, other than the session descriptions say.
    pub(super) forms: Vec<FormPeriod>,
}

impl StreamPlan {
    /// Returns the playout time of a packet. Both rendering passes must call this for the same packets in the same
    /// order, namely for all packets on the timeline
    /// ([`is_on_timeline`](crate::render::decided_streams::is_on_timeline)).
    pub(in crate::render) fn playout_time(
        &self,
        unwrapper: &mut TimestampUnwrapper,
        packet: ArrivedPacket,
        clock: MediaClock,
    ) -> Option<PlayoutTime> {
        let at_ns = packet.at.nanos_since(self.first_at);
        let position = unwrapper.handle_packet(at_ns, packet.timing(clock));
        let (track, position) = match self.aliases.get(&position.track) {
            // This packet belongs to a track (group with about the same lag) that consists of a few late packets. Its
            // position is computed on the track to which these packets really belong.
            Some(&track) => (track, MediaPosition { track, index: unwrapper.newest_index(track), ..position }),
            None => (position.track, position),
        };
        let PlayoutOffset { playout_ns, segment } = self.tracks.get(track)?.playout(&position);
        Some(PlayoutTime {
            at: self.first_at.offset(playout_ns),
            media_ns: position.media_ns,
            segment: (track, segment),
            order: position.order,
        })
    }

    /// Returns the true format of payloads that were announced as `format`; `None` if they have the announced format.
    pub(in crate::render) fn correction(&self, format: &PayloadFormat) -> Option<&Arc<PayloadFormat>> {
        self.corrections.iter().find(|(announced, _)| **announced == *format).map(|(_, sent)| sent)
    }

    /// Returns whether all payloads have the announced format and encryption.
    pub(in crate::render) fn has_no_correction(&self) -> bool {
        self.corrections.is_empty() && self.forms.is_empty()
    }

    /// Returns the form of a payload that arrived at a time, if it is other than the session descriptions say.
    pub(in crate::render) fn form_at(&self, at: Timestamp) -> Option<PayloadForm> {
        self.forms.iter().find(|period| period.from <= at && at <= period.to).map(|period| period.form)
    }

    /// Returns the keys that come into force within [`KEYS_AHEAD`] after a time; `None` if no new keys do.
    pub(in crate::render) fn coming_keys(&self, at: Timestamp) -> Option<&SrtpContext> {
        let is_soon = |since: Timestamp| since > at && since.since(at) < KEYS_AHEAD;
        self.keys.iter().find(|(since, _)| is_soon(*since)).map(|(_, context)| context)
    }

    /// Returns whether the stream is SRTP at any time of the call.
    pub(in crate::render) fn has_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Returns each RTP clock rate of the stream that the SDP announces wrongly: the announced and the true clock rate,
    /// Hz.
    pub(in crate::render) fn wrong_clocks(&self) -> Vec<(u32, u32)> {
        let clocks =
            self.clocks.iter().filter_map(|(&AnnouncedClock { clock_hz: announced, .. }, clock)| match clock {
                MediaClock::Clock(hz) | MediaClock::Joined { clock_hz: hz, .. } => Some((announced, *hz)),
                MediaClock::Counted { .. } => None,
            });
        let mut wrong: Vec<(u32, u32)> = clocks.filter(|(announced, hz)| announced != hz).collect();
        wrong.sort_unstable();
        wrong
    }

    /// Returns how the media times of a format's packets are computed: by an RTP clock rate, or by counting packets.
    pub(in crate::render) fn clock(&self, pt: PayloadType, format: &PayloadFormat) -> MediaClock {
        self.clocks
            .get(&AnnouncedClock { pt, clock_hz: format.clock_hz })
            .copied()
            .unwrap_or(MediaClock::Clock(format.clock_hz))
    }
}

/// Arrival time and header of an RTP packet, for the timeline.
#[derive(Clone, Copy, Debug)]
pub(in crate::render) struct ArrivedPacket {
    pub(in crate::render) at: Timestamp,
    pub(in crate::render) head: RtpHeaderFields,
    /// Duration of the packet's sound, ns. `None` if the codec does not give it, SRTP hides it, or the plan does not
    /// need it.
    pub(in crate::render) length_ns: Option<i64>,
}

impl ArrivedPacket {
    /// Creates an arrived packet. The duration of its sound stays unknown, because the plan does not need it.
    pub(in crate::render) const fn without_length(packet: &PacketEntry<'_>, head: RtpHeaderFields) -> Self {
        Self { at: packet.at, head, length_ns: None }
    }

    /// Creates an arrived packet with the duration of its sound.
    pub(in crate::render) fn with_length(
        packet: &PacketEntry<'_>,
        head: RtpHeaderFields,
        known: &DecidedStream,
    ) -> Self {
        let plain = known.is_unencrypted();
        let format = known.formats.get(&head.pt).and_then(Option::as_deref).filter(|_| plain);
        let length_ns = format.and_then(|format| match packet::read_payload(packet) {
            CapturedPayload::Whole(payload) => codec::duration_ns(format, payload),
            _ => codec::duration_of_bytes(format, packet::payload_bytes(packet)?),
        });
        Self { at: packet.at, head, length_ns }
    }

    pub(super) fn timing(&self, clock: MediaClock) -> PacketTiming {
        let unit = match clock {
            MediaClock::Clock(hz) => TimingUnit::Ticks(hz),
            MediaClock::Counted { packet_ns } => TimingUnit::Packets(self.length_ns.unwrap_or(packet_ns)),
            MediaClock::Joined { clock_hz, packet_ns } => {
                TimingUnit::Joined { clock_hz, length_ns: self.length_ns.unwrap_or(packet_ns) }
            }
        };
        PacketTiming { time: self.head.time, sequence: self.head.sequence, unit }
    }
}

/// The time at which a packet's sound is played, and the segment to which it belongs. A segment is a part of the stream
/// without a gap.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::render) struct PlayoutTime {
    pub(in crate::render) at: Timestamp,
    pub(in crate::render) media_ns: i64,
    /// Index of the track (packets with about the same lag), and index of the segment in the track. Within a segment,
    /// sound continues without a gap or overlap.
    pub(in crate::render) segment: (usize, usize),
    pub(in crate::render) order: ArrivalOrder,
}

/// Maximum time for which a sender uses new keys before the SDP answer brings them into force. The sender may use them
/// from its offer on, and even a slow answer to a re-INVITE comes within seconds.
const KEYS_AHEAD: Duration = Duration::from_secs(5);
