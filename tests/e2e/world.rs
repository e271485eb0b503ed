//! Which labs do the tests run in? Two hosts with a switch of some kind each and an overlay between them.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use weft_lab::{Lab, LabSpec, UpOptions};

/// What switches on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// `weft switch`.
    Weft,
    /// Linux bridge and the kernel's own vxlan device.
    Kernel,
    /// Debian's Open vSwitch in user space.
    Ovs,
}

/// An overlay of two hosts `a` and `b` with a workload `vm0` each: 10.0.0.1 and 10.0.0.2.
#[derive(Clone, Debug)]
pub(crate) struct TwoHosts {
    /// Switch on host a.
    pub(crate) a: Switch,
    /// Switch on host b.
    pub(crate) b: Switch,
    /// `vxlan`, `geneve` or `gre`.
    pub(crate) tunnel: &'static str,
    /// Whether the underlay is IPv6.
    pub(crate) ipv6: bool,
    /// MTU of the underlay.
    pub(crate) mtu: u32,
    /// MTU of the workloads.
    pub(crate) inner_mtu: u32,
    /// Offloads of the workloads' devices and the underlay's, on each side.
    pub(crate) offloads: (bool, bool),
}

impl Default for TwoHosts {
    fn default() -> Self {
        TwoHosts {
            a: Switch::Weft,
            b: Switch::Weft,
            tunnel: "vxlan",
            ipv6: false,
            mtu: 1500,
            inner_mtu: 1400,
            offloads: (true, true),
        }
    }
}

/// How long something that will happen may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long to look before it is believed that nothing comes.
pub(crate) const SILENCE: Duration = Duration::from_millis(1500);
/// Address of host a's workload.
pub(crate) const VM_A: &str = "10.0.0.1";
/// Address of host b's workload.
pub(crate) const VM_B: &str = "10.0.0.2";

/// `text` as an address.
pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The binary under test.
pub(crate) fn weft_binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_weft"))
}

/// Brings a lab up from YAML, under a name of its own. It must be taken down by dropping the guard.
pub(crate) fn up(yaml: &str) -> Guard {
    let spec = LabSpec::parse(yaml, "test").unwrap_or_else(|e| panic!("{e}\n{yaml}")).unique();
    up_spec(&spec)
}

/// Brings a lab up from its description.
pub(crate) fn up_spec(spec: &LabSpec) -> Guard {
    let options = UpOptions { weft: Some(weft_binary()), ..UpOptions::default() };
    match Lab::up_with(spec, &options) {
        Ok((lab, _)) => Guard(Some(lab)),
        Err(e) => panic!("{e}"),
    }
}

/// A lab that is taken down when the test ends, however it ends.
pub(crate) struct Guard(Option<Lab>);

impl std::ops::Deref for Guard {
    type Target = Lab;
    fn deref(&self) -> &Lab {
        self.0.as_ref().expect("the lab is up")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(lab) = self.0.take() {
            if std::thread::panicking() {
                for host in lab.spec().hosts {
                    for run in host.run {
                        let log = lab.log(&host.name, &run.name).unwrap_or_default();
                        let tail: Vec<_> = log.lines().rev().take(30).collect();
                        eprintln!("--- {}/{}", host.name, run.name);
                        tail.iter().rev().for_each(|l| eprintln!("{l}"));
                    }
                }
            }
            if let Err(e) = lab.down() {
                eprintln!("lab down: {e}");
            }
        }
    }
}

impl TwoHosts {
    /// Brings it up.
    pub(crate) fn up(&self) -> Guard {
        up(&self.yaml())
    }

    fn yaml(&self) -> String {
        let mut text = format!(
            "name: e2e\nnetworks:\n  - {{ name: lan, mtu: {}, subnets: [192.168.1.0/24, \"2001:db8:1::/64\"] }}\nhosts:\n",
            self.mtu
        );
        text += &self.host("a", self.a, 10, 20, VM_A, self.offloads.0);
        text += &self.host("b", self.b, 20, 10, VM_B, self.offloads.1);
        text
    }

    fn underlay(&self, n: u32) -> String {
        if self.ipv6 { format!("2001:db8:1::{n}") } else { format!("192.168.1.{n}") }
    }

    fn host(&self, name: &str, switch: Switch, own: u32, peer: u32, vm: &str, offloads: bool) -> String {
        // Open vSwitch in user space neither completes checksums nor segments: its workloads must do it themselves.
        let offloads = offloads && switch != Switch::Ovs;
        let mut text = format!(
            "  - name: {name}\n    links: [{{ addresses: [192.168.1.{own}, \"2001:db8:1::{own}\"], offloads: {offloads} }}]\n    \
             workloads:\n      - {{ name: vm0, device: vnet0, addresses: [{vm}/24], mtu: {}, offloads: {offloads} }}\n",
            self.inner_mtu
        );
        text += &run_yaml(switch);
        text += "    setup:\n";
        for line in self.setup(switch, own, peer) {
            text += &format!("      - {}\n", serde_json::Value::from(line));
        }
        text
    }

