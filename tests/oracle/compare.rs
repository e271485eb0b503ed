//! When do two traces say the same? What Weft and Open vSwitch print, brought into one form.
//!
//! Differences that mean nothing are levelled: numbers of recirculations, which are given in order of first use on
//! either side, the order in which an unchanged packet is sent to several ports, and forks that lead nowhere.

use std::collections::HashMap;

/// What a trace decided: the datapath actions of each pass, the last recirculation last.
pub(crate) fn decisions(trace: &str) -> Vec<String> {
    let mut names = HashMap::new();
    trace
        .lines()
        .filter_map(|l| l.strip_prefix("Datapath actions: "))
        .map(|line| level(line.trim(), &mut names))
        .collect()
}

/// The masks of each pass.
pub(crate) fn megaflows(trace: &str) -> Vec<&str> {
    trace.lines().filter_map(|l| l.strip_prefix("Megaflow: ")).collect()
}

fn level(text: &str, names: &mut HashMap<String, usize>) -> String {
    let mut out: Vec<String> = Vec::new();
    // Ports that the packet at hand goes to, in whatever order.
    let mut ports: Vec<String> = Vec::new();
    for part in split(text) {
        // A fork whose ways both end at once is none.
        if part.starts_with("check_pkt_len(") && part.ends_with(",gt(drop),le(drop))") {
            continue;
        }
        if is_port(part) {
            ports.push(part.to_owned());
            continue;
        }
        ports.sort();
        out.append(&mut ports);
        out.push(level_one(part, names));
    }
    ports.sort();
    out.append(&mut ports);
    if out.is_empty() { "drop".to_owned() } else { out.join(",") }
}

fn is_port(part: &str) -> bool {
    part != "drop" && part != "pop_vlan" && part != "ct_clear" && !part.contains('(')
}

fn level_one(part: &str, names: &mut HashMap<String, usize>) -> String {
    let Some((head, rest)) = part.split_once('(') else { return part.to_owned() };
    let inner = rest.strip_suffix(')').unwrap_or(rest);
    match head {
        "recirc" => {
            let next = names.len();
            format!("recirc(#{})", names.entry(inner.to_owned()).or_insert(next))
        }
        // Open vSwitch keeps a frozen state for every packet-in; its number says nothing.
        "userspace" => {
            let keep = |f: &&str| !f.starts_with("recirc_id=") && !f.starts_with("pid=");
            let fields = inner.replace("controller(", "controller(,");
            format!("userspace({})", fields.split(',').filter(keep).collect::<Vec<_>>().join(","))
        }
        "clone" | "gt" | "le" => format!("{head}({})", level(inner, names)),
        "check_pkt_len" => {
            let parts: Vec<String> = split(inner).iter().map(|p| level_one(p, names)).collect();
            format!("check_pkt_len({})", parts.join(","))
        }
        _ => part.to_owned(),
    }
}

/// Splits at the commas outside parentheses and braces.
fn split(text: &str) -> Vec<&str> {
    let (mut out, mut depth, mut start) = (Vec::new(), 0i32, 0);
    for (i, c) in text.char_indices() {
        match c {
            '(' | '{' => depth += 1,
            ')' | '}' => depth -= 1,
            ',' if depth == 0 => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_of_ports_and_recirculation_numbers_do_not_count() {
        let ovs = "Datapath actions: p3,p1,ct(zone=1),recirc(0x8)\n===\nDatapath actions: clone(p2,p1),p4\n";
        let weft = "Datapath actions: p1,p3,ct(zone=1),recirc(0x1)\nDatapath actions: clone(p1,p2),p4\n";
        assert_eq!(decisions(ovs), decisions(weft));
        let other = "Datapath actions: p1,ct(zone=1),p3,recirc(0x1)\nDatapath actions: clone(p1,p2),p4\n";
        assert_ne!(decisions(ovs), decisions(other));
    }
}
