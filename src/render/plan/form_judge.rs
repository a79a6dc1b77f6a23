//! Tells encrypted payloads from unencrypted payloads by their form, where the session descriptions are wrong.
//!
//! SRTP makes each payload longer by the same number of bytes: an authentication tag, and perhaps an MKI. Its bytes are
//! evenly distributed. The bytes of speech, music and silence in G.711, G.722 and L16 never are. Opus payloads have no
//! known length. But their first byte names one of 32 configurations, and a sender uses only a few of them.

use crate::call::decision::PayloadFormat;
use crate::codec::Codec;
use crate::net::SequenceNumber;
use crate::render::packet::RtpHeaderFields;
use crate::time::Timestamp;

/// The form of payloads, as their lengths and bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::render) enum PayloadForm {
    Unencrypted,
    Encrypted,
}

/// A period in which the payloads of a stream have another form than the session descriptions say.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormPeriod {
    /// Arrival time of the first payload.
    pub(super) from: Timestamp,
    /// Arrival time of the last payload.
    pub(super) to: Timestamp,
    pub(super) form: PayloadForm,
}

/// The property of a payload format that shows whether payloads are encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FormTest {
    /// Each tick of the RTP clock has this number of bytes.
    BytesPerTick(u32),
    /// The first five bits name the configuration of the packet (RFC 6716 section 3.1).
    Configurations,
}

impl FormTest {
    /// Returns the test for a format; `None` if the form of its payloads shows nothing.
    pub(super) fn new(format: &PayloadFormat) -> Option<Self> {
        let channels = u32::from(format.channels.max(1));
        match format.codec()? {
            Codec::Pcma | Codec::Pcmu | Codec::G722 | Codec::L8 => Some(Self::BytesPerTick(channels)),
            Codec::L16 => Some(Self::BytesPerTick(2 * channels)),
            Codec::Opus => Some(Self::Configurations),
            _ => None,
        }
    }
}

/// A payload whose form is examined.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExaminedPayload<'a> {
    pub(super) at: Timestamp,
    pub(super) head: RtpHeaderFields,
    pub(super) payload: &'a [u8],
}

/// Finds the periods in which the payloads of a stream have another form than the session descriptions say.
#[derive(Debug, Default)]
pub(super) struct FormJudge {
    run: Option<PayloadRun>,
    periods: Vec<FormPeriod>,
}

/// Consecutive payloads that are examined together.
#[derive(Debug)]
struct PayloadRun {
    test: FormTest,
    sought: PayloadForm,
    from: Timestamp,
    to: Timestamp,
    sequence: SequenceNumber,
    time: u32,
    bytes: usize,
    /// Number of bytes by which payloads are longer than their timestamps say; `None` before the second payload.
    surplus: Option<u32>,
    /// Whether the run directly continues the last period, which had the form that is sought.
    continues: bool,
    payloads: u32,
    counts: Vec<u32>,
}

impl FormJudge {
    /// Examines the next payload of a stream, in order of arrival. `sought` is the form that contradicts the session
    /// descriptions.
    ///
    /// An empty payload, e.g. a keep-alive, has no form.
    pub(super) fn handle_payload(&mut self, test: FormTest, sought: PayloadForm, payload: ExaminedPayload<'_>) {
        if payload.payload.is_empty() {
            return;
        }
        let surplus = self.run.as_ref().and_then(|run| run.surplus_of(payload));
        match &mut self.run {
            Some(run) if run.continues_with(test, sought, payload, surplus) => run.add(payload, surplus),
            run => {
                let former = run.take();
                let continues =
                    former.is_some_and(|run| self.finish_run(&run) && (run.test, run.sought) == (test, sought));
                self.run.insert(PayloadRun::new(test, sought, payload, continues)).add(payload, surplus);
            }
        }
    }

    /// Returns the periods, in order of time.
    pub(super) fn finish(mut self) -> Vec<FormPeriod> {
        if let Some(run) = self.run.take() {
            self.finish_run(&run);
        }
        self.periods
    }

    /// Adds the period of a run if its payloads have the form that is sought. Returns whether it was added.
    fn finish_run(&mut self, run: &PayloadRun) -> bool {
        if !run.has_sought_form() {
            return false;
        }
        let has_room = self.periods.len() < MAX_PERIODS;
        match self.periods.last_mut().filter(|_| run.continues) {
            Some(last) => last.to = run.to,
            None if has_room => self.periods.push(FormPeriod { from: run.from, to: run.to, form: run.sought }),
            None => return false,
        }
        true
    }
}

impl PayloadRun {
    fn new(test: FormTest, sought: PayloadForm, payload: ExaminedPayload<'_>, continues: bool) -> Self {
        let ExaminedPayload { at, head, payload } = payload;
        Self {
            test,
            sought,
            from: at,
            to: at,
            sequence: head.sequence,
            time: head.time,
            bytes: payload.len(),
            surplus: None,
            continues: continues && test == FormTest::Configurations,
            payloads: 0,
            counts: Vec::new(),
        }
    }

    /// Returns the number of bytes by which a payload is longer than the timestamps say. Returns `None` if the payload
    /// does not directly follow another payload of the same length, or if a pause is before it.
    fn surplus_of(&self, ExaminedPayload { head, payload, .. }: ExaminedPayload<'_>) -> Option<u32> {
        let FormTest::BytesPerTick(bytes) = self.test else { return None };
        let follows = head.sequence == self.sequence.wrapping_add(1) && payload.len() == self.bytes;
        let due = head.time.wrapping_sub(self.time).checked_mul(bytes).filter(|_| follows)?;
        u32::try_from(payload.len()).ok()?.checked_sub(due)
    }

