//! Correlation keys: the parts of a leg's first message by which correlation finds other legs of the same call.
//!
//! Media addresses are compared later, when the leg announces them.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::time::Duration;

use crate::call::config::Config;
use crate::call::correlation_rule::CorrelationRule;
use crate::call::decision::ReferRequest;
use crate::call::keys::{CallKey, LegKey};
use crate::decode::UdpDatagram;
use crate::net::{Endpoint, Transport};
use crate::sip::{ReferTo, Replaces, SessionId, SipMessage};
use crate::time::Timestamp;

/// Headers of an INVITE that identify the call to which its leg belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CorrelationKeys {
    /// Values of the configured correlation headers, each with the index of its header in the configuration.
    correlation: Vec<(usize, String)>,
    /// UUIDs in the Session-ID header. A UUID of zeros, which means unknown, is left out.
    sessions: Vec<String>,
    /// Call-ID of the dialog that the Replaces header names; `None` without this header.
    pub(crate) replaces: Option<String>,
    /// Numbers in the metadata of a recording session (SIPREC); `None` if the leg is not a recording session.
    pub(crate) recorded_parties: Option<Vec<String>>,
}

impl CorrelationKeys {
    /// Reads the keys from the message that began a leg, usually an INVITE.
    pub(crate) fn read(message: &SipMessage<'_>, config: &Config) -> Self {
        let value = |name: &str| message.header(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let names = config.correlation_headers.iter().take(MAX_HEADERS).enumerate();
        let session = message.header("Session-ID").and_then(|v| SessionId::parse(&v));
        let uuids = session.into_iter().flat_map(|s| [Some(s.local), s.remote]).flatten();
        Self {
            correlation: names.filter_map(|(n, name)| Some((n, value(name)?))).collect(),
            sessions: uuids.filter(|u| u.bytes().any(|b| b != b'0')).collect(),
            replaces: value("Replaces").and_then(|v| Replaces::parse(&v)).map(|r| r.call_id),
            recorded_parties: is_recording_session(message).then(|| recorded_parties(message.body())),
        }
    }

    /// Returns the rule by which two legs agree: a correlation header with the same value, or a common Session-ID.
    pub(crate) fn agreement(&self, other: &Self) -> Option<CorrelationRule> {
        if self.correlation.iter().any(|c| other.correlation.contains(c)) {
            return Some(CorrelationRule::CorrelationHeader);
        }
        self.sessions.iter().any(|s| other.sessions.contains(s)).then_some(CorrelationRule::SessionId)
    }
}

/// Returns whether an INVITE begins a recording session (SIPREC, RFC 7866 section 6.1). In such a session, an SBC or
/// telephone sends the sound of a call to a recording server.
fn is_recording_session(message: &SipMessage<'_>) -> bool {
    let has = |name: &str, word: &str| message.headers(name).iter().any(|v| v.to_ascii_lowercase().contains(word));
    has("Require", "siprec") || has("Contact", "+sip.src") || message.has_body_type("application/rs-metadata")
}

/// Returns the user parts of the SIP and tel URIs in the metadata of a recording session (RFC 7865).
fn recorded_parties(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(body.get(..MAX_METADATA_BYTES).unwrap_or(body));
    let uris = text.split(['"', '<', '>', '\'']).filter_map(|part| {
        let user = ["sips:", "sip:", "tel:"].iter().find_map(|scheme| part.trim().strip_prefix(scheme))?;
        Some(user.split(['@', ';']).next().unwrap_or(user).to_owned())
    });
    uris.filter(|user| has_digits(Some(user))).take(MAX_RECORDED_PARTIES).collect()
}

/// Addresses, time and numbers of a leg, as the rules about numbers compare them. The texts are borrowed, because each
/// new leg is compared with many legs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LegSignature<'a> {
    /// Sender and receiver of the first INVITE.
    pub(crate) hop: (Endpoint, Endpoint),
    /// Transport of the INVITE.
    pub(crate) transport: Transport,
    /// Call-ID of the leg.
    pub(crate) call_id: &'a str,
    /// Where the INVITE is sent.
    pub(crate) target: InviteTarget<'a>,
    /// Capture time of the leg's first message.
    pub(crate) at: Timestamp,
    /// Capture time of the newest INVITE that the caller sent in place of an earlier one; `None` if there is only one.
    pub(crate) invited_again_at: Option<Timestamp>,
    /// Caller's number, normalised for comparison; `None` if unknown.
    pub(crate) from: Option<&'a str>,
    /// A second number of the caller, normalised for comparison; `None` if the INVITE names one number only.
    pub(crate) second_from: Option<&'a str>,
    /// Called number, normalised for comparison; `None` if unknown.
    pub(crate) to: Option<&'a str>,
    /// Number that diverted the call to this leg (Diversion or History-Info header); `None` if it was not diverted.
    pub(crate) diverted: Option<&'a str>,
    /// Whether the caller's number is an extension of the PBX. Not if it may be the number of the trunk of the sender.
    pub(crate) from_extension: bool,
    /// Whether the INVITE names its caller.
    pub(crate) naming: CallerNaming,
}

