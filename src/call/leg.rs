//! A leg: one dialog as captured between two hosts (one *hop*), with its media streams and the timers that end it.

use std::time::Duration;

use crate::call::call_table::links::LegLinks;
use crate::call::config::Config;
use crate::call::correlation_keys::{CLOCK_SKEW, CallerNaming, CorrelationKeys, InviteTarget, LegSignature};
use crate::call::dialog::{AnswerEvidence, Dialog, DialogStart, DialogState};
use crate::call::event::LegId;
use crate::call::keys::CallKey;
use crate::call::leg_join::LegJoin;
use crate::call::leg_media::LegMedia;
use crate::call::media_index::{AddressTrust, is_private};
use crate::call::party::LegParties;
use crate::call::pause::DtmfDetector;
use crate::call::record::{CallOutcome, EndedBy, LegRecord, Side};
use crate::call::voice_prints::VoicePrints;
use crate::net::Endpoint;
use crate::time::Timestamp;

/// A leg: a dialog as captured between two hosts (one *hop*), and its media.
#[derive(Debug)]
pub(crate) struct Leg {
    /// Id of the leg within this process. Its spool file is found by this id.
    pub(crate) id: LegId,
    /// Name of the leg's spool file without extension.
    pub(crate) name: String,
    /// Entries of the leg in the indexes of the call table.
    pub(crate) links: LegLinks,
    /// State of the leg's SIP dialog.
    pub(crate) dialog: Dialog,
    /// Numbers and names of the leg's parties, from its own messages.
    pub(crate) parties: LegParties,
    /// Headers of the leg's first message, by which correlation finds other legs of the same call.
    pub(crate) correlation_keys: CorrelationKeys,
    /// RTP streams of the leg, and the times of their packets.
    pub(crate) media: LegMedia,
    /// State of the leg's spool file.
    pub(crate) spool: LegSpoolState,
    /// Pauses of the leg's recording, and the recognition of DTMF sequences that request them.
    pub(crate) pause: LegPause,
    /// How the leg joined its call.
    pub(crate) join: LegJoin,
    /// Capture time of the leg's first message.
    pub(crate) created_at: Timestamp,
    state: LegState,
}

/// A leg without a call. Correlation decides which call it joins.
#[derive(Clone, Debug)]
pub(crate) struct LegDraft {
    /// State of the leg's SIP dialog.
    pub(crate) dialog: Dialog,
    /// Numbers and names of the leg's parties.
    pub(crate) parties: LegParties,
    /// Headers of the leg's first message, by which correlation finds other legs of the same call.
    pub(crate) correlation_keys: CorrelationKeys,
    /// Sender and receiver of the first INVITE. One address stands for all addresses of a machine
    /// ([`LegLinks::machines`]).
    pub(crate) machine_hop: (Endpoint, Endpoint),
    /// Capture time of the leg's first message.
    pub(crate) at: Timestamp,
}

impl LegDraft {
    /// Returns the numbers, hosts and times that rules about numbers compare.
    pub(crate) fn signature(&self) -> LegSignature<'_> {
        signature(&self.dialog, &self.parties, self.machine_hop, self.at)
    }
}

fn signature<'a>(
    dialog: &'a Dialog,
    parties: &'a LegParties,
    hop: (Endpoint, Endpoint),
    at: Timestamp,
) -> LegSignature<'a> {
    LegSignature {
        hop,
        transport: dialog.transport,
        call_id: dialog.call_id(),
        target: InviteTarget { request_uri: parties.request_uri(), route: parties.route() },
        at,
        invited_again_at: dialog.invited_again_at(),
        from: parties.from.as_deref(),
        second_from: parties.second_caller_number(),
        to: parties.to.as_deref(),
        diverted: parties.diverted_from(),
        from_extension: parties.is_from_extension() && !parties.may_be_from_trunk_of(dialog.caller_addr),
        naming: match (parties.is_from_nobody(), parties.is_called_by_pbx()) {
            (true, _) => CallerNaming::Withheld,
            (false, true) => CallerNaming::Nameless,
            (false, false) => CallerNaming::Named,
        },
    }
}

/// Whether a leg still accepts messages and media.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LegState {
    /// The leg accepts messages and media.
    Open,
    /// The leg is contested and may be over. Since the given capture time, another answered call has had media at a
    /// media address of this leg.
    Contested { since: Timestamp },
    /// The leg is over and accepts no late packets.
    Closed,
}

