//! Static payload types (RFC 3551 section 6). The one table of the house: `sdp` leaves the encoding of
//! a payload type without rtpmap empty, and who joins the two asks here.

/// What a static payload type means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaticPayloadFormat {
    /// The encoding's name, upper case, as in an rtpmap.
    pub encoding: &'static str,
    /// The RTP clock in Hz. For G.722 it is 8000 although the sound has 16000 (RFC 3551 section 4.5.2).
    pub clock_hz: u32,
    /// Channels.
    pub channels: u8,
}

/// The meaning of a payload type that needs no rtpmap; nothing for dynamic, reserved and unassigned ones.
pub const fn static_format(pt: u8) -> Option<StaticPayloadFormat> {
    Some(match pt {
        0 => mono("PCMU", 8_000),
        3 => mono("GSM", 8_000),
        4 => mono("G723", 8_000),
        5 => mono("DVI4", 8_000),
        6 => mono("DVI4", 16_000),
        7 => mono("LPC", 8_000),
        8 => mono("PCMA", 8_000),
        9 => mono("G722", 8_000),
        10 => StaticPayloadFormat { encoding: "L16", clock_hz: 44_100, channels: 2 },
        11 => mono("L16", 44_100),
        12 => mono("QCELP", 8_000),
        13 => mono("CN", 8_000),
        14 => mono("MPA", 90_000),
        15 => mono("G728", 8_000),
        16 => mono("DVI4", 11_025),
        17 => mono("DVI4", 22_050),
        18 => mono("G729", 8_000),
        // Reserved, but the comfort noise of devices older than RFC 3389.
        19 => mono("CN", 8_000),
        25 => mono("CELB", 90_000),
        26 => mono("JPEG", 90_000),
        28 => mono("NV", 90_000),
        31 => mono("H261", 90_000),
        32 => mono("MPV", 90_000),
        33 => mono("MP2T", 90_000),
        34 => mono("H263", 90_000),
        _ => return None,
    })
}

const fn mono(encoding: &'static str, clock_hz: u32) -> StaticPayloadFormat {
    StaticPayloadFormat { encoding, clock_hz, channels: 1 }
}
