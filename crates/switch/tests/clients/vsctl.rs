//! Does every command of `ovs-vsctl` do what its manual says?

use crate::harness::Switch;

/// Runs commands in order; each with what it must print (`None`: whatever).
fn check(switch: &Switch, steps: &[(&str, Option<&str>)]) {
    for (command, expected) in steps {
        let out = switch.vsctl(command);
        if let Some(expected) = expected {
            assert_eq!(out, *expected, "{command}");
        }
    }
}

#[test]
fn bridges() {
    let s = Switch::start();
    check(
        &s,
        &[
            ("init", Some("")),
            ("list-br", Some("")),
            ("add-br br0", Some("")),
            ("--may-exist add-br br0", Some("")),
            ("add-br br1 -- set bridge br1 datapath_type=netdev", Some("")),
            ("list-br", Some("br0\nbr1")),
            ("br-exists br0", Some("")),
            ("add-br fake0 br0 100", Some("")),
            ("--may-exist add-br fake0 br0 100", Some("")),
            ("list-br", Some("br0\nbr1\nfake0")),
            ("--real list-br", Some("br0\nbr1")),
            ("--fake list-br", Some("fake0")),
            ("br-to-vlan fake0", Some("100")),
            ("br-to-vlan br0", Some("0")),
            ("br-to-parent fake0", Some("br0")),
            ("br-to-parent br0", Some("br0")),
            ("br-set-external-id br0 owner me", Some("")),
            ("br-get-external-id br0 owner", Some("me")),
            ("br-get-external-id br0", Some("owner=me")),
            ("br-set-external-id br0 owner", Some("")),
            ("br-get-external-id br0", Some("")),
            ("get interface fake0 type", Some("internal")),
            ("get port fake0 tag", Some("100")),
            ("get bridge br0 datapath_version", Some("\"<built-in>\"")),
            ("get interface br0 ofport", Some("65534")),
        ],
    );
    assert_eq!(s.run("ovs-vsctl br-exists nobr").code, 2);
    assert_eq!(s.run("ovs-vsctl add-br br0").code, 1);
    // Devices are there, and go.
    s.ok("ip link show br0");
    s.ok("ip link show fake0");
    check(
        &s,
        &[
            ("del-br fake0", None),
            ("--if-exists del-br fake0", None),
            ("del-br br0", None),
            ("list-br", Some("br1")),
        ],
    );
    assert_ne!(s.run("ip link show br0").code, 0);
    assert_ne!(s.run("ip link show fake0").code, 0);
    assert!(s.path("br1.mgmt").exists() && !s.path("br0.mgmt").exists());
}

#[test]
fn ports_and_bonds() {
    let s = Switch::start();
    for i in 0..4 {
        s.ok(&format!("ip link add d{i} type veth peer name e{i}"));
        s.ok(&format!("ip link set d{i} up"));
        s.ok(&format!("ip link set e{i} up"));
    }
    check(
        &s,
        &[
            ("add-br br0", None),
            ("add-port br0 d0 tag=7 -- set interface d0 external-ids:a=b", Some("")),
            ("--may-exist add-port br0 d0", Some("")),
            ("add-port br0 d1 vlan_mode=trunk trunks=1,2 -- set interface d1 ofport_request=9", Some("")),
            ("list-ports br0", Some("d0\nd1")),
            ("port-to-br d0", Some("br0")),
            ("list-ifaces br0", Some("d0\nd1")),
            ("iface-to-br d1", Some("br0")),
            ("get interface d1 ofport", Some("9")),
            ("get interface d0 ofport", Some("1")),
            ("get interface d0 link_state admin_state", Some("up\nup")),
            ("get interface d0 mtu error", Some("1500\n[]")),
            ("get interface d0 status:driver_name", Some("veth")),
            ("add-bond br0 bond0 d2 d3 bond_mode=balance-slb", Some("")),
            ("list-ports br0", Some("bond0\nd0\nd1")),
            ("list-ifaces br0", Some("d0\nd1\nd2\nd3")),
            ("get port bond0 bond_mode", Some("balance-slb")),
            (
                "add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=192.0.2.1 options:key=9",
                Some(""),
            ),
            ("add-port br0 gr0 -- set interface gr0 type=gre options:remote_ip=192.0.2.1", Some("")),
            (
                "add-port br0 ge0 -- set interface ge0 type=geneve options:remote_ip=flow options:key=flow",
                Some(""),
            ),
            ("add-port br0 in0 -- set interface in0 type=internal mtu_request=1400", Some("")),
            ("get interface in0 mtu", Some("1400")),
            ("del-port br0 d0", Some("")),
            ("--if-exists del-port br0 d0", Some("")),
            ("--with-iface del-port d2", Some("")),
            ("list-ports br0", Some("d1\nge0\ngr0\nin0\nvx0")),
            ("list-ifaces br0", Some("d1\nge0\ngr0\nin0\nvx0")),
        ],
    );
    let shown = s.ok("ovs-appctl dpif/show");
    for line in ["d1 9/", "(vxlan: key=9, remote_ip=192.0.2.1)", "(gre: remote_ip=192.0.2.1)", "in0 "] {
        assert!(shown.contains(line), "{line}\n{shown}");
    }
    let said = s.run("ovs-vsctl --timeout=5 add-port br0 nosuch");
    assert!(said.err.contains("could not open network device nosuch (No such device)"), "{said:?}");
    assert_eq!(s.vsctl("get interface nosuch ofport"), "-1");
    let said = s.run("ovs-vsctl --timeout=5 add-port br0 bad -- set interface bad type=vxlan");
    assert!(said.err.contains("bad: vxlan type requires valid 'remote_ip' argument"), "{said:?}");
    let said = s.run("ovs-vsctl --timeout=5 add-port br0 bad2 -- set interface bad2 type=dpdk");
    assert!(said.err.contains("Address family not supported by protocol"), "{said:?}");
}

