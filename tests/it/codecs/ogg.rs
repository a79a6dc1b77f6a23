//! Writes packets of Opus and Speex into Ogg (RFC 3533), the only file format that ffmpeg reads them from without loss.

/// Returns a file with a page for each packet. A packet comes with the number of samples up to its end.
pub fn file(packets: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (packet, samples)) in (0_u32..).zip(packets) {
        let is_last = number as usize + 1 == packets.len();
        let kind = if number == 0 {
            2
        } else if is_last {
            4
        } else {
            0
        };
        let mut page =
            [&b"OggS\0"[..], &[kind], &samples.to_le_bytes(), &SERIAL, &number.to_le_bytes(), &[0; 4]].concat();
        // The length of a packet is written as bytes of 255 and a last byte below 255.
        page.push((packet.len() / 255 + 1) as u8);
        page.extend(std::iter::repeat_n(255, packet.len() / 255));
        page.push((packet.len() % 255) as u8);
        page.extend(packet);
        let sum = checksum(&page).to_le_bytes();
        page[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum);
        out.extend(page);
    }
    out
}

/// Returns an Opus file (RFC 7845) of packets of `packet_samples` samples at 48 kHz.
pub fn opus<'a>(payloads: impl Iterator<Item = &'a [u8]>, packet_samples: u64) -> Vec<u8> {
    // The fields of the header are: version 1, two channels, nothing skipped, 48 kHz, no gain, one stream.
    let head = [&b"OpusHead\x01\x02\0\0"[..], &48_000_u32.to_le_bytes(), &[0; 3]].concat();
    let tags = [&b"OpusTags"[..], &[0; 8]].concat();
    file(&with_heads([head, tags], payloads, packet_samples))
}

/// Returns a Speex file of wideband frames of 20 ms.
pub fn wide_speex<'a>(payloads: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut head = b"Speex   1.2.1".to_vec();
    head.resize(28, 0);
    // Version of the header, its size, rate, mode (wideband), version of the mode, channels and bit rate. Then frame,
    // VBR, frames in a packet, further headers, and two reserved numbers.
    for value in [1, 80, 16_000, 1, 4, 1, -1, 320, 0, 1, 0, 0, 0_i32] {
        head.extend(value.to_le_bytes());
    }
    file(&with_heads([head, vec![0; 8]], payloads, 320))
}

fn with_heads<'a>(
    heads: [Vec<u8>; 2],
    payloads: impl Iterator<Item = &'a [u8]>,
    packet_samples: u64,
) -> Vec<(Vec<u8>, u64)> {
    let packets = (1..).zip(payloads).map(|(number, payload)| (payload.to_vec(), number * packet_samples));
    heads.into_iter().map(|head| (head, 0)).chain(packets).collect()
}

/// Returns the checksum of a page, computed while its place is zero (RFC 3533 section 6).
fn checksum(page: &[u8]) -> u32 {
    page.iter().fold(0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte) << 24, |sum, _| sum << 1 ^ if sum >> 31 == 1 { 0x04C1_1DB7 } else { 0 })
    })
}

const SERIAL: [u8; 4] = [1, 0, 0, 0];
/// Offset of the checksum in a page.
const CHECKSUM_AT: usize = 22;
