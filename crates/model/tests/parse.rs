//! What the reader says of good and bad documents.

use weft_model::{Catalog, Kind, ObjectRef, Resource, parse, parse_one};

const LAB: &str = include_str!("data/lab.yaml");

fn lab() -> Vec<Resource> {
    match parse(LAB) {
        Ok(parsed) => parsed.into_iter().map(|p| p.resource).collect(),
        Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn the_whole_lab_is_read_and_fits_together() {
    let all = lab();
    assert_eq!(all.len(), 13);
    let catalog: Catalog = all.into_iter().collect();
    assert_eq!(catalog.problems(), []);
    assert_eq!(catalog.subnets_of("blue").count(), 2);
    assert_eq!(catalog.ports_of("blue").count(), 3);
    assert_eq!(catalog.port_by_ip("blue", "10.20.0.5".parse().unwrap()).unwrap().name(), "web-1");
    let router = catalog.router("core").unwrap();
    assert_eq!(catalog.subnets_of_router(router).len(), 2);
    let users = catalog.users(&ObjectRef::new(Kind::Network, "green"));
    let users: Vec<String> = users.iter().map(ToString::to_string).collect();
    assert_eq!(users, ["Subnet/green-v4", "Port/vm-3", "Router/core"]);
}

#[test]
fn yaml_and_json_round_trip() {
    let all = lab();
    let yaml: String = all.iter().map(|r| format!("---\n{}", r.to_yaml())).collect();
    let again: Vec<Resource> = parse(&yaml).unwrap().into_iter().map(|p| p.resource).collect();
    assert_eq!(all, again);
    for resource in &all {
        assert_eq!(parse_one(&resource.to_value().to_string()).as_ref(), Ok(resource));
        assert_eq!(serde_json::from_value::<Resource>(resource.to_value()).as_ref().ok(), Some(resource));
    }
    let list = serde_json::json!({"apiVersion": "weft.dev/v1", "kind": "List",
        "items": all.iter().map(Resource::to_value).collect::<Vec<_>>()});
    let again: Vec<Resource> = parse(&list.to_string()).unwrap().into_iter().map(|p| p.resource).collect();
    assert_eq!(all, again);
}

#[test]
fn ipv6_wants_room() {
    let text = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec: {mtu: 1200}\n---\n\
                apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 'fd00::/64'}\n";
    let said = |text: &str| {
        let catalog: Catalog = parse(text).unwrap().into_iter().map(|p| p.resource).collect();
        catalog.problems().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let problems = said(text);
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("spec.mtu") && problems[0].contains("write 1280"), "{problems:?}");
    assert!(
        problems[1].contains("Subnet/s") && problems[1].contains("raise the network's `mtu`"),
        "{problems:?}"
    );
    for fine in [text.replace("1200", "1280"), text.replace("'fd00::/64'", "10.0.0.0/24")] {
        assert_eq!(said(&fine), Vec::<String>::new());
    }
}

/// Text, then what the message must say.
const BAD: &[(&str, &[&str])] = &[
    (
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec: {gatewayMac: \"01:00:5e:00:00:01\"}",
        &["spec.gatewayMac", "use a unicast address"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: a}\nspec: {network: a, cidr: 10.0.0.0/24, dhcp: \
         {ranges: [{start: 10.0.0.9, end: 10.0.0.12, leaseSeconds: 5}], hosts: [{name: h, leaseSeconds: 0}]}}",
        &["spec.dhcp.ranges[0].leaseSeconds", "5 is out of range", "spec.dhcp.hosts[0].leaseSeconds"],
    ),
    (
        "kind: Network\nmetadata: {name: a}\nspec: {}",
        &["line 1", "apiVersion", "add `apiVersion: weft.dev/v1`"],
    ),
    ("apiVersion: v1\nkind: Network\nmetadata: {name: a}\nspec: {}", &["apiVersion", "\"v1\" is not known"]),
    (
        "apiVersion: weft.dev/v1\nkind: Netwrok\nmetadata: {name: a}\nspec: {}",
        &["kind", "did you mean `Network`?"],
    ),
    ("apiVersion: weft.dev/v1\nkind: Network\nspec: {}", &["metadata", "is missing", "add it"]),
    (
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec:\n  dns:\n    forwrders: []",
        &["line 6", "Network/a", "spec.dns.forwrders", "no such field", "did you mean `forwarders`?"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec:\n  mode: natt",
        &["line 5", "spec.mode", "\"natt\"", "did you mean `nat`?"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec:\n  mtu: many",
        &["line 5", "spec.mtu", "write u16"],
    ),
    (
        "# c\n\n---\napiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec:\n  network: a\n  cidr: 10.0.0.0",
        &["line 9", "Subnet/s", "spec.cidr", "10.20.0.0/24"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 10.0.0.7/24}",
        &["Subnet/s", "spec.cidr", "write 10.0.0.0/24"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec:\n  network: a\n  cidr: 10.0.0.0/24\n  dhcp:\n    \
         ranges:\n    - {start: 10.0.0.9, end: 10.0.1.1}",
        &["spec.dhcp.ranges[0].end", "10.0.1.1 is outside of 10.0.0.0/24"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {name: p}\nspec: {network: a, mac: 52-54-00-00-00-01}",
        &["spec.mac", "52:54:00:12:34:56"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {name: p}\nspec: {network: a, attachment: {device: a, tap: {name: b}}}",
        &["spec.attachment", "exactly one of"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 10.0.0.0/24, gateway: no}",
        &["spec.gateway", "auto or none"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Port\nmetadata: {name: Bad_Name}\nspec: {network: a}",
        &["metadata.name", "a-z"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: a}\nspec: {mode: bridged, bridged: {uplink: eth1}, \
         overlay: {kind: vxlan, peers: [192.0.2.1]}}",
        &["spec.overlay", "would be a loop", "remove `overlay`"],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 10.0.0.0/24, dhcp: \
         {hosts: [{duid: '00:03:00:01:52', ip: 10.0.0.9}]}}",
        &[
            "spec.dhcp.hosts[0].duid",
            "identifies no client in 10.0.0.0/24",
            "add `mac`, `clientId` or `name`",
        ],
    ),
    (
        "apiVersion: weft.dev/v1\nkind: Subnet\nmetadata: {name: s}\nspec: {network: a, cidr: 'fd00::/64', dhcp: \
         {hosts: [{clientId: '01:02', ip: 'fd00::9'}], options: {mtu: 1400, tftpServer: a, nextServer: 10.0.0.1, \
         pxe: [{arch: 7, bootFile: a}], ipxe: {bootFile: b}, routes: [{to: 'fd01::/64', via: 'fd00::2'}]}}}",
        &[
            "spec.dhcp.hosts[0].clientId",
            "add `mac`, `duid` or `name`",
            "spec.dhcp.options.mtu",
            "spec.dhcp.options.routes",
            "spec.dhcp.options.tftpServer",
            "spec.dhcp.options.nextServer",
            "spec.dhcp.options.pxe",
            "spec.dhcp.options.ipxe",
            "write the URL as `bootFile`",
        ],
    ),
    ("a: [1, 2", &["line 1"]),
    ("just words", &["line 1", "not a resource"]),
    (
        "{\"apiVersion\": \"weft.dev/v1\",\n \"kind\": \"Port\",\n \"metadata\": {\"name\": \"p\"}, \"spec\": {\"netwrk\": 1}}",
        &["line 3", "Port/p", "spec.netwrk", "did you mean `network`?"],
    ),
    (
        "{\"apiVersion\": \"weft.dev/v1\", \"kind\": \"List\", \"items\": [{\"kind\": 1}]}",
        &["items[0].apiVersion"],
    ),
    ("", &["there is no resource"]),
    ("--- \n# nothing\n...\n", &["there is no resource"]),
];

#[test]
fn bad_documents_are_told_with_place_and_mend() {
    for (text, want) in BAD {
        let said = parse_one(text).expect_err(text).to_string();
        for word in *want {
            assert!(said.contains(word), "{text}\n→ {said}\nlacks {word:?}");
        }
    }
}

#[test]
fn all_problems_of_all_documents_are_told() {
    let text = "apiVersion: weft.dev/v1\nkind: Network\nmetadata: {name: A}\nspec: {mtu: 5, bridged: {uplink: x}}\n---\nkind: x\n---\nnope: [\n---\napiVersion: weft.dev/v1\nkind: Router\nmetadata: {name: r}\nspec: {}\n";
    let problems = parse(text).unwrap_err();
    let said = problems.to_string();
    assert_eq!(problems.0.len(), 6, "{said}");
    for word in [
        "line 1: Network/A: metadata.name",
        "spec.mtu",
        "spec.bridged",
        "line 6: apiVersion",
        "line 8",
        "line 10: Router/r: spec.subnets",
    ] {
        assert!(said.contains(word), "{said}\nlacks {word}");
    }
}

/// Name of the resource to replace, its text, what the catalog must say.
const CLASHES: &[(&str, &[&str])] = &[
    ("kind: Port\nmetadata: {name: p}\nspec: {network: bleu}", &["spec.network", "did you mean `blue`?"]),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: nowhere-at-all}",
        &["create Network/nowhere-at-all first"],
    ),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.20.0.5]}",
        &["10.20.0.5 belongs to Port/web-1"],
    ),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.99.0.5]}",
        &["spec.addresses[0]", "10.20.0.0/24"],
    ),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.20.0.1]}",
        &["is the gateway of Subnet/blue-v4"],
    ),
    ("kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.20.0.255]}", &["broadcast"]),
    ("kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.20.0.251]}", &["reserved"]),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, addresses: [10.20.0.50]}",
        &["kept for host alpha"],
    ),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, mac: 52:54:00:00:01:01}",
        &["spec.mac", "belongs to Port/web-1"],
    ),
    (
        "kind: Port\nmetadata: {name: p}\nspec: {network: blue, attachment: {device: tap0}}",
        &["device tap0 belongs to Port/vm-1"],
    ),
    (
        "kind: Network\nmetadata: {name: n}\nspec: {overlay: {key: 7001}}",
        &["spec.overlay.key", "Network/blue"],
    ),
    (
        "kind: Network\nmetadata: {name: n}\nspec: {nat: {forwards: [{listen: {port: 8080}, to: {address: 10.0.0.1}}]}}",
        &["spec.nat.forwards[0].listen.port", "Network/blue"],
    ),
    (
        "kind: Subnet\nmetadata: {name: s}\nspec: {network: blue, cidr: 10.20.0.128/25}",
        &["spec.cidr", "overlaps 10.20.0.0/24 of Subnet/blue-v4"],
    ),
    (
        "kind: Subnet\nmetadata: {name: green-v4}\nspec: {network: green, cidr: 10.20.0.0/16}",
        &["overlaps 10.20.0.0/24 of Subnet/blue-v4"],
    ),
    (
        "kind: Subnet\nmetadata: {name: blue-v4}\nspec: {network: blue, cidr: 10.77.0.0/24}",
        &["Port/web-1 has 10.20.0.5"],
    ),
    (
        "kind: Subnet\nmetadata: {name: s}\nspec: {network: green, cidr: 10.77.0.0/24, addressPool: shard}",
        &["did you mean `shared`?"],
    ),
    (
        "kind: Router\nmetadata: {name: r}\nspec: {subnets: [green-v4, none]}",
        &["spec.subnets[1]", "joined by Router/core already"],
    ),
    (
        "kind: Router\nmetadata: {name: core}\nspec: {networks: [blue], routes: [{to: 10.0.0.0/8, via: 10.99.0.1}]}",
        &["spec.routes[0].via"],
    ),
    (
        "kind: Router\nmetadata: {name: core}\nspec: {networks: [green], routes: [{to: 10.21.0.0/24, via: 10.21.0.9}]}",
        &["spec.routes[0].to", "Subnet/green-v4 itself"],
    ),
];

#[test]
fn clashes_between_resources_are_told() {
    let catalog: Catalog = lab().into_iter().collect();
    for (text, want) in CLASHES {
        let resource = parse_one(&format!("apiVersion: weft.dev/v1\n{text}")).expect(text);
        let said: Vec<String> = catalog.check(&resource).iter().map(ToString::to_string).collect();
        let said = said.join("\n");
        for word in *want {
            assert!(said.contains(word), "{text}\n→ {said}\nlacks {word:?}");
        }
    }
}

#[test]
fn a_catalog_forgets_what_is_removed() {
    let all = lab();
    let mut catalog: Catalog = all.iter().cloned().collect();
    for resource in &all {
        assert!(catalog.remove(&resource.reference()).is_some());
        assert!(catalog.remove(&resource.reference()).is_none());
    }
    assert!(catalog.is_empty());
    // With an empty index, nothing is claimed twice.
    let port = all.iter().find(|r| r.name() == "web-1").unwrap();
    let said: Vec<String> = catalog.check(port).into_iter().map(|p| p.what).collect();
    assert_eq!(said, ["there is no Network \"blue\""]);
}
