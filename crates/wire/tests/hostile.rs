//! Does any input make a parser panic, or break a law of round trips?

mod touch;

use proptest::prelude::*;
use weft_wire::build::Frame;
use weft_wire::{IpProto, Mac, Vni};

/// Good frames of every kind, as seeds.
fn seeds() -> Vec<Vec<u8>> {
    let eth = || Frame::eth(Mac([2; 6]), Mac([4; 6]));
    let v4 = || eth().vlan(1).ipv4([10, 0, 0, 1], [10, 0, 0, 2]);
    let v6 = || eth().ipv6([1; 16], [2; 16]);
    let vni = Vni::new(7).unwrap();
    let inner = |frame: Frame| frame.inner_eth(Mac([2; 6]), Mac([6; 6])).ipv4([1; 4], [2; 4]).udp(1, 2);
    vec![
        v4().tcp(1, 2).payload([1; 300]).build(),
        v4().udp(1, 2).payload([1; 300]).build(),
        v6().tcp(1, 2).payload([1; 300]).build(),
        v6().ext(IpProto::HOPOPT, &[0; 6]).fragment(0, false, 1).udp(1, 2).payload([1; 300]).build(),
        v6().ext(IpProto::ROUTING, &[0; 14]).sctp(1, 2).payload([1; 30]).build(),
        inner(v4().udp(9, 4789).vxlan(vni)).build(),
        inner(v4().udp(9, 6081).geneve(vni, &[0, 1, 2, 1, 9, 9, 9, 9])).build(),
        inner(v6().gre(Some(1), Some(2), true)).build(),
        eth().mpls(16).mpls(17).ipv4([1; 4], [2; 4]).udp(1, 2).build(),
        // A network service header with a TLV, and one with four words inside it, before an Ethernet frame.
        [
            &[0x0f, 0xc4, 2, 4, 0, 0, 1, 255, 1, 2, 3, 4, 9, 9, 9, 9][..],
            &[0x0f, 0xc6, 1, 3, 0, 0, 1, 255],
            &[7; 30],
        ]
        .concat(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random(data in prop::collection::vec(any::<u8>(), 0..200)) {
        touch::everything(&data);
    }

    #[test]
    fn mutated(
        which in 0usize..10, csum in any::<(bool, u8, u8)>(), gso in (0u8..6, 1u16..400),
        pokes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut data = vec![u8::from(csum.0), gso.0, 0, 0, 0, 0, csum.1, 0, csum.2, 0];
        data[4..6].copy_from_slice(&gso.1.to_le_bytes());
        data.extend(&seeds()[which]);
        for (at, byte) in pokes {
            let at = at.index(data.len().min(120));
            data[at] = byte;
        }
        if let Some(cut) = cut {
            data.truncate(cut.index(data.len()));
        }
        touch::everything(&data);
    }
}

#[test]
fn seeds_pass() {
    for seed in seeds() {
        let mut data = vec![0, 1, 0, 0, 100, 0, 0, 0, 0, 0];
        data.extend(seed);
        touch::everything(&data);
    }
}
