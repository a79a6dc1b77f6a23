//! The conversations of a random world, and the expected content of their records.

use std::collections::HashMap;
use std::net::IpAddr;

use callspan::call::record::{CallDirection, CallOutcome, EndedBy, Side};

use crate::support::scenario::{DialogId, MessageChange, Scene, ScenePhone, sdp};

/// The office's number.
pub(crate) const DID: &str = "+74953009080";
/// A mobile telephone to which calls are forwarded.
const MOBILE: &str = "+79161234567";
/// Voice that the PBX plays.
const MUSIC: u8 = 5;

/// The expected content of one record.
#[derive(Clone, Debug)]
pub(crate) struct ExpectedRecord {
    /// Name of the kind of conversation.
    pub kind: &'static str,
    /// Call-IDs of the INVITEs of the conversation.
    pub call_ids: Vec<String>,
    /// Maps each Call-ID to the hosts that send the sound of the left side.
    pub left: HashMap<String, Vec<IpAddr>>,
    /// Whether every answered leg has sound.
    pub sounded: bool,
    /// Expected direction; `None` if it depends on the other captured messages.
    pub direction: Option<CallDirection>,
    /// Permitted outcomes.
    pub outcomes: Vec<CallOutcome>,
    pub internal: Option<String>,
    pub ended_by: EndedBy,
    /// Call-IDs of other conversations. Both records must name each other as related.
    pub related: Vec<String>,
}

impl ExpectedRecord {
    /// Returns the expectation for an answered call with these legs and sound from both sides. The sender of each
    /// INVITE is the left side.
    fn new(
        scene: &Scene,
        legs: &[DialogId],
        (direction, internal): (CallDirection, &ScenePhone),
        ended_by: EndedBy,
    ) -> Self {
        let mut truth = Self {
            kind: "",
            call_ids: Vec::new(),
            left: HashMap::new(),
            sounded: true,
            direction: Some(direction),
            outcomes: vec![CallOutcome::Answered],
            internal: Some(internal.user.clone()),
            ended_by,
            related: Vec::new(),
        };
        for leg in legs {
            truth = truth.heard_on(scene, *leg, Side::Caller);
        }
        truth
    }

    /// Records that the left side also sends from the address of `side` on this leg.
    fn heard_on(mut self, scene: &Scene, leg: DialogId, side: Side) -> Self {
        let dialog = scene.get(leg);
        if !self.call_ids.contains(&dialog.call_id) {
            self.call_ids.push(dialog.call_id.clone());
        }
        self.left.entry(dialog.call_id.clone()).or_default().push(dialog.media[side.channel()].ip());
        self
    }

    fn related_to(mut self, scene: &Scene, other: DialogId) -> Self {
        self.related.push(scene.get(other).call_id.clone());
        self
    }

    fn named(self, internal: Option<&str>) -> Self {
        Self { internal: internal.map(str::to_owned), ..self }
    }

    fn ended_as(self, outcome: CallOutcome) -> Self {
        Self { outcomes: vec![outcome], sounded: false, ..self }
    }

    /// Returns whether the record has an answer.
    pub(crate) fn is_answered(&self) -> bool {
        self.outcomes.iter().any(|o| matches!(o, CallOutcome::Answered | CallOutcome::Abandoned))
    }
}

