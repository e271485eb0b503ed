//! Does a bridge that was told every change hold what one would that is told the whole plan at its end?

mod common;

use std::collections::BTreeMap;

use common::{Bridge, nets, port};
use proptest::prelude::*;
use weft_compile::*;

/// Ports take and give up numbers and addresses of a small range, so that several often claim the same.
fn change() -> impl Strategy<Value = Change> {
    let numbered = (1..5u32, 1..4u32, 1..4u32, any::<bool>(), prop::bool::weighted(0.8), 0..3u32, 0..3u32);
    let ports = numbered.prop_map(|(key, net, n, guarded, there, sends, receives)| {
        let limit = |rate| (rate > 0).then_some(Limit { rate, burst: 600 });
        let mut port = port(net, n);
        (port.sends, port.receives) = (limit(sends), limit(receives));
        if !guarded {
            port.guard = Guard::Off;
        }
        Change::Port(PortKey(key), there.then_some(port))
    });
    let nets = (1..4u32, any::<[bool; 4]>(), prop::bool::weighted(0.8)).prop_map(|(key, less, there)| {
        let mut net = nets().remove(&NetKey(key)).unwrap();
        if less[0] {
            net.routed.clear();
        }
        if less[1] {
            net.host = None;
        }
        if less[2] {
            (net.overlay, net.uplink) = (None, None);
        }
        net.isolated ^= less[3];
        Change::Net(NetKey(key), there.then_some(net))
    });
    prop_oneof![2 => ports, 1 => nets]
}

fn changes_of(plan: &Plan) -> Vec<Change> {
    let nets = plan.nets.iter().map(|(k, n)| Change::Net(*k, Some(n.clone())));
    nets.chain(plan.ports.iter().map(|(k, p)| Change::Port(*k, Some(p.clone())))).collect()
}

/// What a compiler that knows no past makes of a plan.
fn afresh(plan: &Plan) -> Bridge {
    let (mut compiler, first) = Compiler::new();
    let mut bridge = Bridge::default();
    bridge.take(first);
    bridge.take(compiler.apply(changes_of(plan)));
    bridge
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changes_one_by_one_are_as_all_at_once(batches in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..25)) {
        let (mut compiler, first) = Compiler::new();
        let mut bridge = Bridge::default();
        bridge.take(first);
        for batch in batches {
            bridge.take(compiler.apply(batch));
            let mut whole = Bridge::default();
            whole.take(compiler.whole());
            prop_assert_eq!(&whole, &afresh(compiler.plan()));
            prop_assert_eq!(&bridge, &whole);
            prop_assert_eq!(compiler.held(), compiler.whole().flows.len());
            // What is owed to all objects, told object by object, is everything.
            let (ports, nets) = (compiler.plan().ports.keys(), compiler.plan().nets.keys());
            let owners = ports.map(|k| Owner::Port(*k)).chain(nets.map(|k| Owner::Net(*k)));
            let mut mended = Bridge::default();
            for owner in owners.chain([Owner::Node]) {
                mended.take(compiler.again(&[owner].into()));
            }
            prop_assert_eq!(&mended, &whole);
        }
    }
}

/// One port's change touches one port's flows, however many there are.
#[test]
fn a_port_costs_the_same_among_many() {
    let mut costs = BTreeMap::new();
    for many in [10, 1000, 5000] {
        let (mut compiler, _) = Compiler::new();
        compiler.apply(nets().into_iter().map(|(k, n)| Change::Net(k, Some(n))));
        let net = |n: u32| if n.is_multiple_of(2) { 1 } else { 3 };
        let port = |n: u32| {
            let mut p = common::port(net(n), 0);
            (p.port, p.mac) = (weft_flow::OfPort(1000 + n), common::mac(n));
            p.addresses = vec![std::net::Ipv4Addr::from(0x0a10_0000 + n).into()];
            p
        };
        compiler.apply((0..many).map(|n| Change::Port(PortKey(n), Some(port(n)))));
        let mut moved = port(4);
        moved.addresses = vec!["10.0.1.250".parse().unwrap()];
        let delta = compiler.apply([Change::Port(PortKey(4), Some(moved))]);
        assert!(delta.groups.is_empty() && delta.buckets.is_empty() && !delta.flows.is_empty());
        costs.insert(many, (delta.flows.len(), delta.gone.len()));
        let gone = compiler.apply([Change::Port(PortKey(4), None)]);
        assert_eq!((gone.gone_buckets.len(), gone.groups.len(), gone.flows.len()), (1, 0, 0));
        assert!(compiler.apply([Change::Port(PortKey(4), None)]).is_empty());
    }
    assert_eq!(costs[&10], costs[&5000], "{costs:?}");
    assert!(costs[&10].0 < 12, "{costs:?}");
}
