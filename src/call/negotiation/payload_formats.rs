//! The payload format of a packet by its payload type (RFC 3264 section 5.1, RFC 3551).

use super::audio_description::AudioLine;
use super::{Negotiation, described};
use crate::call::decision::PayloadFormat;
use crate::call::record::Side;
use crate::codec::{self, Codec};
use crate::net::{Flow, PayloadType};
use crate::rtp::redundancy;

impl Negotiation {
    /// Returns the payload format of `pt` in packets that `sender` sends on a flow (source, destination).
    ///
    /// Descriptions are searched in this order, until one has the payload type:
    ///
    /// 1. The m-line of the flow, because each m-line has its own payload types. It is searched in the description of
    ///    the receiver (RFC 3264 section 5.1), in the receiver's early dialogs, and in the description of the sender.
    ///    Some devices use the payload types of their own description.
    /// 2. The whole description of the receiver, then the whole description of the sender, each followed by the early
    ///    dialogs.
    /// 3. The unanswered offers of the receiver and of the sender.
    /// 4. Earlier descriptions of the receiver, then of the sender. A payload type keeps its meaning (RFC 3264 section
    ///    8.3.2), and some devices go on with it after a re-INVITE without it.
    /// 5. The static payload types of RFC 3551.
    pub(crate) fn payload_format(&self, sender: Side, flow: Flow, pt: PayloadType) -> Option<PayloadFormat> {
        let current = self.current_format(sender, flow, pt);
        current.or_else(|| self.former_format(sender, pt).cloned()).or_else(|| static_format(pt))
    }

    /// Returns whether only earlier descriptions give `pt` a format, in packets that `sender` sends on a flow (source,
    /// destination).
    pub(crate) fn is_former_format(&self, sender: Side, flow: Flow, pt: PayloadType) -> bool {
        self.former_format(sender, pt).is_some() && self.current_format(sender, flow, pt).is_none()
    }

    fn former_format(&self, sender: Side, pt: PayloadType) -> Option<&PayloadFormat> {
        let former = |side: Side| format_of(&self.former_formats[side.channel()], pt);
        former(sender.other()).or_else(|| former(sender))
    }

    /// Returns the payload format of `pt` in the descriptions in force, and in unanswered offers.
    fn current_format(&self, sender: Side, flow: Flow, pt: PayloadType) -> Option<PayloadFormat> {
        let lines = self.lines_of_flow(sender, flow);
        let in_line = |line: Option<&AudioLine>| format_of(&line?.formats, pt).cloned();
        let forked = |side: Side| {
            let mut forks = self.forks.iter().filter(|_| side == Side::Callee);
            forks.find_map(|(_, description)| format_of(&description.formats, pt)).cloned()
        };
        let of = |side: Side| format_of(&self.announced(side)?.formats, pt).cloned().or_else(|| forked(side));
        // The other side may send with a new payload type as soon as it has the offer (RFC 3264 section 8.3.2). So the
        // formats of an unanswered offer are searched, too.
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
    }

    /// Returns the payload format of `pt` in the sender's own description. The m-line of the flow (source, destination)
    /// is searched first.
    pub(crate) fn own_format(&self, sender: Side, flow: Flow, pt: PayloadType) -> Option<PayloadFormat> {
        let of_line = self.lines_of_flow(sender, flow).and_then(|(own, _)| format_of(&own.formats, pt));
        of_line.or_else(|| format_of(&self.announced(sender)?.formats, pt)).cloned()
    }

    /// Returns the payload types inside packets of redundant audio that `sender` sends on a flow (source, destination),
    /// with their formats. That of the primary encoding is the first.
    ///
    /// RFC 2198 section 5: `a=fmtp` names them, but it may be missing. Or it names payload types that nobody announced.
    /// Then each announced payload type with the same clock rate may be inside.
    pub(crate) fn formats_within(
        &self,
        redundant: &PayloadFormat,
        sender: Side,
        flow: Flow,
    ) -> Vec<(PayloadType, Option<PayloadFormat>)> {
        let is_inside = |format: &PayloadFormat| !format.is(Codec::Red);
        let read = |pt: PayloadType| (pt, self.payload_format(sender, flow, pt));
        let named = redundancy::payload_types(&redundant.fmtp).map(read);
        let named: Vec<_> = named.filter(|(_, format)| format.as_ref().is_none_or(is_inside)).collect();
        if named.iter().any(|(_, format)| format.is_some()) {
            return named;
        }
        let sides = [sender.other(), sender];
        let announced = sides.into_iter().filter_map(|side| self.announced(side)).flat_map(|d| &d.formats);
        let mut within: Vec<(PayloadType, Option<PayloadFormat>)> = Vec::new();
        for (pt, format) in announced.filter(|(_, f)| is_inside(f) && f.clock_hz == redundant.clock_hz) {
            if within.iter().all(|(known, _)| known != pt) {
                within.push((*pt, Some(format.clone())));
            }
        }
        let accompanies = |format: &PayloadFormat| format.codec().is_some_and(Codec::accompanies_speech);
        within.sort_by_key(|(_, format)| format.as_ref().is_some_and(accompanies));
        within
    }

    /// Returns all announced formats, the caller's first.
    pub(crate) fn formats(&self) -> Vec<PayloadFormat> {
        described(&self.announced).flat_map(|(d, _)| d.formats.iter()).map(|(_, format)| format.clone()).collect()
    }
}

/// Returns the format of a payload type in a list; `None` if the list does not contain it.
pub(super) fn format_of(formats: &[(PayloadType, PayloadFormat)], pt: PayloadType) -> Option<&PayloadFormat> {
    formats.iter().find(|(known, _)| *known == pt).map(|(_, format)| format)
}

/// Returns the payload format of a static payload type (RFC 3551).
pub(super) fn static_format(pt: PayloadType) -> Option<PayloadFormat> {
    codec::static_format(pt).map(|f| PayloadFormat {
        encoding: f.codec.name().to_owned(),
        clock_hz: f.clock_hz,
        channels: f.channels,
        fmtp: String::new(),
    })
}
