//! Names that hold no number and are the same for the same input.

use sha2::{Digest, Sha256};

use crate::net::Endpoint;
use crate::time::Timestamp;

/// The id of a conversation: a UTC stamp and a hash of appliance, first Call-ID, From tag and `invited_at`.
pub fn conversation_id(appliance: &str, call_id: &str, from_tag: Option<&str>, invited_at: Timestamp) -> String {
    let micros = invited_at.as_micros().to_be_bytes();
    name(invited_at, &[appliance.as_bytes(), call_id.as_bytes(), from_tag.unwrap_or("").as_bytes(), &micros])
}

/// The name of a leg, the stem of its spool file: as a conversation's, and the hop.
pub fn leg_name(conversation: &str, call_id: &str, hop: (Endpoint, Endpoint), at: Timestamp) -> String {
    let hop = format!("{} {}", hop.0, hop.1);
    name(at, &[conversation.as_bytes(), call_id.as_bytes(), hop.as_bytes()])
}

fn name(at: Timestamp, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length keeps ("ab", "c") and ("a", "bc") apart.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let hex: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
    format!("{}-{hex}", at.to_stamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_the_same_for_the_same_input_and_differs_in_each_part() {
        let at = Timestamp::from_micros(1_795_409_819_893_000);
        let id = conversation_id("a", "c", Some("t"), at);
        assert_eq!(id, conversation_id("a", "c", Some("t"), at));
        assert!(id.starts_with("20261123T045659Z-"), "{id}");
        assert_ne!(id, conversation_id("a", "ct", None, at));
        assert_ne!(id, conversation_id("a", "c", Some("t"), at.offset(1_000)));
        // Half a microsecond is more than a record can say: files in us and in ns give the same id.
        assert_eq!(id, conversation_id("a", "c", Some("t"), at.offset(500)));
    }
}