/// The phones of a conversation: the outside party, two extensions, the PBX.
type ConversationPhones<'a> = [&'a mut ScenePhone; 4];
type ConversationMaker = fn(&mut Scene, &mut fastrand::Rng, ConversationPhones<'_>) -> Vec<ExpectedRecord>;

/// Declares a list of functions, each with its name. Each function makes one kind of conversation.
macro_rules! kinds {
    ($($name:ident)*) => { [$((stringify!($name), $name as ConversationMaker)),*] };
}

/// Makes a conversation of a random kind.
pub(crate) fn any(scene: &mut Scene, rng: &mut fastrand::Rng, phones: ConversationPhones<'_>) -> Vec<ExpectedRecord> {
    let kinds = kinds![direct direct forked refused through_pbx outbound second_trunk ring_group proxy_fork hunting staggered
        queue menu sent_on transfer outbound_transfer feature_code attended attended_by_phones park click_to_call
        direct_media];
    make(&kinds, scene, rng, phones)
}

/// Makes a conversation of a random kind that can occur several times at the same time with the same numbers.
pub(crate) fn of_a_crowd(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    phones: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    make(&kinds![through_pbx ring_group staggered hunting queue menu transfer], scene, rng, phones)
}

fn make(
    kinds: &[(&'static str, ConversationMaker)],
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    phones: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (kind, maker) = kinds[rng.usize(0..kinds.len())];
    maker(scene, rng, phones).into_iter().map(|truth| ExpectedRecord { kind, ..truth }).collect()
}

fn some_side(rng: &mut fastrand::Rng) -> Side {
    if rng.bool() { Side::Caller } else { Side::Callee }
}

/// Makes the trunk's leg of an inbound call.
fn leg_in(scene: &mut Scene, outside: &mut ScenePhone, pbx: &mut ScenePhone) -> DialogId {
    let numbers = [outside.user.clone(), pbx.user.clone()];
    scene.leg(outside, pbx, [&numbers[0], &numbers[1]])
}

/// Makes the leg by which the PBX rings a telephone for the outside party.
fn rings(scene: &mut Scene, outside: &ScenePhone, pbx: &mut ScenePhone, phone: &mut ScenePhone) -> DialogId {
    let numbers = [outside.user.clone(), phone.user.clone()];
    scene.leg(pbx, phone, [&numbers[0], &numbers[1]])
}

/// Makes the two legs of an outbound call.
fn legs_out(scene: &mut Scene, ours: &mut ScenePhone, pbx: &mut ScenePhone, outside: &mut ScenePhone) -> [DialogId; 2] {
    let numbers = [ours.user.clone(), outside.user.clone()];
    let a = scene.leg(ours, pbx, [&numbers[0], &numbers[1]]);
    [a, scene.leg(pbx, outside, [DID, &numbers[1]])]
}

/// Ends both legs: by the caller of the first leg, or by the callee of the second.
fn hang_up(scene: &mut Scene, rng: &mut fastrand::Rng, [a, b]: [DialogId; 2]) -> EndedBy {
    if rng.bool() {
        scene.bye_all(&[a, b], Side::Caller);
        EndedBy::Caller
    } else {
        scene.bye_all(&[b, a], Side::Callee);
        EndedBy::Callee
    }
}

fn direct(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, ..]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let inbound = rng.bool();
    let call = if inbound { scene.dialog(outside, one) } else { scene.dialog(one, outside) };
    if rng.bool() {
        scene.invite(call);
        scene.refuse(call, 407, &[]);
    }
    scene.connect(call);
    for _ in 0..rng.u8(1..4) {
        let talk_ms = rng.i64(200..700);
        scene.talk(call, talk_ms);
        change(scene, rng, call);
    }
    scene.talk(call, 400);
    let side = some_side(rng);
    scene.bye(call, side);
    let ended_by = if side == Side::Caller { EndedBy::Caller } else { EndedBy::Callee };
    let direction = if inbound { CallDirection::Inbound } else { CallDirection::Outbound };
    vec![ExpectedRecord::new(scene, &[call], (direction, one), ended_by)]
}

/// Adds one random change to a call: a hold, a renegotiation, another port, another SSRC, or none.
fn change(scene: &mut Scene, rng: &mut fastrand::Rng, call: DialogId) {
    let side = some_side(rng);
    match rng.u8(0..6) {
        0 => {
            scene.hold(call, side);
            scene.wait(rng.i64(0..2_000));
            scene.resume(call, side);
        }
        1 => scene.renegotiate(call, side, "UPDATE", (&[], &[])),
        2 => {
            let media = &mut scene.at(call).media[side.channel()];
            *media = media.with_port(media.port() + 1_000);
            scene.renegotiate(call, side, "INVITE", (&[], &[]));
        }
        3 => {
            let flow = scene.flow(call, side);
            let sender = scene.sender(flow);
            let ssrc = sender.ssrc.wrapping_add(0x0101_0000);
            (sender.ssrc, sender.sequence, sender.time) = (ssrc, rng.u16(..), rng.u32(..));
        }
        _ => {}
    }
}

/// Plays a fork: two telephones ring for one number behind a proxy that the mirror does not show. The second telephone
/// answers.
fn forked(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, _]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let call = scene.dialog(outside, one);
    scene.invite(call);
    let other = sdp(one.media(), 1, "8 101", &[]);
    scene.response(call, Side::Callee, (183, "INVITE"), &[MessageChange::Branch("lost"), MessageChange::Sdp(other)]);
    scene.at(call).tags[1] = format!("taken-{}", one.user);
    scene.at(call).media[1] = two.media();
    scene.ring(call);
    scene.wait(rng.i64(0..1_000));
    scene.answer(call);
    scene.talk(call, 600);
    scene.bye(call, Side::Caller);
    vec![ExpectedRecord::new(scene, &[call], (CallDirection::Inbound, one), EndedBy::Caller)]
}

fn refused(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, ..]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let call = scene.dialog(outside, one);
    scene.invite(call);
    if rng.bool() {
        scene.ring(call);
    }
    scene.wait(rng.i64(0..2_000));
    let outcome = match rng.u8(0..3) {
        0 => {
            scene.cancel(call);
            CallOutcome::Cancelled
        }
        1 => {
            scene.refuse(call, 486, &[]);
            CallOutcome::Busy
        }
        _ => {
            scene.refuse(call, 603, &[MessageChange::Header("Reason: Q.850;cause=21")]);
            CallOutcome::Declined
        }
    };
    vec![ExpectedRecord::new(scene, &[call], (CallDirection::Inbound, one), EndedBy::Signalling).ended_as(outcome)]
}

