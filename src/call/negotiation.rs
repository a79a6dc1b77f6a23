//! Offers and answers about audio in one dialog (RFC 3264). Also covers rejected offers (RFC 6141) and the answers of
//! early dialogs (RFC 3261 section 12.1, RFC 5853).
//!
//! A session description says where its sender *receives* media. So RTP to an announced address is the audio of the
//! *other* side.
//!
//! A description is *in force* when it applies to the media. An offer in a re-INVITE is in force after its answer; a
//! refused offer never is (RFC 3264 sections 4 and 8). Before the answer, only two parts of the offer are used: its
//! addresses, and its payload types that have no other meaning.

use crate::call::decision::{Decision, MissingKeyReason, PayloadFormat, SrtpContext, SrtpKey};
use crate::call::record::Side;
use crate::codec;
use crate::net::{Endpoint, PayloadType};
use crate::sdp::{self, MediaDirection, MediaKind, MediaProtocol};

/// The audio part of a session description, as one side sent it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AudioDescription {
    /// Endpoints at which the side receives audio, in the order of the m-lines. A refused m-line has none.
    pub(crate) receivers: Vec<Endpoint>,
    /// Ports of the audio m-lines. They identify the media if the announced address is a host name.
    ports: Vec<u16>,
    /// Announced payload types with their formats.
    pub(crate) formats: Vec<(PayloadType, PayloadFormat)>,
    /// Audio m-lines that are not refused, in the order of the description.
    lines: Vec<AudioLine>,
    /// Whether the description accepts T.38 fax, i.e. has an image m-line that is not refused.
    pub(crate) fax: bool,
}

/// An audio m-line. An answer has the m-lines of the offer in the same order and may refuse some of them (RFC 3264
/// section 6). One m-line may be plain RTP and the next SRTP.
#[derive(Clone, Debug, Default, PartialEq)]
struct AudioLine {
    /// Index of the m-line among all m-lines of the description, counted from 0.
    place: usize,
    /// UDP port at which the side receives RTP.
    port: u16,
    direction: MediaDirection,
    /// Payload types of this m-line with their formats. Another m-line may use the same payload types for other
    /// formats.
    formats: Vec<(PayloadType, PayloadFormat)>,
    /// SRTP keys of the packets that the side sends, each with its crypto tag, in order of preference (SDES, RFC 4568).
    crypto: Vec<(u32, SrtpContext)>,
    protection: MediaProtection,
    /// Whether the media is sent over TCP and not over UDP.
    is_over_tcp: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum MediaProtection {
    #[default]
    Plain,
    Sdes,
    Dtls,
    SavpWithoutKeys,
}

/// Use of a stream for the recording. It depends on the audio m-line to which the stream belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AudioLineUse {
    /// The stream is the voice of the side that sends it.
    Voice,
    /// The stream is on the second m-line of a recording session (SIPREC). One side sends the voices of both parties,
    /// each on an m-line of its own (RFC 7866 section 7.1.1). The recording puts the second voice into the channel of
    /// the silent side.
    OtherParty,
    /// The stream is on a second or later m-line that both sides use.
    Further {
        /// Number of the m-line among the m-lines that both sides use; 1 is the second m-line.
        line: u8,
    },
}

/// Encryption of the audio that a side sends.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum StreamSecurity {
    /// The audio is sent unencrypted.
    Plain,
    /// The audio is encrypted by SRTP with these keys.
    Keys(SrtpContext),
    /// The audio is encrypted with keys that the capture does not show.
    Undecryptable(MissingKeyReason),
}

impl StreamSecurity {
    /// Returns the decision that stores this encryption of a stream in the spool.
    pub(crate) fn decision(self, stream: u32) -> Decision {
        match self {
            Self::Plain => Decision::Plain { stream },
            Self::Keys(context) => Decision::Srtp { stream, context },
            Self::Undecryptable(why) => Decision::Encrypted { stream, why },
        }
    }
}