/// Whether an INVITE names its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerNaming {
    /// The INVITE names a caller.
    Named,
    /// The INVITE names no real caller: the caller is a word, or is the called number itself. A PBX sends such an INVITE
    /// as the first leg of a click-to-call.
    Nameless,
    /// The caller's number is withheld. The word in its place is the same for all such callers.
    Withheld,
}

/// Where an INVITE is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InviteTarget<'a> {
    /// Request-URI of the INVITE; `None` if it was not captured.
    pub(crate) request_uri: Option<&'a str>,
    /// Values of the Route headers of the INVITE; `None` without such a header.
    pub(crate) route: Option<&'a str>,
}

/// How well a new leg matches an older leg that may have caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum MatchStrength {
    /// Nothing suggests that one leg caused the other.
    None,
    /// The PBX received the older leg and sent the new leg within [`PAIR_WINDOW`], and either the caller's number or
    /// the called number is the same.
    OneNumber,
    /// The PBX received the older leg and sent the new leg within [`PAIR_WINDOW`], and both numbers are the same.
    BothNumbers,
}

impl<'a> LegSignature<'a> {
    /// Returns the numbers of both parties: one or two of the caller, and the called number.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.caller_numbers().chain(self.to)
    }

    /// Returns the numbers that the INVITE names for its caller: none, one or two.
    pub(crate) fn caller_numbers(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        [self.from, self.second_from].into_iter().flatten()
    }

    /// Returns how well this new leg matches an older leg that may have caused it. For a match, the receiver of the
    /// older leg must have sent the new leg. If another machine sent it, or if the new leg is a separate call to the
    /// same address, returns [`MatchStrength::None`].
    pub(crate) fn onward_strength(&self, older: &LegSignature<'_>) -> MatchStrength {
        if self.is_own_call_beside(older) {
            return MatchStrength::None;
        }
        let asked_at = older.asked_before(self.at);
        if self.at.since(asked_at) > PAIR_WINDOW || asked_at.since(self.at) > CLOCK_SKEW {
            return MatchStrength::None;
        }
        if !self.hop.0.same_host(older.hop.1) {
            return MatchStrength::None;
        }
        let diverted = self.is_diverted_from(older);
        let strength = match self.number_strength(older) {
            MatchStrength::None if diverted => MatchStrength::OneNumber,
            // If the callers differ, an equal called number proves nothing, because two outside parties may call one
            // number. So the legs do not match.
            MatchStrength::OneNumber if self.has_other_caller(older) => MatchStrength::None,
            strength => strength,
        };
        // A new leg back to the sender of the older leg is usually a call in the opposite direction, which does not
        // match. There are two exceptions. Both numbers agree, because a proxy is in front of the PBX. Or the call was
        // forwarded over the same trunk, as an equal caller or a Diversion header shows.
        let forwarded = self.has_caller_of(older) || diverted || self.is_hairpin_of(older);
        if self.returns_to_sender(older) && strength != MatchStrength::BothNumbers && !forwarded {
            MatchStrength::None
        } else {
            strength
        }
    }

    /// Returns the capture time of the INVITE of this leg that can have caused another leg at the time `at`. It is the
    /// newest one, e.g. the INVITE with all digits of the number, unless that came later than the other leg.
    pub(crate) fn asked_before(&self, at: Timestamp) -> Timestamp {
        self.invited_again_at.filter(|again| *again <= at + CLOCK_SKEW).unwrap_or(self.at)
    }

    /// Returns whether this new leg is a hairpin: an extension's outbound call that the PBX sends back to the proxy
    /// from which it came. Its caller is now an outside number.
    ///
    /// Such a proxy serves telephones and trunk, e.g. Kamailio or a session border controller before the PBX.
    pub(crate) fn is_hairpin_of(&self, older: &LegSignature<'_>) -> bool {
        self.hop.0.same_host(older.hop.1)
            && self.returns_to_sender(older)
            && same_number(self.to, older.to)
            && older.from_extension
            && !self.from_extension
            && !same_number(self.to, older.from)
    }

    /// Returns whether this new leg is a separate call beside an older leg.
    ///
    /// Both legs go to the same address. In addition, they come from the same address, or they call different numbers.
    /// Softphones and diallers on the PBX's host make such calls.
    pub(crate) fn is_own_call_beside(&self, older: &LegSignature<'_>) -> bool {
        self.call_id != older.call_id
            && self.hop.1 == older.hop.1
            && (self.hop.0 == older.hop.0 || !same_number(self.to, older.to))
    }

    /// Returns whether this new leg rings another device of the number that the older leg rings.
    ///
    /// The PBX sends one INVITE for each registered device to the edge proxy (RFC 3261 section 16.6, RFC 5626). The
    /// devices have another Request-URI or another route. If a push message has to wake a device, its INVITE comes
    /// later, for the same caller.
    pub(crate) fn is_another_device_of(&self, older: &LegSignature<'_>) -> bool {
        let apart = self.at.distance(older.at);
        let same_caller = self.has_callers_number_of(older);
        (apart <= RING_BURST || same_caller)
            && self.hop.0.same_host(older.hop.0)
            && self.hop.1 == older.hop.1
            && self.call_id != older.call_id
            && same_number(self.to, older.to)
            && self.has_other_target_than(older)
    }

    /// Returns whether the edge proxy sends this leg's INVITE to another device than the older leg's. The Request-URI
    /// names the device, or a flow in the Route header does (RFC 3327, RFC 5626 section 5.3).
    fn has_other_target_than(&self, older: &LegSignature<'_>) -> bool {
        let (own, other) = (self.target, older.target);
        let has_other_route = own.route.is_some() && other.route.is_some() && own.route != other.route;
        own.request_uri.is_some() && (own.request_uri != other.request_uri || has_other_route)
    }

    /// Returns whether this leg calls the short outside number that an extension dialled in another form by the older
    /// leg.
    pub(crate) fn is_short_number_for(&self, older: &LegSignature<'_>) -> bool {
        older.from_extension && !self.from_extension && reaches_short_number(older.to, self.to)
    }

    /// Returns how many of the two numbers agree. The word in place of a withheld number is no second number beside an
    /// equal called number.
    fn number_strength(&self, older: &LegSignature<'_>) -> MatchStrength {
        let same_called = same_number(self.to, older.to) || self.is_short_number_for(older);
        match (self.has_caller_of(older), same_called) {
            (true, true) if self.naming != CallerNaming::Withheld => MatchStrength::BothNumbers,
            (true, _) | (false, true) => MatchStrength::OneNumber,
            (false, false) => MatchStrength::None,
        }
    }

    /// Returns whether this new leg is the second part of a click-to-call. The PBX first called an extension (the older
    /// leg), and now calls the outside number for this extension. The numbers agree
    /// ([`LegSignature::names_parties_of`]), or the first part named no caller.
    pub(crate) fn is_click_to_call_after(&self, older: &LegSignature<'_>) -> bool {
        self.hop.0.same_host(older.hop.0)
            && !self.hop.1.same_host(older.hop.1)
            && (older.naming == CallerNaming::Nameless || self.names_parties_of(older))
    }

    /// Returns whether the numbers show that this leg is the second part of a click-to-call, and `older` the first.
    /// Either the called number of `older` is the caller of this leg, or the caller of `older` is the called number of
    /// this leg.
    pub(crate) fn names_parties_of(&self, older: &LegSignature<'_>) -> bool {
        same_number(older.from, self.to) || (same_number(older.to, self.from) && self.from != self.to)
    }

    /// Returns whether the PBX sent this new leg to find a party for the caller of an older leg. This caller waits at
    /// the PBX and hears ringing, a queue or a voice menu. The wait may have any length.
    pub(crate) fn is_for_waiting_caller_of(&self, older: &LegSignature<'_>) -> bool {
        let in_return = self.returns_to_sender(older) && same_number(self.to, older.from);
        let same_caller = self.has_caller_of(older) || self.is_diverted_from(older);
        self.hop.0.same_host(older.hop.1) && !in_return && same_caller && !self.is_own_call_beside(older)
    }

    /// Returns whether the number that the older leg called diverted the call to this new leg.
    pub(crate) fn is_diverted_from(&self, older: &LegSignature<'_>) -> bool {
        same_number(self.diverted, older.to) && (self.from.is_none() || same_number(self.from, older.to))
    }

    /// Returns whether two legs certainly have different callers. Returns false if a PBX may have replaced an extension
    /// by an outside number, or added a prefix for another site. A PBX does not replace an extension by another
    /// extension.
    fn has_other_caller(&self, older: &LegSignature<'_>) -> bool {
        let is_prefixed = || {
            let both = self.from.zip(older.from);
            both.is_some_and(|(own, other)| own.ends_with(other) || other.ends_with(own))
        };
        let may_be_replaced = older.from_extension && (!self.from_extension || is_prefixed());
        let both_named = has_digits(self.from) && has_digits(older.from);
        !may_be_replaced && both_named && !self.has_caller_of(older)
    }

    /// Returns whether two legs name the same caller. If one leg names two numbers of its caller, one of them is enough,
    /// because a PBX may pass on only one. If both legs name two numbers, both must agree: callers of one company may
    /// show the same number.
    pub(crate) fn has_caller_of(&self, other: &LegSignature<'_>) -> bool {
        self.common_caller_numbers(other).next().is_some()
    }

    /// Returns whether two legs name the same caller, and not only by the same word, e.g. for a withheld number.
    pub(crate) fn has_callers_number_of(&self, other: &LegSignature<'_>) -> bool {
        self.common_caller_numbers(other).any(|number| has_digits(Some(number)))
    }

    fn common_caller_numbers(&self, other: &LegSignature<'_>) -> impl Iterator<Item = &str> {
        let others = [other.from, other.second_from];
        let is_common = |own: &&str| others.iter().any(|number| same_number(Some(own), *number));
        let common = [self.from, self.second_from].map(|number| number.filter(is_common));
        let both_name_two = self.second_from.is_some() && other.second_from.is_some();
        let is_enough = !both_name_two || common.iter().all(Option::is_some);
        common.into_iter().flatten().filter(move |_| is_enough)
    }

    /// Returns whether the PBX may have sent this new leg to try another trunk after the older leg. The PBX received
    /// the older leg, and both legs call the same number.
    pub(crate) fn is_next_trunk_for(&self, older: &LegSignature<'_>) -> bool {
        let sends_on = self.hop.0.same_host(older.hop.1) && !self.returns_to_sender(older);
        sends_on && same_number(self.to, older.to) && !self.is_own_call_beside(older)
    }

    /// Returns whether an extension that takes part in the older leg makes a second call by this new leg. The
    /// extension's telephone sent the new leg, or the PBX sent it with the extension as caller.
    pub(crate) fn is_second_call_of(&self, older: &LegSignature<'_>) -> bool {
        let (caller, callee) = older.hop;
        let sent_by = |phone: Endpoint, pbx: Endpoint| self.hop.0.same_host(phone) || self.hop.0.same_host(pbx);
        (same_number(self.from, older.from) && sent_by(caller, callee))
            || (same_number(self.from, older.to) && sent_by(callee, caller))
    }

    /// Returns whether this leg goes to the host that sent an older leg.
    pub(crate) fn returns_to_sender(&self, older: &LegSignature<'_>) -> bool {
        self.hop.1.same_host(older.hop.0)
    }

    /// Returns the extensions for which this leg may pick up a call: each possible ending of the dialled feature code,
    /// e.g. `200` in `*8200`.
    pub(crate) fn pickup_extensions(&self) -> impl Iterator<Item = String> + '_ {
        let code = self.to.and_then(|to| to.strip_prefix(['*', '#'])).unwrap_or("");
        let code = if code.len() > MAX_CODE_DIGITS { "" } else { code };
        let starts = 1..code.len().saturating_sub(MIN_EXTENSION_DIGITS - 1);
        starts.filter_map(|at| code.get(at..)).map(str::to_owned)
    }
}

