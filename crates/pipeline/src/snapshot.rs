//! What do walks see? One immutable picture of all bridges, their flow tables and the underlay.
//!
//! A copy is cheap: bridges, tables and rules are shared between pictures until one of them changes them.

use std::collections::BTreeMap;
use std::sync::Arc;

use weft_flow::{DepTags, DpPort, DropReason, OfPort, TlvTable, TunnelKey, TunnelKind};

use crate::config::{BridgeConfig, PortConfig, TunnelConfig};
use crate::fdb::Fdb;
use crate::group::{GroupError, GroupMod, GroupSet};
use crate::meter::{MeterError, MeterMod, MeterSet};
use crate::ports::{Paged, Ports};
use crate::table::{FlowModOutcome, TableSet};
use crate::tunnel::{TunnelListener, TunnelMap, Underlay};

/// A bridge as walks see it.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Configuration.
    pub config: Arc<BridgeConfig>,
    /// Flow tables.
    pub tables: TableSet,
    /// Groups.
    pub groups: GroupSet,
    /// Meters.
    pub meters: MeterSet,
    /// Which tunnel options are which fields.
    pub tlv: Arc<TlvTable>,
    pub(crate) fdb: Arc<Fdb>,
}

impl Bridge {
    /// Whether nothing but flow tables differs.
    fn differs_in_tables_only(&self, other: &Bridge) -> bool {
        // Named one by one, so that nothing is forgotten.
        let Bridge { config, tables: _, groups, meters, tlv, fdb } = self;
        Arc::ptr_eq(config, &other.config)
            && groups.is_same(&other.groups)
            && meters.is_same(&other.meters)
            && Arc::ptr_eq(tlv, &other.tlv)
            && Arc::ptr_eq(fdb, &other.fdb)
    }
    /// The port with this OpenFlow number.
    pub fn port(&self, ofport: OfPort) -> Option<&PortConfig> {
        self.config.ports.get(ofport)
    }
    /// The member that carries the traffic of the bond to which `port` belongs: the first whose link is up. The port
    /// itself when it is in no bond, or when all members are down.
    pub fn active_member<'a>(&'a self, port: &'a PortConfig) -> &'a PortConfig {
        if port.bond.is_none() {
            return port;
        }
        let up = |p: &&PortConfig| p.bond == port.bond && p.link_up && !p.flags.down;
        self.config.ports.iter().find(up).unwrap_or(port)
    }
}

/// Tags of a table set, as those of a bridge: its own among all bridges'.
pub(crate) fn tags_on(bridge: u32, tags: u64) -> u64 {
    tags.rotate_left(bridge.wrapping_mul(0x9e37_79b9) >> 26)
}

/// A tunnel's datapath port and options.
type Tunnel = (DpPort, Arc<TunnelConfig>);

/// Everything that is configured. Published by [`crate::Pipeline::publish`].
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    bridges: BTreeMap<u32, Arc<Bridge>>,
    dp_ports: Arc<Paged<(u32, OfPort)>>,
    /// Tunnel ports by bridge and number, of which the map is made.
    tunnel_ports: Arc<BTreeMap<(u32, OfPort), Tunnel>>,
    tunnels: Arc<TunnelMap>,
    underlay: Arc<Underlay>,
    /// Number of the published snapshot that this one is, or was copied from.
    version: u64,
}

