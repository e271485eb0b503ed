//! How does a node's agent start, serve its API, and stop?

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use weft_api::{
    App, FlowOwner, LeaseView, Limits, NodeInfo, NodeStatus, TcpOptions, bind_unix, router, serve_tcp,
    serve_unix,
};
use weft_compile::Cookie;
use weft_model::{Kind, ObjectRef, Resource};
use weft_store::{Embedded, Store, StoreError};

use crate::node::{Config, Node, NodeError, Progress, Question};
use crate::seen;

/// Who may talk to the API's socket: its owner.
const SOCKET_MODE: u32 = 0o600;

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node.
    pub node: Config,
    /// File of the embedded store.
    pub store: PathBuf,
    /// Whom the machine asks for names, as `resolv.conf(5)`.
    pub resolv_conf: PathBuf,
    /// Unix socket of the API.
    pub socket: PathBuf,
    /// TCP address of the API, with what TLS needs and the token that clients show.
    pub tcp: Option<(String, TcpOptions, Option<String>)>,
}

/// Why an agent ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The store.
    #[error("the store {path}: {why}")]
    Store {
        /// Its file.
        path: PathBuf,
        /// What it says.
        why: StoreError,
    },
    /// A socket.
    #[error("{what}: {why}")]
    Listen {
        /// Which.
        what: String,
        /// Why.
        why: io::Error,
    },
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs an agent until `stop` becomes true. What it programmed stays.
///
/// # Errors
/// Why it could not start, or could not go on.
pub async fn run(options: Options, stop: watch::Receiver<bool>) -> Result<(), AgentError> {
    let path = options.store.clone();
    let store = Embedded::open(&options.store, &weft_store::Options::default())
        .map_err(|why| AgentError::Store { path, why })?;
    let (told, progress) = watch::channel(Progress::default());
    let (questions, asked) = mpsc::channel(64);
    let info = Info {
        name: options.node.node.clone(),
        store: store.clone(),
        started: Instant::now(),
        progress,
        questions,
    };
    let info: Arc<dyn NodeInfo> = Arc::new(info);
    let limits = Limits::default();
    let app = || App::new(store.clone()).with_node(Arc::clone(&info));
    let listen = |what: String| move |why| AgentError::Listen { what, why };
    let socket = options.socket.display().to_string();
    let listener = bind_unix(&options.socket, SOCKET_MODE).map_err(listen(socket))?;
    let local = router(app().with_guard(limits.clone(), None));
    tokio::spawn(serve_unix(listener, local, limits.clone(), stop.clone()));
    if let Some((address, tls, token)) = options.tcp {
        let listener = TcpListener::bind(&address).await.map_err(listen(address.clone()))?;
        let remote = router(app().with_guard(limits.clone(), token));
        let stop = stop.clone();
        tokio::spawn(async move {
            if let Err(why) = serve_tcp(listener, &tls, remote, limits, stop).await {
                tracing::error!(%address, %why, "the API is not served on TCP");
            }
        });
    }
    let node = Node::new(Arc::new(store.clone()), options.node).await?.telling(told).answering(asked);
    let node = node.with_resolv_conf(options.resolv_conf).await;
    let mut stop = stop;
    tokio::select! {
        ended = node.run() => ended?,
        _ = stop.wait_for(|stop| *stop) => {}
    }
    store.close().await;
    // What is left behind answers nobody.
    let _ = std::fs::remove_file(&options.socket);
    Ok(())
}

/// What the API says of this node.
struct Info {
    name: String,
    store: Embedded,
    started: Instant,
    progress: watch::Receiver<Progress>,
    questions: mpsc::Sender<Question>,
}

impl NodeInfo for Info {
    fn see(&self, mut resources: Vec<Resource>) -> Pin<Box<dyn Future<Output = Vec<Resource>> + Send + '_>> {
        Box::pin(async move {
            let mut leases = seen::Leases::new();
            for subnet in resources.iter().filter(|resource| resource.kind() == Kind::Subnet) {
                let all = self.store.leases(Some(subnet.name())).await.unwrap_or_default();
                let running = all.iter().filter(|lease| crate::respond::is_running(lease)).count();
                leases.insert(subnet.name().to_owned(), running as u64);
            }
            if resources.iter().any(seen::is_counted) {
                self.store.with_catalog(|catalog| {
                    resources.iter_mut().for_each(|resource| seen::see(resource, catalog, &leases));
                });
            }
            resources
        })
    }

    fn leases<'a>(
        &'a self,
        network: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Vec<LeaseView>> + Send + 'a>> {
        Box::pin(async move {
            let leases = self.store.leases(None).await.unwrap_or_default();
            self.store.with_catalog(|catalog| {
                let view = |lease: &weft_store::Lease| {
                    let subnet = catalog.subnet(&lease.subnet)?;
                    let of = &subnet.spec.network;
                    if network.is_some_and(|n| n != of) {
                        return None;
                    }
                    let mut view =
                        crate::respond::lease_view(&lease.subnet, of, lease.address, &lease.value)?;
                    view.port = catalog.port_by_ip(of, lease.address).map(|p| p.name().to_owned());
                    Some(view)
                };
                leases.iter().filter_map(view).collect()
            })
        })
    }

    fn status(&self) -> Pin<Box<dyn Future<Output = NodeStatus> + Send + '_>> {
        Box::pin(async move {
            let progress = self.progress.borrow().clone();
            NodeStatus {
                node: self.name.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime_seconds: self.started.elapsed().as_secs(),
                programmed_version: progress.version,
                resource_version: self.store.version().await.unwrap_or_default(),
                switch_connected: progress.connected,
                switch: progress.switch,
                flows: progress.flows,
                counters: progress.host.counts,
                troubles: progress.host.troubles,
            }
        })
    }

    fn flows(&self, cookies: Vec<u64>) -> Pin<Box<dyn Future<Output = Vec<FlowOwner>> + Send + '_>> {
        Box::pin(async move {
            let mut owners = Vec::new();
            for cookie in cookies.into_iter().filter_map(Cookie::from_u64) {
                owners.push(FlowOwner {
                    cookie: format!("{:#x}", cookie.to_u64()),
                    object: self.owner(cookie).await,
                    purpose: cookie.purpose.about().to_owned(),
                    drops: cookie.purpose.drops(),
                });
            }
            owners
        })
    }
}

impl Info {
    /// The resource that a cookie is of; `None`: of none, or of one that is gone.
    async fn owner(&self, cookie: Cookie) -> Option<ObjectRef> {
        let kind = match cookie.kind {
            weft_compile::Kind::Node => return None,
            weft_compile::Kind::Network => Kind::Network,
            weft_compile::Kind::Port => Kind::Port,
        };
        let (answer, told) = oneshot::channel();
        self.questions.send(Question { kind, key: cookie.key, answer }).await.ok()?;
        Some(ObjectRef::new(kind, told.await.ok()??))
    }
}
