//! Is everything that is wrong told with line, element and mend?

mod support;

use weft_libvirt::import;

fn errors(text: &str) -> String {
    match import(text) {
        Ok(import) => panic!("taken: {text}\n{import:?}"),
        Err(problems) => problems.to_string(),
    }
}

/// What stands in `<network>` after its name on line 1, and what is said of it.
const BAD: &[(&str, &[&str])] = &[
    ("\n<forward mode='natt'/>", &["line 2: forward/@mode: \"natt\" is not one of `nat`", "write one of"]),
    (
        "<forward mode='bridge'/>\n<mtu size='70000'/>",
        &["line 2: mtu/@size: \"70000\" is not a number from 0 to 65535"],
    ),
    ("\n<mtu size='9'/>", &["line 2: mtu: 9 is out of range; use a number from 576"]),
    ("\n<mtu/>", &["line 2: mtu/@size: is missing; add size='…'"]),
    (
        "\n<mac address='01:00:5e:00:00:01'/>",
        &["line 2: mac: is not the address of one machine; use a unicast"],
    ),
    ("\n<mac address='52:54:00'/>", &["line 2: mac/@address: \"52:54:00\" is not a hardware address"]),
    ("\n\n<domain localOnly='yes'/>", &["line 3: domain/@name: is missing"]),
    ("\n<domain name='a..b'/>", &["line 2: domain: name \"a..b\" has an empty label"]),
    ("<bridge/>\n<bridge/>", &["line 2: bridge[2]: is there twice; keep one of them"]),
    ("<bridge\nstp='maybe'/>", &["line 2: bridge/@stp: \"maybe\" is not one of `on` `off`"]),
    ("\n<bridge delay='-1'/>", &["line 2: bridge/@delay: \"-1\" is not a number"]),
    ("\n<uuid>12</uuid>", &["line 2: uuid: \"12\" is not a UUID"]),
    ("<portgroup name='a'/>\n<portgroup default='yes'/>", &["line 2: portgroup[2]/@name: is missing"]),
    (
        "\n<portgroup name='a'><vlan><tag id='4096'/></vlan></portgroup>",
        &["line 2: portgroup/vlan/tag/@id: \"4096\""],
    ),
    ("\n<forward mode='route'><nat/></forward>", &["line 2: forward/nat: needs mode='nat'"]),
    (
        "<forward mode='nat'><nat>\n<port start='9' end='8'/></nat></forward>",
        &["line 2: forward/nat/port: is not a range of ports"],
    ),
    (
        "<forward><nat>\n<address start='1.2.3.4'/></nat></forward>",
        &["line 2: forward/nat/address/@end: is missing; add end='…'"],
    ),
    (
        "<forward dev='eth0' mode='bridge'>\n<interface dev='eth1'/></forward>",
        &["line 2: forward/interface: is not the device of <forward dev='…'>"],
    ),
    (
        "<bridge name='br0'/>\n<forward dev='eth0' mode='bridge'/>",
        &["line 2: forward: names a device beside a bridge; keep <bridge> or the devices"],
    ),
    (
        "\n<forward mode='bridge'><interface dev='much-too-long-name'/></forward>",
        &["line 2: forward: ", "longer than 15"],
    ),
    ("\n<vlan/>", &["line 2: vlan: has no <tag>"]),
    ("<vlan trunk='yes'>\n<tag id='4095'/></vlan>", &["line 2: vlan/tag: 4095 is out of range"]),
    ("\n<vlan trunk='no'><tag id='1'/><tag id='2'/></vlan>", &["line 2: vlan: ", "write trunk='yes'"]),
    (
        "<vlan>\n<tag id='1' nativeMode='tagged'/>\n<tag id='2' nativeMode='tagged'/></vlan>",
        &["line 3: vlan/tag[2]: is a second native VLAN"],
    ),
    (
        "<bandwidth>\n<inbound peak='5'/></bandwidth>",
        &["line 2: bandwidth/inbound: has no average; add average='…'"],
    ),
    (
        "<bandwidth>\n<inbound average='0'/></bandwidth>",
        &["line 2: bandwidth/inbound: average 0 lets nothing through"],
    ),
    ("\n<dns enable='no'><txt name='a' value='b'/></dns>", &["line 2: dns: has records and enable='no'"]),
    ("<dns>\n<forwarder/></dns>", &["line 2: dns/forwarder: names neither an address nor a domain"]),
    (
        "<dns>\n<srv service='a' protocol='icmp'/></dns>",
        &["line 2: dns/srv/@protocol: \"icmp\" is not `tcp`"],
    ),
    (
        "<dns>\n<srv service='a' protocol='tcp' port='1'/></dns>",
        &["line 2: dns/srv: has a port", "add target='…'"],
    ),
    (
        "<dns><host ip='10.0.0.1'><hostname>a</hostname></host>\n<host ip='10.0.0.1'/></dns>",
        &["line 2: dns/host[2]: has no <hostname>"],
    ),
    (
        "\n<ip address='10.0.0.1' prefix='24' netmask='255.255.255.0'/>",
        &["line 2: ip: has netmask and prefix"],
    ),
    (
        "\n<ip address='10.0.0.1' prefix='33'/>",
        &["line 2: ip: a prefix of 10.0.0.1 is not 33 long; write prefix='…'"],
    ),
    (
        "\n<ip address='10.0.0.1' netmask='255.0.255.0'/>",
        &["line 2: ip: 255.0.255.0 is not the mask of a prefix"],
    ),
    (
        "\n<ip address='10.0.0.300' prefix='24'/>",
        &["line 2: ip/@address: \"10.0.0.300\" is not an IP address"],
    ),
    (
        "\n<ip address='2001:db8::1' prefix='64'/>",
        &["line 2: ip: 2001:db8::1 is of another family; write family='ipv6'"],
    ),
    ("\n<ip prefix='64'/>", &["line 2: ip/@address: is missing"]),
    ("\n<ip address='10.0.0.0' prefix='24'/>", &["line 2: ip: spec.gateway 10.0.0.0 is the network's"]),
    (
        "<ip address='10.0.0.1' prefix='24'/>\n<ip address='10.0.0.9' prefix='25'/>",
        &["line 2: ip[2]: ", "overlaps"],
    ),
    ("<ip address='10.0.0.1' prefix='24'>\n<tftp/></ip>", &["line 2: ip/tftp/@root: is missing"]),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp>\n<range start='10.0.0.9' end='10.0.0.2'/></dhcp></ip>",
        &["line 2: ip/dhcp/range: end 10.0.0.2 is below start 10.0.0.9"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.2' end='10.0.0.9'>\n<lease expiry='1'/></range></dhcp></ip>",
        &["line 2: ip/dhcp/range/lease: is shorter than two minutes"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp><range start='10.0.0.2' end='10.0.0.9'>\n\
         <lease expiry='99999999' unit='hours'/></range></dhcp></ip>",
        &["line 2: ip/dhcp/range/lease: is longer than"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp>\n<host ip='10.0.0.3'/></dhcp></ip>",
        &["line 2: ip/dhcp/host: does not say which client it is"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'><dhcp>\n<host name='a' ip='10.0.1.3'/></dhcp></ip>",
        &["line 2: ip/dhcp/host: ip 10.0.1.3 is outside of 10.0.0.0/24; use an address inside 10.0.0.0/24"],
    ),
    (
        "<ip family='ipv6' address='fd00::1' prefix='64'><dhcp>\n<host mac='52:54:00:00:00:01' ip='fd00::3'/></dhcp></ip>",
        &["line 2: ip/dhcp/host: is known by a hardware address; write id='…' or name='…'"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'/>\n<route address='10.9.0.0' prefix='16' gateway='10.8.0.1'/>",
        &["line 2: route: the gateway 10.8.0.1 is in no <ip> of the network"],
    ),
    (
        "<ip address='10.0.0.1' prefix='24'/>\n<route address='10.9.0.1' prefix='16' gateway='10.0.0.2'/>",
        &["line 2: route: to 10.9.0.1/16 has bits behind the prefix; write 10.9.0.0/16"],
    ),
    (
        "<metadata><w:network xmlns:w='https://weft.dev/libvirt/1'>\n<w:field path='/spec/mtu' is='5'/></w:network></metadata>",
        &["line 1: network: spec.mtu 5 is out of range"],
    ),
    (
        "<metadata><w:network xmlns:w='https://weft.dev/libvirt/1'>\n<w:field path='/metadata/name' was='\"n\"' \
         is='\"m\"'/></w:network></metadata>",
        &["line 2: metadata/weft:network: the network's name cannot be changed here; write it in <name>"],
    ),
    (
        "<metadata><w:network xmlns:w='https://weft.dev/libvirt/1'>\n<w:field path='/metadata/uid' is='5'/></w:network></metadata>",
        &["line 2: metadata/weft:network/weft:field/@path: \"/metadata/uid\" is not a field of a resource"],
    ),
];

#[test]
fn wrong_values_are_told_with_line_element_and_mend() {
    for (inside, wanted) in BAD {
        let told = errors(&format!("<network><name>n</name>{inside}</network>"));
        for part in *wanted {
            assert!(told.contains(part), "{inside}\nsays {told}\nand not {part}");
        }
        assert!(told.lines().all(|l| l.contains("; ")), "no mend: {told}");
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let told = errors("<network>\n<forward mode='x'/>\n<mtu size='y'/>\n<ip address='z'/>\n</network>");
    for part in ["has no <name>", "line 2: forward/@mode", "line 3: mtu/@size", "line 4: ip/@address"] {
        assert!(told.contains(part), "{told}");
    }
}

/// The range and the host of libvirt's own example lie outside of its prefix; libvirt refuses the range as well.
#[test]
fn the_documentation_is_held_to_the_same_rules() {
    let told = errors(
        "<network><name>net7</name><forward mode='route'/>\n<ip family='ipv6' address='2001:db8:ca2:7::1' prefix='64'>\
         <dhcp>\n<range start='2001:db8:ca2:7::100' end='2001:db8:ca2::1ff'/>\n<host id='0:4:7e:7d' name='lucas' \
         ip='2001:db8:ca2:2:3::4'/></dhcp></ip></network>",
    );
    assert!(told.contains("line 3: ip/dhcp/range: end 2001:db8:ca2::1ff is outside"), "{told}");
    assert!(told.contains("line 4: ip/dhcp/host: ip 2001:db8:ca2:2:3::4 is outside"), "{told}");
}

#[test]
fn what_is_no_network_is_refused() {
    for (text, wanted) in [
        ("", "line 1: "),
        ("hello", "line 1: "),
        ("<network><name>n</name>", "write well-formed XML"),
        (
            "<domain><name>n</name></domain>",
            "<domain> is not a network; give what `virsh net-dumpxml` prints",
        ),
        ("<networkstatus><network/></networkstatus>", "is not a network"),
        ("<network xmlns='urn:x'><name>n</name></network>", "is in a namespace"),
        ("<network><name>a/b</name></network>", "write a name without slash"),
        ("<network><name/></network>", "is not a name"),
        (
            "<!DOCTYPE network [<!ENTITY a 'b'>]>\n<network><name>&a;</name></network>",
            "entities are not expanded",
        ),
        ("<network><name>&a;</name></network>", "unknown entity"),
    ] {
        let told = errors(text);
        assert!(told.contains(wanted), "{text}: {told}");
    }
}

#[test]
fn bombs_are_refused() {
    let deep = format!("<network><name>n</name>{}{}</network>", "<a>".repeat(90_000), "</a>".repeat(90_000));
    let wide = format!("<network><name>n</name>{}</network>", "<a/>".repeat(150_000));
    let long =
        format!("<network><name>n</name><description>{}</description></network>", "x".repeat(2_000_000));
    let spaces: String = (0..40_000).map(|i| format!("<a xmlns:p{i}='u{i}'>")).collect();
    let spaces = format!("<network><name>n</name>{spaces}");
    let attributes: String = (0..80_000).map(|i| format!(" a{i}=''")).collect();
    let attributes = format!("<network{attributes}><name>n</name></network>");
    let kept: String = (0..300).map(|i| format!("<portgroup name='p{i}'/>")).collect();
    let kept = format!("<network><name>n</name>{kept}</network>");
    let laughs = (0..30).fold("<!ENTITY l0 'ha'>".to_owned(), |all, i| {
        format!("{all}<!ENTITY l{} '&l{i};&l{i};&l{i};&l{i};'>", i + 1)
    });
    let laughs = format!("<!DOCTYPE network [{laughs}]><network><name>&l30;</name></network>");
    for (text, wanted) in [
        (deep, "nested deeper than 64"),
        (wide, "limit"),
        (long, "keep it to 1 MiB at most"),
        (spaces, "more than 64 namespaces"),
        (attributes, "more than 4096 attributes"),
        (kept, "has 300 elements; keep to 256 at most"),
        (laughs, "entities are not expanded"),
    ] {
        let told = errors(&text);
        assert!(
            told.contains(wanted) && told.len() < 2_000,
            "{wanted}: {}",
            told.chars().take(2_000).collect::<String>()
        );
    }
}
