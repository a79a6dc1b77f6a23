//! Pause and resume of a recording, e.g. while a caller says a card number.
//!
//! Three triggers pause a recording: a SIP message (a configured header or an INFO), a DTMF sequence, and the API
//! ([`crate::call::Engine::handle_pause`]). During a pause only the RTP headers of all legs of the call are stored, and
//! the recording is silent.
//!
//! # Invariants
//! - A DTMF digit is compared and then forgotten. No record, log, spool file or `Debug` output contains it.
//! - In doubt a call stays paused. If the list of pauses is full, a resume is refused, but a pause is accepted.
//! - A repeated request changes nothing. Several legs may contain the same request, and after a restart it is read
//!   again from the spool.

use std::time::Duration;

use crate::call::record::{EventKind, EventRecord, PauseRecord, Side};
use crate::net::Ssrc;
use crate::rtp::RtpPacket;
use crate::sip::{SipMessage, SipMethod};
use crate::time::Timestamp;

/// Configuration of the triggers that pause and resume recordings. An empty text switches a trigger off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// Name of the SIP header that contains a pause or resume request, in any message of the call.
    pub header: String,
    /// Content-Type of an INFO with a body that may contain a pause or resume request.
    pub info_type: String,
    /// DTMF sequence that pauses the recording, made of `0-9*#A-D`.
    pub dtmf: String,
    /// DTMF sequence that resumes the recording, made of `0-9*#A-D`.
    pub resume_dtmf: String,
}

/// A request to pause or resume a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseAction {
    /// Pause the recording: stop storing the payload of packets.
    Pause,
    /// Resume the recording: store the payload of packets again.
    Resume,
}

impl PauseAction {
    /// Parses a text like `pause`, `Record: off` or `recording=resume`. Only the word after the last colon or equals
    /// sign counts. A semicolon or comma ends the text.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.split([';', ',']).next().unwrap_or(text);
        let value = text.rsplit([':', '=']).next().unwrap_or(text);
        let word = value.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_ascii_lowercase();
        match word.as_str() {
            "pause" | "paused" | "off" | "stop" | "false" | "no" | "0" => Some(Self::Pause),
            "resume" | "resumed" | "unpause" | "continue" | "on" | "start" | "true" | "yes" | "1" => Some(Self::Resume),
            _ => None,
        }
    }

    /// Returns the pause or resume request in a SIP message; `None` if there is none.
    pub(crate) fn in_message(message: &SipMessage<'_>, config: &Config) -> Option<Self> {
        let by_header = || {
            let name = Some(config.header.as_str()).filter(|name| !name.is_empty())?;
            Self::parse(&message.header(name)?)
        };
        by_header().or_else(|| {
            if config.info_type.is_empty() || !is_info_with_type(message, &config.info_type) {
                return None;
            }
            let body = message.body();
            let text = String::from_utf8_lossy(body.get(..MAX_BODY).unwrap_or(body));
            text.lines().find_map(Self::parse)
        })
    }
}

/// The pauses of one call in order of time. The last pause may still last.
#[derive(Clone, Debug, Default)]
pub(crate) struct PauseHistory {
    spans: Vec<PauseSpan>,
    events: Vec<EventRecord>,
}

#[derive(Clone, Copy, Debug)]
struct PauseSpan {
    from: Timestamp,
    to: Option<Timestamp>,
}

impl PauseHistory {
    /// Creates the history of a call that was never paused.
    pub(crate) const fn new() -> Self {
        Self { spans: Vec::new(), events: Vec::new() }
    }

    /// Applies a pause or resume request. Returns false if it repeats an earlier request and so changes nothing.
    pub(crate) fn apply(&mut self, action: PauseAction, at: Timestamp, by: &str, side: Option<Side>) -> bool {
        let full = self.spans.len() >= MAX_PAUSES;
        let changed = match (action, self.spans.last_mut()) {
            (PauseAction::Pause, Some(PauseSpan { to: None, .. })) | (PauseAction::Resume, None) => false,
            // This pause request was read again, from the spool or from another leg. The pause that it began has
            // already ended, so it changes nothing.
            (PauseAction::Pause, Some(PauseSpan { to: Some(to), .. })) if at < *to => false,
            (PauseAction::Pause, _) => {
                self.spans.push(PauseSpan { from: at, to: None });
                true
            }
            (PauseAction::Resume, Some(PauseSpan { from, to })) if to.is_none() && at >= *from && !full => {
                *to = Some(at);
                true
            }
            (PauseAction::Resume, Some(_)) => false,
        };
        if changed {
            let kind = if action == PauseAction::Pause { EventKind::Pause } else { EventKind::Unpause };
            self.events.push(EventRecord { at, kind, side, detail: Some(by.to_owned()) });
        }
        changed
    }

