//! How does the control task hear of changes in the host's network? A thread waits for them.

use std::io;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use weft_host::netlink::{Event, Monitor};

/// Changes that may wait. When they come faster than they are taken, the kernel drops some and says so.
const WAITING: usize = 1024;

/// Subscribes to changes in this thread's network namespace. The thread ends with the first change after the receiver
/// is gone.
pub(crate) fn watch() -> weft_host::Result<mpsc::Receiver<Event>> {
    let mut monitor = Monitor::open()?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let body = move || {
        if let Err(e) = forward(&mut monitor, &sender) {
            tracing::error!(target: "netlink", "changes of the network are not seen any more: {e}");
        }
    };
    std::thread::Builder::new()
        .name("weft-net".into())
        .stack_size(256 << 10)
        .spawn(body)
        .map_err(|e| weft_host::Error::os("start a thread", e))?;
    Ok(receiver)
}

fn forward(monitor: &mut Monitor, sender: &mpsc::Sender<Event>) -> io::Result<()> {
    loop {
        while let Some(event) = monitor.next_event()? {
            if sender.blocking_send(event).is_err() {
                return Ok(());
            }
        }
        match poll(&mut [PollFd::new(monitor.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}
