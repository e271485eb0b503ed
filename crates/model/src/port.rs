//! What is a port: where is a machine or namespace plugged in, and which addresses are its own?

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::dhcp::{DhcpOptions, check_hostname};
use crate::kind::Kind;
use crate::network::{Bandwidth, Vlan, check_device};
use crate::object::{Object, Spec};
use crate::problem::Checker;
use crate::scalar::{MacAddr, check_label};
use crate::status::{Condition, Phase};

/// The place where one machine or namespace is plugged in.
pub type Port = Object<PortSpec>;

/// What a port is to be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortSpec {
    /// Name of its network.
    pub network: String,
    /// Node on which it is plugged in; absent: wherever its interface appears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How it is plugged in; absent: a switch interface whose `iface-id` is the port's name or uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// Hardware address; absent: one that follows from the port's uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its addresses; of a family that is not named here one is allocated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its name in DNS and DHCP; absent: the port's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Addresses beside its own that it may send from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_pairs: Vec<AddressPair>,
    /// Whether it is kept to its own addresses; absent: as the network says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoof_guard: Option<bool>,
    /// DHCP options that differ from the subnet's; those of `raw` for IPv4 only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp_options: Option<DhcpOptions>,
    /// Limits; absent: the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// VLANs of the network's uplink that it is in: without a tag (`id`), or with theirs (`trunk`); absent: the network's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
}

/// How a port is plugged in: exactly one of these.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Attachment {
    /// A veth into a network namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// A TAP device for QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tap: Option<Tap>,
    /// A vhost-user socket for QEMU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vhost_user: Option<VhostUser>,
    /// A switch interface with this `external-ids:iface-id`, as libvirt makes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub iface_id: Option<String>,
    /// A device that exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// An [`Attachment`] that is known to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachmentRef<'a> {
    /// A veth into a network namespace.
    Netns(&'a Netns),
    /// A TAP device.
    Tap(&'a Tap),
    /// A vhost-user socket.
    VhostUser(&'a VhostUser),
    /// A switch interface by `iface-id`.
    IfaceId(&'a str),
    /// A device that exists.
    Device(&'a str),
}

impl Attachment {
    /// Which one it is; `None` unless it is exactly one.
    #[must_use]
    pub fn get(&self) -> Option<AttachmentRef<'_>> {
        let mut all = [
            self.netns.as_ref().map(AttachmentRef::Netns),
            self.tap.as_ref().map(AttachmentRef::Tap),
            self.vhost_user.as_ref().map(AttachmentRef::VhostUser),
            self.iface_id.as_deref().map(AttachmentRef::IfaceId),
            self.device.as_deref().map(AttachmentRef::Device),
        ]
        .into_iter()
        .flatten();
        all.next().filter(|_| all.next().is_none())
    }
}

/// A network namespace: exactly one of `path` and `name`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Netns {
    /// Its file: `/proc/123/ns/net`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Its name as `ip netns` knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Name of the device inside; absent: `eth0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// A TAP device.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// Pairs of queues, 1–256.
    #[serde(default = "one")]
    pub queues: u16,
    /// User (number or name) who may open it without privileges.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
}

const fn one() -> u16 {
    1
}

/// A vhost-user socket.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VhostUser {
    /// Path of the socket.
    pub socket: String,
    /// Who listens.
    #[serde(default)]
    pub mode: VhostMode,
}

/// Who listens at a vhost-user socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum VhostMode {
    /// QEMU listens, the switch connects again and again (`dpdkvhostuserclient`).
    #[default]
    Client,
    /// The switch listens.
    Server,
}

/// Addresses that a port may send from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AddressPair {
    /// Hardware address; absent: the port's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Address or prefix; an address is written with /32 or /128.
    #[schema(value_type = String, example = "10.20.0.100/32")]
    pub ip: IpNet,
}

