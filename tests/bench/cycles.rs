//! How many cycles does a packet cost? A pcap source, the whole datapath, a null sink; the same frames for OVS-DPDK.

use std::path::{Path, PathBuf};

use crate::lab;
use crate::ns::World;
use crate::ovs::{self, Build};
use crate::report::{Table, cell, median};
use crate::weft;

/// One row of the rig.
pub(crate) struct Case {
    /// What the row is called.
    pub(crate) name: &'static str,
    /// Frames of the source.
    pub(crate) frames: fn() -> Vec<Vec<u8>>,
    /// Flows to add (after del-flows); `IN` and `OUT` stand for port numbers.
    pub(crate) flows: fn() -> Vec<String>,
    /// What the packets cross.
    pub(crate) way: Way,
}

/// What lies between source and sink.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// One bridge: source on port 1, sink on port 2.
    Plain,
    /// Out by a VXLAN port (2) over a second bridge, which has the sink.
    Encap,
    /// In by a second bridge, which has the source, and a VXLAN port (1); the sink is port 2.
    Decap,
}

/// The address of bridge `bru`, where the tunnel ends.
const UNDERLAY_MAC: &str = "other_config:hwaddr=02:08:00:00:00:01";

impl Way {
    fn source_bridge(self) -> &'static str {
        if self == Way::Decap { "bru" } else { "br0" }
    }
    fn sink_bridge(self) -> &'static str {
        if self == Way::Encap { "bru" } else { "br0" }
    }
    /// What makes the tunnel port of bridge `br0`: where the source or the sink would be.
    fn tunnel(self) -> String {
        let number = match self {
            Way::Plain => return String::new(),
            Way::Encap => 2,
            Way::Decap => 1,
        };
        port("br0", "vx0", number, "type=vxlan options:remote_ip=10.8.0.2 options:key=77")
    }
}

/// The words of `ovs-vsctl` that add a port.
fn port(bridge: &str, name: &str, number: u32, settings: &str) -> String {
    format!("-- add-port {bridge} {name} -- set interface {name} ofport_request={number} {settings}")
}

/// Measures every case with both switches, round by round.
pub(crate) fn table(rounds: usize, seconds: u64) -> Table {
    compare("Cycles per packet", &cases(), rounds, seconds)
}

/// Measures these cases with both switches, round by round.
pub(crate) fn compare(title: &str, cases: &[Case], rounds: usize, seconds: u64) -> Table {
    let hz = tsc_hz();
    let mut results: Vec<[Vec<f64>; 2]> = cases.iter().map(|_| [vec![], vec![]]).collect();
    let mut notes = vec![
        "Cycles a packet, pcap source → datapath → null sink. OVS-DPDK: processing cycles of its PMD statistics × the share of time its thread had a processor. \
         Weft: all CPU time of the process × TSC rate ÷ packets (receive and idle polling included)."
            .to_owned(),
    ];
    for round in 1..=rounds {
        for (case, samples) in cases.iter().zip(&mut results) {
            eprint!("\r\x1b[K{title}: round {round}/{rounds}: {}", case.name);
            for (i, run) in [dpdk as Rig, ours as Rig].into_iter().enumerate() {
                match run(case, seconds, hz) {
                    Ok(cycles) => samples[i].push(cycles),
                    Err(e) if round == 1 => notes.push(format!(
                        "{} ({}): {}",
                        case.name,
                        ["OVS-DPDK", "Weft"][i],
                        crate::report::last_lines(&e)
                    )),
                    Err(_) => {}
                }
            }
        }
    }
    eprintln!("\r\x1b[K{title}: done");
    let rows = cases
        .iter()
        .zip(&results)
        .map(|(case, [d, w])| {
            let (d, w) = (median(d), median(w));
            vec![case.name.into(), cell(d), cell(w), cell(d.zip(w).map(|(d, w)| w / d)) + " ×"]
        })
        .collect();
    let head = ["case", "OVS-DPDK", "Weft", "Weft ÷ OVS-DPDK"];
    Table { title: title.into(), head: head.map(str::to_owned).to_vec(), rows, notes }
}

type Rig = fn(&Case, u64, f64) -> Result<f64, String>;

