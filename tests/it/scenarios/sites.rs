//! The same situation at different kinds of sites. The record of the call must be the same at each of them.

use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};
use callspan::net::Endpoint;

use crate::scenarios::{DID, OUTSIDE, related};
use crate::support::playback::{PlayedCall, play, play_restarted};
use crate::support::scenario::{DialogId, ExpectedSound, RecordedChannel, Scene, ScenePhone};

/// Kind of a site: the machines between the provider, the PBX and the telephones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SiteKind {
    /// The PBX has one address.
    OneAddress,
    /// The PBX has one address towards the provider and another towards the telephones.
    TwoAddresses,
    /// A proxy carries the calls of both telephones and trunk. The PBX is behind it.
    Proxy,
    /// A border controller with two addresses is between the provider and the PBX.
    BorderController,
}

const KINDS: [SiteKind; 4] =
    [SiteKind::OneAddress, SiteKind::TwoAddresses, SiteKind::Proxy, SiteKind::BorderController];
/// Outside telephone to which calls are forwarded.
const MOBILE: &str = "+79160000004";

/// A site of one kind.
struct Site {
    kind: SiteKind,
    scene: Scene,
    provider: ScenePhone,
    /// The PBX at its address towards the provider, and at its address towards the telephones.
    pbx: [ScenePhone; 2],
    /// The proxy or border controller at its address towards the provider, and at its address towards the PBX.
    border: [ScenePhone; 2],
    next_port: u16,
    /// Span of time in which the parties talk, ms.
    talks: [i64; 2],
}

impl Site {
    fn new(kind: SiteKind) -> Self {
        let provider = ScenePhone { sip: Endpoint::v4([203, 0, 113, 7], 5060), ..ScenePhone::new("", 1) };
        let lan = if kind == SiteKind::TwoAddresses { 99 } else { 9 };
        let border = if kind == SiteKind::Proxy { [8, 8] } else { [7, 77] };
        Self {
            kind,
            scene: Scene::noisy(),
            provider,
            pbx: [9, lan].map(|host| ScenePhone::new(DID, host)),
            border: border.map(|host| ScenePhone::new("", host)),
            next_port: 20_000,
            talks: [0, 0],
        }
    }

    /// Adds a dialog over these machines. Returns its hops. The media takes one way from end to end.
    fn dialog(&mut self, machines: &[&ScenePhone], numbers: [&str; 2], voices: [u8; 2]) -> Vec<DialogId> {
        self.next_port += 2;
        let media = [machines[0], machines[machines.len() - 1]].map(|end| end.sip.with_port(self.next_port));
        let mut hops: Vec<DialogId> = Vec::new();
        for pair in machines.windows(2) {
            let (mut from, mut to) = (pair[0].clone(), pair[1].clone());
            let hop = self.scene.leg(&mut from, &mut to, numbers);
            let first = self.scene.get(*hops.first().unwrap_or(&hop)).clone();
            let dialog = self.scene.at(hop);
            (dialog.call_id, dialog.tags, dialog.media, dialog.voices) = (first.call_id, first.tags, media, voices);
            hops.push(hop);
        }
        hops
    }

    /// Adds the legs on which an outside caller reaches the PBX.
    fn inbound(&mut self, voices: [u8; 2]) -> Vec<DialogId> {
        let (provider, [border, inner], [pbx, _]) = (self.provider.clone(), self.border.clone(), self.pbx.clone());
        let numbers = [OUTSIDE, DID];
        match self.kind {
            SiteKind::OneAddress | SiteKind::TwoAddresses => self.dialog(&[&provider, &pbx], numbers, voices),
            SiteKind::Proxy => self.dialog(&[&provider, &border, &pbx], numbers, voices),
            SiteKind::BorderController => {
                [self.dialog(&[&provider, &border], numbers, voices), self.dialog(&[&inner, &pbx], numbers, voices)]
                    .concat()
            }
        }
    }

