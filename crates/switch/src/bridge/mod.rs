//! What is there now? The bridges and interfaces of the switch as they are, beside what was asked for.
//!
//! ```text
//!   wanted ──apply──▶ World + datapath ──compile──▶ BridgeConfig ─▶ snapshot
//!                        │    ▲
//!                        │    └── links (netlink)
//!                        └──report──▶ database
//! ```

mod address;
mod apply;
mod bond;
mod compile;
mod ifaces;
mod numbers;
mod qos;
mod report;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use weft_datapath::{Datapath, PortStats};
use weft_flow::{DpPort, OfPort};
use weft_host::ethtool::Modes;
use weft_host::netlink::Shaping;
use weft_ovsdb::Uuid;
use weft_pipeline::{FragMode, PortFlags};
use weft_wire::Mac;

use crate::net::Links;
use crate::wanted;
use numbers::Numbers;

pub(crate) use ifaces::{Ifaces, Role};
pub(crate) use report::{COMPATIBLE_WITH, Static, report};
pub(crate) use report::{put, virtual_mac};

/// Everything that exists.
pub(crate) struct World {
    /// Packets wait until the flow tables are restored (`flow-restore-wait`): true from the start until the
    /// configuration was first seen not to ask for it.
    pub restoring: bool,
    /// Bridges, by name.
    pub bridges: BTreeMap<String, Bridge>,
    next_id: u32,
    rundir: PathBuf,
}

/// A bridge.
pub(crate) struct Bridge {
    /// Number for the pipeline.
    pub id: u32,
    /// Row.
    pub uuid: Uuid,
    /// Name.
    pub name: String,
    /// What was asked for last, of the bridge itself: its ports are with the interfaces.
    pub wanted: wanted::Bridge,
    /// Interfaces.
    pub ifaces: Ifaces,
    /// Address of the local port.
    pub mac: Mac,
    /// OpenFlow datapath identifier.
    pub datapath_id: u64,
    /// Whether a controller is connected.
    pub controller_connected: bool,
    /// Whether one of them expects packets that match no rule.
    pub miss_to_controller: bool,
    /// How fragments are treated, as controllers said last.
    pub fragments: FragMode,
    /// What internal ports were given last.
    internal_mtu: Option<u32>,
    numbers: Numbers,
    /// Where vhost-user sockets are made.
    sockets: PathBuf,
}

/// An interface.
pub(crate) struct Iface {
    /// What was asked for last.
    pub wanted: wanted::Iface,
    /// Its port.
    pub port: String,
    /// What is asked for of its port.
    pub home: Arc<wanted::Port>,
    /// OpenFlow number; `None`: could not be opened.
    pub ofport: Option<OfPort>,
    /// The number it had last, to have again.
    last_ofport: Option<OfPort>,
    /// Datapath port; `None` for patch ports and those that could not be opened.
    pub dp_port: Option<DpPort>,
    /// What its device is like.
    pub state: State,
    /// When it was opened, milliseconds.
    pub opened_ms: u64,
    /// How often the link went up or down.
    pub link_resets: i64,
    /// Why it could not be opened, or is not usable.
    pub error: Option<String>,
    /// Configuration that controllers set by port-mod.
    pub flags: PortFlags,
    /// Whether a bond keeps it in reserve.
    pub standby: bool,
    /// Way that a tunnel's packets take out of the host.
    pub egress: Option<Egress>,
    /// Traffic as last read.
    pub stats: PortStats,
    /// Whether a bridge before this one has an interface of the name.
    taken: bool,
    /// What the database was told of it last.
    told: Option<report::Told>,
    /// MTU the switch chose last.
    chosen_mtu: Option<u32>,
    /// How its device was told to shape what leaves by it.
    pub shaped: Option<Shaping>,
}

/// What an interface's device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    /// Index of the device; 0: none.
    pub ifindex: u32,
    /// Address.
    pub mac: Option<Mac>,
    /// Largest layer-3 packet.
    pub mtu: Option<u32>,
    /// Set up by the administrator.
    pub admin_up: bool,
    /// Has a carrier.
    pub link_up: bool,
    /// Driver of the device.
    pub driver: Option<String>,
    /// Speed, Mbit/s.
    pub speed_mbps: Option<u32>,
    /// Whether it is full duplex.
    pub full_duplex: Option<bool>,
    /// Ways in which its link may work.
    pub modes: Modes,
    /// What the datapath tells of it besides.
    pub status: Vec<(String, String)>,
}

impl Default for State {
    /// That of a virtual port, which is always up.
    fn default() -> State {
        State {
            ifindex: 0,
            mac: None,
            mtu: None,
            admin_up: true,
            link_up: true,
            driver: None,
            speed_mbps: None,
            full_duplex: None,
            modes: Modes::default(),
            status: Vec::new(),
        }
    }
}

