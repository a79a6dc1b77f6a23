//! Tests with early media from several sources at once: branches of a fork, a PBX and its provider, music on hold.
//!
//! The caller hears the source that the newest session description of the callee announces. After the answer this is
//! the branch with the 2xx. Another source is heard only while this one sends nothing.

use callspan::call::config::{Config, RecordingStart};
use callspan::call::record::Side;
use callspan::net::Endpoint;

use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{direct, outside_and_200};
use crate::support::playback::{PlayedCall, play, play_restarted, play_with};
use crate::support::scenario::ExpectedSound::{self, Silence, Voice};
use crate::support::scenario::{DialogId, MessageChange, SILENCE, Scene, ScenePhone, ip, sdp};

/// A branch of a fork: the tag and the media address of its telephone, and its voice.
#[derive(Clone, Copy)]
struct Branch {
    tag: &'static str,
    media: Endpoint,
    voice: u8,
}

/// An unanswered call to two telephones.
struct Fork {
    scene: Scene,
    call: DialogId,
}

/// Returns two branches with voices 2 and 3.
fn branches() -> [Branch; 2] {
    [Branch { tag: "one", media: ip(2, 10_000), voice: 2 }, Branch { tag: "two", media: ip(3, 10_000), voice: 3 }]
}

impl Fork {
    fn new() -> Self {
        let mut scene = Scene::new();
        let call = scene.dialog(&mut ScenePhone::new("+79990000001", 1), &mut ScenePhone::new("200", 9));
        scene.invite(call);
        Self { scene, call }
    }

    fn progress(&mut self, branch: Branch) {
        let with = [MessageChange::Branch(branch.tag), MessageChange::Sdp(sdp(branch.media, 1, "8 101", &[]))];
        self.scene.response(self.call, Side::Callee, (183, "INVITE"), &with);
    }

    fn answer(&mut self, branch: Branch) -> i64 {
        let dialog = self.scene.at(self.call);
        (dialog.media[1], dialog.tags[1], dialog.voices[1]) = (branch.media, branch.tag.to_owned(), branch.voice);
        self.scene.answer(self.call)
    }

    /// Lets branches send at the same time, each with its voice.
    fn early(&mut self, branches: &[Branch], ms: i64) {
        let flows: Vec<_> = branches.iter().map(|branch| (branch.voice, self.flow(*branch))).collect();
        self.scene.rtp(&flows, ms);
    }

    fn flow(&self, branch: Branch) -> (Endpoint, Endpoint) {
        (branch.media, self.scene.get(self.call).media[0])
    }

    /// Lets the caller (voice 1) and branches send at the same time.
    fn talk(&mut self, branches: &[Branch], ms: i64) {
        let caller = self.scene.flow(self.call, Side::Caller);
        let flows = branches.iter().map(|branch| (branch.voice, self.flow(*branch)));
        let flows: Vec<_> = std::iter::once((1, caller)).chain(flows).collect();
        self.scene.rtp(&flows, ms);
    }
}

/// Asserts that the callee's channel has one sound for a while.
#[track_caller]
fn right_is(call: &PlayedCall, sound: ExpectedSound, from_ms: i64, to_ms: i64) {
    let [_, right] = call.sound.as_ref().expect("a recording");
    assert_eq!(
        right.share(sound, from_ms, to_ms),
        1.0,
        "{sound:?} from {from_ms}, e.g. {:?}",
        right.judge(from_ms + 300)
    );
}

fn from_media() -> Config {
    Config { start: RecordingStart::Media, ..Config::default() }
}