    /// Adds the legs on which the PBX calls an outside number.
    fn outbound(&mut self, numbers: [&str; 2], voices: [u8; 2]) -> Vec<DialogId> {
        let (provider, [border, inner], [pbx, _]) = (self.provider.clone(), self.border.clone(), self.pbx.clone());
        match self.kind {
            SiteKind::OneAddress | SiteKind::TwoAddresses => self.dialog(&[&pbx, &provider], numbers, voices),
            SiteKind::Proxy => self.dialog(&[&pbx, &border, &provider], numbers, voices),
            SiteKind::BorderController => {
                [self.dialog(&[&pbx, &inner], numbers, voices), self.dialog(&[&border, &provider], numbers, voices)]
                    .concat()
            }
        }
    }

    /// Adds the legs on which the PBX rings a telephone.
    fn rings(&mut self, phone: &ScenePhone, from: &str, voices: [u8; 2]) -> Vec<DialogId> {
        let ([border, _], [_, pbx]) = (self.border.clone(), self.pbx.clone());
        let numbers = [from, &phone.user];
        match self.kind {
            SiteKind::Proxy => self.dialog(&[&pbx, &border, phone], numbers, voices),
            _ => self.dialog(&[&pbx, phone], numbers, voices),
        }
    }

    /// Adds the legs on which a telephone calls the PBX.
    fn calls(&mut self, phone: &ScenePhone, to: &str, voices: [u8; 2]) -> Vec<DialogId> {
        let ([border, _], [_, pbx]) = (self.border.clone(), self.pbx.clone());
        let numbers = [&*phone.user, to];
        match self.kind {
            SiteKind::Proxy => self.dialog(&[phone, &border, &pbx], numbers, voices),
            _ => self.dialog(&[phone, &pbx], numbers, voices),
        }
    }

    fn invite(&mut self, legs: &[DialogId]) {
        for leg in legs {
            self.scene.invite(*leg);
            self.scene.wait(5);
        }
        legs.iter().rev().for_each(|leg| self.scene.ring(*leg));
    }

    /// Answers the legs, the last of them first.
    fn answer(&mut self, legs: &[DialogId]) {
        legs.iter().rev().for_each(|leg| _ = self.scene.answer(*leg));
    }

    /// Lets two parties talk on these legs, and ends the legs. The voice `first` enters at the first leg, and the other
    /// voice at the last.
    fn talk(&mut self, legs: &[DialogId], first: u8) {
        let mut dialogs: Vec<DialogId> = Vec::new();
        for leg in legs {
            if dialogs.iter().all(|known| self.scene.get(*known).media != self.scene.get(*leg).media) {
                dialogs.push(*leg);
            }
        }
        // Each voice is on the legs in the order in which it passes them.
        let voices = |leg: DialogId| self.scene.get(leg).voices;
        let on_leg = |leg: DialogId, is_first: bool| {
            let side = if (voices(leg)[0] == first) == is_first { Side::Caller } else { Side::Callee };
            (voices(leg)[side.channel()], leg, side)
        };
        let forth = dialogs.iter().map(|leg| on_leg(*leg, true));
        let speakers: Vec<_> = forth.chain(dialogs.iter().rev().map(|leg| on_leg(*leg, false))).collect();
        let begins = self.scene.now();
        self.scene.sound(&speakers, 4_000);
        self.talks = [begins, self.scene.now()];
        self.scene.bye_all(legs, Side::Caller);
    }

    /// Lets an outside caller ring 200 in vain. So the recorder learns that the host of the PBX is a PBX.
    fn rings_in_vain(&mut self) {
        let e200 = ScenePhone::new("200", 2);
        let caller = "+79990000055";
        let (inbound, rung) = (self.inbound([1, 2]), self.rings(&e200, caller, [1, 2]));
        inbound.iter().for_each(|leg| caller.clone_into(&mut self.scene.at(*leg).users[0]));
        self.invite(&[inbound.clone(), rung.clone()].concat());
        self.scene.wait(2_000);
        [inbound, rung].concat().iter().for_each(|leg| self.scene.cancel(*leg));
        self.scene.wait(60_000);
    }

