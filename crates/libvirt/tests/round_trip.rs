//! Is a document the same network after it has been here, and are resources the same after they have been a document?

mod support;

use std::net::IpAddr;

use proptest::prelude::*;
use support::{documents, network, read, subnets, write};
use weft_model::{Gateway, NetworkMode, Resource, parse};

#[test]
fn documents_come_back() {
    for (name, text) in documents() {
        let first = read(&text);
        let out = write(&first.resources);
        assert_eq!(out.lost, [""; 0], "{name}");
        assert_eq!(out.carried, [""; 0], "{name}:\n{}", out.xml);
        let second = read(&out.xml);
        assert_eq!(first.resources, second.resources, "{name}:\n{}", out.xml);
        assert_eq!(write(&second.resources), out, "{name}");
        // What is kept is told, in the copy as in the original.
        let kept = |i: &weft_libvirt::Import| i.notes.iter().filter(|n| n.kept).count();
        assert_eq!(kept(&first), kept(&second), "{name}");
        let keys: usize = network(&first.resources).spec.libvirt.len()
            + subnets(&first.resources).iter().map(|s| s.spec.libvirt.len()).sum::<usize>();
        assert_eq!(
            kept(&first),
            keys,
            "{name}: every note of something kept is about one thing that is kept"
        );
    }
}

/// Every attribute value and text of a document is in its copy, or is one of those that have another form there.
#[test]
fn nothing_is_dropped() {
    const OTHER: &[&str] = &[
        "nat",
        "no",
        "1024",
        "65535",
        "ipv4",
        "24",
        "25",
        "28",
        "eth0",
        "120",
        "minutes",
        "5",
        "30",
        "0:16:3e:77:e2:ed",
        "00:16:3E:5D:C7:9E",
        "0:1:0:1:18:aa:62:fe:0:16:3e:44:55:66",
        "0:3:0:1:0:16:3e:11:22:33",
        "0:4:7e:7d:f0:7d:a8:bc:c5:d2:13:32:11:ed:16:ea:84:63",
        "0",
    ];
    for (name, text) in documents() {
        let copy = write(&read(&text).resources).xml;
        let values = |text: &str| -> Vec<String> {
            let document = roxmltree::Document::parse(text).expect("XML");
            let of = |n: roxmltree::Node<'_, '_>| -> Vec<String> {
                let texts = n.text().map(|t| t.trim().to_owned()).filter(|t| n.is_text() && !t.is_empty());
                n.attributes().map(|a| a.value().to_owned()).chain(texts).collect()
            };
            document.descendants().flat_map(of).collect()
        };
        let there = values(&copy);
        for value in values(&text) {
            assert!(
                there.contains(&value) || OTHER.contains(&value.as_str()),
                "{name}: {value:?} is gone:\n{copy}"
            );
        }
    }
}

#[test]
fn the_default_network_means_what_it_should() {
    let import = read(&documents().into_iter().find(|(n, _)| n == "default").expect("default").1);
    let network = network(&import.resources);
    assert_eq!((network.name(), network.spec.mode), ("default", NetworkMode::Nat));
    assert_eq!(network.spec.gateway_mac.map(|m| m.to_string()).as_deref(), Some("52:54:00:f8:50:5d"));
    assert_eq!(network.spec.nat, None);
    let [subnet] = subnets(&import.resources)[..] else { panic!("{import:?}") };
    assert_eq!((subnet.name(), subnet.spec.cidr.to_string().as_str()), ("default-v4", "192.168.122.0/24"));
    assert_eq!(subnet.spec.gateway, Gateway::Auto);
    assert!(subnet.spec.serves_dhcp(&network.spec));
    let told: Vec<String> = import.notes.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "line 2: @connections is kept only: it is a state of libvirt's",
            "line 4: uuid is kept only: the resource has an identity of its own",
            "line 10: bridge/@name is kept only: the network is a part of br-int and has no bridge of its own",
            "line 10: bridge/@stp is kept only: the network is a part of br-int and has no bridge of its own",
            "line 10: bridge/@delay is kept only: the network is a part of br-int and has no bridge of its own",
        ]
    );
}

