//! Do packets other than Ethernet frames cross tunnels? Network service headers, IP without Ethernet, on real ports.
//!
//! Two switches whose underlay is a cable, and a host on each.

#[path = "../support/hosts.rs"]
mod hosts;
#[path = "../support/mod.rs"]
mod support;

use hosts::Site;

/// Two sites whose hosts are 10.9.0.1 and 10.9.0.2. Ports of each switch besides the host's: 10, GRE for packets without
/// Ethernet that its bridge does not tell from frames; 11, VXLAN-GPE, and 12, GRE, for any packets; 13, VXLAN for frames.
struct Pair {
    sites: [Site; 2],
}

impl Pair {
    fn new() -> Pair {
        let sites = [Site::new(1), Site::new(1)];
        let (one, two) = (&sites[0].switch, &sites[1].switch);
        one.ok(&format!("ip link add u0 type veth peer name u0 netns {}", two.ns));
        for (i, site) in sites.iter().enumerate() {
            let (own, other) = (i + 1, 2 - i);
            let switch = &site.switch;
            switch.ok(&format!("ip addr add 192.168.77.{own}/24 dev u0"));
            switch.ok("ip link set u0 up");
            let remote = format!("options:remote_ip=192.168.77.{other}");
            let gpe = "options:exts=gpe options:dst_port=4790 options:key=7";
            let tunnels = [
                ("l3", 10, "gre", "options:packet_type=legacy_l3"),
                ("gpe", 11, "vxlan", &format!("options:packet_type=ptap {gpe}")),
                ("any", 12, "gre", "options:packet_type=ptap options:key=9"),
                ("plain", 13, "vxlan", "options:key=3"),
            ];
            for (name, port, kind, options) in tunnels {
                switch.ok(&format!(
                    "ovs-vsctl add-port br0 {name} -- set interface {name} type={kind} ofport_request={port} \
                     {remote} {options}"
                ));
            }
            site.on(1, &format!("ip link set eth0 address 02:00:00:00:09:0{own}"));
            site.on(1, &format!("ip addr add 10.9.0.{own}/24 dev eth0"));
            site.on(1, &format!("ip neigh add 10.9.0.{other} lladdr 02:00:00:00:09:0{other} dev eth0"));
        }
        Pair { sites }
    }

    /// Gives both switches these rules; `{own}` is the address of the host.
    fn rules(&self, rules: &str) {
        for (i, site) in self.sites.iter().enumerate() {
            site.rules(&rules.replace("{own}", &format!("02:00:00:00:09:0{}", i + 1)));
        }
    }

    /// What the switches have cached, once a ping went through.
    fn flows_of_ping(&self, options: &str) -> String {
        self.sites[0].wait_ping(1, "10.9.0.2");
        self.sites[0].on(1, &format!("ping -c2 -W5 {options} 10.9.0.2"));
        self.sites.iter().map(|site| site.switch.ok("ovs-appctl dpctl/dump-flows")).collect()
    }
}

#[test]
fn gre_without_ethernet_looks_like_frames() {
    let pair = Pair::new();
    pair.rules("in_port=1,ip,actions=output:10\nin_port=10,ip,actions=set_field:{own}->eth_dst,output:1\n");
    let flows = pair.flows_of_ping("");
    assert!(flows.contains("actions:pop_eth,set(tunnel("), "{flows}");
    assert!(flows.contains("packet_type(ns=1,id=0x800)"), "{flows}");
    assert!(flows.contains("push_eth(src=00:00:00:00:00:00,dst=02:00:00:00:09:01)"), "{flows}");
    // Larger than the cable takes.
    pair.flows_of_ping("-s 3000");
}

#[test]
fn services_cross_vxlan_gpe() {
    let pair = Pair::new();
    pair.rules(
        "in_port=1,actions=encap(nsh(md_type=1)),set_field:0x1234->nsh_spi,set_field:0xaabb->nsh_c1,output:11
in_port=11,packet_type=(1,0x894f),nsh_spi=0x1234,nsh_c1=0xaabb,nsh_mdtype=1,actions=decap(),output:1
",
    );
    let flows = pair.flows_of_ping("");
    assert!(flows.contains("push_nsh(flags=0,ttl=63,mdtype=1,np=3,spi=0x1234,si=255,c1=0xaabb,"), "{flows}");
    assert!(flows.contains("nsh(mdtype=1,np=3,spi=0x1234,c1=0xaabb)"), "{flows}");
    assert!(flows.contains("actions:pop_nsh(),recirc("), "{flows}");
    // With metadata of the other type, and IP without Ethernet inside.
    pair.rules(
        "in_port=1,ip,actions=decap(),encap(nsh(md_type=2,tlv(0x1000,10,0x12345678))),output:11
in_port=11,packet_type=(1,0x894f),nsh_np=1,nsh_mdtype=2,actions=dec_nsh_ttl,decap(),resubmit(,1)
table=1,packet_type=(1,0x800),actions=encap(ethernet),set_field:{own}->eth_dst,output:1
",
    );
    let flows = pair.flows_of_ping("");
    assert!(flows.contains("md2=0x10000a0412345678)"), "{flows}");
}

#[test]
fn ip_crosses_without_ethernet() {
    let pair = Pair::new();
    for port in [11, 12] {
        pair.rules(&format!(
            "in_port=1,ip,actions=decap(),dec_ttl,output:{port}
in_port={port},packet_type=(1,0x800),actions=encap(ethernet),set_field:{{own}}->eth_dst,output:1
"
        ));
        pair.flows_of_ping("");
        pair.flows_of_ping("-s 3000");
    }
}

#[test]
fn a_port_for_any_packets_takes_frames_too() {
    let pair = Pair::new();
    for site in &pair.sites {
        site.on(1, "ip neigh flush all");
    }
    pair.rules(
        "in_port=1,arp,actions=output:12\nin_port=1,ip,actions=encap(nsh),output:12
in_port=12,arp,actions=output:1\nin_port=12,packet_type=(1,0x894f),actions=decap(),output:1\n",
    );
    pair.flows_of_ping("");
}

#[test]
fn what_a_port_does_not_take_is_dropped_by_name() {
    let pair = Pair::new();
    // To a device, and to a tunnel for frames.
    pair.rules("in_port=1,ip,actions=decap(),output:13,output:LOCAL\n");
    let site = &pair.sites[0];
    let _ = site.try_on(1, "ping -c1 -W1 10.9.0.2");
    site.switch.wait_for("the drop has a name", |switch| {
        switch.ok("ovs-appctl ofproto/trace br0 in_port=1,ip").contains("packet-type")
    });
    // A packet without Ethernet for a tunnel of frames: GRE by the key of none.
    pair.sites[0].rules("in_port=1,ip,actions=output:10\n");
    pair.sites[1].switch.ok("ovs-vsctl set interface l3 options:packet_type=legacy_l2");
    pair.sites[1].rules("in_port=10,actions=output:1\n");
    assert!(!pair.sites[0].pings(1, "10.9.0.2"));
}
