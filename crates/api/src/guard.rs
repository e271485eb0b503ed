//! Who may ask, and how much?
//!
//! Whoever can open the unix socket may ask. Over TCP one shows a certificate that the server's CA signed, or the token.
//! Requests are counted against a token bucket, and only so many are worked on at once.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, header};
use axum::middleware::Next;
use axum::response::IntoResponse;
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Limits of a server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Requests per second that last.
    pub requests_per_second: u32,
    /// Requests that may come at once after a pause.
    pub burst: u32,
    /// Requests that are worked on at once; more of them wait.
    pub in_flight: usize,
    /// Watches at once.
    pub watches: usize,
    /// Connections at once, for each listener.
    pub connections: usize,
    /// How long a request may take, from its headers to the beginning of the answer.
    pub timeout: Duration,
    /// How often an idle watch hears a bookmark.
    pub bookmark: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            requests_per_second: 2_000,
            burst: 4_000,
            in_flight: 64,
            watches: 256,
            connections: 1_024,
            timeout: Duration::from_secs(30),
            bookmark: Duration::from_secs(15),
        }
    }
}

/// From where a connection comes; set by whoever accepts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// The unix socket.
    Local,
    /// TLS, with a certificate that was verified or without one.
    Remote { certificate: bool },
}

/// Limits and how much of them is used.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) limits: Limits,
    token: Option<String>,
    bucket: Mutex<(f64, Instant)>,
    working: Semaphore,
    pub(crate) watches: Arc<Semaphore>,
}

impl Guard {
    pub(crate) fn new(limits: Limits, token: Option<String>) -> Self {
        Self {
            bucket: Mutex::new((f64::from(limits.burst), Instant::now())),
            working: Semaphore::new(limits.in_flight.max(1)),
            watches: Arc::new(Semaphore::new(limits.watches)),
            token: token.filter(|t| !t.is_empty()),
            limits,
        }
    }

    /// Takes one request out of the bucket, if there is one.
    fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let (level, last) = *bucket;
        let gained =
            now.saturating_duration_since(last).as_secs_f64() * f64::from(self.limits.requests_per_second);
        let level = (level + gained).min(f64::from(self.limits.burst));
        let admitted = level >= 1.0;
        *bucket = (if admitted { level - 1.0 } else { level }, now);
        admitted
    }

    fn knows(&self, peer: Option<Peer>, request: &Request) -> bool {
        match peer {
            Some(Peer::Local | Peer::Remote { certificate: true }) => true,
            Some(Peer::Remote { certificate: false }) | None => {
                let shown = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
                let shown = shown.and_then(|v| v.strip_prefix("Bearer ")).map(str::trim);
                self.token
                    .as_ref()
                    .zip(shown)
                    .is_some_and(|(want, got)| same(want.as_bytes(), got.as_bytes()))
            }
        }
    }
}

/// Compares in a time that tells nothing about where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (x, y)| all | (x ^ y)) == 0
}

/// Lets a request through to its handler, or answers for it.
pub(crate) async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response<Body> {
    let peer = request.extensions().get::<Peer>().copied();
    if !guard.knows(peer, &request) {
        let message = "show a token (Authorization: Bearer …) or a client certificate";
        return ApiError::new(StatusCode::UNAUTHORIZED, "Unauthorized", message).into_response();
    }
    if !guard.admit(Instant::now()) {
        let message = format!("more than {} requests a second", guard.limits.requests_per_second);
        return ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message).into_response();
    }
    let work = async {
        let _permit = guard.working.acquire().await;
        next.run(request).await
    };
    match tokio::time::timeout(guard.limits.timeout, work).await {
        Ok(response) => response,
        Err(_) => {
            let message = format!("the request took longer than {:?}", guard.limits.timeout);
            ApiError::new(StatusCode::REQUEST_TIMEOUT, "Timeout", message).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket() {
        let limits = Limits { requests_per_second: 10, burst: 3, ..Limits::default() };
        let guard = Guard::new(limits, None);
        let start = Instant::now();
        let admitted = (0..10).filter(|_| guard.admit(start)).count();
        assert_eq!(admitted, 3);
        assert!(guard.admit(start + Duration::from_millis(150)));
        assert!(!guard.admit(start + Duration::from_millis(160)));
        assert_eq!((0..10).filter(|_| guard.admit(start + Duration::from_secs(60))).count(), 3);
    }

    #[test]
    fn tokens() {
        assert!(same(b"secret", b"secret"));
        assert!(!same(b"secret", b"secres") && !same(b"secret", b"secretx") && !same(b"", b"x"));
    }
}
