//! Decisions: what the engine decided about a leg, kept in its spool between the packets.
//!
//! Rendering obeys these and decides nothing, so a decision that came from elsewhere (another leg, a REGISTER,
//! the local API) survives in the file. Each decision has a capture time and holds for the packets stamped at or
//! after it. They are JSON in the spool; [`FORMAT`] is their version.

use serde::{Deserialize, Serialize};

use crate::call::record::{EndedBy, Side, SideRecord};
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType, Ssrc, Transport};
use crate::time::Timestamp;

/// Version of the decisions in a spool.
pub const FORMAT: u32 = 1;

/// What a payload type means (RFC 3551, RFC 8866 `rtpmap` and `fmtp`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PayloadFormat {
    /// Encoding name in upper case: `PCMA`, `TELEPHONE-EVENT`, `CN`.
    pub encoding: String,
    /// RTP clock, Hz (8000 for G722, though its sound is 16 kHz).
    pub clock_hz: u32,
    /// Channels, 1 unless announced.
    pub channels: u8,
    /// The `fmtp` parameters as written; empty when none.
    #[serde(skip_serializing_if = "String::is_empty", default)]
    pub fmtp: String,
}

impl PayloadFormat {
    /// Returns the codec that the encoding names, or `None` for an unknown encoding.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_name(&self.encoding)
    }

    /// Returns whether the encoding names this codec. Cheaper than [`PayloadFormat::codec`].
    pub fn is(&self, codec: Codec) -> bool {
        codec.is_named(&self.encoding)
    }
}

/// SRTP keys of one stream (RFC 4568). Never logged: `Debug` hides the key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpContext {
    /// `AES_CM_128_HMAC_SHA1_80`, …
    pub suite: String,
    /// Master keys and salts, base64 as in `inline:`, each with its MKI where there is one.
    pub keys: Vec<SrtpKey>,
}

/// One master key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpKey {
    /// Key and salt, base64.
    pub inline: String,
    /// Value and length in bytes of the MKI.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub mki: Option<(u64, u8)>,
}

impl std::fmt::Debug for SrtpContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SrtpContext({}, {} keys)", self.suite, self.keys.len())
    }
}

impl std::fmt::Debug for SrtpKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SrtpKey([hidden])")
    }
}

/// Why a stream cannot be decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MissingKeyReason {
    /// Keys were agreed over DTLS in the media path (RFC 5764).
    DtlsSrtp,
    /// ZRTP.
    Zrtp,
    /// SRTP whose keys the mirror did not show.
    NoKeys,
}

/// One decision about a leg.
#[expect(clippy::large_enum_variant, reason = "a leg has one `End`; a box would cost every reader a look behind it")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "snake_case")]
pub enum Decision {
    /// The first block of a leg's spool.
    Begin {
        /// [`FORMAT`].
        format: u32,
        /// Name of the leg: the stem of its file.
        leg: String,
        /// The conversation it belongs to until a `Join` says otherwise.
        conversation: String,
        /// Name of the recorder.
        appliance: String,
        /// Interface or file names.
        source: String,
        /// How its signalling travelled: in a spool every message is a UDP datagram.
        #[serde(default, skip_serializing_if = "is_default")]
        transport: Transport,
        /// What must be added to the stamps of this spool to get the wall clock, as it was when the call began.
        #[serde(default, skip_serializing_if = "is_default")]
        wall_offset_ns: i64,
    },
    /// The leg belongs to this conversation from now on.
    Join {
        /// Its id.
        conversation: String,
    },
    /// A new stream: RTP of this SSRC from `src` to `dst` is `side`'s voice, and is called `stream` in this spool.
    Stream {
        /// Number of the stream in this leg: 0, 1, ….
        stream: u32,
        /// Sender.
        src: Endpoint,
        /// Receiver.
        dst: Endpoint,
        /// SSRC.
        ssrc: Ssrc,
        /// Whose voice.
        side: Side,
    },
    /// From now on this payload type of this stream means this; `None`: nothing announced it.
    Payload {
        /// Number of the stream.
        stream: u32,
        /// Payload type, 0 to 127.
        pt: PayloadType,
        /// What it means.
        format: Option<PayloadFormat>,
    },
    /// From now on this stream is encrypted with these keys.
    Srtp {
        /// Number of the stream.
        stream: u32,
        /// The keys.
        context: SrtpContext,
    },
    /// From now on this stream is not encrypted (any more).
    Plain {
        /// Number of the stream.
        stream: u32,
    },
    /// This stream is encrypted and cannot be read.
    Encrypted {
        /// Number of the stream.
        stream: u32,
        /// Why.
        why: MissingKeyReason,
    },
    /// The wall clock was set. The times of the call stay by the clock that held when it began; who goes on after a
    /// restart needs to know.
    Clock {
        /// What must be added to the stamps of this spool to get the wall clock from now on.
        wall_offset_ns: i64,
    },
    /// From now on no payload is kept and the recording is silent.
    Pause,
    /// The end of a pause.
    Resume,
    /// The recorder was away until now. What it had counted of the leg is not known any more: who wants to know
    /// counts the packets of the spool.
    Restart {
        /// For how long nothing of the leg was heard, ms.
        away_ms: u64,
    },
    /// The recorded part of the call begins: the moment of sample 0.
    Start,
    /// The recorded part of the call ends at this decision's time: nothing after it is recorded.
    End {
        /// What ended it.
        ended_by: EndedBy,
        /// What the engine counted on the caller's side.
        caller: SideRecord,
        /// What the engine counted on the callee's side.
        callee: SideRecord,
    },
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A decision and the moment from which it holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TimedDecision {
    /// Nanoseconds of the capture timeline.
    pub at_ns: i64,
    /// What was decided.
    #[serde(flatten)]
    pub decision: Decision,
}

impl TimedDecision {
    /// The moment from which it holds.
    pub const fn at(&self) -> Timestamp {
        Timestamp::from_nanos(self.at_ns)
    }
}
