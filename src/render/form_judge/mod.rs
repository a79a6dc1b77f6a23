//! Tells encrypted payloads from unencrypted payloads by their form, where the session descriptions are wrong.
//!
//! SRTP makes each payload longer by the same number of bytes: an authentication tag, and perhaps an MKI. Its bytes are
//! evenly distributed. The bytes of speech, music and silence in G.711, G.722, G.726 and L16 never are. Payloads of
//! Opus, Speex and AMR have no known length. But their first five bits have few values. Frames of iLBC and G.729 have a
//! known length and a fixed bit.

mod form_test;
mod payload_run;

pub(crate) use form_test::FormTest;
use payload_run::PayloadRun;

use crate::net::SequenceNumber;
use crate::time::Timestamp;

/// The form of payloads, as their lengths and bytes show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadForm {
    Unencrypted,
    Encrypted,
}

/// A period in which the payloads of a stream have another form than the session descriptions say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FormPeriod {
    /// Arrival time of the first payload.
    pub(super) from: Timestamp,
    /// Arrival time of the last payload.
    pub(super) to: Timestamp,
    pub(super) form: PayloadForm,
    /// Number of payloads that were examined.
    pub(crate) payloads: u32,
}

/// A payload whose form is examined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExaminedPayload<'a> {
    /// Arrival time of the packet.
    pub(crate) at: Timestamp,
    /// Sequence number of the packet.
    pub(crate) sequence: SequenceNumber,
    /// RTP timestamp of the packet.
    pub(crate) time: u32,
    pub(crate) payload: &'a [u8],
}

/// Finds the periods in which the payloads of a stream have another form than the session descriptions say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FormJudge {
    run: Option<PayloadRun>,
    periods: Vec<FormPeriod>,
}

impl FormJudge {
    /// Examines the next payload of a stream, in order of arrival. `sought` is the form that contradicts the session
    /// descriptions.
    ///
    /// An empty payload, e.g. a keep-alive, has no form.
    pub(crate) fn handle_payload(&mut self, test: FormTest, sought: PayloadForm, payload: ExaminedPayload<'_>) {
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
    pub(crate) fn finish(mut self) -> Vec<FormPeriod> {
        if let Some(run) = self.run.take() {
            self.finish_run(&run);
        }
        self.periods
    }

    /// Adds the period of a run if its payloads have the form that is sought. Returns whether it was added.
    fn finish_run(&mut self, run: &PayloadRun) -> bool {
        let Some(period) = run.period() else { return false };
        let has_room = self.periods.len() < MAX_PERIODS;
        match self.periods.last_mut().filter(|_| run.continues) {
            Some(last) => (last.to, last.payloads) = (period.to, last.payloads.saturating_add(period.payloads)),
            None if has_room => self.periods.push(period),
            None => return false,
        }
        true
    }
}

/// Maximum number of periods of a stream. A call has one or two.
const MAX_PERIODS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the periods with the form `sought` in a stream of Opus payloads, 20 ms apart.
    fn periods(payloads: &[(PayloadForm, Vec<u8>)]) -> Vec<FormPeriod> {
        let mut judge = FormJudge::default();
        for (n, (sought, payload)) in (0_u16..).zip(payloads) {
            let at = Timestamp::from_micros(i64::from(n) * 20_000);
            let (sequence, time) = (SequenceNumber(n), u32::from(n) * 960);
            judge.handle_payload(FormTest::FirstBits, *sought, ExaminedPayload { at, sequence, time, payload });
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