fn through_pbx(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    scene.invite(a);
    // The PBX rings a telephone at once, or after it has searched the number in a directory.
    scene.wait(if rng.bool() { rng.i64(0..300) } else { rng.i64(0..4_000) });
    scene.invite_and_ring(b);
    scene.wait(rng.i64(0..2_000));
    scene.answer(b);
    scene.answer(a);
    let talk_ms = rng.i64(300..900);
    scene.bridge(a, b, talk_ms);
    if rng.bool() {
        scene.hold(b, Side::Callee);
        scene.wait(rng.i64(0..1_000));
        scene.resume(b, Side::Callee);
        scene.bridge(a, b, 500);
    }
    let ended_by = hang_up(scene, rng, [a, b]);
    vec![ExpectedRecord::new(scene, &[a, b], (CallDirection::Inbound, one), ended_by)]
}

fn outbound(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let [a, b] = legs_out(scene, one, pbx, outside);
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.wait(rng.i64(0..2_000));
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let ended_by = hang_up(scene, rng, [a, b]);
    vec![ExpectedRecord::new(scene, &[a, b], (CallDirection::Outbound, one), ended_by)]
}

/// Plays a call over two trunks: the first trunk refuses the call, and the second trunk accepts it.
fn second_trunk(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let [a, first] = legs_out(scene, one, pbx, outside);
    let second = scene.leg(pbx, two, [DID, &outside.user]);
    scene.invite(a);
    scene.invite(first);
    scene.wait(rng.i64(0..5_000));
    scene.refuse(first, 503, &[]);
    scene.invite_and_ring(second);
    scene.wait(rng.i64(0..1_000));
    scene.answer(second);
    scene.answer(a);
    scene.bridge(a, second, 500);
    let ended_by = hang_up(scene, rng, [a, second]);
    vec![ExpectedRecord::new(scene, &[a, first, second], (CallDirection::Outbound, one), ended_by)]
}

fn ring_group(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    scene.ring(b);
    scene.ring(c);
    scene.wait(rng.i64(0..2_000));
    scene.answer(c);
    scene.cancel(b);
    scene.answer(a);
    scene.bridge(a, c, 500);
    let ended_by = hang_up(scene, rng, [a, c]);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, two), ended_by)]
}