impl AudioDescription {
    /// Reads the audio and fax m-lines of a session description. Ignores video and other media.
    pub fn from_session(session: &sdp::SessionDescription) -> Self {
        let mut out = Self::default();
        for (place, media) in session.media.iter().take(MAX_MEDIA_LINES).enumerate() {
            match media.kind {
                MediaKind::Image => out.fax |= media.port != 0,
                MediaKind::Audio if media.port != 0 => out.add_audio(media, place),
                _ => {}
            }
        }
        out
    }

    /// Returns whether the description contains T.38 fax and no audio.
    fn is_fax_alone(&self) -> bool {
        self.fax && self.lines.is_empty()
    }

    fn add_audio(&mut self, media: &sdp::MediaDescription, place: usize) {
        let mut direction = media.direction;
        if !self.ports.contains(&media.port) {
            self.ports.push(media.port);
        }
        if let Some(ip) = media.connection {
            let receiver = Endpoint::new(ip, media.port);
            if receiver.is_unspecified() {
                // The address 0.0.0.0 usually means a hold (RFC 2543, RFC 3264 section 8.4). But an ICE agent writes
                // it, too, before it has a candidate (RFC 8840 section 4.1.1).
                if !media.ice {
                    direction = MediaDirection::Inactive;
                }
            } else if !self.receivers.contains(&receiver) {
                self.receivers.push(receiver);
            }
        }
        // ICE may choose another candidate address of the same side (RFC 8445). Component 1 is RTP.
        for candidate in media.candidates.iter().filter(|c| c.component == 1).take(MAX_CANDIDATES) {
            // A mirror before a NAT or relay shows the media at the related address (RFC 8839 section 5.1).
            for (ip, port) in [(candidate.ip, candidate.port)].into_iter().chain(candidate.related) {
                let receiver = Endpoint::new(ip, port);
                let is_known = receiver.is_unspecified() || self.receivers.contains(&receiver);
                if !is_known && self.receivers.len() < MAX_RECEIVERS {
                    self.receivers.push(receiver);
                }
            }
        }
        let named =
            media.formats.iter().take(MAX_FORMATS).filter_map(|format| Some((format.pt, named_format(format)?)));
        let formats: Vec<(PayloadType, PayloadFormat)> = named.collect();
        for (pt, format) in &formats {
            if format_of(&self.formats, *pt).is_none() {
                self.formats.push((*pt, format.clone()));
            }
        }
        let crypto = media
            .crypto
            .iter()
            .filter(|c| has_default_parameters(c))
            .take(MAX_CRYPTO)
            .map(|c| (c.tag, srtp_context(c)))
            .collect();
        let (port, protection) = (media.port, protection(media));
        let is_over_tcp = media.protocol == MediaProtocol::RtpOverTcp;
        self.lines.push(AudioLine { place, port, direction, formats, crypto, protection, is_over_tcp });
    }

    /// Returns the first m-line that neither this side nor `other` refuses. If there is none, returns the first m-line.
    fn line(&self, other: Option<&Self>) -> Option<&AudioLine> {
        let is_common = |line: &&AudioLine| other.is_some_and(|o| o.lines.iter().any(|l| l.place == line.place));
        self.lines.iter().find(is_common).or(self.lines.first())
    }
}

/// State of the offers and answers of one dialog.
#[derive(Clone, Debug, Default)]
pub(crate) struct Negotiation {
    announced: [Option<AudioDescription>; 2],
    /// Answers in early dialogs, each with its To tag. After a fork each callee may send early media.
    forks: Vec<(String, AudioDescription)>,
    /// Whether ZRTP messages in the media stream agreed on keys (RFC 6189).
    zrtp: bool,
    /// The last in-dialog offer of each side, until it is accepted. Both sides may send an offer at the same time
    /// (response 491).
    pending: [Option<PendingOffer>; 2],
    agreed: AgreedMedia,
    generation: u32,
}

/// An offer in an in-dialog request that the other side has not accepted yet.
#[derive(Clone, Debug)]
struct PendingOffer {
    cseq: u32,
    before: [Option<AudioDescription>; 2],
    /// The offer until its answer is captured; `None` afterwards.
    offer: Option<AudioDescription>,
    /// Whether the request contained the offer. If not, the 2xx response contains it.
    offered: bool,
}