/// Returns whether the receiver of one leg sent the other, or one host sent both to different hosts. Each leg is given
/// as (sender, receiver).
///
/// Few legs with an equal number pass this test, so the rules need not examine all of them.
pub(crate) fn hosts_meet((from, to): (Endpoint, Endpoint), (caller, callee): (Endpoint, Endpoint)) -> bool {
    from.same_host(callee) || to.same_host(caller) || (from.same_host(caller) && !to.same_host(callee))
}

/// Returns whether two numbers are the same: their last six digits are equal. If one is shorter, all digits must be
/// equal. Names without digits are compared without regard to case.
pub(crate) fn same_number(a: Option<&str>, b: Option<&str>) -> bool {
    let (Some(a), Some(b)) = (a, b) else { return false };
    match (last_digits(a).next(), last_digits(b).next()) {
        (Some(_), Some(_)) => last_digits(a).eq(last_digits(b)),
        (None, None) => a.eq_ignore_ascii_case(b),
        _ => false,
    }
}

/// Returns whether a PBX may call the short outside number `called` for a number that an extension dialled.
pub(crate) fn reaches_short_number(dialled: Option<&str>, called: Option<&str>) -> bool {
    let (Some(dialled), Some(called)) = (dialled, called) else { return false };
    short_numbers_of(dialled).any(|short| short == called)
}

