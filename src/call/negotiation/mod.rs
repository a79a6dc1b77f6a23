//! Offers and answers about audio in one dialog (RFC 3264). Also covers rejected offers (RFC 6141) and the answers of
//! early dialogs (RFC 3261 section 12.1, RFC 5853).
//!
//! A session description says where its sender *receives* media. So RTP to an announced address is the audio of the
//! *other* side.
//!
//! A description is *in force* when it applies to the media. An offer in a re-INVITE is in force after its answer; a
//! refused offer never is (RFC 3264 sections 4 and 8). Before the answer, only two parts of the offer are used: its
//! addresses, and the payload types that no description in force defines.

mod audio_description;
mod audio_line_use;
mod payload_formats;
mod stream_security;

pub use audio_description::AudioDescription;
use audio_description::AudioLine;
pub(crate) use audio_line_use::AudioLineUse;
pub(crate) use stream_security::StreamSecurity;

use crate::call::decision::PayloadFormat;
use crate::call::record::Side;
use crate::net::{Endpoint, PayloadType};
use crate::sdp::MediaDirection;

/// State of the SDP offers and answers of one dialog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Negotiation {
    announced: [Option<AudioDescription>; 2],
    /// Endpoints of earlier descriptions of each side, newest last. Each was in force once.
    former: [Vec<FormerEndpoint>; 2],
    /// Formats of earlier descriptions of each side by their payload types, newest last.
    former_formats: [Vec<(PayloadType, PayloadFormat)>; 2],
    /// Last SDP of each callee in its early dialog, with the callee's tag. After a fork each callee may send early
    /// media.
    forks: Vec<(String, AudioDescription)>,
    /// Whether the callee's description is certainly that of the callee that answered.
    is_callee_described: bool,
    /// Whether ZRTP messages in the media stream agreed on keys (RFC 6189).
    zrtp: bool,
    /// The last in-dialog offer of each side, until it is accepted. Both sides may send an offer at the same time
    /// (response 491).
    pending: [Option<PendingOffer>; 2],
    agreed: AgreedMedia,
    generation: u32,
}

/// An endpoint that a side announced until another description replaced it.
#[derive(Clone, Copy, Debug)]
struct FormerEndpoint {
    endpoint: Endpoint,
    /// Version of the negotiation with the first description that left the endpoint out.
    left_in: u32,
}

/// An offer in an in-dialog request that the other side has not accepted yet.
#[derive(Clone, Debug)]
struct PendingOffer {
    cseq: u32,
    /// State of the early dialog in which the request was sent; `None` if it was sent after the answer.
    early: Option<EarlyDescription>,
    before: [Option<AudioDescription>; 2],
    /// The SDP offer until its answer is captured; `None` afterwards.
    offer: Option<AudioDescription>,
    /// Whether the request contained the offer. If not, the 2xx response contains it.
    offered: bool,
}

/// The description that a callee had in its early dialog before an in-dialog request.
#[derive(Clone, Debug)]
struct EarlyDescription {
    /// Tag of the callee.
    tag: String,
    /// Last SDP of the callee in this dialog; `None` if it had sent none.
    before: Option<AudioDescription>,
}

/// The media on which both sides agreed in the last complete offer and answer. In each array, the value of the caller's
/// side comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AgreedMedia {
    /// Whether each side has put the other side on hold.
    pub(crate) holding: [bool; 2],
    /// Endpoint at which each side receives audio; `None` if it announced none.
    pub(crate) receivers: [Option<Endpoint>; 2],
    /// Whether T.38 fax has replaced the audio.
    pub(crate) fax: bool,
}

impl Negotiation {
    /// Stores the current descriptions before an in-dialog request, so that [`Negotiation::rollback`] can restore them.
    ///
    /// A side must not make a new offer before the answer to its last offer (RFC 3264 section 4). So the last offer
    /// counts as accepted, even if its answer was not captured. `early_tag` is the callee's tag, if the request was
    /// sent in an early dialog.
    pub(crate) fn begin(&mut self, by: Side, cseq: u32, early_tag: Option<String>) {
        if self.pending[by.channel()].as_ref().is_some_and(|p| p.cseq == cseq) {
            return;
        }
        self.accept(by);
        let before = self.announced.clone();
        let described = |tag: &String| self.forks.iter().find(|(known, _)| known == tag).map(|(_, sdp)| sdp.clone());
        let early = early_tag.map(|tag| EarlyDescription { before: described(&tag), tag });
        self.pending[by.channel()] = Some(PendingOffer { cseq, early, before, offer: None, offered: false });
    }

