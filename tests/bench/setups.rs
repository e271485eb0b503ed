//! Which set-ups are compared? Each makes two workloads, `c1` 10.9.0.1 and `c2` 10.9.0.2, that reach each other.

use crate::ns::World;
use crate::ovs::{self, Build};
use crate::weft;

/// A way of connecting two workloads.
pub(crate) struct Setup {
    /// Name in the table.
    pub(crate) name: &'static str,
    /// Whether other rows are shown as ratios to this one.
    pub(crate) peer: bool,
    /// Builds it.
    pub(crate) build: fn(&mut World) -> Result<(), String>,
}

const fn peer(name: &'static str, build: fn(&mut World) -> Result<(), String>) -> Setup {
    Setup { name, peer: true, build }
}
const fn ours(name: &'static str, build: fn(&mut World) -> Result<(), String>) -> Setup {
    Setup { name, peer: false, build }
}

/// Both workloads on one host.
pub(crate) fn same_host() -> Vec<Setup> {
    vec![
        peer("bare veth", |w| {
            workloads(w)?;
            w.sh("c1", "ip link add eth0 type veth peer name eth0 netns @c2")?;
            addresses(w, 1500)
        }),
        peer("kernel bridge", |w| {
            veths(w, true)?;
            w.sh("sw", "ip link add br0 type bridge; ip link set br0 up; ip link set p1 master br0; ip link set p2 master br0")?;
            addresses(w, 1500)
        }),
        peer("OVS AF_PACKET", |w| {
            veths(w, false)?;
            ovs::start(w, "sw", Build::Plain)?;
            ovs::vsctl(
                w,
                "sw",
                "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 p1 -- add-port br0 p2",
            )?;
            addresses(w, 1500)
        }),
        peer("OVS AF_XDP", |w| {
            veths(w, false)?;
            ovs::start(w, "sw", Build::Plain)?;
            ovs::vsctl(
                w,
                "sw",
                "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 p1 -- set interface p1 type=afxdp -- add-port br0 p2 -- set interface p2 type=afxdp",
            )?;
            addresses(w, 1500)
        }),
        peer("OVS TAP", |w| {
            workloads(w)?;
            w.add("sw")?;
            ovs::start(w, "sw", Build::Plain)?;
            taps(w)?;
            addresses(w, 1500)
        }),
        peer("OVS-DPDK TSO veth", |w| {
            veths(w, true)?;
            ovs::start(w, "sw", Build::Dpdk(&[DPDK]))?;
            ovs::vsctl(
                w,
                "sw",
                "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 p1 -- add-port br0 p2",
            )?;
            addresses(w, 1500)
        }),
        peer("OVS-DPDK TSO TAP", |w| {
            workloads(w)?;
            w.add("sw")?;
            ovs::start(w, "sw", Build::Dpdk(&[DPDK]))?;
            taps(w)?;
            addresses(w, 1500)
        }),
        ours("Weft veth", |w| {
            veths(w, true)?;
            weft::start(w, "sw")?;
            ovs::vsctl(w, "sw", "add-br br0 -- add-port br0 p1 -- add-port br0 p2")?;
            addresses(w, 1500)
        }),
        ours("Weft TAP, two lanes", |w| {
            workloads(w)?;
            w.add("sw")?;
            weft::start_with(w, "sw", &["--lanes", "2"])?;
            taps(w)?;
            addresses(w, 1500)
        }),
        ours("Weft TAP", |w| {
            workloads(w)?;
            w.add("sw")?;
            weft::start(w, "sw")?;
            taps(w)?;
            addresses(w, 1500)
        }),
    ]
}

/// Each workload on a host of its own, VXLAN between the hosts, underlay MTU 1500.
pub(crate) fn overlay() -> Vec<Setup> {
    vec![
        peer("kernel bridge + vxlan", |w| {
            hosts(w, true)?;
            for (h, remote) in [("h1", "10.8.0.2"), ("h2", "10.8.0.1")] {
                w.sh(h, &format!("ip link add br0 type bridge; ip link add vx0 type vxlan id 77 remote {remote} dstport 4789 dev u0; ip link set vx0 master br0; ip link set p0 master br0; ip link set vx0 up; ip link set br0 up"))?;
            }
            addresses(w, 1450)
        }),
        peer("OVS AF_PACKET vxlan", |w| {
            hosts(w, false)?;
            for h in ["h1", "h2"] {
                ovs::start(w, h, Build::Plain)?;
                ovs_vxlan(w, h)?;
            }
            addresses(w, 1450)
        }),
        peer("OVS-DPDK TSO vxlan", |w| {
            hosts(w, false)?;
            for h in ["h1", "h2"] {
                ovs::start(w, h, Build::Dpdk(&[DPDK]))?;
                ovs_vxlan(w, h)?;
            }
            addresses(w, 1450)
        }),
        ours("Weft vxlan", |w| {
            hosts(w, true)?;
            for (h, remote) in [("h1", "10.8.0.2"), ("h2", "10.8.0.1")] {
                weft::start(w, h)?;
                ovs::vsctl(
                    w,
                    h,
                    &format!(
                        "add-br br0 -- add-port br0 p0 -- add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip={remote} options:key=77"
                    ),
                )?;
            }
            addresses(w, 1450)
        }),
        ours("Weft vxlan ↔ kernel", |w| {
            hosts(w, true)?;
            weft::start(w, "h1")?;
            ovs::vsctl(
                w,
                "h1",
                "add-br br0 -- add-port br0 p0 -- add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=10.8.0.2 options:key=77",
            )?;
            w.sh("h2", "ip link add br0 type bridge; ip link add vx0 type vxlan id 77 remote 10.8.0.1 dstport 4789 dev u0; ip link set vx0 master br0; ip link set p0 master br0; ip link set vx0 up; ip link set br0 up")?;
            addresses(w, 1450)
        }),
    ]
}

