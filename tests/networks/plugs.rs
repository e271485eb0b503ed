//! What a port's attachment names is made, works at once, comes back when it is lost, and goes with the port.

use weft_host::netns::NetNs;
use weft_host::tun::{Tap, TapOptions};

use crate::field::{Field, network};
use crate::hosts::Site;
use crate::support::Kind;

fn namespaces(kind: Kind) {
    let mut field = Field::start(kind, 0);
    field.apply(&network("blue", "mode: nat, mtu: 1400", &["10.1.0.0/24", "fd00:1::/64"]));
    let (web, db) = (field.space("web"), field.space("db"));
    let said = field.ok(&format!("port add web --network blue --netns {web} --ip 10.1.0.9"));
    let addresses: Vec<&str> = said.lines().collect();
    assert!(addresses.contains(&"10.1.0.9") && addresses.len() == 2, "both families: {said}");
    let path = format!("/run/netns/{db}");
    let json = field.ok(&format!("port add db --network blue --netns {path} --inside net1 -o json"));
    let port: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let (mac, six) =
        (port["status"]["mac"].as_str().expect("a MAC"), port["status"]["addresses"][1].as_str());
    // It is there at once: what the command returns works.
    assert!(field.pings("web", six.expect("an IPv6 address")), "{}", field.weft("get ports").out);
    assert!(
        field.pings("db", "10.1.0.9") && field.pings("db", "10.1.0.1") && field.pings("web", "fd00:1::1")
    );
    let link = field.inside("db", "ip link show dev net1");
    assert!(link.contains("mtu 1400") && link.contains(mac), "{link}");
    assert!(field.inside("db", "ip route show default").contains("via 10.1.0.1"));
    // The same again changes nothing.
    let index = field.site.switch.ok("cat /sys/class/net/wp-web/ifindex");
    field.ok(&format!("port add web --network blue --netns {web} --ip 10.1.0.9"));
    assert_eq!(field.site.switch.ok("cat /sys/class/net/wp-web/ifindex"), index);
    // TCP, with the checksums and segments that this switch takes.
    let _server = field.serve("web", "busybox httpd -f -p 80 -h /usr/share/common-licenses");
    field.wait("HTTP is answered", |f| {
        f.try_inside("db", "curl -s -m 5 http://10.1.0.9/GPL-3").out.contains("END OF TERMS")
    });

    // A prefix beside its own address, in either family; what is beside that is dropped.
    field.apply(&format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: web}}\nspec: {{network: blue, addresses: [10.1.0.9], \
         attachment: {{netns: {{name: {web}}}}}, allowedPairs: [{{ip: 10.99.0.0/24}}, {{ip: 'fd00:99::/64'}}]}}\n"
    ));
    for (prefix, allowed, spoofed) in [("24", "10.99.0.7", "10.98.0.7"), ("64", "fd00:99::7", "fd00:98::7")] {
        for address in [allowed, spoofed] {
            let nodad = if address.contains(':') { "nodad" } else { "" };
            field.inside("web", &format!("ip addr add {address}/{prefix} dev eth0 {nodad}"));
            field.inside("db", &format!("ip route add {address} dev net1"));
        }
        field.wait_ping("db", allowed);
        assert!(!field.pings("db", spoofed), "{spoofed} is not the port's");
        for address in [allowed, spoofed] {
            field.inside("web", &format!("ip addr del {address}/{prefix} dev eth0"));
        }
    }

    // What is lost comes back: the device, and a namespace that is made anew.
    let before = field.healed("device");
    field.site.switch.ok("ip link del wp-web");
    field.wait("the device is back", |f| f.pings("db", "10.1.0.9"));
    assert_eq!(field.healed("device"), before + 1);
    NetNs::delete(&web).expect("it goes");
    field.wait("it is told", |f| f.ok("describe port web").contains("is not there yet"));
    NetNs::create(&web).expect("it is made anew");
    field.wait("the new one is plugged in", |f| f.pings("db", "10.1.0.9"));

    // What is not ours is not touched, and said.
    field.site.switch.ok("ip link add wp-other type veth peer name wq-other");
    let late = field.space("late");
    field.inside("late", "ip link add eth0 type veth peer name other");
    let refused = field.weft(&format!("port add late --network blue --netns {late}"));
    assert!(refused.code == 1 && refused.err.contains("has a device eth0 that is not ours"), "{refused:?}");
    assert!(field.ok("port del late web").contains("Port/web deleted"));
    assert_ne!(field.site.switch.run("ip link show wp-web").code, 0, "its device is gone");
    assert_ne!(field.try_inside("web", "ip link show eth0").code, 0, "at both ends");
    let bridge = |f: &Field| f.site.switch.ok("ovs-vsctl list-ports br-int");
    field.wait("its port is gone", |f| !bridge(f).contains("wp-web"));
    field.site.switch.ok("ip link show wp-other");
    field.inside("late", "ip link show eth0");
    assert!(field.pings("db", "10.1.0.1"), "the other port works");
}

