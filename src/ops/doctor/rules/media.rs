//! Signalling without media, media without signalling, and what cannot be decrypted or decoded.

use super::{DoctorFinding, FindingSeverity, Observation, count};

pub(super) fn all(look: &Observation) -> Vec<DoctorFinding> {
    let rules = [
        tls,
        tls_elsewhere,
        rtp_without_sip,
        sip_without_rtp,
        one_side,
        no_answered_call,
        encrypted_media,
        keys,
        codecs,
        broken_sip,
    ];
    rules.iter().filter_map(|rule| rule(look)).collect()
}

fn tls(look: &Observation) -> Option<DoctorFinding> {
    let sips = look.decode.streams.sips;
    (sips > 0).then(|| {
        let what = format!("{} of SIP over TLS (port 5061): signalling there cannot be read", count(sips, "direction"));
        DoctorFinding::new(FindingSeverity::Problem, "sip_over_tls", what)
            .remedy(
                "Calls signalled there get no recording. Mirror a side of the PBX that is not encrypted (mostly the trunk), \
                 or use SIP over UDP or TCP inside your network. On Asterisk, in the endpoint of the trunk or telephone:",
            )
            .command("transport=transport-udp")
            .command("asterisk -rx 'pjsip reload'")
    })
}

/// TLS on other ports, beside signalling that can be read: where there is media of no call, it may be its signalling.
fn tls_elsewhere(look: &Observation) -> Option<DoctorFinding> {
    let streams = look.decode.streams;
    let other = streams.tls.saturating_sub(streams.sips);
    let unclaimed = look.engine.rtp_unclaimed;
    // Without any plain SIP the rule on RTP without SIP names the TLS streams.
    let is_told = look.traffic.plain.sip == 0 || streams.sips > 0;
    (other > 0 && unclaimed >= MIN_UNCLAIMED && !is_told).then(|| {
        let what = format!(
            "{} of no call that was signalled, and {}: calls may be signalled there",
            count(unclaimed, "RTP packet"),
            count(other, "TLS stream")
        );
        DoctorFinding::new(FindingSeverity::Note, "tls_elsewhere", what).remedy(
            "If the PBX or the trunk uses SIP over TLS on a port other than 5061, mirror a side of the PBX that is not \
             encrypted, or use SIP over UDP or TCP inside your network.",
        )
    })
}

fn rtp_without_sip(look: &Observation) -> Option<DoctorFinding> {
    let seen = &look.traffic;
    if seen.rtp_streams == 0 {
        return None;
    }
    let streams = count(seen.rtp_streams, "RTP stream");
    if seen.plain.sip == 0 {
        // With TLS the reason is known and told already.
        let severity = if look.decode.streams.sips > 0 { FindingSeverity::Note } else { FindingSeverity::Problem };
        let tls = match look.decode.streams.tls - look.decode.streams.sips.min(look.decode.streams.tls) {
            0 => String::new(),
            n => format!("; signalling may be in one of {}", count(n, "TLS stream")),
        };
        return Some(
            DoctorFinding::new(severity, "rtp_without_sip", format!("{streams} and not one SIP message{tls}"))
                .remedy(
                    "Without signalling no call is known. The signalling takes another way (the provider's SIP server over \
                     another uplink, a VLAN that is not mirrored): mirror the port of the PBX, where both meet, and look \
                     whether SIP is there:",
                )
                .command(format!("tcpdump -ni {} -c 5 port 5060 or port 5061", look.interface())),
        );
    }
    let heard = look.engine.rtp_packets;
    // CallTally that had begun before are normal for a live look; nothing claimed at all is not.
    (heard == 0 && look.engine.legs > 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            "rtp_of_no_call",
            format!("{streams}, none of them of a call that was signalled"),
        )
        .remedy(
            "The calls whose signalling is seen have their media elsewhere, and the other way round: the mirror covers \
                 half of two different ways. Mirror the port of the PBX.",
        )
    })
}

fn sip_without_rtp(look: &Observation) -> Option<DoctorFinding> {
    let calls = &look.calls;
    if calls.silent == 0 {
        return None;
    }
    let all = calls.silent == calls.talked;
    let what = format!("{} of {} had no RTP", calls.silent, count(calls.talked, "answered call"));
    let severity = if all { FindingSeverity::Problem } else { FindingSeverity::Warning };
    Some(
        DoctorFinding::new(severity, "sip_without_rtp", what).remedy(if look.traffic.rtp_streams == 0 {
            "The telephones talk to each other directly, past the mirrored port (Asterisk: direct_media=no in the endpoint \
             makes the PBX carry the media), or the mirror covers only the signalling VLAN. Mirror where the media passes. \
             On Asterisk:"
        } else {
            "The media of these calls takes a way that is not mirrored. Mirror the port of the PBX, and keep the media on \
             it. On Asterisk:"
        })
        .command("direct_media=no")
        .command("asterisk -rx 'pjsip reload'"),
    )
}