    /// Records the offer in an in-dialog request of the side `by`. [`Negotiation::begin`] must have been called for
    /// this request before.
    pub(crate) fn offer(&mut self, by: Side, description: AudioDescription) {
        let is_first = self.announced(by).is_none();
        let Some(pending) = &mut self.pending[by.channel()] else { return self.announce(by, description) };
        pending.offered = true;
        if pending.offer.as_ref() != Some(&description) {
            pending.offer = Some(description);
            self.generation += 1;
        }
        if is_first {
            // If no session description of this side was captured before, its offer is used at once.
            self.accept(by);
        }
    }

    /// Puts the last offer of a side in force, because it was answered.
    pub(crate) fn accept(&mut self, by: Side) {
        let Some(pending) = &mut self.pending[by.channel()] else { return };
        let fork = pending.early.as_ref().filter(|_| by == Side::Callee).map(|early| early.tag.clone());
        match (pending.offer.take(), fork) {
            (Some(offer), Some(tag)) => self.announce_fork(&tag, offer),
            (Some(offer), None) => self.announce_certain(by, offer),
            (None, _) => {}
        }
    }

    /// Keeps the descriptions of an in-dialog request that succeeded. Returns whether the request offered T.38 fax and
    /// the answer refused it.
    pub(crate) fn commit(&mut self, by: Side, cseq: u32) -> bool {
        if self.pending[by.channel()].as_ref().is_some_and(|p| p.cseq == cseq) {
            self.accept(by);
        }
        let Some(pending) = self.pending[by.channel()].take_if(|p| p.cseq == cseq) else { return false };
        if pending.offered {
            self.settle(by);
        }
        self.rebase(by.other());
        let asked = self.announced(by).is_some_and(AudioDescription::is_fax_alone);
        asked && pending.offered && !self.agreed.fax
    }

    /// Restores the descriptions from before a rejected in-dialog request (RFC 3261 section 14.1). Returns whether the
    /// request offered T.38 fax.
    pub(crate) fn rollback(&mut self, by: Side, cseq: u32) -> bool {
        let Some(pending) = self.pending[by.channel()].take_if(|p| p.cseq == cseq) else { return false };
        let had_fax = pending.offer.as_ref().is_some_and(AudioDescription::is_fax_alone);
        let [caller, callee] = pending.before;
        let (own, other) = if by == Side::Caller { (caller, callee) } else { (callee, caller) };
        self.restore(by, own);
        if self.pending[by.other().channel()].is_none() {
            self.restore(by.other(), other);
        }
        if let Some(early) = pending.early {
            self.restore_early(early);
        }
        self.rebase(by.other());
        self.generation += 1;
        had_fax
    }

    /// Puts the description of a side from before a rejected request in force again.
    fn restore(&mut self, side: Side, description: Option<AudioDescription>) {
        if self.announced[side.channel()] != description {
            let rejected = std::mem::replace(&mut self.announced[side.channel()], description);
            self.note_former(side, rejected.map(|rejected| rejected.receivers).unwrap_or_default());
        }
    }

    /// Restores the description of an early dialog. Does nothing if the dialog was answered meanwhile.
    fn restore_early(&mut self, early: EarlyDescription) {
        let Some(at) = self.forks.iter().position(|(tag, _)| *tag == early.tag) else { return };
        match early.before {
            Some(description) => self.forks[at].1 = description,
            None => _ = self.forks.remove(at),
        }
    }

    /// Updates the agreed media after a complete offer and answer.
    ///
    /// After an offer of `sendrecv`, an answer of `sendonly` or `inactive` is a hold. After any other offer, the
    /// direction of the answer follows from the offer and means nothing (RFC 3264 section 6.1).
    pub(crate) fn settle(&mut self, offerer: Side) {
        let direction = |side| self.line(side).map_or(MediaDirection::SendRecv, |line| line.direction);
        let holds = [Side::Caller, Side::Callee]
            .map(|s| matches!(direction(s), MediaDirection::SendOnly | MediaDirection::Inactive));
        let free = self.announced(offerer).is_some() && direction(offerer) == MediaDirection::SendRecv;
        for side in [Side::Caller, Side::Callee] {
            if side == offerer || free {
                self.agreed.holding[side.channel()] = holds[side.channel()];
            }
        }
        self.agreed.fax = [Side::Caller, Side::Callee].iter().all(|s| self.announced(*s).is_some_and(|d| d.fax));
        for (known, announced) in self.agreed.receivers.iter_mut().zip(&self.announced) {
            *known = announced.as_ref().and_then(|d| d.receivers.first().copied()).or(*known);
        }
    }

    /// Returns the media on which both sides agreed in the last complete offer and answer.
    pub(crate) const fn agreed(&self) -> AgreedMedia {
        self.agreed
    }

