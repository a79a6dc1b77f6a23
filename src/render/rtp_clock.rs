//! Follows one stream's stamps: 32-bit RTP time becomes media time, and packets fall into tracks.
//!
//! *Media time* is the stream's own time in nanoseconds since its first packet. The *lag* of a packet is its arrival
//! minus its media time: constant but for jitter and drift while the sender's stamps run on. Where the stamps mean
//! nothing, packets are counted by their numbers and lengths instead. A *track* is a set of
//! packets with about the same lag; stamps that jump (a reset, a pause that they do not count) begin a new one.
//! Both passes of rendering follow the same packets in the same order and so get the same tracks.

/// Where a packet falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    /// Media time, ns.
    pub(super) media_ns: i64,
    /// Arrival (ns since the stream's first packet) minus media time.
    pub(super) lag_ns: i64,
    /// Number of the track.
    pub(super) track: usize,
    /// Number of the packet in its track.
    pub(super) index: u32,
}

/// The state of following one stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Follower {
    /// Clock in use, and time and media time where it was taken up.
    base: Option<Base>,
    tracks: Vec<Tail>,
    /// Numbers of the two tracks heard last, the newest first.
    recent: [Option<usize>; 2],
}

/// What a packet says about its place in the stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// RTP time.
    pub(super) time: u32,
    /// Sequence number.
    pub(super) sequence: u16,
    /// What of it counts.
    pub(super) scale: Scale,
}

/// What tells how far two packets are apart.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scale {
    /// Their RTP time, of so many Hz.
    Time(u32),
    /// Their numbers: the sound of this one is so long (ns).
    Number(i64),
}

#[derive(Clone, Copy, Debug)]
struct Base {
    clock_hz: u32,
    media_ns: i64,
    /// Ticks since the clock was taken up.
    ticks: i64,
    last: Stamp,
}

#[derive(Clone, Copy, Debug)]
struct Tail {
    lag_ns: i64,
    packets: u32,
}

impl Follower {
    /// Takes in a packet; `at_ns` is its arrival since the stream's first packet.
    pub(super) fn handle_packet(&mut self, at_ns: i64, stamp: Stamp) -> Followed {
        let media_ns = self.media(at_ns, stamp);
        let lag_ns = at_ns - media_ns;
        let fits = |&track: &usize| (self.tracks[track].lag_ns - lag_ns).abs() < SAME_TRACK_NS;
        let track = match self.recent.iter().flatten().copied().find(|track| fits(track)) {
            Some(track) => track,
            None if self.tracks.len() >= MAX_TRACKS => self.tracks.len() - 1,
            None => {
                self.tracks.push(Tail { lag_ns, packets: 0 });
                self.tracks.len() - 1
            }
        };
        if self.recent[0] != Some(track) {
            self.recent = [Some(track), self.recent[0]];
        }
        let tail = &mut self.tracks[track];
        tail.lag_ns = lag_ns;
        let index = tail.packets;
        tail.packets = tail.packets.saturating_add(1);
        Followed { media_ns, lag_ns, track, index }
    }

    /// Number of the packet heard last in a track.
    pub(super) fn newest(&self, track: usize) -> u32 {
        self.tracks.get(track).map_or(0, |tail| tail.packets.saturating_sub(1))
    }

    fn media(&mut self, at_ns: i64, stamp: Stamp) -> i64 {
        let base = self.base.get_or_insert(Base { clock_hz: 1, media_ns: at_ns, ticks: 0, last: stamp });
        let last = std::mem::replace(&mut base.last, stamp);
        match stamp.scale {
            Scale::Time(clock_hz) => {
                let clock_hz = clock_hz.max(1);
                if base.clock_hz != clock_hz {
                    // RFC 7160: from here the stamps count another clock.
                    base.settle();
                    base.clock_hz = clock_hz;
                }
                // RFC 3550 section 5.1: modulo 2^32; the nearer way round, so order of arrival does not matter.
                base.ticks += i64::from(stamp.time.wrapping_sub(last.time) as i32);
            }
            Scale::Number(length_ns) => {
                base.settle();
                let steps = i64::from(stamp.sequence.wrapping_sub(last.sequence) as i16);
                // What lies between two packets is as long as the earlier of them.
                let earlier_ns = match last.scale {
                    Scale::Number(last_ns) if steps > 0 => last_ns,
                    _ => length_ns,
                };
                base.media_ns = base.media_ns.saturating_add(steps.saturating_mul(earlier_ns));
            }
        }
        base.media_ns + ticks_to_ns(base.ticks, base.clock_hz)
    }
}

impl Base {
    /// Media time up to here no longer depends on a clock.
    fn settle(&mut self) {
        let so_far = self.media_ns.saturating_add(ticks_to_ns(self.ticks, self.clock_hz));
        self.media_ns = so_far.clamp(-MAX_MEDIA_NS, MAX_MEDIA_NS);
        self.ticks = 0;
    }
}

fn ticks_to_ns(ticks: i64, clock_hz: u32) -> i64 {
    // 292 years of stamps: only a stream of jumps for years could get there.
    scaled(ticks, 1_000_000_000, clock_hz.into()).unwrap_or(0).clamp(-MAX_MEDIA_NS, MAX_MEDIA_NS)
}

/// `value * by / per`, rounded to zero; `None` where it does not fit. Done for each packet, and a division of 128 bits
/// takes several times as long as one of 64, in which nearly all of these have room.
pub(super) fn scaled(value: i64, by: i64, per: i64) -> Option<i64> {
    match value.checked_mul(by) {
        Some(product) => product.checked_div(per),
        None => i64::try_from((i128::from(value) * i128::from(by)).checked_div(per.into())?).ok(),
    }
}

/// Lags nearer than this are one track: more than the jitter of any network that carries speech.
const SAME_TRACK_NS: i64 = 200_000_000;
/// Keeps sums of media times far from overflow.
const MAX_MEDIA_NS: i64 = i64::MAX / 8;
/// Tracks of one stream: a reset at each hold of a day's call. Stamps that jump more often mean nothing.
const MAX_TRACKS: usize = 4_096;