    /// Plays a call that rings 200 until 201 picks it up. `prepare` adds the legs of 201; it gets the telephone of 201
    /// and the dialog that rings 200.
    fn picked_up(&mut self, prepare: impl Fn(&mut Self, &ScenePhone, &str) -> Vec<DialogId>) {
        let (e200, e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
        let (inbound, rung) = (self.inbound([1, 3]), self.rings(&e200, OUTSIDE, [1, 2]));
        self.invite(&[inbound.clone(), rung.clone()].concat());
        self.scene.wait(2_000);
        let replaced = self.scene.get(rung[0]).clone();
        let dialog = format!("{};from-tag={};to-tag={}", replaced.call_id, replaced.tags[0], replaced.tags[1]);
        let taken = prepare(self, &e201, &dialog);
        taken.iter().for_each(|leg| self.scene.invite(*leg));
        self.scene.wait(50);
        self.answer(&taken);
        rung.iter().for_each(|leg| self.scene.cancel(*leg));
        self.answer(&inbound);
        self.talk(&[inbound, taken].concat(), 1);
    }
}

fn facts(record: &CallRecord) -> (CallDirection, [Option<&str>; 3], CallOutcome) {
    let numbers = [&record.from, &record.to, &record.internal].map(|number| number.as_deref());
    (record.direction, numbers, record.outcome)
}

/// Returns the share of a span of time in which the left channel and the right channel have these voices.
fn shares(call: &PlayedCall, voices: [u8; 2], [from, to]: [i64; 2]) -> [f64; 2] {
    let share = |side: usize, sound: &[RecordedChannel; 2]| {
        sound[side].share(ExpectedSound::Voice(voices[side]), from + 200, to - 200)
    };
    [0, 1].map(|side| call.sound.as_ref().map_or(0.0, |sound| share(side, sound)))
}

/// Numbers of a record: caller, called number and extension. An empty text stands for no number.
type Numbers<'a> = [&'a str; 3];