/// Returns the short outside numbers that a PBX may call for a dialled number. E.g. `9112` is 112 after the digit for an
/// outside line, and `urn:service:sos` is any emergency number (RFC 5031).
fn short_numbers_of(dialled: &str) -> impl Iterator<Item = &str> {
    let has_prefix = PREFIXED_DIGITS.contains(&dialled.len()) && dialled.bytes().all(|b| b.is_ascii_digit());
    let is_service = dialled.starts_with("urn:service:sos");
    let services = if is_service { &EMERGENCY_NUMBERS[..] } else { &[] };
    has_prefix.then(|| &dialled[1..]).into_iter().chain(services.iter().copied())
}

/// Returns whether a number has a digit. A word in place of a number, e.g. for a withheld number, identifies nobody.
pub(crate) fn has_digits(number: Option<&str>) -> bool {
    number.is_some_and(|n| n.contains(|c: char| c.is_ascii_digit()))
}

/// Returns the form of a number in the index: its last six digits, or a name in lower case. Two numbers have the same
/// form exactly if [`same_number`] is true.
fn indexed_number(number: &str) -> String {
    if last_digits(number).next().is_none() {
        return number.to_ascii_lowercase();
    }
    last_digits(number).map(char::from).collect()
}

/// Returns the last six digits of a number in reverse order, without other characters.
fn last_digits(number: &str) -> impl Iterator<Item = u8> + '_ {
    number.bytes().rev().filter(u8::is_ascii_digit).take(COMPARED_DIGITS)
}