/// The media on which both sides agreed in the last complete offer and answer. Arrays are indexed by the channel of the
/// side.
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
    /// counts as accepted, even if its answer was not captured.
    pub(crate) fn begin(&mut self, by: Side, cseq: u32) {
        if self.pending[by.channel()].as_ref().is_some_and(|p| p.cseq == cseq) {
            return;
        }
        self.accept(by);
        let before = self.announced.clone();
        self.pending[by.channel()] = Some(PendingOffer { cseq, before, offer: None, offered: false });
    }

    /// Records the offer in an in-dialog request of the side `by`. The caller must have called [`Negotiation::begin`]
    /// for this request.
    pub(crate) fn offer(&mut self, by: Side, description: AudioDescription) {
        let is_first = self.announced(by).is_none();
        let Some(pending) = &mut self.pending[by.channel()] else { return self.announce(by, description) };
        pending.offered = true;
        if is_first {
            // If no other description of this side is known, the offer is used at once.
            self.announce(by, description);
        } else if pending.offer.as_ref() != Some(&description) {
            pending.offer = Some(description);
            self.generation += 1;
        }
    }

    /// Puts the last offer of a side in force, because it was answered.
    pub(crate) fn accept(&mut self, by: Side) {
        if let Some(offer) = self.pending[by.channel()].as_mut().and_then(|pending| pending.offer.take()) {
            self.announce(by, offer);
        }
    }

    /// Accepts the descriptions of a successful in-dialog request, so that they stay. Returns whether the request
    /// offered T.38 fax and the answer refused it.
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
        self.announced[by.channel()] = own;
        if self.pending[by.other().channel()].is_none() {
            self.announced[by.other().channel()] = other;
        }
        self.rebase(by.other());
        self.generation += 1;
        had_fax
    }

    /// Updates the agreed media after a complete offer and answer.
    ///
    /// If the offer was `sendrecv`, `sendonly` or `inactive` in the answer means a hold. Otherwise the answer had to
    /// follow the offer, and its direction means nothing (RFC 3264 section 6.1).
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

    /// Updates the descriptions that are restored if the unanswered request of `side` is rejected.
    fn rebase(&mut self, side: Side) {
        let other = side.other().channel();
        if let Some(pending) = &mut self.pending[side.channel()] {
            pending.before[other].clone_from(&self.announced[other]);
        }
    }

    /// Records a description that is in force at once: an answer, or the first offer.
    pub(crate) fn announce(&mut self, by: Side, mut description: AudioDescription) {
        let slot = &mut self.announced[by.channel()];
        if let Some(old) = slot {
            // A refused or held m-line (port 0, 0.0.0.0) has no address. Its media may still use the old address.
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
            *slot = Some(description);
            self.generation += 1;
        }
    }

    /// Records the answer in an early dialog, which becomes the callee's description. The addresses of older early
    /// dialogs remain valid until [`Negotiation::choose`].
    pub(crate) fn announce_fork(&mut self, to_tag: &str, description: AudioDescription) {
        match self.forks.iter().position(|(tag, _)| tag == to_tag) {
            Some(at) if self.forks[at].1 == description => return,
            Some(at) => self.forks[at].1.clone_from(&description),
            None if self.forks.len() < MAX_FORKS => self.forks.push((to_tag.to_owned(), description.clone())),
            None => return,
        }
        self.generation += 1;
        self.announce(Side::Callee, description);
    }

    /// Selects the early dialog of the callee that answered, and forgets all others. If the 2xx has no description, the
    /// answer in the early dialog remains in force.
    pub(crate) fn choose(&mut self, to_tag: &str) {
        if let Some(at) = self.forks.iter().position(|(tag, _)| tag == to_tag) {
            let (_, description) = self.forks.swap_remove(at);
            self.announce(Side::Callee, description);
        }
        if !self.forks.is_empty() {
            self.forks.clear();
            self.generation += 1;
        }
    }

    /// Records that ZRTP agreed on keys, so that the media is encrypted from now on.
    pub(crate) fn note_zrtp(&mut self) {
        if !self.zrtp {
            self.zrtp = true;
            self.generation += 1;
        }
    }

    /// Returns the version of the negotiation. It grows with every change, so that users can notice a change.
    pub(crate) const fn generation(&self) -> u32 {
        self.generation
    }

    /// Returns the last description that a side announced; `None` before the first.
    pub(crate) const fn announced(&self, side: Side) -> Option<&AudioDescription> {
        self.announced[side.channel()].as_ref()
    }

    /// Returns the m-line of a side that both sides use for audio.
    fn line(&self, side: Side) -> Option<&AudioLine> {
        self.announced(side)?.line(self.announced(side.other()))
    }

    /// Returns how the recording uses a stream that `sender` sends on a flow (source, destination).
    pub(crate) fn line_use(&self, sender: Side, flow: (Endpoint, Endpoint)) -> AudioLineUse {
        let common = self.common_lines(sender);
        let is_one_way = |(line, theirs): &(&AudioLine, &AudioLine)| {
            line.direction.sends() && !(theirs.direction.sends() && line.direction.receives())
        };
        match line_of(&common, flow) {
            None | Some(0) => AudioLineUse::Voice,
            Some(1) if common.iter().all(is_one_way) => AudioLineUse::OtherParty,
            Some(line) => AudioLineUse::Further { line: u8::try_from(line).unwrap_or(u8::MAX) },
        }
    }

    /// Returns the m-lines that both sides use for audio. Each is a pair: as described by `sender`, and as described by
    /// the other side.
    fn common_lines(&self, sender: Side) -> Vec<(&AudioLine, &AudioLine)> {
        let (Some(own), Some(other)) = (self.announced(sender), self.announced(sender.other())) else {
            return Vec::new();
        };
        let theirs = |line: &AudioLine| other.lines.iter().find(|theirs| theirs.place == line.place);
        own.lines.iter().filter_map(|line| Some((line, theirs(line)?))).collect()
    }

    /// Returns the m-line of a flow (source, destination): as described by `sender`, and as described by the other
    /// side. If both sides use only one m-line, every flow belongs to it.
    fn lines_of_flow(&self, sender: Side, flow: (Endpoint, Endpoint)) -> Option<(&AudioLine, &AudioLine)> {
        let common = self.common_lines(sender);
        let line = line_of(&common, flow).or((common.len() == 1).then_some(0))?;
        common.get(line).copied()
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

    /// Returns whether the sides agreed on media over TCP (RFC 4571). If the mirror showed one description only, it
    /// decides alone.
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

    /// Returns the payload format of `pt` in packets that `sender` sends on a flow (source, destination).
    ///
    /// Descriptions are searched in this order, until one has the payload type:
    ///
    /// 1. The m-line of the flow, because each m-line has its own payload types: in the description of the receiver
    ///    (RFC 3264 section 5.1), in the receiver's early dialogs, and in the description of the sender. Some devices
    ///    use their own numbers.
    /// 2. The whole description of the receiver, then that of the sender, each followed by the early dialogs.
    /// 3. The unanswered offers of the receiver and of the sender.
    /// 4. The static payload types of RFC 3551.
    pub(crate) fn payload_format(
        &self,
        sender: Side,
        flow: (Endpoint, Endpoint),
        pt: PayloadType,
    ) -> Option<PayloadFormat> {
        let lines = self.lines_of_flow(sender, flow);
        let in_line = |line: Option<&AudioLine>| format_of(&line?.formats, pt).cloned();
        let forked = |side: Side| {
            let mut forks = self.forks.iter().filter(|_| side == Side::Callee);
            forks.find_map(|(_, description)| format_of(&description.formats, pt)).cloned()
        };
        let of = |side: Side| format_of(&self.announced(side)?.formats, pt).cloned().or_else(|| forked(side));
        // The other side may use a new payload type as soon as it has the offer (RFC 3264 section 8.3.2).
        let offered = |side: Side| {
            let offer = self.pending[side.channel()].as_ref()?.offer.as_ref()?;
            format_of(&offer.formats, pt).cloned()
        };
        in_line(lines.map(|(_, theirs)| theirs))
            .or_else(|| lines.and_then(|_| forked(sender.other())))
            .or_else(|| in_line(lines.map(|(own, _)| own)))
            .or_else(|| of(sender.other()))
            .or_else(|| of(sender))
            .or_else(|| offered(sender.other()))
            .or_else(|| offered(sender))
            .or_else(|| static_format(pt))
    }

    /// Returns the payload format of `pt` in the sender's own description. The m-line of the flow (source, destination)
    /// is searched first.
    pub(crate) fn own_format(
        &self,
        sender: Side,
        flow: (Endpoint, Endpoint),
        pt: PayloadType,
    ) -> Option<PayloadFormat> {
        let of_line = self.lines_of_flow(sender, flow).and_then(|(own, _)| format_of(&own.formats, pt));
        of_line.or_else(|| format_of(&self.announced(sender)?.formats, pt)).cloned()
    }

    /// Returns all announced formats, the caller's first.
    pub(crate) fn formats(&self) -> Vec<PayloadFormat> {
        described(&self.announced).flat_map(|(d, _)| d.formats.iter()).map(|(_, format)| format.clone()).collect()
    }

    /// Returns the encryption of the audio that `sender` sends on the first common m-line.
    pub(crate) fn security(&self, sender: Side) -> StreamSecurity {
        self.security_of_line(self.line(sender), self.line(sender.other()))
    }

    /// Returns the encryption of a stream that `sender` sends on a flow (source, destination). Each m-line may have its
    /// own keys.
    pub(crate) fn security_of_flow(&self, sender: Side, flow: (Endpoint, Endpoint)) -> StreamSecurity {
        let common = self.common_lines(sender);
        match line_of(&common, flow) {
            None | Some(0) => self.security(sender),
            Some(line) => self.security_of_line(Some(common[line].0), Some(common[line].1)),
        }
    }

    /// Returns the encryption of an m-line. `own` is the description of its sender, `other` that of the other side.
    fn security_of_line(&self, own: Option<&AudioLine>, other: Option<&AudioLine>) -> StreamSecurity {
        if self.zrtp {
            return StreamSecurity::Undecryptable(MissingKeyReason::Zrtp);
        }
        let Some(own) = own else {
            // The receiver offered SRTP. The sender's answer with the keys was not captured yet.
            let asked = other.is_some_and(|line| line.protection != MediaProtection::Plain);
            return if asked { StreamSecurity::Undecryptable(MissingKeyReason::NoKeys) } else { StreamSecurity::Plain };
        };
        let other_protection = other.map_or(own.protection, |o| o.protection);
        match (own.protection, other_protection) {
            (MediaProtection::Sdes, MediaProtection::Plain) | (MediaProtection::Plain, _) => StreamSecurity::Plain,
            (MediaProtection::Dtls, MediaProtection::Plain) => StreamSecurity::Plain,
            (MediaProtection::Dtls, _) => StreamSecurity::Undecryptable(MissingKeyReason::DtlsSrtp),
            (MediaProtection::SavpWithoutKeys, _) => StreamSecurity::Undecryptable(MissingKeyReason::NoKeys),
            (MediaProtection::Sdes, _) => {
                // The answer names the chosen crypto tag. The keys of a side encrypt the packets that this side sends
                // (RFC 4568 section 6.1).
                let chosen = other.and_then(|o| o.crypto.first()).map(|(tag, _)| *tag);
                let context = own.crypto.iter().find(|(tag, _)| Some(*tag) == chosen).or_else(|| own.crypto.first());
                context.map_or(StreamSecurity::Undecryptable(MissingKeyReason::NoKeys), |(_, c)| {
                    StreamSecurity::Keys(c.clone())
                })
            }
        }
    }
}

