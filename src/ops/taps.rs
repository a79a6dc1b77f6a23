//! Counts the traffic of each capture interface (*tap*), for the status, the metrics and the doctor.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::tap_flow::TapFlow;
use crate::capture::TapCounters;
use crate::decode::{DecodedItem, FrameDecoder, TcpStreamEvent};
use crate::net::Endpoint;
use crate::{rtp, sip};

/// Counts of SIP and RTP packets, one entry for each capture interface (tap).
#[derive(Clone, Debug, Default)]
pub(crate) struct TapTraffic {
    taps: Vec<TapTally>,
    /// Addresses of the PBXs, sorted. Packets to and from them are counted by direction; `None` if the directions are
    /// not counted.
    pbxs: Option<Vec<IpAddr>>,
}

/// Counts of SIP and RTP packets of one capture interface (tap).
#[derive(Clone, Copy, Debug, Default)]
struct TapTally {
    sip: u64,
    rtp: u64,
    to_pbx: u64,
    from_pbx: u64,
}

/// Counters of one capture interface (tap) since the start of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TapReport {
    /// Name of the capture interface, e.g. `eth1`.
    pub(crate) name: String,
    /// Whether the interface is up and the capture on it runs.
    pub(crate) is_up: bool,
    /// Number of frames captured on this interface.
    pub(crate) frames: u64,
    /// Number of SIP messages and pieces of SIP over TCP. If several taps show the same packet, only the tap that shows
    /// it first counts it.
    pub(crate) sip: u64,
    /// Number of RTP packets, including packets that arrived twice.
    pub(crate) rtp: u64,
    /// Number of packets other than RTP that were dropped because a tap had already shown the same packet shortly
    /// before.
    pub(crate) copies: u64,
    /// Number of frames dropped by the kernel because the capture buffer of this interface was full.
    pub(crate) dropped_by_kernel: u64,
    /// Number of frames dropped by the network interface.
    pub(crate) dropped_by_interface: u64,
    /// Traffic by direction, and packets a second; `None` if the directions are not counted, e.g. by the doctor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) flow: Option<TapFlow>,
}

impl TapTraffic {
    /// Sets the addresses of the PBXs, sorted. From now on, packets to and from PBXs are counted by direction.
    pub(crate) fn set_pbxs(&mut self, pbxs: Vec<IpAddr>) {
        self.pbxs = Some(pbxs);
    }

    /// Counts a datagram, or a piece of a TCP stream, that the decoder delivered.
    pub(crate) fn handle_decoded(&mut self, decoded: &DecodedItem<'_>) {
        match decoded {
            DecodedItem::Datagram(datagram) => match rtp::classify(datagram.payload) {
                rtp::MediaPacketKind::Rtp => {
                    self.count(datagram.interface, (datagram.src, datagram.dst), |tally| tally.rtp += 1);
                }
                rtp::MediaPacketKind::Other if sip::looks_like_sip(datagram.payload) => {
                    self.count(datagram.interface, (datagram.src, datagram.dst), |tally| tally.sip += 1);
                }
                _ => {}
            },
            // The decoder delivers only TCP streams that carry SIP, so each piece of a stream counts as SIP.
            DecodedItem::Stream(chunk) if matches!(chunk.event, TcpStreamEvent::Data(_)) => {
                self.count(chunk.interface, (chunk.src, chunk.dst), |tally| tally.sip += 1);
            }
            DecodedItem::Stream(_) => {}
        }
    }

    /// Returns a report for each capture interface (tap) of a source.
    pub(crate) fn report(&self, taps: Vec<TapCounters>, decoder: &FrameDecoder) -> Vec<TapReport> {
        let report = |(interface, tap): (u32, TapCounters)| {
            let tally = self.taps.get(interface as usize).copied().unwrap_or_default();
            let flow = self.pbxs.as_ref().map(|_| TapFlow::of_packets(tally.to_pbx, tally.from_pbx));
            TapReport {
                name: tap.name,
                is_up: tap.is_up,
                frames: tap.frames,
                sip: tally.sip,
                rtp: tally.rtp,
                copies: decoder.copies_at(interface),
                dropped_by_kernel: tap.dropped_by_kernel,
                dropped_by_interface: tap.dropped_by_interface,
                flow,
            }
        };
        (0..).zip(taps).map(report).collect()
    }

    /// Counts a packet of an interface between two endpoints: the sender and the receiver.
    fn count(&mut self, interface: u32, (src, dst): (Endpoint, Endpoint), add: impl FnOnce(&mut TapTally)) {
        let index = interface as usize;
        if index >= MAX_TAPS {
            return;
        }
        if index >= self.taps.len() {
            self.taps.resize(index + 1, TapTally::default());
        }
        let pbxs = self.pbxs.as_deref().unwrap_or_default();
        let is_pbx = |endpoint: Endpoint| !pbxs.is_empty() && pbxs.binary_search(&endpoint.ip()).is_ok();
        let tally = &mut self.taps[index];
        tally.to_pbx += u64::from(is_pbx(dst));
        tally.from_pbx += u64::from(is_pbx(src));
        add(tally);
    }
}

impl TapReport {
    /// Returns whether the tap showed traffic of calls, including packets that another tap showed before.
    pub(crate) const fn shows_calls(&self) -> bool {
        self.sip + self.rtp + self.copies > 0
    }

    /// Returns the number of frames of this interface that the kernel or the network card of the recorder lost.
    pub(crate) const fn lost(&self) -> u64 {
        self.dropped_by_kernel + self.dropped_by_interface
    }
}

/// Maximum number of interfaces that have their own counters. The limit is needed because a capture file can name any
/// number of interfaces.
const MAX_TAPS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Endpoint;
    use crate::time::Timestamp;

    #[test]
    fn each_tap_counts_its_own_sip_and_rtp() {
        let mut traffic = TapTraffic::default();
        traffic.set_pbxs(vec![[10, 0, 0, 2].into()]);
        let rtp: Vec<u8> = [&[0x80, 8, 0, 1, 0, 0, 0, 1, 0, 0, 0, 7], [0; 160].as_slice()].concat();
        let sip = b"OPTIONS sip:a@b SIP/2.0\r\nCall-ID: x\r\n\r\n";
        for (interface, payload) in [(0, &sip[..]), (1, &rtp), (1, &rtp), (u32::MAX, &rtp)] {
            traffic.handle_decoded(&DecodedItem::Datagram(crate::decode::UdpDatagram {
                at: Timestamp::EPOCH,
                src: Endpoint::v4([10, 0, 0, 1], 5060),
                dst: Endpoint::v4([10, 0, 0, 2], 5060),
                payload,
                wire_len: payload.len() as u32,
                interface,
            }));
        }
        let tap = |name: &str| TapCounters { name: name.into(), is_up: true, ..TapCounters::default() };
        let taps = traffic.report(vec![tap("eth1"), tap("eth2"), tap("eth3")], &FrameDecoder::new());
        let counts: Vec<_> = taps.iter().map(|tap| (tap.sip, tap.rtp, tap.shows_calls())).collect();
        assert_eq!(counts, [(1, 0, true), (0, 2, true), (0, 0, false)]);
        let ways: Vec<_> =
            taps.iter().filter_map(|tap| tap.flow).map(|f| (f.to_pbx.packets, f.from_pbx.packets)).collect();
        assert_eq!(ways, [(1, 0), (2, 0), (0, 0)]);
    }
}
