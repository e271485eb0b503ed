//! What changes in the flow tables when something changes in the plan?
//!
//! Every flow is owed to one object: its [`Owner`]. A change makes the flows of few owners anew; the difference to what
//! they had is what the bridge is told. Two owners may, for a moment or by mistake, ask for the same flow: the first in
//! order has it, and when it lets go, the other's comes in its place.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

use smallvec::SmallVec;

use crate::flow::{Bucket, Flow, FlowId, Group};
use crate::objects::{network, node, port};
use crate::plan::{Limit, Net, NetKey, Plan, Port, PortKey};

/// The object that flows are owed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Owner {
    /// The bridge as a whole.
    Node,
    /// A network.
    Net(NetKey),
    /// A port.
    Port(PortKey),
}

/// A change of the plan. `None`: the object is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of a network.
    Net(NetKey, Option<Net>),
    /// Of a port.
    Port(PortKey, Option<Port>),
}

/// What to tell the bridge, in this order; in one bundle but for meters, which bundles do not take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Meters to add or to change, before the flows.
    pub meters: BTreeMap<u32, Limit>,
    /// Groups to add or to change as a whole.
    pub groups: BTreeMap<NetKey, Group>,
    /// Buckets to take out of groups, those that are replaced included.
    pub gone_buckets: BTreeSet<(NetKey, u32)>,
    /// Buckets to put in groups then.
    pub buckets: BTreeMap<(NetKey, u32), Bucket>,
    /// Flows to delete.
    pub gone: BTreeSet<FlowId>,
    /// Flows to add, in place of those of the same identity.
    pub flows: BTreeMap<FlowId, Flow>,
    /// Groups to delete, after the flows.
    pub gone_groups: BTreeSet<NetKey>,
    /// Meters to delete, after the flows.
    pub gone_meters: BTreeSet<u32>,
}

impl Delta {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }
}

/// A plan and the flows it comes to.
#[derive(Debug, Default)]
pub struct Compiler {
    plan: Plan,
    members: BTreeMap<NetKey, BTreeSet<PortKey>>,
    flows: BTreeMap<Owner, Vec<Flow>>,
    /// How many they are.
    count: usize,
    /// Who asks for a flow with this hash of its identity.
    owners: HashMap<u64, SmallVec<[Owner; 1]>>,
    groups: BTreeMap<NetKey, BTreeMap<u32, Bucket>>,
    meters: BTreeMap<u32, Limit>,
    /// The network whose group a port's bucket is in.
    homes: BTreeMap<PortKey, NetKey>,
}

fn hash(id: &FlowId) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}

impl Compiler {
    /// An empty plan, and what the bridge is to be told of it.
    pub fn new() -> (Compiler, Delta) {
        let mut compiler = Compiler::default();
        let mut delta = Delta::default();
        compiler.rebuild(Owner::Node, &mut delta);
        (compiler, delta)
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many flows there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// All that the bridge must hold: for a bridge of which nothing is known.
    pub fn whole(&self) -> Delta {
        let mut flows = BTreeMap::new();
        // The first in order wins.
        for flow in self.flows.values().rev().flatten() {
            flows.insert(flow.id(), flow.clone());
        }
        let groups = self.groups.keys().filter_map(|key| self.group(*key)).collect();
        Delta { flows, groups, meters: self.meters.clone(), ..Delta::default() }
    }

    /// How many flows the bridge holds: of those that two objects ask for, one.
    pub fn held(&self) -> usize {
        self.owners.len()
    }

    /// What the bridge must hold of some objects: for one on which others changed it.
    pub fn again(&self, owners: &BTreeSet<Owner>) -> Delta {
        let mut delta = Delta::default();
        for owner in owners {
            for flow in self.flows.get(owner).into_iter().flatten() {
                let id = flow.id();
                let alone = self.owners.get(&hash(&id)).is_some_and(|askers| askers.len() == 1);
                if alone || self.first(&id, None) == Some(*owner) {
                    delta.flows.insert(id, flow.clone());
                }
            }
            match owner {
                Owner::Node => {}
                Owner::Net(key) => delta.groups.extend(self.group(*key)),
                Owner::Port(key) => {
                    let ids = <[u32; 2]>::from(key.meters());
                    delta.meters.extend(ids.iter().filter_map(|id| Some((*id, *self.meters.get(id)?))));
                }
            }
        }
        delta
    }

    fn group(&self, key: NetKey) -> Option<(NetKey, Group)> {
        let buckets = self.groups.get(&key)?;
        Some((key, Group { buckets: buckets.values().cloned().collect() }))
    }

    /// Takes changes in, and says what the bridge is to be told.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> Delta {
        let mut dirty = BTreeSet::new();
        for change in changes {
            match change {
                Change::Port(key, new) => self.set_port(key, new, &mut dirty),
                Change::Net(key, new) => self.set_net(key, new, &mut dirty),
            }
        }
        let mut delta = Delta::default();
        for owner in dirty {
            self.rebuild(owner, &mut delta);
        }
        // What several owners passed on among themselves is there.
        let flows = &delta.flows;
        delta.gone.retain(|id| !flows.contains_key(id));
        delta
    }

