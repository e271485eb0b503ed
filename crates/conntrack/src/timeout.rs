//! How long does a connection live without packets?

use crate::conn::Proto;
use crate::tcp::TcpState;

/// Seconds, by the names of the columns of `CT_Timeout_Policy` (`ovs-vswitchd.conf.db(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutPolicy {
    seconds: [u32; NAMES.len()],
}

const NAMES: [&str; 16] = [
    "tcp_syn_sent",
    "tcp_syn_recv",
    "tcp_established",
    "tcp_fin_wait",
    "tcp_close_wait",
    "tcp_last_ack",
    "tcp_time_wait",
    "tcp_close",
    "tcp_syn_sent2",
    "tcp_retransmit",
    "tcp_unack",
    "udp_first",
    "udp_single",
    "udp_multiple",
    "icmp_first",
    "icmp_reply",
];

/// What Open vSwitch's user-space tracker takes without a policy.
const DEFAULTS: [u32; NAMES.len()] = [30, 30, 86_400, 45, 900, 30, 45, 30, 30, 30, 30, 60, 60, 30, 60, 30];

/// A name that is no timeout's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no timeout is called {0:?}")]
pub struct UnknownTimeout(pub String);

impl Default for TimeoutPolicy {
    fn default() -> Self {
        TimeoutPolicy { seconds: DEFAULTS }
    }
}

impl TimeoutPolicy {
    /// Names of all timeouts.
    pub fn names() -> &'static [&'static str] {
        &NAMES
    }

    /// Sets one timeout.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set(&mut self, name: &str, seconds: u32) -> Result<(), UnknownTimeout> {
        let at = NAMES.iter().position(|n| *n == name).ok_or_else(|| UnknownTimeout(name.to_owned()))?;
        self.seconds[at] = seconds;
        Ok(())
    }

    /// One timeout, in seconds.
    pub fn get(&self, name: &str) -> Option<u32> {
        NAMES.iter().position(|n| *n == name).map(|at| self.seconds[at])
    }

    /// Milliseconds that a connection in this state may be silent.
    pub(crate) fn lifetime_ms(&self, proto: &Proto, is_udp: bool) -> u64 {
        let at = match proto {
            Proto::Tcp(tcp) => {
                let [a, b] = tcp.peers.map(|p| p.state);
                if a >= TcpState::FinWait2 && b >= TcpState::FinWait2 {
                    7
                } else if a >= TcpState::Closing && b >= TcpState::Closing {
                    3
                } else if a < TcpState::Established || b < TcpState::Established {
                    0
                } else if a >= TcpState::Closing || b >= TcpState::Closing {
                    4
                } else {
                    2
                }
            }
            Proto::Icmp { answered: false } => 14,
            Proto::Icmp { answered: true } => 15,
            Proto::Other { answered: true, .. } if !is_udp => 13,
            Proto::Other { answered: true, .. } => 13,
            Proto::Other { many: true, .. } => 12,
            Proto::Other { .. } => 11,
        };
        u64::from(self.seconds[at]) * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_set_by_name() {
        let mut policy = TimeoutPolicy::default();
        assert_eq!(policy.get("tcp_established"), Some(86_400));
        policy.set("udp_first", 7).unwrap();
        assert_eq!(policy.lifetime_ms(&Proto::Other { answered: false, many: false }, true), 7000);
        assert_eq!(policy.set("tcp_nap", 1), Err(UnknownTimeout("tcp_nap".to_owned())));
    }
}