/// Returns the format of a payload type in a list; `None` if the list does not contain it.
fn format_of(formats: &[(PayloadType, PayloadFormat)], pt: PayloadType) -> Option<&PayloadFormat> {
    formats.iter().find(|(known, _)| *known == pt).map(|(_, format)| format)
}

/// Returns the index of the m-line to which a flow (source, destination) belongs. The port of the receiver is searched
/// first, then the port of the sender.
fn line_of(common: &[(&AudioLine, &AudioLine)], flow: (Endpoint, Endpoint)) -> Option<usize> {
    let by_receiver = common.iter().position(|(_, theirs)| theirs.port == flow.1.port());
    by_receiver.or_else(|| common.iter().position(|(line, _)| line.port == flow.0.port()))
}

/// Returns the descriptions that are present in an array (indexed by channel), each with its side.
fn described(known: &[Option<AudioDescription>; 2]) -> impl Iterator<Item = (&AudioDescription, Side)> {
    known.iter().zip([Side::Caller, Side::Callee]).filter_map(|(description, side)| Some((description.as_ref()?, side)))
}

/// Returns the payload format of a static payload type (RFC 3551).
fn static_format(pt: PayloadType) -> Option<PayloadFormat> {
    codec::static_format(pt).map(|f| PayloadFormat {
        encoding: f.codec.name().to_owned(),
        clock_hz: f.clock_hz,
        channels: f.channels,
        fmtp: String::new(),
    })
}

