//! Does a lab make sense? Which field does not, and what should it say?

use std::collections::BTreeSet;

use crate::spec::{Condition, HostSpec, LabSpec, LinkSpec, NetworkSpec, WorkloadSpec};
use crate::{Error, Result};

/// Longest name of a lab, host, workload or network: namespace names stay readable, paths stay short.
pub(crate) const NAME_MAX: usize = 32;
const IFNAME_MAX: usize = 15;
/// Smallest MTU of IPv4 (RFC 791) and the greatest the kernel's veth takes.
const MTU: std::ops::RangeInclusive<u32> = 68..=65535;

/// Checks everything the file's grammar cannot.
pub(crate) fn check(spec: &LabSpec) -> Result<()> {
    name("name", &spec.name)?;
    let mut names = BTreeSet::new();
    for (i, network) in spec.networks.iter().enumerate() {
        let at = format!("networks[{i}]");
        unique(&mut names, &format!("{at}.name"), &network.name)?;
        check_network(&at, network)?;
    }
    if spec.hosts.is_empty() {
        return Err(Error::field("hosts", "there is none", "give at least one host"));
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        let at = format!("hosts[{i}]");
        unique(&mut names, &format!("{at}.name"), &host.name)?;
        check_host(&at, spec, host)?;
    }
    for (i, condition) in spec.wait.iter().enumerate() {
        let at = format!("wait[{i}]");
        if condition.on.is_none() {
            return Err(Error::field(
                format!("{at}.on"),
                "it is missing",
                "say where: HOST or HOST/WORKLOAD",
            ));
        }
        check_condition(&at, condition)?;
    }
    check_places(spec)
}

/// Every `on` begins with a host or network of the lab; a host's workload may be one its `setup` makes.
fn check_places(spec: &LabSpec) -> Result<()> {
    let known: Vec<&str> = spec
        .hosts
        .iter()
        .map(|h| h.name.as_str())
        .chain(spec.networks.iter().map(|n| n.name.as_str()))
        .collect();
    let place = |field: String, on: &str| {
        let whole = on
            .split_once('/')
            .map_or(known.contains(&on), |(host, _)| spec.hosts.iter().any(|h| h.name == host));
        if whole {
            return Ok(());
        }
        let mend = format!("name one of {}, or HOST/WORKLOAD", known.join(", "));
        Err(Error::field(field, format!("there is no place {on:?}"), mend))
    };
    for (i, condition) in spec.wait.iter().enumerate() {
        place(format!("wait[{i}].on"), condition.on.as_deref().unwrap_or_default())?;
    }
    for (i, check) in spec.check.iter().enumerate() {
        place(format!("check[{i}].on"), &check.on)?;
    }
    for (i, host) in spec.hosts.iter().enumerate() {
        for (j, run) in host.run.iter().enumerate() {
            if let Some(on) = run.ready.as_ref().and_then(|r| r.on.as_deref()) {
                place(format!("hosts[{i}].run[{j}].ready.on"), on)?;
            }
        }
        for (j, condition) in host.wait.iter().enumerate() {
            if let Some(on) = &condition.on {
                place(format!("hosts[{i}].wait[{j}].on"), on)?;
            }
        }
    }
    Ok(())
}

fn name(field: &str, value: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let first = value.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if first && value.len() <= NAME_MAX && value.chars().all(good) {
        return Ok(());
    }
    let mend = format!("use 1 to {NAME_MAX} of a-z, 0-9 and '-', beginning with a letter or digit");
    Err(Error::field(field, format!("{value:?} is no name"), mend))
}

fn unique(names: &mut BTreeSet<String>, field: &str, value: &str) -> Result<()> {
    name(field, value)?;
    if names.insert(value.to_owned()) {
        return Ok(());
    }
    Err(Error::field(field, format!("{value:?} is used twice"), "names of hosts and networks must differ"))
}

fn mtu(field: &str, value: u32) -> Result<()> {
    if MTU.contains(&value) {
        return Ok(());
    }
    let mend = format!("use {} to {}", MTU.start(), MTU.end());
    Err(Error::field(field, format!("{value} is no MTU"), mend))
}

fn device(devices: &mut BTreeSet<String>, field: &str, value: &str) -> Result<()> {
    let bad = |c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c.is_ascii_control();
    if value.is_empty() || value.len() > IFNAME_MAX || value == "." || value == ".." || value.chars().any(bad)
    {
        let problem = format!("{value:?} is no device name");
        return Err(Error::field(
            field,
            problem,
            format!("use 1 to {IFNAME_MAX} bytes, no '/', ':' or blank"),
        ));
    }
    if !devices.insert(value.to_owned()) {
        return Err(Error::field(
            field,
            format!("{value:?} is used twice on the host"),
            "choose another name",
        ));
    }
    Ok(())
}

