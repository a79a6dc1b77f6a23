//! Tests of delivery without faults, for each variant of undocumented Pyrus behaviour.

use callspan::call::record::CallDirection;
use callspan::delivery::{CallProgress, CallUpdate, DeliveryConsent};
use callspan::fake_pyrus::{
    AttachOkBody, FakeEndpoint, FakeOptions, IdStyle, Md5Case, PyrusMode, ResponsibleEmpty, TaskPolicy, UrlSlash,
};
use callspan::pyrus::config::UploadVia;

use crate::delivery::world::{DeliveryFixture, part, unanswered};

#[test]
fn a_recorded_call_takes_one_request_of_each_kind() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let summary = world.deliver([world.recorded("a")]);
    assert_eq!((summary.done, summary.owed), (1, 0), "{summary:?}");
    assert_eq!(world.requests(), [1, 1, 1, 1]);
    world.assert_delivered_once("a");
    world.assert_no_violations();
    let fields = &world.fake.state().tasks[0].fields;
    let field = |code: &str| fields.get(code).map(String::as_str);
    assert_eq!(field("CallStartTime"), Some("2021-12-23T00:11:32Z"));
    assert_eq!(field("CallEndTime"), Some("2021-12-23T00:24:07Z")); // the call has 755 s
    assert_eq!(field("CallDuration"), Some("750"));
    assert_eq!(field("PhoneNumberFrom"), Some("+79774221338"));
    assert_eq!(field("PhoneNumberTo"), Some("200"), "the operator: the extension that answered");
}

#[test]
fn a_second_delivery_of_the_same_call_sends_nothing() {
    let world = DeliveryFixture::new(FakeOptions::default());
    world.deliver([world.recorded("a"), unanswered("b")]);
    assert_eq!(world.requests(), [1, 2, 1, 1]);
    let summary = world.deliver([world.recorded("a"), unanswered("b")]);
    assert_eq!((summary.done, summary.already, summary.owed), (0, 2, 0));
    assert_eq!(world.requests(), [1, 2, 1, 1]);
    world.assert_no_violations();
}

#[test]
fn an_unanswered_call_is_registered_and_owes_no_upload() {
    let world = DeliveryFixture::new(FakeOptions::default());
    assert_eq!(world.deliver([unanswered("a")]).done, 1);
    assert_eq!(world.requests(), [1, 1, 0, 0]);
    let call = &world.fake.state().calls[0];
    assert_eq!((call.from.as_str(), call.to.as_str()), ("+79774221338", "+74953009080"));
    assert_eq!(call.internal.as_deref(), Some("200"));
}

#[test]
fn twenty_calls_at_a_cold_start_share_one_token() {
    let world = DeliveryFixture::new(FakeOptions { task_policy: TaskPolicy::AlwaysNew, ..FakeOptions::default() });
    let calls: Vec<CallUpdate> = (0..20).map(|n| world.recorded(&format!("call{n:02}"))).collect();
    assert_eq!(world.deliver(calls).done, 20);
    assert_eq!(world.requests(), [1, 20, 20, 20]);
    for n in 0..20 {
        world.assert_delivered_once(&format!("call{n:02}"));
    }
    world.assert_no_violations();
}

#[test]
fn a_live_call_is_registered_while_ringing_and_completed_at_its_end() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let whole = world.recorded("a");
    let mut live = whole.clone();
    live.progress = CallProgress::Live;
    live.record.recordings.clear();
    live.record.ended_at = None;
    live.record.duration_s = None;
    live.record.answered_at = None;
    let handle = world.start();
    handle.send_update(live);
    world.wait_for(FakeEndpoint::Call, 1);
    assert_eq!(world.fake.state().tasks[0].fields.get("CallEndTime"), None);
    handle.send_update(CallUpdate { progress: CallProgress::Ended, ..live_without_sound(&whole) });
    handle.send_update(whole);
    assert_eq!(handle.run_until_settled(crate::delivery::world::PATIENCE).done, 1);
    assert_eq!(world.requests(), [1, 1, 1, 1]);
    world.assert_delivered_once("a");
    world.assert_no_violations();
}

fn live_without_sound(whole: &CallUpdate) -> CallUpdate {
    let mut update = whole.clone();
    update.record.recordings.clear();
    update
}