/// One side of the calls, with nothing that the hosts would tell.
fn one_side(look: &Observation) -> Option<DoctorFinding> {
    let (calls, ways) = (&look.calls, look.traffic.rtp_ways);
    // A direction that is not mirrored at all is told already, and what mends it.
    if calls.one_side == 0 || ways.one_way > 0 {
        return None;
    }
    let all = calls.one_side == calls.talked;
    let what = format!("{} of {} heard on one side only", calls.one_side, count(calls.talked, "answered call"));
    let severity = if all { FindingSeverity::Problem } else { FindingSeverity::Warning };
    Some(
        DoctorFinding::new(severity, "one_side", what)
            .remedy(
                "The other party was mute, on hold or an announcement throughout, or its media takes a way that is not \
                 mirrored. `callspan replay` of a capture says which side of which call. If it is always the same side, \
                 mirror the port of the PBX and keep the media on it. On Asterisk:",
            )
            .command("direct_media=no")
            .command("asterisk -rx 'pjsip reload'"),
    )
}

/// Healthy signalling says nothing about media.
fn no_answered_call(look: &Observation) -> Option<DoctorFinding> {
    (look.traffic.plain.sip > 0 && look.calls.talked == 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Note,
            "no_answered_call",
            "no call was answered meanwhile, so media was not judged",
        )
        .remedy("Make a call of ten seconds and look again.")
    })
}

fn encrypted_media(look: &Observation) -> Option<DoctorFinding> {
    let calls = &look.calls;
    let kinds = [
        (calls.dtls, "keys agreed over DTLS"),
        (calls.zrtp, "ZRTP"),
        (calls.no_keys, "keys that the signalling does not show"),
    ];
    let mut parts: Vec<String> =
        kinds.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} with {how}")).collect();
    // Key agreement whose call was not seen.
    if parts.is_empty() && look.traffic.plain.dtls + look.traffic.plain.zrtp >= MIN_HANDSHAKE {
        parts.push(format!("{} of key agreement", count(look.traffic.plain.dtls + look.traffic.plain.zrtp, "packet")));
    }
    (!parts.is_empty()).then(|| {
        DoctorFinding::new(FindingSeverity::Problem, "encrypted_media", format!("encrypted RTP streams: {}", parts.join(", ")))
            .remedy(
                "A listener cannot decrypt these; their calls get the verdict `encrypted`. Use SDES (keys in the signalling) \
                 or no encryption on the mirrored side. On Asterisk, in the endpoint:",
            )
            .command("media_encryption=sdes")
            .command("asterisk -rx 'pjsip reload'")
    })
}

fn keys(look: &Observation) -> Option<DoctorFinding> {
    let streams = look.calls.with_keys;
    (streams > 0).then(|| {
        let what = format!("{} with keys in the signalling (SDES): decrypted", count(streams, "SRTP stream"));
        DoctorFinding::new(FindingSeverity::Note, "srtp_with_keys", what)
    })
}

fn codecs(look: &Observation) -> Option<DoctorFinding> {
    let codecs = &look.calls.unknown_codecs;
    (!codecs.is_empty()).then(|| {
        let parts: Vec<String> = codecs.iter().map(|(name, n)| format!("{name} ({})", count(*n, "stream"))).collect();
        DoctorFinding::new(FindingSeverity::Problem, "unknown_codec", format!("codecs without a decoder: {}", parts.join(", ")))
            .remedy("Their calls get the verdict `unknown_codec`. Allow codecs that can be decoded: G.711, G.722, G.726, G.729, \
                 GSM, iLBC, AMR, AMR-WB, Opus, Speex. On Asterisk, in the endpoint:")
            .command("disallow=all")
            .command("allow=alaw,ulaw,g722,opus,g729,gsm")
            .command("asterisk -rx 'pjsip reload'")
    })
}

fn broken_sip(look: &Observation) -> Option<DoctorFinding> {
    let rejected = look.engine.sip_rejected;
    (rejected >= MIN_REJECTED && rejected * 20 > look.engine.sip_messages).then(|| {
        let what = format!("{} could not be read", count(rejected, "SIP message"));
        DoctorFinding::new(FindingSeverity::Warning, "broken_sip", what).remedy(
            "They are cut, or a program sends rubbish to the SIP port. Look at them in Wireshark (filter: sip).",
        )
    })
}

/// Two seconds of one direction: less is a call that ended or began at the edge of the look.
const MIN_UNCLAIMED: u64 = 100;
/// A handshake has four flights.
const MIN_HANDSHAKE: u64 = 4;
/// A scanner's odd message now and then is no finding.
const MIN_REJECTED: u64 = 5;
