//! Bandwidth that is declared: meters hold it in both directions, of the network's ports or of one; they come, change and
//! go with it, and a new agent takes them over.

use crate::field::{Field, network};
use crate::support::Kind;

/// Sends this many datagrams of 1,000 bytes at once.
const BLAST: &str = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); \
                     [s.sendto(bytes(1000), (\"TO\", 9)) for n in range(2000)]";

/// Rate and burst of the meters, in kilobits, in order.
fn meters(field: &Field) -> Vec<(u32, u32)> {
    let said = field.site.switch.ok("ovs-ofctl -O OpenFlow15 dump-meters br-int");
    let number = |part: &str, name: &str| part.strip_prefix(name).and_then(|n| n.parse().ok());
    let rates = said.split_whitespace().filter_map(|w| number(w, "rate="));
    let mut all: Vec<(u32, u32)> =
        rates.zip(said.split_whitespace().filter_map(|w| number(w, "burst_size="))).collect();
    all.sort_unstable();
    all
}

/// Packets that meters dropped.
fn dropped(field: &Field) -> u64 {
    let said = field.site.switch.ok("ovs-ofctl -O OpenFlow15 meter-stats br-int");
    let counts = said.split_whitespace().filter_map(|w| w.strip_prefix("packet_count:"));
    counts.map(|n| n.parse::<u64>().expect("a count")).sum()
}

fn check(kind: Kind) {
    let mut field = Field::start(kind, 0);
    field.apply(&network("blue", "mode: isolated", &["10.1.0.0/24"]));
    for (name, ip) in [("a", "10.1.0.11"), ("b", "10.1.0.12")] {
        let ns = field.space(name);
        field.ok(&format!("port add {name} --network blue --netns {ns} --ip {ip}"));
    }
    field.wait_ping("a", "10.1.0.12");
    assert_eq!(meters(&field), []);
    // Each port of the network, in one direction: 50 kB/s, of which 100 KiB may come at once.
    let limited = "mode: isolated, bandwidth: {outbound: {average: 50, burst: 100, peak: 90}}";
    field.apply(&network("blue", limited, &["10.1.0.0/24"]));
    field.wait("each port has a meter", |f| meters(f) == [(400, 819); 2]);
    let told = field.ok("describe network blue");
    assert!(told.contains("`peak` and `floor` have no effect"), "{told}");
    let blast = |f: &Field, from: &str, to: &str| {
        f.inside(from, &format!("python3 -c '{}'", BLAST.replace("TO", to)));
    };
    assert_eq!(dropped(&field), 0);
    // Cables lose packets before meters do.
    let exceeds = |f: &Field, from: &str, to: &str| {
        f.wait("what exceeds it is dropped", |f| {
            blast(f, from, to);
            dropped(f) > 100
        });
    };
    exceeds(&field, "a", "10.1.0.12");
    field.wait_ping("a", "10.1.0.12");
    // A port's own word counts for it, in the other direction; a burst has room for a large frame.
    let there = format!("addresses: [10.1.0.12], attachment: {{netns: {{name: {}}}}}", field.name("b"));
    field.apply(&format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: b}}\n\
         spec: {{network: blue, {there}, bandwidth: {{inbound: {{average: 60, burst: 1}}}}}}\n"
    ));
    field.wait("it has a meter of its own", |f| meters(f) == [(400, 819), (480, 600)]);
    field.apply(&network("blue", "mode: isolated", &["10.1.0.0/24"]));
    field.wait("the network's is gone", |f| meters(f) == [(480, 600)]);
    field.wait("its count begins", |f| dropped(f) == 0);
    blast(&field, "b", "10.1.0.11");
    assert_eq!(dropped(&field), 0, "what it sends is not limited");
    exceeds(&field, "a", "10.1.0.12");

    // Another agent takes them over, and those of ports that went meanwhile go; somebody else's stays.
    field
        .site
        .switch
        .ok("ovs-ofctl -O OpenFlow15 add-meter br-int meter=1,kbps,burst,band=type=drop,rate=9,burst_size=9");
    let index = |f: &Field| f.site.switch.ok("ip -o link show dev wp-a").split(':').next().map(str::to_owned);
    let before = index(&field);
    field.site.switch.kill_last();
    field.agent();
    field.ok("port add late --network blue --iface-id late --no-wait");
    field.wait("it is in line", |f| f.ok("status").contains("in line"));
    assert_eq!(meters(&field), [(9, 9), (480, 600)]);
    assert_eq!(index(&field), before, "the ports' devices are those that they were");
    field.wait_ping("a", "10.1.0.12");
    field.ok("port del b");
    field.wait("it goes with its port", |f| meters(f) == [(9, 9)]);
}

on_both!(check);
