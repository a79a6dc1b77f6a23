//! The scenario builder: telephones, PBXs, their SIP messages and their voices.
//!
//! A [`Scene`] has its own clock. Each step writes the messages of one exchange, [`STEP_MS`] apart, and advances the
//! clock. A voice sounds different in each slot of 200 ms. So [`RecordedChannel::judge`] can find which voice is heard
//! where and when.

use std::collections::HashMap;
use std::fmt::Write as _;

use callspan::call::record::Side;
use callspan::decode::UdpDatagram;
use callspan::net::Endpoint;
use callspan::time::Timestamp;

/// Capture time of millisecond 0 of every scene: 2026-11-23T07:00:00Z.
pub const T0: Timestamp = Timestamp::from_secs(1_795_417_200);
/// Time from one message of an exchange to the next.
pub const STEP_MS: i64 = 10;
/// Duration of the sound in an RTP packet.
pub const PTIME_MS: i64 = 20;
/// Duration of a slot, in which a voice sounds the same.
pub const SLOT_MS: i64 = 200;

/// One UDP datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScenePacket {
    pub at: Timestamp,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub payload: Vec<u8>,
}

impl ScenePacket {
    pub fn datagram(&self) -> UdpDatagram<'_> {
        let wire_len = self.payload.len() as u32;
        UdpDatagram { at: self.at, src: self.src, dst: self.dst, payload: &self.payload, wire_len, interface: 0 }
    }
}

/// A SIP user agent: a telephone with one dialog, or a PBX with many.
#[derive(Clone, Debug)]
pub struct ScenePhone {
    pub user: String,
    pub name: Option<String>,
    pub sip: Endpoint,
    /// Voice of the user agent, 0 to 7.
    pub voice: u8,
    /// Port of the next media address.
    pub next_port: u16,
}

impl ScenePhone {
    /// Returns a phone with the number `user` on the host 10.0.0.`host`. Its voice has the number `host`, too.
    pub fn new(user: &str, host: u8) -> Self {
        Self { user: user.to_owned(), name: None, sip: ip(host, 5060), voice: host % 8, next_port: 10_000 }
    }

    pub fn named(mut self, name: &str) -> Self {
        self.name = Some(name.to_owned());
        self
    }

    /// Returns the next free media address.
    pub fn media(&mut self) -> Endpoint {
        let port = self.next_port;
        self.next_port += 2;
        self.sip.with_port(port)
    }
}

/// Returns the endpoint with the address 10.0.0.`host` and a port.
pub fn ip(host: u8, port: u16) -> Endpoint {
    Endpoint::v4([10, 0, 0, host], port)
}

/// Returns the capture time of a millisecond of a scene.
pub fn at(ms: i64) -> Timestamp {
    T0.offset(ms * 1_000_000)
}

/// Identifies a [`SceneDialog`] in a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DialogId(pub usize);

/// A dialog at one hop. A test may change its fields before the messages are written.
#[derive(Clone, Debug)]
pub struct SceneDialog {
    pub call_id: String,
    /// Tags of caller and callee. In all pairs of this struct, the caller is first.
    pub tags: [String; 2],
    pub users: [String; 2],
    pub names: [Option<String>; 2],
    pub sip: [Endpoint; 2],
    pub media: [Endpoint; 2],
    /// Media addresses in the session descriptions; `None` if they are those of the packets. They differ e.g. behind a
    /// NAT.
    pub announced: [Option<Endpoint>; 2],
    pub voices: [u8; 2],
    pub request_user: String,
    /// Further headers of the INVITE.
    pub headers: Vec<String>,
    pub cseq: [u32; 2],
    /// Whether requests have a To tag, because the dialog was answered.
    pub confirmed: bool,
    /// CSeq number of the newest INVITE of each side.
    pub invite_cseq: [u32; 2],
    pub sdp_version: u32,
}

