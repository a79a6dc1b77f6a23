//! Tests of downloads in another format than that of the recording.

use futures_util::StreamExt as _;

use super::*;
use crate::console::convert::{self, ConversionPermits};
use crate::recording::convert::{DownloadFormat, convert};

/// Returns the body of a response with chunked transfer encoding, or `None` if its last chunk is missing.
fn dechunked(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&body[..end]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(whole);
        }
        whole.extend(body.get(end + 2..end + 2 + length)?);
        body = body.get(end + 4 + length..)?;
    }
}

/// Downloads a recording in another format. Returns status, head and body.
fn download(office: &Office, path: &str, cookie: &str) -> (u16, String, Option<Vec<u8>>) {
    let mut stream = std::net::TcpStream::connect(office.addr()).expect("connects");
    let head =
        format!("GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {cookie}\r\nConnection: close\r\n\r\n", office.addr());
    stream.write_all(head.as_bytes()).expect("writes");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("reads");
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").expect("an answer");
    let head = String::from_utf8_lossy(&reply[..end]).into_owned();
    (head[9..12].parse().expect("a status"), head, dechunked(&reply[end + 4..]))
}

impl Office {
    /// Converts the recording of the first call, which is a call of this extension, to Opus. Then names this format in
    /// the call's record.
    fn convert_recording(&self, extension: &str) {
        let mut record = call(self.dir.path(), 0, extension);
        let file = &mut record.recordings[0];
        let mut opus = Vec::new();
        convert(Path::new(&file.path), file, DownloadFormat::Opus, &mut opus).expect("converted");
        file.path = file.path.replace(".wav", ".ogg");
        file.format = String::from("ogg-opus");
        std::fs::write(&file.path, opus).expect("written");
        Journal::open(&self.config.journal).expect("a journal").put_call(&record, CallStage::Complete).expect("put");
    }
}

#[test]
fn recording_is_downloaded_as_opus_and_as_wav_again() {
    let office = Office::with_calls(&["120"]);
    let id = office.write_tones("120");
    let page = office.get(&format!("/calls/{id}"), "").body;
    assert!(page.contains("?as=opus") && !page.contains("?as=wav"), "only other formats are offered");
    let original = std::fs::read(&call(office.dir.path(), 0, "120").recordings[0].path).expect("a recording");
    let (status, head, opus) = download(&office, &format!("/calls/{id}/sound/1?as=opus"), "");
    assert!(status == 200 && head.contains(&format!("filename=\"{id}.ogg\"")), "{head}");
    let opus = opus.expect("a whole body");
    assert!(opus.starts_with(b"OggS") && opus.len() * 5 < original.len(), "{} bytes", opus.len());
    office.convert_recording("120");
    let (status, head, wav) = download(&office, &format!("/calls/{id}/sound/1?as=wav"), "");
    assert!(status == 200 && head.contains("content-type: audio/wav"), "{head}");
    let wav = wav.expect("a whole body");
    assert_eq!((&wav[..44], wav.len()), (&original[..44], original.len()), "same header, same length");
    assert_eq!(office.get(&format!("/calls/{id}/sound/1?as=opus"), "").status, 422, "it is Opus already");
    assert_eq!(office.get(&format!("/calls/{id}/sound/1?as=mp3"), "").status, 400);
}

#[test]
fn conversion_needs_the_right_to_download_and_leaves_a_row() {
    let office = Office::with_calls(&["120", "220"]);
    let id = office.write_tones("120");
    office.add("anna", AccountRole::Listener, &["1xx"]);
    let cookie = office.sign_in("anna");
    assert_eq!(download(&office, &format!("/calls/{FOREIGN}/sound/1?as=opus"), &cookie).0, 404);
    assert_eq!(download(&office, &format!("/calls/{id}/sound/1?as=opus"), &cookie).0, 200);
    let filter = crate::console::accounts::AuditFilter { call_id: Some(id.clone()), ..Default::default() };
    let rows = office.accounts().audit(&filter, 10).expect("rows");
    assert_eq!((rows.len(), rows[0].action.as_str()), (1, "downloaded"));
    let scope = CallScope::default();
    let rights = vec![AccountRight::List, AccountRight::Play];
    let user = UserAccount { name: String::from("boris"), role: AccountRole::Listener, scope, rights };
    office.accounts().put_user(&user, "correct horse", wall_clock()).expect("put");
    let cookie = office.sign_in("boris");
    assert_eq!(download(&office, &format!("/calls/{id}/sound/1?as=opus"), &cookie).0, 404, "may only play");
}