    /// Returns whether a payload is examined together with the payloads of this run.
    fn continues_with(
        &self,
        test: FormTest,
        sought: PayloadForm,
        payload: ExaminedPayload<'_>,
        surplus: Option<u32>,
    ) -> bool {
        let is_alike = match test {
            FormTest::BytesPerTick(_) => {
                let is_other = self.surplus.zip(surplus).is_some_and(|(own, other)| own != other);
                payload.payload.len() == self.bytes && !is_other
            }
            FormTest::Configurations => self.payloads < WINDOW_PACKETS,
        };
        test == self.test && sought == self.sought && is_alike
    }

    fn add(&mut self, ExaminedPayload { at, head, payload }: ExaminedPayload<'_>, surplus: Option<u32>) {
        self.to = self.to.max(at);
        (self.sequence, self.time) = (head.sequence, head.time);
        self.surplus = self.surplus.or(surplus);
        match self.test {
            FormTest::BytesPerTick(_) if self.is_suspect() => {
                self.payloads += 1;
                self.counts.resize(256, 0);
                payload.iter().for_each(|byte| self.counts[usize::from(*byte)] += 1);
            }
            FormTest::BytesPerTick(_) => {}
            FormTest::Configurations => {
                self.payloads += 1;
                self.counts.resize(32, 0);
                if let Some(first) = payload.first() {
                    self.counts[usize::from(first >> 3)] += 1;
                }
            }
        }
    }

    /// Returns whether the lengths of the payloads have the form that is sought. Only then their bytes are counted,
    /// because counting takes long.
    fn is_suspect(&self) -> bool {
        self.surplus.is_some_and(|surplus| match self.sought {
            PayloadForm::Unencrypted => surplus == 0,
            PayloadForm::Encrypted => SRTP_SURPLUS.contains(&surplus),
        })
    }

    /// Returns whether the payloads have the form that is sought. A last few Opus packets have the form of those before
    /// them.
    fn has_sought_form(&self) -> bool {
        let deviation = deviation(&self.counts);
        match (self.test, self.sought) {
            (FormTest::Configurations, _) if self.payloads < WINDOW_PACKETS => self.continues,
            (FormTest::Configurations, PayloadForm::Encrypted) => deviation < MAX_EVEN_CONFIGURATIONS,
            (FormTest::Configurations, PayloadForm::Unencrypted) => deviation > MIN_FEW_CONFIGURATIONS,
            (FormTest::BytesPerTick(_), PayloadForm::Encrypted) => {
                self.payloads as usize * self.bytes >= MIN_BYTES && deviation < MAX_EVEN_BYTES
            }
            (FormTest::BytesPerTick(_), PayloadForm::Unencrypted) => {
                self.payloads >= MIN_UNENCRYPTED && deviation > MAX_EVEN_BYTES
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
/// in G.711 has more than 10,000.
const MAX_EVEN_BYTES: f64 = 480.0;
/// Number of Opus packets that are examined together: 1 s at 20 ms.
const WINDOW_PACKETS: u32 = 50;
/// Maximum deviation of evenly distributed configurations. Its mean is 31 and its standard deviation 8. A sender that
/// used eight configurations equally often would have 150.
const MAX_EVEN_CONFIGURATIONS: f64 = 100.0;
/// Minimum deviation of the configurations of an encoder. Four configurations that are equally frequent have 350.
const MIN_FEW_CONFIGURATIONS: f64 = 300.0;
/// Maximum number of periods of a stream. A call has one or two.
const MAX_PERIODS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{PayloadType, Ssrc};

    /// Returns the periods with the form `sought` in a stream of Opus payloads, 20 ms apart.
    fn periods(payloads: &[(PayloadForm, Vec<u8>)]) -> Vec<FormPeriod> {
        let mut judge = FormJudge::default();
        for (n, (sought, payload)) in (0_u16..).zip(payloads) {
            let at = Timestamp::from_micros(i64::from(n) * 20_000);
            let (sequence, time) = (SequenceNumber(n), u32::from(n) * 960);
            let head = RtpHeaderFields { pt: PayloadType(111), sequence, time, ssrc: Ssrc(1) };
            judge.handle_payload(FormTest::Configurations, *sought, ExaminedPayload { at, head, payload });
        }
        judge.finish()
    }

    /// Returns payloads of which each names another configuration, as encrypted payloads do.
    fn encrypted(count: u8) -> Vec<Vec<u8>> {
        (0..count).map(|n| vec![n << 3; 40]).collect()
    }

    #[test]
    fn empty_payloads_show_no_encryption() {
        let speech = vec![0x78; 40];
        let payloads: Vec<_> = (0..300).map(|n| if n % 30 == 0 { speech.clone() } else { Vec::new() }).collect();
        let sought = payloads.into_iter().map(|payload| (PayloadForm::Encrypted, payload));
        assert!(periods(&sought.collect::<Vec<_>>()).is_empty());
    }

    #[test]
    fn period_does_not_continue_in_payloads_that_another_form_is_sought_in() {
        let first = encrypted(50).into_iter().map(|payload| (PayloadForm::Encrypted, payload));
        let then = (0..30).map(|_| (PayloadForm::Unencrypted, vec![0x78; 40]));
        let found = periods(&first.chain(then).collect::<Vec<_>>());
        let ends: Vec<_> = found.iter().map(|period| (period.form, period.to)).collect();
        assert_eq!(ends, [(PayloadForm::Encrypted, Timestamp::from_micros(49 * 20_000))]);
    }
}
