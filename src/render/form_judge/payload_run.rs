//! Consecutive payloads whose form is judged together.

use super::form_test::FormTest;
use super::{ExaminedPayload, FormPeriod, PayloadForm};
use crate::net::SequenceNumber;
use crate::time::Timestamp;

/// Consecutive payloads that are examined together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PayloadRun {
    pub(super) test: FormTest,
    pub(super) sought: PayloadForm,
    from: Timestamp,
    to: Timestamp,
    sequence: SequenceNumber,
    time: u32,
    bytes: usize,
    /// Number of bytes by which payloads are longer than their timestamps say; `None` before the second payload.
    surplus: Option<u32>,
    /// Whether the run directly continues the last period, which had the form that is sought.
    pub(super) continues: bool,
    payloads: u32,
    counts: Vec<u32>,
}

impl PayloadRun {
    pub(super) fn new(test: FormTest, sought: PayloadForm, payload: ExaminedPayload<'_>, continues: bool) -> Self {
        let ExaminedPayload { at, sequence, time, payload } = payload;
        Self {
            test,
            sought,
            from: at,
            to: at,
            sequence,
            time,
            bytes: payload.len(),
            surplus: None,
            continues: continues && test.allows_any_length(),
            payloads: 0,
            counts: Vec::new(),
        }
    }

    /// Returns the number of bytes by which a payload is longer than the timestamps say. Returns `None` if the payload
    /// does not directly follow another payload of the same length, or if a pause is before it.
    pub(super) fn surplus_of(&self, next: ExaminedPayload<'_>) -> Option<u32> {
        let follows = next.sequence == self.sequence.wrapping_add(1) && next.payload.len() == self.bytes;
        let bytes = u32::try_from(next.payload.len()).ok().filter(|_| follows)?;
        self.test.surplus(bytes, next.time.wrapping_sub(self.time))
    }

    /// Returns whether a payload is examined together with the payloads of this run.
    pub(super) fn continues_with(
        &self,
        test: FormTest,
        sought: PayloadForm,
        payload: ExaminedPayload<'_>,
        surplus: Option<u32>,
    ) -> bool {
        let is_other = self.surplus.zip(surplus).is_some_and(|(own, other)| own != other);
        let is_alike = match test.allows_any_length() {
            true => self.payloads < WINDOW_PACKETS,
            false => payload.payload.len() == self.bytes,
        };
        test == self.test && sought == self.sought && is_alike && !is_other
    }

    pub(super) fn add(&mut self, next: ExaminedPayload<'_>, surplus: Option<u32>) {
        self.to = self.to.max(next.at);
        (self.sequence, self.time, self.bytes) = (next.sequence, next.time, next.payload.len());
        self.surplus = self.surplus.or(surplus);
        match self.test {
            FormTest::BitsPerTick(_) if self.is_suspect() => {
                self.payloads += 1;
                self.counts.resize(256, 0);
                next.payload.iter().for_each(|byte| self.counts[usize::from(*byte)] += 1);
            }
            FormTest::FixedBits(codec) if self.is_suspect() => {
                // The length of a payload without a surplus of its own may be that of a silence descriptor.
                let Some(surplus) = surplus else { return };
                self.payloads += 1;
                self.counts.resize(2, 0);
                let frames = &next.payload[..next.payload.len() - surplus as usize];
                for has_bits in codec.frames_with_fixed_bits(frames) {
                    self.counts[usize::from(has_bits)] += 1;
                }
            }
            FormTest::BitsPerTick(_) | FormTest::FixedBits(_) => {}
            FormTest::FirstBits => {
                self.payloads += 1;
                self.counts.resize(32, 0);
                if let Some(first) = next.payload.first() {
                    self.counts[usize::from(first >> 3)] += 1;
                }
            }
        }
    }

    /// Returns the period of the run if its payloads have the form that is sought.
    pub(super) fn period(&self) -> Option<FormPeriod> {
        self.has_sought_form().then_some(FormPeriod {
            from: self.from,
            to: self.to,
            form: self.sought,
            payloads: self.payloads,
        })
    }

    /// Returns whether the lengths of the payloads have the form that is sought. Only then their bytes are counted,
    /// because counting takes long.
    fn is_suspect(&self) -> bool {
        self.surplus.is_some_and(|surplus| match self.sought {
            PayloadForm::Unencrypted => surplus == 0,
            PayloadForm::Encrypted => SRTP_SURPLUS.contains(&surplus),
        })
    }

    /// Returns whether the payloads have the form that is sought. A last few payloads of any length have the form of
    /// those before them.
    fn has_sought_form(&self) -> bool {
        let is_short = self.test.allows_any_length() && self.payloads < WINDOW_PACKETS;
        if is_short {
            return self.continues && (self.surplus.is_none() || self.is_suspect());
        }
        match (self.test, self.sought) {
            (FormTest::FirstBits, PayloadForm::Encrypted) => deviation(&self.counts) < MAX_EVEN_FIRST_BITS,
            (FormTest::FirstBits, PayloadForm::Unencrypted) => deviation(&self.counts) > MIN_FEW_FIRST_BITS,
            (FormTest::FixedBits(_), form) => match (form, self.counts.as_slice()) {
                (PayloadForm::Encrypted, [without, with]) => *without > 0 && *without * 4 >= *with,
                (PayloadForm::Unencrypted, [without, with]) => *without * 19 <= *with,
                _ => false,
            },
            (FormTest::BitsPerTick(_), PayloadForm::Encrypted) => {
                self.payloads as usize * self.bytes >= MIN_BYTES && deviation(&self.counts) < MAX_EVEN_BYTES
            }
            (FormTest::BitsPerTick(_), PayloadForm::Unencrypted) => {
                self.payloads >= MIN_UNENCRYPTED && deviation(&self.counts) > MAX_EVEN_BYTES
            }
        }
    }
}

/// Returns how far counts deviate from an even distribution: Pearson's chi-squared. For even counts it is about the
/// number of counts, and otherwise it grows with their sum.
fn deviation(counts: &[u32]) -> f64 {
    let sum: f64 = counts.iter().map(|count| f64::from(*count)).sum();
    let squares: f64 = counts.iter().map(|count| f64::from(*count).powi(2)).sum();
    if sum > 0.0 { squares * counts.len() as f64 / sum - sum } else { 0.0 }
}

/// Numbers of bytes by which SRTP makes payloads longer: tags of 4, 10 and 16 bytes, and an MKI of up to 4 bytes.
const SRTP_SURPLUS: std::ops::RangeInclusive<u32> = 4..=20;
/// Minimum number of bytes that prove encryption: a second of G.711.
const MIN_BYTES: usize = 8_000;
/// Minimum number of payloads that prove that the stream is not encrypted.
const MIN_UNENCRYPTED: u32 = 5;
/// Maximum deviation of evenly distributed bytes. Its mean is 255 and its standard deviation 23. A second of loud noise
/// in G.711 has more than 10,000, two seconds in G.726 have more than 800.
const MAX_EVEN_BYTES: f64 = 480.0;
/// Number of payloads of any length that are examined together: 1 s at 20 ms. With a fixed bit in each, one second in
/// 100,000 of an encrypted stream has more than four fifths of these bits by chance.
const WINDOW_PACKETS: u32 = 50;
/// Maximum deviation of evenly distributed first bits. Its mean is 31 and its standard deviation 8. A sender that used
/// eight configurations of Opus equally often would have 150.
const MAX_EVEN_FIRST_BITS: f64 = 100.0;
/// Minimum deviation of the first bits of an encoder. Six values that are equally frequent have more than 200.
const MIN_FEW_FIRST_BITS: f64 = 200.0;