#[test]
fn listeners_who_do_not_read_stop_no_other_download() {
    let office = Office::with_calls(&["120"]);
    office.write_tones("120");
    office.convert_recording("120");
    let journal = Journal::open_read_only(&office.config.journal).expect("a journal");
    let file = journal.call(OWN).expect("read").expect("a call").record.recordings[0].clone();
    let permits = ConversionPermits::default();
    let send = || convert::send(&permits, file.path.clone().into(), &file, DownloadFormat::Wav);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Two clients read the first chunk of their downloads and then nothing more, so the two conversions wait.
        let mut unread = [send(), send()].map(|response| response.into_body().into_data_stream());
        let mut first = 0;
        for body in &mut unread {
            first += body.next().await.expect("a chunk").expect("sent").len();
        }
        let whole = axum::body::to_bytes(send().into_body(), 4 << 20);
        let whole = tokio::time::timeout(std::time::Duration::from_secs(15), whole).await;
        let length = 44 + 60 * 8_000 * 4; // the header, and 60 s of two channels
        assert_eq!(whole.expect("it does not wait for the others").expect("a whole body").len(), length);
        // As soon as the clients of the two stopped downloads read on, the conversions continue to the end.
        let mut rest = 0;
        for body in &mut unread {
            while let Some(chunk) = body.next().await {
                rest += chunk.expect("sent").len();
            }
        }
        assert_eq!(first + rest, 2 * length);
    });
}

#[test]
fn broken_recording_ends_the_download_without_its_last_chunk() {
    let office = Office::with_calls(&["120"]);
    let id = office.write_tones("120");
    let path = call(office.dir.path(), 0, "120").recordings[0].path.clone();
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("opened");
    file.set_len(400_000).expect("cut");
    let (_, _, body) = download(&office, &format!("/calls/{id}/sound/1?as=opus"), "");
    assert_eq!(body, None);
}

#[test]
fn recordings_in_g711_are_wav_for_the_browser() {
    let office = Office::with_calls(&["120"]);
    let mut record = call(office.dir.path(), 0, "120");
    record.recordings[0].format = String::from("wav-alaw");
    Journal::open(&office.config.journal).expect("a journal").put_call(&record, CallStage::Complete).expect("put");
    let answer = office.get(&format!("/calls/{OWN}/sound/1"), "");
    assert!(answer.head.contains("content-type: audio/wav"), "{}", answer.head);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the server notices later that a client is gone")]
fn user_with_many_open_downloads_waits_and_others_do_not() {
    let office = Office::with_calls(&["120"]);
    let path = format!("/calls/{}/sound/1?download", office.write_tones("120"));
    let [anna, boris] = ["anna", "boris"].map(|user| {
        office.add(user, AccountRole::Listener, &["1xx"]);
        office.sign_in(user)
    });
    // The clients do not read, and the operating system cannot hold so long a recording for them.
    let recording = call(office.dir.path(), 0, "120").recordings[0].path.clone();
    let file = std::fs::OpenOptions::new().write(true).open(recording).expect("opened");
    file.set_len(24 << 20).expect("extended");
    let clients = std::iter::repeat_with(|| {
        let mut stream = std::net::TcpStream::connect(office.addr()).expect("connects");
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nCookie: {anna}\r\n\r\n", office.addr());
        stream.write_all(head.as_bytes()).expect("writes");
        let mut status = [0; 12];
        stream.read_exact(&mut status).expect("an answer");
        assert_eq!(&status[9..], b"200");
        stream
    });
    let open: Vec<_> = clients.take(16).collect();
    let refused = office.get(&path, &anna);
    assert_eq!(refused.status, 429);
    assert!(refused.body.contains("16 open downloads"), "{}", refused.body);
    let filter = crate::console::accounts::AuditFilter::default();
    let rows = office.accounts().audit(&filter, 100).expect("rows");
    let downloads = rows.iter().filter(|row| row.action == "downloaded").count();
    assert!(downloads <= open.len(), "a refused download leaves no row");
    assert_eq!(office.get(&path, &boris).status, 200);
    assert_eq!(office.get(path.trim_end_matches("?download"), &anna).status, 200, "listening is no download");
    drop(open);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while office.get(&path, &anna).status != 200 {
        assert!(std::time::Instant::now() < until, "the downloads have ended");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}
