//! Statistics of the streams of a leg, for the call record.

use super::RtpStream;
use crate::call::record::{Side, SideRecord, StreamRecord};

/// Returns the media statistics of one side, with its streams sorted by their first packet.
pub(crate) fn side_record(streams: &[RtpStream], side: Side) -> SideRecord {
    let mut out = SideRecord::default();
    let mut jitter: f64 = 0.0;
    for stream in streams.iter().filter(|s| s.side == side) {
        let Some(record) = stream.record() else { continue };
        // The port of the audio may also carry other media, e.g. video (BUNDLE, RFC 9143). Lost packets of this media
        // are not lost sound, so they do not count for the side.
        if record.codec.is_none() && streams.iter().any(|other| other.is_audio_beside(stream)) {
            out.streams.push(record);
            continue;
        }
        for codec in stream.codecs() {
            if !out.codecs.iter().any(|known| known == codec) {
                out.codecs.push(codec.to_owned());
            }
        }
        out.packets += record.packets;
        out.lost += record.lost;
        out.duplicates += stream.received.stats.duplicates();
        out.reordered += stream.received.stats.reordered();
        jitter = jitter.max(stream.received.stats.max_jitter_ms());
        out.streams.push(record);
    }
    if out.packets > 0 {
        out.max_jitter_ms = Some((jitter * 1_000.0).round() / 1_000.0);
    }
    out
}

impl RtpStream {
    /// Returns the statistics of the stream for the call record; `None` before its first packet.
    pub(crate) fn record(&self) -> Option<StreamRecord> {
        let main = self.formats.uses.iter().max_by_key(|p| (!p.secret, p.packets))?;
        let clock_hz = main.format.as_ref().map_or(8_000, |f| f.clock_hz).max(1);
        Some(StreamRecord {
            src: self.src,
            dst: self.dst,
            ssrc: self.ssrc.to_string(),
            pt: main.pt,
            codec: main.voice().map(|f| f.encoding.clone()),
            ptime_ms: self.received.spacing.majority().map(|units| f64::from(units) * 1_000.0 / f64::from(clock_hz)),
            packets: self.received.stats.packets(),
            lost: self.received.stats.lost(),
            first_at: self.received.stats.first_at()?,
            last_at: self.received.stats.last_at()?,
        })
    }

    /// Returns whether this stream has audio of a known format, and uses the same flow as another stream.
    fn is_audio_beside(&self, other: &Self) -> bool {
        self.ssrc != other.ssrc
            && self.flow() == other.flow()
            && self.formats.uses.iter().any(|p| p.packets > 0 && p.voice().is_some())
    }
}
