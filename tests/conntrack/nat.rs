//! Translation of addresses and ports: source, destination, both for a host that talks to itself.

use crate::{FAMILIES, Family, NEIGHBOURS, fetches, neighbour, site, told_of_refusal, web};

/// Everything from port 1 leaves with another source; what comes back is translated back.
fn masquerade(family: Family, zone: u16, to: &str) -> String {
    let ip = family.ip();
    format!(
        "{NEIGHBOURS}table=0,priority=10,{ip},in_port=1,actions=ct(commit,zone={zone},nat(src={to}),table=1)
table=0,priority=10,{ip},in_port=2,actions=ct(zone={zone},nat,table=1)
table=1,{ip},in_port=1,actions=output:2
table=1,{ip},in_port=2,ct_state=+trk+est,actions=output:1
table=1,{ip},in_port=2,ct_state=+trk+rel,actions=output:1
"
    )
}

#[test]
fn source() {
    let site = site(2);
    let server = web(&site, 2, 8000);
    for family in FAMILIES {
        neighbour(&site, 2, &family.addr(100), 1);
        site.rules(&masquerade(family, 11, &family.addr(100)));
        site.wait_ping(1, &family.addr(2));
        assert!(fetches(&site, 1, &format!("http://{}:8000/", family.bracketed(2))), "{family:?}");
        let log = server.log();
        assert!(log.contains(&family.addr(100)), "{family:?}: the server saw\n{log}");
        let from = format!("{} -", family.addr(1));
        assert!(!log.lines().any(|l| l.trim_start_matches("::ffff:").starts_with(&from)), "{log}");
    }
}

#[test]
fn source_from_a_range_of_ports() {
    let site = site(2);
    let _server = web(&site, 2, 8000);
    let family = FAMILIES[0];
    neighbour(&site, 2, &family.addr(100), 1);
    site.rules(&masquerade(family, 12, "10.0.0.100:40000-40009"));
    for _ in 0..5 {
        assert!(fetches(&site, 1, "http://10.0.0.2:8000/"));
    }
    let dump = site.switch.ok("ovs-appctl dpctl/dump-conntrack");
    let translated = dump.lines().filter(|l| l.contains("reply=(src=10.0.0.2,dst=10.0.0.100,")).count();
    assert!(translated >= 5, "{dump}");
}

#[test]
fn errors_are_translated_back() {
    let site = site(2);
    for family in FAMILIES {
        neighbour(&site, 2, &family.addr(100), 1);
        site.rules(&masquerade(family, 13, &family.addr(100)));
        told_of_refusal(&site, family);
    }
}

#[test]
fn destination() {
    let site = site(2);
    let _server = web(&site, 2, 8000);
    for family in FAMILIES {
        neighbour(&site, 1, &family.addr(200), 2);
        let ip = family.ip();
        let to = format!("{}:8000", family.bracketed(2));
        let rules = format!(
            "{NEIGHBOURS}table=0,priority=10,{ip},in_port=1,actions=ct(commit,zone=14,nat(dst={to}),table=1)
table=0,priority=10,{ip},in_port=2,actions=ct(zone=14,nat,table=1)
table=1,{ip},in_port=1,actions=output:2
table=1,{ip},in_port=2,actions=output:1
"
        );
        site.rules(&rules);
        let url = format!("http://{}:80/", family.bracketed(200));
        site.switch.wait_for("the service answers at its address", |_| fetches(&site, 1, &url));
    }
}

#[test]
fn a_host_reaches_its_own_service_by_its_public_address() {
    let site = site(2);
    let server = web(&site, 1, 8000);
    let family = FAMILIES[0];
    neighbour(&site, 1, &family.addr(200), 2);
    neighbour(&site, 1, &family.addr(201), 2);
    // Out: destination, then source, each in a zone of its own, and back by the port it came from. The answer comes
    // by the same port and is told by the address it goes to.
    site.rules(&format!(
        "{NEIGHBOURS}table=0,priority=20,ip,nw_dst=10.0.0.201,actions=ct(zone=16,nat,table=3)
table=0,priority=10,ip,nw_dst=10.0.0.200,actions=ct(commit,zone=15,nat(dst=10.0.0.1:8000),table=1)
table=1,ip,actions=ct(commit,zone=16,nat(src=10.0.0.201),table=2)
table=2,ip,actions=set_field:02:00:00:00:01:02->eth_src,set_field:02:00:00:00:01:01->eth_dst,in_port
table=3,ip,actions=ct(zone=15,nat,table=2)
"
    ));
    let reached = |_: &crate::support::Switch| fetches(&site, 1, "http://10.0.0.200:80/");
    site.switch.wait_for("the service answers at its public address", reached);
    assert!(server.log().contains("10.0.0.201"), "{}", server.log());
}
