//! Writes Opus in Ogg (RFC 7845), with each channel as a stream of its own. So one speaker is never heard on the
//! channel of the other.
//!
//! At low rates, coupled stereo encodes what both channels have in common, so one channel leaks into the other. Channel
//! mapping family 1 allows two uncoupled streams (section 5.1.1.2); all players that know the family decode them. The
//! header gives the encoder's delay as pre-skip, and the last granule position trims the end (sections 4.2 and 4.4). So
//! a player returns exactly the input samples. The same samples and name give the same bytes.

use std::io::{self, Write};

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use opus::{Application, Bitrate, MSEncoder, Signal};

/// Writes an Ogg Opus file from samples.
pub(super) struct OggOpusWriter<W: Write> {
    out: PacketWriter<'static, W>,
    encoder: MSEncoder,
    sample_rate: u32,
    serial: u32,
    /// Number of samples per channel in a packet.
    frame_samples: usize,
    /// Interleaved samples of both channels that do not fill a packet yet.
    pending: Vec<i16>,
    /// The last encoded packet. It is written after the next packet is encoded, because the last packet of the file
    /// must be marked as such.
    last_packet: Option<Vec<u8>>,
    /// Number of Opus packets encoded so far.
    packets: u64,
    /// Number of samples per channel received so far.
    samples: u64,
    /// Number of samples that a player skips at the beginning (pre-skip), at 48 kHz.
    pre_skip: u16,
}

impl<W: Write> OggOpusWriter<W> {
    /// Starts a file. The serial number of its Ogg stream is computed from `name`, so that the same input gives the
    /// same bytes.
    pub(super) fn new(out: W, sample_rate: u32, name: &str) -> io::Result<Self> {
        let mut encoder = MSEncoder::new(sample_rate, 2, 0, &[0, 1], Application::Voip).map_err(io::Error::other)?;
        encoder.set_bitrate(Bitrate::Bits(BITRATE)).map_err(io::Error::other)?;
        encoder.set_signal(Signal::Voice).map_err(io::Error::other)?;
        encoder.set_complexity(COMPLEXITY).map_err(io::Error::other)?;
        let lookahead = encoder.get_lookahead().map_err(io::Error::other)?;
        let pre_skip = i64::from(lookahead) * i64::from(CLOCK_HZ) / i64::from(sample_rate);
        let mut writer = Self {
            out: PacketWriter::new(out),
            encoder,
            sample_rate,
            serial: serial(name),
            frame_samples: sample_rate as usize / FRAMES_A_SECOND,
            pending: Vec::new(),
            last_packet: None,
            packets: 0,
            samples: 0,
            pre_skip: u16::try_from(pre_skip).map_err(io::Error::other)?,
        };
        writer.put(head(writer.pre_skip, sample_rate), PacketWriteEndInfo::EndPage, 0)?;
        writer.put(tags(), PacketWriteEndInfo::EndPage, 0)?;
        Ok(writer)
    }

    pub(super) fn write(&mut self, frames: &[[i16; 2]]) -> io::Result<()> {
        self.samples += frames.len() as u64;
        self.pending.extend_from_slice(frames.as_flattened());
        let mut from = 0;
        while self.pending.len() - from >= 2 * self.frame_samples {
            self.encode(from)?;
            from += 2 * self.frame_samples;
        }
        self.pending.drain(..from);
        Ok(())
    }

    pub(super) fn finish(mut self) -> io::Result<()> {
        let end = u64::from(self.pre_skip) + self.samples * u64::from(CLOCK_HZ) / u64::from(self.sample_rate);
        // The encoder delays its input. So packets of silence are added until all samples are encoded.
        while self.packets * PACKET_TICKS < end || self.last_packet.is_none() {
            self.pending.resize(2 * self.frame_samples, 0);
            self.encode(0)?;
            self.pending.clear();
        }
        if let Some(last) = self.last_packet.take() {
            self.put(last, PacketWriteEndInfo::EndStream, end)?;
        }
        self.out.inner_mut().flush()
    }

    /// Encodes the packet that begins at index `from` of the waiting samples (`pending`). Writes the packet that was
    /// encoded before it.
    fn encode(&mut self, from: usize) -> io::Result<()> {
        let samples = self.pending.get(from..from + 2 * self.frame_samples).unwrap_or_default();
        let packet = self.encoder.encode_vec(samples, MAX_PACKET_BYTES).map_err(io::Error::other)?;
        if let Some(before) = self.last_packet.replace(packet) {
            let ends_page = self.packets.is_multiple_of(FRAMES_A_SECOND as u64);
            let info = if ends_page { PacketWriteEndInfo::EndPage } else { PacketWriteEndInfo::NormalPacket };
            self.put(before, info, self.packets * PACKET_TICKS)?;
        }
        self.packets += 1;
        Ok(())
    }

    fn put(&mut self, packet: Vec<u8>, info: PacketWriteEndInfo, granule: u64) -> io::Result<()> {
        self.out.write_packet(packet, self.serial, info, granule)
    }
}

/// Returns the identification header (RFC 7845 section 5.1) with mapping family 1: two streams, none coupled.
fn head(pre_skip: u16, sample_rate: u32) -> Vec<u8> {
    let mut out = b"OpusHead\x01\x02".to_vec();
    out.extend(pre_skip.to_le_bytes());
    out.extend(sample_rate.to_le_bytes());
    out.extend([0, 0]); // output gain: 0 dB
    out.extend([1, 2, 0, 0, 1]);
    out
}

/// Returns the comment header (RFC 7845 section 5.2). It names no software version, so that all versions write the same
/// bytes.
fn tags() -> Vec<u8> {
    let vendor = b"callspan";
    let mut out = b"OpusTags".to_vec();
    out.extend((vendor.len() as u32).to_le_bytes());
    out.extend(vendor);
    out.extend(0_u32.to_le_bytes());
    out
}

/// Returns the FNV-1a hash of a name, as the serial number of the Ogg stream.
fn serial(name: &str) -> u32 {
    name.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// Rate of the time stamps of Ogg Opus, Hz. It does not depend on the sample rate of the input.
const CLOCK_HZ: u32 = 48_000;
/// Number of Opus packets per second, each with 20 ms.
const FRAMES_A_SECOND: usize = 50;
const PACKET_TICKS: u64 = 960;
/// Bit rate of both channels, bit/s. 24 kbit/s per channel is transparent for telephone speech.
const BITRATE: i32 = 48_000;
/// Encoder complexity, 0 to 10. libopus uses 5 on mobile devices: half the CPU time of 10, with no audible difference.
const COMPLEXITY: i32 = 5;
/// Maximum size of a packet, bytes: two and a half times the average. It bounds the size of a file.
const MAX_PACKET_BYTES: usize = 320;
/// Maximum number of bytes that a second of sound takes: packets with their lacing values (lengths), and the header of
/// an Ogg page.
pub(super) const MAX_BYTES_A_SECOND: u64 = (FRAMES_A_SECOND * (MAX_PACKET_BYTES + 2) + 27) as u64;
/// Maximum total size of the two Ogg pages with headers and of the packets that are added at the end, bytes.
pub(super) const HEADER_BYTES: u64 = 2_048;