    fn setup(&self, switch: Switch, own: u32, peer: u32) -> Vec<String> {
        let (local, remote, tunnel) = (self.underlay(own), self.underlay(peer), self.tunnel);
        let port = format!(
            "add-port br0 tun0 -- set interface tun0 type={tunnel} options:remote_ip=\\\"{remote}\\\" options:key=1000"
        );
        match switch {
            Switch::Weft => vec![
                "ovs-vsctl --timeout=10 add-br br0 -- add-port br0 vnet0".into(),
                format!("ovs-vsctl --timeout=10 {port}"),
            ],
            Switch::Kernel => vec![
                "ip link add br0 type bridge".into(),
                format!(
                    "ip link add vx0 type vxlan id 1000 local {local} remote {remote} dstport 4789 dev eth0 {}",
                    if self.ipv6 { "udp6zerocsumrx udp6zerocsumtx" } else { "" }
                ),
                format!("ip link set vx0 mtu {} up master br0", self.inner_mtu),
                "ip link set vnet0 master br0; ip link set br0 up".into(),
            ],
            Switch::Ovs => vec![
                "ovs-vsctl --timeout=10 add-br bru -- set bridge bru datapath_type=netdev -- add-port bru eth0".into(),
                "mac=$(cat /sys/class/net/eth0/address); ovs-vsctl --timeout=10 set bridge bru other_config:hwaddr=$mac".into(),
                format!(
                    "ip addr flush dev eth0; ip addr add 192.168.1.{own}/24 dev bru; ip addr add 2001:db8:1::{own}/64 dev bru nodad; ip link set bru mtu {} up",
                    self.mtu
                ),
                "ovs-vsctl --timeout=10 add-br br0 -- set bridge br0 datapath_type=netdev -- add-port br0 vnet0".into(),
                format!("ovs-vsctl --timeout=10 {port}"),
            ],
        }
    }
}

/// The `run:` part of a host with this switch, empty for the kernel's.
pub(crate) fn run_yaml(switch: Switch) -> String {
    match switch {
        Switch::Weft => "    run:\n      - { name: switch, command: \"weft switch --pidfile\", ready: { socket: db.sock } }\n".into(),
        Switch::Kernel => String::new(),
        Switch::Ovs => "    run:\n      \
             - { name: ovsdb, command: \"sh -c 'ovsdb-tool create $OVS_DBDIR/conf.db /usr/share/openvswitch/vswitch.ovsschema; exec ovsdb-server --remote=punix:$OVS_RUNDIR/db.sock --pidfile $OVS_DBDIR/conf.db'\", ready: { socket: db.sock } }\n      \
             - { name: switch, command: \"sh -c 'ovs-vsctl --no-wait init; exec ovs-vswitchd unix:$OVS_RUNDIR/db.sock --pidfile --disable-system'\", ready: { file: ovs-vswitchd.pid } }\n"
            .into(),
    }
}

/// Tries until `probe` gives something; panics with `what` after [`PATIENCE`].
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Panics unless workload `vm0` of host a reaches that of host b by ICMP.
#[track_caller]
pub(crate) fn assert_ping(lab: &Lab) {
    let answer = lab.workload("a", "vm0").ping(ip(VM_B), PATIENCE).expect("ping runs");
    assert!(answer.is_some(), "no answer from {VM_B}\n{}", describe(lab));
}

/// Panics if workload `vm0` of host a reaches that of host b by ICMP.
#[track_caller]
pub(crate) fn assert_no_ping(lab: &Lab) {
    let answer = lab.workload("a", "vm0").ping(ip(VM_B), SILENCE).expect("ping runs");
    assert!(answer.is_none(), "{VM_B} answered though it should not\n{}", describe(lab));
}

/// The switch counters of a host, by reason, from `weft drops -o json`.
pub(crate) fn drops(lab: &Lab, host: &str, reason: &str) -> u64 {
    let text = lab.host(host).exec(["weft", "drops", "-o", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let total = json["total"].as_object().unwrap_or_else(|| panic!("no total in {text}"));
    total.get(reason).and_then(serde_json::Value::as_u64).unwrap_or(0)
}

/// What the switches of a lab know, for the message of a failed test.
pub(crate) fn describe(lab: &Lab) -> String {
    let mut text = String::new();
    for host in lab.spec().hosts {
        for line in [
            "ovs-vsctl --timeout=5 show",
            "ovs-appctl -T 5 dpctl/dump-flows",
            "ovs-appctl -T 5 fdb/show br0",
            "weft drops",
            "ovs-ofctl dump-ports br0",
        ] {
            if let Ok(out) = lab.host(&host.name).try_exec(["sh", "-c", line]) {
                text += &format!("--- {}: {line}\n{}{}", host.name, out.stdout, out.stderr);
            }
        }
    }
    text
}
