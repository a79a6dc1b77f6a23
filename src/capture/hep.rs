//! HEP 3 (Homer Encapsulation Protocol, draft-hep3): SIP and RTP that an agent sends to the recorder by UDP, instead of
//! a mirror. The agent can be a telephone system, or a proxy that ends TLS.
//!
//! Each packet becomes a raw IP frame with the addresses that the agent saw. Its capture time is its arrival at the
//! recorder, because the clock of the agent may differ.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use crate::net::UDP_PROTOCOL;

/// A packet of a call with the addresses that the HEP agent saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HepPacket<'a> {
    /// Address and port that sent the packet, as the agent saw it.
    pub src: SocketAddr,
    /// Address and port that received the packet, as the agent saw it.
    pub dst: SocketAddr,
    /// The SIP message, RTP or RTCP packet itself.
    pub payload: &'a [u8],
}

/// The UDP socket to which HEP agents send.
#[derive(Debug)]
pub(crate) struct HepListener {
    socket: UdpSocket,
    datagram: Vec<u8>,
}

impl HepListener {
    /// Opens the UDP socket at an address.
    ///
    /// # Errors
    /// Fails if the address is in use or does not belong to this machine.
    pub(crate) fn open(at: SocketAddr) -> io::Result<Self> {
        let socket = UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, datagram: vec![0; MAX_DATAGRAM] })
    }

    /// Reads up to [`READS`] datagrams until one of them contains a packet of a call. Writes this packet into `frame`
    /// as raw IP and returns true. Returns false if no datagram contains such a packet.
    pub(crate) fn read(&mut self, frame: &mut Vec<u8>) -> bool {
        for _ in 0..READS {
            let Ok(length) = self.socket.recv(&mut self.datagram) else { return false };
            if let Some(packet) = parse(self.datagram.get(..length).unwrap_or_default()) {
                write_frame(&packet, frame);
                return true;
            }
        }
        false
    }
}

impl AsFd for HepListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Parses a HEP datagram. Returns `None` if it does not contain a SIP, RTP or RTCP packet with both addresses.
pub fn parse(datagram: &[u8]) -> Option<HepPacket<'_>> {
    let (head, rest) = datagram.split_first_chunk::<6>()?;
    if !head.starts_with(b"HEP3") {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([head[4], head[5]])).checked_sub(head.len())?;
    let mut rest = rest.get(..length)?;
    let mut fields = HepFields::default();
    while let Some((head, after)) = rest.split_first_chunk::<6>() {
        let [vendor, kind, length] =
            [[head[0], head[1]], [head[2], head[3]], [head[4], head[5]]].map(u16::from_be_bytes);
        let (value, after) = after.split_at_checked(usize::from(length).checked_sub(head.len())?)?;
        if vendor == GENERIC {
            fields.note(kind, value);
        }
        rest = after;
    }
    fields.packet()
}

/// Values of the HEP chunks (fields) that are needed to make a packet.
#[derive(Debug, Default)]
struct HepFields<'a> {
    src: Option<IpAddr>,
    dst: Option<IpAddr>,
    ports: [Option<u16>; 2],
    protocol: Option<u8>,
    payload: Option<&'a [u8]>,
}

impl<'a> HepFields<'a> {
    /// Stores the value of one HEP chunk. The time in chunks 9 and 10 is not used, because the clock of the agent may
    /// differ.
    fn note(&mut self, kind: u16, value: &'a [u8]) {
        let v4 = || <[u8; 4]>::try_from(value).ok().map(|bytes| IpAddr::V4(Ipv4Addr::from(bytes)));
        let v6 = || <[u8; 16]>::try_from(value).ok().map(|bytes| IpAddr::V6(Ipv6Addr::from(bytes)));
        let number = || <[u8; 2]>::try_from(value).ok().map(u16::from_be_bytes);
        match kind {
            3 => self.src = v4().or(self.src),
            4 => self.dst = v4().or(self.dst),
            5 => self.src = v6().or(self.src),
            6 => self.dst = v6().or(self.dst),
            7 => self.ports[0] = number(),
            8 => self.ports[1] = number(),
            11 => self.protocol = value.first().copied(),
            15 => self.payload = Some(value),
            _ => {}
        }
    }

    fn packet(self) -> Option<HepPacket<'a>> {
        let payload = self.payload.filter(|payload| !payload.is_empty())?;
        let (src, dst) = (self.src?, self.dst?);
        let is_of_call = match self.protocol? {
            SIP | RTP => true,
            RTCP => payload.first() != Some(&b'{'), // agents also send reports as JSON, which are no RTCP
            _ => false,
        };
        let fits = payload.len() <= MAX_PAYLOAD && src.is_ipv4() == dst.is_ipv4();
        let [from, to] = self.ports;
        (is_of_call && fits).then_some(HepPacket {
            src: SocketAddr::new(src, from?),
            dst: SocketAddr::new(dst, to?),
            payload,
        })
    }
}

