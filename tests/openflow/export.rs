//! Are flows exported as Open vSwitch exports them? IPFIX records of the same traffic, from both switches, and what
//! Debian's nfdump makes of ours.

use std::process::{Child, Stdio};

use super::collector::{Collector, Record};
use super::{Bench, Kind, compose};

/// Frames of every shape that a record can have, but for tunnels.
const FRAMES: &[&str] = &[
    "udp,nw_src=10.0.0.1,nw_dst=10.0.0.2,nw_tos=184,nw_ttl=9,udp_src=1000,udp_dst=2000",
    "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_src=1000,tcp_dst=80,tcp_flags=+syn",
    "tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2,tcp_src=1000,tcp_dst=80,tcp_flags=+ack+psh,len=300",
    "sctp,sctp_src=5,sctp_dst=6",
    "icmp,icmp_type=8,icmp_code=0,dl_vlan=5,dl_vlan_pcp=3",
    "arp,dl_dst=ff:ff:ff:ff:ff:ff",
    "ip,nw_proto=89,dl_dst=01:00:5e:00:00:05",
    "udp6,ipv6_label=0x12345,udp_src=7,udp_dst=8",
    "icmp6,icmp_type=128,icmp_code=0,dl_vlan=9",
    "tcp6,tcp_src=7,tcp_dst=8,tcp_flags=+fin",
];

/// Elements that differ for good reasons: how long ago, indices and types of devices, and what was dropped, which Open
/// vSwitch counts of packets that it forwards from its caches too.
const OTHERWISE: [u16; 10] = [158, 159, 10, 14, 368, 369, 132, 133, 134, 135];

fn compared(records: &[Record]) -> Vec<Record> {
    let mut records = records.to_vec();
    for record in &mut records {
        record.values.retain(|(enterprise, id), _| *enterprise != 0 || !OTHERWISE.contains(id));
    }
    records
}

/// A switch that exports all frames of a port by one way, and what it exported of them.
fn records_of(kind: Kind, flow: &str, config: &str, of_each: usize) -> Vec<Record> {
    let mut bench = Bench::new(kind);
    let mut collector = Collector::open(&bench.switch.ns, "127.0.0.1:0");
    collector.lenient = kind == Kind::Ovs;
    bench.must("OpenFlow15", &["add-flow", "br0", flow]).expect("a rule");
    bench.switch.ok(&config.replace("PORT", &collector.port().to_string()));
    bench.settle().expect("no old flows");
    for (i, frame) in FRAMES.iter().enumerate() {
        bench.wires.send(1, &compose::frame(frame).expect("a frame"));
        collector.wait_for(of_each * (i + 1)).unwrap_or_else(|e| panic!("{kind:?}: {frame}: {e}"));
    }
    assert!(kind == Kind::Ovs || !collector.gap, "sequence numbers count records");
    collector.records
}

#[test]
fn what_a_bridge_samples_is_told_alike() {
    let config = "ovs-vsctl -- --id=@i create ipfix targets=[\"127.0.0.1:PORT\"] sampling=1 obs_domain_id=7 \
                  obs_point_id=8 -- set bridge br0 ipfix=@i";
    let [ours, theirs] = [Kind::Weft, Kind::Ovs].map(|kind| records_of(kind, "actions=output:2", config, 2));
    for (i, (ours, theirs)) in compared(&ours).iter().zip(&compared(&theirs)).enumerate() {
        assert_eq!(ours, theirs, "{}", FRAMES[i / 2]);
    }
    for (i, record) in ours.iter().enumerate() {
        assert_eq!((record.domain, record.number((0, 138))), (7, Some(8)));
        assert_eq!(record.number((0, 61)), Some(i as u64 % 2), "in, then out");
        assert_eq!(record.texts((0, 82)), ["p1", "p2"][..=i % 2]);
        assert!(record.number((0, 10)) > Some(0), "the index of p1");
        assert!(record.number((0, 158)) <= Some(2_000_000), "not long ago");
    }
}

#[test]
fn what_rules_sample_is_told_alike() {
    let flow = "actions=sample(probability=65535,collector_set_id=5,obs_domain_id=2,obs_point_id=3),\
                set_field:aa:bb:cc:00:00:01->eth_src,\
                sample(probability=65535,collector_set_id=5,obs_domain_id=4,obs_point_id=5,sampling_port=2,egress),\
                sample(probability=65535,collector_set_id=6,obs_domain_id=4),output:2";
    let config = "ovs-vsctl -- --id=@b get bridge br0 -- --id=@i create ipfix targets=[\"127.0.0.1:PORT\"] \
                  other_config:virtual_obs_id=here -- create flow_sample_collector_set id=5 bridge=@b ipfix=@i";
    let [ours, theirs] = [Kind::Weft, Kind::Ovs].map(|kind| records_of(kind, flow, config, 2));
    for (i, (ours, theirs)) in compared(&ours).iter().zip(&compared(&theirs)).enumerate() {
        assert_eq!(ours, theirs, "{}", FRAMES[i / 2]);
    }
    for pair in ours.chunks(2) {
        assert_eq!((pair[0].domain, pair[1].domain), (2, 4));
        assert_eq!(pair[0].texts((6876, 898)), ["here"]);
        assert_eq!(pair[1].number((0, 56)), Some(0xaabb_cc00_0001), "as it is by then");
    }
}

