use super::*;

fn open_one(name: &str) -> Result<LiveSource, CaptureError> {
    open(&Config { interfaces: vec![name.into()], buffer_mib: 2, ..Config::default() }, MissingInterfacePolicy::Fail)
}

#[test]
fn missing_interface_error_lists_existing_interfaces() {
    let text = open_one("no-such-if0").unwrap_err().to_string();
    assert!(text.contains("there is no interface no-such-if0") && text.contains("lo"), "{text}");
    let text = open(&Config::default(), MissingInterfacePolicy::Retry).unwrap_err().to_string();
    assert!(text.contains("set `interface` in [capture]"), "{text}");
}

#[test]
fn missing_privilege_error_names_the_setcap_command() {
    let error = pcap::Error::PcapError("socket: Operation not permitted".into());
    let text = open_errors::cannot_open("lo", &error);
    assert!(text.contains("sudo setcap cap_net_raw,cap_net_admin=eip /"), "{text}");
    let error = pcap::Error::PcapError("x: That device is not up".into());
    assert_eq!(open_errors::cannot_open("lo", &error), "interface lo is down: sudo ip link set dev lo up");
}

/// Captures a datagram on the loopback interface. Then nothing is sent, and the source returns ticks.
#[test]
#[cfg_attr(not(may_capture), ignore = "needs CAP_NET_RAW: captures on the loopback interface")]
fn loopback_frames_are_captured_and_a_silent_wire_ticks() {
    let mut source = open_one("lo").unwrap();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap();
    socket.send_to(b"callspan live test", to).unwrap();
    let mut found = None;
    for _ in 0..1000 {
        match source.next_event().unwrap() {
            CaptureEvent::Frame(f) if f.data.ends_with(b"callspan live test") => {
                found = Some((f.at, f.link, f.orig_len as usize == f.data.len()));
                break;
            }
            CaptureEvent::End => panic!("a live source does not end"),
            _ => {}
        }
    }
    let (at, link, whole) = found.expect("the datagram was captured");
    assert!((link, whole) == (LinkType::Ethernet, true));
    // The kernel and this process use the same clock, and the test takes less than a minute. So the capture time is
    // less than a minute ago.
    assert!(wall().since(at) < Duration::from_secs(60));
    let ticked = (0..1000).any(|_| matches!(source.next_event(), Ok(CaptureEvent::Tick(_))));
    assert!(ticked);
    assert_eq!(source.counters().dropped_by_kernel, 0);
}
