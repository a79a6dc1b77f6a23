//! Circumstances of a call that must not change its sound: network, early media, forks, holds, session refreshes.

use callspan::call::record::Side;
use fastrand::Rng;

use crate::support::packets;
use crate::support::phones::{MirroredTraffic, RecordedCall, frames, record, record_frames};
use crate::support::rewrite;

/// The circumstances of a call: its network and its story.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CallSetting {
    pub network: CallNetwork,
    pub story: CallStory,
}

/// How the packets of a call reach the recorder.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum CallNetwork {
    /// The engine gets the datagrams directly, without a capture file.
    #[default]
    Datagrams,
    /// A capture file with IPv4 addresses.
    Ipv4,
    /// A capture file with IPv6 addresses.
    Ipv6,
    /// A capture file with SIP over TCP, in segments of at most `cut` bytes.
    Tcp { cut: usize },
    /// A capture file with a VLAN tag on each frame.
    Vlan,
    /// A capture file in which TCP segments replace the datagrams to and from this port.
    TcpAt { port: u16 },
}

/// Messages of a call in addition to INVITE, answer and BYE.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum CallStory {
    #[default]
    Plain,
    /// The callee sends sound before it answers.
    EarlyMedia,
    /// Before the callee answers, another telephone sends a provisional response.
    Forked,
    /// A re-INVITE at `at_ms` repeats the same session descriptions.
    Refreshed { at_ms: f64 },
    /// One side holds the call from `from_ms` to `to_ms`. Both sides send nothing in this time.
    Held { by: Side, from_ms: f64, to_ms: f64 },
}

impl CallSetting {
    /// Returns random circumstances.
    pub fn random(random: &mut Rng) -> Self {
        let at_ms = 1_500.0 + 2_500.0 * random.f64();
        let story = match random.u8(0..8) {
            0 => CallStory::EarlyMedia,
            1 => CallStory::Forked,
            2 => CallStory::Refreshed { at_ms },
            3 => {
                let by = if random.bool() { Side::Caller } else { Side::Callee };
                CallStory::Held { by, from_ms: at_ms, to_ms: at_ms + 200.0 + 600.0 * random.f64() }
            }
            _ => CallStory::Plain,
        };
        Self { story, ..Self::before_answer(random) }
    }

    /// Returns random circumstances that change nothing after the answer.
    pub fn before_answer(random: &mut Rng) -> Self {
        let network = match random.u8(0..8) {
            0 => CallNetwork::Ipv4,
            1 => CallNetwork::Ipv6,
            2 => CallNetwork::Tcp { cut: random.usize(40..1_400) },
            3 => CallNetwork::Vlan,
            _ => CallNetwork::Datagrams,
        };
        let story = match random.u8(0..6) {
            0 => CallStory::EarlyMedia,
            1 => CallStory::Forked,
            _ => CallStory::Plain,
        };
        Self { network, story }
    }
}

impl CallStory {
    /// Adds the messages to the call. `descriptions` are the session descriptions of caller and callee.
    pub fn tell(self, wire: &mut MirroredTraffic, descriptions: &[String; 2]) {
        let [caller, callee] = descriptions;
        match self {
            Self::Plain => {}
            Self::EarlyMedia => wire.provisional(300.0, "b", callee),
            Self::Forked => {
                wire.provisional(250.0, "c", &callee.replace("m=audio 40", "m=audio 41"));
                wire.provisional(400.0, "b", callee);
            }
            Self::Refreshed { at_ms } => {
                wire.offer(at_ms, caller);
                wire.accept(at_ms + 30.0, callee);
            }
            Self::Held { by, from_ms, to_ms } => {
                let [own, other] = [by, by.other()].map(|side| &descriptions[side.channel()]);
                let with = |text: &str, direction: &str| text.replace("t=0 0", &format!("t=0 0\r\na={direction}"));
                wire.offer_of(by, from_ms - 20.0, &with(own, "sendonly"));
                wire.accept(from_ms - 5.0, &with(other, "recvonly"));
                wire.offer_of(by, to_ms - 20.0, own);
                wire.accept(to_ms - 5.0, other);
            }
        }
    }

    /// Returns whether both sides send nothing at a moment.
    pub fn is_silent_at(self, ms: f64) -> bool {
        matches!(self, Self::Held { from_ms, to_ms, .. } if (from_ms..to_ms).contains(&ms))
    }
}

impl CallNetwork {
    /// Records the call as this network delivers it.
    pub fn record(self, wire: MirroredTraffic) -> RecordedCall {
        let frames = match self {
            Self::Datagrams => return record(wire),
            _ => frames(&wire.sorted()),
        };
        record_frames(&match self {
            Self::Datagrams | Self::Ipv4 => frames,
            Self::Ipv6 => rewrite::ipv6(&frames),
            Self::Tcp { cut } => rewrite::with_syns(&packets::sip_over_tcp(&frames, 5060, cut)),
            Self::TcpAt { port } => rewrite::with_syns(&packets::sip_over_tcp(&frames, port, 1_400)),
            Self::Vlan => packets::each(&frames, |data| vec![packets::tagged(data, &[(0x8100, 7)])]),
        })
    }
}