#[test]
fn namespaces_on_weft() {
    namespaces(Kind::Weft);
}

#[test]
fn namespaces_on_open_vswitch() {
    namespaces(Kind::Ovs);
}

/// An ARP request for `target` (RFC 826), as a machine sends it that is new on the network.
fn arp_request(mac: [u8; 6], from: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(mac);
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac);
    frame.extend(from);
    frame.extend([0; 6]);
    frame.extend(target);
    frame.resize(60, 0);
    frame
}

fn taps_and_devices(kind: Kind) {
    let field = Field::start(kind, 1);
    field.apply(&network("blue", "mode: isolated", &["10.1.0.0/24"]));
    field.ok(
        "port add vm --network blue --tap vm0 --queues 2 --owner root --ip 10.1.0.7 --mac 02:00:00:00:07:07",
    );
    let link = field.site.switch.ok("ip -d link show vm0");
    assert!(
        link.contains("persist on") && link.contains("multi_queue") && link.contains("user root"),
        "{link}"
    );
    // A machine that opens it speaks with the network.
    let ns = NetNs::open(&field.site.switch.ns).expect("the switch's namespace");
    let options = TapOptions { vnet_hdr: false, multi_queue: true, ..TapOptions::default() };
    let tap = ns.run(|| Tap::open("vm0", &options)).expect("the namespace").expect("it opens");
    let request = arp_request([2, 0, 0, 0, 7, 7], [10, 1, 0, 7], [10, 1, 0, 1]);
    let mut frame = [0; 2048];
    field.wait("the gateway answers", |_| {
        tap.send(&request).expect("it is up");
        while let Ok(n) = tap.recv(&mut frame) {
            if n >= 42 && frame[12..14] == [8, 6] && frame[28..32] == [10, 1, 0, 1] {
                return true;
            }
        }
        false
    });
    // When its user goes it stays; when it is deleted under its user it comes back.
    drop(tap);
    field.site.switch.ok("ip link show vm0");
    field.site.switch.ok("ip link del vm0");
    field.wait("it is back", |f| f.site.switch.run("ip link show vm0").code == 0);
    field.wait("and counted", |f| f.healed("device") == 1);
    field.ok("port del vm");
    assert_ne!(field.site.switch.run("ip link show vm0").code, 0);

    // One that somebody made is used, and left.
    field.site.switch.ok("ip tuntap add vm1 mode tap");
    field.ok("port add vm --network blue --tap vm1");
    field.ok("port del vm");
    field.site.switch.ok("ip link show vm1");
    // So is a device.
    field.ok(&format!("port add nic --network blue --device p1 --ip 10.1.0.8 --mac {}", Site::mac(1)));
    field.site.on(1, "ip addr add 10.1.0.8/24 dev eth0");
    field.site.wait_ping(1, "10.1.0.1");
    field.ok("port del nic");
    field.wait("it is off the bridge", |f| !f.site.switch.ok("ovs-vsctl list-ports br-int").contains("p1"));
    field.site.switch.ok("ip link show p1");
    // What never comes is not waited for without end, and what is plugged in later is found.
    let late = field.weft("port add late --network blue --iface-id later --timeout 1");
    assert!(late.code == 1 && late.err.contains("nothing is plugged in yet"), "{late:?}");
    field.site.switch.ok("ovs-vsctl add-port br-int p1 -- set Interface p1 external-ids:iface-id=later");
    assert!(field.ok("port add late --network blue --iface-id later").contains("10.1.0."));
    field.ok("port del late");
    assert!(field.site.switch.ok("ovs-vsctl list-ports br-int").contains("p1"), "who plugged it in keeps it");
}