/// A captured REFER, by which a party of a live call asks for a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Referral {
    /// Call to which the leg with the REFER belongs.
    pub(crate) conversation: CallKey,
    /// Leg on which the REFER was captured.
    pub(crate) leg: LegKey,
    /// The REFER as the spool stores it.
    pub(crate) request: ReferRequest,
}

impl Referral {
    /// Reads a REFER that was captured on a leg. Returns `None` if the REFER cannot cause an INVITE.
    pub(crate) fn read(
        message: &SipMessage<'_>,
        datagram: &UdpDatagram<'_>,
        leg: LegKey,
        conversation: CallKey,
    ) -> Option<Self> {
        let refer_to = ReferTo::parse(&message.header("Refer-To")?)?;
        let request = ReferRequest {
            at: datagram.at,
            target: refer_to.target.uri.user.clone(),
            replaces: refer_to.replaces.map(|r| r.call_id),
            asked: datagram.dst,
            parties: Vec::new(),
            cseq: message.cseq().map_or(0, |cseq| cseq.number),
            over_at: None,
            spent_at: None,
            on_anchor: false,
        };
        Some(Self { conversation, leg, request })
    }

    /// Returns whether a new leg is the INVITE that this REFER asks for.
    pub(crate) fn causes(&self, signature: &LegSignature<'_>, keys: &CorrelationKeys) -> bool {
        let ReferRequest { at, target, replaces, asked, over_at, spent_at, .. } = &self.request;
        let is_over = over_at.is_some_and(|over| signature.at > over);
        let in_time = signature.at.since(*at) <= REFER_WINDOW && !is_over;
        let replaced = replaces.is_some() && *replaces == keys.replaces;
        let is_unspent = spent_at.is_none_or(|spent| signature.at.since(spent) <= RING_BURST);
        in_time
            && is_unspent
            && signature.hop.0.same_host(*asked)
            && (replaced || same_number(target.as_deref(), signature.to) && self.is_in_name_of_party(signature))
    }

