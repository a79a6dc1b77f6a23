//! Derives the verdict of a call: whether the call can be heard, and if not, why.

use std::collections::BTreeSet;

use crate::call::record::{CallVerdict, Side};
use crate::render::{SideReport, UndecodableReason, UndecryptableReason};

/// Facts from which the verdict of a call is derived, i.e. whether it can be heard, and if not, why.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VerdictFacts {
    /// Whether the call was answered.
    pub(crate) answered: AnswerState,
    /// Facts about the caller's audio. They are empty if no leg was rendered.
    pub(crate) caller: SideFacts,
    /// Facts about the callee's audio. They are empty if no leg was rendered.
    pub(crate) callee: SideFacts,
    /// Number of media packets of the whole call.
    pub(crate) packets: u64,
    /// Whether media flowed between the hosts of the call, but not between the announced addresses, because a NAT
    /// changed them.
    pub(crate) is_behind_nat: bool,
    /// Whether the parties agreed on media over TCP.
    pub(crate) is_over_tcp: bool,
    /// The side that sends packets without speech although the other side talks; `None` if there is no such side.
    pub(crate) mute: Option<Side>,
    /// The kind of fax; `None` if the call was no fax.
    pub(crate) fax: Option<FaxKind>,
    /// The error with which rendering failed; `None` if it succeeded.
    pub(crate) failure: Option<String>,
    /// Why the recorder did not keep all packets of the call; `None` if it kept all.
    pub(crate) spool_loss: Option<String>,
}

/// The evidence that a call is a fax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaxKind {
    /// T.38 fax replaced the audio during the call.
    T38,
    /// One side offered T.38, and the other refused it.
    RefusedT38,
    /// The answering tone of a fax machine was heard. A modem answers with the same tone.
    Tones,
}

/// Whether a call was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AnswerState {
    /// The call was answered.
    #[default]
    Yes,
    /// The call was not answered.
    No,
    /// The call began before the capture, so the response that answered it was not captured.
    BeganBefore,
}

/// Facts about the audio of one side (caller or callee) during the recorded time of the call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SideFacts {
    /// How much of the side can be heard.
    pub(crate) audibility: Audibility,
    /// Whether the side sent telephone-events (DTMF).
    pub(crate) events: bool,
    /// Why packets could not be decoded. A reason that concerns only a few packets is left out.
    pub(crate) undecodable: BTreeSet<UndecodableReason>,
    /// Whether the recorder left out the payload of packets on purpose, e.g. while the recording was paused.
    pub(crate) withheld: bool,
}

/// How much of a side (caller or callee) can be heard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Audibility {
    /// No packet of the side was decoded.
    #[default]
    Nothing,
    /// Almost nothing was decoded, e.g. only the packets from before the encryption began.
    AlmostNothing,
    /// Packets were decoded, and all of them are digital silence.
    Silence,
    /// The side can be heard.
    Heard,
}

impl Audibility {
    fn of(report: &SideReport) -> Self {
        let decoded = report.decoded + report.comfort;
        if decoded == 0 {
            return Self::Nothing;
        }
        let recorded_ms = (report.talk_s + report.silence_s) * 1_000.0;
        let heard_ms = report.heard_us.saturating_sub(report.concealed_us) as f64 / 1_000.0;
        let enough_ms = (recorded_ms * MIN_HEARD_SHARE).min(MIN_HEARD_MS);
        let undecodable = report.undecodable() as f64;
        if heard_ms < enough_ms || (decoded as f64) < MIN_DECODED_SHARE * (decoded as f64 + undecodable) {
            Self::AlmostNothing
        } else if report.peak <= SILENCE_PEAK {
            Self::Silence
        } else {
            Self::Heard
        }
    }
}

impl SideFacts {
    /// Returns whether the side can be heard, at least for a while.
    pub(crate) fn is_heard(&self) -> bool {
        self.audibility == Audibility::Heard
    }
}

impl From<&SideReport> for SideFacts {
    fn from(report: &SideReport) -> Self {
        Self {
            audibility: Audibility::of(report),
            events: report.events > 0,
            undecodable: main_reasons(report),
            withheld: report.withheld > 0,
        }
    }
}

/// Returns the reasons of undecodable packets that may explain why a side is silent. Reasons that concern only a few
/// packets are left out.
fn main_reasons(report: &SideReport) -> BTreeSet<UndecodableReason> {
    let packets = (report.decoded + report.comfort + report.undecodable()) as f64;
    let is_main = |count: u64| count as f64 >= MIN_REASON_SHARE * packets;
    report.silent.iter().filter(|(_, count)| is_main(**count)).map(|(reason, _)| reason.clone()).collect()
}

