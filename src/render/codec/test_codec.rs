//! A faulty decoder for tests: if a payload begins with a command, it aborts, hangs, waits or allocates memory. Debug
//! builds only.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{DecodeError, SpeechDecoder};
use crate::render::report::PayloadQuirk;

/// Executes the commands in payloads, and decodes all other payloads with another decoder.
pub(crate) struct FaultyDecoder(pub(crate) Box<dyn SpeechDecoder>);

impl SpeechDecoder for FaultyDecoder {
    fn sample_rate_hz(&self) -> u32 {
        self.0.sample_rate_hz()
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), DecodeError> {
        match payload.get(..ORDER_BYTES) {
            Some(b"TESTABRT") => std::process::abort(),
            Some(b"TESTHANG") => loop {
                std::hint::spin_loop();
            },
            Some(b"TESTWAIT") => {
                // No other thread waits at this barrier, so the decoder waits forever.
                let _ = std::sync::Barrier::new(2).wait();
                self.0.decode(payload, out)
            }
            Some(b"TESTMEMO") => {
                let mut eaten = Vec::new();
                loop {
                    eaten.push(vec![1_u8; 16 << 20]);
                    std::hint::black_box(&eaten);
                }
            }
            _ => self.0.decode(payload, out),
        }
    }

    fn conceal(&mut self, samples: usize, next: Option<&[u8]>, out: &mut Vec<i16>) {
        self.0.conceal(samples, next, out);
    }

    fn may_pause(&self) -> bool {
        self.0.may_pause()
    }

    fn is_comfort_noise(&self) -> bool {
        self.0.is_comfort_noise()
    }

    fn quirk(&self) -> Option<PayloadQuirk> {
        self.0.quirk()
    }
}

/// Activates the faulty decoder for this process.
pub(crate) fn switch_on() {
    IS_ON.store(true, Ordering::Relaxed);
}

/// Returns whether the faulty decoder is active.
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

static IS_ON: AtomicBool = AtomicBool::new(false);

/// Length in bytes of a command at the beginning of a payload, e.g. `TESTHANG`.
const ORDER_BYTES: usize = 8;
