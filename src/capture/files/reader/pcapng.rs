//! Parses pcapng blocks (draft-ietf-opsawg-pcapng): sections, interfaces and the three kinds of packet block.

use pcap_parser::{parse_interfacedescriptionblock_be, parse_interfacedescriptionblock_le};

use super::read_buffer::{FillOutcome, ReadBuffer};
use super::{ByteOrder, CUT, EarlyEnd, FileFrameHeader, MAX_FRAME_BYTES, RecordOutcome, damage_warning};
use crate::capture::LinkType;
use crate::time::Timestamp;

/// The state of the current section of a pcapng file.
#[derive(Debug)]
pub(super) struct PcapngSection {
    order: ByteOrder,
    interfaces: Vec<PcapngInterface>,
    /// Timestamp of the last packet. Simple packet blocks have no timestamp and get this value.
    last_stamp: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct PcapngInterface {
    link: LinkType,
    snap_len: u32,
    resolution: TimestampResolution,
    offset_secs: i64,
}

/// The unit of an interface's timestamps (option if_tsresol).
#[derive(Clone, Copy, Debug)]
enum TimestampResolution {
    /// A power of ten: the number of units per second.
    Decimal(u64),
    /// The number n, if the unit is 2^-n seconds.
    Binary(u32),
}

impl Default for PcapngSection {
    fn default() -> Self {
        Self { order: ByteOrder::Little, interfaces: Vec::new(), last_stamp: Timestamp::EPOCH }
    }
}

impl PcapngSection {
    pub(super) fn next(
        &mut self,
        buffer: &mut ReadBuffer,
        head: &mut FileFrameHeader,
    ) -> std::io::Result<RecordOutcome> {
        match buffer.fill(BLOCK_HEADER)? {
            FillOutcome::Enough => {}
            FillOutcome::Ended => return Ok(RecordOutcome::End(None)),
            FillOutcome::Truncated => return Ok(RecordOutcome::End(Some(EarlyEnd::Cut(CUT.into())))),
        }
        if buffer.data().starts_with(&SECTION_TYPE) && !self.begin(buffer)? {
            return Ok(RecordOutcome::End(Some(damage_warning(buffer.position()))));
        }
        let kind = self.order.u32(buffer.data(), 0);
        let length = self.order.u32(buffer.data(), 4) as usize;
        // The shortest pcapng block consists of its type and, twice, its length: 12 bytes. Padding is not checked,
        // because some writers omit it.
        if length < BLOCK_HEADER + 4 || kind & 0x7fff_ffff == 0 {
            return Ok(RecordOutcome::End(Some(damage_warning(buffer.position()))));
        }
        if length > MAX_BLOCK_BYTES {
            return Self::skip_block(kind, length, buffer);
        }
        if buffer.fill(length)? != FillOutcome::Enough {
            return Ok(RecordOutcome::End(Some(EarlyEnd::Cut(CUT.into()))));
        }
        let range = buffer.take(length);
        let block = buffer.at(&range);
        match kind {
            INTERFACE => self.add_interface(block),
            ENHANCED | OBSOLETE | SIMPLE => {
                let Some(packet) = self.packet(kind, block) else { return Ok(RecordOutcome::NoFrame) };
                *head = packet;
                head.range = range.start + head.range.start..range.start + head.range.end;
                return Ok(RecordOutcome::Frame);
            }
            _ => {}
        }
        Ok(RecordOutcome::NoFrame)
    }

    /// Skips a block that is too large to be a packet. Such blocks contain other data, e.g. TLS secrets or names.
    fn skip_block(kind: u32, length: usize, buffer: &mut ReadBuffer) -> std::io::Result<RecordOutcome> {
        if matches!(kind, INTERFACE | ENHANCED | OBSOLETE | SIMPLE) || length > MAX_SKIPPED_BYTES {
            return Ok(RecordOutcome::End(Some(damage_warning(buffer.position()))));
        }
        match buffer.skip(length as u64)? {
            FillOutcome::Enough => Ok(RecordOutcome::NoFrame),
            _ => Ok(RecordOutcome::End(Some(EarlyEnd::Cut(CUT.into())))),
        }
    }

    /// Starts a new section with its own byte order and interfaces. Returns false if the section header is invalid.
    fn begin(&mut self, buffer: &mut ReadBuffer) -> std::io::Result<bool> {
        if buffer.fill(BLOCK_HEADER + 4)? != FillOutcome::Enough {
            return Ok(false);
        }
        let Some(order) = section_order(buffer.data()) else { return Ok(false) };
        self.order = order;
        self.interfaces.clear();
        Ok(true)
    }