/// Writes the packet as raw IP with a UDP header (RFC 768). The checksums are zero, i.e. absent.
pub fn write_frame(packet: &HepPacket<'_>, frame: &mut Vec<u8>) {
    let udp = u16::try_from(UDP_HEADER + packet.payload.len()).unwrap_or(u16::MAX);
    frame.clear();
    match (packet.src.ip(), packet.dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            frame.extend([0x45, 0]);
            frame.extend((IPV4_HEADER + udp).to_be_bytes());
            frame.extend([0, 0, 0, 0, 64, UDP_PROTOCOL, 0, 0]);
            frame.extend(src.octets());
            frame.extend(dst.octets());
        }
        (src, dst) => {
            let octets = |ip: IpAddr| match ip {
                IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
                IpAddr::V6(ip) => ip.octets(),
            };
            frame.extend([0x60, 0, 0, 0]);
            frame.extend(udp.to_be_bytes());
            frame.extend([UDP_PROTOCOL, 64]);
            frame.extend(octets(src));
            frame.extend(octets(dst));
        }
    }
    frame.extend(packet.src.port().to_be_bytes());
    frame.extend(packet.dst.port().to_be_bytes());
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(packet.payload);
}

/// Vendor id of the chunks that all agents use.
const GENERIC: u16 = 0;
/// Number that stands for SIP in chunk 11, the protocol of the payload. `RTP` and `RTCP` are the numbers of these
/// protocols.
const SIP: u8 = 1;
const RTP: u8 = 4;
const RTCP: u8 = 5;
const IPV4_HEADER: u16 = 20;
const UDP_HEADER: usize = 8;
/// Maximum size of a UDP datagram, bytes: the length field has 16 bits (RFC 768).
const MAX_DATAGRAM: usize = 65_535;
/// Maximum payload of a UDP datagram in an IPv4 packet, bytes.
const MAX_PAYLOAD: usize = 65_535 - 28;
/// Maximum number of datagrams without a SIP or RTP packet that are read at once, so that other sources get their turn.
const READS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(6 + value.len()).unwrap();
        [&[0, 0], &kind.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
    }

    fn datagram(chunks: &[Vec<u8>]) -> Vec<u8> {
        let body = chunks.concat();
        let length = u16::try_from(6 + body.len()).unwrap();
        [b"HEP3", &length.to_be_bytes()[..], &body].concat()
    }

    fn sip_over_v4() -> Vec<Vec<u8>> {
        vec![
            chunk(1, &[2]),
            chunk(2, &[17]),
            chunk(3, &[192, 0, 2, 1]),
            chunk(4, &[192, 0, 2, 2]),
            chunk(7, &5060_u16.to_be_bytes()),
            chunk(8, &5080_u16.to_be_bytes()),
            chunk(9, &[0; 4]),
            chunk(10, &[0; 4]),
            chunk(11, &[1]),
            chunk(12, &[0, 0, 0, 7]),
            chunk(15, b"OPTIONS sip:a@b SIP/2.0\r\n"),
        ]
    }

    #[test]
    fn a_packet_of_an_agent_becomes_raw_ip() {
        let bytes = datagram(&sip_over_v4());
        let packet = parse(&bytes).unwrap();
        assert_eq!(
            (packet.src.to_string(), packet.dst.to_string()),
            ("192.0.2.1:5060".into(), "192.0.2.2:5080".into())
        );
        let mut frame = Vec::new();
        write_frame(&packet, &mut frame);
        let sliced = etherparse::SlicedPacket::from_ip(&frame).unwrap();
        let Some(etherparse::TransportSlice::Udp(udp)) = sliced.transport else { panic!("UDP") };
        assert_eq!((udp.source_port(), udp.destination_port(), udp.payload()), (5060, 5080, packet.payload));
        // The same packet is now sent over IPv6.
        let mut chunks = sip_over_v4();
        (chunks[2], chunks[3]) = (chunk(5, &[1; 16]), chunk(6, &[2; 16]));
        let bytes = datagram(&chunks);
        let mut frame = Vec::new();
        write_frame(&parse(&bytes).unwrap(), &mut frame);
        assert!(etherparse::SlicedPacket::from_ip(&frame).is_ok_and(|sliced| sliced.transport.is_some()));
    }

    #[test]
    fn other_packets_and_every_cut_or_changed_byte_are_harmless() {
        let whole = datagram(&sip_over_v4());
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                if let Some(packet) = parse(&changed) {
                    write_frame(&packet, &mut Vec::new());
                }
            }
        }
        for (at, other) in
            [(8, chunk(11, &[100])), (10, chunk(15, b"")), (10, chunk(16, b"zipped")), (3, chunk(6, &[1; 16]))]
        {
            let mut chunks = sip_over_v4();
            chunks[at] = other;
            assert_eq!(parse(&datagram(&chunks)), None, "chunk {at}");
        }
        let mut json = sip_over_v4();
        (json[8], json[10]) = (chunk(11, &[5]), chunk(15, b"{\"sender\":1}"));
        assert_eq!(parse(&datagram(&json)), None, "a report as JSON");
    }

    #[test]
    fn the_socket_skips_what_is_no_packet() {
        let mut listener = HepListener::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let to = listener.socket.local_addr().unwrap();
        let agent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut frame = Vec::new();
        assert!(!listener.read(&mut frame));
        agent.send_to(b"noise", to).unwrap();
        agent.send_to(&datagram(&sip_over_v4()), to).unwrap();
        assert!(listener.read(&mut frame) && frame.ends_with(b"SIP/2.0\r\n") && !listener.read(&mut frame));
    }
}
