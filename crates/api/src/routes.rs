//! Which paths are there, and what does each do?
//!
//! [`endpoints`] is the one table: the router and the OpenAPI document are both made of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawPathParams, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{MethodFilter, on};
use weft_model::{Kind, MAX_DOCUMENT, MAX_TEXT};
use weft_store::Store;

use crate::error::ApiError;
use crate::guard::{Guard, Limits, guard};
use crate::handlers::{self, NodeInfo};

/// All resources are under this path.
pub const PREFIX: &str = "/apis/weft.dev/v1";

/// What an endpoint does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Health,
    OpenApi,
    List,
    Get,
    Put,
    Patch,
    Delete,
    PutStatus,
    Apply,
    DeleteAll,
    Watch,
    Leases,
    Node,
    Flows,
}

/// One method of one path.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) action: Action,
    pub(crate) kind: Option<Kind>,
}

impl Endpoint {
    /// The longest body that is read.
    pub(crate) fn body_limit(&self) -> usize {
        match self.action {
            Action::Apply | Action::DeleteAll => MAX_TEXT,
            Action::Put | Action::Patch | Action::PutStatus => MAX_DOCUMENT,
            _ => 0,
        }
    }
}

/// Everything that can be asked.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    let at = |method: Method, path: String, action| Endpoint { method, path, action, kind: None };
    let mut all = vec![
        at(Method::GET, "/healthz".to_owned(), Action::Health),
        at(Method::GET, "/openapi.json".to_owned(), Action::OpenApi),
        at(Method::POST, format!("{PREFIX}/apply"), Action::Apply),
        at(Method::POST, format!("{PREFIX}/delete"), Action::DeleteAll),
        at(Method::GET, format!("{PREFIX}/watch"), Action::Watch),
        at(Method::GET, format!("{PREFIX}/resources"), Action::List),
        at(Method::GET, format!("{PREFIX}/leases"), Action::Leases),
        at(Method::GET, format!("{PREFIX}/node"), Action::Node),
        at(Method::GET, format!("{PREFIX}/node/flows"), Action::Flows),
    ];
    for kind in Kind::ALL {
        let of = |method: Method, rest: &str, action| Endpoint {
            method,
            path: format!("{PREFIX}/{}{rest}", kind.plural()),
            action,
            kind: Some(kind),
        };
        all.extend([
            of(Method::GET, "", Action::List),
            of(Method::GET, "/{name}", Action::Get),
            of(Method::PUT, "/{name}", Action::Put),
            of(Method::PATCH, "/{name}", Action::Patch),
            of(Method::DELETE, "/{name}", Action::Delete),
            of(Method::PUT, "/{name}/status", Action::PutStatus),
        ]);
    }
    all
}

/// What the server works with. Cheap to clone.
pub struct App<S> {
    pub(crate) store: Arc<S>,
    pub(crate) node: Option<Arc<dyn NodeInfo>>,
    pub(crate) guard: Arc<Guard>,
}

impl<S> Clone for App<S> {
    fn clone(&self) -> Self {
        Self { store: Arc::clone(&self.store), node: self.node.clone(), guard: Arc::clone(&self.guard) }
    }
}

impl<S: Store> App<S> {
    /// An API over a store.
    pub fn new(store: S) -> Self {
        let guard = Arc::new(Guard::new(Limits::default(), None));
        Self { store: Arc::new(store), node: None, guard }
    }

    /// With somebody who knows about this node: leases, the switch.
    #[must_use]
    pub fn with_node(self, node: Arc<dyn NodeInfo>) -> Self {
        Self { node: Some(node), ..self }
    }

    /// With other limits, and the token that TCP clients without a certificate must show.
    #[must_use]
    pub fn with_guard(self, limits: Limits, token: Option<String>) -> Self {
        Self { guard: Arc::new(Guard::new(limits, token)), ..self }
    }
}

/// The router of everything.
pub fn router<S: Store>(app: App<S>) -> Router {
    let mut router = Router::new();
    for endpoint in endpoints() {
        let path = endpoint.path.clone();
        let filter = match endpoint.method {
            Method::PUT => MethodFilter::PUT,
            Method::POST => MethodFilter::POST,
            Method::PATCH => MethodFilter::PATCH,
            Method::DELETE => MethodFilter::DELETE,
            _ => MethodFilter::GET,
        };
        let endpoint = Arc::new(endpoint);
        let handler = move |State(app): State<App<S>>, params: RawPathParams, request: Request| {
            let name = params.iter().find(|(key, _)| *key == "name").map(|(_, value)| value.to_owned());
            let endpoint = Arc::clone(&endpoint);
            async move {
                match handlers::handle(&app, &endpoint, name, request).await {
                    Ok(response) => response,
                    Err(error) => error.into_response(),
                }
            }
        };
        router = router.route(&path, on(filter, handler));
    }
    let nothing = |request: Request| async move {
        let path = request.uri().path().to_owned();
        ApiError::new(
            StatusCode::NOT_FOUND,
            "NotFound",
            format!("there is nothing at {path}; see /openapi.json"),
        )
    };
    let wrong_method = |request: Request| async move {
        let message = format!("{} is not possible at {}", request.method(), request.uri().path());
        ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
    };
    let check = axum::middleware::from_fn_with_state(Arc::clone(&app.guard), guard);
    router.fallback(nothing).method_not_allowed_fallback(wrong_method).layer(check).with_state(app)
}