/// State of the spool file of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegSpoolState {
    /// The spool file is not open yet, or a rule excludes the call from recording.
    Shut,
    /// The spool file is open, so packets are added to the file.
    Open {
        /// Time of the decision `Start` in the spool file; `None` before the recording begins.
        started_at: Option<Timestamp>,
    },
    /// The leg is over and had no media. Its signalling is kept until its call ends, so that the leg is known after a
    /// restart.
    Kept,
    /// The spool file was closed after its last packet, or was deleted.
    Closed {
        /// Time of the decision `Start` in the spool file; `None` if the recording did not begin.
        started_at: Option<Timestamp>,
    },
}

impl LegSpoolState {
    /// Returns whether the spool file is open for packets.
    pub(crate) const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// Returns the time of the decision `Start` in the spool file; `None` if the file has no such decision.
    pub(crate) const fn started_at(self) -> Option<Timestamp> {
        match self {
            Self::Shut | Self::Kept => None,
            Self::Open { started_at } | Self::Closed { started_at } => started_at,
        }
    }

    /// Marks the spool file as closed, if it is open.
    pub(crate) const fn close(&mut self) {
        if let Self::Open { started_at } = *self {
            *self = Self::Closed { started_at };
        }
    }
}

/// The pauses of a leg's recording.
#[derive(Debug, Default)]
pub(crate) struct LegPause {
    /// Recognises the DTMF sequences of both sides that pause or resume the recording.
    pub(crate) keypad: DtmfDetector,
    /// Whether the recording was ever paused. If not, no packet has to be compared with the times of the pauses.
    pub(crate) is_known: bool,
}

/// The next step of a leg's timeout: check again later, end the leg, or close it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LegDue {
    /// The leg is not over yet. Check it again at this capture time, because it may time out then.
    Later(Timestamp),
    /// End the leg at the given capture time, for the given reason.
    End(Timestamp, EndedBy),
    /// Close the leg, because it is over and no late packets can arrive any more.
    Close,
}

impl Leg {
    /// Creates a leg of a telephone call from its signalling (`draft`), after correlation has found this call. The leg
    /// has no RTP streams yet.
    pub(crate) fn new(id: LegId, name: String, links: LegLinks, draft: LegDraft) -> Self {
        let LegDraft { dialog, parties, correlation_keys, machine_hop: _, at } = draft;
        Self {
            id,
            name,
            links,
            dialog,
            parties,
            correlation_keys,
            media: LegMedia::default(),
            spool: LegSpoolState::Shut,
            pause: LegPause::default(),
            join: LegJoin::default(),
            created_at: at,
            state: LegState::Open,
        }
    }

    /// Returns a copy of this leg without its media, to assign the leg to a call again.
    pub(crate) fn draft(&self) -> LegDraft {
        LegDraft {
            dialog: self.dialog.clone(),
            parties: self.parties.clone(),
            correlation_keys: self.correlation_keys.clone(),
            machine_hop: self.machines(),
            at: self.created_at,
        }
    }