/// The value of `name=` in what ovs-ofctl tells of exporters.
fn told(bench: &Bench, command: &str, name: &str) -> u64 {
    let said = bench.ofctl("OpenFlow13", &[command, "br0"]);
    let at = said.out.find(&format!("{name}=")).unwrap_or_else(|| panic!("{name} in {said:?}"));
    let digits = said.out[at + name.len() + 1..].split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|d| d.parse().ok()).expect("a number")
}

#[test]
fn cached_flows_are_sampled_packet_by_packet() {
    let mut bench = Bench::new(Kind::Weft);
    bench.clear().expect("empty tables");
    let mut collectors = [(); 2].map(|()| Collector::open(&bench.switch.ns, "127.0.0.1:0"));
    let targets = collectors.each_ref().map(|c| format!("\"127.0.0.1:{}\"", c.port())).join(",");
    let flow = "udp,actions=sample(probability=32768,collector_set_id=1),output:2";
    bench.must("OpenFlow15", &["add-flow", "br0", flow]).expect("a rule");
    let none = bench.ofctl("OpenFlow13", &["dump-ipfix-flow", "br0"]);
    assert!(none.err.contains("NXST_NOT_CONFIGURED") || none.out.contains("NXST_NOT_CONFIGURED"), "{none:?}");
    bench.switch.ok(&format!(
        "ovs-vsctl -- --id=@b get bridge br0 -- --id=@i create ipfix targets=[{targets}] cache_active_timeout=4200 \
         cache_max_flows=2 -- create flow_sample_collector_set id=1 bridge=@b ipfix=@i"
    ));
    let traced = bench.switch.ok("ovs-appctl ofproto/trace br0 in_port=1,udp");
    let sampled = "sample(sample=50.0%,actions(userspace(pid=0,flow_sample(probability=32768,collector_set_id=1,\
                   obs_domain_id=0,obs_point_id=0,output_port=4294967295))))";
    assert!(traced.contains(sampled), "{traced}");
    let frame = compose::frame("udp,nw_src=10.0.0.1,udp_src=1").expect("a frame");
    for _ in 0..1000 {
        bench.wires.send(1, &frame);
    }
    bench.wires.drain(1, &[]).expect("everything left");
    let counted = |bench: &Bench| told(bench, "dump-ipfix-flow", "sampled pkts");
    bench.switch.wait_for("the samples arrive", |_| counted(&bench) > 0);
    let chosen = counted(&bench);
    assert!((350..650).contains(&chosen), "{chosen} of 1000");
    assert_eq!(told(&bench, "dump-ipfix-flow", "current flows"), 1, "they wait");
    assert_eq!(told(&bench, "dump-ipfix-flow", "tx pkts"), 0);

    // One too many: the oldest goes.
    bench.must("OpenFlow15", &["mod-flows", "br0", &flow.replace("32768", "65535")]).expect("a rule");
    for port in [2, 3] {
        bench.wires.send(1, &compose::frame(&format!("udp,udp_src={port}")).expect("a frame"));
    }
    for collector in &mut collectors {
        collector.wait_for(1).expect("a record");
        let record = &collector.records[0];
        assert_eq!((record.number((0, 2)), record.number((0, 136))), (Some(chosen), Some(5)));
        assert_eq!(record.number((0, 352)), Some(chosen * frame.len() as u64));
        assert_eq!(record.number((0, 26)), Some(frame.len() as u64 - 14));
    }
    assert_eq!(told(&bench, "dump-ipfix-flow", "current flows"), 2);

    // Another configuration takes effect at once: what waits is told first, and collectors are told templates again.
    let taught = collectors[0].taught;
    let id = bench.switch.ok("ovs-vsctl --bare --columns=_uuid list ipfix");
    bench.switch.ok(&format!("ovs-vsctl set ipfix {id} cache_max_flows=0"));
    for collector in &mut collectors {
        collector.wait_for(3).expect("what waited");
        assert_eq!(collector.records[1].number((0, 136)), Some(4));
    }
    bench.wires.send(1, &frame);
    collectors[0].wait_for(4).expect("at once");
    assert_eq!(collectors[0].records[3].number((0, 136)), Some(2));
    assert!(collectors[0].taught > taught && !collectors[0].gap);
    bench.switch.ok("ovs-vsctl --all destroy flow_sample_collector_set");
    bench.wires.send(1, &frame);
    bench.wires.drain(1, &[]).expect("it is forwarded all the same");
    assert!(!collectors[0].receive(), "and not told");
}