    /// Returns whether another REFER is a retransmission of this REFER, or the same REFER as a proxy passed it on.
    pub(crate) fn is_repeated_by(&self, other: &Self) -> bool {
        let key = |referral: &Self| (referral.conversation, referral.request.cseq);
        key(self) == key(other) && self.request.target == other.request.target
    }

    /// Records that the receiver of the REFER has passed it on to another machine. From now on, that machine is
    /// expected to send the INVITE. Returns false if this datagram does not go from the receiver to another machine.
    pub(crate) fn pass_on(&mut self, datagram: &UdpDatagram<'_>) -> bool {
        let is_passed_on = datagram.src.same_host(self.request.asked) && !datagram.dst.same_host(self.request.asked);
        if is_passed_on {
            self.request.asked = datagram.dst;
        }
        is_passed_on
    }

    /// Records the end of the transfer. A PBX may report success just before it calls the target. So after a success,
    /// an INVITE may still belong to the REFER for a moment.
    pub(crate) fn note_end(&mut self, at: Timestamp, end: TransferEnd) {
        let over = if end == TransferEnd::Failed { at } else { at + PAIR_WINDOW };
        self.request.over_at = Some(self.request.over_at.map_or(over, |known| known.min(over)));
    }

    /// Returns whether the caller of a leg is a party of the REFER's call, or the leg has no caller's number.
    fn is_in_name_of_party(&self, signature: &LegSignature<'_>) -> bool {
        let mut parties = self.request.parties.iter();
        !has_digits(signature.from) || parties.any(|party| same_number(Some(party), signature.from))
    }

    /// Returns whether a new leg retrieves the call that this REFER parked, i.e. calls the target of the REFER at the
    /// same PBX. The time since the REFER does not matter.
    pub(crate) fn is_retrieved_by(&self, signature: &LegSignature<'_>) -> bool {
        let ReferRequest { asked, on_anchor, target, .. } = &self.request;
        signature.hop.1.same_host(*asked) && !on_anchor && same_number(target.as_deref(), signature.to)
    }
}

/// Result of a transfer, as reported by a NOTIFY (RFC 3515 section 2.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransferEnd {
    /// The target answered. Or the subscription ended, and the NOTIFY did not give a result.
    Done,
    /// The target of the transfer refused the transferred call.
    Failed,
}

impl TransferEnd {
    /// Reads the result of a transfer from a NOTIFY. Returns `None` if the transfer is not over, or if the NOTIFY has
    /// another subject.
    pub(crate) fn read(notify: &SipMessage<'_>) -> Option<Self> {
        notify.header("Event").filter(|event| event.trim_start().to_ascii_lowercase().starts_with("refer"))?;
        let body = String::from_utf8_lossy(notify.body());
        let status = body.trim_start().strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok());
        let is_terminated = || {
            let state = notify.header("Subscription-State");
            state.is_some_and(|state| state.trim_start().to_ascii_lowercase().starts_with("terminated"))
        };
        match status {
            Some(..200) => None,
            Some(200..300) => Some(Self::Done),
            Some(300..) => Some(Self::Failed),
            None => is_terminated().then_some(Self::Done),
        }
    }
}

