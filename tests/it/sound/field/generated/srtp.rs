//! Tests of SRTP keys that senders use earlier or later than the signalling announces.

use callspan::call::record::Side;
use fastrand::Rng;

use super::builder::seeds;
use super::setting::CallSetting;
use crate::sound::score::{PacketFate, SpokenSide};
use crate::sound::srtp::{SrtpMasterKey, assert_heard, both, protect_as, protected, savp};
use crate::support::phones::{MirroredTraffic, describe};

/// How the caller's re-INVITE ends.
#[derive(Clone, Copy, Debug)]
enum OfferEnd {
    Pending,
    Refused,
    Answered,
}

/// A call that changes its encryption by a re-INVITE.
#[derive(Clone, Copy, Debug)]
struct ProtectionChange {
    /// Number of the key before and after the change; `None` means no encryption.
    from: Option<u8>,
    to: Option<u8>,
    /// Time of the re-INVITE, and time of its final response, ms.
    asked_ms: f64,
    ends_ms: f64,
    end: OfferEnd,
    /// Side that sends the re-INVITE.
    by: Side,
    /// Time at which each sender changes its encryption, ms.
    changes_ms: [f64; 2],
}

impl ProtectionChange {
    fn random(random: &mut Rng) -> Self {
        let (from, to) = *random.choice(&[(Some(10), None), (None, Some(20)), (Some(10), Some(20))]).unwrap();
        let asked_ms = 3_000.0 + 2_000.0 * random.f64();
        let ends_ms = asked_ms + *random.choice(&[30.0, 60.0, 500.0, 2_000.0]).unwrap();
        let end =
            *random.choice(&[OfferEnd::Pending, OfferEnd::Refused, OfferEnd::Answered, OfferEnd::Answered]).unwrap();
        let mut change_ms = || match end {
            OfferEnd::Pending | OfferEnd::Refused => f64::MAX,
            // The side that sends the offer may use its new keys from the moment of the offer on.
            OfferEnd::Answered if to.is_some() && random.u8(0..4) == 0 => {
                asked_ms + (ends_ms - asked_ms) * random.f64()
            }
            OfferEnd::Answered => ends_ms + 1_000.0 * random.f64(),
        };
        let changes_ms = [change_ms(), change_ms()];
        let by = if random.bool() { Side::Caller } else { Side::Callee };
        Self { from, to, asked_ms, ends_ms, end, by, changes_ms }
    }

    fn assert_is_heard(self, name: &str, setting: CallSetting) {
        let (mut wire, mut talks): (_, [SpokenSide; 2]) = (MirroredTraffic::default(), both());
        let key = |number: u8, side: Side| SrtpMasterKey::new(number + side.channel() as u8);
        let description = |number: Option<u8>, side: Side| match number {
            Some(number) => savp(side, &[key(number, side)]),
            None => describe(side, "RTP/AVP 0\r\n"),
        };
        let both_sides = |number: Option<u8>| [Side::Caller, Side::Callee].map(|side| description(number, side));
        wire.offer(0.0, &description(self.from, Side::Caller));
        wire.accept(1_000.0, &description(self.from, Side::Callee));
        setting.story.tell(&mut wire, &both_sides(self.from));
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
        }
        wire.offer_of(self.by, self.asked_ms, &description(self.to, self.by));
        match self.end {
            OfferEnd::Pending => {}
            OfferEnd::Refused => wire.refuse(self.ends_ms, "488 Not Acceptable Here"),
            OfferEnd::Answered => wire.accept(self.ends_ms, &description(self.to, self.by.other())),
        }
        wire.bye(9_010.0);
        for side in [Side::Caller, Side::Callee] {
            let change_ms = self.changes_ms[side.channel()];
            protect_as(&mut wire, side, 0, |packet, ms, roll_over| {
                match if ms < change_ms { self.from } else { self.to } {
                    Some(number) => protected(packet, &key(number, side), roll_over),
                    None => packet.to_vec(),
                }
            });
        }
        assert_heard(name, &setting.network.record(wire), &talks);
    }
}

#[test]
fn packets_tell_whether_they_are_encrypted_while_an_offer_changes_it() {
    for seed in seeds(10) {
        let mut random = Rng::with_seed(seed);
        let (change, setting) = (ProtectionChange::random(&mut random), CallSetting::before_answer(&mut random));
        change.assert_is_heard(&format!("seed {seed}: {change:?}, {setting:?}"), setting);
    }
}
