//! Texts in the forms that several modules write: hexadecimal digits, percent-encoding, CSV fields, chains of errors.

#[cfg(feature = "service")]
use std::error::Error as StdError;

/// Formats bytes as lower-case hexadecimal digits, two for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0x0f)]).collect()
}

/// Returns a number with its noun in the right form, e.g. `1 frame` or `2 frames`.
#[cfg(feature = "service")]
pub(crate) fn count<N: std::fmt::Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// Encodes a text for a URL. Every byte except unreserved characters (RFC 3986 section 2.3) becomes `%` and two
/// hexadecimal digits. Characters in `kept` are not encoded either.
#[cfg(feature = "service")]
pub(crate) fn percent_encode(text: &str, kept: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) || kept.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex(&[byte]).to_ascii_uppercase());
        }
    }
    encoded
}

/// Returns a text as a CSV field (RFC 4180). It gets quotes if it contains a separator, a quote or a line end. It also
/// gets quotes for semicolons and outer blanks, which some spreadsheets treat specially.
#[cfg(feature = "service")]
pub(crate) fn csv_field(text: &str) -> String {
    let needs_quotes = text.contains([',', '"', '\n', '\r', ';']) || text.trim() != text;
    if needs_quotes { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.to_owned() }
}

/// Puts an apostrophe before a text that a spreadsheet would treat as a formula. A signed number, e.g. an international
/// telephone number, stays unchanged.
#[cfg(feature = "service")]
pub(crate) fn without_formula(text: &str) -> String {
    let is_number = text.strip_prefix(['+', '-']).is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit()));
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']) && !is_number;
    if is_formula { format!("'{text}") } else { text.to_owned() }
}

/// Returns an error and its causes as one text, the outermost error first. A cause is left out if the text before it
/// contains it already.
#[cfg(feature = "service")]
pub(crate) fn error_chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let part = inner.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_has_two_lower_case_digits_for_each_byte() {
        assert_eq!(hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(hex(&[]), "");
    }

    #[cfg(feature = "service")]
    #[test]
    fn percent_encoding_keeps_unreserved_and_given_characters() {
        assert_eq!(percent_encode("a-z_0.~ /?&ж", b""), "a-z_0.~%20%2F%3F%26%D0%B6");
        assert_eq!(percent_encode("/calls?q=1", b"/"), "/calls%3Fq%3D1");
    }

    #[cfg(feature = "service")]
    #[test]
    fn csv_fields_are_quoted_and_no_field_is_a_formula() {
        for (text, field) in
            [("plain", "plain"), ("a;b", "\"a;b\""), ("a\"b", "\"a\"\"b\""), (" x", "\" x\""), ("", "")]
        {
            assert_eq!(csv_field(text), field);
        }
        for (text, safe) in [("=1+1", "'=1+1"), ("@x", "'@x"), ("+7977", "+7977"), ("-5", "-5"), ("-x", "'-x")] {
            assert_eq!(without_formula(text), safe);
        }
    }

    #[cfg(feature = "service")]
    #[test]
    fn an_error_chain_contains_each_cause_once() {
        use anyhow::Context;
        let io = std::io::Error::other("disk on fire");
        let error = Err::<(), _>(io).context("cannot read x: disk on fire").context("replay failed").unwrap_err();
        assert_eq!(error_chain(error.as_ref()), "replay failed: cannot read x: disk on fire");
    }
}