/// A change to the default text of a message.
#[derive(Clone, Debug)]
pub enum MessageChange<'a> {
    /// A session description as the body.
    Sdp(String),
    /// A body of another type.
    Body(&'a str, String),
    /// A header line.
    Header(&'a str),
    /// Another tag of the callee, for another branch of a fork.
    Branch(&'a str),
    /// Another CSeq number than usual.
    CSeq(u32),
}

/// The packets of a test, in the order in which they were written. [`Scene::packets`] sorts them by time.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    now_ms: i64,
    dialogs: Vec<SceneDialog>,
    packets: Vec<ScenePacket>,
    senders: HashMap<(Endpoint, Endpoint), RtpSender>,
    spoken: HashMap<(Endpoint, Endpoint, [u8; 12]), u8>,
    mute: bool,
    voices: SceneVoices,
}

/// The kind of voices in a scene.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SceneVoices {
    /// Each voice has a fixed sound in each slot.
    #[default]
    Steady,
    /// Each packet of a voice has other bytes.
    Noisy,
    /// Each voice has its own syllables and pauses. [`RecordedChannel::judge`] does not know these voices.
    Speech,
}

/// A sender of RTP packets on one flow.
#[derive(Clone, Copy, Debug)]
pub struct RtpSender {
    pub ssrc: u32,
    pub sequence: u16,
    /// RTP timestamp at millisecond 0 of the scene.
    pub time: u32,
    /// Payload type. The sound is A-law, whatever the payload type is.
    pub pt: u8,
}

impl Scene {
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns a scene with very short RTP payloads, for tests that do not check the sound.
    pub fn mute() -> Self {
        Self { mute: true, ..Self::default() }
    }

    /// Returns a scene with noisy voices, like speech: no two packets of a voice have the same bytes. A PBX in it
    /// forwards the bytes unchanged.
    pub fn noisy() -> Self {
        Self { voices: SceneVoices::Noisy, ..Self::default() }
    }

    /// Returns a scene in which each voice has its own syllables and pauses. A PBX in it changes the bytes of all voices.
    pub fn speaking() -> Self {
        Self { voices: SceneVoices::Speech, ..Self::default() }
    }

    /// Returns the current time of the scene, ms.
    pub fn now(&self) -> i64 {
        self.now_ms
    }

