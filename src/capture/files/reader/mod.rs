//! Reads the frames of one capture file: all pcap variants, and pcapng.
//!
//! Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng. This module splits records itself, in one buffer of
//! limited size; the crate `pcap-parser` only parses headers and options. Its streaming parser is not used: it returns
//! "incomplete" for a block with wrong inner lengths, just as for a truncated file.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;
use pcap_parser::{PcapHeader, parse_pcap_header, parse_sectionheaderblock};

use super::unreadable_hint;
use crate::capture::{CaptureError, LinkType};
use crate::time::Timestamp;
use pcapng::PcapngSection;
use read_buffer::{FillOutcome, ReadBuffer};

mod pcapng;
mod read_buffer;

/// Metadata of one frame, and the position of its bytes in the reader's buffer.
///
/// The readers of a file fill it in place. Copying it directly after its parts were written would stop the processor for
/// each frame, until all earlier writes are in the cache.
#[derive(Clone, Debug, Default)]
pub(super) struct FileFrameHeader {
    pub(super) stamp: Timestamp,
    pub(super) link: LinkType,
    /// Number of the interface within the file. In a pcapng file, the number within the current section.
    pub(super) interface: u32,
    pub(super) orig_len: u32,
    range: Range<usize>,
}

/// A capture file that is open for reading.
#[derive(Debug)]
pub(super) struct CaptureFileReader {
    path: String,
    buffer: ReadBuffer,
    format: CaptureFileFormat,
    warning: Option<EarlyEnd>,
    frames: u64,
    ended: bool,
}

#[derive(Debug)]
enum CaptureFileFormat {
    Pcap(PcapLayout),
    Pcapng(PcapngSection),
}

/// The layout of the records in a classic pcap file, according to the file's header.
#[derive(Clone, Copy, Debug)]
struct PcapLayout {
    order: ByteOrder,
    nanoseconds: bool,
    record_header: usize,
    link: LinkType,
}

/// The byte order of the numbers in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

/// The result of reading one pcap record or pcapng block.
enum RecordOutcome {
    /// A frame, whose metadata were filled in.
    Frame,
    /// The pcapng block contains no frame.
    NoFrame,
    /// The file has ended. Holds a warning if the end came too early.
    End(Option<EarlyEnd>),
}

/// Why a file ended too early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum EarlyEnd {
    /// The file is truncated. All frames before the truncation were read.
    Cut(String),
    /// The bytes at offset `position` of the file are no record. `frames` frames were read before them, and the rest of
    /// the file was not read.
    Rubbish { position: u64, frames: u64 },
}

/// An input that counts the bytes that are read from it.
struct CountedInput {
    input: Box<dyn Read + Send>,
    counter: Arc<AtomicU64>,
}

impl Read for CountedInput {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.counter.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

impl CaptureFileReader {
    /// Opens a file (`-` is standard input), decompresses gzip, and reads the header. Counts the bytes that are read
    /// from the file in `counter`.
    pub(super) fn open(path: &Path, counter: Arc<AtomicU64>) -> Result<Self, CaptureError> {
        let shown = if path == Path::new("-") { String::from("standard input") } else { path.display().to_string() };
        let fail = |source| CaptureError::File { path: shown.clone(), source };
        let input: Box<dyn Read + Send> = match path.to_str() {
            Some("-") => Box::new(std::io::stdin()),
            _ if path.is_dir() => return Err(fail(std::io::Error::from(std::io::ErrorKind::IsADirectory))),
            _ => Box::new(File::open(path).map_err(fail)?),
        };
        Self::from_input(Box::new(CountedInput { input, counter }), &shown)
    }

    fn from_input(input: Box<dyn Read + Send>, shown: &str) -> Result<Self, CaptureError> {
        let fail = |source| CaptureError::File { path: shown.to_owned(), source };
        let mut buffer = ReadBuffer::new(input);
        buffer.fill(HINT_BYTES).map_err(fail)?;
        if buffer.data().starts_with(&GZIP_MAGIC) {
            let (head, rest) = buffer.into_parts();
            let unpacked = MultiGzDecoder::new(BufReader::new(std::io::Cursor::new(head).chain(rest)));
            buffer = ReadBuffer::new(Box::new(unpacked));
            // An error here means damaged gzip data. The format is detected from the bytes before the damage.
            let _ = buffer.fill(HINT_BYTES);
        }
        let Some(format) = read_header(&mut buffer) else {
            let hint = unreadable_hint::looks_like(buffer.data());
            return Err(CaptureError::NotACapture { path: shown.to_owned(), hint });
        };
        Ok(Self { path: shown.to_owned(), buffer, format, warning: None, frames: 0, ended: false })
    }

    /// Reads the next frame and fills in its metadata. Returns false at the end. The bytes of the previous frame are no
    /// longer available.
    pub(super) fn next_frame(&mut self, head: &mut FileFrameHeader) -> Result<bool, CaptureError> {
        while !self.ended {
            let step = match &mut self.format {
                CaptureFileFormat::Pcap(pcap) => pcap.next(&mut self.buffer, head),
                CaptureFileFormat::Pcapng(section) => section.next(&mut self.buffer, head),
            };
            match step {
                Ok(RecordOutcome::Frame) => {
                    self.frames += 1;
                    return Ok(true);
                }
                Ok(RecordOutcome::NoFrame) => {}
                Ok(RecordOutcome::End(why)) => self.end(why),
                Err(e) if is_damage(&e) => {
                    self.end(Some(EarlyEnd::Cut(format!("the gzip data is damaged or cut short ({e})"))));
                }
                Err(source) => return Err(CaptureError::File { path: self.path.clone(), source }),
            }
        }
        Ok(false)
    }

