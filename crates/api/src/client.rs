//! How does a program ask the server?

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use weft_model::{ObjectRef, Resource};

use crate::error::ApiError;
use crate::routes::PREFIX;
use crate::types::{
    ApplyAnswer, ApplyQuery, Deleted, ErrorAnswer, FlowOwner, Health, LeaseView, ListAnswer, ListQuery,
    NodeStatus, WatchEvent, WatchQuery, WriteQuery,
};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer that is read, in bytes.
const MAX_ANSWER: usize = 1 << 30;
/// Longest line of a watch, in bytes.
const MAX_LINE: usize = 16 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody can be reached.
    #[error("{to}: {why}; is `weft agent` running?")]
    Connect {
        /// Where.
        to: String,
        /// Why.
        why: String,
    },
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] ApiError),
    /// The answer makes no sense.
    #[error("the answer of the server: {0}")]
    Answer(String),
    /// There was none in time.
    #[error("the server did not answer within {} s", PATIENCE.as_secs())]
    Timeout,
}

/// How a client shows who it is over TCP, and whom it trusts.
#[derive(Debug, Clone, Default)]
pub struct TlsOptions {
    /// File of the CAs of the server's certificate, PEM.
    pub ca: PathBuf,
    /// Files of the client's own certificate chain and key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Token to show.
    pub token: Option<String>,
}

#[derive(Debug, Clone)]
enum Target {
    Unix(PathBuf),
    Tcp { address: String, name: ServerName<'static>, config: Arc<ClientConfig> },
}

/// A client of one server. Every request has a connection of its own.
#[derive(Debug, Clone)]
pub struct Client {
    target: Target,
    token: Option<String>,
    manager: String,
}

impl Client {
    /// A client of a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { target: Target::Unix(path.into()), token: None, manager: "weft".to_owned() }
    }

    /// A client of `host:port`.
    ///
    /// # Errors
    /// When certificates cannot be read or the address has no host.
    pub fn tcp(address: &str, options: &TlsOptions) -> Result<Self, ClientError> {
        let wrong = |why: String| ClientError::Connect { to: address.to_owned(), why };
        let at = |path: &Path, e: &dyn std::fmt::Display| wrong(format!("{}: {e}", path.display()));
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned()).map_err(|e| wrong(e.to_string()))?;
        let mut roots = RootCertStore::empty();
        for ca in CertificateDer::pem_file_iter(&options.ca).map_err(|e| at(&options.ca, &e))? {
            roots.add(ca.map_err(|e| at(&options.ca, &e))?).map_err(|e| at(&options.ca, &e))?;
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| wrong(e.to_string()))?
            .with_root_certificates(roots);
        let config = match &options.certificate {
            None => builder.with_no_client_auth(),
            Some((chain_file, key_file)) => {
                let chain: Result<Vec<_>, _> =
                    CertificateDer::pem_file_iter(chain_file).map_err(|e| at(chain_file, &e))?.collect();
                let chain = chain.map_err(|e| at(chain_file, &e))?;
                let key = PrivateKeyDer::from_pem_file(key_file).map_err(|e| at(key_file, &e))?;
                builder.with_client_auth_cert(chain, key).map_err(|e| at(chain_file, &e))?
            }
        };
        let target = Target::Tcp { address: address.to_owned(), name, config: Arc::new(config) };
        Ok(Self { target, token: options.token.clone(), manager: "weft".to_owned() })
    }

    /// As whom to change fields.
    #[must_use]
    pub fn with_manager(self, manager: impl Into<String>) -> Self {
        Self { manager: manager.into(), ..self }
    }

    /// Whether the server works.
    ///
    /// # Errors
    /// [`ClientError`], as all of these.
    pub async fn health(&self) -> Result<Health, ClientError> {
        self.ask(Method::GET, "/healthz", String::new()).await
    }

    /// The resource of this kind and name; `None` when there is none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<Resource>, ClientError> {
        match self.ask(Method::GET, &path(object), String::new()).await {
            Ok(resource) => Ok(Some(resource)),
            Err(ClientError::Refused(error)) if error.status == 404 => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The resources of a kind, or of all kinds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(
        &self,
        kind: Option<weft_model::Kind>,
        query: &ListQuery,
    ) -> Result<ListAnswer, ClientError> {
        let path =
            format!("{PREFIX}/{}{}", kind.map_or("resources", weft_model::Kind::plural), encode(query));
        self.ask(Method::GET, &path, String::new()).await
    }

    /// Applies a text of YAML or JSON documents, all together or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn apply(&self, text: String, force: bool, dry_run: bool) -> Result<ApplyAnswer, ClientError> {
        let query = ApplyQuery { field_manager: Some(self.manager.clone()), force, dry_run };
        self.ask(Method::POST, &format!("{PREFIX}/apply{}", encode(&query)), text).await
    }

    /// Creates or replaces one resource. If it carries a `resourceVersion`, only when it still has that one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put(&self, resource: &Resource, dry_run: bool) -> Result<Resource, ClientError> {
        let query = WriteQuery { field_manager: Some(self.manager.clone()), dry_run, resource_version: None };
        let at = format!("{}{}", path(&resource.reference()), encode(&query));
        self.ask(Method::PUT, &at, resource.to_value().to_string()).await
    }

    /// Deletes resources, all together or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, objects: &[ObjectRef], dry_run: bool) -> Result<Deleted, ClientError> {
        let body = serde_json::to_string(objects).map_err(|e| ClientError::Answer(e.to_string()))?;
        let query = WriteQuery { field_manager: None, dry_run, resource_version: None };
        self.ask(Method::POST, &format!("{PREFIX}/delete{}", encode(&query)), body).await
    }

    /// Follows changes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self, query: &WatchQuery) -> Result<WatchStream, ClientError> {
        let path = format!("{PREFIX}/watch{}", encode(query));
        let send = self.send(Method::GET, &path, String::new());
        let response = tokio::time::timeout(PATIENCE, send).await.map_err(|_| ClientError::Timeout)??;
        if !response.status().is_success() {
            return Err(refused(response).await);
        }
        Ok(WatchStream { body: response.into_body(), buffer: Vec::new(), searched: 0 })
    }

    /// The leases of a network, or all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn leases(&self, network: Option<&str>) -> Result<Vec<LeaseView>, ClientError> {
        let query = serde_json::json!({ "network": network });
        self.ask(Method::GET, &format!("{PREFIX}/leases{}", encode(&query)), String::new()).await
    }

    /// How the node fares.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn node(&self) -> Result<NodeStatus, ClientError> {
        self.ask(Method::GET, &format!("{PREFIX}/node"), String::new()).await
    }

    /// What the flows with these cookies are for.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn flows(&self, cookies: &[u64]) -> Result<Vec<FlowOwner>, ClientError> {
        let cookies: Vec<String> = cookies.iter().map(|c| format!("{c:#x}")).collect();
        let query = serde_json::json!({ "cookies": cookies.join(",") });
        self.ask(Method::GET, &format!("{PREFIX}/node/flows{}", encode(&query)), String::new()).await
    }

    /// The OpenAPI document.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn openapi(&self) -> Result<serde_json::Value, ClientError> {
        self.ask(Method::GET, "/openapi.json", String::new()).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<T, ClientError> {
        let work = async {
            let response = self.send(method, path, body).await?;
            if !response.status().is_success() {
                return Err(refused(response).await);
            }
            let bytes = collect(response).await?;
            serde_json::from_slice(&bytes).map_err(|e| ClientError::Answer(e.to_string()))
        };
        tokio::time::timeout(PATIENCE, work).await.map_err(|_| ClientError::Timeout)?
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: String,
    ) -> Result<Response<Incoming>, ClientError> {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "weft");
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, "application/yaml");
        }
        let request =
            request.body(Full::new(Bytes::from(body))).map_err(|e| ClientError::Answer(e.to_string()))?;
        match &self.target {
            Target::Unix(path) => {
                let to = path.display().to_string();
                let failed = |e: std::io::Error| ClientError::Connect { to: to.clone(), why: e.to_string() };
                exchange(UnixStream::connect(path).await.map_err(failed)?, request, &to).await
            }
            Target::Tcp { address, name, config } => {
                let failed =
                    |e: std::io::Error| ClientError::Connect { to: address.clone(), why: e.to_string() };
                let stream = TcpStream::connect(address).await.map_err(failed)?;
                let tls = TlsConnector::from(Arc::clone(config));
                exchange(tls.connect(name.clone(), stream).await.map_err(failed)?, request, address).await
            }
        }
    }
}

