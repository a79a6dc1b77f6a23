//! Tests of INVITEs that a mirror shows after their own 100 (Trying), which has none of the headers of the INVITE.

use callspan::call::config::Config;
use callspan::call::correlation_rule::CorrelationRule;
use callspan::call::record::{CallRecord, Side};

use crate::scenarios::correlation::with_late_invite;
use crate::scenarios::dialog_lifecycle::hears;
use crate::scenarios::{DID, OUTSIDE, Office, call_of};
use crate::support::playback::{PlayedScene, play_packets};
use crate::support::scenario::{DialogId, ScenePhone};

const SESSION: &str = "Session-ID: ab30317f1a784dc48ff824d0d3715d86;remote=00000000000000000000000000000000";

/// Two calls at the same time: a caller reaches 200, and a stranger (voice 4) reaches 201. The PBX changes the callers'
/// numbers. Only headers of the first call link its legs.
struct TwoCalls {
    office: Office,
    a: DialogId,
    b: DialogId,
    x: DialogId,
    y: DialogId,
}

impl TwoCalls {
    fn new(headers: [&str; 2]) -> Self {
        let mut office = Office::new();
        let mut stranger = ScenePhone::new("+79990000777", 4);
        let a = office.inbound();
        let b = office.scene.leg(&mut office.pbx, &mut office.e200, ["5551234", "200"]);
        let x = office.scene.leg(&mut stranger, &mut office.pbx, ["+79990000777", DID]);
        let y = office.scene.leg(&mut office.pbx, &mut office.e201, ["5551777", "201"]);
        office.scene.at(a).headers.push(headers[0].to_owned());
        office.scene.at(b).headers.push(headers[1].to_owned());
        Self { office, a, b, x, y }
    }

    /// Plays both calls for a second of talk. The INVITE of the leg to 200 is captured after its 100.
    fn play(&mut self, config: &Config) -> PlayedScene {
        let (scene, [a, b, x, y]) = (&mut self.office.scene, [self.a, self.b, self.x, self.y]);
        for leg in [x, a, b, y] {
            scene.invite(leg);
        }
        scene.wait(1_000);
        for leg in [b, a, y, x] {
            scene.answer(leg);
        }
        let talks = scene.now();
        let voices = [(1, a, Side::Caller), (2, a, Side::Callee), (4, x, Side::Caller), (3, x, Side::Callee)];
        let passed = [(1, b, Side::Caller), (2, b, Side::Callee), (4, y, Side::Caller), (3, y, Side::Callee)];
        scene.sound(&[voices, passed].concat(), 1_000);
        let ended = scene.bye_all(&[a, b, x, y], Side::Caller);
        let played = play_packets(&with_late_invite(scene, b, 15), scene.now(), config.clone());
        hears(call_of(&played, scene, a), (1, 2), talks, ended);
        hears(call_of(&played, scene, x), (4, 3), talks, ended);
        played
    }
}

/// Returns the rules that joined the legs of a record.
fn joined_by(record: &CallRecord) -> Vec<Option<CorrelationRule>> {
    record.legs.iter().map(|leg| leg.joined_by).collect()
}

#[test]
fn a_header_links_a_leg_although_its_100_overtook_its_invite() {
    let correlation_headers = vec!["X-Call-Key".to_owned()];
    let keyed = Config { correlation_headers, ..Config::default() };

    let cases = [
        (["X-Call-Key: abc-1"; 2], keyed, CorrelationRule::CorrelationHeader),
        ([SESSION; 2], Config::default(), CorrelationRule::SessionId),
        (
            ["X-None: 1", "P-Asserted-Identity: <sip:+79990000001@10.0.0.9>"],
            Config::default(),
            CorrelationRule::OnwardOne,
        ),
    ];

    for (headers, config, rule) in cases {
        let mut calls = TwoCalls::new(headers);
        let played = calls.play(&config);
        let record = &call_of(&played, &calls.office.scene, calls.a).record;
        assert_eq!(
            (joined_by(record), record.internal.as_deref()),
            (vec![None, Some(rule)], Some("200")),
            "{headers:?}"
        );
        assert_eq!((record.from.as_deref(), played.calls.len()), (Some(OUTSIDE), 3), "strangers stay apart");
    }
}