#[test]
fn branch_that_answers_is_heard_although_another_still_sends() {
    for answers in [0, 1] {
        for sends_first in [0, 1] {
            let mut fork = Fork::new();
            let both = branches();
            both.iter().for_each(|branch| fork.progress(*branch));
            fork.early(&[both[sends_first]], 400);
            fork.early(&both, 1_000);
            let answered = fork.answer(both[answers]);
            let talks = fork.scene.now();
            // The other branch sends until the CANCEL reaches it, or until the end of the call.
            fork.talk(&both, 1_000);
            fork.talk(&[both[answers]], 1_000);
            fork.talk(&both, 1_000);
            let ended = fork.scene.bye(fork.call, Side::Caller);
            for config in [Config::default(), from_media()] {
                hears(play_with(&fork.scene, config).only(), (1, both[answers].voice), talks, ended);
            }
            let restarted = play_restarted(&fork.scene.packets(), answered - 300);
            hears(restarted.only(), (1, both[answers].voice), talks, ended);
            let restarted = play_restarted(&fork.scene.packets(), talks + 500);
            hears(restarted.only(), (1, both[answers].voice), talks, talks + 400);
            hears(restarted.only(), (1, both[answers].voice), talks + 800, ended);
        }
    }
}

#[test]
fn newest_early_dialog_is_heard_before_the_answer() {
    let mut fork = Fork::new();
    let [one, two] = branches();
    fork.progress(one);
    let rings = fork.scene.now();
    fork.early(&[one], 1_000);
    fork.progress(two);
    let both = fork.scene.now();
    fork.early(&[one, two], 1_000);
    // The first branch begins another stream. It repeats its provisional response, so the newest dialog stays the same.
    let flow = fork.flow(one);
    fork.scene.sender(flow).ssrc ^= 0xFF;
    fork.progress(one);
    fork.early(&[one, two], 1_000);
    let pause = fork.scene.now();
    fork.early(&[one], 1_000);
    let answered = fork.answer(one);
    let talks = fork.scene.now();
    fork.talk(&[one, two], 1_000);
    let ended = fork.scene.bye(fork.call, Side::Caller);
    let played = play_with(&fork.scene, from_media());
    right_is(played.only(), Voice(2), rings, both - 40);
    right_is(played.only(), Voice(3), both, pause - 40);
    right_is(played.only(), Voice(2), pause, answered - 40);
    hears(played.only(), (1, 2), talks, ended);
}

/// The second branch describes itself before the caller refuses the offer of the first.
#[test]
fn refused_offer_of_one_branch_leaves_the_other_in_force() {
    for by in [Side::Caller, Side::Callee] {
        let mut fork = Fork::new();
        let [one, two] = branches();
        fork.progress(one);
        fork.early(&[one], 400);
        let (scene, call) = (&mut fork.scene, fork.call);
        let offer = scene.sdp(call, by, &[]);
        scene.request(call, by, "UPDATE", &[MessageChange::Branch(one.tag), MessageChange::Sdp(offer)]);
        fork.progress(two);
        fork.scene.response(call, by.other(), (488, "UPDATE"), &[MessageChange::Branch(one.tag)]);
        fork.early(&[two], 400);
        // The first branch begins another stream.
        let flow = fork.flow(one);
        fork.scene.sender(flow).ssrc ^= 0xFF;
        let both = fork.scene.now();
        fork.early(&[one, two], 1_000);
        let answered = fork.answer(two);
        let talks = fork.scene.now();
        fork.talk(&[one, two], 1_000);
        let ended = fork.scene.bye(fork.call, Side::Caller);
        let played = play_with(&fork.scene, from_media());
        right_is(played.only(), Voice(3), both, answered - 40);
        hears(played.only(), (1, 3), talks, ended);
    }
}