    /// Adds the pauses of a call that is merged into this call.
    pub(crate) fn merge(&mut self, other: Self) {
        self.spans.extend(other.spans);
        self.spans.sort_by_key(|span| (span.from, span.to.is_none()));
        self.events.extend(other.events);
    }

    /// Returns the start of the current pause; `None` if the call is not paused.
    pub(crate) fn paused_since(&self) -> Option<Timestamp> {
        self.spans.iter().rev().find(|span| span.to.is_none()).map(|span| span.from)
    }

    /// Returns whether a packet with this capture time belongs to a pause. Packets may be slightly out of order.
    pub(crate) fn covers(&self, at: Timestamp) -> bool {
        let near = self.spans.iter().rev().take_while(|span| span.to.is_none_or(|to| at < to));
        near.into_iter().any(|span| span.from <= at)
    }

    /// Returns whether the call was never paused.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Returns the pauses for the record. `ended_at` is the end of the call; `None` if the call is live.
    pub(crate) fn record(&self, ended_at: Option<Timestamp>) -> Vec<PauseRecord> {
        let end = |span: &PauseSpan| match (span.to, ended_at) {
            (Some(to), Some(end)) => Some(to.min(end).max(span.from)),
            (None, Some(end)) => Some(end.max(span.from)),
            (to, None) => to,
        };
        self.spans.iter().map(|span| PauseRecord { from: span.from, to: end(span) }).collect()
    }

    /// Returns the pause and resume events in order of time.
    pub(crate) fn events(&self) -> &[EventRecord] {
        &self.events
    }
}

/// Recognises the configured DTMF sequences in the digits of both sides of a leg (RFC 4733, SIP INFO). It stores at
/// most the digits of one sequence.
#[derive(Clone, Default)]
pub(crate) struct DtmfDetector {
    sides: [DtmfSideState; 2],
}

#[derive(Clone, Default)]
struct DtmfSideState {
    /// SSRC and RTP timestamp of the newest telephone-event; `None` before the first. All packets of one key press have
    /// the same timestamp.
    newest: Option<(Ssrc, u32)>,
    /// CSeq number of the newest INFO with a DTMF digit; `None` before the first.
    newest_info: Option<u32>,
    keys: [u8; MAX_KEYS],
    at: Option<Timestamp>,
    events: u32,
}

impl std::fmt::Debug for DtmfDetector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keypad([hidden])")
    }
}

/// Result of handling a DTMF digit, which arrived in a telephone-event packet or in a SIP INFO.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct DtmfPress {
    /// Whether a new key press begins. The record lists it as an event.
    pub(crate) is_new: bool,
    /// Pause or resume request of the sequence that this digit completes; `None` if it completes no sequence.
    pub(crate) action: Option<PauseAction>,
}

impl DtmfDetector {
    /// Handles a telephone-event packet. `readable` is false if its payload is encrypted or was not captured.
    pub(crate) fn handle_packet(
        &mut self,
        side: Side,
        at: Timestamp,
        packet: &RtpPacket<'_>,
        readable: bool,
        config: &Config,
    ) -> DtmfPress {
        let code = packet.payload.first().copied().filter(|_| readable);
        // Events 0 to 15 are DTMF digits (RFC 4733 section 3.2). An event that cannot be read counts as a digit, too.
        // Any other event is ignored.
        if code.is_some_and(|code| code > 15) {
            return DtmfPress::default();
        }
        let pressed = &mut self.sides[side.channel()];
        let mark = (packet.ssrc, packet.time.0);
        // The last packet of an event is sent three times. A copy may arrive after the next event has begun, and is no
        // new key press.
        let newer = |known: (Ssrc, u32)| known.0 != mark.0 || (mark.1.wrapping_sub(known.1) as i32) > 0;
        if !pressed.newest.is_none_or(newer) {
            return DtmfPress::default();
        }
        pressed.newest = Some(mark);
        pressed.press(at, code, config)
    }

    /// Handles an INFO with a DTMF digit (`application/dtmf-relay`, `application/dtmf`). Ignores other messages.
    pub(crate) fn handle_message(
        &mut self,
        side: Side,
        at: Timestamp,
        message: &SipMessage<'_>,
        config: &Config,
    ) -> DtmfPress {
        if !DTMF_INFO_TYPES.iter().any(|relay| is_info_with_type(message, relay)) {
            return DtmfPress::default();
        }
        let pressed = &mut self.sides[side.channel()];
        let number = message.cseq().map(|cseq| cseq.number);
        if number.is_some() && pressed.newest_info == number {
            return DtmfPress::default();
        }
        pressed.newest_info = number;
        pressed.press(at, key_in_info(message.body()), config)
    }
}

