//! The audio m-line to which a stream belongs. An answer has the m-lines of its offer in the same order (RFC 3264
//! section 6). So both descriptions of an m-line have the same index.

use super::Negotiation;
use super::audio_description::AudioLine;
use crate::call::record::Side;
use crate::net::Flow;

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
        /// Number of the m-line among the m-lines that both sides use, counted from 0. So 1 is the second m-line.
        line: u8,
    },
}

impl Negotiation {
    /// Returns how the recording uses a stream that `sender` sends on a flow (source, destination).
    pub(crate) fn line_use(&self, sender: Side, flow: Flow) -> AudioLineUse {
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

    /// Returns the m-lines that both sides use for audio. The first value of each pair is the description by `sender`,
    /// the second the description by the other side.
    pub(super) fn common_lines(&self, sender: Side) -> Vec<(&AudioLine, &AudioLine)> {
        let (Some(own), Some(other)) = (self.announced(sender), self.announced(sender.other())) else {
            return Vec::new();
        };
        let theirs = |line: &AudioLine| other.lines.iter().find(|theirs| theirs.place == line.place);
        own.lines.iter().filter_map(|line| Some((line, theirs(line)?))).collect()
    }

    /// Returns the m-line to which a flow (source, destination) belongs. The first value is its description by
    /// `sender`, the second its description by the other side. If both sides use only one m-line, every flow belongs to
    /// it.
    pub(super) fn lines_of_flow(&self, sender: Side, flow: Flow) -> Option<(&AudioLine, &AudioLine)> {
        let common = self.common_lines(sender);
        let line = line_of(&common, flow).or((common.len() == 1).then_some(0))?;
        common.get(line).copied()
    }
}

/// Returns the index of the m-line to which a flow (source, destination) belongs. The port of the receiver is searched
/// first, then the port of the sender.
pub(super) fn line_of(common: &[(&AudioLine, &AudioLine)], flow: Flow) -> Option<usize> {
    let by_receiver = common.iter().position(|(_, theirs)| theirs.port == flow.dst.port());
    by_receiver.or_else(|| common.iter().position(|(line, _)| line.port == flow.src.port()))
}