#[test]
fn patch_ports() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- add-br br1");
    let first = s.run("ovs-vsctl --timeout=5 add-port br0 p0 -- set interface p0 type=patch options:peer=p1");
    assert_eq!(first.code, 0, "{first:?}");
    assert!(s.vsctl("get interface p0 error").contains("No usable peer 'p1' exists"));
    s.vsctl("add-port br1 p1 -- set interface p1 type=patch options:peer=p0");
    assert_eq!(s.vsctl("get interface p0 error -- get interface p1 error"), "[]\n[]");
    let (a, b) = (s.workload("a", "10.1.0.1/24"), s.workload("b", "10.1.0.2/24"));
    s.vsctl("add-port br0 a -- add-port br1 b");
    assert!(s.pings(&a, "10.1.0.2"));
    s.vsctl("del-port p1");
    assert!(s.silent(&b, "10.1.0.1"));
}

#[test]
fn controllers_managers_ssl() {
    let s = Switch::start();
    check(
        &s,
        &[
            ("add-br br0", None),
            ("get-controller br0", Some("")),
            ("set-controller br0 tcp:127.0.0.1:1 ptcp:16653:127.0.0.1", Some("")),
            ("get-controller br0", Some("ptcp:16653:127.0.0.1\ntcp:127.0.0.1:1")),
            ("get-fail-mode br0", Some("")),
            ("set-fail-mode br0 secure", Some("")),
            ("get-fail-mode br0", Some("secure")),
            ("del-fail-mode br0", Some("")),
            ("get-fail-mode br0", Some("")),
            ("set-manager ptcp:16640:127.0.0.1", Some("")),
            ("get-manager", Some("ptcp:16640:127.0.0.1")),
            ("set-ssl /a/key /a/cert /a/ca", Some("")),
            (
                "get-ssl",
                Some("Private key: /a/key\nCertificate: /a/cert\nCA Certificate: /a/ca\nBootstrap: false"),
            ),
            ("--bootstrap set-ssl /a/key /a/cert /a/ca", Some("")),
            ("del-ssl", Some("")),
        ],
    );
    assert!(s.ok("ovs-ofctl show tcp:127.0.0.1:16653").contains("n_tables"));
    assert_eq!(s.ok("ovs-vsctl --db=tcp:127.0.0.1:16640 list-br"), "br0");
    s.wait_for("the manager's state is told", || {
        s.vsctl("get manager . status") != "{}" || s.vsctl("get manager . is_connected") == "true"
    });
    check(
        &s,
        &[
            ("del-controller br0", Some("")),
            ("get-controller br0", Some("")),
            ("del-manager", Some("")),
            ("get-manager", Some("")),
        ],
    );
    s.wait_for("the listener is closed", || s.run("ovs-ofctl show tcp:127.0.0.1:16653").code != 0);
    assert_ne!(s.run("ovs-vsctl --timeout=2 --db=tcp:127.0.0.1:16640 list-br").code, 0);
}