    /// Returns the bytes of the frame that was returned last.
    pub(super) fn data(&self, head: &FileFrameHeader) -> &[u8] {
        self.buffer.at(&head.range)
    }

    /// Returns the warning that the file ended too early, and clears it; `None` if there is none.
    pub(super) fn take_warning(&mut self) -> Option<EarlyEnd> {
        self.warning.take()
    }

    fn end(&mut self, mut why: Option<EarlyEnd>) {
        if let Some(EarlyEnd::Rubbish { frames, .. }) = &mut why {
            *frames = self.frames;
        }
        self.ended = true;
        self.warning = why;
    }
}

impl PcapLayout {
    fn next(&self, buffer: &mut ReadBuffer, head: &mut FileFrameHeader) -> std::io::Result<RecordOutcome> {
        match buffer.fill(self.record_header)? {
            FillOutcome::Enough => {}
            FillOutcome::Ended => return Ok(RecordOutcome::End(None)),
            FillOutcome::Truncated => return Ok(RecordOutcome::End(Some(EarlyEnd::Cut(CUT.into())))),
        }
        let header = buffer.data();
        let captured = self.order.u32(header, 8) as usize;
        if captured > MAX_FRAME_BYTES {
            return Ok(RecordOutcome::End(Some(damage_warning(buffer.position()))));
        }
        let stamp = classic_stamp(self.order.u32(header, 0), self.order.u32(header, 4), self.nanoseconds);
        let orig_len = self.order.u32(header, 12).max(captured as u32);
        if buffer.fill(self.record_header + captured)? != FillOutcome::Enough {
            return Ok(RecordOutcome::End(Some(EarlyEnd::Cut(CUT.into()))));
        }
        let range = buffer.take(self.record_header + captured);
        (head.stamp, head.link, head.interface, head.orig_len) = (stamp, self.link, 0, orig_len);
        head.range = range.start + self.record_header..range.end;
        Ok(RecordOutcome::Frame)
    }
}

impl ByteOrder {
    fn u32(self, data: &[u8], at: usize) -> u32 {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    fn u16(self, data: &[u8], at: usize) -> u16 {
        let bytes = data.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// Parses the header of a pcap or pcapng file. Returns `None` if the file is not a capture file.
fn read_header(buffer: &mut ReadBuffer) -> Option<CaptureFileFormat> {
    let head = buffer.data();
    if head.starts_with(&pcapng::SECTION_TYPE) {
        let section = pcapng::read_section_length(head)?;
        // The options of a section header can be longer than the bytes that were read so far. So the whole header is
        // read first.
        (section <= pcapng::MAX_BLOCK_BYTES && buffer.fill(section).ok()? == FillOutcome::Enough).then_some(())?;
        parse_sectionheaderblock(buffer.data()).ok()?;
        return Some(CaptureFileFormat::Pcapng(PcapngSection::default()));
    }
    let magic = u32::from_le_bytes(*head.first_chunk()?);
    let (order, nanoseconds, record_header) = match magic {
        0xa1b2_c3d4 => (ByteOrder::Little, false, 16),
        0xd4c3_b2a1 => (ByteOrder::Big, false, 16),
        0xa1b2_3c4d => (ByteOrder::Little, true, 16),
        0x4d3c_b2a1 => (ByteOrder::Big, true, 16),
        // The "modified" pcap of old Red Hat systems (Kuznetsov): eight more bytes in each record header.
        0xa1b2_cd34 => (ByteOrder::Little, false, 24),
        0x34cd_b2a1 => (ByteOrder::Big, false, 24),
        _ => return None,
    };
    let network = match parse_pcap_header(head) {
        Ok((_, PcapHeader { network, .. })) => network.0 as u32,
        // pcap-parser supports all pcap variants except the "modified" pcap (Kuznetsov) in big-endian form. So the link
        // type of that variant is read here.
        Err(_) if head.len() >= CLASSIC_HEADER => order.u32(head, 20),
        Err(_) => return None,
    };
    buffer.take(CLASSIC_HEADER);
    // The upper 16 bits of the link type may describe a frame check sequence (draft-ietf-opsawg-pcap section 4), so
    // they are ignored.
    let link = LinkType::from_dlt(network as u16);
    Some(CaptureFileFormat::Pcap(PcapLayout { order, nanoseconds, record_header, link }))
}

fn classic_stamp(seconds: u32, fraction: u32, nanoseconds: bool) -> Timestamp {
    let nanos = i64::from(fraction) * if nanoseconds { 1 } else { 1_000 };
    Timestamp::from_secs(i64::from(seconds)).offset(nanos)
}

/// Returns whether an error of the gzip reader means damaged content. Otherwise reading the file failed.
fn is_damage(e: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(e.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

const fn damage_warning(position: u64) -> EarlyEnd {
    EarlyEnd::Rubbish { position, frames: 0 }
}

const CUT: &str = "the file is cut short: its last frame is missing";
const GZIP_MAGIC: [u8; 3] = [0x1f, 0x8b, 0x08];
const CLASSIC_HEADER: usize = 24;
/// Number of bytes read to detect the format: enough for every header, and to distinguish text from binary data.
const HINT_BYTES: usize = 64;
/// Maximum size of a frame that is accepted, bytes. The limit of libpcap is 256 KiB; a length above this limit is
/// damage.
const MAX_FRAME_BYTES: usize = 1 << 20;