fn named_format(format: &sdp::MediaFormat) -> Option<PayloadFormat> {
    if format.encoding.is_empty() {
        let mut named = static_format(format.pt)?;
        named.fmtp.clone_from(&format.fmtp);
        return Some(named);
    }
    Some(PayloadFormat {
        encoding: format.encoding.clone(),
        clock_hz: format.clock_hz,
        channels: format.channels,
        fmtp: format.fmtp.clone(),
    })
}

/// Returns whether a crypto attribute has no session parameter that changes key derivation or encryption (RFC 4568
/// section 6.3). With such a parameter, packets would decrypt to noise.
fn has_default_parameters(crypto: &sdp::CryptoAttribute) -> bool {
    let unusual = ["KDR=", "UNENCRYPTED_SRTP", "UNAUTHENTICATED_SRTP"];
    !crypto.params.iter().any(|param| unusual.iter().any(|name| param.to_ascii_uppercase().starts_with(name)))
}

fn srtp_context(crypto: &sdp::CryptoAttribute) -> SrtpContext {
    SrtpContext {
        suite: crypto.suite.clone(),
        keys: crypto.keys.iter().take(MAX_KEYS).map(|k| SrtpKey { inline: k.inline.clone(), mki: mki(k) }).collect(),
    }
}

fn mki(key: &sdp::CryptoKey) -> Option<(u64, u8)> {
    key.mki.map(|m| (m.value, m.length_bytes))
}

