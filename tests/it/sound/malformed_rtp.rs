//! Tests of unusual RTP with which other recorders fail: packet times, timestamps, markers, SSRCs, headers, payload
//! types and comfort noise. Both voices must be at their positions, and no sound may be missing.

use callspan::call::config::Config;
use callspan::call::record::{CallVerdict, Side};

use crate::sound::score::{PacketFate, SpokenSide, score};
use crate::support::phones::{
    EngineWithSpool, MirroredTraffic, RecordedCall, RtpPacket, SentDatagram, at_ms, describe, media, record, voice,
};

fn both() -> [SpokenSide; 2] {
    [SpokenSide::new(Side::Caller), SpokenSide::new(Side::Callee)]
}

/// Returns a call in which both sides talk from 1 s to 9 s. Before that, `before` changes the senders.
fn talked(before: impl Fn(&mut [SpokenSide; 2])) -> (MirroredTraffic, [SpokenSide; 2]) {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    before(&mut talks);
    for talk in &mut talks {
        talk.run(&mut wire, (1_020.0, 9_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(9_150.0);
    (wire, talks)
}

#[track_caller]
fn assert_heard(name: &str, recorded: &RecordedCall, talks: &[SpokenSide; 2]) {
    assert_eq!(recorded.record.verdict, Some(CallVerdict::BothSides), "{name}");
    for talk in talks {
        let side = talk.phone.side;
        let score = score(recorded, talk, 1);
        assert!(score.offsets.len() >= 20, "{name}, {side:?}: {} pieces are enough", score.offsets.len());
        assert!(score.worst() <= 2.0 && score.spread() <= 2.0, "{name}, {side:?}: {score:?}");
        assert!(score.missing_ms <= score.lost_ms, "{name}, {side:?}: missing {}", score.missing_ms);
        assert!(score.leakage_db() <= -30.0, "{name}, {side:?}: leakage {} dB", score.leakage_db());
    }
}

/// Changes each media packet by `change`. Its second argument is the index of the packet.
fn each_packet(wire: &mut MirroredTraffic, change: impl Fn(&mut SentDatagram, usize)) {
    let is_media = |p: &&mut SentDatagram| [media(Side::Caller), media(Side::Callee)].contains(&p.src);
    wire.packets.iter_mut().filter(is_media).enumerate().for_each(|(n, packet)| change(packet, n));
}

#[test]
fn packets_of_10_to_200_ms_are_all_heard_in_place() {
    for ptime_ms in [10, 20, 25, 40, 50, 100, 200] {
        let (wire, talks) = talked(|talks| talks[1].phone.ptime_ms = ptime_ms);
        let recorded = record(wire);
        assert_heard(&format!("{ptime_ms} ms"), &recorded, &talks);
        let stream = &recorded.record.sides.callee.streams[0];
        assert_eq!((stream.ptime_ms, stream.lost), (Some(f64::from(ptime_ms)), 0));
    }
    // These packet times do not divide the 200 ms of a compared piece. So each packet is compared for itself.
    for ptime_ms in [30, 60, 120] {
        let (wire, talks) = talked(|talks| talks[1].phone.ptime_ms = ptime_ms);
        assert_each_packet(&format!("{ptime_ms} ms"), &record(wire), &talks[1]);
    }
}

#[test]
fn packets_whose_length_changes_all_the_time_are_heard_in_place() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    let mut now = 1_020.0;
    for n in 0..200 {
        talks[0].phone.ptime_ms = [20, 10, 60, 30, 120, 40][n % 6];
        talks[0].packet(&mut wire, now, PacketFate::default());
        now += f64::from(talks[0].phone.ptime_ms);
    }
    talks[1].run(&mut wire, (1_020.0, now), 0.0, |_| PacketFate::default());
    wire.bye(now + 10.0);
    let recorded = record(wire);
    // 10 ms is the shortest packet that can be found in the recording.
    talks[0].phone.ptime_ms = 10;
    assert_each_packet("changing", &recorded, &talks[0]);
    assert_each_packet("steady", &recorded, &talks[1]);
    assert_eq!(recorded.record.sides.caller.concealed_ms, Some(0));
}

/// Checks that the sound of each packet is at its position, to two samples.
#[track_caller]
fn assert_each_packet(name: &str, recorded: &RecordedCall, talk: &SpokenSide) {
    let length = talk.phone.samples() as usize;
    for said in &talk.said {
        let place = ((said.heard_ms - 1_000.0) * 8.0).round() as usize;
        let likeness = |lag: usize| -> f64 {
            let heard = |n: usize| f64::from(recorded.frames[place + n + lag - 2][talk.phone.side.channel()]);
            let said = |n: usize| f64::from(voice(talk.phone.side, said.sample + n as u64));
            let dot =
                |a: &dyn Fn(usize) -> f64, b: &dyn Fn(usize) -> f64| (0..length).map(|n| a(n) * b(n)).sum::<f64>();
            dot(&said, &heard) / (dot(&said, &said) * dot(&heard, &heard)).sqrt().max(1.0)
        };
        let best = (0..=4).map(likeness).fold(0.0, f64::max);
        assert!(best > 0.98, "{name}: the packet of {} ms is not there: {best:.2}", said.heard_ms);
    }
}

#[test]
fn a_marker_on_every_packet_means_nothing() {
    let (mut wire, talks) = talked(|_| {});
    each_packet(&mut wire, |packet, _| packet.payload[1] |= 0x80);
    assert_heard("markers", &record(wire), &talks);
}

#[test]
fn one_ssrc_on_both_sides_is_two_voices() {
    let (wire, talks) = talked(|talks| talks.iter_mut().for_each(|talk| talk.phone.ssrc = 0xDEAD_BEEF));
    assert_heard("one SSRC", &record(wire), &talks);
}

#[test]
fn header_extensions_contributing_sources_and_padding_are_no_sound() {
    let (mut wire, talks) = talked(|_| {});
    each_packet(&mut wire, |packet, n| {
        let (csrcs, words, padding) = (n % 16, n % 5, n % 37);
        packet.payload[0] |= csrcs as u8;
        let mut more = vec![0x11; 4 * csrcs];
        if n % 3 > 0 {
            packet.payload[0] |= 0x10;
            // A header extension in the one-byte form (RFC 8285), or in an unknown form.
            more.extend(if n % 3 == 1 { [0xBE, 0xDE, 0, words as u8] } else { [0x12, 0x34, 0, words as u8] });
            more.extend((0..words).flat_map(|_| [0x10, 0x7F, 0, 0]));
        }
        packet.payload.splice(12..12, more);
        if padding > 0 {
            packet.payload[0] |= 0x20;
            packet.payload.extend(std::iter::repeat_n(0xAA, padding - 1));
            packet.payload.push(padding as u8);
        }
    });
    let recorded = record(wire);
    assert_heard("headers", &recorded, &talks);
    assert!(recorded.record.problems.is_empty(), "{:?}", recorded.record.problems);
}

#[test]
fn the_newer_of_two_streams_is_heard_until_it_ends() {
    let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
    talks[0].run(&mut wire, (1_020.0, 15_000.0), 0.0, |_| PacketFate::default());
    talks[1].run(&mut wire, (1_020.0, 15_000.0), 0.0, |_| PacketFate::default());
    // For some time the PBX sends music from the telephone's address, with a clock of its own. The music is a later
    // part of the callee's noise, from minute 10 on.
    let mut music = SpokenSide::new(Side::Callee);
    (music.phone.ssrc, music.phone.sequence, music.phone.time, music.phone.said) = (0x5555, 9, 77, 4_800_000);
    music.run(&mut wire, (6_007.0, 10_007.0), 0.0, |_| PacketFate::default());
    wire.bye(15_050.0);
    let recorded = record(wire);
    talks[1].said.retain(|said| said.heard_ms < 5_990.0 || said.heard_ms > 10_010.0);
    assert_heard("around the music", &recorded, &talks);
    let score = score(&recorded, &music, 1);
    assert!(score.offsets.len() == 20 && score.worst() <= 2.0 && score.missing_ms == 0.0, "{score:?}");
    assert_eq!(recorded.record.sides.callee.streams.len(), 2);
}

#[test]
fn a_payload_type_reassigned_by_a_reinvite_decodes_with_its_new_codec() {
    let lines = |side, codec: &str| describe(side, &format!("RTP/AVP 96\r\na=rtpmap:96 {codec}/8000"));
    let (mut wire, mut talks) = (MirroredTraffic::default(), both());
    wire.offer(0.0, &lines(Side::Caller, "PCMU"));
    wire.accept(1_000.0, &lines(Side::Callee, "PCMU"));
    // The same voice is sent as payload type 96.
    for (talk, pt) in talks.iter_mut().flat_map(|talk| [(talk, 0)]) {
        talk.phone.pt = pt;
        talk.run(&mut wire, (1_020.0, 6_000.0), 0.0, |_| PacketFate::default());
    }
    wire.offer(6_000.0, &lines(Side::Caller, "PCMA"));
    wire.accept(6_010.0, &lines(Side::Callee, "PCMA"));
    for talk in &mut talks {
        talk.phone.pt = 8;
        talk.rest(100.0);
        talk.run(&mut wire, (6_100.0, 12_000.0), 0.0, |_| PacketFate::default());
    }
    wire.bye(12_010.0);
    each_packet(&mut wire, |packet, _| packet.payload[1] = 96);
    let recorded = record(wire);
    assert_heard("type 96", &recorded, &talks);
    assert_eq!(recorded.record.sides.caller.codecs, ["PCMU", "PCMA"]);
}

#[test]
fn comfort_noise_of_any_length_moves_nothing() {
    for payload in [&[][..], &[60], &[60; 11], &[0xFF; 160], &[0; 500]] {
        let (mut wire, mut talks) = (MirroredTraffic::answered(), both());
        for talk in &mut talks {
            talk.run(&mut wire, (1_020.0, 4_000.0), 0.0, |_| PacketFate::default());
            for n in 0..5 {
                let phone = &mut talk.phone;
                let noise = RtpPacket { pt: 13, sequence: phone.sequence, time: phone.time, ssrc: phone.ssrc, payload };
                wire.rtp(at_ms(4_000.0 + 200.0 * f64::from(n)), phone.side, noise);
                phone.sequence = phone.sequence.wrapping_add(1);
                talk.rest(200.0);
            }
            talk.run(&mut wire, (5_000.0, 9_000.0), 0.0, |_| PacketFate::default());
        }
        wire.bye(9_010.0);
        let recorded = record(wire);
        assert_heard(&format!("{} bytes", payload.len()), &recorded, &talks);
        // The level is -60 dBov or lower (0xFF is 127). An impossible level of 0 is reduced to -30 dBov.
        let loudest = recorded.frames[3_100 * 8..3_990 * 8].iter().flatten().map(|s| s.unsigned_abs()).max().unwrap();
        assert!(loudest <= if payload.starts_with(&[0]) { 1_900 } else { 60 }, "{} bytes: {loudest}", payload.len());
    }
}

#[test]
fn packets_that_a_card_joined_are_each_heard_in_place() {
    let (mut wire, mut talks) = talked(|talks| talks[1].phone.pt = 8);
    let mut packets = std::mem::take(&mut wire.packets);
    // Two packets of the caller, and four of the callee, are joined and arrive when the last of them is sent.
    for (side, count) in [(Side::Caller, 2), (Side::Callee, 4)] {
        let (mine, others): (Vec<SentDatagram>, Vec<SentDatagram>) =
            packets.into_iter().partition(|p| p.src == media(side));
        packets = others;
        packets.extend(mine.chunks(count).map(|group| {
            let payload = group.iter().flat_map(|p| p.payload.clone()).collect();
            SentDatagram { payload, ..group[group.len() - 1].clone() }
        }));
    }
    wire.packets = packets;
    let recorded = record(wire);
    // The first packets arrive before the first datagram that joins several packets, so their lag is smaller.
    talks.iter_mut().for_each(|talk| talk.said.retain(|said| said.heard_ms > 1_100.0));
    assert_heard("joined", &recorded, &talks);
    for side in [&recorded.record.sides.caller, &recorded.record.sides.callee] {
        assert_eq!((side.packets, side.lost, side.concealed_ms), (399, 0, Some(0)));
    }
    assert!(recorded.record.problems.is_empty(), "{:?}", recorded.record.problems);
}

#[test]
fn excess_media_without_a_call_is_counted_and_harmless() {
    let (wire, talks) = talked(|_| {});
    let mut packets = wire.sorted();
    // 60,000 packets arrive within a second from hosts that no SIP message names. The engine keeps 50,000 of them.
    let noise = (0..60_000).map(|n: u32| {
        let host = |last| callspan::net::Endpoint::v4([192, 0, 2, last], 10_000 + (n % 1_000) as u16);
        let mut payload = vec![0x80, 0];
        payload.extend(n.to_be_bytes().repeat(3).iter().take(10));
        SentDatagram { at: at_ms(4_000.0 + f64::from(n) / 60.0), src: host(1), dst: host(2), payload }
    });
    packets.extend(noise);
    packets.sort_by_key(|p| p.at);
    let mut stage = EngineWithSpool::new(Config::default());
    stage.play(&packets);
    let counters = *stage.engine.counters();
    assert_eq!((counters.rtp_unclaimed, counters.rtp_not_kept), (60_000, 10_000));
    let told = callspan::ops::drops::DropCounters::of(&Default::default(), &counters).to_string();
    assert_eq!(told, "10000 RTP packets of no known call dropped (too many at once)");
    assert_heard("beside a flood", &stage.finish(), &talks);
}
