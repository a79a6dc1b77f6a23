//! The voice of a stream: its codec and its loudness.

use super::RtpStream;
use super::payload_formats::PayloadUse;
use crate::call::content::{SketchedVoice, WatchedVoice};
use crate::call::engine::levels::StreamLevel;
use crate::call::payload_judge::may_be_encrypted_event;
use crate::codec::g711::linear_values;
use crate::codec::{Codec, CompandingLaw};
use crate::net::PayloadType;
use crate::time::Timestamp;

impl RtpStream {
    /// Measures the loudness of the last packet. An encrypted packet is not measured.
    pub(crate) fn measure(&mut self, at: Timestamp, payload: &[u8]) {
        if !self.is_protected() {
            self.received.level = Some(StreamLevel::of(at, self.voice(), payload));
        }
    }

    /// Sets the voice of this stream from which the leg's voice prints are made; `None` for no voice.
    pub(crate) const fn sketch(&mut self, voice: Option<SketchedVoice>) {
        self.formats.sketched = voice;
    }

    /// Returns the audio codec of the newest packet; `None` while the codec is in doubt.
    pub(crate) fn voice(&self) -> Option<&str> {
        let payload = self.formats.current()?;
        let is_in_doubt = self.formats.doubt.judges.iter().any(|judge| judge.pt() == payload.pt && judge.is_open());
        let encoding = payload.voice().filter(|_| !is_in_doubt)?.encoding.as_str();
        is_speech(encoding).then_some(encoding)
    }

    /// Returns the voice of the newest packet, for comparison with other streams. `None` for redundant audio, because
    /// it repeats earlier voice.
    pub(crate) fn plain_voice(&self) -> Option<WatchedVoice<'_>> {
        let payload = self.formats.current().filter(|payload| payload.within.is_empty() && !payload.secret)?;
        Some(WatchedVoice { pt: payload.pt, encoding: payload.voice()?.encoding.as_str() })
    }

    /// Returns the linear values of the code words if the packet that was handled last is plain G.711; `None` for any
    /// other packet.
    pub(crate) fn linear_values(&self) -> Option<&'static [i16; 256]> {
        let voice = self.plain_voice().filter(|_| !self.is_protected())?;
        match Codec::from_name(voice.encoding)? {
            Codec::Pcma => Some(linear_values(CompandingLaw::A)),
            Codec::Pcmu => Some(linear_values(CompandingLaw::Mu)),
            _ => None,
        }
    }

    /// Returns the newest measured loudness of the stream's voice; `None` if it was not measured.
    pub(crate) const fn level(&self) -> Option<StreamLevel> {
        self.received.level
    }

    /// Returns whether the loudness of the next packet must be measured.
    pub(crate) fn is_level_due(&self, at: Timestamp) -> bool {
        StreamLevel::is_due(self.received.level, at)
    }

    /// Returns the voice from which the voice prints of this stream are made. Returns `None` if packets of payload type
    /// `pt` do not carry it.
    #[inline]
    pub(crate) fn sketched(&self, pt: PayloadType) -> Option<SketchedVoice> {
        self.formats.sketched.filter(|voice| voice.pt == pt)
    }

    /// Returns the names of the audio codecs in the order of their first packet.
    pub(crate) fn codecs(&self) -> impl Iterator<Item = &str> {
        let now = self.formats.uses.iter().filter_map(PayloadUse::voice).map(|f| f.encoding.as_str());
        self.formats.former.iter().map(String::as_str).chain(now).filter(|e| is_speech(e))
    }

    /// Returns whether the payload of a telephone-event is readable: captured and not encrypted. Media may be encrypted
    /// although the session descriptions show no keys.
    pub(crate) fn can_read_event(&self, payload: &[u8]) -> bool {
        let is_readable = !self.is_protected() && !payload.is_empty();
        // A plain event with stray bytes is recognized by the plain voice beside it.
        is_readable && (!may_be_encrypted_event(payload) || self.has_plain_voice_form())
    }

    /// Returns whether the voice payloads are exactly as long as their timestamps say. With a tag they would be longer.
    fn has_plain_voice_form(&self) -> bool {
        let voice =
            self.formats.uses.iter().filter(|p| !p.secret).max_by_key(|p| p.packets).and_then(PayloadUse::voice);
        let Some((voice, ticks)) = voice.zip(self.received.spacing.majority()) else { return false };
        let length_ns = |bytes| voice.codec()?.duration_ns(bytes, voice.clock_hz, voice.channels);
        let spacing_ns = i64::from(ticks) * 1_000_000_000 / i64::from(voice.clock_hz.max(1));
        // A tag may be shorter than a frame, so one byte less must be too short.
        let bytes = self.received.voice_bytes;
        length_ns(bytes) == Some(spacing_ns) && length_ns(bytes.saturating_sub(1)) != Some(spacing_ns)
    }
}

/// Returns whether an encoding is a speech codec, known or unknown.
fn is_speech(encoding: &str) -> bool {
    !Codec::from_name(encoding).is_some_and(Codec::accompanies_speech)
}