fn check_network(at: &str, network: &NetworkSpec) -> Result<()> {
    mtu(&format!("{at}.mtu"), network.mtu)?;
    for (i, subnet) in network.subnets.iter().enumerate() {
        if subnet.prefix.is_none() {
            let field = format!("{at}.subnets[{i}]");
            return Err(Error::field(
                field,
                "it has no prefix length",
                format!("write {subnet}/24 or the like"),
            ));
        }
    }
    Ok(())
}

/// Only settings below `net` can belong to a namespace; others are the whole machine's.
fn sysctl(field: &str, key: &str) -> Result<()> {
    let separator = if key.contains('/') { '/' } else { '.' };
    let mut parts = key.split(separator);
    if parts.next() == Some("net") && parts.clone().count() > 0 && parts.all(|p| !p.is_empty() && p != "..") {
        return Ok(());
    }
    let problem = format!("{key:?} is no setting of a network namespace");
    Err(Error::field(field, problem, "write it as net.ipv4.ip_forward or net/ipv4/ip_forward"))
}

fn check_host(at: &str, spec: &LabSpec, host: &HostSpec) -> Result<()> {
    for key in host.sysctls.keys() {
        sysctl(&format!("{at}.sysctls"), key)?;
    }
    let mut devices = BTreeSet::from(["lo".to_owned()]);
    for (i, link) in host.links.iter().enumerate() {
        let at = format!("{at}.links[{i}]");
        device(&mut devices, &format!("{at}.device"), &crate::layout::link_device(link, i))?;
        check_link(&at, spec, link)?;
    }
    let mut names = BTreeSet::new();
    for (i, workload) in host.workloads.iter().enumerate() {
        let at = format!("{at}.workloads[{i}]");
        name(&format!("{at}.name"), &workload.name)?;
        if !names.insert(&workload.name) {
            let problem = format!("{:?} is used twice on the host", workload.name);
            return Err(Error::field(format!("{at}.name"), problem, "choose another name"));
        }
        device(&mut devices, &format!("{at}.device"), &crate::layout::workload_device(workload))?;
        check_workload(&at, workload)?;
    }
    let mut names = BTreeSet::new();
    for (i, run) in host.run.iter().enumerate() {
        let at = format!("{at}.run[{i}]");
        name(&format!("{at}.name"), &run.name)?;
        if !names.insert(&run.name) {
            let problem = format!("{:?} is used twice on the host", run.name);
            return Err(Error::field(format!("{at}.name"), problem, "choose another name"));
        }
        if run.command.trim().is_empty() {
            return Err(Error::field(format!("{at}.command"), "it is empty", "give a command line"));
        }
        if let Some(ready) = &run.ready {
            check_condition(&format!("{at}.ready"), ready)?;
        }
    }
    for (i, condition) in host.wait.iter().enumerate() {
        check_condition(&format!("{at}.wait[{i}]"), condition)?;
    }
    Ok(())
}

fn check_link(at: &str, spec: &LabSpec, link: &LinkSpec) -> Result<()> {
    let network = crate::layout::network_of(at, spec, link)?;
    mtu(&format!("{at}.mtu"), link.mtu.unwrap_or(network.mtu))?;
    for (i, address) in link.addresses.iter().enumerate() {
        if address.prefix.is_none() && !network.subnets.iter().any(|s| s.contains(address.ip)) {
            let problem = format!("{address} has no prefix length and lies in no subnet of {}", network.name);
            let mend = format!("write {address}/24 or the like, or add the subnet to the network");
            return Err(Error::field(format!("{at}.addresses[{i}]"), problem, mend));
        }
    }
    Ok(())
}

fn check_workload(at: &str, workload: &WorkloadSpec) -> Result<()> {
    device(
        &mut BTreeSet::from(["lo".to_owned()]),
        &format!("{at}.inside"),
        crate::layout::inside_device(workload),
    )?;
    mtu(&format!("{at}.mtu"), workload.mtu)?;
    for (i, address) in workload.addresses.iter().enumerate() {
        if address.prefix.is_none() {
            let field = format!("{at}.addresses[{i}]");
            return Err(Error::field(
                field,
                "it has no prefix length",
                format!("write {address}/24 or the like"),
            ));
        }
    }
    for (i, gateway) in workload.gateways.iter().enumerate() {
        if !workload.addresses.iter().any(|a| a.contains(*gateway)) {
            let problem = format!("{gateway} is on none of the workload's subnets");
            let mend = "give an address within one of `addresses`";
            return Err(Error::field(format!("{at}.gateways[{i}]"), problem, mend));
        }
    }
    Ok(())
}