#[test]
fn all_segments_of_a_call_are_attached_in_order_to_one_task() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let mut call = world.recorded("a");
    let second = world.wav("second", 50_000);
    call.record.recordings.push(part(2, &second));
    assert_eq!(world.deliver([call]).done, 1);
    assert_eq!(world.requests(), [1, 1, 2, 2]);
    let state = world.fake.state();
    let names: Vec<&str> = state.tasks[0].attachments.iter().map(|a| a.name.as_str()).collect();
    assert_eq!(names, ["a.wav", "a-2.wav"]);
    assert_eq!(state.tasks.len(), 1);
    world.assert_no_violations();
}

#[test]
fn calls_that_the_configuration_leaves_out_are_not_sent() {
    let mut world = DeliveryFixture::new(FakeOptions::default());
    world.config.unanswered = false;
    let mut internal = world.recorded("internal");
    internal.record.direction = CallDirection::Internal;
    let mut forbidden = world.recorded("forbidden");
    forbidden.consent = DeliveryConsent::Forbidden;
    let summary = world.deliver([unanswered("missed"), internal, forbidden]);
    assert_eq!((summary.done, summary.owed), (0, 0));
    assert_eq!(world.requests(), [0, 0, 0, 0]);
}

#[test]
fn headers_fill_fields_and_a_withheld_caller_has_one_text() {
    let mut options = FakeOptions::default();
    options.accounts[0].allowed_codes.push("Queue".into());
    let mut world = DeliveryFixture::new(options);
    world.config.mappings = [(String::from("Queue"), String::from("X-Queue"))].into();
    let mut call = world.recorded("a");
    call.record.from = Some("anonymous".into());
    call.record.headers = [(String::from("x-queue"), "я".repeat(400)), (String::from("X-Other"), "no".into())].into();
    assert_eq!(world.deliver([call]).done, 1);
    let state = world.fake.state();
    assert_eq!(state.tasks[0].fields["Queue"].chars().count(), 300); // "300 symbols max"
    assert_eq!(state.tasks[0].fields["PhoneNumberFrom"], "anonymous");
    assert_eq!(state.calls[0].from, "anonymous");
    world.assert_no_violations();
}

#[test]
fn an_outbound_call_keeps_its_direction_and_names_the_outside_party() {
    let world = DeliveryFixture::new(FakeOptions::default());
    let mut call = world.recorded("a");
    call.record.direction = CallDirection::Outbound;
    (call.record.from, call.record.to) = (Some("200".into()), Some("+79774221338".into()));
    world.deliver([call]);
    let state = world.fake.state();
    assert_eq!((state.calls[0].from.as_str(), state.calls[0].to.as_str()), ("200", "+79774221338"));
    assert_eq!(state.tasks[0].fields["PhoneNumberFrom"], "+79774221338");
    assert_eq!(state.tasks[0].fields["PhoneNumberTo"], "200");
}

#[test]
fn every_open_question_about_pyrus_may_be_answered_either_way() {
    let base = || FakeOptions::default();
    let variants = [
        FakeOptions { attach_ok_body: AttachOkBody::Empty, ..base() },
        FakeOptions { attach_ok_body: AttachOkBody::Null, ..base() },
        FakeOptions { attach_ok_body: AttachOkBody::TaskId, ..base() },
        FakeOptions { id_style: IdStyle::String, ..base() },
        FakeOptions { id_style: IdStyle::Mixed, ..base() },
        FakeOptions { responsible_empty: ResponsibleEmpty::Null, people: Vec::new(), ..base() },
        FakeOptions { responsible_empty: ResponsibleEmpty::Object, people: Vec::new(), ..base() },
        FakeOptions { md5_case: Md5Case::Upper, ..base() },
        FakeOptions { url_slash: UrlSlash::None, ..base() },
        FakeOptions { split_hosts: false, ..base() },
        FakeOptions { split_hosts: false, mode: PyrusMode::Onprem, ..base() },
        FakeOptions { attach_requires_account: false, ..base() },
    ];
    for options in variants {
        let world = DeliveryFixture::new(options.clone());
        assert_eq!(world.deliver([world.recorded("a")]).done, 1, "{options:?}");
        assert_eq!(world.requests(), [1, 1, 1, 1], "{options:?}");
        world.assert_delivered_once("a");
        world.assert_no_violations();
    }
}

#[test]
fn the_upload_may_be_told_to_go_through_the_api_host() {
    for via in [UploadVia::Api, UploadVia::Files] {
        let mut world = DeliveryFixture::new(FakeOptions::default());
        world.config.upload_via = via;
        assert_eq!(world.deliver([world.recorded("a")]).done, 1);
        world.assert_delivered_once("a");
        world.assert_no_violations();
    }
}
