//! Tests of network faults: unknown hosts, bad certificates, and the alarm for the administrator.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use callspan::delivery::{DeliveryBlocker, DeliveryTuning};
use callspan::fake_pyrus::FakeOptions;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::delivery::world::{DeliveryFixture, PATIENCE, unanswered};

#[test]
fn calls_wait_while_the_host_name_cannot_be_resolved() {
    let mut world = DeliveryFixture::new(FakeOptions::default());
    let there = std::mem::replace(&mut world.config.auth_url, "https://pyrus.invalid/api/v4/auth".into());
    // Names below .invalid never exist (RFC 2606).
    let handle = world.start();
    handle.send_update(world.recorded("a"));
    handle.send_update(unanswered("b"));
    world.wait_until(|_| handle.summary().blocked_by == Some(DeliveryBlocker::Unreachable));
    let summary = handle.summary();
    let alarm = summary.alarm.expect("an alarm");
    assert!(alarm.starts_with("Pyrus cannot be reached") && alarm.contains("pyrus.invalid"), "{alarm}");
    assert_eq!((summary.owed, summary.possible_duplicates), (2, 0), "nothing was sent, so nothing is in doubt");
    assert_eq!(world.journal().alarm().unwrap(), Some(alarm), "`calls list` says it, too");
    drop(handle);
    assert_eq!(world.requests(), [0, 0, 0, 0]);
    world.config.auth_url = there;
    let handle = world.start();
    assert_eq!(handle.run_until_settled(PATIENCE).done, 2);
    assert_eq!(handle.summary().alarm, None);
    world.assert_delivered_once("a");
    world.assert_no_violations();
}

#[test]
fn behind_an_expired_certificate_nothing_is_sent_and_the_alarm_names_it() {
    // Authority, key and name of both certificates are the same. Only the period of validity differs.
    for (certificate, is_expired) in [(EXPIRED, true), (VALID, false)] {
        let server = FailingTlsServer::start(certificate);
        let mut world = DeliveryFixture::new(FakeOptions::default());
        let ca = world.dir.path().join("ca.pem");
        std::fs::write(&ca, CA).expect("written");
        world.config.ca_file = Some(ca);
        world.config.auth_url = format!("https://127.0.0.1:{}/api/v4/auth", server.port);
        world.setup.tuning = DeliveryTuning { breaker_failures: 3, ..world.setup.tuning };
        let handle = world.start();
        handle.send_update(world.recorded("a"));
        if !is_expired {
            world.wait_until(|_| server.requests.load(Ordering::Relaxed) > 0);
            continue;
        }
        world.wait_until(|_| handle.summary().blocked_by == Some(DeliveryBlocker::Unreachable));
        let summary = handle.summary();
        let alarm = summary.alarm.expect("an alarm");
        assert!(alarm.contains("certificate") && alarm.to_lowercase().contains("expired"), "{alarm}");
        assert_eq!((summary.owed, summary.parked.len(), summary.dead.len()), (1, 0, 0));
        assert_eq!(server.requests.load(Ordering::Relaxed), 0, "the key goes to nobody who cannot prove who he is");
        assert!(world.dir.path().join("a.wav").exists());
    }
}

/// A TLS server that answers every request with a server error (5xx).
struct FailingTlsServer {
    port: u16,
    /// Number of requests that arrived.
    requests: Arc<AtomicU64>,
}

impl FailingTlsServer {
    fn start(certificate: &str) -> Self {
        let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("PEM")];
        let key = PrivateKeyDer::from_pem_slice(KEY.as_bytes()).expect("PEM");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("they belong together");
        let (config, requests) = (Arc::new(config), Arc::new(AtomicU64::new(0)));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let counted = Arc::clone(&requests);
        // The thread ends together with the test process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
                let _ = answer(rustls::StreamOwned::new(connection, stream), &counted);
            }
        });
        Self { port, requests }
    }
}

fn answer(
    mut stream: rustls::StreamOwned<rustls::ServerConnection, TcpStream>,
    requests: &AtomicU64,
) -> std::io::Result<()> {
    let mut head = [0; 1024];
    if stream.read(&mut head)? > 0 {
        requests.fetch_add(1, Ordering::Relaxed);
    }
    stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
    stream.flush()
}

