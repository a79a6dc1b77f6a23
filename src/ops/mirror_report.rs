//! State of the mirror port in the status file: the directions that it shows, repeated packets, and tunnels.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::doctor::traffic::{HostPairs, TrafficSummary};
use crate::call::engine::EngineCounters;
use crate::decode::counters::DecodeCounters;

/// State of the mirror port, as `callspan status` and the health page show it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct MirrorReport {
    /// Directions of the traffic in the last finished window, i.e. period of `alerts.mirror_window_minutes`; `None`
    /// until the first window has finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) directions: Option<MirrorDirections>,
    /// Number of packets since the start that arrived more than once, from the mirror port or from their sender.
    pub(crate) copies: u64,
    /// Number of packets since the start in each kind of tunnel and in frames with VLAN tags, by name of the kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) tunnels: BTreeMap<String, u64>,
}

/// Numbers of pairs of hosts with packets in both directions or in one direction only, for SIP and for RTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorDirections {
    /// Pairs of hosts that exchange SIP, counted by the directions that the mirror port shows.
    pub(crate) sip: DirectionCounts,
    /// Pairs of hosts that exchange RTP, counted by the directions that the mirror port shows.
    pub(crate) rtp: DirectionCounts,
}

/// Numbers of pairs of hosts by the directions that the mirror port shows between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirectionCounts {
    /// Number of pairs of hosts with enough packets to judge their directions.
    pub(crate) pairs: u64,
    /// Number of pairs of hosts, among those counted in `pairs`, that have packets in one direction only.
    pub(crate) one_way: u64,
}

impl MirrorReport {
    /// Creates a report from the counters of engine and decoder.
    pub(crate) fn of(directions: Option<MirrorDirections>, engine: &EngineCounters, decode: &DecodeCounters) -> Self {
        let mut tunnels: BTreeMap<_, _> =
            decode.tunnels.by_name().into_iter().map(|(name, packets)| (name.to_owned(), packets)).collect();
        let tagged = decode.vlan_depth[1..].iter().sum::<u64>();
        if tagged > 0 {
            tunnels.insert(String::from("VLAN"), tagged);
        }
        Self { directions, copies: decode.duplicates + engine.rtp_duplicates, tunnels }
    }
}

impl MirrorDirections {
    /// Creates the counts from the summary of the traffic in one window, i.e. period of `alerts.mirror_window_minutes`.
    pub(crate) const fn of(traffic: &TrafficSummary) -> Self {
        Self { sip: DirectionCounts::of(&traffic.sip_ways), rtp: DirectionCounts::of(&traffic.rtp_ways) }
    }
}

impl DirectionCounts {
    const fn of(ways: &HostPairs) -> Self {
        Self { pairs: ways.pairs, one_way: ways.one_way }
    }
}
