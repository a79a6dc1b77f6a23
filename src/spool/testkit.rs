//! Builds artificial spools for the tests of several modules.

use std::sync::Arc;

use super::LegSource;
use super::format::{self, SpoolPacket};
use crate::call::decision::{Decision, FORMAT, PayloadFormat, TimedDecision};
use crate::call::record::{EndedBy, Side, SideRecord};
use crate::net::Endpoint;
use crate::time::Timestamp;

/// An artificial spool to which packets and decisions of the call engine can be added.
#[derive(Clone, Debug, Default)]
pub(crate) struct SpoolBuilder {
    pub(crate) bytes: Vec<u8>,
    streams: u32,
}

/// Capture time at which the artificial calls start: 2026-11-23T07:00:00Z.
pub(crate) const T0: Timestamp = Timestamp::from_secs(1_795_417_200);

/// Returns the capture time `ms` milliseconds after [`T0`].
pub(crate) fn at_ms(ms: f64) -> Timestamp {
    T0.offset((ms * 1e6).round() as i64)
}

/// Returns a payload format with the given encoding name and clock rate in Hz.
pub(crate) fn format_of(encoding: &str, clock_hz: u32) -> PayloadFormat {
    PayloadFormat { encoding: encoding.to_owned(), clock_hz, channels: 1, fmtp: String::new() }
}

/// Returns the first decision of a leg: it belongs to the call `call`, and its caller sent the first request.
pub(crate) fn begin(leg: &str) -> Decision {
    Decision::Begin {
        format: FORMAT,
        leg: leg.to_owned(),
        conversation: "call".to_owned(),
        appliance: "test".to_owned(),
        source: "made up".to_owned(),
        first_requester: Side::Caller,
        transport: Default::default(),
        wall_offset_ns: 0,
        by: None,
    }
}

/// An RTP packet to be put into the spool.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TestRtp<'a> {
    pub(crate) pt: u8,
    pub(crate) sequence: u16,
    pub(crate) time: u32,
    pub(crate) payload: &'a [u8],
}

impl SpoolBuilder {
    pub(crate) fn new() -> Self {
        let mut spool = Self::default();
        format::put_header(&mut spool.bytes);
        spool.decide(T0, begin("leg"));
        spool
    }

    pub(crate) fn decide(&mut self, at: Timestamp, decision: Decision) {
        format::put_decision(&mut self.bytes, &TimedDecision { at_ns: at.as_nanos(), decision });
    }

    /// Adds an RTP stream of a side. Payload type 0 is PCMU, and 8 is PCMA. Returns the stream's number.
    pub(crate) fn stream(&mut self, at: Timestamp, side: Side) -> u32 {
        let stream = self.streams;
        self.streams += 1;
        let (src, dst) = Self::flow(side);
        self.decide(at, Decision::Stream { stream, src, dst, ssrc: crate::net::Ssrc(1000 + stream), side });
        self.payload(at, stream, 0, Some(format_of("PCMU", 8_000)));
        self.payload(at, stream, 8, Some(format_of("PCMA", 8_000)));
        stream
    }

    pub(crate) fn payload(&mut self, at: Timestamp, stream: u32, pt: u8, format: Option<PayloadFormat>) {
        self.decide(at, Decision::Payload { stream, pt: crate::net::PayloadType(pt), format });
    }

    pub(crate) fn rtp(&mut self, at: Timestamp, (stream, side): (u32, Side), rtp: TestRtp<'_>) {
        let packet = Self::packet_bytes(stream, rtp);
        self.raw(at, Self::flow(side), &packet, packet.len() as u32);
    }

    /// Adds only the header of a packet, as the spool keeps it if the payload must not be stored.
    pub(crate) fn header_only(&mut self, at: Timestamp, (stream, side): (u32, Side), rtp: TestRtp<'_>) {
        let packet = Self::packet_bytes(stream, rtp);
        self.raw(at, Self::flow(side), &packet[..12], packet.len() as u32);
    }

    pub(crate) fn raw(&mut self, at: Timestamp, (src, dst): (Endpoint, Endpoint), payload: &[u8], wire_len: u32) {
        format::put_packet(&mut self.bytes, &SpoolPacket { at, src, dst, payload, wire_len });
    }

    pub(crate) fn end(&mut self, at: Timestamp) {
        let caller = SideRecord { packets: 1, ..SideRecord::default() };
        let callee = SideRecord { packets: 2, ..SideRecord::default() };
        self.decide(at, Decision::End { ended_by: EndedBy::Caller, caller, callee });
    }

    pub(crate) fn source(&self) -> LegSource {
        LegSource::Memory(Arc::new(self.bytes.clone().into()))
    }

    pub(crate) fn flow(side: Side) -> (Endpoint, Endpoint) {
        let (caller, callee) = (Endpoint::v4([192, 0, 2, 1], 4000), Endpoint::v4([192, 0, 2, 2], 5000));
        if side == Side::Caller { (caller, callee) } else { (callee, caller) }
    }

    /// Returns the bytes of an RTP packet of a stream: a header of 12 bytes, and the payload.
    pub(crate) fn packet_bytes(stream: u32, rtp: TestRtp<'_>) -> Vec<u8> {
        let mut packet = vec![0x80, rtp.pt];
        packet.extend(rtp.sequence.to_be_bytes());
        packet.extend(rtp.time.to_be_bytes());
        packet.extend((1000 + stream).to_be_bytes());
        packet.extend_from_slice(rtp.payload);
        packet
    }
}
