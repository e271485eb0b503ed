//! Do flows take the links that Open vSwitch chooses for them?

use proptest::prelude::*;
use proptest::sample::select;
use weft_flow::text::{Syntax, parse_actions, parse_key};
use weft_flow::*;

const LINKS: &str = include_str!("data/links.txt");

fn multipath(fields: &str, basis: &str, rest: &str) -> Multipath {
    let text = format!("multipath({fields},{basis},{rest},NXM_NX_REG0[])");
    match parse_actions(&text, &Syntax::default()).unwrap().remove(0) {
        Action::Multipath(multipath) => *multipath,
        other => panic!("{other:?}"),
    }
}

/// The packet, with ports under the names that its protocol has.
fn key_of(text: &str) -> FlowKey {
    let mut key = parse_key(text, &Syntax::default()).unwrap();
    key.pipeline.in_port = 1;
    key
}

#[test]
fn links_are_those_of_open_vswitch() {
    let rows: Vec<&str> = LINKS.lines().filter(|l| !l.starts_with('#')).collect();
    assert_eq!(rows.len(), 168);
    let mut wrong = Vec::new();
    for row in rows {
        let parts: Vec<&str> = row.split('|').map(str::trim).collect();
        let (fields, basis) = parts[0].split_once(' ').unwrap();
        let key = key_of(parts[1]);
        let rules = [
            "modulo_n,65536,0",
            "hash_threshold,65536,0",
            "hrw,60,0",
            "hrw,100,0",
            "iter_hash,50,0",
            "iter_hash,50,90",
            "hash_threshold,7,0",
        ];
        let mut ours: Vec<String> =
            rules.iter().map(|r| format!("{:x}", multipath(fields, basis, r).link(&key))).collect();
        let any = multipath(fields, basis, "hrw,2,0");
        let hash = any.fields.hash(&key, any.basis.into());
        let member = BundleAlgorithm::Hrw.choose(hash, 3, |_| true).unwrap();
        ours.push(["1", "2", "fffe"][member].to_owned());
        // A register that is zero is not printed there.
        let ours = ours.into_iter().filter(|n| n != "0").collect::<Vec<_>>().join(" ");
        if ours != parts[2] {
            wrong.push(format!("{row}\n  ours {ours}"));
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

proptest! {
    #[test]
    fn hashes_rest_on_what_they_say(
        fields in select(vec![
            HashFields::EthSrc, HashFields::SymmetricL4, HashFields::SymmetricL3L4, HashFields::SymmetricL3L4Udp,
            HashFields::NwSrc, HashFields::NwDst, HashFields::SymmetricL3,
        ]),
        words in prop::collection::vec(any::<(u64, u64)>(), PACKET_WORDS),
        eth_type in select(vec![0x800, 0x86dd, 0x806]),
        proto in select(vec![1, 6, 17, 58, 132]),
        frag in select(vec![0, FRAG_ANY, FRAG_ANY | FRAG_LATER]),
        basis: u32,
    ) {
        let mut key = FlowKey::default();
        for (to, from) in key.words_mut().iter_mut().zip(&words) {
            *to = from.0;
        }
        let p = &mut key.packet;
        (p.eth_type, p.ip_proto, p.ip_frag) = (eth_type, proto, frag);
        let mut mask = FlowMask::empty();
        fields.mask_add(&key, &mut mask);
        let mut other = key;
        for ((to, from), m) in other.words_mut().iter_mut().zip(&words).zip(mask.words()) {
            *to = *to & m | from.1 & !m;
        }
        prop_assert_eq!(fields.hash(&key, basis), fields.hash(&other, basis), "{:?}", mask);
    }
}

#[test]
fn the_hash_of_the_datapath() {
    let key = key_of("tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_src=5,tcp_dst=6").packet;
    let back = key_of("tcp,nw_src=10.0.0.2,nw_dst=10.0.0.1,tcp_src=6,tcp_dst=5").packet;
    assert_eq!(key.dp_hash(7, true), back.dp_hash(7, true));
    assert_ne!(key.dp_hash(7, false), back.dp_hash(7, false));
    assert_ne!(key.dp_hash(7, true), key.dp_hash(8, true));
    let first = PacketKey { ip_frag: FRAG_ANY, ..key };
    let later = PacketKey { ip_frag: FRAG_ANY | FRAG_LATER, tp_src: 0, tp_dst: 0, ..key };
    for symmetric in [false, true] {
        assert_eq!(first.dp_hash(7, symmetric), later.dp_hash(7, symmetric));
        assert_ne!(PacketKey::default().dp_hash(0, symmetric), 0);
    }
}

#[test]
fn buckets_score_as_in_open_vswitch() {
    let fields = [(Field::TcpSrc, 0xff00), (Field::IpSrc, !0), (Field::IpDst, !0), (Field::EthSrc, !0)];
    let buckets = [(1, 100), (2, 100), (3, 200), (7, 50)];
    let cases = [
        (0, "tcp,nw_src=10.0.0.1,tp_src=4660", [6260600, 1456300, 12021600, 401150]),
        (0, "tcp,nw_src=10.0.0.2,tp_src=4660", [1562200, 597700, 4859200, 2492150]),
        (12345678901, "tcp,nw_src=10.0.0.1,tp_src=4660", [3209300, 5693000, 9725800, 2859350]),
        (12345678901, "tcp,nw_src=10.0.0.2,tp_src=4660", [5782000, 3141500, 4292400, 2796600]),
        // Not TCP: its port does not count.
        (12345678901, "udp,nw_src=10.0.0.2,udp_src=4660", [4178100, 672700, 5975800, 1198750]),
    ];
    for (param, packet, scores) in cases {
        let key = key_of(&format!("{packet},dl_src=00:11:22:33:44:55,nw_dst=10.1.1.1"));
        let mut mask = FlowMask::empty();
        let hash = selection_hash(&fields, param, &key, &mut mask);
        let ours = buckets.map(|(id, weight)| bucket_score(id, weight, hash));
        assert_eq!(ours, scores, "{packet} with {param}");
        assert_eq!(mask.0.packet.tp_src, if packet.starts_with("tcp") { 0xff00 } else { 0 });
    }
}
