//! Rules about signalling without media, media without signalling, encryption and codecs.

use super::{DoctorFinding, FindingKind, FindingSeverity, Observation, count};

pub(super) fn all(observation: &Observation) -> Vec<DoctorFinding> {
    let rules = [
        tls,
        tls_elsewhere,
        rtp_without_sip,
        sip_without_rtp,
        media_behind_nat,
        one_side,
        unheard,
        no_answered_call,
        sip_over_sctp,
        rtp_over_tcp,
        encrypted_media,
        keys,
        codecs,
        broken_sip,
    ];
    rules.iter().filter_map(|rule| rule(observation)).collect()
}

fn tls(observation: &Observation) -> Option<DoctorFinding> {
    let sips = observation.decode.streams.sips;
    (sips > 0).then(|| {
        let what = format!("{} of SIP over TLS (port 5061), which cannot be read", count(sips, "direction"));
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::SipOverTls, what)
            .remedy(
                "Calls signalled over TLS are not recorded. Mirror an unencrypted side of the PBX (usually the trunk), or use \
                 SIP over UDP or TCP inside your network. On Asterisk, in the endpoint of the trunk or telephone:",
            )
            .command("transport=transport-udp")
            .command("asterisk -rx 'pjsip reload'")
    })
}

/// Reports TLS on other ports than 5061 if there is media that belongs to no call. The signalling of this media may be
/// in the TLS streams.
fn tls_elsewhere(observation: &Observation) -> Option<DoctorFinding> {
    let streams = observation.decode.streams;
    let other = streams.tls.saturating_sub(streams.sips);
    let unclaimed = observation.engine.rtp_unclaimed;
    // Two other findings already mention TLS: `rtp_without_sip` if no SIP was read, and `sip_over_tls`. If one of them
    // applies, nothing is reported here.
    let is_explained = observation.traffic.plain.sip == 0 || streams.sips > 0;
    (other > 0 && unclaimed >= MIN_UNCLAIMED && !is_explained).then(|| {
        let what = format!(
            "{} belong to no signalled call, and there are {}: they may carry signalling",
            count(unclaimed, "RTP packet"),
            count(other, "TLS stream")
        );
        DoctorFinding::new(FindingSeverity::Note, FindingKind::TlsElsewhere, what).remedy(
            "The PBX or the trunk may use SIP over TLS on a port other than 5061. Then mirror an unencrypted side of \
             the PBX, or use SIP over UDP or TCP inside your network.",
        )
    })
}

pub(super) fn rtp_without_sip(observation: &Observation) -> Option<DoctorFinding> {
    let seen = &observation.traffic;
    if seen.rtp_streams == 0 {
        return None;
    }
    let streams = count(seen.rtp_streams, "RTP stream");
    if seen.plain.sip == 0 {
        // Separate findings report SIP over TLS, SIP over SCTP, and SIP inside an unknown header. They explain the
        // media without a call, so this finding is then only a note.
        let unread =
            observation.decode.streams.sips + observation.decode.dropped.sip_sctp + observation.decode.wrapped.packets;
        let severity = if unread > 0 { FindingSeverity::Note } else { FindingSeverity::Problem };
        let tls = match observation.decode.streams.tls
            - observation.decode.streams.sips.min(observation.decode.streams.tls)
        {
            0 => String::new(),
            n => format!("; signalling may be in one of {}", count(n, "TLS stream")),
        };
        return Some(
            DoctorFinding::new(severity, FindingKind::RtpWithoutSip, format!("{streams} but no SIP message{tls}"))
                .remedy(
                    "Without signalling no call can be recorded. The signalling takes another path, for example another \
                     uplink or a VLAN that is not mirrored. Mirror the port of the PBX, where both meet, and check for \
                     SIP:",
                )
                .command(format!("tcpdump -ni {} -c 5 port 5060 or port 5061", observation.interface())),
        );
    }
    let heard = observation.engine.rtp_packets;
    // A live check always captures media of calls that began before the check. So media without a call is reported only
    // if no packet at all belongs to a call.
    (heard == 0 && observation.engine.legs > 0).then(|| {
        DoctorFinding::new(
            FindingSeverity::Warning,
            FindingKind::RtpOfNoCall,
            format!("{streams}, but none belongs to a signalled call"),
        )
        .remedy(
            "The mirror shows the signalling of some calls and the media of others. Mirror the port of the PBX, where \
                 both meet.",
        )
    })
}

