//! What does the server answer?

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;

use axum::body::{Body, to_bytes};
use axum::extract::{Query, Request};
use axum::http::{Response, StatusCode, Uri, header};
use serde::de::DeserializeOwned;
use serde_json::Value;
use weft_model::{Draft, Kind, ObjectRef, Problem, Problems, Resource, parse_drafts};
use weft_store::{Expect, Op, Selector, Store, StoreError, Transaction};

use crate::error::{ApiError, json};
use crate::merge::{Merged, merge, replace};
use crate::routes::{Action, App, Endpoint};
use crate::types::{
    Applied, ApplyAnswer, ApplyQuery, Deleted, FieldConflict, FlowOwner, Health, LeaseView, ListAnswer,
    ListQuery, NodeStatus, WatchQuery, WriteQuery,
};

/// How often a merge is repeated when somebody else changed the resource in between.
const REPEATS: usize = 10;

/// The manager of those who name none.
const NOBODY: &str = "unknown";

/// Who knows what the store does not: the leases and the switch of this node.
pub trait NodeInfo: Send + Sync + 'static {
    /// The leases of a network, or all.
    fn leases<'a>(
        &'a self,
        network: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Vec<LeaseView>> + Send + 'a>>;

    /// Resources with what is counted only when somebody asks; the others as they are.
    fn see(&self, resources: Vec<Resource>) -> Pin<Box<dyn Future<Output = Vec<Resource>> + Send + '_>>;

    /// How the node fares.
    fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>>;

    /// What the flows with these cookies are for; those that are not the agent's are left out.
    fn flows(&self, cookies: Vec<u64>) -> Pin<Box<dyn Future<Output = Vec<FlowOwner>> + Send + '_>>;
}

/// Answers one request.
pub(crate) async fn handle<S: Store>(
    app: &App<S>,
    endpoint: &Endpoint,
    name: Option<String>,
    request: Request,
) -> Result<Response<Body>, ApiError> {
    let (parts, body) = request.into_parts();
    let uri = parts.uri;
    let limit = endpoint.body_limit();
    let text = if limit == 0 { String::new() } else { read(&parts.headers, body, limit).await? };
    let object = match (endpoint.kind, name) {
        (Some(kind), Some(name)) => Some(reference(kind, name)?),
        _ => None,
    };
    match (endpoint.action, object) {
        (Action::Health, _) => health(app).await,
        (Action::OpenApi, _) => Ok(json(StatusCode::OK, &crate::openapi::document())),
        (Action::List, _) => list(app, endpoint.kind, &query(&uri)?).await,
        (Action::Watch, _) => crate::watch::watch(app, query::<WatchQuery>(&uri)?).await,
        (Action::Leases, _) => leases(app, &uri).await,
        (Action::Node, _) => {
            let node = app.node.as_ref().ok_or_else(no_node)?;
            Ok(json(StatusCode::OK, &node.status().await))
        }
        (Action::Flows, _) => flows(app, &uri).await,
        (Action::Apply, _) => apply(app, text, None, query(&uri)?).await,
        (Action::DeleteAll, _) => delete_all(app, &text, &query(&uri)?).await,
        (Action::Get, Some(object)) => match app.store.get(&object).await? {
            Some(resource) => {
                let seen = seen(app, vec![Resource::clone(&resource)]).await;
                Ok(json(StatusCode::OK, &seen.first().unwrap_or(&*resource)))
            }
            None => Err(ApiError::not_found(&object)),
        },
        (Action::Put, Some(object)) => put(app, &object, text, &query(&uri)?).await,
        (Action::PutStatus, Some(object)) => put_status(app, &object, text, &query(&uri)?).await,
        (Action::Patch, Some(object)) => apply(app, text, Some(&object), query(&uri)?).await,
        (Action::Delete, Some(object)) => {
            let query: WriteQuery = query(&uri)?;
            delete(app, vec![(object, query.resource_version)], query.dry_run).await
        }
        (Action::Get | Action::Put | Action::PutStatus | Action::Patch | Action::Delete, None) => {
            Err(ApiError::bad_request("a name is missing"))
        }
    }
}