    pub fn wait(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    /// Sets the clock. If it is set back, messages and voices can overlap with earlier ones.
    pub fn set_now(&mut self, ms: i64) {
        self.now_ms = ms;
    }

    /// Returns all packets, in order of time.
    pub fn packets(&self) -> Vec<ScenePacket> {
        let mut out = self.packets.clone();
        out.sort_by_key(|p| p.at);
        out
    }

    /// Returns the voice of each RTP packet. Flow and RTP header identify a packet.
    pub fn spoken(&self) -> &HashMap<(Endpoint, Endpoint, [u8; 12]), u8> {
        &self.spoken
    }

    pub fn raw(&mut self, src: Endpoint, dst: Endpoint, payload: Vec<u8>) {
        self.packets.push(ScenePacket { at: at(self.now_ms), src, dst, payload });
    }

    /// Changes the text of the message that was written last.
    pub fn edit_last(&mut self, edit: impl Fn(&str) -> String) {
        let last = self.packets.last_mut().expect("a message");
        last.payload = edit(&String::from_utf8_lossy(&last.payload)).into_bytes();
    }

    // ---- signalling

    /// Creates a dialog between two phones. It has no messages yet.
    pub fn dialog(&mut self, caller: &mut ScenePhone, callee: &mut ScenePhone) -> DialogId {
        let n = self.dialogs.len();
        self.dialogs.push(SceneDialog {
            call_id: format!("call-{n}@scene"),
            tags: [format!("from{n}"), format!("to{n}")],
            users: [caller.user.clone(), callee.user.clone()],
            names: [caller.name.clone(), callee.name.clone()],
            sip: [caller.sip, callee.sip],
            media: [caller.media(), callee.media()],
            announced: [None, None],
            voices: [caller.voice, callee.voice],
            request_user: callee.user.clone(),
            headers: Vec::new(),
            cseq: [100, 500],
            confirmed: false,
            invite_cseq: [0, 0],
            sdp_version: 1,
        });
        DialogId(n)
    }

    /// Creates a leg of a PBX between two phones. `numbers` are the caller's and the called number of this leg, which
    /// the PBX may have changed.
    pub fn leg(&mut self, from: &mut ScenePhone, to: &mut ScenePhone, numbers: [&str; 2]) -> DialogId {
        let d = self.dialog(from, to);
        let dialog = self.at(d);
        dialog.users = numbers.map(str::to_owned);
        numbers[1].clone_into(&mut dialog.request_user);
        d
    }

    /// Returns a dialog, so that a test can change it.
    pub fn at(&mut self, d: DialogId) -> &mut SceneDialog {
        &mut self.dialogs[d.0]
    }

    pub fn get(&self, d: DialogId) -> &SceneDialog {
        &self.dialogs[d.0]
    }

    /// Returns the session description of a side: PCMA and telephone-event at its media address. `attributes` are
    /// media-level lines.
    pub fn sdp(&mut self, d: DialogId, side: Side, attributes: &[&str]) -> String {
        let dialog = self.at(d);
        dialog.sdp_version += 1;
        let media = dialog.announced[side.channel()].unwrap_or(dialog.media[side.channel()]);
        sdp(media, dialog.sdp_version, "8 101", attributes)
    }

    /// Writes a request of a side, and advances the clock by a step.
    pub fn request(&mut self, d: DialogId, side: Side, method: &str, with: &[MessageChange<'_>]) {
        let me = side.channel();
        let dialog = self.at(d);
        let cseq =
            match (method, with.iter().find_map(|w| if let MessageChange::CSeq(n) = w { Some(*n) } else { None })) {
                (_, Some(n)) => n,
                ("ACK" | "CANCEL", None) => dialog.invite_cseq[me],
                _ => {
                    dialog.cseq[me] += 1;
                    dialog.cseq[me]
                }
            };
        if method == "INVITE" {
            dialog.invite_cseq[me] = cseq;
        }
        let tagged = dialog.confirmed || has_branch(with).is_some();
        let target = if side == Side::Caller { dialog.request_user.clone() } else { dialog.users[0].clone() };
        let to = dialog.sip[1 - me];
        let start = format!("{method} sip:{target}@{to} SIP/2.0\r\n");
        let invite_headers = if method == "INVITE" && !tagged { dialog.headers.clone() } else { Vec::new() };
        let text = message(self.get(d), (start, side), (cseq, method), (tagged, with), &invite_headers);
        let (src, dst) = (self.get(d).sip[me], to);
        self.raw(src, dst, text.into_bytes());
        self.wait(STEP_MS);
    }

    /// Writes a response of a side to the newest request of this method, and advances the clock by a step.
    pub fn response(&mut self, d: DialogId, side: Side, (status, method): (u16, &str), with: &[MessageChange<'_>]) {
        let dialog = self.get(d);
        let other = 1 - side.channel();
        let newest =
            if method == "INVITE" || method == "CANCEL" { dialog.invite_cseq[other] } else { dialog.cseq[other] };
        let cseq =
            with.iter().find_map(|w| if let MessageChange::CSeq(n) = w { Some(*n) } else { None }).unwrap_or(newest);
        let start = format!("SIP/2.0 {status} Reason\r\n");
        let text = message(dialog, (start, side.other()), (cseq, method), (status > 100, with), &[]);
        let (src, dst) = (dialog.sip[side.channel()], dialog.sip[other]);
        self.raw(src, dst, text.into_bytes());
        self.wait(STEP_MS);
    }

    /// Writes an INVITE with an offer, and 100.
    pub fn invite(&mut self, d: DialogId) {
        let offer = self.sdp(d, Side::Caller, &[]);
        self.request(d, Side::Caller, "INVITE", &[MessageChange::Sdp(offer)]);
        self.response(d, Side::Callee, (100, "INVITE"), &[]);
    }

    pub fn ring(&mut self, d: DialogId) {
        self.response(d, Side::Callee, (180, "INVITE"), &[]);
    }

    /// Writes a 183 with an answer.
    pub fn progress(&mut self, d: DialogId) {
        let answer = self.sdp(d, Side::Callee, &[]);
        self.response(d, Side::Callee, (183, "INVITE"), &[MessageChange::Sdp(answer)]);
    }

    /// Writes a 200 with an answer, and ACK. Returns the millisecond of the 200.
    pub fn answer(&mut self, d: DialogId) -> i64 {
        let when = self.now_ms;
        let answer = self.sdp(d, Side::Callee, &[]);
        self.response(d, Side::Callee, (200, "INVITE"), &[MessageChange::Sdp(answer)]);
        self.at(d).confirmed = true;
        self.request(d, Side::Caller, "ACK", &[]);
        when
    }

    /// Writes an INVITE with an offer, 100, 180.
    pub fn invite_and_ring(&mut self, d: DialogId) {
        self.invite(d);
        self.ring(d);
    }

    /// Rings a telephone through a PBX. Writes an INVITE on each leg, then a 180 on the inner and on the outer leg.
    pub fn ring_through(&mut self, outer: DialogId, inner: DialogId) {
        self.invite(outer);
        self.invite(inner);
        self.ring(inner);
        self.ring(outer);
    }

    /// Does the same as [`Scene::ring_through`]. After `ms` of ringing, both legs are answered.
    pub fn connect_through(&mut self, outer: DialogId, inner: DialogId, ms: i64) {
        self.ring_through(outer, inner);
        self.wait(ms);
        self.answer(inner);
        self.answer(outer);
    }

    /// Does the same as [`Scene::connect_through`], but the PBX does not forward the 180.
    pub fn connect_via(&mut self, outer: DialogId, inner: DialogId, ms: i64) {
        self.invite(outer);
        self.invite_and_ring(inner);
        self.wait(ms);
        self.answer(inner);
        self.answer(outer);
    }

    /// Writes INVITE, 100, 180, then 200 and ACK after a second of ringing. Returns the millisecond of the 200.
    pub fn connect(&mut self, d: DialogId) -> i64 {
        self.invite(d);
        self.ring(d);
        self.wait(1_000);
        self.answer(d)
    }

    /// Writes a final response that refuses the INVITE, and its ACK.
    pub fn refuse(&mut self, d: DialogId, status: u16, with: &[MessageChange<'_>]) {
        self.response(d, Side::Callee, (status, "INVITE"), with);
        let tag = self.get(d).tags[1].clone();
        self.request(d, Side::Caller, "ACK", &[MessageChange::Branch(&tag)]);
    }

    /// Writes CANCEL, its 200, 487, ACK.
    pub fn cancel(&mut self, d: DialogId) {
        self.request(d, Side::Caller, "CANCEL", &[]);
        self.response(d, Side::Callee, (200, "CANCEL"), &[]);
        self.refuse(d, 487, &[]);
    }

    /// Writes BYE and its 200. Returns the millisecond of the BYE.
    pub fn bye(&mut self, d: DialogId, side: Side) -> i64 {
        let when = self.now_ms;
        self.request(d, side, "BYE", &[]);
        self.response(d, side.other(), (200, "BYE"), &[]);
        when
    }

    /// Writes a BYE of one side in each of several dialogs, in order. Returns the millisecond of the first BYE.
    pub fn bye_all(&mut self, dialogs: &[DialogId], side: Side) -> i64 {
        let when = self.now_ms;
        for &d in dialogs {
            self.bye(d, side);
        }
        when
    }

    /// Writes a re-INVITE or UPDATE with an offer, and the answer of the other side.
    pub fn renegotiate(&mut self, d: DialogId, side: Side, method: &str, attributes: (&[&str], &[&str])) {
        let offer = self.sdp(d, side, attributes.0);
        self.request(d, side, method, &[MessageChange::Sdp(offer)]);
        let answer = self.sdp(d, side.other(), attributes.1);
        self.response(d, side.other(), (200, method), &[MessageChange::Sdp(answer)]);
        if method == "INVITE" {
            let cseq = self.get(d).invite_cseq[side.channel()];
            self.request(d, side, "ACK", &[MessageChange::CSeq(cseq)]);
        }
    }

    pub fn hold(&mut self, d: DialogId, side: Side) {
        self.renegotiate(d, side, "INVITE", (&["a=sendonly"], &["a=recvonly"]));
    }

    pub fn resume(&mut self, d: DialogId, side: Side) {
        self.renegotiate(d, side, "INVITE", (&["a=sendrecv"], &["a=sendrecv"]));
    }

    /// Writes REFER, 202, NOTIFY, 200.
    pub fn refer(&mut self, d: DialogId, side: Side, target: &str) {
        let refer_to = format!("Refer-To: {target}");
        self.request(
            d,
            side,
            "REFER",
            &[MessageChange::Header(&refer_to), MessageChange::Header("Referred-By: <sip:referrer@scene>")],
        );
        self.response(d, side.other(), (202, "REFER"), &[]);
        self.request(d, side.other(), "NOTIFY", &[MessageChange::Header("Event: refer")]);
        self.response(d, side, (200, "NOTIFY"), &[]);
    }

    /// Writes a REGISTER of a phone at a registrar, which accepts it.
    pub fn register(&mut self, phone: &ScenePhone, registrar: &ScenePhone) {
        let (user, a, b) = (&phone.user, phone.sip, registrar.sip);
        let common = format!(
            "Via: SIP/2.0/UDP {a};branch=z9hG4bKr{user}\r\nFrom: <sip:{user}@{b}>;tag=r\r\nCall-ID: reg-{user}\r\n\
             CSeq: 1 REGISTER\r\nContact: <sip:{user}@{a}>;expires=3600\r\nContent-Length: 0\r\n\r\n"
        );
        let request = format!("REGISTER sip:{b} SIP/2.0\r\nTo: <sip:{user}@{b}>\r\n{common}");
        let response = format!("SIP/2.0 200 OK\r\nTo: <sip:{user}@{b}>;tag=s\r\n{common}");
        self.raw(a, b, request.into_bytes());
        self.wait(STEP_MS);
        self.raw(b, a, response.into_bytes());
        self.wait(STEP_MS);
    }

    // ---- sound

    /// Lets both sides of a dialog talk for `ms`.
    pub fn talk(&mut self, d: DialogId, ms: i64) {
        let [a, b] = self.get(d).voices;
        self.sound(&[(a, d, Side::Caller), (b, d, Side::Callee)], ms);
    }

    /// Plays a conversation through a PBX for `ms`: the caller of leg `a` talks to the callee of leg `b`. Each leg
    /// carries both voices.
    pub fn bridge(&mut self, a: DialogId, b: DialogId, ms: i64) {
        let (left, right) = (self.get(a).voices[0], self.get(b).voices[1]);
        let speakers =
            [(left, a, Side::Caller), (right, a, Side::Callee), (left, b, Side::Caller), (right, b, Side::Callee)];
        self.sound(&speakers, ms);
    }

    /// Does the same as [`Scene::bridge`], then writes a BYE of `side` in both legs. Returns the ms of the first packet
    /// and of the BYE.
    pub fn bridge_until_bye(&mut self, a: DialogId, b: DialogId, ms: i64, side: Side) -> [i64; 2] {
        let talks = self.now();
        self.bridge(a, b, ms);
        [talks, self.bye_all(&[a, b], side)]
    }

    /// Plays several voices at the same time for `ms`. Each is given as voice, dialog and side.
    pub fn sound(&mut self, speakers: &[(u8, DialogId, Side)], ms: i64) {
        let flows: Vec<_> = speakers.iter().map(|&(voice, d, side)| (voice, self.flow(d, side))).collect();
        self.rtp(&flows, ms);
    }

    /// Plays several voices at the same time for `ms`. Each is given as voice and flow.
    pub fn rtp(&mut self, flows: &[(u8, (Endpoint, Endpoint))], ms: i64) {
        let until = self.now_ms + ms;
        while self.now_ms < until {
            for &(voice, flow) in flows {
                self.packet(voice, flow);
            }
            self.wait(PTIME_MS);
        }
        self.set_now(until);
    }

    /// Returns the flow on which a side sends its voice.
    pub fn flow(&self, d: DialogId, side: Side) -> (Endpoint, Endpoint) {
        let media = self.get(d).media;
        (media[side.channel()], media[1 - side.channel()])
    }

    /// Returns the sender on a flow, so that a test can change it, e.g. to a new SSRC.
    pub fn sender(&mut self, flow: (Endpoint, Endpoint)) -> &mut RtpSender {
        let n = self.senders.len() as u32;
        self.senders.entry(flow).or_insert_with(|| RtpSender {
            ssrc: 0x1000_0000 + n * 0x0101,
            sequence: (n * 7_919) as u16,
            time: n.wrapping_mul(0x2345_6789),
            pt: 8,
        })
    }

    fn packet(&mut self, voice: u8, flow: (Endpoint, Endpoint)) {
        let (now_ms, voices) = (self.now_ms, self.voices);
        let sender = self.sender(flow);
        let time = sender.time.wrapping_add((now_ms * 8) as u32);
        let seed = match voices {
            SceneVoices::Steady => None,
            SceneVoices::Noisy => Some(u64::from(voice) << 48),
            SceneVoices::Speech => Some(u64::from(sender.ssrc) << 16),
        };
        let mut out = vec![0x80, sender.pt];
        out.extend(sender.sequence.to_be_bytes());
        out.extend(time.to_be_bytes());
        out.extend(sender.ssrc.to_be_bytes());
        sender.sequence = sender.sequence.wrapping_add(1);
        let header = out[..12].try_into().expect("the RTP header has 12 bytes");
        self.spoken.insert((flow.0, flow.1, header), voice);
        let samples_ms = if self.mute { 1 } else { PTIME_MS };
        if let BUSY_TONE | RINGBACK | DOUBLE_RINGBACK | SILENCE = voice {
            out.extend((now_ms * 8..(now_ms + samples_ms) * 8).map(|n| 0xD5 ^ tone(voice, n)));
            return self.raw(flow.0, flow.1, out);
        }
        for ms in now_ms..now_ms + samples_ms {
            // The sound is a square wave of 1 kHz. Its amplitude shows voice and slot.
            let slot = ms.div_euclid(SLOT_MS);
            let loud = if voices == SceneVoices::Speech { syllable(voice, slot) } else { level(voice, slot) };
            let mut wave = [0x80 | loud, 0x80 | loud, 0x80 | loud, 0x80 | loud, loud, loud, loud, loud];
            if let Some(seed) = seed {
                // One sample is made louder and another one softer by the same amount, so that the level stays the
                // same.
                let mut rng = fastrand::Rng::with_seed(seed ^ ms as u64);
                wave[rng.usize(0..4)] += 1;
                wave[rng.usize(4..8)] -= 1;
            }
            out.extend(wave.map(|b| b ^ 0x55));
        }
        self.raw(flow.0, flow.1, out);
    }
}

/// Returns the A-law code of a sample of a tone of 425 Hz, without inverted bits.
fn tone(voice: u8, sample: i64) -> u8 {
    let ms = sample.div_euclid(8);
    let is_on = match voice {
        BUSY_TONE => ms.rem_euclid(700) < 350,
        RINGBACK => ms.rem_euclid(4_000) < 800,
        DOUBLE_RINGBACK => matches!(ms.rem_euclid(3_000), 0..400 | 600..1_000),
        _ => false,
    };
    let is_negative = sample * 850 / 8_000 % 2 == 0;
    if is_on { 60 | u8::from(is_negative) << 7 } else { 0 }
}

/// Voice that is a busy tone: 0.35 s on and 0.35 s off.
pub const BUSY_TONE: u8 = 254;
/// Voice that is a ringback tone: 0.8 s on and 3.2 s off.
pub const RINGBACK: u8 = 252;
/// Voice that is a ringback tone with two beeps of 0.4 s, and 2 s off.
pub const DOUBLE_RINGBACK: u8 = 251;
/// Voice that says nothing.
pub const SILENCE: u8 = 253;

/// Returns the A-law magnitude of a voice in a slot. There are eight voices, and the values repeat after eight slots
/// (1.6 s).
fn level(voice: u8, slot: i64) -> u8 {
    48 + (voice % 8) * 8 + slot.rem_euclid(8) as u8
}

/// Returns the A-law magnitude of a voice with syllables and pauses in a slot. One slot in three is a pause.
fn syllable(voice: u8, slot: i64) -> u8 {
    let mut rng = fastrand::Rng::with_seed((u64::from(voice) << 48) ^ slot as u64);
    if rng.u8(0..3) == 0 { 2 } else { rng.u8(60..110) }
}

/// One channel of a recording.
#[derive(Clone, Debug)]
pub struct RecordedChannel {
    /// Time of sample 0, ms of the scene.
    pub starts_ms: f64,
    pub samples: Vec<i16>,
}

/// The sound at a time of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExpectedSound {
    /// The time is outside of the recording.
    Outside,
    Silence,
    /// The voice with the given number, with the sound that it had at that time.
    Voice(u8),
    /// Another sound, e.g. a voice at a wrong time, or a mixture.
    Other,
}

impl RecordedChannel {
    /// Returns the sound at a millisecond of the scene. The 10 ms around it decide.
    pub fn judge(&self, ms: i64) -> ExpectedSound {
        let from = ((ms as f64 - 5.0 - self.starts_ms) * 8.0).round();
        if from < 0.0 || from as usize + 80 > self.samples.len() {
            return ExpectedSound::Outside;
        }
        let window = &self.samples[from as usize..from as usize + 80];
        let height = window.iter().map(|s| f64::from(s.unsigned_abs())).sum::<f64>() / 80.0;
        if height < 40.0 {
            return ExpectedSound::Silence;
        }
        let slot = ms.div_euclid(SLOT_MS);
        let near = |voice: &u8| (height / f64::from(a_law(level(*voice, slot))) - 1.0).abs() < 0.01;
        (0..8).find(near).map_or(ExpectedSound::Other, ExpectedSound::Voice)
    }

    /// Returns the share of a span of time, 0.0 to 1.0, in which the sound is `wanted`. It is judged in the middle of
    /// every slot.
    pub fn share(&self, wanted: ExpectedSound, from_ms: i64, to_ms: i64) -> f64 {
        let first = from_ms.div_euclid(SLOT_MS) * SLOT_MS + SLOT_MS / 2;
        let moments: Vec<i64> =
            (0..).map(|n| first + n * SLOT_MS).take_while(|ms| *ms < to_ms).filter(|ms| *ms > from_ms).collect();
        let fits = moments.iter().filter(|ms| self.judge(**ms) == wanted).count();
        fits as f64 / moments.len().max(1) as f64
    }
}

/// Decodes a G.711 A-law code to a 16-bit sample. The code is given without inverted bits, and is positive.
fn a_law(code: u8) -> i32 {
    let (segment, mantissa) = (i32::from(code >> 4), i32::from(code & 15));
    if segment == 0 { mantissa * 16 + 8 } else { (mantissa * 16 + 264) << (segment - 1) }
}

/// Returns a session description.
pub fn sdp(media: Endpoint, version: u32, formats: &str, attributes: &[&str]) -> String {
    let (ip, port) = (media.ip(), media.port());
    let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
    let mut out = format!(
        "v=0\r\no=- 1 {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\nm=audio {port} RTP/AVP {formats}\r\n\
         a=rtpmap:101 telephone-event/8000\r\n"
    );
    for line in attributes {
        let _ = write!(out, "{line}\r\n");
    }
    out
}

/// Returns the host part of a SIP URI. An IPv6 address gets brackets.
fn uri_host(endpoint: Endpoint) -> String {
    let ip = endpoint.ip();
    if ip.is_ipv6() { format!("[{ip}]") } else { ip.to_string() }
}

fn has_branch<'a>(with: &[MessageChange<'a>]) -> Option<&'a str> {
    with.iter().find_map(|w| if let MessageChange::Branch(tag) = w { Some(*tag) } else { None })
}