// A certificate authority made for this test; its key was deleted. It signed two certificates for 127.0.0.1 and the key
// below. One is valid from 2020 to 2120, the other from 2020 to 2021.

const CA: &str = "-----BEGIN CERTIFICATE-----
MIIBaTCCAQ+gAwIBAgIBATAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBjYWxsc3Bh
biB0ZXN0IENBMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAbMRkw
FwYDVQQDDBBjYWxsc3BhbiB0ZXN0IENBMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcD
QgAEDRTv00Vg1fxsFZIP8fDrmMkXYeWO3gcX6tGX+8SaBzF/6Ihks9IT3TpsWA1K
IsuBQDVWZwvdbYnITKGwdqFRpaNCMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8B
Af8EBAMCAgQwHQYDVR0OBBYEFJTm5rpFkQryjRU8MzGaG2IG4xLRMAoGCCqGSM49
BAMCA0gAMEUCIQCDJJCMgHe7pm/hpWeKzaxBNXTmvKhxLANpeqXtPn3B5gIgd1Ps
DGTJaGbVIkq4s0VqOozYqa6JfR6VEL6GujQVPps=
-----END CERTIFICATE-----
";

const VALID: &str = "-----BEGIN CERTIFICATE-----
MIIBfjCCASSgAwIBAgIBAjAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBjYWxsc3Bh
biB0ZXN0IENBMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIw
EAYDVQQDDAkxMjcuMC4wLjEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAASFZ38R
Z6qxB4Y8bhEDYDc6x618JPl6V80/abKiYsaWGWkz4GGD39IUwSzXQyl9MwlrbOMq
0cCXDNVS/eIyfSLbo14wXDAJBgNVHRMEAjAAMA8GA1UdEQQIMAaHBH8AAAEwHQYD
VR0OBBYEFAw+UGwbCTsygA+R2i9a4/k3j6AaMB8GA1UdIwQYMBaAFJTm5rpFkQry
jRU8MzGaG2IG4xLRMAoGCCqGSM49BAMCA0gAMEUCIQDA2Tm8cDXB7tZmUvIRzGi+
wvIaehYvkV5rzA02sdEIeQIgJpqQF68BrIe37IbPRn4S5x1eiqmbJmqISkwmiXNI
Ric=
-----END CERTIFICATE-----
";

const EXPIRED: &str = "-----BEGIN CERTIFICATE-----
MIIBfTCCASKgAwIBAgIBAzAKBggqhkjOPQQDAjAbMRkwFwYDVQQDDBBjYWxsc3Bh
biB0ZXN0IENBMB4XDTIwMDEwMTAwMDAwMFoXDTIxMDEwMTAwMDAwMFowFDESMBAG
A1UEAwwJMTI3LjAuMC4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEhWd/EWeq
sQeGPG4RA2A3OsetfCT5elfNP2myomLGlhlpM+Bhg9/SFMEs10MpfTMJa2zjKtHA
lwzVUv3iMn0i26NeMFwwCQYDVR0TBAIwADAPBgNVHREECDAGhwR/AAABMB0GA1Ud
DgQWBBQMPlBsGwk7MoAPkdovWuP5N4+gGjAfBgNVHSMEGDAWgBSU5ua6RZEK8o0V
PDMxmhtiBuMS0TAKBggqhkjOPQQDAgNJADBGAiEArJZe5CeahKslqIkv7NuNQCDC
usQt9j5HecLEVERC0I8CIQDmQGkDuGlptFlKSgO4YZrjg8gyeZDMN6k4m6cfjtlK
Fw==
-----END CERTIFICATE-----
";

const KEY: &str = "-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgdfBcQaaCFivf+yGI
EIn5xYRq5e1n4+vw9XgRrOHlfgehRANCAASFZ38RZ6qxB4Y8bhEDYDc6x618JPl6
V80/abKiYsaWGWkz4GGD39IUwSzXQyl9MwlrbOMq0cCXDNVS/eIyfSLb
-----END PRIVATE KEY-----
";
