//! What does an apply come to, and whose is a field afterwards?
//!
//! A document says some fields. A manager owns the fields that it said last. Applying sets them, takes away those that the
//! manager said before and does not say any more (unless another manager says them too), and leaves all others alone.
//! Changing a field that another manager owns is a conflict, unless the apply is forced.
//!
//! Fields are leaves: values that are no objects, and empty objects. A list is one field, as a whole. They are named by
//! JSON pointers (RFC 6901). Only `spec`, labels and annotations have managers.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use weft_model::{ManagedFields, ObjectRef, Problem, Resource, resource_from_value};

use crate::types::FieldConflict;

/// What was said and how it fits.
#[derive(Debug, Clone, PartialEq)]
pub enum Merged {
    /// The resource as it would be, with its managers.
    Resource(Box<Resource>),
    /// Others own what would change.
    Conflicts(Vec<FieldConflict>),
}

/// Applies a document on top of what is there.
///
/// # Errors
/// What is wrong with the resource that would come of it.
pub fn merge(
    object: &ObjectRef,
    live: Option<&Resource>,
    said: &Value,
    manager: &str,
    force: bool,
) -> Result<Merged, Problem> {
    let said = leaves(said);
    let before = live.map(Resource::to_value);
    let empty = Vec::new();
    let managers = live.map_or(&empty, |r| &r.metadata().managed_fields);
    let mut value = before.clone().unwrap_or_else(|| skeleton(object));
    let prior = managers.iter().find(|m| m.manager == manager).map_or(&empty_fields(), |m| &m.fields).clone();
    let others = || managers.iter().filter(|m| m.manager != manager);
    for gone in prior.iter().filter(|field| !said.contains_key(*field)) {
        if !others().any(|m| m.fields.iter().any(|f| related(f, gone))) {
            remove(&mut value, gone);
        }
    }
    for (field, leaf) in &said {
        set(&mut value, field, leaf.clone());
    }
    let mut resource = resource_from_value(value)?;
    // What was written may differ from how it is kept (defaults, spelling): the kept forms are compared.
    let after = resource.to_value();
    let changes =
        |field: &str| before.as_ref().is_none_or(|before| before.pointer(field) != after.pointer(field));
    let mut conflicts = Vec::new();
    for field in said.keys().filter(|field| changes(field)) {
        for owner in others().filter(|m| m.fields.iter().any(|f| related(f, field))) {
            let (object, manager) = (object.clone(), owner.manager.clone());
            conflicts.push(FieldConflict { object, field: dotted(field), manager });
        }
    }
    if !conflicts.is_empty() && !force {
        return Ok(Merged::Conflicts(conflicts));
    }
    let taken = |field: &String| said.keys().any(|mine| related(mine, field) && changes(mine));
    let mut managed: Vec<ManagedFields> = others().cloned().collect();
    for other in &mut managed {
        other.fields.retain(|field| !taken(field));
    }
    let mine = ManagedFields { manager: manager.to_owned(), fields: said.into_keys().collect() };
    managed.push(mine);
    finish(&mut resource, managed);
    Ok(Merged::Resource(Box::new(resource)))
}

/// Replaces what is there by a whole document: the fields that change are the manager's afterwards.
///
/// # Errors
/// What is wrong with the document.
pub fn replace(live: Option<&Resource>, said: &Value, manager: &str) -> Result<Resource, Problem> {
    let mut resource = resource_from_value(said.clone())?;
    let after = resource.to_value();
    let before = live.map(Resource::to_value);
    let mut managed = live.map(|r| r.metadata().managed_fields.clone()).unwrap_or_default();
    let fields = leaves(said);
    let changed: BTreeSet<&String> = fields
        .keys()
        .filter(|f| before.as_ref().is_none_or(|before| before.pointer(f) != after.pointer(f)))
        .collect();
    for owner in &mut managed {
        let kept = |field: &String| {
            let same = before.as_ref().is_some_and(|before| before.pointer(field) == after.pointer(field));
            same && !changed.iter().any(|f| related(f, field))
        };
        owner.fields.retain(kept);
    }
    match managed.iter_mut().find(|m| m.manager == manager) {
        Some(own) => own.fields.extend(changed.into_iter().cloned()),
        None => {
            let fields = changed.into_iter().cloned().collect();
            managed.push(ManagedFields { manager: manager.to_owned(), fields });
        }
    }
    finish(&mut resource, managed);
    Ok(resource)
}

fn empty_fields() -> Vec<String> {
    Vec::new()
}

fn finish(resource: &mut Resource, mut managed: Vec<ManagedFields>) {
    for owner in &mut managed {
        owner.fields.sort();
        owner.fields.dedup();
    }
    managed.retain(|owner| !owner.fields.is_empty());
    managed.sort_by(|a, b| a.manager.cmp(&b.manager));
    resource.metadata_mut().managed_fields = managed;
}

/// A resource about which nothing has been said.
fn skeleton(object: &ObjectRef) -> Value {
    serde_json::json!({
        "apiVersion": weft_model::API_VERSION,
        "kind": object.kind.name(),
        "metadata": {"name": object.name},
        "spec": {},
    })
}

/// The fields that a document says, with their values. A `null` says nothing.
fn leaves(document: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for root in ["/spec", "/metadata/labels", "/metadata/annotations"] {
        if let Some(value @ Value::Object(map)) = document.pointer(root) {
            // An empty `spec` or empty labels say nothing.
            if !map.is_empty() {
                collect(root.to_owned(), value, &mut found);
            }
        } else if let Some(value) = document.pointer(root).filter(|v| !v.is_null()) {
            found.insert(root.to_owned(), value.clone());
        }
    }
    found
}

fn collect(path: String, value: &Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Null => {}
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                collect(format!("{path}/{key}"), value, found);
            }
        }
        leaf => drop(found.insert(path, leaf.clone())),
    }
}

/// True when the fields are the same, or one lies within the other.
fn related(a: &str, b: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    within(a, b) || within(b, a)
}

/// Sets a field; what stands in its way is replaced.
fn set(value: &mut Value, field: &str, leaf: Value) {
    let mut at = value;
    for key in keys(field) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(key).or_insert(Value::Null);
    }
    // An empty object is said of something that is there already: it stays as it is.
    if !(leaf.as_object().is_some_and(Map::is_empty) && at.is_object()) {
        *at = leaf;
    }
}

/// Removes a field, and the objects around it that are empty then.
fn remove(value: &mut Value, field: &str) {
    let keys: Vec<String> = keys(field).collect();
    remove_at(value, &keys);
}

fn remove_at(value: &mut Value, keys: &[String]) -> bool {
    let (Value::Object(map), Some((first, rest))) = (value, keys.split_first()) else { return false };
    let gone = rest.is_empty() || map.get_mut(first).is_some_and(|inner| remove_at(inner, rest));
    // A resource without `spec` would be none.
    if gone && first != "spec" {
        map.shift_remove(first);
    }
    map.is_empty()
}

fn keys(field: &str) -> impl Iterator<Item = String> {
    field.split('/').skip(1).map(|key| key.replace("~1", "/").replace("~0", "~"))
}

/// A pointer as people write it: `spec.dns.enabled`, `metadata.labels[weft.dev/team]`.
fn dotted(field: &str) -> String {
    let mut text = String::new();
    for key in keys(field) {
        if key.contains(['.', '/']) {
            text.push_str(&format!("[{key}]"));
        } else {
            if !text.is_empty() {
                text.push('.');
            }
            text.push_str(&key);
        }
    }
    text
}

#[cfg(test)]
mod tests;