/// Index of open legs by correlation header, Session-ID, and number at a host. Correlation compares a new leg with the
/// legs that it finds here.
#[derive(Debug, Default)]
pub(crate) struct CorrelationIndex {
    legs: HashMap<u64, Vec<LegKey>, foldhash::fast::RandomState>,
}

impl CorrelationIndex {
    /// Adds a leg. Returns its index keys, by which [`CorrelationIndex::remove`] finds it again. Store these keys with
    /// the leg, because its headers may change before it is removed.
    pub(crate) fn add(&mut self, leg: LegKey, keys: &CorrelationKeys, signature: &LegSignature<'_>) -> Vec<u64> {
        let index_keys = keys_of_leg(keys, signature);
        for key in &index_keys {
            let legs = self.legs.entry(*key).or_default();
            // At most 128 legs are kept for a key: the 64 oldest, e.g. the caller's leg of a large ring group, and the
            // 64 newest. The oldest of the 64 newest legs is removed to make room for the new leg.
            if legs.len() == 2 * MAX_SAME_KEY {
                legs.remove(MAX_SAME_KEY);
            }
            legs.push(leg);
        }
        index_keys
    }

    /// Returns the index keys of a leg with these headers and numbers, for tests.
    pub(crate) fn keys_of(&self, keys: &CorrelationKeys, signature: &LegSignature<'_>) -> Vec<u64> {
        keys_of_leg(keys, signature)
    }

    /// Returns the legs in the index. A leg is returned once for each of its keys.
    pub(crate) fn legs(&self) -> impl Iterator<Item = LegKey> {
        self.legs.values().flatten().copied()
    }

    /// Removes a leg. `index_keys` are the keys that [`CorrelationIndex::add`] returned.
    pub(crate) fn remove(&mut self, leg: LegKey, index_keys: &[u64]) {
        for key in index_keys {
            if let Some(legs) = self.legs.get_mut(key) {
                legs.retain(|other| *other != leg);
                if legs.is_empty() {
                    self.legs.remove(key);
                }
            }
        }
    }

    /// Returns the legs that have an index key in common with a new leg. Each leg is returned once.
    pub(crate) fn candidates(&self, keys: &CorrelationKeys, signature: &LegSignature<'_>) -> Vec<LegKey> {
        let mut out: Vec<LegKey> =
            index_keys(keys, signature).iter().filter_map(|k| self.legs.get(k)).flatten().copied().collect();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// Returns the legs with this number as caller or called number, and with this host as sender or receiver.
    pub(crate) fn legs_at(&self, host: Endpoint, number: &str) -> &[LegKey] {
        self.legs.get(&number_key(host, number)).map_or(&[], Vec::as_slice)
    }

    /// Returns the legs with this number as caller or called number.
    pub(crate) fn legs_with(&self, number: &str) -> &[LegKey] {
        self.legs.get(&anywhere_key(number)).map_or(&[], Vec::as_slice)
    }

    /// Returns the legs that this host sent and that name no caller.
    pub(crate) fn nameless_calls_of(&self, host: Endpoint) -> &[LegKey] {
        self.legs.get(&nameless_key(host)).map_or(&[], Vec::as_slice)
    }

    /// Returns the legs with one of these numbers as caller or called number. Each leg is returned once.
    pub(crate) fn legs_with_any<'n>(&self, numbers: impl Iterator<Item = &'n str>) -> Vec<LegKey> {
        let mut legs: Vec<LegKey> = numbers.flat_map(|number| self.legs_with(number)).copied().collect();
        legs.sort_unstable();
        legs.dedup();
        legs
    }

    /// Returns the number of different keys in the index.
    pub(crate) fn len(&self) -> usize {
        self.legs.len()
    }
}

