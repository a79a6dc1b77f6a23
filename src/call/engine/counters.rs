//! Bounds, counters and table sizes of the engine.

/// Bounds of the engine's tables. An [`EngineCounters`] field counts the events at each bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Most legs in the table. 10,000 calls through a PBX have 20,000 legs; the default is twice that, for legs that
    /// only ring.
    ///
    /// If the table is full (e.g. in a flood), a new leg replaces the oldest INVITE that has no response yet. If there
    /// is none, the new leg is refused.
    pub legs: usize,
    /// Most payload bytes of RTP packets that belong to no known leg yet. The default is one second of early media of
    /// 450 calls.
    pub early_bytes: usize,
    /// Most TCP directions that carry SIP.
    pub streams: usize,
    /// Most RTP streams of all legs, 1.3 KiB each. The default is eight streams a leg on average.
    pub rtp_streams: usize,
    /// Most ended dialogs that are remembered, so that their late messages begin no new call.
    pub tombstones: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { legs: 40_000, early_bytes: 8 << 20, streams: 20_000, rtp_streams: 320_000, tombstones: 65_536 }
    }
}

/// Events counted since the engine was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// SIP messages that could be parsed.
    pub sip_messages: u64,
    /// Datagrams that looked like SIP and could not be parsed.
    pub sip_rejected: u64,
    /// RTP packets of known legs, without duplicates.
    pub rtp_packets: u64,
    /// RTP duplicates, made by the mirror port or by the sender.
    pub rtp_duplicates: u64,
    /// RTP packets that belonged to no known leg when they arrived.
    pub rtp_unclaimed: u64,
    /// Part of `rtp_unclaimed`: packets that the early media buffer could not hold, because they were too many or too
    /// large. If a leg announces their address later, its recording lacks them.
    pub rtp_not_kept: u64,
    /// RTP packets that arrived after their leg had ended.
    pub rtp_after_end: u64,
    /// RTP packets that were refused, because they would have begun a stream beyond the limit of streams.
    pub rtp_refused: u64,
    /// Datagrams with an RTP version and an invalid header.
    pub rtp_broken: u64,
    /// Legs created.
    pub legs: u64,
    /// Legs refused because the table was full.
    pub legs_refused: u64,
    /// Legs evicted from the full table: INVITEs without any response. A call with such a leg leaves no record if it was
    /// never announced by an event.
    pub legs_evicted: u64,
    /// Unanswered calls that have no separate record, because their source sent too many of them.
    pub scan_attempts: u64,
    /// Calls that ended.
    pub calls: u64,
    /// Datagrams that are neither SIP nor media.
    pub other: u64,
    /// TCP segments refused because the table of TCP directions was full.
    pub tcp_refused: u64,
    /// SIP messages over TCP or WebSocket that were too long: their body or the whole message was skipped.
    pub sip_oversized: u64,
    /// Steps of the wall clock.
    pub clock_steps: u64,
    /// Pauses and resumptions that changed the state of a call.
    pub pause_orders: u64,
}

/// Number of entries in each of the engine's tables. All tables are bounded. All but the last five fields are zero when
/// no call is live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Legs.
    pub legs: usize,
    /// Conversations.
    pub conversations: usize,
    /// Call-IDs of live legs.
    pub call_ids: usize,
    /// Announced media addresses.
    pub media_addresses: usize,
    /// Flows with a cached route to a leg.
    pub flows: usize,
    /// Keys of the correlation index.
    pub correlation_keys: usize,
    /// REFERs whose INVITE may still come.
    pub referrals: usize,
    /// Armed timers.
    pub timers: usize,
    /// Legs in the queue for eviction.
    pub unanswered_legs: usize,
    /// TCP directions that carry SIP.
    pub framers: usize,
    /// Remembered dialogs that have ended.
    pub tombstones: usize,
    /// Remembered dialogs that ended by a media timeout.
    pub timed_out: usize,
    /// Payload bytes of RTP packets that belong to no known leg.
    pub early_bytes: usize,
    /// Streams whose voice is watched for content evidence.
    pub watched_streams: usize,
    /// Pairs of legs with matching content.
    pub content_pairs: usize,
    /// Events not polled yet.
    pub events: usize,
}
