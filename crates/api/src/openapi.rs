//! How is the API described to programs?
//!
//! Paths come from [`crate::routes::endpoints`], schemas from the types themselves with their documentation.

use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};
use weft_model::{AddressPool, Kind, Network, Port, Router, Subnet};

use crate::routes::{Action, Endpoint, endpoints};
use crate::types::{Applied, Deleted, ErrorAnswer, FlowOwner, Health, LeaseView, NodeStatus, WatchEventType};

/// The OpenAPI 3.1 document of everything the server answers.
#[must_use]
pub fn document() -> Value {
    let mut paths = Map::new();
    for endpoint in endpoints() {
        let item = paths.entry(endpoint.path.clone()).or_insert_with(|| json!({}));
        item[endpoint.method.as_str().to_ascii_lowercase()] = operation(&endpoint);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Weft",
            "description": "Networks, subnets, ports, routers and address pools of a Weft node.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": "Over TCP; the unix socket needs none."},
                "certificate": {"type": "mutualTLS", "description": "Over TCP; the unix socket needs none."},
            },
        },
        "security": [{}, {"token": []}, {"certificate": []}],
    })
}

fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn add<T: ToSchema>(all: &mut Map<String, Value>) {
    let mut found = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut found);
    for (name, schema) in found {
        // A schema is made of JSON to begin with.
        all.entry(name).or_insert_with(|| serde_json::to_value(schema).unwrap_or(Value::Null));
    }
}

fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    add::<Network>(&mut all);
    add::<Subnet>(&mut all);
    add::<Port>(&mut all);
    add::<Router>(&mut all);
    add::<AddressPool>(&mut all);
    add::<ErrorAnswer>(&mut all);
    add::<Health>(&mut all);
    add::<Deleted>(&mut all);
    add::<LeaseView>(&mut all);
    add::<NodeStatus>(&mut all);
    add::<FlowOwner>(&mut all);
    add::<Applied>(&mut all);
    add::<WatchEventType>(&mut all);
    all.entry("Kind").or_insert_with(|| serde_json::to_value(Kind::schema()).unwrap_or(Value::Null));
    let kinds: Vec<Value> = Kind::ALL.iter().map(|kind| refer(kind.name())).collect();
    let mapping: Map<String, Value> = Kind::ALL
        .iter()
        .map(|kind| (kind.name().to_owned(), format!("#/components/schemas/{kind}").into()))
        .collect();
    let discriminator = json!({"propertyName": "kind", "mapping": mapping});
    all.insert("Resource".to_owned(), json!({"oneOf": kinds, "discriminator": discriminator}));
    let version =
        json!({"type": "integer", "format": "int64", "minimum": 0, "description": "The store's version."});
    let resources = json!({"type": "array", "items": refer("Resource")});
    all.insert(
        "List".to_owned(),
        json!({"type": "object", "required": ["apiVersion", "kind", "resourceVersion", "items"], "properties": {
            "apiVersion": {"type": "string", "enum": [weft_model::API_VERSION]},
            "kind": {"type": "string", "enum": ["List"]},
            "resourceVersion": version,
            "items": resources,
        }}),
    );
    all.insert(
        "ApplyAnswer".to_owned(),
        json!({"type": "object", "required": ["resourceVersion", "results", "items", "before"], "properties": {
            "resourceVersion": version,
            "results": {"type": "array", "items": refer("Applied")},
            "items": resources,
            "before": {"type": "array", "items": {"oneOf": [{"type": "null"}, refer("Resource")]}},
        }}),
    );
    all.insert(
        "WatchEvent".to_owned(),
        json!({"type": "object", "required": ["type", "resourceVersion"], "properties": {
            "type": refer("WatchEventType"),
            "resourceVersion": version,
            "object": refer("Resource"),
            "error": refer("ErrorBody"),
        }}),
    );
    all
}

fn parameter(name: &str, kind: &str, about: &str) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": about, "schema": {"type": kind}})
}