#[test]
fn values_mean_what_they_should() {
    let all = documents();
    let get = |name: &str| read(&all.iter().find(|(n, _)| n == name).expect("a document").1).resources;
    let leases = get("leases");
    let dhcp = &subnets(&leases)[0].spec.dhcp;
    let seconds: Vec<_> = dhcp.ranges.iter().map(|r| r.lease_seconds).collect();
    assert_eq!(seconds, [Some(u32::MAX), Some(121), Some(300), Some(7_200)]);
    assert_eq!(dhcp.hosts[0].lease_seconds, Some(7_200));
    assert_eq!(dhcp.hosts[1].mac.map(|m| m.to_string()).as_deref(), Some("00:16:3e:77:e2:ed"));
    assert_eq!(subnets(&leases)[0].spec.gateway, Gateway::Address("192.168.100.254".parse().unwrap()));
    let hosts = get("doc-routed-hosts");
    assert_eq!(subnets(&hosts)[1].spec.dhcp.hosts[2].duid.as_deref(), Some("00:03:00:01:00:16:3e:11:22:33"));
    let many = get("many-addresses");
    let prefixes: Vec<u8> = subnets(&many).iter().take(6).map(|s| s.spec.cidr.prefix_len()).collect();
    assert_eq!(prefixes, [24, 64, 25, 8, 28, 24], "with classes of their own");
    assert!(network(&many).name().starts_with("many-addresses-"), "{}", network(&many).name());
    assert!(network(&many).spec.libvirt.contains_key("name"));
    let trunks = get("trunks");
    let vlan = network(&trunks).spec.vlan.clone().unwrap();
    assert_eq!((vlan.id, vlan.trunk), (Some(2), vec![1, 2, 3]));
    let notes = |name: &str| read(&all.iter().find(|(n, _)| n == name).expect("a document").1).notes;
    assert!(notes("trunks").iter().all(|n| n.path != "vlan"), "{:?}", notes("trunks"));
    let vepa = get("vepa");
    assert_eq!(network(&vepa).spec.mode, NetworkMode::Private);
    assert_eq!(network(&vepa).spec.bridged.as_ref().unwrap().uplink.as_deref(), Some("eth0"));
    let routes = get("doc-static-routes");
    assert_eq!(subnets(&routes)[1].spec.routes.len(), 2);
    assert_eq!(subnets(&routes)[1].spec.routes[1].metric, Some(2));
    let records = get("records");
    assert_eq!(network(&records).spec.dns.txt[0].value, "it's \"fine\" <here> & there");
    assert_eq!(network(&records).spec.dns.srv[0].port, 1, "dnsmasq's default");
    let boot = get("netboot");
    assert_eq!(subnets(&boot)[0].spec.dhcp.options.next_server, Some([1, 2, 3, 4].into()));
    let isolated = get("doc-isolated");
    let subnet = subnets(&isolated)[0];
    assert_eq!(subnet.spec.gateway_address(NetworkMode::Isolated), None, "no router is told, as by libvirt");
    let first: IpAddr = "192.168.152.1".parse().unwrap();
    assert_eq!(subnet.spec.service_address(NetworkMode::Isolated), Some(first));
}

/// Every resource that the model's own tests know, with fields that libvirt has no words for.
#[test]
fn resources_come_back() {
    let lab = include_str!("../../model/tests/data/lab.yaml");
    let all: Vec<Resource> = parse(lab).expect("the lab").into_iter().map(|p| p.resource).collect();
    let mut networks = 0;
    for network in all.iter().filter_map(Resource::as_network) {
        let mut of: Vec<Resource> = vec![Resource::Network(network.clone())];
        let mine = |s: &&weft_model::Subnet| s.spec.network == network.name();
        of.extend(all.iter().filter_map(Resource::as_subnet).filter(mine).cloned().map(Resource::Subnet));
        let out = write(&of);
        assert_eq!(out.lost, [""; 0], "{}", out.xml);
        let mut back = read(&out.xml).resources;
        for list in [&mut of, &mut back] {
            list.sort_by_key(|r| (r.kind(), r.name().to_owned()));
        }
        for (a, b) in of.iter().zip(&back) {
            assert_eq!(a.to_yaml(), b.to_yaml(), "{}", out.xml);
        }
        assert_eq!(write(&back), out);
        networks += 1;
    }
    assert!(networks >= 3);
}

