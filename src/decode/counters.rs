//! What the decoder counted: each reason for which something was left aside, and what the wire looks like.

/// Counts since the start. Nothing here ever stops the decoder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeCounters {
    /// Frames handed in.
    pub frames: u64,
    /// Of these, cut by the capture's snap length.
    pub cut_frames: u64,
    /// The longest frame on the wire, bytes. More than the MTU: the card puts packets together (GRO, LRO).
    pub longest_frame: u32,
    /// IPv4 packets without a length: captured at their sender, before its card segmented them (TSO).
    pub zero_length: u64,
    /// Ethernet and cooked frames, tunnelled ones too, by how many VLAN tags they had: none, one, two, three and more.
    pub vlan_depth: [u64; 4],
    /// IPv4 packets, tunnelled ones and their tunnels each counted.
    pub ipv4: u64,
    /// IPv6 packets, likewise.
    pub ipv6: u64,
    /// UDP datagrams that are no tunnel.
    pub udp: u64,
    /// TCP segments.
    pub tcp: u64,
    /// IP fragments.
    pub fragments: u64,
    /// Datagrams put together from fragments.
    pub reassembled: u64,
    /// Copies of a packet (by the mirror), dropped. RTP copies are not among them.
    pub duplicates: u64,
    /// What came in tunnels.
    pub tunnels: TunnelCounters,
    /// TCP connections.
    pub streams: TcpStreamCounters,
    /// What could not be read.
    pub dropped: DecodeDrops,
}

/// Tunnelled packets by the kind of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TunnelCounters {
    /// GRE with IP, Ethernet or MPLS in it (RFC 2784, 2890).
    pub gre: u64,
    /// ERSPAN without a header of its own (type I).
    pub erspan1: u64,
    /// ERSPAN type II.
    pub erspan2: u64,
    /// ERSPAN type III.
    pub erspan3: u64,
    /// VXLAN (RFC 7348).
    pub vxlan: u64,
    /// GENEVE (RFC 8926).
    pub geneve: u64,
    /// TaZmen Sniffer Protocol, the mirror of MikroTik.
    pub tzsp: u64,
    /// IP in IP (RFC 2003, 2473, 4213).
    pub ip_in_ip: u64,
    /// PPPoE sessions (RFC 2516).
    pub pppoe: u64,
    /// MPLS (RFC 3032), pseudowires included (RFC 4448).
    pub mpls: u64,
    /// GTP-U (3GPP TS 29.281).
    pub gtp_u: u64,
}

/// What became of TCP streams. A stream is one direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpStreamCounters {
    /// TcpStreamCounters followed because they may carry SIP.
    pub followed: u64,
    /// TcpStreamCounters of which nothing is kept: their first bytes are no SIP.
    pub ignored: u64,
    /// TcpStreamCounters that begin with a TLS handshake: signalling in them cannot be read.
    pub tls: u64,
    /// Of these, on port 5061 or a neighbour of it: SIP over TLS by all appearances (RFC 3261 section 19.1.2).
    pub sips: u64,
    /// Holes that were given up.
    pub gaps: u64,
    /// Segments that came again or overlapped.
    pub retransmitted: u64,
    /// Segments that waited for an earlier one.
    pub out_of_order: u64,
    /// TcpStreamCounters forgotten because the table was full.
    pub evicted: u64,
}

/// What was left aside, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecodeDrops {
    /// The frame ends inside a link, tunnel or transport header.
    pub short: u64,
    /// A link type that we do not read.
    pub unknown_link: u64,
    /// Neither IP nor anything that can hold it (ARP, spanning tree, LLDP are here).
    pub unknown_ethertype: u64,
    /// More VLAN tags, MPLS labels or extension headers than any network has.
    pub too_deep: u64,
    /// TunnelCounters nested deeper than we follow.
    pub tunnel_depth: u64,
    /// An IP header that cannot be one.
    pub bad_ip_header: u64,
    /// IP packets that are neither UDP nor TCP nor a tunnel.
    pub other_protocol: u64,
    /// IPsec ESP: encrypted (RFC 4303).
    pub esp: u64,
    /// A tunnel header of a kind or version that we do not read.
    pub unknown_tunnel: u64,
    /// A UDP length that contradicts the IP length; the datagram is handed on by the IP length.
    pub bad_udp_length: u64,
    /// A TCP header that cannot be one.
    pub bad_tcp_header: u64,
    /// Fragments cut by the snap length: their datagram can never be whole.
    pub cut_fragment: u64,
    /// Fragments with impossible offsets or lengths.
    pub bad_fragment: u64,
    /// IPv6 datagrams dropped for overlapping fragments (RFC 5722).
    pub overlapping_fragments: u64,
    /// Datagrams that were never completed.
    pub fragment_timeout: u64,
    /// Datagrams given up because fragments took too much memory.
    pub fragment_limit: u64,
}