/// Returns the index keys (hashes) of a leg.
fn keys_of_leg(keys: &CorrelationKeys, signature: &LegSignature<'_>) -> Vec<u64> {
    let mut index_keys = index_keys(keys, signature);
    index_keys.extend(signature.numbers().map(anywhere_key));
    // A PBX may send an extension's emergency call on with another number, and its leg must find this leg.
    for short in signature.to.filter(|_| signature.from_extension).into_iter().flat_map(short_numbers_of) {
        index_keys.extend([anywhere_key(short), number_key(signature.hop.1, short)]);
    }
    index_keys.sort_unstable();
    index_keys.dedup();
    index_keys.extend((signature.naming == CallerNaming::Nameless).then(|| nameless_key(signature.hop.0)));
    index_keys
}

/// Returns the index keys of a leg: one for each identifying header, and one for each of its numbers at each of its
/// hosts.
fn index_keys(keys: &CorrelationKeys, signature: &LegSignature<'_>) -> Vec<u64> {
    let mut out = Vec::new();
    out.extend(keys.correlation.iter().map(|(n, value)| hash(&(*n, value))));
    out.extend(keys.sessions.iter().map(hash));
    for host in [signature.hop.0, signature.hop.1] {
        for number in signature.numbers().chain(signature.diverted) {
            out.push(number_key(host, number));
        }
    }
    out.sort_unstable();
    out.dedup();
    out
}

fn number_key(host: Endpoint, number: &str) -> u64 {
    hash(&(host.ip(), indexed_number(number)))
}

fn anywhere_key(number: &str) -> u64 {
    hash(&("number at any host", indexed_number(number)))
}

fn nameless_key(host: Endpoint) -> u64 {
    hash(&(host.ip(), "nameless caller"))
}

fn hash<T: Hash>(value: &T) -> u64 {
    foldhash::fast::FixedState::with_seed(2).hash_one(value)
}

/// Maximum difference between the clocks of two capture interfaces. A leg may seem to be this much earlier than the leg
/// that caused it.
pub(crate) const CLOCK_SKEW: Duration = Duration::from_millis(100);
/// Maximum time from a leg that a PBX receives to the leg that it then sends at once. If the caller waits longer, e.g.
/// in a voice menu, other rules apply.
pub(crate) const PAIR_WINDOW: Duration = Duration::from_secs(2);
/// Maximum time between the ends of two legs, if one of them caused the other: a PBX passes the end on at once.
pub(crate) const END_WINDOW: Duration = Duration::from_secs(1);
/// Maximum time between the INVITEs to the telephones of a ring group, which a PBX rings together.
pub(crate) const RING_BURST: Duration = Duration::from_millis(200);
/// Maximum time between a REFER and the INVITE to its target.
const REFER_WINDOW: Duration = Duration::from_secs(30);
/// Number of digits at the end of a number that are compared. They distinguish the numbers of one site, with any
/// prefix.
const COMPARED_DIGITS: usize = 6;
/// Number of digits of a short outside number with the digit for an outside line before it.
const PREFIXED_DIGITS: std::ops::RangeInclusive<usize> = 4..=6;
/// Emergency numbers of the police, fire service and ambulance: of all countries, of North America, and of others.
const EMERGENCY_NUMBERS: [&str; 14] =
    ["112", "911", "999", "000", "110", "119", "01", "02", "03", "04", "101", "102", "103", "104"];
/// Minimum number of digits of an extension at the end of a pickup code.
const MIN_EXTENSION_DIGITS: usize = 2;
/// Maximum number of digits of a feature code that ends with an extension.
const MAX_CODE_DIGITS: usize = 16;
/// Number of the oldest legs, and of the newest legs, that are kept for one index key, e.g. for one number at one host.
/// It is enough for a ring group of sixty telephones. If more legs share a number, the number identifies none of them.
const MAX_SAME_KEY: usize = 64;
/// Maximum number of bytes that are read from the metadata of a recording session. The metadata of a call with two
/// parties has about 3,000 bytes.
const MAX_METADATA_BYTES: usize = 16_384;
/// Maximum number of parties that are read from the metadata of a recording session.
const MAX_RECORDED_PARTIES: usize = 8;
/// Maximum number of configured correlation headers that are used.
const MAX_HEADERS: usize = 16;