#[test]
fn what_crosses_tunnels_is_told_with_the_outer_header() {
    let mut bench = Bench::new(Kind::Weft);
    let mut collector = Collector::open(&bench.switch.ns, "127.0.0.1:0");
    // A tunnel from the host to itself.
    bench.switch.ok(
        "ovs-vsctl add-port br0 vx -- set interface vx type=vxlan options:remote_ip=127.0.0.1 options:key=5 \
                     ofport_request=9",
    );
    bench.switch.ok(&format!(
        "ovs-vsctl -- --id=@i create ipfix targets=[\"127.0.0.1:{}\"] sampling=1 \
         other_config:enable-input-sampling=true -- set bridge br0 ipfix=@i",
        collector.port()
    ));
    for flow in ["in_port=1,actions=output:9", "in_port=9,actions=output:2"] {
        bench.must("OpenFlow15", &["add-flow", "br0", flow]).expect("a rule");
    }
    bench.wires.send(1, &compose::frame("udp").expect("a frame"));
    collector.wait_for(4).expect("twice in, twice out");
    let outer: Vec<_> = collector
        .records
        .iter()
        .map(|r| {
            let tunnel = [893, 894, 895, 897, 891, 892].map(|id| r.number((6876, id)));
            (r.number((0, 61)), tunnel[0].is_some().then_some(tunnel.map(Option::unwrap_or_default)))
        })
        .collect();
    let came = [0x7f00_0001, 0x7f00_0001, 17, 4789, 1, 5];
    // The kernel chooses the source when it sends.
    let left = [0, 0x7f00_0001, 17, 4789, 1, 5];
    let wanted = [(Some(0), None), (Some(1), Some(left)), (Some(0), Some(came)), (Some(1), None)];
    assert_eq!(outer, wanted);
    let id = bench.switch.ok("ovs-vsctl get bridge br0 ipfix");
    bench.switch.ok(&format!("ovs-vsctl set ipfix {id} other_config:enable-tunnel-sampling=false"));
    bench.wires.send(1, &compose::frame("udp").expect("a frame"));
    collector.wait_for(8).expect("four more");
    assert!(collector.records[4..].iter().all(|r| r.number((6876, 891)).is_none()));
    // Of what is switched off nothing is told; a packet that goes nowhere is told, and dropped.
    bench.must("OpenFlow15", &["mod-flows", "br0", "in_port=1,actions=drop"]).expect("a rule");
    bench.wires.send(1, &compose::frame("udp").expect("a frame"));
    collector.wait_for(9).expect("one more");
    assert_eq!(collector.records[8].number((0, 133)), Some(1), "dropped");
    bench.switch.ok(&format!("ovs-vsctl set ipfix {id} other_config:enable-input-sampling=false"));
    bench.wires.send(1, &compose::frame("udp").expect("a frame"));
    assert!(!collector.receive());
    bench.switch.wait_for("the rule's drops are counted", |s| {
        s.ok("ovs-ofctl dump-flows br0 in_port=1").contains("n_packets=4")
    });
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn nfdump_reads_what_is_exported() {
    let mut bench = Bench::new(Kind::Weft);
    let dir = bench.switch.path("flows");
    std::fs::create_dir(&dir).expect("a directory");
    let dir = dir.display().to_string();
    let words = ["nfcapd", "-w", &dir, "-b", "127.0.0.1", "-p", "9995", "-t", "2", "-e"];
    let nfcapd = bench.switch.inside(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let _nfcapd = Process(nfcapd.expect("nfdump is installed"));
    bench.switch.wait_for("nfcapd listens", |s| s.ok("ss -Hlun sport = :9995").contains("9995"));
    bench.must("OpenFlow15", &["add-flow", "br0", "actions=output:2"]).expect("a rule");
    bench.switch.ok(
        "ovs-vsctl -- --id=@i create ipfix targets=[\"127.0.0.1:9995\"] sampling=1 cache_active_timeout=1 \
         cache_max_flows=100 other_config:enable-output-sampling=false other_config:weft-flow-totals=true -- set bridge br0 ipfix=@i",
    );
    for text in
        ["udp,nw_src=10.9.0.1,nw_dst=10.9.0.2,udp_src=1111,udp_dst=53", "tcp6,tcp_src=2222,tcp_dst=443"]
    {
        let frame = compose::frame(text).expect("a frame");
        (0..3).for_each(|_| bench.wires.send(1, &frame));
    }
    let format = "fmt:%pr %sa:%sp %da:%dp %pkt %byt";
    let read = |s: &super::support::Switch| {
        s.run_words(&["nfdump", "-q", "-6", "-R", &dir, "-o", format]).out.replace("  ", " ")
    };
    bench.switch.wait_for("nfdump tells both flows", |s| {
        let said = read(s);
        let words: Vec<Vec<&str>> = said.lines().map(|l| l.split_whitespace().collect()).collect();
        let has = |proto: &str, parts: &[&str]| {
            words.iter().any(|w| w.first() == Some(&proto) && parts.iter().all(|p| w.join(" ").contains(p)))
        };
        has("UDP", &["10.9.0.1", "1111", "10.9.0.2", "53", " 3 ", &(3 * 68).to_string()])
            && has("TCP", &["2222", "443", " 3 "])
    });
}
