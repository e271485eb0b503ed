//! How is a port's connection with its frontend made, and made again? A thread per port: it connects with growing
//! pauses, or listens, and serves one frontend at a time.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use vhost::vhost_user::{BackendReqHandler, VhostUserBackendReqHandlerMut};
use weft_host::poll::{Epoll, Event, EventFd, interest, wait_readable};
use weft_host::unix;

use super::frontend::Frontend;
use super::{Device, PAIRS};
use crate::contract::{VhostMode, VhostSpec};
use crate::shared::lock;

/// First pause after a connection that failed; each is twice the one before,
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A frontend that stayed for so long is one worth connecting to at once.
const STAYED: Duration = Duration::from_secs(1);

/// What the session last knew of the frontend.
#[derive(Debug, Default)]
pub(super) struct Status {
    pub(super) connected: bool,
    pub(super) numa_node: Option<u32>,
}

/// The socket's side of a port.
pub(super) struct Session {
    path: PathBuf,
    listener: Option<UnixListener>,
    /// Rings when the thread is to end.
    stop: EventFd,
    stopped: AtomicBool,
    /// The connection that is served, to be shut down by whoever stops the session.
    current: Mutex<Option<UnixStream>>,
}

impl Session {
    /// Listens, if that is asked for.
    pub(super) fn open(spec: &VhostSpec) -> io::Result<Session> {
        let listener = match spec.mode {
            VhostMode::Client => None,
            VhostMode::Server => Some(unix::listen(&spec.path)?),
        };
        Ok(Session {
            path: spec.path.clone(),
            listener,
            stop: EventFd::new()?,
            stopped: AtomicBool::new(false),
            current: Mutex::new(None),
        })
    }

    /// Has the thread end.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.stop.ring();
        if let Some(stream) = &*lock(&self.current) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        if self.listener.is_some() {
            // Who comes now finds nobody.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }

    /// Serves frontends until the session is stopped.
    pub(super) fn run(&self, device: &Arc<Device>) {
        let mut pause = FIRST_PAUSE;
        while !self.is_stopped() {
            let began = Instant::now();
            match self.connect() {
                Ok(Some(stream)) => {
                    self.serve(device, stream);
                    if began.elapsed() >= STAYED {
                        pause = FIRST_PAUSE;
                    }
                }
                Ok(None) => continue,
                Err(_) => {}
            }
            if wait_readable(&self.stop, pause.as_millis() as u32).is_err() {
                // Cannot happen with a valid descriptor; never spin on it.
                std::thread::sleep(pause);
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The next connection; `None`: look again.
    fn connect(&self) -> io::Result<Option<UnixStream>> {
        let Some(listener) = &self.listener else { return unix::connect(&self.path).map(Some) };
        let epoll = Epoll::new()?;
        epoll.add(listener, interest::READ, 0)?;
        epoll.add(&self.stop, interest::READ, 1)?;
        epoll.wait(&mut [Event::EMPTY; 2], None)?;
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                Ok(Some(stream))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Serves a frontend until it is gone, or says what it may not.
    fn serve(&self, device: &Arc<Device>, stream: UnixStream) {
        let (Ok(copy), Ok(early)) = (stream.try_clone(), stream.try_clone()) else { return };
        *lock(&self.current) = Some(copy);
        lock(&device.status).connected = true;
        if !self.is_stopped() {
            let frontend = Arc::new(Mutex::new(Frontend::new(Arc::clone(device))));
            let mut handler = BackendReqHandler::from_stream(stream, Arc::clone(&frontend));
            // A request that nobody thought of must not take the port with it.
            let served = std::panic::AssertUnwindSafe(|| {
                while take_early(&early, &frontend).is_ok() && handler.handle_request().is_ok() {}
            });
            let _ = std::panic::catch_unwind(served);
            lock(&frontend).leave();
        }
        *lock(&device.status) = Status::default();
        *lock(&self.current) = None;
        device.tell();
    }
}

/// Takes requests that QEMU makes earlier than they are defined to be: it enables queues before it acknowledges that there
/// are such requests (VHOST_USER_F_PROTOCOL_FEATURES), which the library does not take.
fn take_early(mut stream: &UnixStream, frontend: &Mutex<Frontend>) -> io::Result<()> {
    const SET_VRING_ENABLE: [u8; 4] = 18u32.to_le_bytes();
    const NEED_REPLY: u8 = 1 << 3;
    // Request, flags, length of what follows: index and state, four bytes each.
    let mut message = [0u8; 20];
    while !lock(frontend).has_features() {
        let seen = unix::peek(stream, &mut message[..12])?;
        if seen < 12 || message[..4] != SET_VRING_ENABLE || message[8..12] != 8u32.to_le_bytes() {
            break;
        }
        stream.read_exact(&mut message)?;
        let word =
            |at: usize| u32::from_le_bytes([message[at], message[at + 1], message[at + 2], message[at + 3]]);
        let done = lock(frontend).set_vring_enable(word(12), word(16) == 1);
        if message[4] & NEED_REPLY != 0 {
            // Version 1, a reply.
            let mut reply = [18, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            reply[12] = u8::from(done.is_err());
            stream.write_all(&reply)?;
        }
        done.map_err(io::Error::other)?;
    }
    Ok(())
}

/// What there is to tell of a port, in the words of ovs-vswitchd.conf.db(5).
pub(super) fn status(device: &Device) -> Vec<(String, String)> {
    let mut told = Vec::new();
    let mut tell = |key: &str, value: String| told.push((key.to_owned(), value));
    let status = lock(&device.status);
    tell("mode", if device.spec.mode == VhostMode::Client { "client" } else { "server" }.into());
    tell("status", if status.connected { "connected" } else { "disconnected" }.into());
    if !status.connected {
        return told;
    }
    tell("socket", device.spec.path.display().to_string());
    tell("features", format!("{:#018x}", device.features.load(Ordering::Relaxed)));
    if let Some(node) = status.numa_node {
        tell("numa", node.to_string());
    }
    drop(status);
    let sizes: Vec<(usize, u16)> =
        (0..2 * PAIRS).filter_map(|i| Some((i, lock(&device.queues[i]).ring_size()?))).collect();
    tell("num_of_vrings", sizes.len().to_string());
    for (index, size) in sizes {
        tell(&format!("vring_{index}_size"), size.to_string());
    }
    let broken = device.broken.load(Ordering::Relaxed);
    if broken > 0 {
        tell("broken_vrings", broken.to_string());
    }
    told
}