/// Plays a situation at each kind of site. Asserts that each has one record of an answered call, with this direction and
/// these numbers. The voices of caller and callee must be on the left and the right channel of the recording.
#[track_caller]
fn each_site_has(direction: CallDirection, numbers: Numbers<'_>, voices: [u8; 2], situation: impl Fn(&mut Site)) {
    let numbers = numbers.map(|number| Some(number).filter(|number| !number.is_empty()));
    let want = (direction, numbers, CallOutcome::Answered);
    let faults = KINDS.iter().filter_map(|kind| {
        let mut site = Site::new(*kind);
        situation(&mut site);
        let played = play(&site.scene);
        let answered: Vec<_> = played.calls.iter().filter(|call| call.record.answered_at.is_some()).collect();
        let found: Vec<_> = answered.iter().map(|call| facts(&call.record)).collect();
        let sound: Vec<_> = answered.iter().map(|call| shares(call, voices, site.talks)).collect();
        (found != [want] || sound != [[1.0, 1.0]]).then(|| format!("{kind:?}: {found:?}, voices {sound:?}"))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "not {want:?}: {faults:#?}");
}

#[test]
fn a_pick_up_by_replaces_names_the_answering_extension() {
    each_site_has(CallDirection::Inbound, [OUTSIDE, DID, "201"], [1, 3], |site| {
        site.picked_up(|site, e201, dialog| {
            let legs = site.calls(e201, "200", [3, 1]);
            legs.iter().for_each(|leg| site.scene.at(*leg).headers.push(format!("Replaces: {dialog}")));
            legs
        });
    });
}

#[test]
fn a_pick_up_by_code_names_the_answering_extension() {
    let faults = KINDS.iter().filter_map(|kind| {
        let mut site = Site::new(*kind);
        site.picked_up(|site, e201, _| site.calls(e201, "*8200", [3, 1]));
        let played = play(&site.scene);
        let found: Vec<_> = played.calls.iter().map(|call| facts(&call.record)).collect();
        let call = (CallDirection::Inbound, [Some(OUTSIDE), Some(DID), Some("201")], CallOutcome::Answered);
        let code = (CallDirection::Internal, [Some("201"), Some("*8200"), Some("201")], CallOutcome::Answered);
        let is_right = found == [call, code] && related(&played.calls[0].record, &played.calls[1].record);
        (!is_right).then(|| format!("{kind:?}: {found:?}"))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn a_call_forwarded_to_a_mobile_is_inbound() {
    each_site_has(CallDirection::Inbound, [OUTSIDE, DID, ""], [1, 4], |site| {
        let e200 = ScenePhone::new("200", 2);
        let (inbound, rung) = (site.inbound([1, 4]), site.rings(&e200, OUTSIDE, [1, 2]));
        site.invite(&[inbound.clone(), rung.clone()].concat());
        rung.iter().rev().for_each(|leg| site.scene.refuse(*leg, 302, &[]));
        let forwarded = site.outbound([OUTSIDE, MOBILE], [1, 4]);
        let legs = [inbound, forwarded.clone()].concat();
        site.invite(&forwarded);
        site.scene.wait(2_000);
        site.answer(&legs);
        site.talk(&legs, 1);
    });
}

#[test]
fn a_call_forwarded_in_the_offices_name_is_inbound() {
    each_site_has(CallDirection::Inbound, [OUTSIDE, DID, ""], [1, 4], |site| {
        let legs = [site.inbound([1, 4]), site.outbound([DID, MOBILE], [1, 4])].concat();
        site.invite(&legs);
        site.scene.wait(2_000);
        site.answer(&legs);
        site.talk(&legs, 1);
    });
}

#[test]
fn a_call_of_the_pbx_to_an_outside_number_is_outbound() {
    each_site_has(CallDirection::Outbound, [DID, MOBILE, ""], [5, 4], |site| {
        site.rings_in_vain();
        let outbound = site.outbound([DID, MOBILE], [5, 4]);
        site.invite(&outbound);
        site.answer(&outbound);
        site.talk(&outbound, 5);
    });
}

#[test]
fn a_click_to_call_is_an_outbound_call_of_the_extension() {
    each_site_has(CallDirection::Outbound, ["200", MOBILE, "200"], [2, 4], |site| {
        let e200 = ScenePhone::new("200", 2);
        let (rung, called) = (site.rings(&e200, MOBILE, [4, 2]), site.outbound([DID, MOBILE], [2, 4]));
        site.invite(&rung);
        site.scene.wait(1_000);
        site.answer(&rung);
        site.scene.wait(200);
        site.invite(&called);
        site.scene.wait(1_500);
        site.answer(&called);
        site.talk(&[rung, called].concat(), 2);
    });
}

/// A dialler calls the customer first. When the customer answers, the PBX rings an agent. The agent's telephone shows the
/// customer's number or the number of the office.
#[test]
fn a_call_of_a_dialler_goes_out_to_the_customer() {
    // Perhaps a further call of the campaign is not answered.
    for (shown, has_other) in [(MOBILE, true), (DID, true), (MOBILE, false), (DID, false)] {
        each_site_has(CallDirection::Outbound, [DID, MOBILE, "200"], [2, 4], |site| {
            let e200 = ScenePhone::new("200", 2);
            let other = if has_other { site.outbound([DID, "+79160000009"], [5, 6]) } else { Vec::new() };
            let (called, rung) = (site.outbound([DID, MOBILE], [2, 4]), site.rings(&e200, shown, [4, 2]));
            site.invite(&other);
            site.invite(&called);
            site.scene.wait(1_000);
            site.answer(&called);
            site.scene.wait(100);
            site.invite(&rung);
            site.scene.wait(300);
            site.answer(&rung);
            site.talk(&[rung, called].concat(), 2);
            other.iter().for_each(|leg| site.scene.cancel(*leg));
        });
    }
}

/// A provider with a private address reaches the site through a border controller. The border controller passes the call
/// on to a contact centre with a public address.
#[test]
fn a_call_of_a_private_provider_to_a_public_host_is_inbound() {
    let mut site = Site::new(SiteKind::BorderController);
    let provider = ScenePhone { sip: Endpoint::v4([10, 200, 0, 1], 5060), ..ScenePhone::new("", 1) };
    let centre = ScenePhone { sip: Endpoint::v4([198, 51, 100, 7], 5060), ..ScenePhone::new("", 4) };
    let (border, inner) = (site.border[0].clone(), site.border[1].clone());
    for second in [&border, &inner] {
        let legs = [
            site.dialog(&[&provider, &border], [OUTSIDE, DID], [1, 4]),
            site.dialog(&[second, &centre], [OUTSIDE, DID], [1, 4]),
        ]
        .concat();
        site.invite(&legs);
        site.answer(&legs);
        site.talk(&legs, 1);
        site.scene.wait(60_000);
    }
    let played = play(&site.scene);
    let found: Vec<_> = played.calls.iter().map(|call| facts(&call.record)).collect();
    assert_eq!(found, [(CallDirection::Inbound, [Some(OUTSIDE), Some(DID), None], CallOutcome::Answered); 2]);
}

#[test]
fn a_proxy_in_the_middle_shows_no_direction() {
    for (is_known, want) in [(false, CallDirection::Unknown), (true, CallDirection::Outbound)] {
        let mut site = Site::new(SiteKind::Proxy);
        site.provider.sip = Endpoint::v4([10, 200, 0, 1], 5060);
        if is_known {
            site.rings_in_vain();
        }
        let outbound = site.outbound([DID, MOBILE], [5, 4]);
        site.invite(&outbound);
        site.answer(&outbound);
        site.talk(&outbound, 5);
        let played = play(&site.scene);
        let record = &played.calls.last().expect("a call").record;
        assert_eq!(record.direction, want, "PBX known: {is_known}");
    }
}

#[test]
fn the_voice_menu_behind_a_proxy_is_nobody_after_a_restart_either() {
    let mut site = Site::new(SiteKind::Proxy);
    site.rings_in_vain();
    let inbound = site.inbound([1, 5]);
    site.invite(&inbound);
    site.answer(&inbound);
    site.talk(&inbound, 1);
    let restarts = site.talks[0] + 2_000;
    for played in [play(&site.scene), play_restarted(&site.scene.packets(), restarts)] {
        let record = &played.calls.last().expect("a call").record;
        assert_eq!((record.direction, record.operator_answered_at), (CallDirection::Inbound, None));
    }
}

/// 200 consults 201 and transfers the call to an outside party, which then talks in place of 200.
#[test]
fn the_party_of_a_transfer_takes_the_place_of_the_caller() {
    let mut site = Site::new(SiteKind::OneAddress);
    let (e200, e201) = (ScenePhone::new("200", 2), ScenePhone::new("201", 3));
    let (own, rung) = (site.calls(&e200, "201", [2, 3]), site.rings(&e201, "200", [2, 3]));
    let consultation = [own.clone(), rung.clone()].concat();
    site.invite(&consultation);
    site.scene.wait(1_000);
    site.answer(&consultation);
    site.scene.wait(1_000);
    let replaced = site.scene.get(own[0]).clone();
    let dialog = format!("{};from-tag={};to-tag={}", replaced.call_id, replaced.tags[0], replaced.tags[1]);
    let taking = site.inbound([1, 3]);
    taking.iter().for_each(|leg| site.scene.at(*leg).headers.push(format!("Replaces: {dialog}")));
    site.invite(&taking);
    site.answer(&taking);
    site.scene.bye(own[0], Side::Callee);
    site.talk(&[taking, rung].concat(), 1);
    let played = play(&site.scene);
    let call = played.only();
    assert_eq!((call.record.direction, call.record.internal.as_deref()), (CallDirection::Internal, Some("201")));
    assert_eq!(shares(call, [1, 3], site.talks), [1.0, 1.0]);
}

#[test]
fn an_outside_number_that_picks_a_call_up_is_no_extension() {
    let faults = KINDS.iter().filter_map(|kind| {
        let mut site = Site::new(*kind);
        site.picked_up(|site, _, _| site.calls(&ScenePhone::new(MOBILE, 3), "*8200", [3, 1]));
        let played = play(&site.scene);
        let record = &played.calls[0].record;
        let is_right = (record.internal.as_deref(), record.outcome) == (None, CallOutcome::Answered);
        (!is_right).then(|| format!("{kind:?}: {:?}", facts(record)))
    });
    let faults: Vec<String> = faults.collect();
    assert!(faults.is_empty(), "{faults:#?}");
}
