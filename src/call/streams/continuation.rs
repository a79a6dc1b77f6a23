//! Continuation of a stream after a restart of the recorder, or with another SSRC on the same flow.

use super::{RtpStream, StreamCopies};
use crate::call::negotiation::Negotiation;
use crate::net::{Flow, Ssrc};
use crate::time::Timestamp;

impl RtpStream {
    /// Makes the next packet count as consecutive, although packets before it are missing. The missing packets were
    /// captured before a restart: they are in the spool, and rendering counts them.
    pub(crate) fn accept_gap(&mut self) {
        self.received.stats.accept_gap();
        self.received.spacing.last = None;
    }

    /// Makes the next packet count as consecutive, if the sender or the receiver announced another endpoint for some time
    /// since the newest packet. Meanwhile the packets took another path. The sender counted on, so they are not lost.
    #[cold]
    pub(super) fn accept_detour(&mut self, negotiation: &Negotiation) {
        let Some(generation) = self.formats.current().map(|payload| payload.generation) else { return };
        let ends = [(self.sender, self.src), (self.sender.other(), self.dst)];
        if ends.into_iter().any(|(side, endpoint)| negotiation.has_returned(side, endpoint, generation)) {
            self.accept_gap();
            self.reported.made_detour = true;
        }
    }

    /// Continues the stream after a restart of the recorder. `heard` is the capture time of the leg's newest packet
    /// before the restart.
    pub(crate) fn accept_restart(&mut self, heard: Timestamp) {
        self.received.before_restart = Some(heard);
        self.accept_gap();
    }

    /// Reuses this stream for another SSRC on the same flow. The packet counters of the stream continue.
    pub(crate) fn continue_as(&mut self, ssrc: Ssrc, copies: StreamCopies) {
        (self.ssrc, self.copies, self.watch) = (ssrc, copies, None);
        self.accept_gap();
    }

    /// Returns whether the stream may be reused for another SSRC on this flow: it is not encrypted, and had no packet
    /// for [`RESTING_TIME`].
    pub(crate) fn gives_way(&self, flow: Flow, at: Timestamp) -> bool {
        let is_resting = self.active_until().is_some_and(|last| at.since(last) >= RESTING_TIME);
        self.flow() == flow && is_resting && !self.is_protected()
    }

    /// Returns the latest capture time at which the stream may have had a packet; `None` before the first. After a
    /// restart this may be later than the newest known packet, because not all packets are read from the spool.
    pub(crate) fn active_until(&self) -> Option<Timestamp> {
        self.last_at().max(self.received.before_restart)
    }
}

/// Time without a packet after which another SSRC on the same flow may continue the stream. After this time, no packet
/// of the old SSRC is still in transit. So rendering does not mistake a packet of the new SSRC for a late packet of the
/// old SSRC.
const RESTING_TIME: std::time::Duration = std::time::Duration::from_secs(5);