fn operation(endpoint: &Endpoint) -> Value {
    let of = endpoint.kind.map_or("Resource", Kind::name);
    let selector =
        || parameter("labelSelector", "string", "Conditions on labels: tier=web,env in (lab,test),!old.");
    let dry_run = || parameter("dryRun", "boolean", "Say what would happen, and change nothing.");
    let manager = || parameter("fieldManager", "string", "Who changes it, 1-128 characters.");
    let version = || parameter("resourceVersion", "integer", "Only if it still has this version.");
    let force = || parameter("force", "boolean", "Take fields from other managers.");
    let (id, summary, mut parameters, answer) = match endpoint.action {
        Action::Health => ("health", "Whether the server works".to_owned(), vec![], refer("Health")),
        Action::OpenApi => ("openapi", "This document".to_owned(), vec![], json!({"type": "object"})),
        Action::List => ("list", format!("All resources of the kind {of}"), vec![selector()], refer("List")),
        Action::Get => ("get", format!("One {of}"), vec![], refer(of)),
        Action::Put => (
            "put",
            format!("Create or replace one {of}; a resourceVersion in it is a condition"),
            vec![manager(), dry_run(), version()],
            refer(of),
        ),
        Action::Patch => (
            "apply",
            format!("Apply a document of one {of} field by field (server-side apply)"),
            vec![manager(), force(), dry_run()],
            refer(of),
        ),
        Action::Delete => {
            ("delete", format!("Delete one {of}"), vec![dry_run(), version()], refer("Deleted"))
        }
        Action::PutStatus => {
            ("putStatus", format!("Replace the status of one {of}"), vec![dry_run(), version()], refer(of))
        }
        Action::Apply => (
            "applyAll",
            "Apply documents of any kind together (server-side apply): all of them or none".to_owned(),
            vec![manager(), force(), dry_run()],
            refer("ApplyAnswer"),
        ),
        Action::DeleteAll => (
            "deleteAll",
            "Delete what a list of {kind, name} or documents name: all of them or none".to_owned(),
            vec![dry_run()],
            refer("Deleted"),
        ),
        Action::Watch => (
            "watch",
            "Follow changes, one JSON object a line; without resourceVersion first everything there is"
                .to_owned(),
            vec![
                parameter("kind", "string", "Only this kind."),
                parameter("name", "string", "Only resources of this name."),
                selector(),
                parameter("resourceVersion", "integer", "Changes after this version."),
            ],
            refer("WatchEvent"),
        ),
        Action::Leases => (
            "leases",
            "The DHCP leases of this node".to_owned(),
            vec![parameter("network", "string", "Only this network.")],
            json!({"type": "array", "items": refer("LeaseView")}),
        ),
        Action::Node => ("node", "How this node fares".to_owned(), vec![], refer("NodeStatus")),
        Action::Flows => (
            "flows",
            "What flows are for, by their cookies; those that are not the agent's are left out".to_owned(),
            vec![parameter("cookies", "string", "Cookies in hexadecimal, with commas.")],
            json!({"type": "array", "items": refer("FlowOwner")}),
        ),
    };
    if endpoint.path.contains("{name}") {
        let schema = json!({"type": "string", "maxLength": 63, "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"});
        parameters.insert(0, json!({"name": "name", "in": "path", "required": true, "schema": schema}));
    }
    let media = if endpoint.action == Action::Watch { "application/x-ndjson" } else { "application/json" };
    let error =
        json!({"description": "Refused", "content": {"application/json": {"schema": refer("ErrorAnswer")}}});
    let mut operation = json!({
        "operationId": endpoint.kind.map_or_else(|| id.to_owned(), |kind| format!("{id}{kind}")),
        "summary": summary,
        "tags": [endpoint.kind.map_or("node", Kind::plural)],
        "parameters": parameters,
        "responses": {"200": {"description": "Done", "content": {media: {"schema": answer}}}, "default": error},
    });
    if endpoint.action == Action::Put {
        operation["responses"]["201"] = operation["responses"]["200"].clone();
        operation["responses"]["201"]["description"] = "Created".into();
    }
    let references = json!({"type": "array", "items": refer("ObjectRef")});
    let body = match endpoint.action {
        Action::Put | Action::PutStatus | Action::Patch => Some(refer(of)),
        Action::Apply => Some(refer("Resource")),
        Action::DeleteAll => Some(references),
        _ => None,
    };
    if let Some(schema) = body {
        let content = json!({"application/json": {"schema": schema}, "application/yaml": {"schema": schema}});
        operation["requestBody"] = json!({"required": true, "content": content});
    }
    operation
}