/// Returns the first verdict that applies, in the order of [`CallVerdict`], and its reason as a sentence for people.
/// Never returns `Excluded`, because only the engine, which follows the signalling, decides that.
pub(crate) fn verdict(facts: &VerdictFacts) -> (CallVerdict, String) {
    match (facts.caller.is_heard(), facts.callee.is_heard()) {
        (true, true) => {
            return (CallVerdict::BothSides, format!("{}{}", both_sides_reason(facts.mute), fax_note(facts)));
        }
        (true, false) => {
            let reason = match silent_side_reason("callee", &facts.callee, facts) {
                Some(why) => format!("Only the caller can be heard: {why}.{}", fax_note(facts)),
                None => format!("Only the caller can be heard.{}", fax_note(facts)),
            };
            return (CallVerdict::CallerOnly, reason);
        }
        (false, true) => {
            let reason = match silent_side_reason("caller", &facts.caller, facts) {
                Some(why) => format!("Only the callee can be heard: {why}.{}", fax_note(facts)),
                None => format!("Only the callee can be heard.{}", fax_note(facts)),
            };
            return (CallVerdict::CalleeOnly, reason);
        }
        (false, false) => {}
    }
    if facts.answered == AnswerState::No {
        return (CallVerdict::NotAnswered, "Nobody answered the call, so there is nothing to record.".to_owned());
    }
    let reasons = || facts.caller.undecodable.iter().chain(&facts.callee.undecodable);
    if let Some(why) =
        reasons().find_map(|reason| if let UndecodableReason::Encrypted(why) = reason { Some(*why) } else { None })
    {
        return (CallVerdict::Encrypted, format!("The media is encrypted: {}.", encryption_reason(why)));
    }
    let unknown: BTreeSet<String> = reasons().filter_map(unknown_codec_name).collect();
    if !unknown.is_empty() {
        let names: Vec<String> = unknown.into_iter().collect();
        return (CallVerdict::UnknownCodec, format!("There is no decoder for {}.", names.join(", ")));
    }
    if let Some(failure) = &facts.failure {
        return (CallVerdict::Failed, format!("The call was heard, but the recording failed: {failure}."));
    }
    // A loss by the recorder is named first. Otherwise a person would look for the fault at the switch.
    if let Some(loss) = &facts.spool_loss {
        return (CallVerdict::Failed, format!("No sound of the call could be kept: {loss}."));
    }
    (CallVerdict::NoMedia, no_media_reason(facts))
}

fn both_sides_reason(mute: Option<Side>) -> String {
    let side = match mute {
        None => return "Both sides can be heard.".to_owned(),
        Some(Side::Caller) => "caller",
        Some(Side::Callee) => "callee",
    };
    format!(
        "Packets of both sides arrived, but those of the {side} contain only silence (one-way audio): check the {side}'s telephone."
    )
}

fn fax_note(facts: &VerdictFacts) -> &'static str {
    match facts.fax {
        None => "",
        Some(FaxKind::T38) => " The call became a fax (T.38), which has no sound.",
        Some(FaxKind::RefusedT38) => {
            " The call is a fax: one side offered T.38, the other refused it, and the sound is that of the machines."
        }
        Some(FaxKind::Tones) => " The call is a fax or a modem: its answering tone was heard.",
    }
}

/// Returns a sentence that explains why one side cannot be heard while the other can. Returns `None` for a fax machine
/// that only receives, because its silence is normal.
fn silent_side_reason(silent: &str, side: &SideFacts, facts: &VerdictFacts) -> Option<String> {
    let is_listening = facts.fax.is_some() && side.undecodable.is_empty();
    (!is_listening).then(|| silence_reason(silent, side, facts.spool_loss.as_deref()))
}