#[test]
fn an_edited_document_has_the_last_word() {
    let yaml = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: blue}\nspec: {spoofGuard: false}\n---\n\
                apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: mine}\nspec: {network: blue, cidr: 10.7.0.0/24, \
                dhcp: {ranges: [{start: 10.7.0.5, end: 10.7.0.9}], hosts: [{name: a, clientId: \"01\"}]}}\n";
    let all: Vec<Resource> = parse(yaml).unwrap().into_iter().map(|p| p.resource).collect();
    let out = write(&all);
    assert_eq!(
        out.carried,
        ["spec.spoofGuard", "10.7.0.0/24: metadata.name", "10.7.0.0/24: spec.dhcp.hosts"],
        "{}",
        out.xml
    );
    let edited =
        out.xml.replace("    </dhcp>", "      <host mac='52:54:00:00:00:01' ip='10.7.0.7'/>\n    </dhcp>");
    assert_ne!(edited, out.xml);
    let import = read(&edited);
    let subnet = subnets(&import.resources)[0];
    assert_eq!(subnet.name(), "mine");
    assert_eq!(subnet.spec.dhcp.hosts.len(), 1, "the host that was added, not the one that was carried");
    assert!(!network(&import.resources).spec.spoof_guard);
    assert!(import.notes.iter().any(|n| n.why.contains("it was edited since")), "{:?}", import.notes);
}

#[test]
fn kept_words_that_do_not_fit_are_told() {
    let yaml = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: blue}\nspec: {mode: isolated, libvirt: \
                {\"forward/@dev\": eth0, \"portgroup[2]\": \"<portgroup name='b'/>\", \"portgroup[10]\": \"<portgroup \
                name='c'/>\", \"a b\": x, uuid: \"<wrong\", \"bridge/@stp\": \"on\"}}\n";
    let all: Vec<Resource> = parse(yaml).unwrap().into_iter().map(|p| p.resource).collect();
    let out = write(&all);
    for key in ["a b", "uuid", "forward/@dev"] {
        assert!(out.lost.contains(&format!("spec.libvirt[{key}]")), "{:?}", out.lost);
    }
    let (b, c) = (out.xml.find("name='b'").unwrap(), out.xml.find("name='c'").unwrap());
    assert!(b < c && out.xml.contains("<bridge stp='on'/>"), "{}", out.xml);
    // Words that make no document are refused and named.
    let yaml = yaml.replace("uuid: \"<wrong\"", "uuid: wrong");
    let all: Vec<Resource> = parse(&yaml).unwrap().into_iter().map(|p| p.resource).collect();
    let error = weft_libvirt::export(network(&all), &[]).unwrap_err().to_string();
    assert!(error.contains("uuid") && error.contains("spec.libvirt"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any text in the places where text may stand survives both ways.
    #[test]
    fn any_text_survives(value in "\\PC{0,40}|[\\t\\n <>&'\"]{0,20}", label in "[a-z]([a-z0-9-]{0,61}[a-z0-9])?") {
        let yaml = serde_json::json!({"apiVersion": "weft.dev/v1", "kind": "Network",
            "metadata": {"name": label, "annotations": {"a/b~c": value}},
            "spec": {"dns": {"txt": [{"name": "t", "value": value}]}, "libvirt": {"description": format!("x{value}x")}}});
        let all: Vec<Resource> = parse(&yaml.to_string()).unwrap().into_iter().map(|p| p.resource).collect();
        let out = write(&all);
        prop_assert_eq!(&out.lost, &Vec::<String>::new());
        prop_assert_eq!(read(&out.xml).resources, all);
    }
}