pub(super) fn sip_without_rtp(observation: &Observation) -> Option<DoctorFinding> {
    let calls = &observation.calls;
    let silent = calls.silent - calls.behind_nat - calls.over_tcp;
    if silent == 0 {
        return None;
    }
    let all = silent == calls.talked;
    let what = format!("{silent} of {} had no RTP", count(calls.talked, "answered call"));
    let severity = if all { FindingSeverity::Problem } else { FindingSeverity::Warning };
    Some(
        DoctorFinding::new(severity, FindingKind::SipWithoutRtp, what).remedy(if observation.traffic.rtp_streams == 0 {
            "The telephones send media directly to each other, past the mirrored port, or the mirror covers only the \
             signalling VLAN. Mirror the path of the media, or let the PBX carry the media. On Asterisk, in the endpoint:"
        } else {
            "The media of these calls takes a path that is not mirrored. Mirror the port of the PBX, and let the PBX carry \
             the media. On Asterisk, in the endpoint:"
        })
        .command("direct_media=no")
        .command("asterisk -rx 'pjsip reload'"),
    )
}

/// Reports calls with media at other addresses than the signalling announces.
fn media_behind_nat(observation: &Observation) -> Option<DoctorFinding> {
    let (hidden, talked) = (observation.calls.behind_nat, observation.calls.talked);
    (hidden > 0).then(|| {
        let what = format!("the media of {hidden} of {} is behind a NAT", count(talked, "answered call"));
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::MediaBehindNat, what).remedy(
            "Their RTP is on the mirror, but from and to other addresses and ports than the signalling announces. So it \
             cannot be matched for certain. Mirror the other side of the NAT, or let the PBX announce the address at which \
             it receives media.",
        )
    })
}

/// Reports calls with audio on one side only. Reports nothing if another finding, about missing directions of the
/// traffic, already explains them.
pub(super) fn one_side(observation: &Observation) -> Option<DoctorFinding> {
    let (calls, ways) = (&observation.calls, observation.traffic.rtp_ways);
    // If only one direction is mirrored, the finding `one_direction` already explains these calls, so nothing is
    // reported here.
    if calls.one_side == 0 || ways.one_way > 0 {
        return None;
    }
    let all = calls.one_side == calls.talked;
    let what = format!("{} of {} had audio on one side only", calls.one_side, count(calls.talked, "answered call"));
    let severity = if all { FindingSeverity::Problem } else { FindingSeverity::Warning };
    Some(
        DoctorFinding::new(severity, FindingKind::OneSide, what)
            .remedy(
                "The other party was muted or on hold throughout, or its media takes a path that is not mirrored. \
                 `callspan replay` of a capture shows the side of each call. If it is always the same side, mirror the \
                 port of the PBX and let the PBX carry the media. On Asterisk, in the endpoint:",
            )
            .command("direct_media=no")
            .command("asterisk -rx 'pjsip reload'"),
    )
}

/// Notes that the media could not be judged, because every answered call was a fax or too short, or no call was
/// answered.
fn no_answered_call(observation: &Observation) -> Option<DoctorFinding> {
    (observation.traffic.plain.sip > 0 && observation.calls.talked == 0).then(|| {
        let what = match (observation.calls.short, observation.calls.faxes) {
            (0, 0) => String::from("no call was answered during the check, so media was not judged"),
            (short, 0) => format!("{} shorter than 2 s, so media was not judged", was_were(short, "answered call")),
            (_, faxes) => format!("{} a fax, so audio was not judged", was_were(faxes, "answered call")),
        };
        DoctorFinding::new(FindingSeverity::Note, FindingKind::NoAnsweredCall, what)
            .remedy("Make a call of ten seconds and run the doctor again.")
    })
}

/// Reports calls with RTP but without sound in a recording. Reports nothing if another finding, e.g. about encryption,
/// already gives the reason.
fn unheard(observation: &Observation) -> Option<DoctorFinding> {
    let calls = &observation.calls;
    let encrypted = calls.dtls + calls.zrtp + calls.no_keys > 0;
    let cut = observation.decode.cut_frames > 0 || observation.traffic.plain.cut > 0;
    (calls.unheard > 0 && !encrypted && !cut && calls.unknown_codecs.is_empty()).then(|| {
        let what = format!(
            "{} of {} had RTP, but no sound that can be recorded",
            calls.unheard,
            count(calls.talked, "answered call")
        );
        DoctorFinding::new(FindingSeverity::Warning, FindingKind::MediaNotHeard, what)
            .remedy("`callspan replay` of a capture shows the reason for each call (verdict_reason, problems).")
    })
}

/// Reports SIP over SCTP (RFC 4168), which callspan does not read.
fn sip_over_sctp(observation: &Observation) -> Option<DoctorFinding> {
    let packets = observation.decode.dropped.sip_sctp;
    (packets > 0).then(|| {
        let what = format!("{} of SIP over SCTP, which is not read", count(packets, "packet"));
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::SipOverSctp, what)
            .remedy("Calls signalled over SCTP are not recorded. Use SIP over UDP or TCP on the mirrored side.")
    })
}