fn no_media_reason(facts: &VerdictFacts) -> String {
    let any = |audibility| facts.caller.audibility == audibility || facts.callee.audibility == audibility;
    let has = |reason: &UndecodableReason| {
        facts.caller.undecodable.contains(reason) || facts.callee.undecodable.contains(reason)
    };
    if has(&UndecodableReason::Cut) {
        "The capture cut the media packets short: raise its snap length.".to_owned()
    } else if has(&UndecodableReason::Damaged) {
        "No media packet could be decoded: their contents do not fit the codec that was agreed.".to_owned()
    } else if facts.fax.is_some() {
        fax_note(facts).trim_start().to_owned()
    } else if any(Audibility::Silence) {
        "Media packets arrived, but they contain only digital silence: check the telephones.".to_owned()
    } else if any(Audibility::AlmostNothing) {
        "Almost no media packet of the call arrived, or almost none could be decoded.".to_owned()
    } else if facts.caller.withheld || facts.callee.withheld {
        "All media of the call was deliberately not kept (recording was paused).".to_owned()
    } else if facts.caller.events || facts.callee.events {
        "The mirror showed telephone-events (DTMF) within the recorded part of the call, but no audio.".to_owned()
    } else if facts.packets > 0 {
        "The mirror showed media, but none within the recorded part of the call.".to_owned()
    } else if facts.is_over_tcp {
        "The parties agreed on media over TCP (RFC 4571), which is not recorded: let the PBX use RTP over UDP."
            .to_owned()
    } else if facts.is_behind_nat {
        "The mirror showed media between the hosts of the call, but on addresses that a NAT changed: mirror the other side of \
         the NAT."
            .to_owned()
    } else if facts.answered == AnswerState::BeganBefore {
        "The call began before the capture, and no media of it was seen.".to_owned()
    } else {
        "The mirror showed the signalling but no media of the call: check that it sees the media path.".to_owned()
    }
}

/// Returns a sentence that explains why a side cannot be heard. `side` is the side's name in the sentence.
fn silence_reason(side: &str, facts: &SideFacts, spool_loss: Option<&str>) -> String {
    match facts.undecodable.iter().next() {
        None if facts.audibility == Audibility::Silence => {
            format!("the {side}'s packets contain only digital silence (one-way audio): check the {side}'s telephone")
        }
        None if facts.audibility == Audibility::AlmostNothing => {
            format!("almost no media of the {side} arrived in the recorded part of the call")
        }
        None if facts.events => format!("the {side} sent telephone-events (DTMF) only"),
        None if facts.withheld => format!("media of the {side} was deliberately not kept"),
        None => match spool_loss {
            Some(loss) => format!("no media of the {side} was kept, because {loss}"),
            None => format!("the mirror showed no media of the {side} in the recorded part of the call"),
        },
        Some(UndecodableReason::Encrypted(why)) => {
            format!("the {side}'s media is encrypted, {}", encryption_reason(*why))
        }
        Some(UndecodableReason::Cut) => format!("the capture cut the {side}'s packets short"),
        Some(UndecodableReason::Damaged) => {
            format!("the contents of the {side}'s packets do not fit the codec that was agreed")
        }
        Some(other) => match unknown_codec_name(other) {
            Some(name) => format!("there is no decoder for the {side}'s {name}"),
            None => format!("the {side}'s media cannot be decoded"),
        },
    }
}

fn unknown_codec_name(reason: &UndecodableReason) -> Option<String> {
    match reason {
        UndecodableReason::UnknownCodec(name) => Some(format!("codec {name}")),
        UndecodableReason::UnknownPayloadType(pt) | UndecodableReason::UnannouncedChange(pt) => {
            Some(format!("payload type {pt}, which no SDP announced"))
        }
        _ => None,
    }
}

const fn encryption_reason(why: UndecryptableReason) -> &'static str {
    match why {
        UndecryptableReason::DtlsSrtp => "its keys were agreed by DTLS-SRTP and never cross the wire in clear",
        UndecryptableReason::Zrtp => "its keys were agreed by ZRTP and never cross the wire in clear",
        UndecryptableReason::NoKeys => "its SRTP keys are not in the signalling that the mirror showed",
        UndecryptableReason::WrongKeys => "the SRTP keys in the signalling do not decrypt it",
        UndecryptableReason::Unsupported => "its SRTP suite or keys cannot be used",
    }
}