/// Returns the text of a message: a request of `requester`, or a response to it.
fn message(
    dialog: &SceneDialog,
    (start, requester): (String, Side),
    (cseq, method): (u32, &str),
    (tagged, with): (bool, &[MessageChange<'_>]),
    headers: &[String],
) -> String {
    let party = |side: Side, tagged: bool| {
        let n = side.channel();
        let name = dialog.names[n].as_ref().map(|n| format!("\"{n}\" ")).unwrap_or_default();
        let tag = if side == Side::Callee { has_branch(with).unwrap_or(&dialog.tags[1]) } else { &dialog.tags[0] };
        let tag = if tagged { format!(";tag={tag}") } else { String::new() };
        format!("{name}<sip:{}@{}>{tag}", dialog.users[n], uri_host(dialog.sip[n]))
    };
    let (me, other) = (requester, requester.other());
    let via = dialog.sip[me.channel()];
    let mut out = start;
    // A proxy that forks gives each INVITE a branch parameter of its own (RFC 3261 section 16.6).
    let (there, call_id) = (dialog.sip[other.channel()].ip(), &dialog.call_id);
    // The ACK to a rejection has the branch of the INVITE (RFC 3261 section 17.1.1.3).
    let is_of_rejection = method == "ACK" && has_branch(with).is_some();
    let transaction = if is_of_rejection { "INVITE" } else { method };
    let _ = write!(out, "Via: SIP/2.0/UDP {via};branch=z9hG4bK{cseq}{transaction}{there}{call_id}\r\n");
    let _ = write!(out, "From: {}\r\nTo: {}\r\n", party(me, true), party(other, tagged));
    let _ = write!(out, "Call-ID: {}\r\nCSeq: {cseq} {method}\r\nContact: <sip:{via}>\r\n", dialog.call_id);
    let mut body = "";
    for line in headers {
        let _ = write!(out, "{line}\r\n");
    }
    for part in with {
        match part {
            MessageChange::Header(line) => {
                let _ = write!(out, "{line}\r\n");
            }
            MessageChange::Sdp(text) => {
                body = text;
                out.push_str("Content-Type: application/sdp\r\n");
            }
            MessageChange::Body(kind, text) => {
                body = text;
                let _ = write!(out, "Content-Type: {kind}\r\n");
            }
            MessageChange::Branch(_) | MessageChange::CSeq(_) => {}
        }
    }
    let _ = write!(out, "Content-Length: {}\r\n\r\n{body}", body.len());
    out
}
