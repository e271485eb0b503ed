//! How is either switch put into a namespace with the same ports and rules?

use crate::ns::World;
use crate::ofp::Ofp;
use crate::ovs::{self, Build};
use crate::setups;
use crate::sheet::Who;
use crate::weft;

/// OVS-DPDK without hugepages, its polling thread on the second core.
pub(crate) const DPDK: &str = "other_config:dpdk-extra=\"--no-huge --no-pci --legacy-mem -m 1024 --file-prefix=PREFIX\" other_config:pmd-cpu-mask=2 other_config:dpdk-lcore-mask=1";
const NETDEV: &str = "datapath_type=netdev";

/// A switch with bridge `br0` in namespace `sw`.
pub(crate) struct Lab {
    /// Where it runs.
    pub(crate) world: World,
    /// Process of the switch (ovs-vswitchd without its database server).
    pub(crate) pid: u32,
}

impl Lab {
    /// An OpenFlow connection to the bridge.
    pub(crate) fn openflow(&self) -> Result<Ofp, String> {
        let path = self.world.dir.join("sw").join("br0.mgmt");
        crate::ns::wait_for(&path, 3.0)?;
        Ofp::connect(&path)
    }

    /// What `dpctl/dump-flows` prints.
    pub(crate) fn dump_flows(&self, who: Who) -> Result<String, String> {
        match who {
            Who::Ovs => ovs::appctl(&self.world, "sw", "dpctl/dump-flows"),
            Who::Weft => ovs::tool(&self.world, "sw", "ovs-appctl", "dpctl/dump-flows"),
        }
    }

    /// Replaces all rules by these lines.
    pub(crate) fn rules(&self, lines: &[String]) -> Result<(), String> {
        let file = self.world.dir.join("flows");
        std::fs::write(&file, lines.join("\n")).map_err(|e| e.to_string())?;
        ovs::tool(&self.world, "sw", "ovs-ofctl", "del-flows br0")?;
        ovs::tool(&self.world, "sw", "ovs-ofctl", &format!("add-flows br0 {}", file.display()))?;
        Ok(())
    }
}

fn start(world: &mut World, who: Who, build: Build) -> Result<u32, String> {
    match who {
        Who::Weft => weft::start(world, "sw"),
        Who::Ovs => {
            ovs::start(world, "sw", build)?;
            ovs_pid(world)
        }
    }
}

/// The pid of ovs-vswitchd in namespace `sw`.
pub(crate) fn ovs_pid(world: &World) -> Result<u32, String> {
    let pidfile = world.dir.join("sw").join("ovs-vswitchd.pid");
    let text = std::fs::read_to_string(&pidfile).map_err(|e| format!("{}: {e}", pidfile.display()))?;
    text.trim().parse().map_err(|e| format!("{text}: {e}"))
}

/// A bridge without ports.
pub(crate) fn control(who: Who, label: &str) -> Result<Lab, String> {
    let mut world = World::new(label)?;
    world.add("sw")?;
    let pid = start(&mut world, who, Build::Plain)?;
    ovs::vsctl(&world, "sw", &format!("add-br br0 -- set bridge br0 {NETDEV} fail_mode=secure"))?;
    Ok(Lab { world, pid })
}

/// Workloads `c1` and `c2` on ports 1 and 2 by veth, addresses 10.9.0.1 and 10.9.0.2, one learning bridge.
pub(crate) fn veths(who: Who, label: &str) -> Result<Lab, String> {
    let mut world = World::new(label)?;
    setups::veths(&mut world, who == Who::Weft)?;
    let pid = start(&mut world, who, Build::Plain)?;
    ovs::vsctl(
        &world,
        "sw",
        &format!(
            "add-br br0 -- set bridge br0 {NETDEV} -- add-port br0 p1 -- set interface p1 ofport_request=1 \
             -- add-port br0 p2 -- set interface p2 ofport_request=2"
        ),
    )?;
    setups::addresses(&mut world, 1500)?;
    Ok(Lab { world, pid })
}

/// A sink on port 2; the source comes by [`source`].
pub(crate) fn replay(who: Who, label: &str) -> Result<Lab, String> {
    let mut world = World::new(label)?;
    world.add("sw")?;
    let pid = start(&mut world, who, Build::Dpdk(&[DPDK]))?;
    let sink = match who {
        Who::Ovs => "type=dpdk options:dpdk-devargs='\"net_null1,no-rx=1\"'",
        Who::Weft => "type=null",
    };
    ovs::vsctl(
        &world,
        "sw",
        &format!(
            "add-br br0 -- set bridge br0 {NETDEV} fail_mode=secure \
             -- add-port br0 sink -- set interface sink ofport_request=2 {sink}"
        ),
    )?;
    Ok(Lab { world, pid })
}

/// Adds port 1, which plays a pcap file once; `time` counts them, as a DPDK device is not made twice.
pub(crate) fn source(lab: &Lab, who: Who, pcap: &std::path::Path, time: u32) -> Result<(), String> {
    let settings = match who {
        Who::Ovs => {
            format!("type=dpdk options:dpdk-devargs='\"net_pcap{time},rx_pcap={}\"'", pcap.display())
        }
        Who::Weft => format!("type=pcap options:file={}", pcap.display()),
    };
    ovs::vsctl(
        &lab.world,
        "sw",
        &format!("add-port br0 src -- set interface src ofport_request=1 {settings}"),
    )?;
    Ok(())
}