fn cases() -> Vec<Case> {
    fn one() -> Vec<Vec<u8>> {
        vec![udp(1, 1, 1000, 2000); 64]
    }
    fn one_in_vxlan() -> Vec<Vec<u8>> {
        one().iter().map(|f| vxlan(f, 0)).collect()
    }
    fn many_in_vxlan() -> Vec<Vec<u8>> {
        many().iter().enumerate().map(|(i, f)| vxlan(f, i as u16)).collect()
    }
    fn many() -> Vec<Vec<u8>> {
        (0..10_000u32).map(|i| udp(1 + (i >> 8), 1, 1000 + (i & 0xff) as u16, 2000)).collect()
    }
    vec![
        Case {
            name: "1 flow",
            frames: one,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Plain,
        },
        Case {
            name: "10k flows, 1 megaflow",
            frames: many,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Plain,
        },
        Case {
            name: "10k megaflows",
            frames: many,
            flows: || {
                (0..10_000u32)
                    .map(|i| {
                        let (src, port) =
                            (std::net::Ipv4Addr::from(0x0a01_0000 + 1 + (i >> 8)), 1000 + (i & 0xff));
                        format!("priority=10,udp,in_port=IN,nw_src={src},tp_src={port},actions=output:OUT")
                    })
                    .collect()
            },
            way: Way::Plain,
        },
        Case {
            name: "NORMAL",
            frames: one,
            flows: || vec!["priority=0,actions=NORMAL".into()],
            way: Way::Plain,
        },
        Case {
            name: "VXLAN encap, 1 flow",
            frames: one,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Encap,
        },
        Case {
            name: "VXLAN encap, 10k flows",
            frames: many,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Encap,
        },
        Case {
            name: "VXLAN decap, 1 flow",
            frames: one_in_vxlan,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Decap,
        },
        Case {
            name: "VXLAN decap, 10k flows",
            frames: many_in_vxlan,
            flows: || vec!["priority=10,ip,in_port=IN,nw_dst=10.0.0.0/8,actions=output:OUT".into()],
            way: Way::Decap,
        },
    ]
}

/// A frame in VXLAN (VNI 77) from 10.8.0.2 to 10.8.0.1, as the host 02:08:00:00:00:02 sends it to bridge `bru`.
fn vxlan(frame: &[u8], source_port: u16) -> Vec<u8> {
    let mut f = vec![2, 8, 0, 0, 0, 1, 2, 8, 0, 0, 0, 2, 0x08, 0x00];
    let len = (20 + 8 + 8 + frame.len()) as u16;
    let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 8, 0, 2, 10, 8, 0, 1];
    ip[2..4].copy_from_slice(&len.to_be_bytes());
    let sum = checksum(ip.iter().copied());
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    f.extend(ip);
    f.extend((49152 + source_port % 16384).to_be_bytes());
    f.extend(4789u16.to_be_bytes());
    f.extend((len - 20).to_be_bytes());
    f.extend([0, 0, 8, 0, 0, 0, 0, 0, 77, 0]);
    f.extend(frame);
    f
}

/// A 64-byte frame (without FCS: 60) of UDP from 10.1.0.src to 10.2.0.dst.
pub(crate) fn udp(src: u32, dst: u32, sport: u16, dport: u16) -> Vec<u8> {
    let mut f = ipv4(17, 0x0a01_0000 + src, 0x0a02_0000 + dst);
    f.extend(sport.to_be_bytes());
    f.extend(dport.to_be_bytes());
    f.extend([0, 26, 0, 0]);
    f.extend([0u8; 18]);
    f
}

/// A frame of the same size that opens a TCP connection from 10.1.0.src to 10.2.0.dst.
pub(crate) fn tcp_syn(src: u32, dst: u32, sport: u16, dport: u16) -> Vec<u8> {
    let (from, to) = (0x0a01_0000 + src, 0x0a02_0000 + dst);
    let mut f = ipv4(6, from, to);
    let start = f.len();
    f.extend(sport.to_be_bytes());
    f.extend(dport.to_be_bytes());
    f.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0x20, 0, 0, 0, 0, 0]);
    f.extend([0u8; 6]);
    let pseudo = [from.to_be_bytes(), to.to_be_bytes(), [0, 6, 0, 26]].concat();
    let sum = checksum(pseudo.iter().chain(&f[start..]).copied());
    f[start + 16..start + 18].copy_from_slice(&sum.to_be_bytes());
    f
}

/// Ethernet and IPv4 headers of a frame of 60 bytes.
pub(crate) fn ipv4(protocol: u8, src: u32, dst: u32) -> Vec<u8> {
    let mut f = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00];
    let mut ip = vec![0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, protocol, 0, 0];
    ip.extend(src.to_be_bytes());
    ip.extend(dst.to_be_bytes());
    let sum = checksum(ip.iter().copied());
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    f.extend(ip);
    f
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: impl Iterator<Item = u8>) -> u16 {
    let sum = bytes.enumerate().fold(0u32, |sum, (i, b)| sum + (u32::from(b) << (8 * (1 - i % 2))));
    let sum = (sum >> 16) + (sum & 0xffff);
    !((sum + (sum >> 16)) as u16)
}

/// Writes frames as a pcap file.
pub(crate) fn write_pcap(path: &Path, frames: &[Vec<u8>]) -> Result<(), String> {
    let mut out: Vec<u8> = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 1] {
        out.extend(word.to_le_bytes());
    }
    for f in frames {
        for word in [0, 0, f.len() as u32, f.len() as u32] {
            out.extend(word.to_le_bytes());
        }
        out.extend(f);
    }
    std::fs::write(path, out).map_err(|e| e.to_string())
}

