//! Which offloads and what speed has a device (SIOCETHTOOL)?

use std::os::fd::AsFd;

use crate::Result;
use crate::error::Context;
use crate::sys::{ifreq, ioctl, socket};

/// Offloads that can be switched by the one-word ethtool commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Feature {
    /// Receive checksum verification.
    RxChecksum,
    /// Transmit checksum completion by the device.
    TxChecksum,
    /// Scatter-gather transmission.
    ScatterGather,
    /// TCP segmentation by the device.
    Tso,
    /// Segmentation in software just before the device.
    Gso,
    /// Merging of received segments.
    Gro,
}

impl Feature {
    /// All of them, in the order in which switching off leaves no dependency behind.
    pub const ALL: [Self; 6] =
        [Self::Gro, Self::Gso, Self::Tso, Self::ScatterGather, Self::TxChecksum, Self::RxChecksum];

    /// (get command, set command) of <linux/ethtool.h>.
    fn commands(self) -> (u32, u32) {
        match self {
            Self::RxChecksum => (0x14, 0x15),
            Self::TxChecksum => (0x16, 0x17),
            Self::ScatterGather => (0x18, 0x19),
            Self::Tso => (0x1e, 0x1f),
            Self::Gso => (0x23, 0x24),
            Self::Gro => (0x2b, 0x2c),
        }
    }
}

/// Speed and duplex of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Speed {
    /// Megabits per second; `None` if the driver does not know.
    pub mbps: Option<u32>,
    /// Full duplex; `None` if the driver does not know.
    pub full_duplex: Option<bool>,
    /// What else the driver tells of the link.
    pub modes: Modes,
}

/// Ways in which a device's link may work: bits as `ADVERTISED_*` of `<linux/ethtool.h>`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Modes {
    /// What the device can do.
    pub supported: u32,
    /// What it offers its peer.
    pub advertised: u32,
    /// What the peer offers.
    pub peer: u32,
    /// The way is negotiated.
    pub autoneg: bool,
    /// The medium is fibre.
    pub fibre: bool,
}

#[repr(C)]
struct Value {
    cmd: u32,
    data: u32,
}

/// `struct ethtool_cmd`.
#[repr(C)]
struct Settings {
    cmd: u32,
    supported: u32,
    advertising: u32,
    speed: u16,
    duplex: u8,
    port: u8,
    phy_address: u8,
    transceiver: u8,
    autoneg: u8,
    mdio_support: u8,
    maxtxpkt: u32,
    maxrxpkt: u32,
    speed_hi: u16,
    mdix: [u8; 2],
    peer: u32,
    reserved: [u32; 2],
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    cmd: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rest: [u8; 64],
}

/// Runs an ethtool command on the device `name` of this thread's namespace.
///
/// # Safety
/// `T` must be the C struct of the command it carries.
unsafe fn command<T>(name: &str, what: &str, arg: &mut T) -> Result<()> {
    const SIOCETHTOOL: libc::Ioctl = 0x8946;
    let context = || format!("{what} of {name}");
    let fd = socket(libc::AF_INET, libc::SOCK_DGRAM, 0).context(context)?;
    let mut request = ifreq(name)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(arg).cast();
    // SAFETY: the request reads an ifreq whose data pointer leads to the command's live struct.
    unsafe { ioctl(fd.as_fd(), SIOCETHTOOL, &mut request) }.context(context)
}

/// Whether an offload is on.
pub fn feature(name: &str, feature: Feature) -> Result<bool> {
    let mut value = Value { cmd: feature.commands().0, data: 0 };
    // SAFETY: the get commands write an ethtool_value.
    unsafe { command(name, &format!("read {feature:?}"), &mut value) }?;
    Ok(value.data != 0)
}

/// Switches an offload.
pub fn set_feature(name: &str, feature: Feature, on: bool) -> Result<()> {
    let mut value = Value { cmd: feature.commands().1, data: u32::from(on) };
    // SAFETY: the set commands read an ethtool_value.
    unsafe { command(name, &format!("switch {feature:?} {}", if on { "on" } else { "off" }), &mut value) }
}

/// Switches every offload the driver lets one switch; those it does not are passed over.
pub fn set_all_features(name: &str, on: bool) -> Result<()> {
    let mut order = Feature::ALL;
    if on {
        order.reverse();
    }
    for feature in order {
        match set_feature(name, feature, on) {
            Err(e) if matches!(e.errno(), Some(libc::EOPNOTSUPP | libc::EINVAL)) => {}
            other => other?,
        }
    }
    Ok(())
}

/// Speed and duplex; both unknown if the driver has no such notion.
pub fn speed(name: &str) -> Result<Speed> {
    const ETHTOOL_GSET: u32 = 1;
    const PORT_FIBRE: u8 = 3;
    // SAFETY: plain integers, for which zero is valid.
    let mut settings: Settings = unsafe { std::mem::zeroed() };
    settings.cmd = ETHTOOL_GSET;
    // SAFETY: ETHTOOL_GSET writes an ethtool_cmd.
    match unsafe { command(name, "read speed", &mut settings) } {
        Err(e) if e.errno() == Some(libc::EOPNOTSUPP) => Ok(Speed::default()),
        Err(e) => Err(e),
        Ok(()) => {
            let mbps = u32::from(settings.speed_hi) << 16 | u32::from(settings.speed);
            Ok(Speed {
                mbps: (mbps != 0 && mbps != u32::MAX && mbps != 0xffff).then_some(mbps),
                full_duplex: match settings.duplex {
                    0 => Some(false),
                    1 => Some(true),
                    _ => None,
                },
                modes: Modes {
                    supported: settings.supported,
                    advertised: settings.advertising,
                    peer: settings.peer,
                    autoneg: settings.autoneg != 0,
                    fibre: settings.port == PORT_FIBRE,
                },
            })
        }
    }
}

/// The driver's name and version, for example `("veth", "1.0")`.
pub fn driver(name: &str) -> Result<(String, String)> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    // SAFETY: plain integers, for which zero is valid.
    let mut info: DriverInfo = unsafe { std::mem::zeroed() };
    info.cmd = ETHTOOL_GDRVINFO;
    // SAFETY: ETHTOOL_GDRVINFO writes an ethtool_drvinfo.
    unsafe { command(name, "read driver", &mut info) }?;
    Ok((crate::netlink::get_str(&info.driver), crate::netlink::get_str(&info.version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structs_have_the_kernels_sizes() {
        assert_eq!(size_of::<Settings>(), 44);
        assert_eq!(size_of::<DriverInfo>(), 196);
    }
}