/// A side counts as heard if it has decoded sound for this share of the recorded time, 0 to 1. Sound of
/// [`MIN_HEARD_MS`] is enough, too. So a short greeting in a long call counts. The few unencrypted packets before an
/// SRTP key agreement do not.
const MIN_HEARD_SHARE: f64 = 0.02;
/// A side counts as heard if it has decoded sound of this duration in ms, however long the call is.
const MIN_HEARD_MS: f64 = 1_000.0;
/// Minimum share of decoded packets among all packets of a side, 0 to 1. Below it, the side has almost no sound
/// ([`Audibility::AlmostNothing`]).
const MIN_DECODED_SHARE: f64 = 0.05;
/// Minimum share of a side's packets, 0 to 1, that a reason must concern. Rarer reasons are not named in the verdict.
const MIN_REASON_SHARE: f64 = 0.05;
/// Largest magnitude of a sample that counts as digital silence: 8 in A-law, plus the ripple of a resampler.
const SILENCE_PEAK: u32 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn side(is_heard: bool, undecodable: &[UndecodableReason]) -> SideFacts {
        let audibility = if is_heard { Audibility::Heard } else { Audibility::Nothing };
        SideFacts { audibility, undecodable: undecodable.iter().cloned().collect(), ..SideFacts::default() }
    }

    #[test]
    fn side_is_heard_by_its_decoded_time_and_not_by_a_packet() {
        let report = |decoded: u64, encrypted: u64, peak: u32| {
            let reason = UndecodableReason::Encrypted(UndecryptableReason::Zrtp);
            let silent = (encrypted > 0).then_some((reason, encrypted)).into_iter().collect();
            let heard_us = decoded * 20_000;
            SideReport { decoded, silent, heard_us, peak, talk_s: 1.0, silence_s: 19.0, ..SideReport::default() }
        };
        let of = |decoded, encrypted, peak| Audibility::of(&report(decoded, encrypted, peak));
        assert_eq!(of(15, 982, 9_000), Audibility::AlmostNothing, "ZRTP");
        assert_eq!(of(60, 2_000, 9_000), Audibility::AlmostNothing, "most of it encrypted");
        assert_eq!(of(32, 0, 0), Audibility::Silence);
        assert_eq!(of(32, 0, 9_000), Audibility::Heard, "a short answer");
        assert_eq!(of(1, 0, 9_000), Audibility::AlmostNothing);
        assert_eq!(of(0, 900, 0), Audibility::Nothing);
    }

    #[test]
    fn reason_for_a_few_packets_is_not_that_of_silence() {
        let zrtp = UndecodableReason::Encrypted(UndecryptableReason::Zrtp);
        let report = |encrypted: u64| {
            let silent = [(UndecodableReason::Damaged, 3), (zrtp.clone(), encrypted)].into_iter().collect();
            SideReport { decoded: 500, silent, heard_us: 10_000_000, silence_s: 20.0, ..SideReport::default() }
        };
        let reason = |encrypted: u64| {
            let callee = SideFacts::from(&report(encrypted));
            verdict(&VerdictFacts { caller: side(true, &[]), callee, packets: 999, ..VerdictFacts::default() }).1
        };
        assert!(reason(2).contains("digital silence"), "{}", reason(2));
        assert!(reason(900).contains("encrypted"), "{}", reason(900));
    }

    #[test]
    fn first_verdict_that_applies_is_returned() {
        let opaque = [
            UndecodableReason::UnknownCodec("G723".to_owned()),
            UndecodableReason::Encrypted(UndecryptableReason::Zrtp),
        ];
        let mut facts = VerdictFacts {
            caller: side(true, &[]),
            callee: side(true, &opaque),
            packets: 9,
            ..VerdictFacts::default()
        };
        assert_eq!(verdict(&facts).0, CallVerdict::BothSides);
        facts.callee.audibility = Audibility::Nothing;
        assert_eq!(verdict(&facts).0, CallVerdict::CallerOnly);
        facts.caller.audibility = Audibility::AlmostNothing;
        facts.answered = AnswerState::No;
        assert_eq!(verdict(&facts).0, CallVerdict::NotAnswered);
        facts.answered = AnswerState::Yes;
        assert_eq!(verdict(&facts).0, CallVerdict::Encrypted);
        facts.callee.undecodable.remove(&opaque[1]);
        let (word, reason) = verdict(&facts);
        assert_eq!((word, reason.as_str()), (CallVerdict::UnknownCodec, "There is no decoder for codec G723."));
        facts.callee.undecodable.clear();
        assert_eq!(verdict(&facts).0, CallVerdict::NoMedia);
        facts.spool_loss = Some("the spool could not be written (EMFILE)".to_owned());
        let (word, reason) = verdict(&facts);
        assert_eq!((word, reason.contains("EMFILE")), (CallVerdict::Failed, true), "never no_media: {reason}");
        facts.spool_loss = None;
        facts.failure = Some("the disk is full".to_owned());
        assert_eq!(verdict(&facts).0, CallVerdict::Failed);
    }

    #[test]
    fn reason_explains_the_silent_side() {
        let facts = VerdictFacts {
            callee: side(true, &[]),
            caller: side(false, &[UndecodableReason::UnknownCodec("G723".to_owned())]),
            packets: 9,
            ..VerdictFacts::default()
        };
        let (word, reason) = verdict(&facts);
        assert_eq!(word, CallVerdict::CalleeOnly);
        assert_eq!(reason, "Only the callee can be heard: there is no decoder for the caller's codec G723.");
    }
}
