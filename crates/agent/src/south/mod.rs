//! How does the agent speak with the switch? As any controller would, so that it drives Open vSwitch as well.
//!
//! ```text
//!   node ──Wanted──▶ Database (OVSDB) ──News──▶ node       bridges, ports, their numbers
//!   node ──Delta───▶ Flows (OpenFlow 1.5) ──Event─▶ node    bundles of flows; packets for services
//! ```
//! Each is one task that owns its connection, makes it again when it breaks, and says so.

mod database;
mod flows;
mod frames;
mod program;
mod punts;
mod view;
mod wanted;
mod watch;

pub use database::{Database, Views};
pub use flows::{Event, Flows};
pub use frames::{Outgoing, Punt, To};
pub use program::{GROUPS, program, replace};
pub use punts::{PuntSender, Punts};
pub use view::{Interface, Touched, View};
pub use wanted::{BRIDGE, Device, OWNER, Wanted};
pub use watch::Disturbed;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

/// Longest wait for an answer of the switch.
const PATIENCE: Duration = Duration::from_secs(20);
/// Waits between attempts to connect: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why something could not be told to the switch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SouthError {
    /// There is no connection now; everything is told again when there is.
    #[error("the switch cannot be reached at {0}")]
    Disconnected(String),
    /// Its database is empty: what stands there now would be nobody's, and be removed.
    #[error("the database at {0} is not a switch's yet: `ovs-vsctl --no-wait init` makes it one")]
    Uninitialised(String),
    /// It took too long.
    #[error("the switch did not answer within {} seconds", PATIENCE.as_secs())]
    Silent,
    /// The switch refused it.
    #[error("the switch refused {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        why: String,
    },
    /// It cannot be written in OpenFlow 1.5.
    #[error("{0}")]
    Encode(String),
}

/// Waits before the next attempt to connect; what is asked meanwhile is refused. False: nobody asks any more.
async fn idle<T>(wait: Duration, asked: &mut mpsc::Receiver<T>, mut refuse: impl FnMut(T)) -> bool {
    let pause = sleep(wait);
    tokio::pin!(pause);
    loop {
        tokio::select! {
            () = &mut pause => return true,
            question = asked.recv() => match question {
                Some(question) => refuse(question),
                None => return false,
            },
        }
    }
}
