//! What do tests of the compiler share? A plan of three networks, two of them routed.
#![allow(dead_code, unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};

use weft_compile::*;
use weft_flow::OfPort;
use weft_wire::Mac;

pub fn mac(n: u32) -> Mac {
    Mac::from_u64(0x0200_0000_0000 | u64::from(n))
}

pub fn subnet(address: &str, prefix: u8, gateway: &str) -> Subnet {
    Subnet {
        address: address.parse().unwrap(),
        prefix,
        gateway: Some(gateway.parse().unwrap()),
        dhcp: true,
        adverts: address.contains(':'),
    }
}

/// Networks 1 and 2 are routed to each other; all have an overlay; 2 lets its ports talk to the gateway only;
/// 3 has neither host nor routes.
pub fn nets() -> BTreeMap<NetKey, Net> {
    let net = |n: u8| Net {
        gateway_mac: mac(0xee00 + u32::from(n)),
        subnets: vec![
            subnet(&format!("10.0.{n}.0"), 24, &format!("10.0.{n}.1")),
            subnet(&format!("fd00:{n}::"), 64, &format!("fd00:{n}::1")),
        ],
        dns: true,
        ..Net::default()
    };
    let mut one = net(1);
    one.routed = vec![NetKey(2)];
    one.host = Some(HostLink { port: OfPort(101), default_route: true });
    one.overlay = Some(Overlay { port: OfPort(200), vni: 1001, peers: vec!["192.0.2.7".parse().unwrap()] });
    let mut two = net(2);
    two.routed = vec![NetKey(1)];
    two.isolated = true;
    // It takes less than network 1, and a machine of it routes on.
    (one.mtu, two.mtu) = (1500, 1300);
    one.hops = vec![Hop { address: "10.99.0.0".parse().unwrap(), prefix: 16, net: NetKey(2), mac: mac(4) }];
    two.overlay = Some(Overlay { port: OfPort(200), vni: 1002, peers: vec!["192.0.2.7".parse().unwrap()] });
    two.host = Some(HostLink { port: OfPort(102), default_route: true });
    let mut three = net(3);
    three.overlay = Some(Overlay { port: OfPort(200), vni: 1003, peers: vec!["192.0.2.7".parse().unwrap()] });
    three.uplink = Some(Uplink { port: OfPort(300), vlan: 30, trunk: vec![31, 32] });
    BTreeMap::from([(NetKey(1), one), (NetKey(2), two), (NetKey(3), three)])
}

/// Port `n` of network `net`: OpenFlow port n, addresses 10.0.net.n and fd00:net::n.
pub fn port(net: u32, n: u32) -> Port {
    Port {
        net: NetKey(net),
        port: OfPort(n),
        mac: mac(n),
        addresses: vec![
            format!("10.0.{net}.{n}").parse().unwrap(),
            format!("fd00:{net}::{n:x}").parse().unwrap(),
        ],
        guard: Guard::On(Vec::new()),
        vlans: Vlans::default(),
        sends: None,
        receives: None,
    }
}

/// A bridge as deltas leave it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bridge {
    pub flows: BTreeMap<FlowId, Flow>,
    pub groups: BTreeMap<NetKey, BTreeMap<u32, Bucket>>,
    pub meters: BTreeMap<u32, Limit>,
}

impl Bridge {
    pub fn take(&mut self, delta: Delta) {
        self.meters.extend(delta.meters);
        for (key, group) in delta.groups {
            self.groups.insert(key, group.buckets.into_iter().map(|b| (b.id, b)).collect());
        }
        for (key, id) in delta.gone_buckets {
            let gone = self.groups.get_mut(&key).expect("the group is there").remove(&id);
            assert!(gone.is_some(), "bucket {id} of {key:?} was not there");
        }
        for ((key, id), bucket) in delta.buckets {
            let before = self.groups.get_mut(&key).expect("the group is there").insert(id, bucket);
            assert!(before.is_none(), "bucket {id} of {key:?} is there already");
        }
        for id in delta.gone {
            assert!(self.flows.remove(&id).is_some(), "{id:?} was not there");
        }
        self.flows.extend(delta.flows);
        for key in delta.gone_groups {
            assert!(self.groups.remove(&key).is_some(), "group {key:?} was not there");
        }
        for id in delta.gone_meters {
            assert!(self.meters.remove(&id).is_some(), "meter {id} was not there");
        }
        let groups: BTreeSet<_> = self.groups.keys().map(|k| k.group()).collect();
        for flow in self.flows.values() {
            let meter = flow.instructions.meter;
            assert!(
                meter.is_none_or(|id| self.meters.contains_key(&id)),
                "{flow:?} has a meter that is gone"
            );
            for action in &flow.instructions.apply {
                if let weft_flow::Action::Group(id) = action {
                    assert!(groups.contains(id), "{flow:?} sends to a group that is gone");
                }
            }
        }
    }
}