#[test]
fn branch_without_sound_does_not_hide_the_other() {
    let mut fork = Fork::new();
    let [one, two] = branches();
    fork.progress(one);
    fork.progress(two);
    let early = fork.scene.now();
    fork.early(&[one, Branch { voice: SILENCE, ..two }], 2_000);
    let answered = fork.answer(two);
    let talks = fork.scene.now();
    fork.talk(&[one, two], 1_000);
    let ended = fork.scene.bye(fork.call, Side::Caller);
    let played = play_with(&fork.scene, from_media());
    right_is(played.only(), Voice(2), early, answered - 40);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn comfort_noise_of_a_branch_does_not_hide_the_other() {
    let mut fork = Fork::new();
    let [one, two] = branches();
    fork.progress(one);
    fork.progress(two);
    fork.early(&[one, two], 400);
    let noise = fork.scene.now();
    let flow = fork.flow(two);
    for _ in 0..10 {
        // A descriptor of comfort noise at -40 dBov each 200 ms (RFC 3389).
        let sender = fork.scene.sender(flow);
        let mut packet = vec![0x80, 13];
        packet.extend(sender.sequence.to_be_bytes());
        sender.sequence = sender.sequence.wrapping_add(1);
        let (ssrc, time) = (sender.ssrc, sender.time);
        packet.extend(time.wrapping_add((fork.scene.now() * 8) as u32).to_be_bytes());
        packet.extend(ssrc.to_be_bytes());
        packet.push(40);
        fork.scene.raw(flow.0, flow.1, packet);
        fork.early(&[one], 200);
    }
    let answered = fork.answer(two);
    let talks = fork.scene.now();
    fork.talk(&[two], 1_000);
    let ended = fork.scene.bye(fork.call, Side::Caller);
    let played = play_with(&fork.scene, from_media());
    right_is(played.only(), Voice(2), noise, answered - 40);
    hears(played.only(), (1, 3), talks, ended);
}

#[test]
fn pbx_and_provider_take_turns_before_the_answer() {
    // The provider's announcement comes from another address than the ringback of the PBX, in the same early dialog.
    let [pbx, provider] = branches().map(|branch| Branch { tag: "one", ..branch });
    for answers in [pbx, provider] {
        let mut fork = Fork::new();
        fork.progress(pbx);
        let rings = fork.scene.now();
        fork.early(&[pbx], 1_000);
        fork.progress(provider);
        let announces = fork.scene.now();
        fork.early(&[pbx, provider], 1_000);
        let answered = fork.answer(answers);
        let talks = fork.scene.now();
        fork.talk(&[pbx, provider], 1_000);
        let ended = fork.scene.bye(fork.call, Side::Caller);
        let played = play_with(&fork.scene, from_media());
        right_is(played.only(), Voice(2), rings, announces - 40);
        right_is(played.only(), Voice(3), announces, answered - 40);
        hears(played.only(), (1, answers.voice), talks, ended);
    }
}

#[test]
fn music_after_the_end_of_a_hold_does_not_hide_the_voice() {
    let (mut scene, call, _) = direct();
    scene.talk(call, 2_000);
    let telephone = scene.get(call).media[1];
    scene.at(call).media[1] = ip(8, 12_000);
    scene.hold(call, Side::Callee);
    let holds = scene.now();
    let music = scene.flow(call, Side::Callee);
    scene.rtp(&[(5, music)], 2_000);
    scene.at(call).media[1] = telephone;
    let resumed = scene.now();
    scene.resume(call, Side::Callee);
    let talks = scene.now();
    let flows = [(1, scene.flow(call, Side::Caller)), (2, scene.flow(call, Side::Callee)), (5, music)];
    scene.rtp(&flows, 2_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    right_is(played.only(), Voice(5), holds, resumed - 40);
    hears(played.only(), (1, 2), talks, ended);
}

#[test]
fn source_that_is_no_longer_announced_is_heard_alone() {
    // The telephone announces another port, but goes on to send from the port that it announced before.
    let (mut scene, mut outside, mut ours) = outside_and_200();
    let call = scene.dialog(&mut outside, &mut ours);
    scene.connect(call);
    scene.talk(call, 1_000);
    let flow = scene.flow(call, Side::Callee);
    scene.at(call).announced[1] = Some(ip(2, 10_008));
    scene.renegotiate(call, Side::Callee, "INVITE", (&[], &[]));
    let talks = scene.now();
    let caller = scene.flow(call, Side::Caller);
    scene.rtp(&[(1, (caller.0, ip(2, 10_008))), (2, flow)], 2_000);
    let silent = scene.now();
    scene.rtp(&[(1, (caller.0, ip(2, 10_008)))], 1_000);
    let ended = scene.bye(call, Side::Caller);
    let played = play(&scene);
    hears(played.only(), (1, 2), talks, silent - 40);
    right_is(played.only(), Silence, silent + 100, ended - 40);
}
