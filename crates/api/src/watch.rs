//! How does a client follow what changes?
//!
//! Newline-delimited JSON, one [`WatchEvent`] a line, for as long as the client reads. Without a version the answer begins
//! with everything that is there and a bookmark. The stream is pulled by the client: a slow one holds nobody up, falls
//! behind, and is told so by a last line.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures_util::stream;
use tokio::sync::OwnedSemaphorePermit;
use weft_model::{Kind, Resource};
use weft_store::{Change, Event, Selector, Store, Watch};

use crate::error::ApiError;
use crate::handlers::{NodeInfo, selector};
use crate::routes::App;
use crate::types::{WatchEvent, WatchEventType, WatchQuery};

/// Events that are sent in one piece, at most.
const BATCH: usize = 256;

struct Following {
    watch: Watch,
    kind: Option<Kind>,
    name: Option<String>,
    selector: Selector,
    /// Whether a selector was given: what no longer fits is told as deleted.
    chosen: bool,
    /// What is there and not yet sent.
    first: VecDeque<Arc<Resource>>,
    /// Everything up to here has been sent or was not asked for.
    version: u64,
    begun: bool,
    ended: bool,
    bookmark: Duration,
    /// Who knows what is counted only when somebody asks.
    node: Option<Arc<dyn NodeInfo>>,
    _permit: OwnedSemaphorePermit,
}

pub(crate) async fn watch<S: Store>(app: &App<S>, query: WatchQuery) -> Result<Response<Body>, ApiError> {
    let busy = |_| {
        let message = format!("there are {} watches already", app.guard.limits.watches);
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
    };
    let permit = Arc::clone(&app.guard.watches).try_acquire_owned().map_err(busy)?;
    let kind = query.kind.as_deref().map(str::parse::<Kind>).transpose();
    let kind = kind.map_err(|e| ApiError::bad_request(format!("kind: {e}")))?;
    let selector = selector(query.label_selector.as_ref())?;
    let (first, version) = match query.resource_version {
        Some(version) => (VecDeque::new(), version),
        None => {
            let listing = app.store.list(kind, &selector).await?;
            let named = |r: &Arc<Resource>| query.name.as_deref().is_none_or(|name| r.name() == name);
            (listing.items.into_iter().filter(named).collect(), listing.version)
        }
    };
    let following = Following {
        watch: app.store.watch(version).await?,
        kind,
        name: query.name,
        chosen: query.label_selector.is_some(),
        selector,
        first,
        version,
        begun: false,
        ended: false,
        bookmark: app.guard.limits.bookmark,
        node: app.node.clone(),
        _permit: permit,
    };
    let lines = stream::unfold(following, |mut following| async move {
        let piece = following.piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), following))
    });
    let mut response = Response::new(Body::from_stream(lines));
    let json_lines = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, json_lines);
    Ok(response)
}

impl Following {
    /// The next lines; `None` at the end.
    async fn piece(&mut self) -> Option<Vec<u8>> {
        if self.ended {
            return None;
        }
        let mut events = self.events().await;
        self.see(&mut events).await;
        let mut out = Vec::new();
        events.iter().for_each(|event| write(&mut out, event));
        Some(out)
    }

    /// What happened next, some of it at least.
    async fn events(&mut self) -> Vec<WatchEvent> {
        let mut out = Vec::new();
        if !self.begun {
            for resource in self.first.drain(..self.first.len().min(BATCH)) {
                let version = resource.metadata().resource_version;
                out.push(event(WatchEventType::Put, version, Some(&resource)));
            }
            if self.first.is_empty() {
                self.begun = true;
                out.push(event(WatchEventType::Bookmark, self.version, None));
            }
            return out;
        }
        while out.is_empty() {
            match tokio::time::timeout(self.bookmark, self.watch.next_batch(BATCH)).await {
                Err(_) => out.push(event(WatchEventType::Bookmark, self.version, None)),
                Ok(Ok(events)) => {
                    events.iter().filter_map(|event| self.tell(event)).for_each(|e| out.push(e))
                }
                Ok(Err(error)) => {
                    self.ended = true;
                    let error = Some(*ApiError::from(error).body);
                    out.push(WatchEvent { error, ..event(WatchEventType::Error, self.version, None) });
                }
            }
        }
        out
    }

    /// Shows resources as they are shown everywhere.
    async fn see(&self, events: &mut [WatchEvent]) {
        let Some(node) = &self.node else { return };
        let objects = events.iter_mut().filter_map(|event| event.object.take()).collect();
        // Each event but a bookmark or an error has an object, in this order.
        let mut seen = node.see(objects).await.into_iter();
        let with_object =
            |e: &&mut WatchEvent| matches!(e.kind, WatchEventType::Put | WatchEventType::Delete);
        events.iter_mut().filter(with_object).for_each(|event| event.object = seen.next());
    }

    /// What is said of a change, if it is of what was asked for.
    fn tell(&mut self, change: &Event) -> Option<WatchEvent> {
        self.version = change.version;
        let resource = &change.resource;
        let other_kind = self.kind.is_some_and(|kind| kind != resource.kind());
        if other_kind || self.name.as_deref().is_some_and(|name| name != resource.name()) {
            return None;
        }
        let fits = self.selector.matches(&resource.metadata().labels);
        let kind = match change.change {
            Change::Put if fits => WatchEventType::Put,
            Change::Delete if fits => WatchEventType::Delete,
            // It may have fitted before.
            Change::Put if self.chosen => WatchEventType::Delete,
            Change::Put | Change::Delete => return None,
        };
        Some(event(kind, change.version, Some(resource)))
    }
}

fn event(kind: WatchEventType, resource_version: u64, object: Option<&Resource>) -> WatchEvent {
    WatchEvent { kind, resource_version, object: object.cloned(), error: None }
}

fn write(out: &mut Vec<u8>, event: &WatchEvent) {
    // Nothing in an event can fail to be JSON; a line that did would be left out whole.
    if let Ok(bytes) = serde_json::to_vec(event) {
        out.extend(bytes);
        out.push(b'\n');
    }
}