#[test]
fn database_commands() {
    let s = Switch::start();
    s.vsctl("add-br br0 -- comment a bridge -- add-port br0 t0 -- set interface t0 type=tap");
    check(
        &s,
        &[
            ("--columns=name list bridge", Some("name                : br0")),
            ("--columns=name,type --format=csv find interface type=tap", Some("name,type\nt0,tap")),
            ("--bare --columns=name find interface name=nosuch", Some("")),
            ("get bridge br0 name fail_mode", Some("br0\n[]")),
            ("set bridge br0 other_config:hwaddr=02:00:00:00:00:42", Some("")),
            ("get interface br0 mac_in_use", Some("\"02:00:00:00:00:42\"")),
            ("get bridge br0 datapath_id", Some("\"0000020000000042\"")),
            ("set bridge br0 other_config:datapath-id=00000000deadbeef", Some("")),
            ("get bridge br0 datapath_id", Some("\"00000000deadbeef\"")),
            ("add port t0 trunks 5,6", Some("")),
            ("get port t0 trunks", Some("[5, 6]")),
            ("remove port t0 trunks 5", Some("")),
            ("get port t0 trunks", Some("[6]")),
            ("clear port t0 trunks", Some("")),
            ("get port t0 trunks", Some("[]")),
            (
                "--id=@q create queue other-config:max-rate=1 -- --id=@qos create qos type=linux-htb queues:0=@q -- set port t0 qos=@qos",
                None,
            ),
            ("--bare --columns=type list qos", Some("linux-htb")),
            ("clear port t0 qos -- --all destroy qos -- --all destroy queue", Some("")),
            ("--bare --columns=type list qos", Some("")),
            ("wait-until bridge br0 name=br0", Some("")),
            ("wait-until open_vswitch . cur_cfg>0", Some("")),
            ("get open_vswitch . ovs_version db_version", Some("\"3.1.0\"\n\"8.3.1\"")),
            ("get open_vswitch . dpdk_initialized datapath_types", Some("false\n[netdev, system]")),
        ],
    );
    assert!(s.vsctl("get open_vswitch . iface_types").contains("vxlan"));
    assert_ne!(s.run("ovs-vsctl --timeout=1 wait-until bridge br0 name=other").code, 0);
    assert!(s.vsctl("show").contains("Bridge br0"));
    check(
        &s,
        &[
            (
                "set-controller br0 tcp:127.0.0.1:1 -- set-fail-mode br0 secure -- set-manager ptcp:16641:127.0.0.1",
                None,
            ),
            ("emer-reset", Some("")),
            ("get-controller br0", Some("")),
            ("get-fail-mode br0", Some("")),
            ("get-manager", Some("")),
        ],
    );
    s.check_database();
}

#[test]
fn libvirt_attaches_and_detaches() {
    let s = Switch::start();
    s.vsctl("add-br virbr");
    s.ok("ip link add vnet0 type veth peer name vm0");
    let attach = "ovs-vsctl --timeout=5 -- --may-exist add-port virbr vnet0 vlan_mode=native-untagged tag=5 trunk=5,6 \
                  -- set Interface vnet0 external-ids:attached-mac='\"52:54:00:00:00:01\"' \
                  -- set Interface vnet0 external-ids:iface-id='\"b12fc6fa-6bd3-4c33-8e1d-2d6e1d2e2c9a\"' \
                  -- set Interface vnet0 external-ids:vm-id='\"7e2d3c4b-0000-4000-8000-000000000001\"' \
                  -- set Interface vnet0 external-ids:port-profile='\"web\"' \
                  -- set Interface vnet0 external-ids:iface-status=active";
    s.ok(attach);
    s.ok(attach);
    assert_eq!(s.vsctl("get port vnet0 trunks tag vlan_mode"), "[5, 6]\n5\nnative-untagged");
    assert_eq!(s.vsctl("get interface vnet0 external_ids:iface-status"), "active");
    assert_eq!(s.vsctl("iface-to-br vnet0"), "virbr");
    let statistics = "ovs-vsctl --timeout=5 --if-exists --format=list --data=json --no-headings --columns=statistics \
                      list Interface vnet0";
    s.wait_for("statistics", || s.ok(statistics).contains("[\"rx_bytes\","));
    s.vsctl("set interface vnet0 ingress_policing_rate=1000 ingress_policing_burst=100");
    s.vsctl("-- --id=@qos1 create qos type=linux-htb other-config:max-rate=1000 queues:0=@queue1 -- --id=@queue1 create queue other-config:min-rate=10 -- set port vnet0 qos=@qos1");
    assert!(
        s.vsctl(
            "--columns=_uuid find Interface external-ids:vm-id='\"7e2d3c4b-0000-4000-8000-000000000001\"'"
        )
        .contains("_uuid")
    );
    s.ok("ovs-vsctl --timeout=5 -- --if-exists del-port vnet0");
    s.ok("ovs-vsctl --timeout=5 -- --if-exists del-port vnet0");
    assert_eq!(s.vsctl("list-ports virbr"), "");
}
