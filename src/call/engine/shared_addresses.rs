//! Legs that share a media address: whether the address shows that they are one call, or that one call replaced another.

use crate::call::engine::Engine;
use crate::call::keys::LegKey;
use crate::call::leg::Leg;
use crate::call::media_index::AddressTrust;
use crate::call::record::{ProblemKind, Side};
use crate::net::Endpoint;
use crate::time::Timestamp;

/// Evidence of the media addresses that two legs share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::call::engine) enum SharedMedia {
    /// The legs share no address, or only one that identifies nobody or is used again.
    NoEvidence,
    /// An established leg got the address of the other leg's party, e.g. when the PBX connects two calls.
    Connected,
    /// The legs carry one call.
    SameCall,
}

impl Engine {
    /// Returns the evidence of the media addresses that a leg shares with another leg.
    ///
    /// An address that identifies nobody proves nothing. One address alone does not show that two legs are one call if the
    /// older leg was answered when the newer one began: after a lost BYE, the PBX uses the port again. The addresses of
    /// both sides together do.
    pub(in crate::call::engine) fn shared_media(&self, leg: &Leg, other: &Leg) -> SharedMedia {
        let (older, newer) = if leg.created_at <= other.created_at { (leg, other) } else { (other, leg) };
        let trusted = |leg: &Leg| {
            let mut claims = leg.dialog.negotiation.claims();
            claims.retain(|(endpoint, side)| leg.address_trust(*endpoint, *side) != AddressTrust::Unconfirmed);
            claims
        };
        let theirs = trusted(other);
        let is_shared = |endpoint: Endpoint| theirs.iter().any(|(known, _)| *known == endpoint);
        let shared: Vec<(Endpoint, Side)> = trusted(leg).into_iter().filter(|(e, _)| is_shared(*e)).collect();
        let sides = [Side::Caller, Side::Callee].iter().filter(|side| shared.iter().any(|(_, s)| s == *side)).count();
        let is_own = |leg: &Leg, endpoint: Endpoint, side: Side| leg.signaller(side).same_host(endpoint);
        let is_passed_on = |(endpoint, side): &(Endpoint, Side)| {
            !is_own(leg, *endpoint, *side) && theirs.iter().any(|(e, s)| e == endpoint && is_own(other, *e, *s))
        };
        match sides {
            0 => SharedMedia::NoEvidence,
            1 if !older.answered_by(newer.created_at) => SharedMedia::SameCall,
            1 if leg.dialog.answered.is_some() && shared.iter().any(is_passed_on) => SharedMedia::Connected,
            1 => SharedMedia::NoEvidence,
            _ => SharedMedia::SameCall,
        }
    }

    /// Contests older answered legs of other calls whose media address the answered leg at `slot` uses now. A contested leg
    /// ends soon unless its media or its signalling continues.
    ///
    /// Both legs must have had media at the address. During an agreed hold an address is not in use, so that its silence
    /// shows nothing.
    pub(in crate::call::engine) fn contest_older_legs(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let (conversation, answered) = (leg.call(), leg.dialog.answered.map(|(at, _)| at));
        let (Some(answered), Some(_)) = (answered, leg.first_media_at) else { return };
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
                old.superseded_at = Some(since);
                self.rearm_leg_timer(other);
            }
        }
    }
}

impl Engine {
    /// Records that media flowed between the hosts of an answered leg without media, if the stored packets without a call
    /// show that. They end with the leg, whose last seconds they cover.
    pub(in crate::call::engine) fn note_media_behind_nat(&mut self, slot: LegKey) {
        let Some(leg) = self.table.leg(slot) else { return };
        let is_answered = leg.dialog.answered.is_some();
        if !is_answered || self.table.legs_of(leg.call()).any(Leg::has_media) {
            return;
        }
        let between =
            |src: Endpoint, dst: Endpoint| leg.may_send(Side::Caller, src, dst) || leg.may_send(Side::Callee, src, dst);
        if self.early_media.has_flow(MIN_UNMATCHED, &between)
            && let Some(call) = self.table.call_mut(leg.call())
        {
            call.note_problem(ProblemKind::MediaBehindNat);
        }
    }
}

impl Leg {
    /// Whether a flow can be media of `sender`, changed by a NAT: it leaves a host of the sender, and goes to a host or a
    /// port of the other side.
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

    /// Returns the time of the first media from or to an endpoint.
    fn heard_at(&self, endpoint: Endpoint) -> Option<Timestamp> {
        let at_end = |side| self.streams.iter().filter(move |s| s.end_of(side).endpoint == endpoint);
        at_end(Side::Caller).chain(at_end(Side::Callee)).filter_map(|s| s.first_at()).min()
    }
}

/// Packets that show media between two hosts: one second of voice.
const MIN_UNMATCHED: usize = 50;