    /// Updates the descriptions that come back in force if the unanswered request of `side` is rejected.
    fn rebase(&mut self, side: Side) {
        let other = side.other().channel();
        if let Some(pending) = &mut self.pending[side.channel()] {
            pending.before[other].clone_from(&self.announced[other]);
        }
    }

    /// Records a session description that is in force at once: an SDP answer, or the first offer.
    pub(crate) fn announce(&mut self, by: Side, mut description: AudioDescription) {
        let slot = &mut self.announced[by.channel()];
        if let Some(old) = slot {
            // A refused or held m-line (port 0, 0.0.0.0) has no address. Its media may still use the old address, so
            // that address is kept.
            if description.receivers.is_empty() {
                description.receivers.clone_from(&old.receivers);
            }
            if description.ports.is_empty() {
                description.ports.clone_from(&old.ports);
            }
            if description.formats.is_empty() {
                description.formats.clone_from(&old.formats);
            }
        }
        if slot.as_ref() != Some(&description) {
            let replaced = slot.replace(description);
            self.generation += 1;
            if let Some(old) = replaced {
                self.note_former(by, old.receivers);
                self.note_former_formats(by, old.formats);
            }
        }
    }

    /// Stores the formats of a description that was replaced. Of too many formats, the preferred ones are stored.
    fn note_former_formats(&mut self, by: Side, mut formats: Vec<(PayloadType, PayloadFormat)>) {
        let former = &mut self.former_formats[by.channel()];
        former.retain(|(known, _)| formats.iter().all(|(pt, _)| pt != known));
        formats.truncate(MAX_FORMER);
        former.extend(formats);
        former.drain(..former.len().saturating_sub(MAX_FORMER));
    }

    /// Stores the endpoints of a description that was replaced, except for those that the new description names, too.
    fn note_former(&mut self, by: Side, mut receivers: Vec<Endpoint>) {
        receivers.retain(|receiver| !self.announces(by, *receiver));
        let former = &mut self.former[by.channel()];
        for endpoint in receivers {
            former.retain(|known| known.endpoint != endpoint);
            if former.len() == MAX_FORMER {
                former.remove(0);
            }
            former.push(FormerEndpoint { endpoint, left_in: self.generation });
        }
    }

    fn announces(&self, side: Side, endpoint: Endpoint) -> bool {
        self.announced(side).is_some_and(|now| now.receivers.contains(&endpoint))
    }

    /// Returns whether a side announces an endpoint again that it did not announce for some time since the version
    /// `generation` of the negotiation. In that time, its media took another path.
    pub(crate) fn has_returned(&self, side: Side, endpoint: Endpoint, generation: u32) -> bool {
        let has_left = |known: &FormerEndpoint| known.endpoint == endpoint && known.left_in >= generation;
        self.former[side.channel()].iter().any(has_left) && self.announces(side, endpoint)
    }

    /// Returns whether the description of a side that is in force names other endpoints than this one. It may be an
    /// endpoint of another branch of a fork, an earlier endpoint of the side, or one that nobody announced. A
    /// description without endpoints, e.g. of a hold, supersedes only endpoints that the side announced before.
    pub(crate) fn is_superseded(&self, side: Side, endpoint: Endpoint) -> bool {
        self.announced(side).is_some_and(|now| {
            let is_former = self.former[side.channel()].iter().any(|known| known.endpoint == endpoint);
            (is_former || !now.receivers.is_empty()) && !now.receivers.contains(&endpoint)
        })
    }

    /// Records the SDP of a callee in its early dialog, which becomes the callee's description. The addresses of other
    /// early dialogs remain valid until [`Negotiation::choose`].
    pub(crate) fn announce_fork(&mut self, to_tag: &str, description: AudioDescription) {
        match self.forks.iter().position(|(tag, _)| tag == to_tag) {
            Some(at) if self.forks[at].1 == description => return,
            Some(at) => self.forks[at].1.clone_from(&description),
            None if self.forks.len() < MAX_FORKS => self.forks.push((to_tag.to_owned(), description.clone())),
            None => return,
        }
        self.generation += 1;
        self.announce(Side::Callee, description);
        self.rebase_other_branches(to_tag);
    }

    /// Updates the description of the callee that comes back in force if an unanswered request is rejected. A new
    /// description of one branch stays in force if the request belongs to another branch.
    fn rebase_other_branches(&mut self, to_tag: &str) {
        let callee = Side::Callee.channel();
        for pending in self.pending.iter_mut().flatten() {
            if pending.early.as_ref().is_some_and(|early| early.tag != to_tag) {
                pending.before[callee].clone_from(&self.announced[callee]);
            }
        }
    }

