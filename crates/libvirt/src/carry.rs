//! What of a resource has libvirt no words for, and how does it travel all the same?
//!
//! In `<metadata>`, in an element of ours, stands for each such field what the document without it means (`was`) and
//! what the resource says (`is`), as JSON. When the document is read, the field is changed only if the rest of the
//! document still means what it meant: whoever edited it since has the last word.

use std::collections::BTreeMap;

use serde_json::Value;
use weft_model::{IpNet, Kind, Resource, resource_from_value};

use crate::cx::{At, Cx};
use crate::form::Form;
use crate::xml::{Element, WEFT};

/// Most changes that are read from a document.
const MAX: usize = 4_096;

/// A field that the rest of the document does not say as the resource does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Change {
    /// The Subnet of this prefix, or the Network.
    pub(crate) subnet: Option<IpNet>,
    /// JSON pointer (RFC 6901) in the resource.
    pub(crate) path: String,
    /// What the document means without the change.
    was: Option<Value>,
    /// What the resource says.
    is: Option<Value>,
    /// Line in the document.
    line: u32,
}

/// Where two resources differ, as far as people write them.
pub(crate) fn differences(resource: &Resource, read: &Resource) -> Vec<Change> {
    let subnet = resource.as_subnet().map(|s| s.spec.cidr.trunc());
    let (is, was) = (resource.to_value(), read.to_value());
    let mut found = Vec::new();
    for path in ["/metadata/name", "/metadata/labels", "/metadata/annotations", "/spec"] {
        compare(path.to_owned(), was.pointer(path), is.pointer(path), &mut found);
    }
    found.into_iter().map(|(path, was, is)| Change { subnet, path, was, is, line: 0 }).collect()
}

type Found = Vec<(String, Option<Value>, Option<Value>)>;

fn compare(path: String, was: Option<&Value>, is: Option<&Value>, found: &mut Found) {
    match (was, is) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let escaped = key.replace('~', "~0").replace('/', "~1");
                compare(format!("{path}/{escaped}"), a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                compare(format!("{path}/{i}"), Some(a), Some(b), found);
            }
        }
        (was, is) if was == is => {}
        (was, is) => found.push((path, was.cloned(), is.cloned())),
    }
}

/// The element that stands for changes.
pub(crate) fn write(changes: &[Change]) -> Element {
    let root = Element::new("weft:network").with("xmlns:weft", WEFT);
    changes.iter().fold(root, |root, change| {
        root.child(
            Element::new("weft:field")
                .maybe("subnet", change.subnet)
                .with("path", &change.path)
                .maybe("was", change.was.as_ref())
                .maybe("is", change.is.as_ref()),
        )
    })
}

fn json(text: &str) -> Form<Value> {
    serde_json::from_str(text).map_err(|_| "JSON")
}

fn prefix(text: &str) -> Form<IpNet> {
    text.parse().map_err(|_| "a prefix such as 10.0.0.0/24")
}

/// What may be changed: what people write, except to whom a Subnet belongs.
fn pointer(text: &str) -> Form<String> {
    let known = ["/metadata/name", "/metadata/labels", "/metadata/annotations", "/spec/"];
    let bad = text == "/spec/network" || text.len() > 1_024;
    if !bad && known.iter().any(|k| text.starts_with(k)) {
        Ok(text.to_owned())
    } else {
        Err("a field of a resource")
    }
}

/// Takes the element of ours out of `<metadata>`.
pub(crate) fn read(cx: &mut Cx, metadata: &mut At) -> Vec<Change> {
    let mut changes = Vec::new();
    let Some(mut at) = cx.one(metadata, "weft:network") else { return changes };
    let all = at.many("weft:field");
    if all.len() > MAX {
        cx.wrong_at(&at, format!("has {} fields", all.len()), format!("keep to {MAX} at most"));
        return changes;
    }
    for mut field in all {
        let subnet = cx.attr(&mut field, "subnet", prefix);
        let path = cx.need(&mut field, "path", pointer);
        let was = cx.attr(&mut field, "was", json);
        let is = cx.attr(&mut field, "is", json);
        let line = field.element.line;
        changes.extend(path.map(|path| Change { subnet, path, was, is, line }));
    }
    changes
}

/// Changes resources as the document's own element says.
pub(crate) fn apply(cx: &mut Cx, resources: &mut [Resource], changes: Vec<Change>) {
    let mut values: BTreeMap<usize, (Value, u32)> = BTreeMap::new();
    for change in changes {
        let path = "metadata/weft:network/weft:field";
        let of = resources.iter().position(|r| r.as_subnet().map(|s| s.spec.cidr) == change.subnet);
        let done = of.is_some_and(|of| {
            let (value, line) = values.entry(of).or_insert_with(|| (resources[of].to_value(), 0));
            *line = change.line;
            set(value, &change)
        });
        if !done {
            let why = format!("{} is as the document says now; it was edited since", change.path);
            cx.notes.push(crate::Note { line: change.line, path: path.to_owned(), why, kept: false });
        }
    }
    for (of, (value, line)) in values {
        match resource_from_value(value) {
            // The name of a network stands in its subnets as well.
            Ok(new) if new.kind() == Kind::Network && new.name() != resources[of].name() => {
                let mend = "write it in <name>";
                cx.wrong(line, "metadata/weft:network", "the network's name cannot be changed here", mend);
            }
            Ok(new) => resources[of] = new,
            Err(problem) => {
                let problem = cx.told(of, problem);
                cx.problems.push(problem);
            }
        }
    }
}

/// Sets a field if it is still what it was; false if it is not.
fn set(value: &mut Value, change: &Change) -> bool {
    if value.pointer(&change.path) != change.was.as_ref() {
        return false;
    }
    let Some((parent, last)) = change.path.rsplit_once('/') else { return false };
    let key = last.replace("~1", "/").replace("~0", "~");
    match (value.pointer_mut(parent), &change.is) {
        (Some(Value::Object(map)), Some(is)) => {
            map.insert(key, is.clone());
            true
        }
        (Some(Value::Object(map)), None) => map.remove(&key).is_some(),
        (Some(Value::Array(list)), Some(is)) => match key.parse::<usize>().ok().and_then(|i| list.get_mut(i))
        {
            Some(slot) => {
                *slot = is.clone();
                true
            }
            None => false,
        },
        (None, Some(is)) if parent == "/metadata/labels" || parent == "/metadata/annotations" => {
            let Some((root, name)) = parent.rsplit_once('/') else { return false };
            let Some(Value::Object(map)) = value.pointer_mut(root) else { return false };
            map.insert(name.to_owned(), serde_json::json!({ key: is }));
            true
        }
        _ => false,
    }
}
