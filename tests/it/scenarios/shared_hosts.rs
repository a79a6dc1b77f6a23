//! Tests of calls through a proxy and a PBX on one host. Only the port shows which of the two sends or receives a leg.

use callspan::call::record::{CallDirection, CallOutcome, CallRecord, Side};

use crate::scenarios::one_dialog::{answer, dialog, invite};
use crate::scenarios::{DID, MUSIC, OUTSIDE, call_of};
use crate::support::playback::play;
use crate::support::scenario::{DialogId, Scene, ScenePhone};

/// A site whose proxy (port 5060) and PBX (port 5080) are on host 9.
struct SharedHost {
    scene: Scene,
    outside: ScenePhone,
    proxy: ScenePhone,
    pbx: ScenePhone,
    e200: ScenePhone,
    e201: ScenePhone,
}

impl SharedHost {
    fn new() -> Self {
        let proxy = ScenePhone::new("", 9);
        let pbx = ScenePhone { voice: MUSIC, sip: proxy.sip.with_port(5_080), ..ScenePhone::new(DID, 9) };
        Self {
            scene: Scene::noisy(),
            outside: ScenePhone::new(OUTSIDE, 1),
            proxy,
            pbx,
            e200: ScenePhone::new("200", 2),
            e201: ScenePhone::new("201", 3),
        }
    }

    fn inbound(&mut self) -> Vec<DialogId> {
        dialog(&mut self.scene, &mut [&mut self.outside, &mut self.proxy, &mut self.pbx], [OUTSIDE, DID])
    }

    fn rings(&mut self, from: &str) -> Vec<DialogId> {
        dialog(&mut self.scene, &mut [&mut self.pbx, &mut self.proxy, &mut self.e200], [from, "200"])
    }

    /// Plays the talk of both dialogs, and ends them.
    fn talk_and_end(&mut self, a: &[DialogId], b: &[DialogId], [caller, callee]: [u8; 2]) {
        let [a0, b0] = [a[0], b[0]];
        let voices = [
            (caller, a0, Side::Caller),
            (caller, b0, Side::Caller),
            (callee, b0, Side::Callee),
            (callee, a0, Side::Callee),
        ];
        self.scene.sound(&voices, 4_000);
        self.scene.bye_all(&[a, b].concat(), Side::Caller);
    }
}

fn facts(record: &CallRecord) -> (CallDirection, CallOutcome, Option<&str>, usize) {
    (record.direction, record.outcome, record.internal.as_deref(), record.legs.len())
}

#[test]
fn an_inbound_call_is_answered_by_its_extension() {
    let mut site = SharedHost::new();
    let (a, b) = (site.inbound(), site.rings(OUTSIDE));
    invite(&mut site.scene, &[&a[..], &b].concat());
    site.scene.wait(1_000);
    answer(&mut site.scene, &[&a[..], &b].concat());
    site.talk_and_end(&a, &b, [1, 2]);
    let played = play(&site.scene);
    let want = (CallDirection::Inbound, CallOutcome::Answered, Some("200"), 4);
    assert_eq!(facts(&played.only().record), want);
}

#[test]
fn a_call_in_the_voice_mail_is_abandoned() {
    let mut site = SharedHost::new();
    let (a, b) = (site.inbound(), site.rings(OUTSIDE));
    invite(&mut site.scene, &[&a[..], &b].concat());
    site.scene.wait(2_000);
    b.iter().for_each(|hop| site.scene.cancel(*hop));
    answer(&mut site.scene, &a);
    site.scene.sound(&[(1, a[0], Side::Caller), (MUSIC, a[0], Side::Callee)], 4_000);
    site.scene.bye_all(&a, Side::Caller);
    let played = play(&site.scene);
    let want = (CallDirection::Inbound, CallOutcome::Abandoned, Some("200"), 4);
    assert_eq!(facts(&played.only().record), want);
    assert_eq!(played.only().record.operator_answered_at, None);
}

#[test]
fn an_outbound_call_is_one_record() {
    let mut site = SharedHost::new();
    let SharedHost { scene, outside, proxy, pbx, e200, .. } = &mut site;
    let a = dialog(scene, &mut [e200, proxy, pbx], ["200", OUTSIDE]);
    let b = dialog(scene, &mut [pbx, proxy, outside], [DID, OUTSIDE]);
    invite(scene, &[&a[..], &b].concat());
    scene.wait(1_000);
    answer(scene, &[&a[..], &b].concat());
    site.talk_and_end(&a, &b, [2, 1]);
    let played = play(&site.scene);
    let want = (CallDirection::Outbound, CallOutcome::Answered, Some("200"), 4);
    assert_eq!(facts(&played.only().record), want);
}

#[test]
fn an_internal_call_is_one_record() {
    let mut site = SharedHost::new();
    let SharedHost { scene, proxy, pbx, e200, e201, .. } = &mut site;
    let a = dialog(scene, &mut [e201, proxy, pbx], ["201", "200"]);
    let b = dialog(scene, &mut [pbx, proxy, e200], ["201", "200"]);
    invite(scene, &[&a[..], &b].concat());
    scene.wait(1_000);
    answer(scene, &[&a[..], &b].concat());
    site.talk_and_end(&a, &b, [3, 2]);
    let played = play(&site.scene);
    let want = (CallDirection::Internal, CallOutcome::Answered, Some("200"), 4);
    assert_eq!(facts(&played.only().record), want);
}

/// Two calls come at once; each rings another telephone.
#[test]
fn two_calls_at_once_stay_two_records() {
    for apart_ms in [0, 50, 300] {
        let mut site = SharedHost::new();
        let second = "+79990000002";
        let (a, b) = (site.inbound(), site.rings(OUTSIDE));
        let SharedHost { scene, proxy, pbx, e201, .. } = &mut site;
        let mut other = ScenePhone::new(second, 4);
        let c = dialog(scene, &mut [&mut other, proxy, pbx], [second, DID]);
        let d = dialog(scene, &mut [pbx, proxy, e201], [second, "201"]);
        a.iter().for_each(|hop| scene.invite(*hop));
        scene.wait(apart_ms);
        c.iter().chain(&b).chain(&d).for_each(|hop| scene.invite(*hop));
        [&a, &b, &c, &d].into_iter().flatten().for_each(|hop| scene.ring(*hop));
        scene.wait(1_000);
        answer(scene, &[&a[..], &b].concat());
        scene.wait(700);
        answer(scene, &[&c[..], &d].concat());
        let voices = [
            (1, a[0], Side::Caller),
            (1, b[0], Side::Caller),
            (2, b[0], Side::Callee),
            (2, a[0], Side::Callee),
            (4, c[0], Side::Caller),
            (4, d[0], Side::Caller),
            (3, d[0], Side::Callee),
            (3, c[0], Side::Callee),
        ];
        scene.sound(&voices, 4_000);
        scene.bye_all(&[&a[..], &b, &c, &d].concat(), Side::Caller);
        let played = play(&site.scene);
        let found = [a[0], c[0]].map(|leg| facts(&call_of(&played, &site.scene, leg).record));
        let want = ["200", "201"].map(|ext| (CallDirection::Inbound, CallOutcome::Answered, Some(ext), 4));
        assert_eq!((played.calls.len(), found), (2, want), "{apart_ms} ms apart");
    }
}
