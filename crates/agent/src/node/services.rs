//! Where do packets wait for nobody? On a thread of their own, from the bridge's socket and back to it.
//!
//! A lease crosses half a dozen tasks. On one thread they hand it on without waking another processor, and a node that is
//! busy with its flows does not keep them from it.

use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// A thread for tasks; they end with it, and it ends when this is dropped.
pub(super) struct Services {
    handle: Handle,
    _stop: oneshot::Sender<()>,
}

impl Services {
    pub(super) fn start() -> io::Result<Services> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        thread::Builder::new().name("weft-services".to_owned()).spawn(move || {
            // Nobody says anything: the other end is dropped.
            let _ = runtime.block_on(stopped);
            runtime.shutdown_background();
        })?;
        Ok(Services { handle, _stop: stop })
    }

    /// What is spawned meanwhile is spawned there.
    pub(super) fn within<T>(&self, spawn: impl FnOnce() -> T) -> T {
        let _there = self.handle.enter();
        spawn()
    }
}