    /// Returns the numbers, hosts and times that rules about numbers compare.
    pub(crate) fn signature(&self) -> LegSignature<'_> {
        signature(&self.dialog, &self.parties, self.machines(), self.created_at)
    }

    /// Returns the hop of the leg: sender and receiver of the first INVITE.
    pub(crate) fn hop(&self) -> (Endpoint, Endpoint) {
        (self.dialog.caller_addr, self.dialog.callee_addr)
    }

    /// Returns the key of the leg's call.
    pub(crate) const fn call(&self) -> CallKey {
        self.links.call()
    }

    /// Returns sender and receiver of the first INVITE. If a PBX or proxy has several addresses, one address stands for
    /// all. So equal endpoints on two legs mean the same PBX or proxy.
    pub(crate) const fn machines(&self) -> (Endpoint, Endpoint) {
        self.links.machines()
    }

    /// Returns the endpoints at which the leg announced to receive media.
    pub(crate) fn announced(&self) -> &[Endpoint] {
        self.links.announced()
    }

    /// Returns the presumed endpoints of both sides' media. Each is the host that sends the side's SIP, with the port
    /// that the side announced.
    pub(crate) fn presumed(&self) -> &[Endpoint] {
        self.links.presumed()
    }

    /// Returns whether messages between these endpoints belong to this leg, i.e. pass between its two hosts. The ports
    /// may differ from those of the leg (TCP, asymmetric UDP). They must be equal only if both endpoints are on one
    /// host.
    pub(crate) fn is_hop(&self, a: Endpoint, b: Endpoint) -> bool {
        let (x, y) = self.hop();
        if x.same_host(y) {
            return (a == x && b == y) || (a == y && b == x);
        }
        (a.same_host(x) && b.same_host(y)) || (a.same_host(y) && b.same_host(x))
    }

    /// Returns whether the receiver of the INVITE has sent no response at all. By then the sender must have sent the
    /// INVITE again (Timer A, RFC 3261 section 17.1.1.2). A provider that is down is silent.
    pub(crate) fn is_unheeded_at(&self, at: Timestamp) -> bool {
        let is_silent = !self.dialog.is_tried() && self.dialog.refusal().is_none() && self.dialog.answered.is_none();
        is_silent && at.since(self.created_at) >= TIMER_A
    }

    /// Returns the action that the leg's timer has to take at the time `now`.
    pub(crate) fn due(&self, now: Timestamp, config: &Config) -> LegDue {
        match self.dialog.state() {
            DialogState::Ended { at, .. } => self.due_when_ended(now, at),
            DialogState::Challenged { at } => {
                later_or(now, at + TRANSACTION_TIMEOUT, || LegDue::End(at, EndedBy::Signalling))
            }
            DialogState::Inviting => self.due_when_inviting(now, config),
            DialogState::Established => self.due_when_established(now, config),
        }
    }

    fn due_when_ended(&self, now: Timestamp, ended_at: Timestamp) -> LegDue {
        // A leg that ended by a media timeout is closed at once. Its end is the time of its last media, so no late
        // packets are expected any more.
        let since = ended_at.max(self.dialog.last_at());
        let linger = if self.dialog.invites_another_try() { TRANSACTION_TIMEOUT } else { LATE_PACKET_TIME };
        later_or(now, since + linger, || LegDue::Close)
    }

    fn due_when_inviting(&self, now: Timestamp, config: &Config) -> LegDue {
        let dialog = &self.dialog;
        let heard = self.media.last_at().unwrap_or(self.created_at);
        if let Some(cancelled) = dialog.cancelled_at() {
            return later_or(now, cancelled.max(heard) + TRANSACTION_TIMEOUT, || {
                LegDue::End(cancelled, EndedBy::Signalling)
            });
        }
        let patience = match dialog.is_tried() {
            // If both sides sent media, the call was answered, although the answer was not captured. So the leg ends by
            // the media timeout and not by the ring timeout.
            _ if self.has_both_sides() => Duration::from_secs(u64::from(config.silence_s)),
            true => RING_TIMEOUT,
            false => UNSEEN_RESPONSES_TIMEOUT,
        };
        let last = dialog.last_at().max(heard);
        let ended = if self.has_both_sides() { heard } else { last };
        later_or(now, last + patience, || LegDue::End(ended, EndedBy::Silence))
    }

    fn due_when_established(&self, now: Timestamp, config: &Config) -> LegDue {
        let dialog = &self.dialog;
        let answered = dialog.answered.map_or(self.created_at, |(at, _)| at);
        let heard = self.media.last_at().unwrap_or(answered).max(answered);
        let cut = answered + Duration::from_secs(u64::from(config.max_hours) * 3_600);
        if now >= cut {
            return LegDue::End(cut, EndedBy::Limit);
        }
        let superseded = self.contested_since().map(|since| since + SUPERSEDED_TIMEOUT);
        if superseded.is_some_and(|at| now >= at) {
            return LegDue::End(heard, EndedBy::Replaced);
        }
        let silence = if dialog.is_quiet() { config.hold_s } else { config.silence_s };
        let silent = heard.max(dialog.last_at()) + Duration::from_secs(u64::from(silence));
        if now >= silent {
            return LegDue::End(heard, EndedBy::Silence);
        }
        let running = dialog.session_timer().filter(|_| !dialog.is_quiet());
        let expires = running.map(|(delta, refreshed)| {
            (refreshed + Duration::from_secs(u64::from(delta))).max(heard) + TRANSACTION_TIMEOUT
        });
        if expires.is_some_and(|at| now >= at) {
            return LegDue::End(heard, EndedBy::SessionExpired);
        }
        let next = [Some(silent), expires, superseded].into_iter().flatten().min().unwrap_or(cut);
        LegDue::Later(next.min(cut))
    }

    /// Returns the time of the leg's last media, if the leg is over. A leg is over if another call uses its media
    /// address, and the leg has had neither media nor a message since then.
    pub(crate) fn replaced_at(&self) -> Option<Timestamp> {
        let (answered, _) = self.dialog.answered?;
        self.contested_since().and(self.media.last_at()).map(|heard| heard.max(answered))
    }

    /// Returns the time since which another call uses the media address of this leg. Returns `None` if this leg shows
    /// that it continues: by later media, by a later message, or by a hold.
    pub(crate) fn contested_since(&self) -> Option<Timestamp> {
        let (LegState::Contested { since }, heard) = (self.state, self.media.last_at()?) else { return None };
        let is_over = heard <= since && self.dialog.last_at() <= since && !self.dialog.is_quiet();
        is_over.then_some(since)
    }

    /// Returns the endpoint from which a side sends its SIP messages.
    pub(crate) const fn signaller(&self, side: Side) -> Endpoint {
        match side {
            Side::Caller => self.dialog.caller_addr,
            Side::Callee => self.dialog.callee_addr,
        }
    }

    /// Returns the machine that sends the SIP messages of a side, as an endpoint. One address stands for all addresses
    /// of this machine.
    pub(crate) const fn machine_at(&self, side: Side) -> Endpoint {
        match side {
            Side::Caller => self.machines().0,
            Side::Callee => self.machines().1,
        }
    }

    /// Returns how reliably a media address that a side announced identifies that side.
    pub(crate) fn address_trust(&self, announced: Endpoint, side: Side) -> AddressTrust {
        AddressTrust::of(announced, side, self.signaller(side), self.media.streams())
    }

    /// Returns presumed addresses of both sides: the host that sends the side's SIP, with the port that the side
    /// announced. Addresses that were announced (`claims`) are left out.
    pub(crate) fn presumed_addresses(&self, claims: &[(Endpoint, Side)]) -> Vec<(Endpoint, Side)> {
        let ports = self.dialog.negotiation.ports().into_iter();
        let presumed = ports.map(|(port, side)| (self.signaller(side).with_port(port), side));
        presumed.filter(|(endpoint, _)| !claims.iter().any(|(claim, _)| claim == endpoint)).collect()
    }

    /// Returns the sides behind a NAT that may send their media from an unknown host. Each has a key for the media
    /// index: the host that sends the other side's SIP, with the port that the side announced.
    pub(crate) fn unplaced_receivers(&self, claims: &[(Endpoint, Side)]) -> Vec<(Endpoint, Side)> {
        let is_translated = |(claim, side): &&(Endpoint, Side)| {
            is_private(self.signaller(*side).ip()) && !is_private(claim.ip()) && !claim.ip().is_multicast()
        };
        let key = |(claim, side): &(Endpoint, Side)| (self.signaller(side.other()).with_port(claim.port()), *side);
        claims.iter().filter(is_translated).map(key).collect()
    }

    /// Returns whether media was captured at an endpoint that was announced for `side`.
    pub(crate) fn is_heard_as_announced(&self, side: Side) -> bool {
        self.media.streams().iter().any(|stream| stream.end_of(side).was_announced)
    }

    /// Returns the side that sends its SIP from this host; `None` if neither side does, or both do.
    pub(crate) fn side_of_host(&self, endpoint: Endpoint) -> Option<Side> {
        let signals = |side: &Side| self.signaller(*side).same_host(endpoint);
        let mut sides = [Side::Caller, Side::Callee].into_iter().filter(signals);
        sides.next().filter(|_| sides.next().is_none())
    }

    /// Returns whether a new stream shows that `side` now sends from another endpoint, which it has not announced.
    pub(crate) fn has_moved(&self, src: Endpoint, side: Side) -> bool {
        let mut known = self.media.streams().iter().filter(|s| s.side == side).peekable();
        self.dialog.answered.is_some()
            && known.peek().is_some()
            && !self.announced().contains(&src)
            && known.all(|s| s.src != src)
    }

    /// Returns whether the leg was not over at this time. Only messages captured so far count.
    pub(crate) fn lived_at(&self, at: Timestamp) -> bool {
        self.dialog.ended().is_none_or(|(ended, _)| ended > at)
    }

    /// Returns whether the leg was answered and ended before this time. A later INVITE with its Call-ID and From tag
    /// begins another call (RFC 3261 section 17.2.3).
    pub(crate) fn was_over_at(&self, at: Timestamp) -> bool {
        self.dialog.answered.is_some() && self.dialog.ended().is_some_and(|(ended, _)| ended + CLOCK_SKEW < at)
    }

    /// Returns whether the leg had been answered at this time. Only messages captured so far count.
    pub(crate) fn answered_by(&self, at: Timestamp) -> bool {
        self.dialog.answered.is_some_and(|(answered, _)| answered <= at)
    }

    /// Returns whether the leg is a recording session (SIPREC), which carries the sound of another call to a recorder.
    pub(crate) const fn is_recording_session(&self) -> bool {
        self.correlation_keys.recorded_parties.is_some()
    }

    /// Returns whether a party of the call may be at an end of the leg. A recording session (SIPREC) has no party, and
    /// neither has a leg between two addresses of one machine, e.g. two nodes of a cluster.
    pub(crate) fn may_have_party(&self) -> bool {
        self.may_have_party_between(self.machines())
    }

    /// Returns whether a party of the call may be at an end of the leg, as [`Leg::may_have_party`] does. The sending
    /// and the receiving machine are given, because they may differ from the leg's own.
    pub(crate) fn may_have_party_between(&self, (sender, receiver): (Endpoint, Endpoint)) -> bool {
        let is_within_machine = sender.same_host(receiver) && !self.hop().0.same_host(self.hop().1);
        !self.is_recording_session() && !is_within_machine
    }

    /// Returns whether the leg is a recording session (SIPREC) that names no party of the call that it records.
    pub(crate) fn is_nameless_recording_session(&self) -> bool {
        self.correlation_keys.recorded_parties.as_ref().is_some_and(Vec::is_empty)
    }

    /// Returns whether the leg was answered for certain, i.e. the 2xx to its INVITE was captured.
    pub(crate) fn is_answered_for_certain(&self) -> bool {
        matches!(self.dialog.answered, Some((_, AnswerEvidence::Success)))
    }

    /// Returns whether both legs have the same Call-ID and From tag. Then they are branches of a fork, or one dialog
    /// that was captured twice, e.g. before and behind a proxy.
    pub(crate) fn is_branch_of(&self, other: &Self) -> bool {
        self.dialog.call_id() == other.dialog.call_id() && self.dialog.caller_tag() == other.dialog.caller_tag()
    }

    /// Returns whether both legs are hops of one dialog (RFC 3261 section 12): Call-ID and both tags agree. A leg is a
    /// hop of its own dialog.
    pub(crate) fn is_hop_of_dialog(&self, other: &Self) -> bool {
        let [own, others] = [self, other].map(|leg| leg.dialog.callee_tag());
        self.id == other.id || self.is_branch_of(other) && own.is_some() && own == others
    }

    /// Returns whether the caller dialled a feature code of the PBX, i.e. a number that begins with `*` or `#`.
    pub(crate) fn dials_code(&self) -> bool {
        self.parties.to.as_deref().is_some_and(|to| to.starts_with(['*', '#']))
    }

    /// Returns whether the INVITE has no response except 100 yet, and the leg has no media.
    pub(crate) const fn is_unanswered_call(&self) -> bool {
        let dialog = &self.dialog;
        matches!(dialog.state(), DialogState::Inviting)
            && dialog.ringing_at().is_none()
            && dialog.status.is_none()
            && self.media.first_at().is_none()
    }

    /// Returns whether the leg is closed, i.e. it is over and accepts no late packets any more.
    pub(crate) const fn is_closed(&self) -> bool {
        matches!(self.state, LegState::Closed)
    }

    /// Closes the leg. Returns false if it was closed already.
    pub(crate) const fn close(&mut self) -> bool {
        !matches!(std::mem::replace(&mut self.state, LegState::Closed), LegState::Closed)
    }

    /// Records that another answered call has media at a media address of this leg since the given time.
    pub(crate) const fn contest(&mut self, since: Timestamp) {
        if !self.is_closed() {
            self.state = LegState::Contested { since };
        }
    }

    /// Returns whether a media packet of the leg was captured.
    pub(crate) const fn has_media(&self) -> bool {
        self.media.first_at().is_some()
    }

    /// Returns whether media of both sides was captured.
    pub(crate) fn has_both_sides(&self) -> bool {
        [Side::Caller, Side::Callee].iter().all(|side| self.media.streams().iter().any(|stream| stream.side == *side))
    }

    /// Returns whether the leg was answered, or may have been: both sides send media, and the mirror may have lost the
    /// answer.
    pub(crate) fn may_talk(&self) -> bool {
        self.dialog.answered.is_some() || self.has_both_sides()
    }

    /// Returns the outcome of the call attempt, according to the signalling of this leg.
    pub(crate) fn outcome(&self) -> CallOutcome {
        let dialog = &self.dialog;
        if dialog.answered.is_some() {
            return CallOutcome::Answered;
        }
        match dialog.status {
            _ if dialog.cancelled_at().is_some() => CallOutcome::Cancelled,
            Some(300..=399) => CallOutcome::Redirected,
            Some(486 | 600) => CallOutcome::Busy,
            Some(603 | 607) => CallOutcome::Declined,
            Some(408 | 480) => CallOutcome::NoAnswer,
            Some(487) => CallOutcome::Cancelled,
            Some(400..) => CallOutcome::Failed,
            // A caller may end an early dialog with BYE instead of CANCEL (RFC 3261 section 15). So the call counts as
            // cancelled.
            _ if dialog.start == DialogStart::Invite && matches!(dialog.ended(), Some((_, EndedBy::Caller))) => {
                CallOutcome::Cancelled
            }
            _ => CallOutcome::Unknown,
        }
    }

    /// Returns the record of the leg. The roles of its two ends are missing, because they depend on the other legs of
    /// the call.
    pub(crate) fn record(&self) -> LegRecord {
        let dialog = &self.dialog;
        LegRecord {
            sip_call_id: dialog.call_id().to_owned(),
            from_tag: dialog.caller_tag().map(str::to_owned),
            to_tag: dialog.callee_tag().map(str::to_owned),
            transport: dialog.transport,
            caller_addr: Some(dialog.caller_addr),
            callee_addr: Some(dialog.callee_addr),
            caller: None,
            callee: None,
            user_agents: dialog.user_agents().to_vec(),
            invited_at: dialog.invited_at(),
            answered_at: dialog.answered.filter(|(_, how)| *how != AnswerEvidence::MidCall).map(|(at, _)| at),
            ended_at: dialog.ended().map(|(at, _)| at),
            sip_status: dialog.status,
            voice_prints: if dialog.ended().is_some() { self.media.voice_prints() } else { VoicePrints::default() },
            rendered: false,
            joined_by: self.join.by(),
            spool: None,
            sides_swapped: false,
        }
    }
}

fn later_or(now: Timestamp, at: Timestamp, due: impl FnOnce() -> LegDue) -> LegDue {
    if now >= at { due() } else { LegDue::Later(at) }
}

/// Duration of the timers B, F and H of RFC 3261 (64 x T1). After it no retransmission is sent.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(32);
/// Time after which a sender repeats an INVITE without a response: Timer A, T1 (RFC 3261 section 17.1.1.2).
const TIMER_A: Duration = Duration::from_millis(500);
/// Time after which a leg ends if no response was captured. The mirror may show one direction only. The time is longer
/// than Timer C of a proxy, which is over three minutes (RFC 3261 section 16.6).
const UNSEEN_RESPONSES_TIMEOUT: Duration = Duration::from_secs(200);
/// Maximum time from a provisional to the final response. No caller waits longer than an hour.
const RING_TIMEOUT: Duration = Duration::from_secs(3_600);
/// Time after its end in which a leg accepts late packets: the 200 to the BYE, reordered frames, and RTP in transit.
pub(crate) const LATE_PACKET_TIME: Duration = Duration::from_secs(2);
/// Media timeout of a contested leg, i.e. if another answered call uses its media address.
const SUPERSEDED_TIMEOUT: Duration = Duration::from_secs(5);