async fn exchange<T>(
    stream: T,
    request: Request<Full<Bytes>>,
    to: &str,
) -> Result<Response<Incoming>, ClientError>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let failed = |e: hyper::Error| ClientError::Connect { to: to.to_owned(), why: e.to_string() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // It ends by itself when the answer has been read or dropped.
    tokio::spawn(connection);
    sender.send_request(request).await.map_err(failed)
}

async fn collect(response: Response<Incoming>) -> Result<Bytes, ClientError> {
    let body = Limited::new(response.into_body(), MAX_ANSWER);
    Ok(body.collect().await.map_err(|e| ClientError::Answer(e.to_string()))?.to_bytes())
}

async fn refused(response: Response<Incoming>) -> ClientError {
    let status = response.status().as_u16();
    match collect(response).await.map(|bytes| serde_json::from_slice::<ErrorAnswer>(&bytes)) {
        Ok(Ok(answer)) => ClientError::Refused(ApiError { status, body: Box::new(answer.error) }),
        Ok(Err(_)) => ClientError::Answer(format!("status {status}")),
        Err(error) => error,
    }
}

fn path(object: &ObjectRef) -> String {
    format!("{PREFIX}/{}/{}", object.kind.plural(), escape(&object.name))
}

/// A query of the fields of a value that are there.
fn encode(query: &impl Serialize) -> String {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(query) else { return String::new() };
    let mut text = String::new();
    for (key, value) in fields {
        let value = match value {
            serde_json::Value::Null => continue,
            serde_json::Value::String(value) => value,
            other => other.to_string(),
        };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(&format!("{}={}", escape(&key), escape(&value)));
    }
    text
}

/// Percent-encoding of all but unreserved characters (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let keep = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    text.bytes().map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// The lines of a watch.
#[derive(Debug)]
pub struct WatchStream {
    body: Incoming,
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no end of line.
    searched: usize,
}

impl WatchStream {
    /// The next event; `None` when the server ended the watch. May be dropped while it waits without losing one.
    ///
    /// # Errors
    /// [`ClientError::Answer`] for lines that are no events, and when the connection breaks off.
    pub async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                return serde_json::from_slice(&line)
                    .map(Some)
                    .map_err(|e| ClientError::Answer(e.to_string()));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                return Err(ClientError::Answer("a line of the watch is too long".to_owned()));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClientError::Answer(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}