fn protection(media: &sdp::MediaDescription) -> MediaProtection {
    match media.protocol {
        _ if !media.crypto.is_empty() => MediaProtection::Sdes,
        MediaProtocol::UdpTlsRtpSavp | MediaProtocol::UdpTlsRtpSavpf => MediaProtection::Dtls,
        _ if media.fingerprint => MediaProtection::Dtls,
        MediaProtocol::RtpSavp | MediaProtocol::RtpSavpf => MediaProtection::SavpWithoutKeys,
        _ => MediaProtection::Plain,
    }
}

/// Maximum number of m-lines of a description that are read.
const MAX_MEDIA_LINES: usize = 16;
/// Maximum number of receiving endpoints that are read from a description.
const MAX_RECEIVERS: usize = 24;
/// Maximum number of ICE candidates that are read from an m-line. A telephone with several interfaces has fewer host,
/// reflexive and relayed candidates.
const MAX_CANDIDATES: usize = 12;
/// Maximum number of payload formats of an m-line. There are only 128 payload types.
const MAX_FORMATS: usize = 128;
/// Maximum number of crypto attributes of an m-line. RFC 4568 sets no maximum, and telephones offer up to eight.
const MAX_CRYPTO: usize = 16;
/// Maximum number of master keys of a crypto attribute.
const MAX_KEYS: usize = 8;
/// Maximum number of early dialogs of a fork that are stored.
const MAX_FORKS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn description(lines: &str) -> AudioDescription {
        let text = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{lines}");
        AudioDescription::from_session(&crate::sdp::parse(text.as_bytes()).expect("a session description"))
    }

    fn protected(port: u16, key: char) -> String {
        let key: String = std::iter::repeat_n(key, 40).collect();
        format!("m=audio {port} RTP/SAVP 8\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}\r\n")
    }

    #[test]
    fn the_accepted_audio_line_decides_encryption_and_hold() {
        let mut negotiation = Negotiation::default();
        let plain_first = format!("m=audio 4000 RTP/AVP 8\r\na=sendonly\r\n{}", protected(4002, 'a'));
        negotiation.announce(Side::Caller, description(&plain_first));
        negotiation.announce(Side::Callee, description(&format!("m=audio 0 RTP/AVP 8\r\n{}", protected(5002, 'b'))));
        for (side, key) in [(Side::Caller, 'a'), (Side::Callee, 'b')] {
            let StreamSecurity::Keys(context) = negotiation.security(side) else { panic!("{side:?} has no keys") };
            assert!(context.keys[0].inline.starts_with(key));
        }
        negotiation.settle(Side::Caller);
        assert_eq!(negotiation.agreed().holding, [false, false], "the refused line held");
        // The answer now accepts the unencrypted m-line and refuses the other.
        negotiation.announce(Side::Callee, description("m=audio 5000 RTP/AVP 8\r\nm=audio 0 RTP/SAVP 8\r\n"));
        assert_eq!(negotiation.security(Side::Caller), StreamSecurity::Plain);
        negotiation.settle(Side::Caller);
        assert_eq!(negotiation.agreed().holding, [true, false]);
    }

    #[test]
    fn each_of_two_audio_lines_has_its_own_keys() {
        let mut negotiation = Negotiation::default();
        let lines = |port: u16, key: char| format!("m=audio {port} RTP/AVP 8\r\n{}", protected(port + 2, key));
        negotiation.announce(Side::Caller, description(&lines(4000, 'a')));
        negotiation.announce(Side::Callee, description(&lines(5000, 'b')));
        let end = |port: u16| Endpoint::new("192.0.2.1".parse().expect("an address"), port);
        let of = |from: u16, to: u16, sender: Side| negotiation.security_of_flow(sender, (end(from), end(to)));
        assert_eq!(of(4000, 5000, Side::Caller), StreamSecurity::Plain);
        for (from, to, sender, key) in [(4002, 5002, Side::Caller, 'a'), (5002, 4002, Side::Callee, 'b')] {
            let StreamSecurity::Keys(context) = of(from, to, sender) else { panic!("{sender:?} has no keys") };
            assert!(context.keys[0].inline.starts_with(key));
        }
    }

    #[test]
    fn flow_without_an_audio_line_takes_the_format_of_the_answer_before_that_of_a_fork() {
        let named = |port: u16, encoding: &str| {
            description(&format!("m=audio {port} RTP/AVP 98\r\na=rtpmap:98 {encoding}/8000\r\n"))
        };
        let mut negotiation = Negotiation::default();
        // The INVITE has no offer, so the caller has not announced an m-line yet.
        negotiation.announce_fork("other", named(5002, "speex"));
        negotiation.announce(Side::Callee, named(5000, "iLBC"));
        let end = |port: u16| Endpoint::new("192.0.2.1".parse().expect("an address"), port);
        let format = negotiation.payload_format(Side::Caller, (end(4000), end(5000)), PayloadType(98));
        assert_eq!(format.map(|format| format.encoding).as_deref(), Some("ILBC"));
    }

    #[test]
    fn early_media_after_an_srtp_offer_does_not_count_as_plain() {
        let mut negotiation = Negotiation::default();
        assert_eq!(negotiation.security(Side::Callee), StreamSecurity::Plain, "nobody said anything");
        negotiation.announce(Side::Caller, description(&protected(4000, 'a')));
        assert_eq!(negotiation.security(Side::Callee), StreamSecurity::Undecryptable(MissingKeyReason::NoKeys));
        negotiation.announce(Side::Callee, description(&protected(5000, 'b')));
        assert!(matches!(negotiation.security(Side::Callee), StreamSecurity::Keys(_)));
    }
}