    /// Selects the early dialog of the callee that answered, and forgets all others. If the 2xx has no description, the
    /// last SDP of the callee in the early dialog remains in force.
    pub(crate) fn choose(&mut self, to_tag: &str) {
        if let Some(at) = self.forks.iter().position(|(tag, _)| tag == to_tag) {
            self.is_callee_described = true;
            let (_, description) = self.forks.swap_remove(at);
            self.announce(Side::Callee, description);
        }
        if !self.forks.is_empty() {
            self.forks.clear();
            self.generation += 1;
        }
    }

    /// Records the SDP of a side that no other branch of a fork can have sent.
    pub(crate) fn announce_certain(&mut self, by: Side, description: AudioDescription) {
        self.is_callee_described |= by == Side::Callee;
        self.announce(by, description);
    }

    /// Returns whether an SDP of the callee that answered was captured. Otherwise the callee's description may be that
    /// of another branch of a fork.
    pub(crate) const fn is_callee_described(&self) -> bool {
        self.is_callee_described
    }

    /// Records that ZRTP agreed on keys, so that the media is encrypted from now on.
    pub(crate) fn note_zrtp(&mut self) {
        if !self.zrtp {
            self.zrtp = true;
            self.generation += 1;
        }
    }

    /// Returns the version of the negotiation. It grows with every change, so that other code can notice a change.
    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the last description that a side announced; `None` before the first.
    pub(crate) const fn announced(&self, side: Side) -> Option<&AudioDescription> {
        self.announced[side.channel()].as_ref()
    }

    /// Returns the first audio m-line that neither side refuses, as described by `side`.
    fn line(&self, side: Side) -> Option<&AudioLine> {
        self.announced(side)?.line(self.announced(side.other()))
    }

    /// Returns every endpoint at which media of this dialog may arrive, each with its side. If both sides announce an
    /// endpoint, it is returned twice.
    pub(crate) fn claims(&self) -> Vec<(Endpoint, Side)> {
        let mut out: Vec<(Endpoint, Side)> = Vec::new();
        for (description, side) in self.descriptions() {
            for &receiver in &description.receivers {
                if !out.contains(&(receiver, side)) {
                    out.push((receiver, side));
                }
            }
        }
        out
    }

    /// Returns whether the sides agreed on media over TCP (RFC 4571). If the mirror showed one description only, this
    /// description decides alone.
    pub(crate) fn is_media_over_tcp(&self) -> bool {
        let [caller, callee] = [Side::Caller, Side::Callee].map(|side| self.announced(side));
        let lines = [(caller, callee), (callee, caller)].map(|(own, other)| own.and_then(|own| own.line(other)));
        let mut known = lines.iter().flatten().peekable();
        known.peek().is_some() && known.all(|line| line.is_over_tcp)
    }

    /// Returns every port at which media of this dialog may arrive, each with its side.
    pub(crate) fn ports(&self) -> Vec<(u16, Side)> {
        let mut out: Vec<(u16, Side)> = Vec::new();
        for (description, side) in self.descriptions() {
            for &port in &description.ports {
                if !out.contains(&(port, side)) {
                    out.push((port, side));
                }
            }
        }
        out
    }

    /// Returns all descriptions with addresses at which media may arrive now, each with its side. The order is:
    /// descriptions in force, early dialogs, unanswered offers, and the descriptions that these offers would replace.
    fn descriptions(&self) -> impl Iterator<Item = (&AudioDescription, Side)> {
        let sides = [Side::Caller, Side::Callee];
        let forks = self.forks.iter().map(|(_, description)| (description, Side::Callee));
        let offers = self.pending.iter().zip(sides).filter_map(|(p, side)| Some((p.as_ref()?.offer.as_ref()?, side)));
        let before = self.pending.iter().flatten().flat_map(move |p| described(&p.before));
        described(&self.announced).chain(forks).chain(offers).chain(before)
    }
}

/// Returns the descriptions that are present in an array (the caller's first), each with its side.
fn described(known: &[Option<AudioDescription>; 2]) -> impl Iterator<Item = (&AudioDescription, Side)> {
    known.iter().zip([Side::Caller, Side::Callee]).filter_map(|(description, side)| Some((description.as_ref()?, side)))
}

/// Maximum number of early dialogs of a fork that are stored.
const MAX_FORKS: usize = 16;
/// Maximum number of a side's former endpoints that are stored: one of each early dialog, and of eight re-INVITEs. As
/// many former formats are stored.
const MAX_FORMER: usize = 24;

#[cfg(test)]
mod tests;