fn check_condition(at: &str, condition: &Condition) -> Result<()> {
    let given = [
        condition.socket.is_some(),
        condition.file.is_some(),
        condition.ping.is_some(),
        condition.command.is_some(),
    ];
    let count = given.iter().filter(|g| **g).count();
    if count != 1 {
        let mend = "give exactly one of socket, file, ping, command";
        return Err(Error::field(at, format!("{count} conditions in one"), mend));
    }
    if !condition.seconds.is_finite() || !(0.0..=3600.0).contains(&condition.seconds) {
        return Err(Error::field(format!("{at}.seconds"), "out of range", "use 0 to 3600"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::spec::LabSpec;

    /// (YAML, what the error must begin with)
    const BAD: &[(&str, &str)] = &[
        ("name: Bad!\nhosts: [{name: a}]", "name: \"Bad!\" is no name; use 1 to 32"),
        ("name: x\nhosts: []", "hosts: there is none"),
        ("name: x\nhosts: [{name: a}, {name: a}]", "hosts[1].name: \"a\" is used twice"),
        ("name: x\nhosts: [{name: a, links: [{}]}]", "hosts[0].links[0].network: there is no network"),
        (
            "name: x\nnetworks: [{name: n}, {name: m}]\nhosts: [{name: a, links: [{}]}]",
            "hosts[0].links[0].network: it is missing, and there are 2 networks",
        ),
        (
            "name: x\nnetworks: [{name: n}]\nhosts: [{name: a, links: [{network: z}]}]",
            "hosts[0].links[0].network: there is no network \"z\"",
        ),
        (
            "name: x\nnetworks: [{name: n, subnets: [192.0.2.0]}]\nhosts: [{name: a}]",
            "networks[0].subnets[0]: it has no prefix length",
        ),
        (
            "name: x\nnetworks: [{name: n}]\nhosts: [{name: a, links: [{addresses: [192.0.2.1]}]}]",
            "hosts[0].links[0].addresses[0]: 192.0.2.1 has no prefix length",
        ),
        (
            "name: x\nhosts: [{name: a, workloads: [{name: w, mtu: 9}]}]",
            "hosts[0].workloads[0].mtu: 9 is no MTU",
        ),
        (
            "name: x\nhosts: [{name: a, workloads: [{name: w, device: sixteen-bytes-xx}]}]",
            "hosts[0].workloads[0].device: \"sixteen-bytes-xx\" is no device name",
        ),
        (
            "name: x\nhosts: [{name: a, workloads: [{name: w, device: d}, {name: v, device: d}]}]",
            "hosts[0].workloads[1].device: \"d\" is used twice",
        ),
        (
            "name: x\nhosts: [{name: a, workloads: [{name: w, addresses: [10.0.0.1/8], gateways: [11.0.0.1]}]}]",
            "hosts[0].workloads[0].gateways[0]: 11.0.0.1 is on none",
        ),
        (
            "name: x\nhosts: [{name: a, run: [{name: r, command: ' '}]}]",
            "hosts[0].run[0].command: it is empty",
        ),
        (
            "name: x\nhosts: [{name: a, wait: [{}]}]",
            "hosts[0].wait[0]: 0 conditions in one; give exactly one",
        ),
        ("name: x\nhosts: [{name: a}]\nwait: [{file: f}]", "wait[0].on: it is missing"),
        (
            "name: x\nhosts: [{name: a}]\nwait: [{on: b, file: f}]",
            "wait[0].on: there is no place \"b\"; name one of a",
        ),
        (
            "name: x\nhosts: [{name: a}]\ncheck: [{on: b/w, command: 'true'}]",
            "check[0].on: there is no place \"b/w\"",
        ),
        (
            "name: x\nhosts: [{name: a, wait: [{on: b, file: f}]}]",
            "hosts[0].wait[0].on: there is no place \"b\"",
        ),
        (
            "name: x\nhosts: [{name: a, sysctls: {kernel.pid_max: 9}}]",
            "hosts[0].sysctls: \"kernel.pid_max\" is no setting of a network namespace",
        ),
        (
            "name: x\nhosts: [{name: a, sysctls: {net/../kernel/pid_max: 9}}]",
            "hosts[0].sysctls: \"net/../kernel/pid_max\" is no setting",
        ),
    ];

    #[test]
    fn senseless_fields_are_named_with_their_mend() {
        for (yaml, begin) in BAD {
            let error = LabSpec::parse(yaml, "lab.yaml").unwrap_err().to_string();
            assert!(error.starts_with(begin), "{error}\nwanted {begin}");
        }
    }

    #[test]
    fn unknown_fields_and_wrong_types_are_located() {
        let error = |yaml| LabSpec::parse(yaml, "lab.yaml").unwrap_err().to_string();
        let unknown = error("name: x\nhosts:\n  - name: a\n    adress: 1\n");
        assert!(unknown.starts_with("lab.yaml: hosts[0]: unknown field `adress`"), "{unknown}");
        assert!(unknown.contains("line 4"), "{unknown}");
        let wrong = error("name: x\nhosts: [{name: a, workloads: [{name: w, addresses: [10.0.0]}]}]");
        assert!(wrong.contains("hosts[0].workloads[0].addresses: \"10.0.0\" is no address"), "{wrong}");
    }
}