impl Snapshot {
    /// No bridges.
    pub fn new() -> Snapshot {
        Snapshot::default()
    }
    /// The bridges, by number.
    pub fn bridges(&self) -> impl Iterator<Item = &Arc<Bridge>> {
        self.bridges.values()
    }
    /// A bridge by number.
    pub fn bridge(&self, id: u32) -> Option<&Arc<Bridge>> {
        self.bridges.get(&id)
    }
    /// A bridge by name.
    pub fn bridge_named(&self, name: &str) -> Option<&Arc<Bridge>> {
        self.bridges.values().find(|b| b.config.name == name)
    }
    /// Adds a bridge, or gives an existing one another configuration; its tables and learned addresses stay.
    ///
    /// A bridge that is new starts with one rule, `priority=0,actions=NORMAL`, unless it is fail-secure.
    pub fn set_bridge(&mut self, config: BridgeConfig) {
        let id = config.id;
        let old = self.bridges.get(&id).cloned();
        let (tables, fdb, groups, meters, tlv) = match &old {
            Some(old) => {
                let Bridge { config: _, tables, groups, meters, tlv, fdb } = &**old;
                (tables.clone(), fdb.clone(), groups.clone(), meters.clone(), tlv.clone())
            }
            None => {
                let tables = TableSet::initial(config.fail_mode);
                (tables, Arc::new(Fdb::new(id)), Default::default(), Default::default(), Default::default())
            }
        };
        fdb.configure(config.mac_table_size, config.mac_aging_ms);
        let before = old.map(|old| old.config.ports.clone()).unwrap_or_default();
        self.index(id, &before, &config.ports);
        let config = Arc::new(config);
        self.bridges.insert(id, Arc::new(Bridge { config, tables, groups, meters, tlv, fdb }));
    }
    /// Removes a bridge with its tables and learned addresses.
    pub fn remove_bridge(&mut self, id: u32) -> bool {
        let Some(gone) = self.bridges.remove(&id) else { return false };
        self.index(id, &gone.config.ports, &Ports::default());
        true
    }
    /// The flow tables of a bridge, to change. Tables that stay as they are remain shared with earlier snapshots.
    pub fn tables_mut(&mut self, bridge: u32) -> Option<&mut TableSet> {
        Some(&mut Arc::make_mut(self.bridges.get_mut(&bridge)?).tables)
    }
    /// [`Snapshot::tables_mut`] of what is published: another version, which nobody has to be told of as a whole.
    pub(crate) fn tables_in_place(&mut self, bridge: u32) -> Option<&mut TableSet> {
        self.version += 1;
        self.tables_mut(bridge)
    }
    /// Tags of cached flows that changes of flow tables since the last call may concern.
    pub(crate) fn take_changed(&mut self) -> DepTags {
        let mut tags = DepTags::default();
        for (id, bridge) in self.bridges.iter_mut().filter(|(_, b)| b.tables.changed() != 0) {
            tags.0 |= tags_on(*id, bridge.tables.changed());
            Arc::make_mut(bridge).tables.published();
        }
        tags
    }
    /// The same without rules: for who asks of ports and tunnels only, so that rules need not be kept for him.
    pub fn without_rules(&self) -> Snapshot {
        let bare = |bridge: &Arc<Bridge>| Bridge { tables: TableSet::new(), ..Bridge::clone(bridge) };
        let bridges = self.bridges.iter().map(|(id, bridge)| (*id, Arc::new(bare(bridge)))).collect();
        Snapshot { bridges, ..self.clone() }
    }
    /// The groups of a bridge, to change. What refers to a group that goes is for the caller to remove:
    /// [`Snapshot::group_mod`] does.
    pub fn groups_mut(&mut self, bridge: u32) -> Option<&mut GroupSet> {
        Some(&mut Arc::make_mut(self.bridges.get_mut(&bridge)?).groups)
    }
    /// The meters of a bridge, to change. What refers to a meter that goes is for the caller to remove:
    /// [`Snapshot::meter_mod`] does.
    pub fn meters_mut(&mut self, bridge: u32) -> Option<&mut MeterSet> {
        Some(&mut Arc::make_mut(self.bridges.get_mut(&bridge)?).meters)
    }
    /// Maps tunnel options to fields on a bridge.
    pub fn set_tlv_table(&mut self, bridge: u32, table: TlvTable) {
        if let Some(bridge) = self.bridges.get_mut(&bridge) {
            Arc::make_mut(bridge).tlv = Arc::new(table);
        }
    }
    /// Executes a group-mod; rules that refer to a group that goes are deleted (OpenFlow 1.3.5 §6.5) and returned. A
    /// bridge that is not there has no groups.
    ///
    /// # Errors
    /// When the group-mod is refused; nothing has changed then.
    pub fn group_mod(
        &mut self,
        bridge: u32,
        group_mod: &GroupMod,
        now_ms: u64,
    ) -> Result<FlowModOutcome, GroupError> {
        let Some(bridge) = self.bridges.get_mut(&bridge) else { return Ok(FlowModOutcome::default()) };
        let bridge = Arc::make_mut(bridge);
        let gone = bridge.groups.apply(group_mod, now_ms)?;
        let mut outcome = FlowModOutcome::default();
        gone.into_iter().for_each(|id| outcome.extend(bridge.tables.delete_group_users(id)));
        Ok(outcome)
    }
    /// Executes a meter-mod; rules that refer to a meter that goes are deleted (OpenFlow 1.3.5 §6.8) and returned. A
    /// bridge that is not there has no meters.
    ///
    /// # Errors
    /// When the meter-mod is refused; nothing has changed then.
    pub fn meter_mod(
        &mut self,
        bridge: u32,
        meter_mod: &MeterMod,
        now_ms: u64,
    ) -> Result<FlowModOutcome, MeterError> {
        let id = bridge;
        let Some(bridge) = self.bridges.get_mut(&id) else { return Ok(FlowModOutcome::default()) };
        let bridge = Arc::make_mut(bridge);
        let gone = bridge.meters.apply(id, meter_mod, now_ms.saturating_mul(1000))?;
        let mut outcome = FlowModOutcome::default();
        gone.into_iter().for_each(|id| outcome.extend(bridge.tables.delete_meter_users(id)));
        Ok(outcome)
    }
    /// Number of the published snapshot that this one is, or was copied from. Grows with each publication.
    pub fn version(&self) -> u64 {
        self.version
    }
    /// Makes this the successor of what is published. Returns the tags of cached flows that may decide otherwise now;
    /// `None`: all.
    pub(crate) fn succeed(&mut self, old: &Snapshot) -> Option<DepTags> {
        let Snapshot { bridges, dp_ports, tunnel_ports: _, tunnels, underlay, version } = &*self;
        let mut tables_only = *version == old.version
            && bridges.len() == old.bridges.len()
            && Arc::ptr_eq(dp_ports, &old.dp_ports)
            && Arc::ptr_eq(tunnels, &old.tunnels)
            && Arc::ptr_eq(underlay, &old.underlay);
        let mut tags = DepTags::default();
        for (id, bridge) in &mut self.bridges {
            match old.bridges.get(id) {
                Some(before) if Arc::ptr_eq(before, bridge) => continue,
                Some(before) => tables_only &= bridge.differs_in_tables_only(before),
                None => tables_only = false,
            }
            tags.0 |= tags_on(*id, bridge.tables.changed());
            if bridge.tables.changed() != 0 {
                Arc::make_mut(bridge).tables.published();
            }
        }
        self.version = old.version + 1;
        tables_only.then_some(tags)
    }
    /// Routes and neighbours for native tunnels.
    pub fn underlay(&self) -> &Underlay {
        &self.underlay
    }
    /// Routes and neighbours for native tunnels, to change.
    pub fn underlay_mut(&mut self) -> &mut Underlay {
        Arc::make_mut(&mut self.underlay)
    }
    /// Bridge and OpenFlow port of a datapath port.
    pub fn port_of(&self, port: DpPort) -> Option<(u32, OfPort)> {
        self.dp_ports.get(port.0).copied()
    }
    /// Which tunnel port a packet came in by, after its outer headers were read into `key` (`dst_port` 0 for GRE).
    ///
    /// # Errors
    /// [`DropReason::TunnelWrongVni`] when the peer is known but not the key, [`DropReason::TunnelWrongPeer`] when no
    /// port takes the peer or local address, [`DropReason::TunnelFlags`] when the header has group policy bits and the
    /// port not `exts=gbp`.
    pub fn tunnel_demux(
        &self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
    ) -> Result<DpPort, DropReason> {
        self.tunnels.demux(kind, dst_port, key, false)
    }
    /// [`Snapshot::tunnel_demux`] of a packet that has no Ethernet header if it is `bare`.
    ///
    /// # Errors
    /// As there, and [`DropReason::PacketType`] when the port that takes the peer and key takes none of this type.
    pub fn tunnel_demux_any(
        &self,
        kind: TunnelKind,
        dst_port: u16,
        key: &TunnelKey,
        bare: bool,
    ) -> Result<DpPort, DropReason> {
        self.tunnels.demux(kind, dst_port, key, bare)
    }
    /// What the tunnel ports listen on; one entry for any number of ports that share a kind and UDP port.
    pub fn tunnel_listeners(&self) -> impl Iterator<Item = TunnelListener> {
        self.tunnels.listeners()
    }
    /// What a tunnel port listens on, for [`weft_flow::DpAction::TunnelPop`], whose port stands for its listener:
    /// which of the listener's ports takes the packet is then for [`Snapshot::tunnel_demux`].
    pub fn tunnel_listener(&self, port: DpPort) -> Option<TunnelListener> {
        let (bridge, ofport) = self.port_of(port)?;
        let config = self.bridge(bridge)?.port(ofport)?.tunnel()?;
        Some(TunnelListener { kind: config.kind, dst_port: config.dst_port, port })
    }