/// Loads the flows of a case into bridge br0, where the source is port 1 and the output port 2.
fn load_flows(w: &World, case: &Case) -> Result<(), String> {
    let file: PathBuf = w.dir.join("flows");
    let lines: Vec<String> =
        (case.flows)().iter().map(|f| f.replace("IN", "1").replace("OUT", "2")).collect();
    std::fs::write(&file, lines.join("\n")).map_err(|e| e.to_string())?;
    ovs::tool(w, "sw", "ovs-ofctl", "del-flows br0")?;
    ovs::tool(w, "sw", "ovs-ofctl", &format!("add-flows br0 {}", file.display()))?;
    Ok(())
}

fn dpdk(case: &Case, seconds: u64, _hz: f64) -> Result<f64, String> {
    let mut w = World::new("d")?;
    w.add("sw")?;
    let pcap = w.dir.join("f.pcap");
    write_pcap(&pcap, &(case.frames)())?;
    ovs::start(&mut w, "sw", Build::Dpdk(&[lab::DPDK]))?;
    let source =
        format!("type=dpdk options:dpdk-devargs='\"net_pcap1,rx_pcap={},infinite_rx=1\"'", pcap.display());
    let sink = "type=dpdk options:dpdk-devargs='\"net_null1,no-rx=1\"'";
    let netdev = "datapath_type=netdev";
    ovs::vsctl(
        &w,
        "sw",
        &format!(
            "add-br br0 -- set bridge br0 {netdev} -- add-br bru -- set bridge bru {netdev} {UNDERLAY_MAC} {} {} {}",
            port(case.way.source_bridge(), "src", 1, &source),
            port(case.way.sink_bridge(), "sink", 2, sink),
            case.way.tunnel(),
        ),
    )?;
    w.sh("sw", "ip addr add 10.8.0.1/24 dev bru; ip link set bru up")?;
    ovs::appctl(&w, "sw", "tnl/neigh/set bru 10.8.0.2 02:08:00:00:00:02")?;
    load_flows(&w, case)?;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let pid = lab::ovs_pid(&w)?;
    ovs::appctl(&w, "sw", "dpif-netdev/pmd-stats-clear")?;
    let (start, before) = (std::time::Instant::now(), weft::cpu_of(pid, "pmd-").ok_or("no PMD thread")?);
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    // Its cycles run on while another process has the processor: take only its share.
    let used = weft::cpu_of(pid, "pmd-").ok_or("no PMD thread")? - before;
    let share = (used / start.elapsed().as_secs_f64()).min(1.0);
    let stats = ovs::appctl(&w, "sw", "dpif-netdev/pmd-stats-show")?;
    stats
        .lines()
        .filter_map(|l| l.trim().strip_prefix("avg processing cycles per packet:"))
        .find_map(|rest| rest.split_whitespace().next()?.parse::<f64>().ok())
        .map(|cycles| cycles * share)
        .ok_or_else(|| format!("no cycles in {stats}"))
}

fn ours(case: &Case, seconds: u64, hz: f64) -> Result<f64, String> {
    let mut w = World::new("w")?;
    w.add("sw")?;
    let pcap = w.dir.join("f.pcap");
    write_pcap(&pcap, &(case.frames)())?;
    let pid = weft::start(&mut w, "sw")?;
    // The source is added last, so that its frames find the flows in place.
    let sink = port(case.way.sink_bridge(), "sink", 2, "type=null");
    let both =
        format!("add-br br0 -- add-br bru -- set bridge bru {UNDERLAY_MAC} {sink} {}", case.way.tunnel());
    ovs::vsctl(&w, "sw", &both)?;
    w.sh(
        "sw",
        "ip addr add 10.8.0.1/24 dev bru; ip link set bru up; \
         ip neigh add 10.8.0.2 lladdr 02:08:00:00:00:02 dev bru nud permanent",
    )?;
    load_flows(&w, case)?;
    let source = format!("type=pcap options:file={} options:loop=true", pcap.display());
    let bridge = case.way.source_bridge();
    ovs::vsctl(&w, "sw", port(bridge, "src", 1, &source).trim_start_matches("-- "))?;
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let packets = || -> Result<f64, String> {
        let text = ovs::tool(&w, "sw", "ovs-ofctl", &format!("dump-ports {bridge} src"))?;
        let at = text.find("rx pkts=").ok_or_else(|| format!("no counter in {text}"))? + "rx pkts=".len();
        text[at..]
            .split(',')
            .next()
            .and_then(|n| n.trim().parse().ok())
            .ok_or_else(|| format!("no counter in {text}"))
    };
    let (p0, c0) = (packets()?, weft::cpu_exact(pid).ok_or("the switch is gone")?);
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    let (p1, c1) = (packets()?, weft::cpu_exact(pid).ok_or("the switch is gone")?);
    if p1 <= p0 {
        return Err("no packets moved".into());
    }
    Ok((c1 - c0) * hz / (p1 - p0))
}

/// Rate of the time stamp counter, from what the kernel says of the processor.
fn tsc_hz() -> f64 {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let mhz = info
        .lines()
        .find(|l| l.starts_with("cpu MHz"))
        .and_then(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
    mhz.unwrap_or(2000.0) * 1e6
}