    fn add_interface(&mut self, block: &[u8]) {
        if self.interfaces.len() == MAX_INTERFACES {
            return;
        }
        let parsed = match self.order {
            ByteOrder::Little => parse_interfacedescriptionblock_le(block),
            ByteOrder::Big => parse_interfacedescriptionblock_be(block),
        };
        // An interface block with bad options still counts as an interface. Otherwise all later interfaces would have
        // wrong numbers.
        let mut interface = PcapngInterface {
            link: LinkType::from_dlt(self.order.u16(block, 8)),
            snap_len: self.order.u32(block, 12),
            resolution: TimestampResolution::Decimal(1_000_000),
            offset_secs: 0,
        };
        if let Ok((_, idb)) = parsed {
            interface.resolution = TimestampResolution::from_option(idb.if_tsresol);
            // pcap-parser 0.17 reads the option if_tsoffset as little-endian even in big-endian sections, so its bytes
            // are swapped here.
            interface.offset_secs = match self.order {
                ByteOrder::Little => idb.if_tsoffset,
                ByteOrder::Big => idb.if_tsoffset.swap_bytes(),
            };
        }
        self.interfaces.push(interface);
    }

    /// Returns the packet of a block, with the position of its bytes in the block. Returns `None` if the lengths
    /// contradict each other.
    fn packet(&mut self, kind: u32, block: &[u8]) -> Option<FileFrameHeader> {
        let order = self.order;
        let (number, header) = match kind {
            SIMPLE => (0, 12),
            OBSOLETE => (u32::from(order.u16(block, 8)), 28),
            _ => (order.u32(block, 8), 28),
        };
        let interface = *self.interfaces.get(number as usize)?;
        let room = block.len().checked_sub(header + 4)?;
        let (captured, orig_len) = if kind == SIMPLE {
            let orig = order.u32(block, 8);
            let snapped = if interface.snap_len == 0 { orig } else { orig.min(interface.snap_len) };
            ((snapped as usize).min(room), orig)
        } else {
            (order.u32(block, 20) as usize, order.u32(block, 24))
        };
        if captured > room || captured > MAX_FRAME_BYTES {
            return None;
        }
        if kind != SIMPLE {
            let units = u64::from(order.u32(block, 12)) << 32 | u64::from(order.u32(block, 16));
            self.last_stamp = interface.stamp(units);
        }
        Some(FileFrameHeader {
            stamp: self.last_stamp,
            link: interface.link,
            interface: number,
            orig_len: orig_len.max(captured as u32),
            range: header..header + captured,
        })
    }
}

impl PcapngInterface {
    fn stamp(&self, units: u64) -> Timestamp {
        let nanos = match self.resolution {
            TimestampResolution::Decimal(per_second) => u128::from(units) * 1_000_000_000 / u128::from(per_second),
            TimestampResolution::Binary(bits) => (u128::from(units) * 1_000_000_000) >> bits,
        };
        let stamp = Timestamp::from_secs(self.offset_secs).offset(i64::try_from(nanos).unwrap_or(i64::MAX));
        stamp.clamp(Timestamp::EPOCH, LATEST)
    }
}

impl TimestampResolution {
    /// Parses the option if_tsresol: the top bit selects base 10 or 2. pcap-parser rejects base 2, so its function is
    /// not used.
    fn from_option(value: u8) -> Self {
        match value {
            0x80.. => Self::Binary(u32::from(value & 0x7f)),
            0..=19 => Self::Decimal(10_u64.pow(u32::from(value))),
            _ => Self::Decimal(1_000_000),
        }
    }
}

/// Returns the length of the section header block at the start of a file. Returns `None` if its byte-order magic is
/// invalid.
pub(super) fn read_section_length(head: &[u8]) -> Option<usize> {
    section_order(head).map(|order| order.u32(head, 4) as usize)
}

fn section_order(head: &[u8]) -> Option<ByteOrder> {
    match head.get(8..12)? {
        [0x4d, 0x3c, 0x2b, 0x1a] => Some(ByteOrder::Little),
        [0x1a, 0x2b, 0x3c, 0x4d] => Some(ByteOrder::Big),
        _ => None,
    }
}

/// The type of a section header block. Its bytes are the same in both byte orders.
pub(super) const SECTION_TYPE: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
const INTERFACE: u32 = 1;
/// The type of the packet block of early drafts. It differs from an enhanced packet block: it has a 16-bit interface
/// number and a drop count.
const OBSOLETE: u32 = 2;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;
/// Latest timestamp that is accepted: the year 2200. A 64-bit timestamp with a wrong unit would overflow later
/// calculations.
const LATEST: Timestamp = Timestamp::from_secs(7_258_118_400);
const BLOCK_HEADER: usize = 8;
/// Maximum size of a packet block, bytes: a frame of [`MAX_FRAME_BYTES`] and as many bytes for comments and other
/// options.
pub(super) const MAX_BLOCK_BYTES: usize = 2 * MAX_FRAME_BYTES;
/// Maximum size of a block that is skipped, bytes. Key logs and name tables have a few MiB; a length above this limit
/// is damage.
const MAX_SKIPPED_BYTES: usize = 64 << 20;
/// Maximum number of interfaces that are stored for a section, 40 bytes each. No computer has that many.
const MAX_INTERFACES: usize = 4096;
