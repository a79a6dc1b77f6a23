//! SRTP keys that come into force at another time than the signalling says.

use callspan::call::record::Side;

use crate::sound::score::{PacketFate, SpokenSide};
use crate::sound::srtp::{SrtpMasterKey, assert_heard, both, savp, seal_as, sealed};
use crate::support::phones::{MirroredTraffic, describe, record};

/// The result of the caller's re-INVITE.
#[derive(Clone, Copy, Debug)]
enum OfferEnd {
    Pending,
    Refused,
    Answered,
}

/// Plays a call that changes its session description by a re-INVITE at 4,000 ms, which ends at 4,500 ms. The senders
/// change at `change_ms`. Checks that all sound is recorded.
fn assert_change_is_heard(name: &str, [from, to]: [Option<u8>; 2], end: OfferEnd, change_ms: f64) {
    let (mut wire, mut talks): (_, [SpokenSide; 2]) = (MirroredTraffic::default(), both());
    let key = |number: u8, side: Side| SrtpMasterKey::new(number + side.channel() as u8);
    let description = |number: Option<u8>, side: Side| match number {
        Some(number) => savp(side, &[key(number, side)]),
        None => describe(side, "RTP/AVP 0\r\n"),
    };
    wire.offer(0.0, &description(from, Side::Caller));
    wire.accept(1_000.0, &description(from, Side::Callee));
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.offer(4_000.0, &description(to, Side::Caller));
    match end {
        OfferEnd::Pending => {}
        OfferEnd::Refused => wire.refuse(4_500.0, "488 Not Acceptable Here"),
        OfferEnd::Answered => wire.accept(4_500.0, &description(to, Side::Callee)),
    }
    wire.bye(9_010.0);
    for side in [Side::Caller, Side::Callee] {
        seal_as(&mut wire, side, 0, |packet, ms, roll_over| match if ms < change_ms { from } else { to } {
            Some(number) => sealed(packet, &key(number, side), roll_over),
            None => packet.to_vec(),
        });
    }
    assert_heard(name, &record(wire), &talks);
}

#[test]
fn packets_tell_whether_they_are_encrypted_while_an_offer_changes_it() {
    let never = f64::MAX;
    for (from, to) in [(Some(10), None), (None, Some(20)), (Some(10), Some(20))] {
        for (end, change_ms) in [
            (OfferEnd::Pending, never),
            (OfferEnd::Refused, never),
            (OfferEnd::Answered, 4_520.0),
            (OfferEnd::Answered, 5_300.0),
        ] {
            assert_change_is_heard(&format!("{from:?} to {to:?}, {end:?}, {change_ms}"), [from, to], end, change_ms);
        }
    }
    // A sender that encrypts from the offer on is recorded with the keys of the answer.
    for from in [None, Some(10)] {
        assert_change_is_heard("from the offer on", [from, Some(20)], OfferEnd::Answered, 4_100.0);
    }
}