/// Plays a fork: a proxy forks a call to two telephones, so one dialog has three hops. The media bypasses the proxy.
fn proxy_fork(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    let caller = scene.get(a).clone();
    for (leg, number) in [(b, &one.user), (c, &two.user)] {
        let dialog = scene.at(leg);
        (dialog.call_id, dialog.tags[0]) = (caller.call_id.clone(), caller.tags[0].clone());
        (dialog.users[1], dialog.request_user) = (DID.to_owned(), number.clone());
        dialog.media[0] = caller.media[0];
    }
    let taken = scene.get(c).clone();
    (scene.at(a).media[1], scene.at(a).tags[1]) = (taken.media[1], taken.tags[1].clone());
    for leg in [a, b, c] {
        scene.invite(leg);
    }
    scene.ring(b);
    scene.ring(c);
    scene.ring(a);
    scene.wait(rng.i64(0..2_000));
    scene.answer(c);
    scene.answer(a);
    scene.cancel(b);
    scene.talk(a, 600);
    scene.bye_all(&[a, c], Side::Caller);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, two), EndedBy::Caller)]
}

/// Plays hunting: one telephone rings without an answer, then another telephone rings and answers.
fn hunting(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    scene.ring_through(a, b);
    scene.wait(rng.i64(0..6_000));
    if rng.bool() {
        scene.cancel(b)
    } else {
        scene.refuse(b, 486, &[])
    }
    scene.invite_and_ring(c);
    scene.wait(rng.i64(0..2_000));
    scene.answer(c);
    scene.answer(a);
    scene.bridge(a, c, 500);
    let ended_by = hang_up(scene, rng, [a, c]);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, two), ended_by)]
}

/// Plays a call in which a second telephone begins to ring some time after the first.
fn staggered(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    scene.ring_through(a, b);
    scene.wait(rng.i64(0..6_000));
    scene.invite_and_ring(c);
    scene.wait(rng.i64(0..2_000));
    let (taken, other, taker) = if rng.bool() { (c, b, two) } else { (b, c, one) };
    scene.answer(taken);
    scene.cancel(other);
    scene.answer(a);
    scene.bridge(a, taken, 500);
    let ended_by = hang_up(scene, rng, [a, taken]);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, taker), ended_by)]
}

fn queue(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    scene.connect(a);
    scene.sound(&[(MUSIC, a, Side::Callee)], rng.i64(500..3_000));
    scene.invite_and_ring(b);
    scene.wait(500);
    scene.answer(b);
    scene.bridge(a, b, 500);
    let ended_by = hang_up(scene, rng, [a, b]);
    vec![ExpectedRecord::new(scene, &[a, b], (CallDirection::Inbound, one), ended_by)]
}

/// Plays a voice menu: the caller hangs up during an announcement. It depends on the other captured messages whether
/// this can be recognised.
fn menu(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let a = leg_in(scene, outside, pbx);
    scene.connect(a);
    scene.sound(&[(MUSIC, a, Side::Callee), (1, a, Side::Caller)], rng.i64(500..3_000));
    scene.bye(a, Side::Caller);
    let truth = ExpectedRecord::new(scene, &[a], (CallDirection::Inbound, one), EndedBy::Caller).named(None);
    vec![ExpectedRecord { direction: None, outcomes: vec![CallOutcome::Answered, CallOutcome::Abandoned], ..truth }]
}

/// Plays a forwarded call: the PBX forwards a call to a mobile telephone, by another trunk or by the same trunk.
fn sent_on(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let a = leg_in(scene, outside, pbx);
    let from = outside.user.clone();
    let trunk = if rng.bool() { two } else { outside };
    let b = scene.leg(pbx, trunk, [&from, MOBILE]);
    scene.at(b).headers.push(format!("Diversion: <sip:{DID}@10.0.0.9>;reason=unconditional"));
    scene.invite(a);
    scene.wait(rng.i64(0..5_000));
    scene.invite_and_ring(b);
    scene.wait(rng.i64(0..1_000));
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 600);
    let ended_by = hang_up(scene, rng, [a, b]);
    vec![ExpectedRecord::new(scene, &[a, b], (CallDirection::Inbound, one), ended_by).named(None)]
}

/// Plays a transfer: the extension that answered transfers the caller to the other extension, which answers.
fn transfer(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let target = format!("<sip:{}@10.0.0.9>", two.user);
    scene.refer(b, Side::Callee, &target);
    scene.bye(b, Side::Caller);
    scene.invite(c);
    scene.wait(rng.i64(0..1_000));
    scene.answer(c);
    scene.bridge(a, c, 500);
    let ended_by = hang_up(scene, rng, [a, c]);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, two), ended_by)]
}