impl DtmfSideState {
    fn press(&mut self, at: Timestamp, code: Option<u8>, config: &Config) -> DtmfPress {
        self.events = self.events.saturating_add(1);
        let is_new = self.events <= MAX_EVENTS;
        if self.at.is_none_or(|last| at.since(last) > MAX_KEY_INTERVAL) {
            self.keys = [0; MAX_KEYS];
        }
        self.at = Some(at);
        let Some(key) = code.and_then(|code| KEYS.get(usize::from(code))) else {
            self.keys = [0; MAX_KEYS];
            return DtmfPress { is_new, action: None };
        };
        self.keys.rotate_left(1);
        self.keys[MAX_KEYS - 1] = *key;
        let ends = |sequence: &str| !sequence.is_empty() && self.keys.ends_with(sequence.to_uppercase().as_bytes());
        // If the digits complete both the pause and the resume sequence, the longer sequence counts.
        let mut sequences =
            [(config.dtmf.as_str(), PauseAction::Pause), (config.resume_dtmf.as_str(), PauseAction::Resume)];
        sequences.sort_by_key(|(sequence, _)| std::cmp::Reverse(sequence.len()));
        let action = sequences.iter().find(|(sequence, _)| ends(sequence)).map(|(_, action)| *action);
        if action.is_some() {
            self.keys = [0; MAX_KEYS];
        }
        DtmfPress { is_new, action }
    }
}

fn is_info_with_type(message: &SipMessage<'_>, content_type: &str) -> bool {
    message.method() == Some(&SipMethod::Info)
        && message.header("Content-Type").is_some_and(|given| {
            given.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(content_type))
        })
}

/// Returns the event code of the digit in an INFO body: `Signal=5`, or the digit alone. Returns `None` for other
/// bodies.
fn key_in_info(body: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(body.get(..MAX_BODY).unwrap_or(body)).ok()?;
    let named = text.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("signal").then_some(value)
    });
    match named.unwrap_or(text).trim() {
        "10" => Some(10),
        "11" => Some(11),
        key if key.len() == 1 => KEYS.iter().position(|k| key.to_uppercase().as_bytes() == [*k]).map(|code| code as u8),
        _ => None,
    }
}