fn reference(kind: Kind, name: String) -> Result<ObjectRef, ApiError> {
    match weft_model::check_label(&name) {
        Ok(()) => Ok(ObjectRef { kind, name }),
        Err(why) => Err(ApiError::bad_request(format!(
            "the name {:?} {why}",
            name.chars().take(80).collect::<String>()
        ))),
    }
}

fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    match Query::try_from_uri(uri) {
        Ok(Query(query)) => Ok(query),
        Err(error) => {
            Err(ApiError::bad_request(format!("the query {:?}: {error}", uri.query().unwrap_or_default())))
        }
    }
}

/// Reads a body as text.
async fn read(headers: &axum::http::HeaderMap, body: Body, limit: usize) -> Result<String, ApiError> {
    let large = || {
        let message = format!("the body is longer than {limit} bytes; split it");
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "TooLarge", message)
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|n| n > limit) {
        return Err(large());
    }
    let bytes = to_bytes(body, limit).await.map_err(|e| {
        let too_long =
            std::error::Error::source(&e).is_some_and(|s| s.is::<http_body_util::LengthLimitError>());
        if too_long { large() } else { ApiError::bad_request(format!("the body broke off: {e}")) }
    })?;
    String::from_utf8(bytes.into()).map_err(|e| {
        ApiError::bad_request(format!("the body is not UTF-8 from byte {} on", e.utf8_error().valid_up_to()))
    })
}

/// Parses where it holds up no other request.
async fn drafts(text: String) -> Result<Vec<Draft>, ApiError> {
    let parsed = tokio::task::spawn_blocking(move || parse_drafts(&text)).await;
    Ok(parsed.map_err(|_| ApiError::bad_request("the body cannot be read"))??)
}

async fn one_draft(text: String, object: &ObjectRef) -> Result<Draft, ApiError> {
    let mut all = drafts(text).await?;
    match (all.pop(), all.len()) {
        (Some(draft), 0) if draft.object == *object => Ok(draft),
        (Some(draft), 0) => {
            Err(ApiError::bad_request(format!("the body is of {} and not {object}", draft.object)))
        }
        _ => Err(ApiError::bad_request("the body must hold one resource")),
    }
}

/// The document as a resource, or what is missing in it.
fn whole(draft: Draft) -> Result<(Resource, Value), ApiError> {
    Ok((draft.resource.map_err(ApiError::from)?, draft.value))
}

async fn health<S: Store>(app: &App<S>) -> Result<Response<Body>, ApiError> {
    let resource_version = app.store.version().await?;
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(json(StatusCode::OK, &Health { status: "ok".to_owned(), resource_version, version }))
}

fn no_node() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "NotFound", "this server is not the agent of a node")
}

pub(crate) fn selector(text: Option<&String>) -> Result<Selector, ApiError> {
    text.map_or("", String::as_str).parse().map_err(|e| ApiError::bad_request(format!("labelSelector: {e}")))
}

async fn list<S: Store>(
    app: &App<S>,
    kind: Option<Kind>,
    query: &ListQuery,
) -> Result<Response<Body>, ApiError> {
    let listing = app.store.list(kind, &selector(query.label_selector.as_ref())?).await?;
    let answer = ListAnswer {
        api_version: weft_model::API_VERSION.to_owned(),
        kind: "List".to_owned(),
        resource_version: listing.version,
        items: seen(app, listing.items.iter().map(|r| Resource::clone(r)).collect()).await,
    };
    Ok(json(StatusCode::OK, &answer))
}

/// Resources as they are shown.
async fn seen<S: Store>(app: &App<S>, resources: Vec<Resource>) -> Vec<Resource> {
    match &app.node {
        Some(node) => node.see(resources).await,
        None => resources,
    }
}

async fn leases<S: Store>(app: &App<S>, uri: &Uri) -> Result<Response<Body>, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which {
        network: Option<String>,
    }
    let which: Which = query(uri)?;
    let node = app.node.as_ref().ok_or_else(no_node)?;
    Ok(json(StatusCode::OK, &node.leases(which.network.as_deref()).await))
}

/// Most cookies that are asked about at once.
const MOST_COOKIES: usize = 1_024;

