//! Guesses the type of a file that is not a capture file, for the error text.

/// Guesses the type of a file from its first bytes. Returns the end of the error text, e.g. `; it looks like …`; empty
/// if the type is unknown.
pub(super) fn looks_like(head: &[u8]) -> String {
    let kind = match head {
        [] => return String::from("; it is empty"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', ..] => "a WAV recording",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd archive: unpack it first (zstd -d FILE)",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "an xz archive: unpack it first (xz -d FILE)",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => "a bzip2 archive: unpack it first (bzip2 -d FILE)",
        [b'P', b'K', 3, 4, ..] => "a zip archive: unpack it first (unzip FILE)",
        [b's', b'n', b'o', b'o', b'p', 0, 0, 0, ..] => "a snoop capture: convert it (editcap -F pcap FILE out.pcap)",
        [b'R', b'T', b'S', b'S', ..] | [b'X', b'C', b'P', 0, ..] => {
            "a capture of another sniffer: convert it (editcap -F pcap FILE out.pcap)"
        }
        [b'G', b'M', b'B', b'U', ..] => {
            "a Microsoft Network Monitor capture: convert it (editcap -F pcap FILE out.pcap)"
        }
        [0x7f, b'E', b'L', b'F', ..] => "a program",
        [b'#', b'!', b'r', b't', b'p', b'p', ..] => "an rtpdump file: convert it with rtptools or Wireshark",
        _ if is_erf(head) => "an ERF capture of a DAG card: convert it (editcap -F pcap FILE out.pcap)",
        _ => return text_kind(head).map_or_else(String::new, |kind| format!("; it looks like {kind}")),
    };
    format!("; it looks like {kind}")
}

/// Returns whether the bytes begin an ERF record. ERF has no magic number, so three facts are checked: the timestamp,
/// the record type (1 to 48) and the lengths.
fn is_erf(head: &[u8]) -> bool {
    let [_, _, _, _, s0, s1, s2, s3, kind, _, rlen_hi, rlen_lo, _, _, wlen_hi, wlen_lo, ..] = head else {
        return false;
    };
    let seconds = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
    let rlen = u16::from_be_bytes([*rlen_hi, *rlen_lo]);
    let wlen = u16::from_be_bytes([*wlen_hi, *wlen_lo]);
    let type_known = (1..=48).contains(&(kind & 0x7f));
    // The timestamp of an ERF record must be from 2001 to 2065. The record has a header of at least 16 bytes. It is at
    // most 32 bytes longer than the frame (header and padding).
    type_known
        && (1_000_000_000..3_000_000_000).contains(&seconds)
        && rlen >= 16
        && wlen > 0
        && rlen <= wlen.saturating_add(32)
}

fn text_kind(head: &[u8]) -> Option<&'static str> {
    let printable = |b: &u8| matches!(b, b'\t' | b'\n' | b'\r' | 0x20..=0x7e | 0x80..);
    if !head.iter().all(printable) || std::str::from_utf8(head).is_err_and(|e| e.error_len().is_some()) {
        return None;
    }
    let first = head.iter().find(|b| !b.is_ascii_whitespace())?;
    let text = match first {
        b'{' | b'[' => "JSON",
        b'<' => "XML or HTML",
        _ => "text",
    };
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_wrong_file_types_are_recognized() {
        assert_eq!(looks_like(b""), "; it is empty");
        assert_eq!(looks_like(b"RIFF\x24\x00\x00\x00WAVEfmt "), "; it looks like a WAV recording");
        assert_eq!(looks_like(b"\n {\"schema\": 1}"), "; it looks like JSON");
        assert_eq!(looks_like(b"INVITE sip:x SIP/2.0\r\n"), "; it looks like text");
        assert_eq!(looks_like(&[0, 1, 2, 3]), "");
        // One ERF Ethernet record: a timestamp of 2026, type 2, 64 bytes with header.
        let erf = [0, 0, 0, 0, 0, 0, 0, 0x69, 2, 4, 0, 64, 0, 0, 0, 46, 0, 0];
        assert!(looks_like(&erf).contains("ERF"));
    }
}
