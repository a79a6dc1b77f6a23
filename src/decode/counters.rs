//! Counters of the decoder: drops by reason, and statistics about the captured traffic.

/// Counters of the decoder since the start. No error that is counted here stops the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounters {
    /// Number of frames received from the capture source.
    pub(crate) frames: u64,
    /// Number of frames that the snap length of the capture truncated.
    pub(crate) cut_frames: u64,
    /// Length of the longest frame on the wire, bytes. It exceeds the MTU if the network card merges packets (GRO,
    /// LRO).
    pub(crate) longest_frame: u32,
    /// Number of IPv4 packets with length 0. They were captured on the sending host before its network card segmented
    /// them (TSO).
    pub(crate) zero_length: u64,
    /// Number of Ethernet and cooked frames with 0, 1, 2, and 3 or more VLAN tags. Frames in tunnels are included.
    pub(crate) vlan_depth: [u64; 4],
    /// Number of IPv4 packets. A packet in a tunnel and the packet around it count as two.
    pub(crate) ipv4: u64,
    /// Number of IPv6 packets. A packet in a tunnel and the packet around it count as two.
    pub(crate) ipv6: u64,
    /// Number of UDP datagrams, without those that carry a tunnel.
    pub(crate) udp: u64,
    /// Number of TCP segments.
    pub(crate) tcp: u64,
    /// Number of IP fragments.
    pub fragments: u64,
    /// Number of datagrams that were reassembled from fragments.
    pub(crate) reassembled: u64,
    /// Number of packets dropped because the mirror delivered them twice. RTP is not included, because the call engine
    /// finds RTP duplicates.
    pub duplicates: u64,
    /// Counts of tunnelled packets by tunnel protocol.
    pub tunnels: TunnelCounters,
    /// Counts of TCP streams by their content.
    pub streams: TcpStreamCounters,
    /// SIP packets behind headers that the decoder cannot remove.
    pub(crate) wrapped: WrappedSip,
    /// Counts of dropped data by reason.
    pub(crate) dropped: DecodeDrops,
}

/// SIP that was found behind a header that the decoder cannot remove. A mirror, or an access network, may have added
/// the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WrappedSip {
    /// Number of packets with SIP behind a header that the decoder cannot remove.
    pub(crate) packets: u64,
    /// The first header that the decoder could not remove although SIP follows it; `None` if there was none.
    pub(crate) wrapper: Option<UndoneWrapper>,
}

/// A header around packets that the decoder cannot remove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UndoneWrapper {
    /// A protocol directly above the link layer, by its EtherType.
    EtherType(u16),
    /// A protocol directly above IP, by its number.
    IpProtocol(u8),
    /// A protocol above UDP, by its destination port.
    UdpPort(u16),
    /// HEP version 3, which an agent sends to a Homer server.
    Hep,
}

/// Numbers of packets in tunnels, by tunnel protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// Packets in GRE that carries IP, Ethernet or MPLS (RFC 2784, 2890).
    pub gre: u64,
    /// Packets in ERSPAN type I, which has no ERSPAN header.
    pub erspan1: u64,
    /// Packets in ERSPAN type II.
    pub erspan2: u64,
    /// Packets in ERSPAN type III.
    pub erspan3: u64,
    /// Packets in VXLAN (RFC 7348).
    pub vxlan: u64,
    /// Packets in GENEVE (RFC 8926).
    pub geneve: u64,
    /// Packets in the TaZmen Sniffer Protocol, which MikroTik mirrors use.
    pub tzsp: u64,
    /// Packets in IP in IP (RFC 2003, 2473, 4213).
    pub ip_in_ip: u64,
    /// Packets in PPPoE sessions (RFC 2516).
    pub pppoe: u64,
    /// Packets in MPLS (RFC 3032), including Ethernet pseudowires (RFC 4448).
    pub mpls: u64,
    /// Packets in GTP-U, the tunnel of mobile networks (3GPP TS 29.281).
    pub gtp_u: u64,
    /// Packets in the remote mirroring of HP and Aruba switches.
    pub hp_erm: u64,
    /// Packets in L2TP version 2 and 3 (RFC 2661, 3931).
    pub l2tp: u64,
    /// Packets in Teredo, i.e. IPv6 in UDP over IPv4 (RFC 4380).
    pub teredo: u64,
    /// Frames in other frames: FabricPath, provider backbone bridging (IEEE 802.1ah), NSH (RFC 8300).
    pub mac_in_mac: u64,
    /// Tags that switches add, other than VLAN tags: VN-Tag, E-TAG, Cisco MetaData.
    pub switch_tags: u64,
    /// Media packets relayed by TURN (RFC 8656).
    pub turn: u64,
}

