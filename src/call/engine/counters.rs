//! Limits of the engine's tables, counters, and sizes of the tables.

/// Maximum sizes of the engine's tables. For each limit except `tombstones`, a field of [`EngineCounters`] counts how
/// often it was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// Maximum number of legs in the table. 10,000 calls through a PBX have 20,000 legs. The default is twice that,
    /// because some legs only ring.
    ///
    /// If the table is full (e.g. in a flood), a new leg replaces the oldest INVITE that has no response yet. If every
    /// INVITE has a response, the new leg is refused.
    pub legs: usize,
    /// Maximum number of payload bytes of stored RTP packets without a known leg. The default is enough for one second
    /// of media of 450 calls.
    pub early_bytes: usize,
    /// Maximum number of TCP streams with SIP. Each direction of a connection is a stream.
    pub streams: usize,
    /// Maximum number of RTP streams of all legs, 1.3 KiB each. The default is eight streams a leg on average.
    pub rtp_streams: usize,
    /// Maximum number of ended legs without media whose signalling is kept until their calls end, some KiB each. After
    /// a restart, a call lacks the legs beyond this number.
    pub kept_legs: usize,
    /// Maximum number of ended dialogs that are remembered. Their late messages begin no new call.
    pub tombstones: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            legs: 40_000,
            early_bytes: 8 << 20,
            streams: 20_000,
            rtp_streams: 320_000,
            kept_legs: 1_000,
            tombstones: 65_536,
        }
    }
}

/// Events counted since the start of the process.
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
    /// Number of RTP packets that belonged to no known leg on arrival.
    pub rtp_unclaimed: u64,
    /// Number of RTP packets in `rtp_unclaimed` that could not be stored, because they were too many or too large. If a
    /// leg announces their address later, its recording lacks them.
    pub rtp_not_kept: u64,
    /// Number of RTP packets that arrived after their leg had ended.
    pub rtp_after_end: u64,
    /// Number of RTP packets that were refused, because each would have begun a stream and the table of streams was
    /// full.
    pub rtp_refused: u64,
    /// Number of datagrams that begin with the version bits of RTP and have an otherwise invalid RTP header.
    pub rtp_broken: u64,
    /// Number of legs (SIP dialogs as captured between two hosts) that were created.
    pub legs: u64,
    /// Number of legs refused because the table was full.
    pub legs_refused: u64,
    /// Number of INVITEs without a response that were removed from the full table. Their calls have a record only if an
    /// event had announced them.
    pub legs_evicted: u64,
    /// Number of unanswered calls without a record of their own, because their source address sent too many (a scan).
    pub scan_attempts: u64,
    /// Number of calls that have ended.
    pub calls: u64,
    /// Number of datagrams that are neither SIP nor media, e.g. DNS.
    pub other: u64,
    /// Number of TCP segments refused because the table of TCP streams was full.
    pub tcp_refused: u64,
    /// Number of SIP messages over TCP or WebSocket that were skipped in whole or in part, because they were too long.
    pub sip_oversized: u64,
    /// Number of times that the wall clock was set while the recorder ran.
    pub clock_steps: u64,
    /// Number of pause and resume requests that changed the state of a recording.
    pub pause_orders: u64,
}

/// Number of entries in each of the engine's tables. Each table has a maximum size. When no call is live, only
/// `unanswered_legs`, `framers`, `tombstones`, `timed_out`, `early_bytes` and `events` can be above zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSizes {
    /// Number of legs in the call table, including ended legs of live calls.
    pub legs: usize,
    /// Number of live conversations.
    pub conversations: usize,
    /// Number of Call-IDs of live legs.
    pub call_ids: usize,
    /// Number of media addresses in the media index.
    pub media_addresses: usize,
    /// Number of flows (source, destination) that are known to belong to a leg.
    pub flows: usize,
    /// Number of different keys in the correlation index.
    pub correlation_keys: usize,
    /// Number of REFERs that may still cause an INVITE.
    pub referrals: usize,
    /// Number of timers that are set for legs and calls.
    pub timers: usize,
    /// Length of the queue of legs without a response to their INVITE. If the table of legs is full, the oldest of
    /// these legs is removed.
    pub unanswered_legs: usize,
    /// Number of TCP streams with SIP. Each direction of a connection is a stream.
    pub framers: usize,
    /// Number of ended dialogs that are remembered, because their late messages must begin no new call.
    pub tombstones: usize,
    /// Number of ended dialogs that are remembered: they ended by a media timeout (a time without media), and continue
    /// if media comes back.
    pub timed_out: usize,
    /// Number of payload bytes of RTP packets that are stored because their leg is not known yet.
    pub early_bytes: usize,
    /// Number of RTP streams that are being compared with other streams to find legs with the same sound.
    pub watched_streams: usize,
    /// Number of pairs of legs that have had equal pieces of voice.
    pub content_pairs: usize,
    /// Number of call events that wait for their receiver.
    pub events: usize,
}
