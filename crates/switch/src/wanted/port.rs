//! Which port does a row of the Port table ask for?

use weft_ovsdb::Uuid;
use weft_ovsdb::db::{Database, RowView};
use weft_pipeline::{PriorityTags, VlanConfig, VlanMode, VlanSet};
use weft_wire::Mac;

use super::bridge::usable_mac;
use super::qos::Qos;
use super::{Iface, rows};

/// A port: one interface, or the members of a bond.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Port {
    /// Row; `None` for a local port that the database does not mention.
    pub uuid: Option<Uuid>,
    /// Name.
    pub name: String,
    /// VLANs.
    pub vlan: VlanConfig,
    /// Whether it does not talk to other protected ports.
    pub protected: bool,
    /// Interfaces, by name; never empty.
    pub ifaces: Vec<Iface>,
    /// How it is bonded, when there are several interfaces.
    pub bond: Option<Bond>,
    /// `mac`: counts for the bridge's address in place of the interfaces'.
    pub mac: Option<Mac>,
    /// Quality of service.
    pub qos: Qos,
}

/// How the members of a bond share its work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bond {
    /// `bond_mode`, as given; empty: active-backup.
    pub mode: String,
    /// `bond_active_slave`: the MAC address of the member that was active last.
    pub active: Option<Mac>,
}

impl Port {
    pub(super) fn read(db: &Database, row: &RowView<'_>, bridge: &str) -> Port {
        let mut ifaces: Vec<Iface> =
            rows(db, "Interface", row, "interfaces").map(|iface| Iface::read(&iface, bridge)).collect();
        ifaces.sort_by(|a, b| a.name.cmp(&b.name));
        let bond = (ifaces.len() > 1).then(|| Bond {
            mode: row.str("bond_mode").to_owned(),
            active: row.opt_str("bond_active_slave").and_then(|t| t.parse().ok()),
        });
        Port {
            uuid: Some(row.uuid()),
            name: row.str("name").to_owned(),
            vlan: vlan(row),
            protected: row.bool("protected"),
            ifaces,
            bond,
            mac: row.opt_str("mac").and_then(|t| t.parse().ok()).filter(usable_mac),
            qos: Qos::read(db, row),
        }
    }

    pub(super) fn local(iface: Iface) -> Port {
        Port {
            uuid: None,
            name: iface.name.clone(),
            vlan: VlanConfig::default(),
            protected: false,
            ifaces: vec![iface],
            bond: None,
            mac: None,
            qos: Qos::default(),
        }
    }
}

/// VLAN columns. Without a mode, a port with a tag is an access port, one without a trunk.
fn vlan(row: &RowView<'_>) -> VlanConfig {
    let tag = row.opt_int("tag").and_then(|t| u16::try_from(t).ok());
    let set = |column: &str| {
        let vlans: Vec<u16> = row.ints(column).iter().filter_map(|v| u16::try_from(*v).ok()).collect();
        if vlans.is_empty() { VlanSet::all() } else { VlanSet::of(&vlans) }
    };
    let mode = match row.str("vlan_mode") {
        "access" => VlanMode::Access,
        "trunk" => VlanMode::Trunk,
        "native-tagged" => VlanMode::NativeTagged,
        "native-untagged" => VlanMode::NativeUntagged,
        "dot1q-tunnel" => VlanMode::Dot1qTunnel,
        _ if tag.is_some() => VlanMode::Access,
        _ => VlanMode::Trunk,
    };
    VlanConfig {
        mode,
        tag: tag.unwrap_or(0),
        trunks: set("trunks"),
        cvlans: set("cvlans"),
        qinq_tpid: match row.get("other_config", "qinq-ethtype") {
            Some("802.1q" | "0x8100") => 0x8100,
            _ => 0,
        },
        priority_tags: match row.get("other_config", "priority-tags") {
            Some("always") => PriorityTags::Always,
            Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
            _ => PriorityTags::Never,
        },
    }
}
