//! Counters of the decoder: drops by reason, and statistics about the captured traffic.

/// Counters since the start. Nothing that is counted here stops the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounters {
    /// Frames received from the capture source.
    pub(crate) frames: u64,
    /// Frames truncated by the snap length.
    pub(crate) cut_frames: u64,
    /// Length of the longest frame on the wire, bytes. It exceeds the MTU if the network card merges packets (GRO,
    /// LRO).
    pub(crate) longest_frame: u32,
    /// IPv4 packets with length 0: they were captured on the sending host before its network card segmented them (TSO).
    pub(crate) zero_length: u64,
    /// Ethernet and cooked frames by the number of VLAN tags: 0, 1, 2, 3 and more. Includes tunnelled frames.
    pub(crate) vlan_depth: [u64; 4],
    /// IPv4 packets. A tunnelled packet and the packet around it count separately.
    pub(crate) ipv4: u64,
    /// IPv6 packets, counted like IPv4 packets.
    pub(crate) ipv6: u64,
    /// UDP datagrams, without those that carry a tunnel.
    pub(crate) udp: u64,
    /// TCP segments.
    pub(crate) tcp: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Datagrams reassembled from fragments.
    pub(crate) reassembled: u64,
    /// Packets dropped because the mirror delivered them twice. RTP duplicates are not included, because the engine
    /// finds them.
    pub duplicates: u64,
    /// Counters of tunnelled packets.
    pub tunnels: TunnelCounters,
    /// Counters of TCP streams.
    pub streams: TcpStreamCounters,
    /// Counters of dropped data, by reason.
    pub(crate) dropped: DecodeDrops,
}

/// Tunnelled packets by tunnel protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// GRE that carries IP, Ethernet or MPLS (RFC 2784, 2890).
    pub gre: u64,
    /// ERSPAN type I, without an ERSPAN header.
    pub erspan1: u64,
    /// ERSPAN type II.
    pub erspan2: u64,
    /// ERSPAN type III.
    pub erspan3: u64,
    /// VXLAN (RFC 7348).
    pub vxlan: u64,
    /// GENEVE (RFC 8926).
    pub geneve: u64,
    /// TaZmen Sniffer Protocol, used by MikroTik mirrors.
    pub tzsp: u64,
    /// IP in IP (RFC 2003, 2473, 4213).
    pub ip_in_ip: u64,
    /// PPPoE sessions (RFC 2516).
    pub pppoe: u64,
    /// MPLS (RFC 3032), including Ethernet pseudowires (RFC 4448).
    pub mpls: u64,
    /// GTP-U (3GPP TS 29.281).
    pub gtp_u: u64,
    /// Remote mirroring of HP and Aruba switches.
    pub hp_erm: u64,
    /// L2TP version 2 and 3 (RFC 2661, 3931).
    pub l2tp: u64,
    /// Teredo (RFC 4380).
    pub teredo: u64,
    /// Frames in frames: FabricPath, provider backbone bridging (IEEE 802.1ah), NSH (RFC 8300).
    pub mac_in_mac: u64,
    /// Tags of switches other than VLANs: VN-Tag, E-TAG, Cisco MetaData.
    pub switch_tags: u64,
    /// Media packets relayed by TURN (RFC 8656).
    pub turn: u64,
}

/// TCP streams by result. A stream is one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStreamCounters {
    /// Streams followed because their first bytes may be SIP.
    pub(crate) followed: u64,
    /// Streams that were ignored, because their first bytes are not SIP.
    pub(crate) ignored: u64,
    /// Streams that begin with a TLS handshake. Signalling in them cannot be read.
    pub(crate) tls: u64,
    /// TLS streams on port 5061, the port of SIP over TLS (RFC 3261 section 19.1.2).
    pub(crate) sips: u64,
    /// Streams that carry RTP (RFC 4571), which are not recorded.
    pub(crate) rtp: u64,
    /// Gaps in a stream that were given up, because no segment filled them. Their bytes are lost.
    pub gaps: u64,
    /// Retransmitted or overlapping segments.
    pub(crate) retransmitted: u64,
    /// Segments that arrived after a later segment of the same stream.
    pub(crate) out_of_order: u64,
    /// Streams forgotten because the table was full.
    pub(crate) evicted: u64,
}

/// Dropped packets by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DecodeDrops {
    /// The frame ends inside a link, tunnel or transport header.
    pub(crate) short: u64,
    /// Unsupported link type.
    pub(crate) unknown_link: u64,
    /// Unsupported EtherType, e.g. ARP, spanning tree or LLDP.
    pub(crate) unknown_ethertype: u64,
    /// More VLAN tags, MPLS labels or IPv6 extension headers than supported.
    pub(crate) too_deep: u64,
    /// Packets in more nested tunnels than supported.
    pub(crate) tunnel_depth: u64,
    /// Invalid IP header.
    pub(crate) bad_ip_header: u64,
    /// IP packets that carry neither UDP nor TCP nor a tunnel.
    pub(crate) other_protocol: u64,
    /// IPsec ESP: encrypted (RFC 4303).
    pub(crate) esp: u64,
    /// MACsec: encrypted between two switches or cards (IEEE 802.1AE).
    pub(crate) macsec: u64,
    /// SCTP packets from or to a port of SIP (RFC 4168).
    pub(crate) sip_sctp: u64,
    /// Tunnel header of an unsupported type or version.
    pub(crate) unknown_tunnel: u64,
    /// UDP length that contradicts the IP length. The datagram is used with the IP length.
    pub(crate) bad_udp_length: u64,
    /// Invalid TCP header.
    pub(crate) bad_tcp_header: u64,
    /// Fragments truncated by the snap length: their datagram cannot be reassembled.
    pub(crate) cut_fragment: u64,
    /// Fragments with impossible offsets or lengths.
    pub(crate) bad_fragment: u64,
    /// IPv6 datagrams dropped because their fragments overlap (RFC 5722).
    pub(crate) overlapping_fragments: u64,
    /// Datagrams with a missing fragment, dropped after the time limit.
    pub(crate) fragment_timeout: u64,
    /// Datagrams dropped because fragments took too much memory.
    pub(crate) fragment_limit: u64,
}
