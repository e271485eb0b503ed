//! Are solicitations answered as RFC 4861 §6.1.1 and §6.2.6 say, and timers kept?

use proptest::prelude::*;
use weft_wire::build::Frame;

use super::*;

const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
const HOST: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn config() -> Config {
    Config {
        managed: true,
        mtu: Some(1450),
        prefixes: vec![Prefix {
            prefix: "fd00:1::5".parse().unwrap(),
            len: 64,
            on_link: true,
            autonomous: true,
            valid: 3600,
            preferred: 7200,
        }],
        routes: vec![Route {
            prefix: "fd00:2::".parse().unwrap(),
            len: 48,
            preference: Preference::High,
            lifetime: 600,
        }],
        rdnss: vec!["fd00:1::1".parse().unwrap(), "fd00:1::2".parse().unwrap()],
        dnssl: vec!["Lab.test".into(), "bad..name".into()],
        ..Config::new(ROUTER)
    }
}

fn solicit(src: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    Frame::eth(HOST, ndp::multicast_mac(ALL_ROUTERS))
        .ipv6(src, ALL_ROUTERS)
        .ttl(255)
        .ndp(NdpMessage::RouterSolicit)
        .payload(options)
        .build()
}

fn read(frame: &[u8]) -> (Mac, Ipv6Addr, NdpMessage, Vec<String>) {
    let eth = EthernetView::parse(frame).unwrap();
    let ip = Ipv6View::parse(eth.payload()).unwrap();
    assert_eq!((ip.hop_limit(), ip.src()), (255, link_local(ROUTER)));
    let icmp = Icmpv6View::parse(ip.payload()).unwrap();
    assert!(icmp.checksum_ok(Sum::pseudo_v6(ip.src(), ip.dst(), IpProto::ICMPV6, ip.payload().len() as u32)));
    let ndp = NdpRepr::parse(&icmp).unwrap();
    let options = NdpOptions::new(ndp.options).map(|o| format!("{:?}", o.unwrap())).collect();
    (eth.dst(), ip.dst(), ndp.message, options)
}

#[test]
fn what_is_advertised() {
    let router = Router::new(config(), 0);
    let host = link_local(HOST);
    let (mac, dst, message, options) = read(&router.handle_frame(&solicit(host, &[])).unwrap());
    assert_eq!((mac, dst), (HOST, host));
    let want =
        NdpMessage::RouterAdvert { hop_limit: 64, flags: 0x80, lifetime: 1800, reachable: 0, retrans: 0 };
    assert_eq!(message, want);
    assert_eq!(options.len(), 6, "{options:#?}");
    assert!(options[1].contains("Mtu(1450)"));
    assert!(
        options[2].contains("prefix: fd00:1::,") && options[2].contains("preferred: 3600"),
        "{}",
        options[2]
    );
    assert!(options[3].contains("kind: 24, data: [48, 8, 0, 0, 2, 88, 253, 0, 0, 2"), "{}", options[3]);
    assert!(options[4].contains("Rdnss { lifetime: 1800"));
    assert!(
        options[5].contains("kind: 31, data: [0, 0, 0, 0, 7, 8, 3, 108, 97, 98, 4, 116"),
        "{}",
        options[5]
    );
}

#[test]
fn who_is_answered() {
    let router = Router::new(config(), 0);
    let answered = |frame: &[u8]| router.handle_frame(frame).map(|reply| read(&reply).1);
    let host = link_local(HOST);
    let source = [1, 1, 2, 0, 0, 0, 0, 9];
    assert_eq!(answered(&solicit(host, &source)), Some(host));
    assert_eq!(read(&router.handle_frame(&solicit(host, &source)).unwrap()).0, Mac([2, 0, 0, 0, 0, 9]));
    assert_eq!(answered(&solicit(Ipv6Addr::UNSPECIFIED, &[])), Some(ALL_NODES));
    assert_eq!(answered(&solicit(Ipv6Addr::UNSPECIFIED, &source)), None);
    assert_eq!(answered(&solicit(ALL_NODES, &[])), None);
    let mut far = solicit(host, &[]);
    far[14 + 7] = 254;
    assert_eq!(answered(&far), None, "hop limit");
    let mut bad = solicit(host, &[]);
    *bad.last_mut().unwrap() ^= 1;
    assert_eq!(answered(&bad), None, "checksum");
    let tagged = Frame::eth(HOST, ndp::multicast_mac(ALL_ROUTERS)).vlan(7);
    let tagged = tagged.ipv6(host, ALL_ROUTERS).ttl(255).ndp(NdpMessage::RouterSolicit).build();
    assert_eq!(router.handle_frame(&tagged).unwrap()[12..16], [0x81, 0, 0, 7]);
}

#[test]
fn three_soon_then_at_random_intervals() {
    let mut router = Router::new(config(), 1000);
    assert!(router.poll(999, 0).is_none());
    let mut waits = Vec::new();
    for i in 0..6 {
        let now = router.next_at();
        assert!(router.poll(now, i * 1_000_003).is_some());
        waits.push(router.next_at() - now);
    }
    assert!(waits[..3].iter().all(|w| *w == INITIAL_INTERVAL), "{waits:?}");
    assert!(waits[3..].iter().all(|w| (200_000..=600_000).contains(w)), "{waits:?}");
    router.configure(config(), 5);
    assert_eq!(router.next_at(), 5);
}

#[test]
fn the_last_word_has_no_lifetime() {
    let frame = config().advertisement(ALL_NODES, ndp::multicast_mac(ALL_NODES), &Tags::new(), true).unwrap();
    assert!(matches!(read(&frame).2, NdpMessage::RouterAdvert { lifetime: 0, .. }));
}

proptest! {
    #[test]
    fn damage_never_panics(at in 0..70usize, byte: u8, cut in 0..80usize, min: u32, max: u32, random: u64) {
        let mut frame = solicit(link_local(HOST), &[1, 1, 2, 0, 0, 0, 0, 9]);
        let len = frame.len();
        frame[at % len] = byte;
        frame.truncate(cut);
        let mut router = Router::new(Config { interval: (min, max), ..config() }, 0);
        let _ = router.handle_frame(&frame);
        let _ = router.poll(0, random);
        prop_assert!((3000..=1_800_000).contains(&router.next_at()));
    }
}
