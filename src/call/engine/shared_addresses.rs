//! Legs of two calls that use the same media address. The older call is probably over, although no BYE was captured.

use crate::call::engine::Engine;
use crate::call::keys::LegKey;
use crate::call::leg::Leg;
use crate::call::record::{ProblemKind, Side};
use crate::net::Endpoint;
use crate::time::Timestamp;

impl Engine {
    /// Marks older answered legs of other calls as contested, if the answered leg `slot` now uses one of their media
    /// addresses. A contested leg ends soon, unless its media or signalling continues.
    ///
    /// Both legs must have had media at the address. A leg on hold is silent anyway, so it is not contested.
    pub(in crate::call::engine) fn contest_older_legs(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let (conversation, answered) = (leg.call(), leg.dialog.answered.map(|(at, _)| at));
        let (Some(answered), Some(_)) = (answered, leg.media.first_at()) else { return };
        let mut contests = Vec::new();
        for endpoint in leg.announced() {
            let Some(heard_at) = leg.heard_at(*endpoint) else { continue };
            let others = self.table.media().announced().at(*endpoint).iter().map(|r| r.slot);
            contests.extend(others.filter(|s| *s != slot).map(|other| (other, *endpoint, heard_at.max(answered))));
        }
        for (other, endpoint, since) in contests {
            if let Some(old) = self.table.leg_mut(other)
                && old.call() != conversation
                && old.dialog.ended().is_none()
                && old.contested_since().is_none()
                && !old.dialog.is_quiet()
                && old.dialog.answered.is_some_and(|(at, _)| at < answered)
                && old.heard_at(endpoint).is_some()
            {
                old.contest(since);
                self.rearm_leg_timer(other);
            }
        }
    }
}

impl Engine {
    /// Records why an answered leg has no media: it was sent over TCP, or a NAT has probably changed its addresses. A
    /// NAT is assumed if packets of no known leg went between the hosts of this leg in its last seconds.
    pub(in crate::call::engine) fn note_missing_media(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let is_answered = leg.dialog.answered.is_some();
        if !is_answered || self.table.legs_of(leg.call()).any(Leg::has_media) {
            return;
        }
        if leg.dialog.negotiation.is_media_over_tcp() {
            let call = leg.call();
            if let Some(call) = self.table.call_mut(call) {
                call.notes.note_problem(ProblemKind::MediaOverTcp);
            }
            return;
        }
        let between =
            |src: Endpoint, dst: Endpoint| leg.may_send(Side::Caller, src, dst) || leg.may_send(Side::Callee, src, dst);
        if self.kept.early_media.has_flow(MIN_UNMATCHED, &between)
            && let Some(call) = self.table.call_mut(leg.call())
        {
            call.notes.note_problem(ProblemKind::MediaBehindNat);
        }
    }
}

impl Leg {
    /// Returns whether a flow may be media of `sender`, even if a NAT changed one endpoint of the flow. The host of one
    /// endpoint must be a SIP or media host of its side. At the other endpoint, the host or the announced port must
    /// agree.
    fn may_send(&self, sender: Side, src: Endpoint, dst: Endpoint) -> bool {
        let negotiation = &self.dialog.negotiation;
        let claims = negotiation.claims();
        let has_host = |side: Side, end: Endpoint| {
            self.signaller(side).same_host(end) || claims.iter().any(|(e, s)| *s == side && e.same_host(end))
        };
        let has_port = |side: Side, end: Endpoint| negotiation.ports().contains(&(end.port(), side));
        let receiver = sender.other();
        has_host(sender, src) && (has_host(receiver, dst) || has_port(receiver, dst))
            || has_host(receiver, dst) && has_port(sender, src)
    }

    /// Returns the capture time of the first media from or to an endpoint; `None` if there was none.
    fn heard_at(&self, endpoint: Endpoint) -> Option<Timestamp> {
        let at_end = |side| self.media.streams().iter().filter(move |s| s.end_of(side).endpoint == endpoint);
        at_end(Side::Caller).chain(at_end(Side::Callee)).filter_map(|s| s.first_at()).min()
    }
}

/// Minimum number of packets between two hosts to count as media: one second of voice with 20 ms a packet.
const MIN_UNMATCHED: usize = 50;