/// Way that a tunnel's packets take out of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Egress {
    /// Device.
    pub device: String,
    /// Whether it has a carrier.
    pub carrier: bool,
    /// Source address.
    pub source: Option<std::net::IpAddr>,
}

/// What applying needs besides what is wanted.
pub(crate) struct Host<'a> {
    /// Where ports are opened.
    pub datapath: &'a dyn Datapath,
    /// What devices there are.
    pub links: &'a mut Links,
}

impl World {
    /// Nothing yet. `rundir` is where sockets are made.
    pub(crate) fn new(rundir: PathBuf) -> World {
        World { restoring: true, bridges: BTreeMap::new(), next_id: 0, rundir }
    }

    /// The bridge with this number.
    pub(crate) fn by_id(&self, id: u32) -> Option<&Bridge> {
        self.bridges.values().find(|b| b.id == id)
    }

    /// The bridge with this number, to change.
    pub(crate) fn by_id_mut(&mut self, id: u32) -> Option<&mut Bridge> {
        self.bridges.values_mut().find(|b| b.id == id)
    }

    /// Forgets what the database was told: it has taken changes back.
    pub(crate) fn forget_told(&mut self) {
        for bridge in self.bridges.values_mut() {
            bridge.ifaces.books().for_each(|iface| iface.told = None);
            bridge.ifaces.touch_all();
        }
    }

    /// Everything is to be published and reported anew.
    pub(crate) fn touch_all(&mut self) {
        self.bridges.values_mut().for_each(|bridge| bridge.ifaces.touch_all());
    }

    /// Addresses of internal ports may have changed: they are to be published anew.
    pub(crate) fn touch_internal(&mut self) {
        for bridge in self.bridges.values_mut() {
            let numbers: Vec<_> = bridge.ifaces.with_role(Role::Internal).filter_map(|i| i.ofport).collect();
            bridge.ifaces.unpublished.extend(numbers);
        }
    }

    /// Whether an interface with a role came, went or changed since this was last asked.
    pub(crate) fn take_touched(&mut self, role: Role) -> bool {
        self.bridges.values_mut().fold(false, |touched, bridge| bridge.ifaces.take_touched(role) | touched)
    }

    /// Every interface with its bridge.
    pub(crate) fn ifaces(&self) -> impl Iterator<Item = (&Bridge, &Iface)> {
        self.bridges.values().flat_map(|b| b.ifaces.values().map(move |i| (b, i)))
    }
}

impl Bridge {
    /// The interface with this OpenFlow number.
    pub(crate) fn by_ofport(&self, ofport: OfPort) -> Option<&Iface> {
        self.ifaces.by_number(ofport)
    }

    /// The local port.
    pub(crate) fn local(&self) -> Option<&Iface> {
        self.ifaces.get(&self.name)
    }

    /// Interfaces that are open, by OpenFlow number.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Iface> {
        self.ifaces.numbered()
    }

    /// What is asked for of each bond.
    pub(crate) fn bonds(&self) -> impl Iterator<Item = (&wanted::Port, &wanted::Bond)> {
        let first = |members: &ifaces::Members| self.ifaces.get(members.names.first()?);
        let homes = self.ifaces.bonds().values().filter_map(first).map(|iface| &*iface.home);
        homes.filter_map(|port| Some((port, port.bond.as_ref()?)))
    }
}

impl Iface {
    fn new(wanted: &wanted::Iface, port: &Arc<wanted::Port>) -> Iface {
        Iface {
            wanted: wanted.clone(),
            port: port.name.clone(),
            home: Arc::clone(port),
            ofport: None,
            last_ofport: None,
            dp_port: None,
            state: State::default(),
            opened_ms: 0,
            link_resets: 0,
            error: None,
            flags: PortFlags::default(),
            standby: false,
            egress: None,
            stats: PortStats::default(),
            taken: false,
            told: None,
            chosen_mtu: None,
            shaped: None,
        }
    }

    /// Whether the switch made the device behind it.
    pub(crate) fn is_ours(&self) -> bool {
        use wanted::IfaceKind::{Internal, Tap};
        matches!(self.wanted.kind, Ok(Internal | Tap)) && self.state.ifindex != 0
    }

    /// Whether a virtual machine's memory is behind it.
    pub(crate) fn is_vhost(&self) -> bool {
        matches!(self.wanted.kind, Ok(wanted::IfaceKind::Vhost { .. }))
    }

    /// Whether there is a device of the kernel behind it.
    pub(crate) fn has_device(&self) -> bool {
        use wanted::IfaceKind::{Device, Internal, Tap};
        matches!(self.wanted.kind, Ok(Device | Internal | Tap))
    }
}
