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

/// What Open vSwitch's user-space tracker takes without a policy; it has no `tcp_retransmit`, Linux has this one.
const DEFAULTS: [u32; NAMES.len()] = [30, 30, 86_400, 900, 900, 45, 30, 30, 30, 300, 30, 60, 60, 30, 60, 30];

/// Where a timeout of TCP stands; the compiler finds it.
const fn index(name: &str) -> usize {
    let mut at = 0;
    while at < NAMES.len() {
        let (a, b) = (NAMES[at].as_bytes(), name.as_bytes());
        let mut same = a.len() == b.len();
        let mut i = 0;
        while same && i < a.len() {
            same = a[i] == b[i];
            i += 1;
        }
        if same {
            return at;
        }
        at += 1;
    }
    0
}

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
    pub(crate) fn lifetime_ms(&self, proto: &Proto) -> u64 {
        let at = match proto {
            Proto::Sctp(sctp) => return u64::from(sctp.state.seconds()) * 1000,
            Proto::Tcp(tcp) => {
                let [a, b] = tcp.peers.map(|p| p.state);
                let (early, late) = (a.min(b), a.max(b));
                let at = match (early, late) {
                    _ if tcp.is_unacknowledged() => const { index("tcp_unack") },
                    (TcpState::SynSent, TcpState::SynSent) => const { index("tcp_syn_sent2") },
                    (_, TcpState::TimeWait) => const { index("tcp_close") },
                    (TcpState::FinWait2, _) => const { index("tcp_time_wait") },
                    (TcpState::Closing, _) => const { index("tcp_last_ack") },
                    (TcpState::Closed, _) => const { index("tcp_syn_sent") },
                    (TcpState::SynSent, _) => const { index("tcp_syn_recv") },
                    (_, TcpState::FinWait2) => const { index("tcp_close_wait") },
                    (_, TcpState::Closing) => const { index("tcp_fin_wait") },
                    _ => const { index("tcp_established") },
                };
                let least = if tcp.is_resent() { const { index("tcp_retransmit") } } else { at };
                if self.seconds[least] < self.seconds[at] { least } else { at }
            }
            Proto::Icmp { answered: false } => 14,
            Proto::Icmp { answered: true } => 15,
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
    use crate::tcp::Tcp;

    #[test]
    fn timeouts_are_set_by_name() {
        let mut policy = TimeoutPolicy::default();
        assert_eq!(policy.get("tcp_established"), Some(86_400));
        policy.set("udp_first", 7).unwrap();
        assert_eq!(policy.lifetime_ms(&Proto::Other { answered: false, many: false }), 7000);
        let tcp = |a, b| {
            let mut tcp = Tcp::default();
            (tcp.peers[0].state, tcp.peers[1].state) = (a, b);
            policy.lifetime_ms(&Proto::Tcp(tcp)) / 1000
        };
        use TcpState::{Closed, Closing, Established, FinWait2, SynSent, TimeWait};
        assert_eq!(tcp(Established, Established), 86_400);
        assert_eq!(tcp(Established, FinWait2), 900);
        for (a, b, name) in [
            (SynSent, Closed, "tcp_syn_sent"),
            (SynSent, SynSent, "tcp_syn_sent2"),
            (Established, SynSent, "tcp_syn_recv"),
            (Closing, Established, "tcp_fin_wait"),
            (FinWait2, Established, "tcp_close_wait"),
            (FinWait2, Closing, "tcp_last_ack"),
            (FinWait2, FinWait2, "tcp_time_wait"),
            (TimeWait, TimeWait, "tcp_close"),
        ] {
            assert_eq!(Some(tcp(a, b)), policy.get(name).map(u64::from), "{name}");
            let mut other = TimeoutPolicy { seconds: [1; NAMES.len()] };
            other.set(name, 77).unwrap();
            let mut state = Tcp::default();
            (state.peers[0].state, state.peers[1].state) = (a, b);
            assert_eq!(other.lifetime_ms(&Proto::Tcp(state)), 77_000, "{name}");
        }
        assert_eq!(policy.set("tcp_nap", 1), Err(UnknownTimeout("tcp_nap".to_owned())));
    }
}
