//! Limits of the engine's tables, counters, and sizes of the tables.

/// Limits of the engine's tables. For each limit, a field of [`EngineCounters`] counts how often it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Maximum number of legs in the table. 10,000 calls through a PBX have 20,000 legs; the default is twice that, for
    /// legs that only ring.
    ///
    /// If the table is full (e.g. in a flood), a new leg replaces the oldest INVITE that has no response yet. If there
    /// is none, the new leg is refused.
    pub legs: usize,
    /// Maximum payload of RTP packets that belong to no known leg yet, bytes. The default is one second of early media
    /// of 450 calls.
    pub early_bytes: usize,
    /// Maximum number of TCP streams (directions of connections) that carry SIP.
    pub streams: usize,
    /// Maximum number of RTP streams of all legs, 1.3 KiB each. The default is eight streams a leg on average.
    pub rtp_streams: usize,
    /// Maximum number of ended dialogs that are remembered, so that their late messages begin no new call.
    pub tombstones: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self { legs: 40_000, early_bytes: 8 << 20, streams: 20_000, rtp_streams: 320_000, tombstones: 65_536 }
    }
}

/// Events counted since the engine was created, i.e. since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineCounters {
    /// Number of SIP messages that could be parsed.
    pub sip_messages: u64,
    /// Number of datagrams that looked like SIP and could not be parsed.
    pub sip_rejected: u64,
    /// Number of RTP packets of known legs, without duplicates.
    pub rtp_packets: u64,
    /// Number of RTP packets that arrived twice, because the mirror port or the sender duplicated them.
    pub rtp_duplicates: u64,
    /// Number of RTP packets that belonged to no known leg when they arrived.
    pub rtp_unclaimed: u64,
    /// Number of packets in `rtp_unclaimed` that the early media buffer could not store, because they were too many or
    /// too large. If a leg announces their address later, they are missing in its recording.
    pub rtp_not_kept: u64,
    /// Number of RTP packets that arrived after their leg had ended.
    pub rtp_after_end: u64,
    /// Number of RTP packets that were refused, because they would have begun a stream beyond the limit of streams.
    pub rtp_refused: u64,
    /// Number of datagrams that have an RTP version but an invalid header.
    pub rtp_broken: u64,
    /// Number of legs that were created.
    pub legs: u64,
    /// Number of legs refused because the table was full.
    pub legs_refused: u64,
    /// Number of INVITEs without any response that were evicted from the full table. If no event had announced such a
    /// call, it has no record.
    pub legs_evicted: u64,
    /// Number of unanswered calls that have no record of their own, because their source address sent too many.
    pub scan_attempts: u64,
    /// Number of calls that have ended.
    pub calls: u64,
    /// Number of datagrams that are neither SIP nor media, e.g. DNS.
    pub other: u64,
    /// Number of TCP segments refused because the table of TCP streams was full.
    pub tcp_refused: u64,
    /// Number of SIP messages over TCP or WebSocket that were too long: their body or the whole message was skipped.
    pub sip_oversized: u64,
    /// Number of times that the wall clock was set.
    pub clock_steps: u64,
    /// Number of pause and resume requests that changed the state of a call.
    pub pause_orders: u64,
}

/// Number of entries in each of the engine's tables. All tables are bounded. When no call is live, all fields except
/// the last five are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Number of legs in the call table, ended ones included.
    pub legs: usize,
    /// Number of live conversations.
    pub conversations: usize,
    /// Number of Call-IDs of live legs.
    pub call_ids: usize,
    /// Number of media addresses in the media index.
    pub media_addresses: usize,
    /// Number of flows whose leg is remembered.
    pub flows: usize,
    /// Number of different keys in the correlation index.
    pub correlation_keys: usize,
    /// Number of REFERs whose INVITE may still come.
    pub referrals: usize,
    /// Number of timers that are set for legs and calls.
    pub timers: usize,
    /// Number of legs in the queue from which legs are evicted when the table is full.
    pub unanswered_legs: usize,
    /// Number of directions of TCP connections that carry SIP.
    pub framers: usize,
    /// Number of remembered dialogs that have ended.
    pub tombstones: usize,
    /// Number of remembered dialogs that ended by a media timeout and may continue.
    pub timed_out: usize,
    /// Number of stored payload bytes of RTP packets that belong to no known leg yet.
    pub early_bytes: usize,
    /// Number of streams whose voice is compared with others for content evidence.
    pub watched_streams: usize,
    /// Number of pairs of legs with matching voice blocks.
    pub content_pairs: usize,
    /// Number of call events that wait for their receiver.
    pub events: usize,
}
