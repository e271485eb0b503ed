//! A stateful firewall: host 1 may begin conversations with host 2, which may only answer.

use crate::hosts::Site;
use crate::{FAMILIES, NEIGHBOURS, fetches, site, told_of_refusal, web};

/// New connections from port 1, answers and related errors from either side.
fn rules(zone: u16) -> String {
    let mut text = NEIGHBOURS.to_owned();
    for ip in ["ip", "ipv6"] {
        text.push_str(&format!(
            "table=0,priority=10,{ip},actions=ct(table=1,zone={zone})
table=1,priority=20,{ip},ct_state=+trk+inv,actions=drop
table=1,priority=10,{ip},ct_state=+trk+new,in_port=1,actions=ct(commit,zone={zone}),output:2
table=1,priority=10,{ip},ct_state=+trk+est,in_port=1,actions=output:2
table=1,priority=10,{ip},ct_state=+trk+est,in_port=2,actions=output:1
table=1,priority=10,{ip},ct_state=+trk+rel,in_port=2,actions=output:1
"
        ));
    }
    text
}

fn walled() -> Site {
    let site = site(2);
    site.rules(&rules(7));
    site
}

#[test]
fn answers_pass_and_questions_do_not() {
    let site = walled();
    let (_in, _out) = (web(&site, 1, 8000), web(&site, 2, 8000));
    for family in FAMILIES {
        let (one, two) = (family.addr(1), family.addr(2));
        site.wait_ping(1, &two);
        assert!(!site.pings(2, &one), "{family:?}: host 2 begins");
        assert!(fetches(&site, 1, &format!("http://{}:8000/", family.bracketed(2))), "{family:?}");
        assert!(!fetches(&site, 2, &format!("http://{}:8000/", family.bracketed(1))), "{family:?}");
    }
    let dump = site.switch.ok("ovs-appctl dpctl/dump-conntrack");
    assert!(dump.contains("tcp,orig=(src=10.0.0.1,dst=10.0.0.2,") && dump.contains("zone=7"), "{dump}");
    assert!(dump.contains("src=fd00::1"), "{dump}");
    site.switch.ok("ovs-appctl dpctl/flush-conntrack");
    let dump = site.switch.ok("ovs-appctl dpctl/dump-conntrack");
    assert!(!dump.contains("src=10.0.0.1"), "{dump}");
}

#[test]
fn fragments_are_put_together_before_they_are_looked_up() {
    let site = walled();
    for family in FAMILIES {
        let two = family.addr(2);
        site.switch.wait_for("a large ping is answered", |_| {
            site.try_on(1, &format!("ping -c1 -W1 -s 5000 {two}")).code == 0
        });
        assert_ne!(site.try_on(2, &format!("ping -c1 -W1 -s 5000 {}", family.addr(1))).code, 0, "{family:?}");
    }
}

#[test]
fn errors_about_a_connection_are_related_to_it() {
    let site = walled();
    for family in FAMILIES {
        told_of_refusal(&site, family);
    }
}

#[test]
fn a_zone_takes_as_many_connections_as_its_limit() {
    let site = walled();
    let _web = web(&site, 2, 8000);
    site.switch.ok("ovs-appctl dpctl/ct-set-limits zone=7,limit=3");
    assert!(site.switch.ok("ovs-appctl dpctl/ct-get-limits zone=7").contains("limit=3"));
    let url = "http://10.0.0.2:8000/";
    // Each fetch is a connection of its own, kept for a while after it is closed.
    let got: Vec<bool> = (0..6).map(|_| fetches(&site, 1, url)).collect();
    assert_eq!(
        got,
        [true, true, true, false, false, false],
        "{}",
        site.switch.ok("ovs-appctl dpctl/dump-conntrack")
    );
    site.switch.ok("ovs-appctl dpctl/ct-del-limits zone=7");
    assert!(fetches(&site, 1, url));
}

#[test]
fn connections_carry_marks_and_labels() {
    let site = site(2);
    let mut text = NEIGHBOURS.to_owned();
    text.push_str(
        "table=0,priority=10,ip,actions=ct(table=1,zone=9)
table=1,priority=20,ip,ct_state=+trk+est,ct_mark=0x2a,ct_label=0x77/0xff,in_port=2,actions=output:1
table=1,priority=10,ip,ct_state=+trk+est,in_port=1,actions=output:2
table=1,priority=10,ip,ct_state=+trk+new,in_port=1,actions=ct(commit,zone=9,exec(set_field:0x2a->ct_mark,set_field:0x77->ct_label)),output:2
",
    );
    site.rules(&text);
    site.wait_ping(1, "10.0.0.2");
    let dump = site.switch.ok("ovs-appctl dpctl/dump-conntrack");
    assert!(dump.contains("mark=42") && dump.contains("labels=0x77"), "{dump}");
}
