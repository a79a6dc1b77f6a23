//! The header that marks test calls of this recorder (`callspan test-call`).
//!
//! A test call is not registered in Pyrus. A stranger must not achieve this by sending the header. So the value of the
//! header is an HMAC-SHA256 (RFC 2104) of the requested treatment and the Call-ID. It proves that its sender knows the
//! secret key of this recorder. An intercepted header is invalid for any other call.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::sip::SipMessage;
use crate::text::hex;

/// How the sender of a test call asks the recorder to treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestCallOrder {
    /// The call is recorded, but not registered in Pyrus.
    RecordOnly,
    /// The call is recorded and registered in Pyrus like any other call.
    Deliver,
}

/// Secret key of this recorder for its test calls.
#[derive(Clone, PartialEq, Eq)]
pub struct TestCallKey([u8; KEY_BYTES]);

impl TestCallKey {
    /// Creates a key from its 32 bytes.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the value of the header [`TEST_CALL_HEADER`] that requests `order` for the call with this Call-ID.
    pub fn header_value(&self, order: TestCallOrder, call_id: &str) -> String {
        let code = self.mac(order, call_id).finalize().into_bytes();
        format!("{} {}", order.word(), hex(&code))
    }

    /// Returns how the sender of a message asks to treat the test call. Returns `None` if the message has no test call
    /// header that was made with this key for this Call-ID.
    pub(crate) fn order_in(&self, message: &SipMessage<'_>) -> Option<TestCallOrder> {
        let value = message.header(TEST_CALL_HEADER)?;
        let (word, code) = value.trim().split_once(' ')?;
        let order = [TestCallOrder::RecordOnly, TestCallOrder::Deliver].into_iter().find(|o| o.word() == word)?;
        let is_ours = self.mac(order, message.call_id()).verify_slice(&bytes_of(code)?).is_ok();
        is_ours.then_some(order)
    }

    fn mac(&self, order: TestCallOrder, call_id: &str) -> Hmac<Sha256> {
        let mut mac = <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(order.word().as_bytes());
        mac.update(b" ");
        mac.update(call_id.as_bytes());
        mac
    }
}

impl fmt::Debug for TestCallKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestCallKey(…)")
    }
}

impl TestCallOrder {
    const fn word(self) -> &'static str {
        match self {
            Self::RecordOnly => "record",
            Self::Deliver => "deliver",
        }
    }
}

/// Parses 32 bytes in hexadecimal form. Returns `None` for other texts.
fn bytes_of(hex: &str) -> Option<[u8; 32]> {
    let (pairs, []) = hex.as_bytes().as_chunks::<2>() else { return None };
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
    bytes?.try_into().ok()
}

/// Name of the header that marks a test call.
pub const TEST_CALL_HEADER: &str = "X-Callspan-Test";
/// Length of the key, bytes: the output of SHA-256, as RFC 2104 section 3 recommends.
pub const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::SipFraming;

    fn order(value: &str, call_id: &str) -> Option<TestCallOrder> {
        let text = format!(
            "INVITE sip:b@192.0.2.12 SIP/2.0\r\nFrom: <sip:a@192.0.2.11>;tag=1\r\nTo: <sip:b@192.0.2.12>\r\n\
             Call-ID: {call_id}\r\nCSeq: 1 INVITE\r\nX-Callspan-Test: {value}\r\n\r\n"
        );
        let message = SipMessage::parse(text.as_bytes(), SipFraming::Datagram).unwrap();
        TestCallKey::new([7; KEY_BYTES]).order_in(&message)
    }

    #[test]
    fn only_the_own_key_with_its_call_id_makes_a_test_call() {
        let ours = TestCallKey::new([7; KEY_BYTES]);
        for kind in [TestCallOrder::RecordOnly, TestCallOrder::Deliver] {
            let value = ours.header_value(kind, "call-1");
            assert_eq!(order(&value, "call-1"), Some(kind));
            assert_eq!(order(&value, "call-2"), None, "overheard, and sent with another call");
        }
        assert_eq!(order(&TestCallKey::new([8; KEY_BYTES]).header_value(TestCallOrder::RecordOnly, "a"), "a"), None);
        let value = ours.header_value(TestCallOrder::Deliver, "a").replace("deliver", "record");
        for wrong in [value.as_str(), "", "record", "record ", "record zz", "record 00ff", "record 0", "x y z"] {
            assert_eq!(order(wrong, "a"), None, "{wrong}");
        }
        assert_eq!(format!("{ours:?}"), "TestCallKey(…)");
    }
}