async fn flows<S: Store>(app: &App<S>, uri: &Uri) -> Result<Response<Body>, ApiError> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Which {
        cookies: String,
    }
    let which: Which = query(uri)?;
    let node = app.node.as_ref().ok_or_else(no_node)?;
    let number = |text: &str| {
        u64::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).map_err(|_| {
            ApiError::bad_request(format!("cookies: {text:?} is no cookie; write 0x5702200000000001"))
        })
    };
    let cookies: Vec<u64> = which.cookies.split(',').map(number).collect::<Result<_, _>>()?;
    if cookies.len() > MOST_COOKIES {
        return Err(ApiError::bad_request(format!("cookies: ask about {MOST_COOKIES} at most")));
    }
    Ok(json(StatusCode::OK, &node.flows(cookies).await))
}

fn manager(name: Option<&String>) -> Result<&str, ApiError> {
    match name.map(String::as_str) {
        None => Ok(NOBODY),
        Some(name) if (1..=128).contains(&name.len()) && !name.chars().any(char::is_control) => Ok(name),
        Some(_) => Err(ApiError::bad_request("fieldManager: use 1-128 characters")),
    }
}

/// The version that a writer wants to have changed.
fn precondition(query: Option<u64>, written: u64) -> Option<u64> {
    query.or(Some(written).filter(|v| *v != 0))
}

fn written_version(value: &Value) -> u64 {
    value.pointer("/metadata/resourceVersion").and_then(Value::as_u64).unwrap_or(0)
}

async fn put<S: Store>(
    app: &App<S>,
    object: &ObjectRef,
    text: String,
    query: &WriteQuery,
) -> Result<Response<Body>, ApiError> {
    let manager = manager(query.field_manager.as_ref())?;
    let (_, value) = whole(one_draft(text, object).await?)?;
    let wanted_version = precondition(query.resource_version, written_version(&value));
    for _ in 0..REPEATS {
        let live = app.store.get(object).await?;
        let resource = replace(live.as_deref(), &value, manager)?;
        let found = live.as_ref().map_or(0, |r| r.metadata().resource_version);
        let expect = expect(wanted_version.unwrap_or(found));
        let txn = Transaction { dry_run: query.dry_run, ..Transaction::put(resource, expect) };
        match app.store.commit(txn).await {
            Err(StoreError::Conflict { .. }) if wanted_version.is_none() => {}
            done => {
                let status = if live.is_some() { StatusCode::OK } else { StatusCode::CREATED };
                return answer_one(status, done?.resources.first().map(|r| &**r));
            }
        }
    }
    Err(busy())
}

const fn expect(version: u64) -> Expect {
    if version == 0 { Expect::Absent } else { Expect::Version(version) }
}

fn busy() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "Conflict",
        "others change the same resources all the time; try again",
    )
}