/// DTMF digits, indexed by event code (RFC 4733 section 3.2).
const KEYS: [u8; 16] = *b"0123456789*#ABCD";
/// Maximum number of digits in a sequence that pauses or resumes.
pub(crate) const MAX_KEYS: usize = 16;
/// Maximum time between two digits of a DTMF sequence that pauses or resumes the recording.
const MAX_KEY_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum number of DTMF events in the record for each side of a leg. It limits the size of the record.
const MAX_EVENTS: u32 = 250;
/// Maximum number of pauses of a call. A pause each minute makes 1,440 a day. After this number, the last pause lasts
/// to the end of the call.
const MAX_PAUSES: usize = 2_000;
/// Maximum number of bytes of a body that are searched for a request or a digit.
const MAX_BODY: usize = 512;
/// Content types of an INFO with a DTMF digit. No RFC defines them; Cisco introduced them.
const DTMF_INFO_TYPES: [&str; 2] = ["application/dtmf-relay", "application/dtmf"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{PayloadType, SequenceNumber, Ssrc};
    use crate::rtp::RtpPacket;
    use crate::sip::SipFraming;
    use crate::time::RtpTime;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_micros(1_000_000_000 + ms * 1_000)
    }

    fn config() -> Config {
        Config {
            header: "X-Recording".to_owned(),
            info_type: "application/x-recording".to_owned(),
            dtmf: "*1".to_owned(),
            resume_dtmf: "*2".to_owned(),
        }
    }

    fn event<'a>(time: u32, payload: &'a [u8]) -> RtpPacket<'a> {
        RtpPacket {
            ssrc: Ssrc(7),
            sequence: SequenceNumber(0),
            time: RtpTime(time),
            pt: PayloadType(101),
            marker: false,
            header_len: 12,
            payload,
        }
    }

    fn info(head: &str, body: &str) -> String {
        format!(
            "INFO sip:a@b SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:b@b>;tag=2\r\n\
             Call-ID: c\r\nCSeq: 5 INFO\r\n{head}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    }

    fn action(text: &str) -> Option<PauseAction> {
        let message = SipMessage::parse(text.as_bytes(), SipFraming::Datagram).expect("a message");
        PauseAction::in_message(&message, &config())
    }

    #[test]
    fn pause_requests_are_parsed_in_every_style() {
        for (text, expected) in [
            ("pause", Some(PauseAction::Pause)),
            (" Resume ", Some(PauseAction::Resume)),
            ("off;who=agent", Some(PauseAction::Pause)),
            ("Record: on", Some(PauseAction::Resume)),
            ("recording=\"off\"", Some(PauseAction::Pause)),
            ("<pause/>", Some(PauseAction::Pause)),
            ("perhaps", None),
            ("", None),
        ] {
            assert_eq!(PauseAction::parse(text), expected, "{text}");
        }
        assert_eq!(action(&info("X-Recording: pause\r\n", "")), Some(PauseAction::Pause));
        let body = "Record: on\r\n";
        assert_eq!(action(&info("Content-Type: application/x-recording;v=1\r\n", body)), Some(PauseAction::Resume));
        assert_eq!(action(&info("Content-Type: text/plain\r\n", body)), None);
    }

    #[test]
    fn a_key_counts_once_and_a_sequence_yields_its_request() {
        let mut keypad = DtmfDetector::default();
        let mut press = |ms: i64, time: u32, code: u8| {
            keypad.handle_packet(Side::Caller, at(ms), &event(time, &[code, 10, 0, 160]), true, &config())
        };
        assert_eq!(press(0, 100, 10), DtmfPress { is_new: true, action: None });
        assert_eq!(press(20, 100, 10), DtmfPress::default(), "the same key goes on");
        assert_eq!(press(200, 900, 1), DtmfPress { is_new: true, action: Some(PauseAction::Pause) });
        assert_eq!(press(220, 100, 10), DtmfPress::default(), "the end of the first key, late");
        assert_eq!(press(400, 1_900, 10).action, None);
        assert_eq!(press(6_000, 2_900, 2).action, None, "too slow");
        assert_eq!(press(6_100, 3_900, 10).action, None);
        assert_eq!(press(6_200, 4_900, 2).action, Some(PauseAction::Resume));
        // Event 16 is a hook flash, not a DTMF digit (RFC 4733). So it is no key press.
        assert_eq!(press(6_300, 5_900, 16), DtmfPress::default());
    }

    #[test]
    fn a_retransmitted_info_does_not_count_its_key_again() {
        let mut keypad = DtmfDetector::default();
        let text = info("Content-Type: application/dtmf-relay\r\n", "Signal=*\r\nDuration=160\r\n");
        let first = SipMessage::parse(text.as_bytes(), SipFraming::Datagram).expect("a message");
        let mut press = |message: &SipMessage<'_>| keypad.handle_message(Side::Callee, at(0), message, &config());
        assert_eq!(press(&first), DtmfPress { is_new: true, action: None });
        assert_eq!(press(&first), DtmfPress::default());
        let text = info("Content-Type: application/dtmf\r\n", "1").replace("CSeq: 5", "CSeq: 6");
        let second = SipMessage::parse(text.as_bytes(), SipFraming::Datagram).expect("a message");
        assert_eq!(press(&second).action, Some(PauseAction::Pause));
    }

    #[test]
    fn no_key_can_be_printed() {
        let mut keypad = DtmfDetector::default();
        keypad.handle_packet(Side::Caller, at(0), &event(1, &[7, 0, 0, 0]), true, &config());
        assert_eq!(format!("{keypad:?}"), "Keypad([hidden])");
    }

    #[test]
    fn a_repeated_pause_request_changes_nothing() {
        let mut pauses = PauseHistory::new();
        let mut put = |action, ms| pauses.apply(action, at(ms), "test", None);
        assert!(!put(PauseAction::Resume, 5));
        assert!(put(PauseAction::Pause, 10) && !put(PauseAction::Pause, 11) && put(PauseAction::Resume, 20));
        // After a restart, the same requests are read again from the spool file of a second leg. They change nothing.
        assert!(!put(PauseAction::Pause, 10) && !put(PauseAction::Resume, 20));
        assert!(put(PauseAction::Pause, 30));
        assert!([9, 20, 29].iter().all(|ms| !pauses.covers(at(*ms))));
        assert!([10, 19, 30, 99].iter().all(|ms| pauses.covers(at(*ms))));
        let ends: Vec<_> = pauses.record(Some(at(40))).iter().map(|p| p.to).collect();
        assert_eq!(ends, [Some(at(20)), Some(at(40))]);
        assert_eq!(pauses.events().len(), 3);
    }

    #[test]
    fn at_the_bound_a_call_stays_paused() {
        let mut pauses = PauseHistory::new();
        for n in 0..2 * MAX_PAUSES as i64 {
            pauses.apply(PauseAction::Pause, at(2 * n), "test", None);
            pauses.apply(PauseAction::Resume, at(2 * n + 1), "test", None);
        }
        assert_eq!(pauses.record(None).len(), MAX_PAUSES);
        assert!(pauses.paused_since().is_some() && pauses.covers(at(1_000_000)));
    }
}