/// How a port fares.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PortStatus {
    /// How far it has come.
    pub phase: Phase,
    /// The generation of the spec that this status is about.
    pub observed_generation: u64,
    /// Its addresses, fixed and allocated; they stay until the port is deleted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Its hardware address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Node on which it is plugged in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Name of its interface on the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// OpenFlow port number on the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ofport: Option<u32>,
    /// In detail.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl Spec for PortSpec {
    const KIND: Kind = Kind::Port;
    type Status = PortStatus;

    fn check(&self, c: &mut Checker) {
        c.text("network", &self.network, check_label(&self.network), "write the name of a Network");
        if self.node.as_ref().is_some_and(|n| n.is_empty() || n.len() > 253) {
            c.add("node", "is empty or longer than 253 bytes", "write the name of a node");
        }
        if let Some(attachment) = &self.attachment {
            c.field("attachment", |c| attachment.check(c));
        }
        if self.mac.is_some_and(|mac| !mac.0.is_unicast()) {
            c.add("mac", "is not the address of one machine", "use a unicast address");
        }
        c.each("addresses", 64, &self.addresses, |c, i, ip| {
            if ip.is_multicast() || ip.is_unspecified() || ip.is_loopback() {
                c.add("", format!("{ip} is not the address of one machine"), "use a unicast address");
            }
            if self.addresses.iter().take(i).any(|other| other == ip) {
                c.add("", format!("{ip} is there twice"), "remove one");
            }
        });
        if let Some(name) = &self.hostname {
            check_hostname(c, "hostname", name);
        }
        c.each("allowedPairs", 256, &self.allowed_pairs, |c, _, pair| {
            if pair.mac.is_some_and(|mac| !mac.0.is_unicast()) {
                c.add("mac", "is not the address of one machine", "use a unicast address");
            }
            if pair.ip.trunc() != pair.ip {
                c.add(
                    "ip",
                    format!("{} has bits behind the prefix", pair.ip),
                    format!("write {}", pair.ip.trunc()),
                );
            }
        });
        if let Some(options) = &self.dhcp_options {
            c.field("dhcpOptions", |c| options.check(c, None));
        }
        if let Some(bandwidth) = &self.bandwidth {
            c.field("bandwidth", |c| bandwidth.check(c));
        }
        if let Some(vlan) = &self.vlan {
            c.field("vlan", |c| vlan.check(c));
        }
    }
}

impl Attachment {
    fn check(&self, c: &mut Checker) {
        match self.get() {
            None => c.add(
                "",
                "must say one way to plug in",
                "keep exactly one of netns, tap, vhostUser, ifaceId and device",
            ),
            Some(AttachmentRef::Netns(netns)) => c.field("netns", |c| netns.check(c)),
            Some(AttachmentRef::Tap(tap)) => c.field("tap", |c| {
                check_device(c, "name", &tap.name);
                c.within("queues", tap.queues, 1, 256);
                if tap.owner.as_ref().is_some_and(|o| o.is_empty() || o.len() > 256) {
                    c.add("owner", "is empty or too long", "write a user");
                }
            }),
            Some(AttachmentRef::VhostUser(vhost)) => c.field("vhostUser", |c| {
                // sockaddr_un holds 107 bytes and a zero.
                check_path(c, "socket", &vhost.socket, 107);
            }),
            Some(AttachmentRef::IfaceId(id)) => {
                if id.is_empty() || id.len() > 255 || id.chars().any(char::is_control) {
                    c.add(
                        "ifaceId",
                        "is empty, longer than 255 or not text",
                        "write the iface-id of the interface",
                    );
                }
            }
            Some(AttachmentRef::Device(name)) => check_device(c, "device", name),
        }
    }
}

impl Netns {
    fn check(&self, c: &mut Checker) {
        match (&self.path, &self.name) {
            (Some(path), None) => check_path(c, "path", path, 4_095),
            (None, Some(name)) => {
                if name.is_empty() || name.len() > 255 || name.contains('/') || name.starts_with('.') {
                    c.add(
                        "name",
                        "is not the name of a namespace",
                        "write a name that `ip netns list` prints",
                    );
                }
            }
            _ => c.add("", "needs exactly one of path and name", "keep one of them"),
        }
        if let Some(device) = &self.device {
            check_device(c, "device", device);
        }
    }
}

fn check_path(c: &mut Checker, field: &str, path: &str, limit: usize) {
    if !path.starts_with('/') || path.len() > limit || path.contains('\0') {
        c.add(field, "is not an absolute path", format!("write one from / of at most {limit} bytes"));
    }
}
