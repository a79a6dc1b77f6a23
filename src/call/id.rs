//! Ids of conversations and names of legs. The same traffic gives the same ids. They contain no phone number.

use sha2::{Digest, Sha256};

use crate::net::Endpoint;
use crate::text::hex;
use crate::time::Timestamp;

/// Returns the id of a conversation: the UTC time, and a hash of recorder name, first Call-ID, From tag and
/// `invited_at`.
pub(crate) fn conversation_id(appliance: &str, call_id: &str, from_tag: Option<&str>, invited_at: Timestamp) -> String {
    let micros = invited_at.as_micros().to_be_bytes();
    name(invited_at, &[appliance.as_bytes(), call_id.as_bytes(), from_tag.unwrap_or("").as_bytes(), &micros])
}

/// Returns the name of a leg, which is the name of its spool file. The name is the UTC time, and a hash of conversation
/// id, Call-ID, time, and both endpoints of the leg (`hop`).
pub(crate) fn leg_name(conversation: &str, call_id: &str, hop: (Endpoint, Endpoint), at: Timestamp) -> String {
    let hop = format!("{} {}", hop.0, hop.1);
    // A caller may send a refused INVITE again within one second, and the name shows only seconds. So the hash includes
    // the microseconds.
    let micros = at.as_micros().to_be_bytes();
    name(at, &[conversation.as_bytes(), call_id.as_bytes(), hop.as_bytes(), &micros])
}

fn name(at: Timestamp, parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // The length is hashed too, so that ("ab", "c") and ("a", "bc") have different hashes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    format!("{}-{}", at.to_stamp(), hex(&digest[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_the_input_changes_the_id() {
        let at = Timestamp::from_micros(1_795_409_819_893_000);
        let id = conversation_id("a", "c", Some("t"), at);
        assert_eq!(id, conversation_id("a", "c", Some("t"), at));
        assert!(id.starts_with("20261123T045659Z-"), "{id}");
        assert_ne!(id, conversation_id("a", "ct", None, at));
        assert_ne!(id, conversation_id("a", "c", Some("t"), at.offset(1_000)));
        // Capture files with microseconds and with nanoseconds give the same id.
        assert_eq!(id, conversation_id("a", "c", Some("t"), at.offset(500)));
    }
}
