//! Tests with several RTP sources on one port: silence beside a voice, a new SSRC for each prompt, video.

use callspan::call::config::Config;
use callspan::call::engine::EngineLimits;
use callspan::call::record::{ProblemKind, Side};
use callspan::net::Endpoint;
use fastrand::Rng;

use super::builder::{CodedVoice, FieldCall, FieldPacket, assert_none, seeds, with_pt};
use super::setting::{CallNetwork, CallSetting};
use crate::sound::restart::{ProcessEnd, go_on, hear, leave, split};
use crate::support::phones::EngineWithSpool;

#[test]
fn silence_of_a_second_stream_does_not_cover_the_voice() {
    let mut wrong = Vec::new();
    for seed in seeds(10) {
        let mut random = Rng::with_seed(4_000 + seed);
        let (name, silence) = random
            .choice([
                ("pcmu", vec![0xFF; 160]),
                ("pcmu", vec![0x7F; 160]),
                ("pcmu", [0xFF, 0xFE].repeat(80)),
                ("pcma", vec![0xD5; 160]),
                ("pcma", vec![0x55; 160]),
                ("opus", silent_opus()),
                // Quiet noise of -65 dBm0.
                ("pcmu", [0xFF, 0xFD, 0x7E, 0xFC, 0x7D].repeat(32)),
                ("pcma", [0xD5, 0xD4, 0x57, 0x54, 0xD7].repeat(32)),
            ])
            .unwrap();
        let (voice, setting, pt) = (CodedVoice::fixture(name), CallSetting::random(&mut random), 96);
        let line = format!("RTP/AVP {pt}\r\n{}", voice.lines(pt, ""));
        let mut call = FieldCall::answered(&line, &line).within(setting);
        let side = if random.bool() { Side::Caller } else { Side::Callee };
        // The silent stream begins before or after the voice.
        let (from_ms, seconds) = (1_052.0 + random.f64() * 2_500.0 - 500.0, random.u32(1..4));
        let still = |random: &mut Rng| -> Vec<FieldPacket> {
            let mut still = with_pt(voice.packets(from_ms, seconds, 0, random), pt);
            still.iter_mut().for_each(|packet| packet.payload = silence.clone());
            still
        };
        for (of, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send(of, &with_pt(voice.packets(1_050.0, 4, start, &mut random), pt));
            if of == side {
                call.send_unheard(of, &still(&mut random));
            }
        }
        let name =
            format!("seed {seed}: {:x?} of {side:?} from {from_ms:.0} ms for {seconds} s, {setting:?}", &silence[..2]);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn voice_from_an_unannounced_host_does_not_cover_the_announced_voice() {
    let mut wrong = Vec::new();
    for seed in seeds(6) {
        let mut random = Rng::with_seed(4_500 + seed);
        let (voice, other) = (CodedVoice::random(&mut random, &["pcmu", "pcma", "g722"]), random.u32(..));
        let setting = CallSetting { network: CallNetwork::Ipv4, ..CallSetting::random(&mut random) };
        let mut call = FieldCall::of(&voice).within(setting);
        let side = if random.bool() { Side::Caller } else { Side::Callee };
        let (from_ms, seconds) = (1_052.0 + random.f64() * 2_500.0 - 500.0, random.u32(1..4));
        for (of, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            call.send(of, &voice.packets(1_050.0, 4, start, &mut random));
        }
        let mut foreign = voice.packets(from_ms.max(1_050.0), seconds, 30, &mut random);
        foreign.iter_mut().for_each(|packet| packet.ssrc = other);
        let first = call.wire.packets.len();
        call.send_unheard(side, &foreign);
        for datagram in &mut call.wire.packets[first..] {
            datagram.src = Endpoint::v4([10, 0, 7, 7], 30_000);
        }
        let name = format!("seed {seed}: {side:?} from {from_ms:.0} ms for {seconds} s, {setting:?}");
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

/// Returns an Opus packet with 20 ms of silence.
fn silent_opus() -> Vec<u8> {
    let mut encoder = opus::Encoder::new(48_000, opus::Channels::Mono, opus::Application::Voip).unwrap();
    encoder.encode_vec(&[0; 960], 1_500).unwrap()
}

#[test]
fn new_ssrc_per_prompt_and_video_on_one_port_lose_nothing() {
    let mut wrong = Vec::new();
    for seed in seeds(6) {
        let mut random = Rng::with_seed(5_000 + seed);
        let voice = CodedVoice::random(&mut random, &["pcmu", "pcma", "opus", "g729", "amr", "gsm", "speex_wb"]);
        // A decoder that depends on earlier packets cannot begin in the middle of a voice. So only PCM changes its SSRC
        // often.
        let is_stateless = voice.rtpmap.starts_with("PCM");
        let each = if is_stateless { *random.choice(&[1, 2, 4, 25]).unwrap() } else { 500 };
        let has_video = each == 500 || random.bool();
        let (keeps_sequence, keeps_time) = (random.bool(), random.bool());
        let setting = CallSetting::random(&mut random);
        let mut call = FieldCall::of(&voice).within(setting);
        for (side, start) in [(Side::Caller, 0), (Side::Callee, 20)] {
            let mut packets = voice.packets(1_050.0, 4, start, &mut random);
            for (n, packet) in (0_u32..).zip(&mut packets) {
                let source = (n / each).wrapping_mul(0x9E37_79B1) ^ side.channel() as u32;
                packet.ssrc = source;
                packet.sequence = packet.sequence.wrapping_add(if keeps_sequence { 0 } else { source as u16 });
                packet.time = packet.time.wrapping_add(if keeps_time { 0 } else { source });
            }
            call.send(side, &packets);
            if has_video {
                call.send_unheard(side, &video(&voice, &mut random));
            }
        }
        let name = format!("seed {seed}: {}, {each} a source, video {has_video}, {setting:?}", voice.rtpmap);
        wrong.extend(call.faults(&name, 5_200.0, &[]));
    }
    assert_none(&wrong);
}

#[test]
fn more_sources_than_a_leg_keeps_leave_nothing_silent() {
    let mut random = Rng::with_seed(6_000);
    let (voice, line) = (CodedVoice::fixture("pcmu"), "RTP/AVP 0\r\n");
    let mut call = FieldCall::answered(line, line);
    // A leg keeps at most 4,096 streams. In 94 s there are 4,700 packets of 20 ms, each with an SSRC of its own.
    let mut packets = with_pt(voice.packets(1_050.0, 94, 0, &mut random), 0);
    for (n, packet) in (0_u32..).zip(&mut packets) {
        packet.ssrc = n.wrapping_mul(0x9E37_79B1);
        (packet.sequence, packet.time) = (random.u16(..), random.u32(..));
    }
    call.send(Side::Caller, &packets);
    call.send(Side::Callee, &with_pt(voice.packets(1_060.0, 94, 20, &mut random), 0));
    let (record, _) = call.clone().scores(95_200.0);
    assert_eq!((record.sides.caller.packets, record.sides.caller.streams.len()), (4_700, 4_095));
    assert!(record.problems.is_empty(), "{:?}", record.problems);
    assert_none(&call.faults("a source for each packet", 95_200.0, &[]));
}

#[test]
fn sources_that_continued_a_stream_are_heard_after_a_restart() {
    let mut random = Rng::with_seed(6_050);
    let (voice, line) = (CodedVoice::fixture("pcmu"), "RTP/AVP 0\r\n");
    let mut call = FieldCall::answered(line, line);
    let mut packets = with_pt(voice.packets(1_050.0, 130, 0, &mut random), 0);
    // The source `first` sends each tenth packet of the whole call. The other packets have SSRCs of their own, so the
    // leg is full after about 4,550. Then the source `later` sends seven of ten packets.
    let [first, later] = [1, 2];
    for (n, packet) in (0_u32..).zip(&mut packets) {
        packet.ssrc = match n % 10 {
            0 => first,
            1..=7 if n >= 4_600 => later,
            // For six seconds after the restart there is no new source, because the engine does not know yet which
            // streams have ended.
            _ if (100_000.0..106_000.0).contains(&packet.at_ms) => later,
            _ => 0x8000_0000 | n,
        };
        if packet.ssrc > later {
            (packet.sequence, packet.time) = (random.u16(..), random.u32(..));
        }
    }
    for source in [first, later] {
        let of_source = packets.iter_mut().filter(|packet| packet.ssrc == source);
        (0..).zip(of_source).for_each(|(n, packet)| packet.sequence = n);
    }
    let of_first = packets.iter().filter(|packet| packet.ssrc == first).count() as u64;
    call.send(Side::Caller, &packets);
    call.send(Side::Callee, &with_pt(voice.packets(1_060.0, 130, 20, &mut random), 0));
    let (record, scores) = call.scores_of(131_200.0, |wire| {
        let (before, rest) = split(&wire.sorted(), 100_000.0);
        go_on(leave(&before, ProcessEnd::InOrder, hear).path(), &rest)
    });
    // The source `first` keeps its stream after the restart, although only a small part of the spool is read.
    let stream = record.sides.caller.streams.iter().find(|stream| stream.ssrc == format!("{first:#010x}"));
    assert_eq!(stream.map(|stream| stream.packets), Some(of_first));
    assert!(record.problems.iter().all(|problem| problem.kind != ProblemKind::StreamsRefused), "{:?}", record.problems);
    for (n, score) in scores.iter().enumerate() {
        assert!(score.faults().is_empty(), "side {n}: {:?}", score.faults());
    }
}

#[test]
fn copies_of_a_stream_are_not_sought_in_its_replacement() {
    let mut random = Rng::with_seed(6_080);
    let (voice, line) = (CodedVoice::fixture("pcmu"), "RTP/AVP 0\r\n");
    let mut call = FieldCall::answered(line, line);
    let packets = with_pt(voice.packets(1_050.0, 12, 0, &mut random), 0);
    let sent_until = |until_ms: f64| packets.iter().filter(move |packet| packet.at_ms < until_ms).cloned();
    // The mirror shows the voice twice: before a NAT for one second, and behind the NAT all the time.
    let before_nat: Vec<FieldPacket> = sent_until(2_050.0).collect();
    // Later a relay sends the same voice on the first flow, with another SSRC.
    let relayed = packets.iter().filter(|packet| packet.at_ms >= 8_000.0).cloned();
    let relayed: Vec<FieldPacket> = relayed.map(|packet| FieldPacket { ssrc: !packet.ssrc, ..packet }).collect();
    call.send_unheard(Side::Caller, &before_nat);
    call.send_unheard(Side::Caller, &relayed);
    let first = call.wire.packets.len();
    let behind_nat = packets.iter().map(|packet| FieldPacket { at_ms: packet.at_ms + 0.2, ..packet.clone() });
    call.send_unheard(Side::Caller, &behind_nat.collect::<Vec<_>>());
    call.wire.packets[first..].iter_mut().for_each(|packet| packet.src = Endpoint::v4([192, 0, 2, 7], 4000));
    call.wire.bye(13_200.0);
    // The engine has room for two streams only. So the relay's packets continue the stream from before the NAT.
    let mut stage =
        EngineWithSpool::with_limits(Config::default(), EngineLimits { rtp_streams: 2, ..Default::default() });
    stage.play(&call.wire.sorted());
    assert_eq!(stage.engine.counters().rtp_duplicates, before_nat.len() as u64);
    assert_eq!(stage.engine.counters().rtp_packets, (packets.len() + relayed.len()) as u64);
}

#[test]
fn sources_that_find_no_room_are_named_in_the_record() {
    let mut random = Rng::with_seed(6_100);
    let (voice, line) = (CodedVoice::fixture("pcmu"), "RTP/AVP 0\r\n");
    let mut call = FieldCall::answered(line, line);
    // A flood: two thousand sources a second. When the leg is full, no stream has been silent long enough to be
    // replaced.
    for side in [Side::Caller, Side::Callee] {
        let mut packets = with_pt(voice.packets(1_050.0, 100, 0, &mut random), 0);
        for (n, packet) in (0_u32..).zip(&mut packets) {
            (packet.at_ms, packet.ssrc) = (1_050.0 + f64::from(n), n.wrapping_mul(0x9E37_79B1));
        }
        call.send_unheard(side, &packets);
    }
    let record = call.scores(6_500.0).0;
    let refused = record.problems.iter().find(|problem| problem.kind == ProblemKind::StreamsRefused);
    assert_eq!(refused.and_then(|problem| problem.packets), Some(10_000 - 4_096), "{:?}", record.problems);
}

/// Returns video packets. The fragments of a picture have the same timestamp, and half of them are lost.
fn video(like: &CodedVoice, random: &mut Rng) -> Vec<FieldPacket> {
    let mut video = with_pt(like.packets(1_051.0, 4, 0, random), 97);
    for (n, packet) in video.iter_mut().enumerate() {
        (packet.sequence, packet.time) = (n as u16 * 2, n as u32 / 3 * 3_000);
        let bytes = random.usize(100..1_100);
        packet.payload = std::iter::repeat_with(|| random.u8(..)).take(bytes).collect();
    }
    video
}
