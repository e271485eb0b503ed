//! Devices and TAPs.

use weft_datapath::{Datapath, PortKind};
use weft_flow::{DropReason, OfPort};
use weft_host::netlink::Netlink;
use weft_pipeline::{PortConfig, RuleFilter};

use crate::rig::{BRIDGE, FLOWING, Switch, address, host, iperf, namespace, ping, run, stream, up};

#[test]
fn devices() {
    let ns = namespace("switch");
    let (a, b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let switch = Switch::new(ns);
    switch.device("p1");
    switch.device("p2");
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
    let (rate, cpu) = stream(&a, &b, "10.0.0.2");
    let udp = iperf(&a, &b, "10.0.0.2", &["-t", "1", "-u", "-b", "200M", "-l", "1400"]);
    println!(
        "device to device: TCP {:.2} Gbit/s, {cpu:.2} s/GB, UDP {:.0} Mbit/s; drops {}",
        rate / 1e9,
        udp / 1e6,
        switch.why()
    );
    println!("{:?}", switch.datapath.coverage());
    assert!(rate > FLOWING && udp > FLOWING);
    let (ok, text) = run(&b, &["nstat", "-az", "TcpInCsumErrors", "UdpInCsumErrors"]);
    assert!(ok && text.lines().filter(|l| l.contains("CsumErrors")).all(|l| l.contains(" 0 ")), "{text}");
    // The host's own stack sees nothing of what its devices carry.
    let (_, seen) = run(&switch.ns, &["ip", "neigh"]);
    assert_eq!(seen.trim(), "");
}

#[test]
fn taps_in_other_namespaces() {
    let switch = Switch::new(namespace("switch"));
    let hosts = ["10.0.0.1", "10.0.0.2"].map(|ip| {
        let name = format!("tap{}", &ip[7..]);
        switch.port(&name, PortKind::Tap, weft_pipeline::PortKind::Device);
        let ns = namespace("host");
        let mut netlink = Netlink::open_in(&switch.ns).unwrap();
        let index = netlink.index_of(&name).unwrap();
        netlink.move_to(index, &ns, Some("eth0")).unwrap();
        ns.run(|| {
            up("eth0");
            address("eth0", ip, 24);
        })
        .unwrap();
        ns
    });
    assert!(ping(&hosts[0], "10.0.0.2"), "{}", switch.why());
    let (rate, cpu) = stream(&hosts[0], &hosts[1], "10.0.0.2");
    println!("TAP to TAP: TCP {:.2} Gbit/s, {cpu:.2} s/GB; drops {}", rate / 1e9, switch.why());
    assert!(rate > FLOWING);
}

/// Median round trip in microseconds.
fn round_trip(from: &weft_host::netns::NetNs, to: &str) -> f64 {
    let (_, text) = run(from, &["ping", "-c", "1000", "-i", "0.001", to]);
    let time = |line: &str| line.split("time=").nth(1)?.split(' ').next()?.parse::<f64>().ok();
    let mut times: Vec<f64> = text.lines().filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    1e3 * times[times.len() / 2]
}

#[test]
fn round_trips() {
    let ns = namespace("switch");
    let (a, _b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let switch = Switch::new(ns);
    switch.device("p1");
    switch.device("p2");
    let ours = round_trip(&a, "10.0.0.2");
    // The same two hosts by the kernel's own bridge.
    let other = namespace("bridge");
    let (c, _d) = (host("c", &other, "p1", "10.0.0.1", 24), host("d", &other, "p2", "10.0.0.2", 24));
    other
        .run(|| {
            let mut netlink = Netlink::open().unwrap();
            let bridge = netlink.add_bridge("br0").unwrap();
            for name in ["p1", "p2"] {
                let index = netlink.index_of(name).unwrap();
                netlink.set_master(index, Some(bridge)).unwrap();
            }
            up("br0");
        })
        .unwrap();
    assert!(ping(&c, "10.0.0.2"));
    let kernel = round_trip(&c, "10.0.0.2");
    println!("median round trip: {ours:.0} µs, kernel bridge {kernel:.0} µs");
    assert!(ours < kernel + 2_000.0, "{ours} µs");
}

#[test]
fn ports_come_and_go() {
    let ns = namespace("switch");
    let (a, b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let switch = Switch::new(ns);
    switch.device("p1");
    let second = switch.device("p2");
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
    // The datapath loses the port while the bridge still has it.
    switch.datapath.del_port(second).unwrap();
    assert!(!run(&a, &["ping", "-c", "1", "-W", "1", "10.0.0.2"]).0);
    assert!(switch.drops(DropReason::PortGone) > 0, "{}", switch.why());
    switch.change(|bridge| assert!(bridge.ports.remove(OfPort(second.0))));
    let again = switch.device("p2");
    assert!(again.0 > second.0, "{again}: cached flows may still name port {second}");
    assert!(ping(&b, "10.0.0.1"), "{}", switch.why());
    let info = switch.ns.run(|| switch.datapath.port_info(again)).unwrap().unwrap();
    assert!(info.link_up && info.mtu == Some(1500) && info.driver.as_deref() == Some("veth"), "{info:?}");
}

#[test]
fn changes_apply_when_sync_returns() {
    let ns = namespace("switch");
    let (a, _b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let switch = Switch::new(ns);
    switch.device("p1");
    let second = switch.device("p2");
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
    assert!(switch.datapath.stats().flows > 0);
    let set_down = |down: bool| {
        switch.change(|bridge| {
            let port = bridge.ports.get(OfPort(second.0)).unwrap().clone();
            bridge.ports.insert(PortConfig { link_up: !down, ..port });
        });
        switch.datapath.sync();
    };
    set_down(true);
    let before = switch.datapath.port_stats(second).unwrap().tx_packets;
    assert!(!run(&a, &["ping", "-c", "1", "-W", "1", "10.0.0.2"]).0);
    assert_eq!(
        switch.datapath.port_stats(second).unwrap().tx_packets,
        before,
        "nothing leaves by cached flows"
    );
    set_down(false);
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
}

#[test]
fn flows_are_credited_and_idle_lanes_sleep() {
    let ns = namespace("switch");
    let (a, _b) = (host("a", &ns, "p1", "10.0.0.1", 24), host("b", &ns, "p2", "10.0.0.2", 24));
    let switch = Switch::new(ns);
    switch.device("p1");
    switch.device("p2");
    assert!(ping(&a, "10.0.0.2"), "{}", switch.why());
    let credited = || {
        let snapshot = switch.pipeline.snapshot();
        let rules = snapshot.bridge(BRIDGE).unwrap().tables.rules(&RuleFilter::default());
        rules.iter().map(|rule| rule.stats.packets.load(std::sync::atomic::Ordering::Relaxed)).sum::<u64>()
    };
    switch.datapath.refresh();
    assert!(credited() >= 6, "three requests, three replies: {}", credited());
    assert!(switch.datapath.flows().iter().any(|flow| flow.packets > 0 && !flow.cookies.is_empty()));
    let sleeps = || switch.datapath.coverage().iter().find(|(name, _)| *name == "lane_sleeps").unwrap().1;
    let before = sleeps();
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(sleeps() - before < 50, "{} wake-ups in an idle second", sleeps() - before);
}