/// Plays a transfer: the extension that called out transfers the outside party to the other extension.
fn outbound_transfer(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let [a, b] = legs_out(scene, one, pbx, outside);
    let c = rings(scene, outside, pbx, two);
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let target = format!("<sip:{}@10.0.0.9>", two.user);
    scene.refer(a, Side::Caller, &target);
    scene.bye(a, Side::Callee);
    scene.invite(c);
    scene.wait(rng.i64(0..1_000));
    scene.answer(c);
    scene.sound(&[(1, b, Side::Callee), (3, b, Side::Caller), (1, c, Side::Caller), (3, c, Side::Callee)], 500);
    scene.bye(b, Side::Callee);
    scene.bye(c, Side::Caller);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Outbound, one), EndedBy::Callee)]
}

/// Plays a transfer without REFER: one leg ends and another begins. Either can happen first.
fn feature_code(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b, c) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one), rings(scene, outside, pbx, two));
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    // The pause is longer than 2 s. Otherwise the new leg would look like another telephone of a ring group.
    scene.bridge(a, b, rng.i64(500..3_000));
    if rng.bool() {
        scene.bye(b, Side::Caller);
        scene.invite(c);
    } else {
        scene.invite(c);
        scene.bye(b, Side::Caller);
    }
    scene.ring(c);
    scene.wait(rng.i64(0..1_000));
    scene.answer(c);
    scene.bridge(a, c, 500);
    let ended_by = hang_up(scene, rng, [a, c]);
    vec![ExpectedRecord::new(scene, &[a, b, c], (CallDirection::Inbound, two), ended_by)]
}

fn replaces(scene: &Scene, target: &str, replaced: DialogId) -> String {
    let dialog = scene.get(replaced);
    let ([from, to], id) = (&dialog.tags, dialog.call_id.replace('@', "%40"));
    format!("<sip:{target}?Replaces={id}%3Bto-tag%3D{to}%3Bfrom-tag%3D{from}>")
}

/// Plays an attended transfer: the first extension consults the second extension through the PBX, and then leaves the
/// call.
fn attended(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    let numbers = [one.user.clone(), two.user.clone()];
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    scene.hold(b, Side::Callee);
    let c = scene.leg(one, pbx, [&numbers[0], &numbers[1]]);
    let d = scene.leg(pbx, two, [&numbers[0], &numbers[1]]);
    scene.invite(c);
    scene.invite(d);
    scene.wait(rng.i64(0..1_000));
    scene.answer(d);
    scene.answer(c);
    scene.bridge(c, d, 500);
    let refer_to = replaces(scene, &format!("{}@10.0.0.9", two.user), c);
    scene.refer(b, Side::Callee, &refer_to);
    scene.bye(b, Side::Caller);
    scene.bye(c, Side::Callee);
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (1, d, Side::Caller), (3, d, Side::Callee)], 500);
    let ended_by = hang_up(scene, rng, [a, d]);
    vec![
        ExpectedRecord::new(scene, &[a, b], (CallDirection::Inbound, one), ended_by).related_to(scene, c),
        ExpectedRecord::new(scene, &[c, d], (CallDirection::Internal, two), EndedBy::Callee).related_to(scene, a),
    ]
}

/// Plays an attended transfer: the telephones transfer the call without a PBX, so there are three calls.
fn attended_by_phones(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, _]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let first = scene.dialog(outside, one);
    scene.connect(first);
    scene.talk(first, 500);
    scene.hold(first, Side::Callee);
    let consultation = scene.dialog(one, two);
    scene.connect(consultation);
    scene.talk(consultation, rng.i64(300..1_000));
    let refer_to = replaces(scene, &format!("{}@{}", two.user, two.sip.ip()), consultation);
    scene.refer(first, Side::Callee, &refer_to);
    let third = scene.dialog(outside, two);
    let [from, to] = scene.get(consultation).tags.clone();
    let header = format!("Replaces: {};to-tag={to};from-tag={from}", scene.get(consultation).call_id);
    scene.at(third).headers.push(header);
    scene.invite(third);
    scene.answer(third);
    scene.bye_all(&[consultation, first], Side::Callee);
    scene.talk(third, 500);
    scene.bye(third, Side::Caller);
    vec![
        ExpectedRecord::new(scene, &[first], (CallDirection::Inbound, one), EndedBy::Callee)
            .related_to(scene, consultation),
        ExpectedRecord::new(scene, &[consultation], (CallDirection::Internal, two), EndedBy::Callee)
            .related_to(scene, third),
        ExpectedRecord::new(scene, &[third], (CallDirection::Inbound, two), EndedBy::Caller),
    ]
}

