//! Who owns what after applies, forced applies and replacements?

use serde_json::json;
use weft_model::Kind;

use super::*;

fn object() -> ObjectRef {
    ObjectRef::new(Kind::Network, "n")
}

fn document(spec: Value) -> Value {
    json!({"apiVersion": "weft.dev/v1", "kind": "Network", "metadata": {"name": "n"}, "spec": spec})
}

fn apply(live: Option<&Resource>, spec: Value, manager: &str, force: bool) -> Result<Resource, Vec<String>> {
    match merge(&object(), live, &document(spec), manager, force).unwrap() {
        Merged::Resource(resource) => Ok(*resource),
        Merged::Conflicts(all) => Err(all.iter().map(|c| format!("{} {}", c.field, c.manager)).collect()),
    }
}

fn owners(resource: &Resource) -> Vec<String> {
    let managers = &resource.metadata().managed_fields;
    managers.iter().map(|m| format!("{}: {}", m.manager, m.fields.join(" "))).collect()
}

#[test]
fn managers_share_and_contend() {
    let a = apply(None, json!({"mode": "nat", "mtu": 1400}), "a", false).unwrap();
    assert_eq!(owners(&a), ["a: /spec/mode /spec/mtu"]);
    // Another manager adds a field, and says one as it is.
    let b = apply(Some(&a), json!({"mtu": 1400, "portIsolation": true}), "b", false).unwrap();
    assert_eq!(owners(&b), ["a: /spec/mode /spec/mtu", "b: /spec/mtu /spec/portIsolation"]);
    assert_eq!(b.as_network().unwrap().spec.mtu, Some(1400));
    // It says one differently.
    assert_eq!(apply(Some(&b), json!({"mode": "routed"}), "b", false), Err(vec!["spec.mode a".to_owned()]));
    let forced = apply(Some(&b), json!({"mode": "routed"}), "b", true).unwrap();
    assert_eq!(owners(&forced), ["a: /spec/mtu", "b: /spec/mode"]);
    // What b no longer says and nobody else does is gone; what a says stays.
    let spec = &forced.as_network().unwrap().spec;
    assert_eq!((spec.port_isolation, spec.mtu), (false, Some(1400)));
    // The first manager takes its word back.
    let last = apply(Some(&forced), json!({}), "a", false).unwrap();
    assert_eq!(owners(&last), ["b: /spec/mode"]);
    assert_eq!(last.as_network().unwrap().spec.mtu, None);
}

#[test]
fn a_default_said_by_somebody_is_owned() {
    let a = apply(None, json!({"mode": "nat", "dns": {"enabled": true}}), "a", false).unwrap();
    assert!(apply(Some(&a), json!({"mode": "isolated"}), "b", false).is_err());
    assert!(apply(Some(&a), json!({"mode": "nat", "dns": {"enabled": true}}), "b", false).is_ok());
    // Somebody who applies the same again changes nothing.
    let again = apply(Some(&a), json!({"mode": "nat", "dns": {"enabled": true}}), "a", false).unwrap();
    assert_eq!(a, again);
}

#[test]
fn lists_are_whole_and_labels_are_not() {
    let said = |labels: Value| {
        let mut document = document(json!({"dns": {"forwarders": [{"address": "9.9.9.9"}]}}));
        document["metadata"]["labels"] = labels;
        document
    };
    let Merged::Resource(a) =
        merge(&object(), None, &said(json!({"x": "1", "w.d/t": "2"})), "a", false).unwrap()
    else {
        panic!("conflicts")
    };
    let fields = "/metadata/labels/w.d~1t /metadata/labels/x /spec/dns/forwarders";
    assert_eq!(owners(&a), [format!("a: {fields}")]);
    let other = json!({"dns": {"forwarders": [{"address": "1.1.1.1"}]}});
    assert_eq!(apply(Some(&a), other, "b", false), Err(vec!["spec.dns.forwarders a".to_owned()]));
    let Merged::Conflicts(conflicts) =
        merge(&object(), Some(&a), &said(json!({"w.d/t": "3"})), "b", false).unwrap()
    else {
        panic!("no conflict")
    };
    assert_eq!(conflicts[0].field, "metadata.labels[w.d/t]");
    // Without labels and lists, they go.
    let less = apply(Some(&a), json!({}), "a", false).unwrap();
    assert!(less.metadata().labels.is_empty() && less.as_network().unwrap().spec.dns.forwarders.is_empty());
}

#[test]
fn another_spelling_is_the_same_value() {
    let object = ObjectRef::new(Kind::Port, "p");
    let said = |mac: &str| json!({"spec": {"network": "n", "mac": mac}});
    let Merged::Resource(port) = merge(&object, None, &said("52:54:00:0A:0b:0c"), "a", false).unwrap() else {
        panic!("conflicts")
    };
    assert!(matches!(
        merge(&object, Some(&port), &said("52:54:0:a:b:c"), "b", false),
        Ok(Merged::Resource(_))
    ));
    assert!(matches!(
        merge(&object, Some(&port), &said("52:54:0:a:b:d"), "b", false),
        Ok(Merged::Conflicts(_))
    ));
}

#[test]
fn a_part_suffices_for_what_is_there() {
    let object = ObjectRef::new(Kind::Subnet, "s");
    let whole = json!({"spec": {"network": "n", "cidr": "10.0.0.0/24"}});
    let part = json!({"spec": {"dhcp": {"leaseSeconds": 600}}});
    assert!(merge(&object, None, &part, "b", false).unwrap_err().is_missing_field());
    let Merged::Resource(subnet) = merge(&object, None, &whole, "a", false).unwrap() else {
        panic!("conflicts")
    };
    let Merged::Resource(both) = merge(&object, Some(&subnet), &part, "b", false).unwrap() else {
        panic!("conflicts")
    };
    assert_eq!(both.as_subnet().unwrap().spec.dhcp.lease_seconds, 600);
    // The one who said what must be there cannot take it back.
    assert!(merge(&object, Some(&both), &json!({"spec": {}}), "a", false).is_err());
}

#[test]
fn a_replacement_owns_what_it_changes() {
    let a = apply(None, json!({"mode": "nat", "mtu": 1400}), "a", false).unwrap();
    let new = replace(Some(&a), &document(json!({"mode": "nat", "mtu": 1300})), "editor").unwrap();
    assert_eq!(owners(&new), ["a: /spec/mode", "editor: /spec/mtu"]);
    let gone = replace(Some(&new), &document(json!({"mode": "nat"})), "editor").unwrap();
    assert_eq!(owners(&gone), ["a: /spec/mode"]);
    assert_eq!(gone.as_network().unwrap().spec.mtu, None);
}