    fn set_port(&mut self, key: PortKey, new: Option<Port>, dirty: &mut BTreeSet<Owner>) {
        let net = new.as_ref().map(|p| p.net);
        let old = match new {
            Some(port) => self.plan.ports.insert(key, port),
            None => self.plan.ports.remove(&key),
        };
        if let Some(old) = &old
            && Some(old.net) != net
            && let Some(members) = self.members.get_mut(&old.net)
        {
            members.remove(&key);
            if members.is_empty() {
                self.members.remove(&old.net);
            }
        }
        if let Some(net) = net {
            self.members.entry(net).or_default().insert(key);
        }
        if old.as_ref() != self.plan.ports.get(&key) {
            dirty.insert(Owner::Port(key));
        }
    }

    fn set_net(&mut self, key: NetKey, new: Option<Net>, dirty: &mut BTreeSet<Owner>) {
        let old = match new {
            Some(net) => self.plan.nets.insert(key, net),
            None => self.plan.nets.remove(&key),
        };
        let new = self.plan.nets.get(&key);
        if old.as_ref() == new {
            return;
        }
        dirty.insert(Owner::Net(key));
        // Ports rest on little of their network.
        let asks = |n: &Net| (n.isolated, n.uplink.is_some());
        if old.as_ref().map(asks) != new.map(asks) {
            dirty.extend(self.members.get(&key).into_iter().flatten().map(|p| Owner::Port(*p)));
        }
        let leads_here = |(_, net): &(&NetKey, &Net)| {
            net.routed.contains(&key) || net.hops.iter().any(|hop| hop.net == key)
        };
        dirty.extend(self.plan.nets.iter().filter(leads_here).map(|(k, _)| Owner::Net(*k)));
    }

    /// The flows that an object asks for by the plan as it is.
    fn wanted(&self, owner: Owner) -> Vec<Flow> {
        match owner {
            Owner::Node => node::flows(),
            Owner::Net(key) => {
                self.plan.nets.get(&key).map_or_else(Vec::new, |n| network::flows(key, n, &self.plan))
            }
            Owner::Port(key) => {
                let found = self.plan.ports.get(&key).and_then(|p| Some((p, self.plan.nets.get(&p.net)?)));
                found.map_or_else(Vec::new, |(port, net)| port::flows(key, port, net))
            }
        }
    }

    /// Makes the flows of an owner anew.
    fn rebuild(&mut self, owner: Owner, delta: &mut Delta) {
        let wanted = self.wanted(owner);
        let before = self.flows.remove(&owner).unwrap_or_default();
        self.count -= before.len();
        let mut before: HashMap<FlowId, Flow> = before.into_iter().map(|f| (f.id(), f)).collect();
        let mut kept = BTreeMap::new();
        for flow in wanted {
            let id = flow.id();
            let same = before.remove(&id).is_some_and(|old| old == flow);
            let askers = self.owners.entry(hash(&id)).or_default();
            if let Err(at) = askers.binary_search(&owner) {
                askers.insert(at, owner);
            }
            let first = self.first(&id, Some(owner));
            if !same && first.is_none_or(|other| owner < other) {
                delta.gone.remove(&id);
                delta.flows.insert(id.clone(), flow.clone());
            }
            kept.insert(id, flow);
        }
        // One flow for each identity, even if an object asks twice.
        let kept: Vec<Flow> = kept.into_values().collect();
        let still: BTreeSet<u64> = kept.iter().map(|f| hash(&f.id())).collect();
        if !kept.is_empty() {
            self.count += kept.len();
            self.flows.insert(owner, kept);
        }
        for (id, _) in before {
            self.let_go(owner, id, &still, delta);
        }
        self.regroup(owner, delta);
    }