fn answer_one(status: StatusCode, resource: Option<&Resource>) -> Result<Response<Body>, ApiError> {
    let resource = resource
        .ok_or_else(|| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", "no resource"))?;
    Ok(json(status, resource))
}

async fn put_status<S: Store>(
    app: &App<S>,
    object: &ObjectRef,
    text: String,
    query: &WriteQuery,
) -> Result<Response<Body>, ApiError> {
    let (resource, value) = whole(one_draft(text, object).await?)?;
    let expect =
        precondition(query.resource_version, written_version(&value)).map_or(Expect::Any, Expect::Version);
    let txn = Transaction { dry_run: query.dry_run, ..Transaction::put_status(resource, expect) };
    answer_one(StatusCode::OK, app.store.commit(txn).await?.resources.first().map(|r| &**r))
}

/// Applies all documents of a text together; `only` says which resource alone may be in it.
async fn apply<S: Store>(
    app: &App<S>,
    text: String,
    only: Option<&ObjectRef>,
    query: ApplyQuery,
) -> Result<Response<Body>, ApiError> {
    let manager = manager(query.field_manager.as_ref())?;
    let drafts = match only {
        Some(object) => vec![one_draft(text, object).await?],
        None => drafts(text).await?,
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = drafts.iter().find(|d| !seen.insert(&d.object)) {
        return Err(ApiError::from(Problem {
            object: Some(twice.object.clone()),
            line: Some(twice.line),
            what: "is there twice".to_owned(),
            mend: "keep one of the documents".to_owned(),
            ..Problem::default()
        }));
    }
    let preconditions = drafts.iter().any(|d| written_version(&d.value) != 0);
    for _ in 0..REPEATS {
        let (ops, before) = merge_all(app, &drafts, manager, query.force).await?;
        match app.store.commit(Transaction { ops, dry_run: query.dry_run }).await {
            Err(StoreError::Conflict { .. }) if !preconditions => {}
            Err(StoreError::Invalid(problems)) => return Err(with_lines(problems, &drafts).into()),
            done => {
                let done = done?;
                let changed: BTreeSet<ObjectRef> =
                    done.events.iter().map(|e| e.resource.reference()).collect();
                let items: Vec<Resource> = done.resources.iter().map(|r| Resource::clone(r)).collect();
                let results = items.iter().zip(&before).map(|(item, before)| match before {
                    None => Applied::Created,
                    Some(_) if changed.contains(&item.reference()) => Applied::Configured,
                    Some(_) => Applied::Unchanged,
                });
                let results = results.collect();
                if only.is_some() {
                    return answer_one(StatusCode::OK, items.first());
                }
                let answer = ApplyAnswer { resource_version: done.version, results, items, before };
                return Ok(json(StatusCode::OK, &answer));
            }
        }
    }
    Err(busy())
}

/// Merges every document with what is there; all problems and conflicts are told together.
async fn merge_all<S: Store>(
    app: &App<S>,
    drafts: &[Draft],
    manager: &str,
    force: bool,
) -> Result<(Vec<Op>, Vec<Option<Resource>>), ApiError> {
    let (mut ops, mut before) = (Vec::new(), Vec::new());
    let mut problems: Vec<Problem> = Vec::new();
    let mut conflicts: Vec<FieldConflict> = Vec::new();
    for draft in drafts {
        let live = app.store.get(&draft.object).await?;
        let found = live.as_ref().map_or(0, |r| r.metadata().resource_version);
        let version = precondition(None, written_version(&draft.value)).unwrap_or(found);
        match merge(&draft.object, live.as_deref(), &draft.value, manager, force) {
            Ok(Merged::Resource(resource)) => {
                ops.push(Op::Put { resource: *resource, expect: expect(version) })
            }
            Ok(Merged::Conflicts(found)) => conflicts.extend(found),
            // The document's own reading knows the line.
            Err(problem) => problems.push(match &draft.resource {
                Err(own) if own.path == problem.path => own.clone(),
                _ => Problem { line: Some(draft.line), object: Some(draft.object.clone()), ..problem },
            }),
        }
        before.push(live.map(|r| Resource::clone(&r)));
    }
    if !problems.is_empty() {
        return Err(Problems(problems).into());
    }
    if !conflicts.is_empty() {
        return Err(ApiError::conflicts(conflicts));
    }
    Ok((ops, before))
}

/// Adds the lines of the documents that the problems are about.
fn with_lines(mut problems: Problems, drafts: &[Draft]) -> Problems {
    for problem in &mut problems.0 {
        let draft = drafts.iter().find(|d| Some(&d.object) == problem.object.as_ref());
        problem.line = problem.line.or(draft.map(|d| d.line));
    }
    problems
}

/// Deletes what a list of `{kind, name}` or a text of documents names, together.
async fn delete_all<S: Store>(
    app: &App<S>,
    text: &str,
    query: &WriteQuery,
) -> Result<Response<Body>, ApiError> {
    let objects: Vec<ObjectRef> = match serde_json::from_str(text) {
        Ok(objects) => objects,
        Err(_) => drafts(text.to_owned()).await?.into_iter().map(|d| d.object).collect(),
    };
    let unique: BTreeSet<ObjectRef> = objects.into_iter().collect();
    delete(app, unique.into_iter().map(|object| (object, None)).collect(), query.dry_run).await
}

async fn delete<S: Store>(
    app: &App<S>,
    objects: Vec<(ObjectRef, Option<u64>)>,
    dry_run: bool,
) -> Result<Response<Body>, ApiError> {
    let op = |(reference, version): (ObjectRef, Option<u64>)| {
        let expect = version.map_or(Expect::Any, Expect::Version);
        Op::Delete { reference, expect }
    };
    let done = app.store.commit(Transaction { ops: objects.into_iter().map(op).collect(), dry_run }).await?;
    let deleted = done.resources.iter().map(|r| r.reference()).collect();
    Ok(json(StatusCode::OK, &Deleted { resource_version: done.version, deleted }))
}
