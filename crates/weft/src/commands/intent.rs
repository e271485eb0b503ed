//! Whose are these flows? What the agent programmed carries its purpose in the cookie, and the agent knows the resource.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weft_api::{Client, FlowOwner};
use weft_compile::Cookie;

/// How long the agent may take to say whose flows are.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most cookies the agent is asked about at once.
const AT_ONCE: usize = 1_000;

/// What the agent's flows named in this text are for. An agent that does not answer leaves the resources open, not the
/// purposes: those are in the cookies.
pub(crate) fn owners(text: &str, rundir: &Path) -> Vec<FlowOwner> {
    let cookies = cookies(text);
    if cookies.is_empty() {
        return Vec::new();
    }
    let socket = std::env::var_os("WEFT_SOCKET").map(PathBuf::from);
    let socket = socket.unwrap_or_else(|| rundir.join("weft-agent.sock"));
    ask(&socket, &cookies).unwrap_or_else(|| cookies.iter().copied().filter_map(unnamed).collect())
}

/// The agent's answer; `None`: there is none.
fn ask(socket: &Path, cookies: &[u64]) -> Option<Vec<FlowOwner>> {
    if !socket.exists() {
        return None;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        let client = Client::unix(socket);
        let mut all = Vec::new();
        for part in cookies.chunks(AT_ONCE) {
            let told = tokio::time::timeout(PATIENCE, client.flows(part)).await;
            all.extend(told.ok()?.ok()?);
        }
        Some(all)
    })
}

/// What a cookie says by itself.
fn unnamed(cookie: u64) -> Option<FlowOwner> {
    let read = Cookie::from_u64(cookie)?;
    let purpose = read.purpose.about().to_owned();
    Some(FlowOwner { cookie: format!("{cookie:#x}"), object: None, purpose, drops: read.purpose.drops() })
}

/// The agent's cookies in a text, each once, in the order of their numbers.
fn cookies(text: &str) -> Vec<u64> {
    let parts = text.split("0x").skip(1);
    let number = |part: &str| {
        let end = part.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(part.len());
        u64::from_str_radix(part.get(..end)?, 16).ok().filter(|c| Cookie::from_u64(*c).is_some())
    };
    parts.filter_map(number).collect::<BTreeSet<u64>>().into_iter().collect()
}

/// For people: a line for each.
pub(crate) fn legend(owners: &[FlowOwner]) -> String {
    let line = |owner: &FlowOwner| {
        let object = owner.object.as_ref().map(|o| format!(" {o}:")).unwrap_or_default();
        format!("{}{object} {}", owner.cookie, owner.purpose)
    };
    owners.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_and_say_what_for() {
        let text =
            "br-int table 10 cookie=0x5703220000000007,priority=9 3\ncookie 0x77, 0x5703220000000007 0x 0xzz";
        assert_eq!(cookies(text), [0x5703_2200_0000_0007]);
        let owners = owners(text, Path::new("/nonexistent"));
        assert_eq!(
            legend(&owners),
            "0x5703220000000007 drops: sent from an IP address that is not the port's"
        );
    }
}
