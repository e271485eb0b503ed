//! How does what was kept of a document find its place in another one?

use std::collections::BTreeMap;

use crate::xml::{self, Element};

/// Elements that are made when only attributes of them were kept.
const MADE: &[&str] = &["bridge", "dns", "port"];

/// Elements of which there may be any number.
const MANY: &[&str] = &["interface", "address", "portgroup", "ip", "route", "host", "range", "tag"];

/// Elements of `<network>` in the order in which libvirt writes them.
const ORDER: &[&str] = &[
    "name",
    "uuid",
    "title",
    "description",
    "metadata",
    "forward",
    "bridge",
    "mtu",
    "mac",
    "domain",
    "dns",
    "bandwidth",
    "vlan",
    "port",
    "ip",
    "route",
    "virtualport",
    "portgroup",
];

/// A step of a path: the name of an element and its number among its siblings.
type Step<'a> = (&'a str, usize);

/// Puts everything kept into an element; what has no place any more is returned.
pub(crate) fn lay(root: &mut Element, kept: &BTreeMap<String, String>) -> Vec<String> {
    let mut all: Vec<(Vec<Step<'_>>, &String, &String)> = Vec::new();
    let mut lost = Vec::new();
    for (key, value) in kept {
        match steps(key) {
            Some(steps) => all.push((steps, key, value)),
            None => lost.push(key.clone()),
        }
    }
    // The tenth portgroup stands behind the second.
    all.sort();
    for (steps, key, value) in all {
        if put(root, &steps, value).is_none() {
            lost.push(key.clone());
        }
    }
    lost
}

/// `forward/interface[2]/@dev` as steps; `None` for what is no path.
fn steps(key: &str) -> Option<Vec<Step<'_>>> {
    let all: Vec<Step<'_>> = key.split('/').map(step).collect::<Option<_>>()?;
    let (_, parents) = all.split_last()?;
    let last = |(name, _): &Step<'_>| name.starts_with('@') || *name == "text()";
    (all.len() <= 16 && !parents.iter().any(last)).then_some(all)
}

fn step(part: &str) -> Option<Step<'_>> {
    if part == "text()" {
        return Some((part, 1));
    }
    let (name, number) = match part.split_once('[') {
        Some((name, number)) => (name, number.strip_suffix(']')?.parse().ok()?),
        None => (part, 1),
    };
    xml::is_name(name.strip_prefix('@').unwrap_or(name)).then_some((name, number))
}

/// The element in an element at a step.
fn find<'a>(parent: &'a mut Element, (name, number): Step<'_>) -> Option<&'a mut Element> {
    parent
        .children
        .iter_mut()
        .filter_map(|c| if let xml::Child::Element(e) = c { Some(e) } else { None })
        .filter(|e| e.name == name)
        .nth(number.checked_sub(1)?)
}

fn put(root: &mut Element, steps: &[Step<'_>], value: &str) -> Option<()> {
    let ((last, _), parents) = steps.split_last()?;
    let mut at = root;
    for (depth, step) in parents.iter().enumerate() {
        if find(at, *step).is_none() {
            if depth > 0 || step.1 != 1 || !MADE.contains(&step.0) {
                return None;
            }
            at.children.push(xml::Child::Element(Element::new(step.0)));
        }
        at = find(at, *step)?;
    }
    if let Some(name) = last.strip_prefix('@') {
        if at.attributes.iter().any(|(n, ..)| n == name) {
            return None;
        }
        at.attributes.push((name.to_owned(), value.to_owned(), 0));
    } else if *last == "text()" {
        at.children.push(xml::Child::Text(value.to_owned()));
    } else {
        if !MANY.contains(last) && find(at, (last, 1)).is_some() {
            return None;
        }
        let element = if value.starts_with('<') {
            xml::parse(value).ok().filter(|e| e.name == *last)?
        } else {
            Element::new(last).text(value)
        };
        at.children.push(xml::Child::Element(element));
    }
    Some(())
}

/// Brings the elements of `<network>` into their order.
pub(crate) fn sort(root: &mut Element) {
    let rank = |child: &xml::Child| match child {
        xml::Child::Element(e) => ORDER.iter().position(|name| *name == e.name).unwrap_or(ORDER.len()),
        xml::Child::Text(_) => ORDER.len() + 1,
    };
    root.children.sort_by_key(rank);
}