impl TunnelCounters {
    /// Returns the kinds of tunnels in the traffic by name, each with its number of packets.
    pub(crate) fn by_name(&self) -> Vec<(&'static str, u64)> {
        let all = [
            ("GRE", self.gre),
            ("ERSPAN type I", self.erspan1),
            ("ERSPAN type II", self.erspan2),
            ("ERSPAN type III", self.erspan3),
            ("VXLAN", self.vxlan),
            ("GENEVE", self.geneve),
            ("TZSP", self.tzsp),
            ("IP in IP", self.ip_in_ip),
            ("PPPoE", self.pppoe),
            ("MPLS", self.mpls),
            ("GTP-U", self.gtp_u),
            ("HP remote mirror", self.hp_erm),
            ("L2TP", self.l2tp),
            ("Teredo", self.teredo),
            ("frames in frames", self.mac_in_mac),
            ("VN-Tag, E-TAG or Cisco MetaData", self.switch_tags),
            ("TURN", self.turn),
        ];
        all.into_iter().filter(|(_, packets)| *packets > 0).collect()
    }
}

/// Numbers of TCP streams by their content, and numbers of their segments. A stream is one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStreamCounters {
    /// Number of TCP streams that were reassembled because they carry SIP.
    pub(crate) followed: u64,
    /// Number of TCP streams that were ignored because they do not carry SIP.
    pub(crate) ignored: u64,
    /// Number of TCP streams that begin with a TLS handshake. Signalling in them cannot be read.
    pub(crate) tls: u64,
    /// Number of TLS streams on port 5061, the port of SIP over TLS (RFC 3261 section 19.1.2).
    pub(crate) sips: u64,
    /// Number of TCP streams that carry RTP (RFC 4571), which are not recorded.
    pub(crate) rtp: u64,
    /// Number of gaps in TCP streams that no segment filled in time. Their bytes are lost.
    pub gaps: u64,
    /// Number of retransmitted or overlapping TCP segments.
    pub(crate) retransmitted: u64,
    /// Number of TCP segments that arrived while an earlier segment of the same stream was missing.
    pub(crate) out_of_order: u64,
    /// Number of TCP streams that were dropped because the table of streams was full.
    pub(crate) evicted: u64,
}

/// Numbers of dropped packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DecodeDrops {
    /// The frame ended inside a link, tunnel or transport header.
    pub(crate) short: u64,
    /// The decoder does not support the link type of the frame.
    pub(crate) unknown_link: u64,
    /// The EtherType is not supported, e.g. ARP, spanning tree or LLDP.
    pub(crate) unknown_ethertype: u64,
    /// The frame had more VLAN tags, MPLS labels or IPv6 extension headers than are accepted.
    pub(crate) too_deep: u64,
    /// The packet was in too many nested tunnels.
    pub(crate) tunnel_depth: u64,
    /// The IP header was invalid.
    pub(crate) bad_ip_header: u64,
    /// The IP packet carried neither UDP nor TCP nor a tunnel.
    pub(crate) other_protocol: u64,
    /// The packet was encrypted by IPsec ESP (RFC 4303).
    pub(crate) esp: u64,
    /// The frame was encrypted between two switches or cards by MACsec (IEEE 802.1AE).
    pub(crate) macsec: u64,
    /// The packet was SCTP from or to a port of SIP (RFC 4168).
    pub(crate) sip_sctp: u64,
    /// The tunnel header had an unsupported type or version.
    pub(crate) unknown_tunnel: u64,
    /// The UDP length contradicted the IP length. The datagram is counted but not dropped: the IP length is used.
    pub(crate) bad_udp_length: u64,
    /// The TCP header was invalid.
    pub(crate) bad_tcp_header: u64,
    /// A fragment was truncated by the snap length, so its datagram cannot be reassembled.
    pub(crate) cut_fragment: u64,
    /// The fragment had an impossible offset or length.
    pub(crate) bad_fragment: u64,
    /// The fragments of an IPv6 datagram overlapped, so that the datagram was dropped (RFC 5722).
    pub(crate) overlapping_fragments: u64,
    /// A fragment of the datagram was still missing at the maximum age.
    pub(crate) fragment_timeout: u64,
    /// Fragments took too much memory, so that the datagram was dropped.
    pub(crate) fragment_limit: u64,
}