/// DPDK without hugepages and without PCI, segmentation offload on.
pub(crate) const DPDK: &str = "other_config:userspace-tso-enable=true other_config:dpdk-extra=\"--no-huge --no-pci --legacy-mem -m 1024 --file-prefix=PREFIX\" other_config:pmd-cpu-mask=2 other_config:dpdk-lcore-mask=1";

fn workloads(w: &mut World) -> Result<(), String> {
    w.add("c1")?;
    w.add("c2")
}

/// A switch namespace with `p1` and `p2`, whose other ends are `eth0` of the workloads.
pub(crate) fn veths(w: &mut World, offloads: bool) -> Result<(), String> {
    workloads(w)?;
    w.add("sw")?;
    for n in ["1", "2"] {
        w.sh("sw", &format!("ip link add p{n} type veth peer name eth0 netns @c{n}; ip link set p{n} up"))?;
        if !offloads {
            w.sh(&format!("c{n}"), "ethtool -K eth0 tx off >/dev/null")?;
        }
    }
    Ok(())
}

/// Internal ports whose devices are moved into the workloads: a TAP without a veth beside it.
fn taps(w: &mut World) -> Result<(), String> {
    ovs::vsctl(
        w,
        "sw",
        "add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 t1 -- set interface t1 type=internal -- add-port br0 t2 -- set interface t2 type=internal",
    )?;
    w.sh("sw", "ip link set t1 netns @c1 name eth0; ip link set t2 netns @c2 name eth0")?;
    Ok(())
}

/// Two hosts with an underlay veth `u0` (10.8.0.1, 10.8.0.2) and a workload port `p0` each.
fn hosts(w: &mut World, offloads: bool) -> Result<(), String> {
    workloads(w)?;
    w.add("h1")?;
    w.add("h2")?;
    w.sh("h1", "ip link add u0 type veth peer name u0 netns @h2")?;
    for n in ["1", "2"] {
        let h = format!("h{n}");
        w.sh(&h, &format!("ip link set u0 address 02:08:00:00:00:0{n}; ip addr add 10.8.0.{n}/24 dev u0; ip link set u0 up"))?;
        w.sh(&h, &format!("ip link add p0 type veth peer name eth0 netns @c{n}; ip link set p0 up"))?;
        if !offloads {
            w.sh(&format!("c{n}"), "ethtool -K eth0 tx off >/dev/null")?;
            w.sh(&h, "ethtool -K u0 tx off >/dev/null")?;
        }
    }
    Ok(())
}

/// Open vSwitch's native VXLAN: the underlay's address lives on a bridge.
fn ovs_vxlan(w: &mut World, h: &str) -> Result<(), String> {
    let (n, other) = if h == "h1" { (1, 2) } else { (2, 1) };
    ovs::vsctl(
        w,
        h,
        &format!(
            "add-br bru -- set bridge bru datapath_type=netdev other_config:hwaddr=02:08:00:00:00:0{n} -- add-port bru u0 \
         -- add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 p0 \
         -- add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=10.8.0.{other} options:key=77"
        ),
    )?;
    w.sh(h, &format!("ip addr flush dev u0; ip addr add 10.8.0.{n}/24 dev bru; ip link set bru up"))?;
    Ok(())
}

/// Addresses and MTU of the workloads; the first packet is sent until it comes back.
pub(crate) fn addresses(w: &mut World, mtu: u32) -> Result<(), String> {
    for n in ["1", "2"] {
        w.sh(
            &format!("c{n}"),
            &format!("ip link set eth0 mtu {mtu}; ip link set eth0 up; ip addr add 10.9.0.{n}/24 dev eth0"),
        )?;
    }
    w.sh("c1", "for i in $(seq 40); do ping -qc1 -W1 -i0.2 10.9.0.2 >/dev/null && exit 0; sleep 0.2; done; echo no ping; exit 1")?;
    Ok(())
}