/// Plays a parked call: the first extension parks the caller, and the second extension takes the call from the parking
/// slot.
fn park(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, two, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (a, b) = (leg_in(scene, outside, pbx), rings(scene, outside, pbx, one));
    scene.invite(a);
    scene.invite(b);
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let place = format!("7{}", &two.user[1..]);
    scene.refer(b, Side::Callee, &format!("<sip:{place}@10.0.0.9>"));
    scene.bye(b, Side::Caller);
    scene.sound(&[(MUSIC, a, Side::Callee)], rng.i64(500..5_000));
    let taker = two.user.clone();
    let c = scene.leg(two, pbx, [&taker, &place]);
    scene.invite(c);
    scene.answer(c);
    scene.sound(&[(1, a, Side::Caller), (3, a, Side::Callee), (3, c, Side::Caller), (1, c, Side::Callee)], 500);
    scene.bye(a, Side::Caller);
    scene.bye(c, Side::Callee);
    let picked = ExpectedRecord::new(scene, &[c], (CallDirection::Internal, two), EndedBy::Callee).named(Some(&place));
    vec![
        ExpectedRecord::new(scene, &[a, b], (CallDirection::Inbound, one), EndedBy::Caller).related_to(scene, c),
        picked.related_to(scene, a),
    ]
}

/// Plays click-to-call: the PBX calls the extension, then the outside party.
fn click_to_call(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let (theirs, ours) = (outside.user.clone(), one.user.clone());
    let a = scene.leg(pbx, one, [&theirs, &ours]);
    let b = scene.leg(pbx, outside, [DID, &theirs]);
    scene.connect(a);
    scene.wait(rng.i64(0..1_000));
    scene.invite_and_ring(b);
    scene.wait(rng.i64(0..1_000));
    scene.answer(b);
    scene.sound(&[(1, a, Side::Caller), (2, a, Side::Callee), (2, b, Side::Caller), (1, b, Side::Callee)], 500);
    scene.bye(b, Side::Callee);
    scene.bye(a, Side::Caller);
    // The PBX calls the extension, so the extension is the callee of its leg.
    vec![ExpectedRecord::new(scene, &[b], (CallDirection::Outbound, one), EndedBy::Callee).heard_on(
        scene,
        a,
        Side::Callee,
    )]
}

/// Plays a call with direct media: after both parties have answered, the PBX connects their media directly.
fn direct_media(
    scene: &mut Scene,
    rng: &mut fastrand::Rng,
    [outside, one, _, pbx]: ConversationPhones<'_>,
) -> Vec<ExpectedRecord> {
    let inbound = rng.bool();
    let [a, b] = match inbound {
        true => [leg_in(scene, outside, pbx), rings(scene, outside, pbx, one)],
        false => legs_out(scene, one, pbx, outside),
    };
    scene.invite(a);
    scene.invite_and_ring(b);
    scene.wait(rng.i64(0..1_000));
    scene.answer(b);
    scene.answer(a);
    scene.bridge(a, b, 500);
    let direction = if inbound { CallDirection::Inbound } else { CallDirection::Outbound };
    let truth = ExpectedRecord::new(scene, &[a, b], (direction, one), EndedBy::Caller);
    let [caller, callee] = [scene.get(a).media[0], scene.get(b).media[1]];
    scene.at(a).media[1] = callee;
    scene.renegotiate(a, Side::Callee, "INVITE", (&[], &[]));
    scene.at(b).media[0] = caller;
    scene.renegotiate(b, Side::Caller, "INVITE", (&[], &[]));
    // Sound between the two re-INVITEs can be on either path, so there is none.
    scene.wait(200);
    scene.rtp(&[(1, (caller, callee)), (2, (callee, caller))], 800);
    scene.bye_all(&[a, b], Side::Caller);
    vec![truth.heard_on(scene, b, Side::Caller)]
}
