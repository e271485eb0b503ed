//! Which interface does a row of the Interface table ask for?

use std::collections::BTreeMap;
use std::path::PathBuf;

use weft_datapath::{Policing, VhostMode};
use weft_ovsdb::Uuid;
use weft_ovsdb::db::RowView;
use weft_pipeline::TunnelConfig;
use weft_wire::Mac;

use super::bridge::usable_mac;
use super::tunnel;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Iface {
    /// Row; `None` for a local port that the database does not mention.
    pub uuid: Option<Uuid>,
    /// Name.
    pub name: String,
    /// `type`, as clients see it: never empty.
    pub type_name: String,
    /// What it is; an error when the options make no sense.
    pub kind: Result<IfaceKind, String>,
    /// Whether it is its bridge's local port.
    pub is_local: bool,
    /// `mac`.
    pub mac: Option<Mac>,
    /// `mtu_request`.
    pub mtu_request: Option<u32>,
    /// `ofport_request`.
    pub ofport_request: Option<u16>,
    /// `ofport` as the database remembers it from before.
    pub last_ofport: Option<u16>,
    /// What it may take in.
    pub policing: Policing,
    /// `options`, as `dpif/show` prints them.
    pub options: String,
}

/// What an interface is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IfaceKind {
    /// A network device that exists, or will.
    Device,
    /// A TAP for the host itself.
    Internal,
    /// A TAP for somebody else.
    Tap,
    /// A cable to the patch port of that name.
    Patch {
        /// The other end.
        peer: String,
    },
    /// A tunnel.
    Tunnel {
        /// What the pipeline needs to know.
        config: TunnelConfig,
        /// `egress_pkt_mark`.
        mark: Option<u32>,
    },
    /// A virtual machine's memory.
    Vhost {
        /// Who connects.
        mode: VhostMode,
        /// The socket; one that is made here is relative to where such sockets are.
        path: PathBuf,
        /// `mtu_request`, or the usual.
        mtu: u32,
    },
    /// Frames from a file.
    Pcap {
        /// The file.
        file: PathBuf,
        /// How often; `None`: for ever.
        loops: Option<u64>,
    },
    /// Takes everything.
    Null,
}

/// MTU of ports without a device.
const DEFAULT_MTU: u32 = 1500;

/// Every interface type, for `iface_types`.
pub(crate) const TYPES: &[&str] = &[
    "dpdkvhostuser",
    "dpdkvhostuserclient",
    "geneve",
    "gre",
    "internal",
    "null",
    "patch",
    "pcap",
    "system",
    "tap",
    "vxlan",
];

impl Iface {
    pub(super) fn read(row: &RowView<'_>, bridge: &str) -> Iface {
        let name = row.str("name");
        let is_local = name == bridge;
        let type_name = match row.str("type") {
            _ if is_local => "internal",
            "" => "system",
            other => other,
        };
        let options = row.map("options");
        let mtu_request = row.opt_int("mtu_request").and_then(|n| u32::try_from(n).ok());
        let printed: Vec<String> = options.iter().map(|(k, v)| format!("{k}={v}")).collect();
        Iface {
            uuid: Some(row.uuid()),
            name: name.to_owned(),
            type_name: type_name.to_owned(),
            kind: kind(name, type_name, &options).map(|kind| with_mtu(kind, mtu_request)),
            is_local,
            mac: row.opt_str("mac").and_then(|t| t.parse().ok()).filter(usable_mac),
            mtu_request,
            ofport_request: row.opt_int("ofport_request").and_then(|n| u16::try_from(n).ok()),
            last_ofport: row.opt_int("ofport").and_then(|n| u16::try_from(n).ok()),
            policing: policing(row),
            options: printed.join(", "),
        }
    }

    /// The local port of a bridge whose row does not mention it.
    pub(super) fn local(bridge: &str) -> Iface {
        Iface {
            uuid: None,
            name: bridge.to_owned(),
            type_name: "internal".to_owned(),
            kind: Ok(IfaceKind::Internal),
            is_local: true,
            mac: None,
            mtu_request: None,
            ofport_request: None,
            last_ofport: None,
            policing: Policing::default(),
            options: String::new(),
        }
    }
}

/// `ingress_policing_*`; the schema allows nothing below 0.
fn policing(row: &RowView<'_>) -> Policing {
    let number = |column: &str| u64::try_from(row.int(column)).unwrap_or(0);
    Policing {
        kbps: number("ingress_policing_rate"),
        burst_kbit: number("ingress_policing_burst"),
        kpps: number("ingress_policing_kpkts_rate"),
        burst_kpkts: number("ingress_policing_kpkts_burst"),
    }
}

/// The kind with the MTU that is asked for, where the port has no device to give it to.
fn with_mtu(kind: IfaceKind, request: Option<u32>) -> IfaceKind {
    match kind {
        IfaceKind::Vhost { mode, path, mtu } => IfaceKind::Vhost { mode, path, mtu: request.unwrap_or(mtu) },
        other => other,
    }
}

fn kind(name: &str, type_name: &str, options: &BTreeMap<&str, &str>) -> Result<IfaceKind, String> {
    let configuration = |why: String| format!("{name}: {why}");
    match type_name {
        "system" => Ok(IfaceKind::Device),
        "internal" => Ok(IfaceKind::Internal),
        "tap" => Ok(IfaceKind::Tap),
        "patch" => match options.get("peer") {
            Some(peer) if *peer == name => Err(configuration("patch peer must not be self".into())),
            Some(peer) if !peer.is_empty() => Ok(IfaceKind::Patch { peer: (*peer).to_owned() }),
            _ => Err(configuration("patch type requires valid 'peer' argument".into())),
        },
        "null" => Ok(IfaceKind::Null),
        "dpdkvhostuserclient" => match options.get("vhost-server-path") {
            Some(path) if !path.is_empty() => {
                let (mode, path) = (VhostMode::Client, PathBuf::from(path));
                Ok(IfaceKind::Vhost { mode, path, mtu: DEFAULT_MTU })
            }
            _ => Err(configuration(format!("{type_name} type requires valid 'vhost-server-path' argument"))),
        },
        // The socket is named after the port.
        "dpdkvhostuser" if name.contains(['/', '\\']) => {
            Err(configuration("the name of a vhost-user port must not contain slashes".into()))
        }
        "dpdkvhostuser" => {
            Ok(IfaceKind::Vhost { mode: VhostMode::Server, path: PathBuf::from(name), mtu: DEFAULT_MTU })
        }
        "pcap" => {
            let file = options.get("file").or_else(|| options.get("rx_pcap"));
            let file = file.ok_or_else(|| configuration("pcap type requires 'file' argument".into()))?;
            let loops = match (options.get("loops").map(|text| text.parse::<u64>()), options.get("loop")) {
                (Some(Ok(n)), _) => Some(n),
                (Some(Err(_)), _) => return Err(configuration("'loops' must be a number".into())),
                (None, Some(&"true")) => None,
                (None, _) => Some(1),
            };
            Ok(IfaceKind::Pcap { file: PathBuf::from(file), loops })
        }
        _ => match tunnel::kind(type_name) {
            Some(tunnel_kind) => {
                let config = tunnel::read(tunnel_kind, type_name, options).map_err(configuration)?;
                let mark = options.get("egress_pkt_mark").and_then(|text| tunnel::integer(text));
                Ok(IfaceKind::Tunnel { config, mark: mark.and_then(|m| u32::try_from(m).ok()) })
            }
            None => Err(format!(
                "could not open network device {name} (Address family not supported by protocol)"
            )),
        },
    }
}
