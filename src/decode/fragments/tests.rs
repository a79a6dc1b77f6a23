use super::*;

const BOUNDS: FragmentLimits = FragmentLimits { bytes: 100_000, datagrams: 16, age: Duration::from_secs(5) };

fn key(id: u32, family: FragmentFamily) -> FragmentKey {
    FragmentKey { src: Endpoint::v4([1, 1, 1, 1], 0), dst: Endpoint::v4([2, 2, 2, 2], 0), id, family }
}

fn piece(offset: u32, more: bool, bytes: &[u8]) -> IpFragment<'_> {
    IpFragment { offset, more, protocol: 17, bytes }
}

const V4: FragmentFamily = FragmentFamily::V4 { protocol: 17 };

fn insert(
    f: &mut FragmentReassembler,
    c: &mut DecodeCounters,
    ms: i64,
    key: FragmentKey,
    p: IpFragment<'_>,
) -> Option<Vec<u8>> {
    f.insert(Timestamp::from_micros(ms * 1000), key, p, c).map(|w| w.bytes)
}

#[test]
fn first_of_overlapping_ipv4_fragments_wins() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    assert_eq!(insert(&mut f, &mut c, 0, key(1, V4), piece(8, true, b"BBBBBBBB")), None);
    assert_eq!(insert(&mut f, &mut c, 0, key(1, V4), piece(0, true, b"aaaaaaaabbbbbbbbcccccccc")), None);
    assert_eq!(insert(&mut f, &mut c, 0, key(1, V4), piece(24, false, b"dd")).unwrap(), b"aaaaaaaaBBBBBBBBccccccccdd");
}

#[test]
fn overlapping_ipv6_fragments_drop_the_datagram_but_duplicates_do_not() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    let k = key(1, FragmentFamily::V6);
    insert(&mut f, &mut c, 0, k, piece(0, true, b"aaaaaaaa"));
    insert(&mut f, &mut c, 0, k, piece(0, true, b"aaaaaaaa"));
    assert_eq!(insert(&mut f, &mut c, 0, k, piece(8, false, b"bb")).unwrap(), b"aaaaaaaabb");
    let k = key(2, FragmentFamily::V6);
    insert(&mut f, &mut c, 0, k, piece(0, true, b"aaaaaaaa"));
    insert(&mut f, &mut c, 0, k, piece(0, true, b"xxxxxxxx"));
    assert_eq!(insert(&mut f, &mut c, 0, k, piece(8, false, b"bb")), None);
    assert_eq!((c.reassembled, c.dropped.overlapping_fragments, f.bytes), (1, 1, 0));
}

#[test]
fn lost_fragment_times_out_and_delays_no_other_datagram() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    insert(&mut f, &mut c, 0, key(1, V4), piece(0, true, b"aaaaaaaa"));
    insert(&mut f, &mut c, 1, key(2, V4), piece(0, true, b"bbbbbbbb"));
    assert!(insert(&mut f, &mut c, 2, key(2, V4), piece(8, false, b"c")).is_some());
    f.expire(Timestamp::from_secs(6), &mut c);
    assert_eq!((c.dropped.fragment_timeout, f.bytes, f.datagrams.len()), (1, 0, 0));
}

#[test]
fn reused_id_does_not_join_fragments_of_an_old_datagram() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    insert(&mut f, &mut c, 0, key(1, V4), piece(0, true, b"oldoldol"));
    insert(&mut f, &mut c, 5000, key(1, V4), piece(0, true, b"newnewne"));
    assert_eq!(insert(&mut f, &mut c, 5000, key(1, V4), piece(8, false, b"w")).unwrap(), b"newnewnew");
    // A duplicate of the last fragment within 50 ms starts no new datagram. After 60 ms, a fragment with the same id
    // belongs to a new datagram.
    assert_eq!(insert(&mut f, &mut c, 5049, key(1, V4), piece(8, false, b"w")), None);
    assert_eq!(f.bytes, 0);
    insert(&mut f, &mut c, 5060, key(1, V4), piece(8, false, b"x"));
    assert!(f.bytes > 0);
}

#[test]
fn memory_is_bounded_and_drops_are_counted() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    for id in 0..1000 {
        insert(&mut f, &mut c, 0, key(id, V4), piece(0, true, &[7; 32_000]));
        assert!(f.bytes <= BOUNDS.bytes && f.datagrams.len() <= BOUNDS.datagrams);
    }
    // The limit of 100,000 bytes has room for three fragments of 32,000 bytes.
    assert_eq!(c.dropped.fragment_limit, 997);
    for id in 0..1000 {
        insert(&mut f, &mut c, 0, key(id, V4), piece(0, true, &[7; 8]));
    }
    assert_eq!(f.datagrams.len(), BOUNDS.datagrams);
}

#[test]
fn impossible_fragments_are_counted() {
    let (mut f, mut c) = (FragmentReassembler::new(BOUNDS), DecodeCounters::default());
    insert(&mut f, &mut c, 0, key(1, V4), piece(65_528, false, &[0; 100]));
    insert(&mut f, &mut c, 0, key(1, V4), piece(0, true, &[0; 7]));
    insert(&mut f, &mut c, 0, key(1, V4), piece(0, true, &[]));
    assert_eq!((c.dropped.bad_fragment, f.datagrams.len()), (3, 0));
}