    /// Notes which datapath ports and tunnels a bridge has, where that changed.
    fn index(&mut self, bridge: u32, old: &Ports, new: &Ports) {
        let (mut tunnels, differences) = (false, new.differences(old).collect::<Vec<_>>());
        // First all that goes: what comes may have its datapath port.
        for gone in differences.iter().filter_map(|(old, _)| *old) {
            let Some(dp_port) = gone.dp_port else { continue };
            if self.dp_ports.get(dp_port.0) == Some(&(bridge, gone.ofport)) {
                Arc::make_mut(&mut self.dp_ports).remove(dp_port.0);
            }
            if gone.tunnel().is_some() {
                tunnels = true;
                Arc::make_mut(&mut self.tunnel_ports).remove(&(bridge, gone.ofport));
            }
        }
        for port in differences.iter().filter_map(|(_, new)| *new) {
            let Some(dp_port) = port.dp_port else { continue };
            Arc::make_mut(&mut self.dp_ports).insert(dp_port.0, (bridge, port.ofport));
            if let Some(config) = port.tunnel() {
                tunnels = true;
                Arc::make_mut(&mut self.tunnel_ports)
                    .insert((bridge, port.ofport), (dp_port, config.clone()));
            }
        }
        if tunnels {
            let mut map = TunnelMap::default();
            self.tunnel_ports.values().for_each(|(port, config)| map.insert(*port, config));
            self.tunnels = Arc::new(map);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weft_flow::TunnelKind;

    use super::*;
    use crate::config::{PortKind, TunnelAddr};

    /// A port: number, datapath port by it or another one, and whether it is a tunnel, to one of few peers.
    fn port() -> impl Strategy<Value = (u32, Option<u32>, Option<u8>)> {
        (1_u32..130, proptest::option::weighted(0.9, 0_u32..2), proptest::option::weighted(0.3, 0_u8..4))
    }

    fn config(id: u32, ports: &[(u32, Option<u32>, Option<u8>)]) -> BridgeConfig {
        let port = |(number, dp_port, tunnel): &(u32, Option<u32>, Option<u8>)| {
            let kind = tunnel.map_or(PortKind::Device, |peer| {
                let remote = TunnelAddr::Addr([10, 0, 0, peer].into());
                PortKind::Tunnel(TunnelConfig::new(TunnelKind::Vxlan, remote).into())
            });
            // Unique: a datapath port is one port's.
            let dp_port = dp_port.map(|turn| DpPort(1_000 * id + 2 * number + turn));
            PortConfig::new(OfPort(*number), dp_port, "p", kind)
        };
        BridgeConfig { ports: ports.iter().map(port).collect(), ..BridgeConfig::new(id, "br") }
    }

    proptest! {
        /// A picture that was changed again and again is the one that would be made at once.
        #[test]
        fn changing_is_making_anew(
            steps in proptest::collection::vec((1_u32..3, proptest::collection::vec(port(), 0..20), any::<u8>()), 1..8),
        ) {
            let mut snapshot = Snapshot::new();
            for (id, ports, keep) in steps {
                let mut next = config(id, &ports);
                let old = snapshot.bridge(id).map(|b| b.config.ports.clone()).unwrap_or_default();
                let kept = old.iter().filter(|p| (p.ofport.0 as u8).wrapping_mul(keep) & 3 != 0);
                kept.for_each(|port| next.ports.insert(port.clone()));
                if keep == 0 {
                    snapshot.remove_bridge(id);
                } else {
                    snapshot.set_bridge(next);
                }
                let mut anew = Snapshot::new();
                snapshot.bridges().for_each(|bridge| anew.set_bridge((*bridge.config).clone()));
                prop_assert_eq!(&snapshot.dp_ports, &anew.dp_ports);
                let mut whole = (BTreeMap::new(), TunnelMap::default());
                for (bridge, port) in snapshot.bridges().flat_map(|b| b.config.ports.iter().map(move |p| (b, p))) {
                    let Some(dp_port) = port.dp_port else { continue };
                    whole.0.insert(dp_port.0, (bridge.config.id, port.ofport));
                    port.tunnel().into_iter().for_each(|config| whole.1.insert(dp_port, config));
                }
                prop_assert_eq!(snapshot.dp_ports.iter().map(|(n, at)| (n, *at)).collect::<BTreeMap<_, _>>(), whole.0);
                prop_assert_eq!(&*snapshot.tunnels, &whole.1);
            }
        }
    }
}