/// A machine that libvirt plugs in has the MAC address that libvirt gave it, and the port takes that.
fn machines_of_libvirt(kind: Kind) {
    let field = Field::start(kind, 1);
    field.apply(&network("blue", "mode: isolated", &["10.1.0.0/24"]));
    let id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    // The words are libvirt's.
    let plug = |mac: &str| {
        field.site.switch.ok(&format!(
            "ovs-vsctl --timeout=5 -- --may-exist add-port br-int p1 -- set Interface p1 external-ids:attached-mac=\"{mac}\" \
             -- set Interface p1 external-ids:iface-id=\"{id}\" -- set Interface p1 external-ids:vm-id=\"{id}\" \
             -- set Interface p1 external-ids:iface-status=active"
        ));
    };
    let mac = |f: &Field| f.json("port", "vm2")["status"]["mac"].as_str().map(str::to_owned);
    plug(&Site::mac(1));
    assert_eq!(field.ok(&format!("port add vm2 --network blue --iface-id {id}")), "10.1.0.2");
    field.site.on(1, "ip addr add 10.1.0.2/24 dev eth0");
    field.site.wait_ping(1, "10.1.0.1");
    assert_eq!(mac(&field), Some(Site::mac(1)));
    // It is the port's own by now, whoever plugs the machine in again.
    field.site.switch.ok("ovs-vsctl --timeout=5 -- --if-exists del-port p1");
    field.wait("it is unplugged", |f| f.json("port", "vm2")["status"]["phase"] == "Pending");
    field
        .site
        .switch
        .ok(&format!("ovs-vsctl add-port br-int p1 -- set Interface p1 external-ids:iface-id={id}"));
    field.ready("vm2");
    field.site.wait_ping(1, "10.1.0.1");
    assert_eq!(mac(&field), Some(Site::mac(1)));
    // A machine in its place with another.
    let other = "52:54:00:00:00:99";
    field.site.on(1, &format!("ip link set eth0 address {other}"));
    plug(other);
    field.wait("the port takes it", |f| mac(f).as_deref() == Some(other));
    // The host's kernel is told, and reaches it from either side.
    field.site.wait_ping(1, "10.1.0.1");
    field.wait("the host reaches it", |f| f.site.switch.run("ping -c1 -W1 10.1.0.2").code == 0);
    // Who writes another address is told both.
    let written = "02:00:00:00:00:77";
    field.apply(&format!(
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {{name: vm2}}\n\
         spec: {{network: blue, mac: '{written}', attachment: {{ifaceId: {id}}}}}\n"
    ));
    field.wait("it is told", |f| {
        let said = f.ok("describe port vm2");
        said.contains("WrongMac") && said.contains(other) && said.contains(written)
    });
}

#[test]
fn machines_of_libvirt_on_weft() {
    machines_of_libvirt(Kind::Weft);
}

#[test]
fn machines_of_libvirt_on_open_vswitch() {
    machines_of_libvirt(Kind::Ovs);
}

#[test]
fn taps_and_devices_on_weft() {
    taps_and_devices(Kind::Weft);
}

#[test]
fn taps_and_devices_on_open_vswitch() {
    taps_and_devices(Kind::Ovs);
}
