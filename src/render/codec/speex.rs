//! Speex, narrow and wide band (the Speex codec manual; RTP payload RFC 5574).
//!
//! A port of the decoder of libspeex (floating point) to safe Rust, without its encoder, its callbacks and its
//! ultra-wide layer, whose bits are skipped. libspeex is BSD-3-Clause: its notice is `speex/COPYING`.

mod filter;
mod modes;
mod narrow;
#[rustfmt::skip]
mod tables;
mod wide;

use narrow::Narrow;
use wide::Wide;

use super::conceal::MadeUp;
use super::{Decoder, Undecodable};

/// Decoder of one Speex stream.
pub struct Speex {
    layers: Layers,
    made_up: MadeUp,
}

/// A wide frame is a narrow one and a layer on top of it.
enum Layers {
    Narrow(Box<Narrow>),
    Wide(Box<Wide>),
}

impl Speex {
    /// A decoder at the clock rate: 8000, 16000, or 32000, whose highest layer (8 to 16 kHz) is left out.
    pub fn new(clock_hz: u32) -> Option<Self> {
        let (layers, rate_hz) = match clock_hz {
            0 | NARROW_HZ => (Layers::Narrow(Box::new(Narrow::new(false))), NARROW_HZ),
            WIDE_HZ | ULTRA_WIDE_HZ => (Layers::Wide(Box::new(Wide::new())), WIDE_HZ),
            _ => return None,
        };
        Some(Self { layers, made_up: MadeUp::new(rate_hz) })
    }

    /// One frame; `None` conceals one (or goes on with a pause).
    fn frame(&mut self, bits: Option<&mut Bits<'_>>, out: &mut Vec<i16>) -> Result<(), End> {
        match &mut self.layers {
            Layers::Narrow(narrow) => {
                let sound = narrow.frame(bits)?;
                out.extend(sound.into_iter().map(to_sample));
            }
            Layers::Wide(wide) => {
                let sound = wide.frame(bits)?;
                out.extend(sound.into_iter().map(to_sample));
            }
        }
        Ok(())
    }

    fn pausing(&self) -> bool {
        match &self.layers {
            Layers::Narrow(narrow) => narrow.pausing(),
            Layers::Wide(wide) => wide.pausing(),
        }
    }
}

impl Decoder for Speex {
    fn sample_rate_hz(&self) -> u32 {
        match self.layers {
            Layers::Narrow(_) => NARROW_HZ,
            Layers::Wide(_) => WIDE_HZ,
        }
    }

    fn decode(&mut self, payload: &[u8], out: &mut Vec<i16>) -> Result<(), Undecodable> {
        let at = out.len();
        let mut bits = Bits { bytes: payload, at: 0 };
        for _ in 0..MAX_FRAMES {
            match self.frame(Some(&mut bits), out) {
                Ok(()) => {}
                Err(End::Regular) => break,
                // What was good before the fault is kept.
                Err(End::Broken) if out.len() > at => break,
                Err(End::Broken) => return Err(Undecodable::Content),
            }
        }
        if out.len() == at {
            return Err(Undecodable::Length);
        }
        self.made_up.end();
        Ok(())
    }

    fn conceal(&mut self, samples: usize, _next: Option<&[u8]>, out: &mut Vec<i16>) {
        let fresh = MadeUp::new(self.sample_rate_hz());
        let mut made_up = std::mem::replace(&mut self.made_up, fresh);
        let pausing = self.pausing();
        made_up.fill(samples, pausing.into(), out, |out| {
            let _without_bits_nothing_is_broken = self.frame(None, out);
        });
        self.made_up = made_up;
    }

    fn delay_samples(&self) -> usize {
        match self.layers {
            Layers::Narrow(_) => 80, // measured: the encoder's look-ahead of 40 and the decoder's of 40
            Layers::Wide(_) => 223,  // twice that and both QMFs, 63 in all
        }
    }
}

/// Why no further frame came of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The bits are used up, or the terminator was read.
    Regular,
    /// An unknown mode, or a frame cut short.
    Broken,
}

/// Reads bit fields, most significant bit first; beyond the end they are 0.
struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, width: usize) -> usize {
        let mut value = 0;
        for at in self.at..self.at + width {
            let byte = self.bytes.get(at / 8).copied().unwrap_or(0);
            value = value << 1 | usize::from(byte >> (7 - at % 8) & 1);
        }
        self.at += width;
        value
    }

    fn peek(&self, width: usize) -> usize {
        Bits { bytes: self.bytes, at: self.at }.take(width)
    }

    fn skip(&mut self, width: usize) {
        self.at += width;
    }

    fn left(&self) -> usize {
        (self.bytes.len() * 8).saturating_sub(self.at)
    }
}

/// libspeex's noise: evenly distributed with this standard deviation.
fn noise(deviation: f32, seed: &mut u32) -> f32 {
    *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    3.4642 * deviation * (f32::from_bits(0x3F80_0000 | *seed & 0x007F_FFFF) - 1.5)
}

fn to_sample(value: f32) -> i16 {
    (value + 0.5).floor() as i16 // saturates; not a number becomes 0
}

const NARROW_HZ: u32 = 8_000;
const WIDE_HZ: u32 = 16_000;
const ULTRA_WIDE_HZ: u32 = 32_000;

/// 640 ms: more frames in one packet are not speech but rubbish (an empty frame takes 5 bits).
const MAX_FRAMES: usize = 32;