    /// An owner no longer asks for a flow.
    fn let_go(&mut self, owner: Owner, id: FlowId, still: &BTreeSet<u64>, delta: &mut Delta) {
        let hash = hash(&id);
        if let Some(askers) = self.owners.get_mut(&hash)
            && !still.contains(&hash)
        {
            askers.retain(|o| *o != owner);
            if askers.is_empty() {
                self.owners.remove(&hash);
            }
        }
        match self.first(&id, Some(owner)) {
            // It was another's all along.
            Some(other) if other < owner => {}
            Some(other) => {
                let heir = self.flows.get(&other).and_then(|flows| flows.iter().find(|f| f.id() == id));
                if let Some(flow) = heir {
                    delta.flows.insert(id, flow.clone());
                }
            }
            None => {
                delta.flows.remove(&id);
                delta.gone.insert(id);
            }
        }
    }

    /// The first in order of those who ask for a flow, leaving one out.
    fn first(&self, id: &FlowId, but: Option<Owner>) -> Option<Owner> {
        let askers = self.owners.get(&hash(id))?;
        let asks = |o: &&Owner| {
            Some(**o) != but && self.flows.get(o).is_some_and(|f| f.iter().any(|f| f.id() == *id))
        };
        askers.iter().find(asks).copied()
    }

    /// Puts the meters of a port right.
    fn remeter(&mut self, key: PortKey, delta: &mut Delta) {
        let port = self.plan.ports.get(&key);
        let wanted: BTreeMap<u32, Limit> = port.into_iter().flat_map(|p| port::meters(key, p)).collect();
        for id in <[u32; 2]>::from(key.meters()) {
            match wanted.get(&id) {
                Some(limit) if self.meters.insert(id, *limit) != Some(*limit) => {
                    delta.gone_meters.remove(&id);
                    delta.meters.insert(id, *limit);
                }
                Some(_) => {}
                None => delta.gone_meters.extend(self.meters.remove(&id).map(|_| id)),
            }
        }
    }

    /// Puts the buckets of an owner right.
    fn regroup(&mut self, owner: Owner, delta: &mut Delta) {
        match owner {
            Owner::Node => {}
            Owner::Net(key) => self.regroup_net(key, delta),
            Owner::Port(port_key) => {
                self.remeter(port_key, delta);
                let port = self.plan.ports.get(&port_key);
                let home = port.map(|p| p.net);
                let was = self.homes.get(&port_key).copied().filter(|was| Some(*was) != home);
                if let Some(was) = was
                    && let Some(buckets) = self.groups.get_mut(&was)
                    && buckets.remove(&port_key.0).is_some()
                {
                    delta.gone_buckets.insert((was, port_key.0));
                }
                let Some((port, key)) = port.zip(home) else {
                    self.homes.remove(&port_key);
                    return;
                };
                self.homes.insert(port_key, key);
                let Some(buckets) = self.groups.get_mut(&key) else { return };
                let bucket = port::bucket(port_key, port);
                if buckets.get(&port_key.0) != Some(&bucket) {
                    if buckets.insert(port_key.0, bucket.clone()).is_some() {
                        delta.gone_buckets.insert((key, port_key.0));
                    }
                    delta.buckets.insert((key, port_key.0), bucket);
                }
            }
        }
    }

    fn regroup_net(&mut self, key: NetKey, delta: &mut Delta) {
        let Some(net) = self.plan.nets.get(&key) else {
            if self.groups.remove(&key).is_some() {
                delta.gone_groups.insert(key);
            }
            return;
        };
        let members = self.members.get(&key).into_iter().flatten();
        let ports = members.filter_map(|k| Some(port::bucket(*k, self.plan.ports.get(k)?)));
        let buckets: BTreeMap<u32, Bucket> = ports.chain(network::buckets(net)).map(|b| (b.id, b)).collect();
        if self.groups.get(&key) != Some(&buckets) {
            let group = Group { buckets: buckets.values().cloned().collect() };
            delta.groups.insert(key, group);
            self.groups.insert(key, buckets);
        }
    }
}
