//! A stream of a leg in progress, as the doctor counts it: which of its packets are audio that a recording would contain.

use std::collections::BTreeMap;

use crate::call::decision::PayloadFormat;
use crate::call::record::Side;
use crate::codec::Codec;
use crate::net::{Endpoint, PayloadType, Ssrc};
use crate::render::codec::decoder_for;
use crate::render::form_judge::{ExaminedPayload, FormJudge, FormTest, PayloadForm};
use crate::rtp::RtpPacket;
use crate::time::Timestamp;

/// A stream of a leg in progress, with the facts that decide whether its packets count as audio.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TalliedStream {
    pub(super) source: StreamSource,
    pub(super) side: Side,
    /// Payload types that carry audio which callspan can decode: bit n is set for payload type n.
    sound: u128,
    /// For each payload type, the test that shows whether its payloads are encrypted.
    tests: BTreeMap<PayloadType, FormTest>,
    protection: TalliedProtection,
    judge: FormJudge,
    heard: u64,
}

/// Addresses and SSRC by which the packets of a stream are recognized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StreamSource {
    pub(super) src: Endpoint,
    pub(super) dst: Endpoint,
    pub(super) ssrc: Ssrc,
}

/// The encryption of a stream, as the engine's decisions describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TalliedProtection {
    /// The sides announced no keys.
    Plain,
    /// The keys of the stream are known, or keys that it may use.
    Keys,
    /// The stream is encrypted, and its keys are not known.
    Encrypted,
}

impl TalliedStream {
    pub(super) fn new(source: StreamSource, side: Side) -> Self {
        Self {
            source,
            side,
            sound: 0,
            tests: BTreeMap::new(),
            protection: TalliedProtection::Plain,
            judge: FormJudge::default(),
            heard: 0,
        }
    }

    pub(super) fn note_format(&mut self, pt: PayloadType, format: Option<&PayloadFormat>) {
        let bit = 1_u128 << (pt.0 & 0x7f);
        let is_sound = format.is_some_and(is_sound);
        self.sound = if is_sound { self.sound | bit } else { self.sound & !bit };
        match format.and_then(FormTest::new) {
            Some(test) => self.tests.insert(pt, test),
            None => self.tests.remove(&pt),
        };
    }

    /// Records the encryption of the stream. Keys that were known once stay known, because late packets may use them.
    pub(super) fn note_protection(&mut self, protection: TalliedProtection) {
        let is_over = (self.protection, protection) == (TalliedProtection::Keys, TalliedProtection::Plain);
        self.protection = if is_over { TalliedProtection::Keys } else { protection };
    }

    /// Counts a whole packet, and examines its form if the sides announced no keys.
    pub(super) fn handle_packet(&mut self, at: Timestamp, packet: &RtpPacket<'_>) {
        let is_sound = self.sound & (1 << (packet.pt.0 & 0x7f)) != 0;
        self.heard += u64::from(is_sound && self.protection != TalliedProtection::Encrypted);
        if self.protection == TalliedProtection::Plain
            && let Some(test) = self.tests.get(&packet.pt)
        {
            let (sequence, time, payload) = (packet.sequence, packet.time.0, packet.payload);
            let payload = ExaminedPayload { at, sequence, time, payload };
            self.judge.handle_payload(*test, PayloadForm::Encrypted, payload);
        }
    }

    /// Returns whether at least half of the audio is encrypted by its form, although the sides announced no keys.
    pub(super) fn is_encrypted_by_form(&self) -> bool {
        let periods = self.judge.clone().finish();
        let encrypted: u64 = periods.iter().map(|period| u64::from(period.payloads)).sum();
        encrypted > 0 && encrypted * 2 >= self.heard
    }

    /// Returns the number of packets that a recording would contain as sound.
    pub(super) fn heard(&self) -> u64 {
        if self.is_encrypted_by_form() { 0 } else { self.heard }
    }
}

/// Returns whether packets of this format contain audio that can be decoded. Redundant audio (RFC 2198) counts;
/// telephone-events and comfort noise do not.
fn is_sound(format: &PayloadFormat) -> bool {
    match format.codec() {
        Some(codec) if codec.accompanies_speech() => false,
        Some(Codec::Red) => true,
        _ => decoder_for(format).is_some(),
    }
}