/// Reports RTP over TCP (RFC 4571), which callspan does not record.
fn rtp_over_tcp(observation: &Observation) -> Option<DoctorFinding> {
    let (streams, calls) = (observation.decode.streams.rtp, observation.calls.over_tcp);
    (streams + calls > 0).then(|| {
        let what = match streams {
            0 => format!("{} with media over TCP, which is not recorded", count(calls, "call")),
            _ => format!("{} of RTP over TCP, which is not recorded", count(streams, "direction")),
        };
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::RtpOverTcp, what)
            .remedy("The calls with this media have no audio in their recording. Let the PBX use RTP over UDP.")
    })
}

fn was_were(number: u64, noun: &str) -> String {
    format!("{} {}", count(number, noun), if number == 1 { "was" } else { "were" })
}

fn encrypted_media(observation: &Observation) -> Option<DoctorFinding> {
    let calls = &observation.calls;
    let kinds = [
        (calls.dtls, "keys agreed over DTLS"),
        (calls.zrtp, "ZRTP"),
        (calls.no_keys, "keys that the signalling does not show"),
    ];
    let mut parts: Vec<String> =
        kinds.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} with {how}")).collect();
    // If no call has encrypted streams, the captured key agreement belongs to calls that were not captured. Then the
    // finding gives the number of its packets.
    if parts.is_empty() && observation.traffic.key_agreement >= MIN_HANDSHAKE {
        parts.push(format!("{} of key agreement", count(observation.traffic.key_agreement, "packet")));
    }
    (!parts.is_empty()).then(|| {
        DoctorFinding::new(
            FindingSeverity::Problem,
            FindingKind::EncryptedMedia,
            format!("encrypted RTP streams: {}", parts.join(", ")),
        )
        .remedy(
            "These streams cannot be decrypted; their calls get the verdict `encrypted`. Use SDES (keys in the \
                 signalling) or no encryption on the mirrored side. On Asterisk, in the endpoint:",
        )
        .command("media_encryption=sdes")
        .command("asterisk -rx 'pjsip reload'")
    })
}

fn keys(observation: &Observation) -> Option<DoctorFinding> {
    let streams = observation.calls.with_keys;
    (streams > 0).then(|| {
        let what = format!("{} with keys in the signalling (SDES): decrypted", count(streams, "SRTP stream"));
        DoctorFinding::new(FindingSeverity::Note, FindingKind::SrtpWithKeys, what)
    })
}

fn codecs(observation: &Observation) -> Option<DoctorFinding> {
    let codecs = &observation.calls.unknown_codecs;
    (!codecs.is_empty()).then(|| {
        let parts: Vec<String> = codecs.iter().map(|(name, n)| format!("{name} ({})", count(*n, "stream"))).collect();
        DoctorFinding::new(FindingSeverity::Problem, FindingKind::UnknownCodec, format!("codecs without a decoder: {}", parts.join(", ")))
            .remedy("Their calls get the verdict `unknown_codec`. Allow codecs that can be decoded: G.711, G.722, G.726, G.729, \
                 GSM, iLBC, AMR, AMR-WB, Opus, Speex. On Asterisk, in the endpoint:")
            .command("disallow=all")
            .command("allow=alaw,ulaw,g722,opus,g729,gsm")
            .command("asterisk -rx 'pjsip reload'")
    })
}

fn broken_sip(observation: &Observation) -> Option<DoctorFinding> {
    let rejected = observation.engine.sip_rejected;
    let many = rejected >= MIN_REJECTED && rejected * 20 > observation.engine.sip_messages;
    let severity = if many { FindingSeverity::Warning } else { FindingSeverity::Note };
    (rejected > 0).then(|| {
        let what = format!("{} could not be read", count(rejected, "SIP message"));
        DoctorFinding::new(severity, FindingKind::BrokenSip, what).remedy(
            "They are truncated, or a program sends other data to the SIP port. Inspect them in Wireshark (filter: sip).",
        )
    })
}

/// Minimum number of RTP packets without a call for a finding: two seconds at 20 ms a packet. Fewer packets may belong
/// to a call that was cut off by the start or end of the observation.
const MIN_UNCLAIMED: u64 = 100;
/// Minimum number of packets that count as a key agreement. A DTLS handshake has at least four flights (RFC 6347
/// section 4.2.4), each of at least one packet.
const MIN_HANDSHAKE: u64 = 4;
/// Minimum number of unreadable SIP messages for a warning. A few are normal, because scanners of attackers send
/// malformed messages.
const MIN_REJECTED: u64 = 5;
