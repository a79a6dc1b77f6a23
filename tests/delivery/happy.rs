//! Nothing goes wrong.

use callspan::fake_pyrus::Options;

use crate::world::{World, unanswered};

#[test]
fn a_recorded_call_takes_one_auth_one_call_one_upload_and_one_attach() {
    let world = World::new(Options::default());
    let summary = world.deliver([world.recorded("a")]);
    assert_eq!((summary.done, summary.owed), (1, 0), "{summary:?}");
    assert_eq!(world.requests(), [1, 1, 1, 1]);
    world.assert_delivered_once("a");
    world.assert_no_violations();
    let fields = &world.fake.state().tasks[0].fields;
    let field = |code: &str| fields.get(code).map(String::as_str);
    assert_eq!(field("CallStartTime"), Some("2021-12-23T00:11:32Z"));
    assert_eq!(field("CallEndTime"), Some("2021-12-23T00:24:07Z")); // 755 s later
    assert_eq!(field("CallDuration"), Some("750"));
    assert_eq!(field("PhoneNumberFrom"), Some("+79774221338"));
    assert_eq!(field("PhoneNumberTo"), Some("+74953009080"));
}

#[test]
fn a_second_delivery_of_the_same_call_sends_nothing() {
    let world = World::new(Options::default());
    world.deliver([world.recorded("a"), unanswered("b")]);
    assert_eq!(world.requests(), [1, 2, 1, 1]);
    let summary = world.deliver([world.recorded("a"), unanswered("b")]);
    assert_eq!((summary.done, summary.already, summary.owed), (0, 2, 0));
    assert_eq!(world.requests(), [1, 2, 1, 1]);
    world.assert_no_violations();
}
