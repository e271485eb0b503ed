//! How do `ovs-appctl` and `weft` ask the running switch for things? JSON-RPC 1.0 on `<daemon>.<pid>.ctl`.
//!
//! Each group of commands is a file with one table, `COMMANDS`.

mod absent;
mod bond;
mod bridge;
mod client;
mod conntrack;
mod database;
mod datapath;
mod flows;
mod general;
mod log;
mod protocols;
mod tools;
mod trace;
mod tunnel;
mod upcall;
mod why;

use std::collections::HashMap;

use serde_json::Value;
use weft_ovsdb::rpc::{Decoder, FrameLimits, Message};

pub use client::{ClientError, call};
pub(crate) use tools::tick;

use crate::control::Control;
use crate::process::paths::Daemon;
use crate::stream::{Conn, ConnId};

/// What a command says, or why it failed.
type Answer = Result<String, String>;

/// A command.
struct Command {
    /// The daemons that have it.
    daemons: &'static [Daemon],
    name: &'static str,
    /// Arguments, for people.
    usage: &'static str,
    /// Fewest and most arguments.
    arguments: (usize, usize),
    run: fn(&mut Control, &[String]) -> Answer,
}

/// A command of the switch.
const fn command(
    name: &'static str,
    usage: &'static str,
    arguments: (usize, usize),
    run: fn(&mut Control, &[String]) -> Answer,
) -> Command {
    Command { daemons: SWITCH, name, usage, arguments, run }
}

const SWITCH: &[Daemon] = &[Daemon::Vswitchd];
const DATABASE: &[Daemon] = &[Daemon::OvsdbServer];
const BOTH: &[Daemon] = &Daemon::ALL;

const GROUPS: &[&[Command]] = &[
    bond::COMMANDS,
    bridge::COMMANDS,
    conntrack::COMMANDS,
    database::COMMANDS,
    datapath::COMMANDS,
    flows::COMMANDS,
    general::COMMANDS,
    log::COMMANDS,
    protocols::COMMANDS,
    trace::COMMANDS,
    tunnel::COMMANDS,
    upcall::COMMANDS,
    why::COMMANDS,
];

/// What one peer asked for.
pub(crate) struct Call {
    daemon: Daemon,
    id: Value,
    method: String,
    params: Vec<Value>,
}

/// Control connections.
#[derive(Default)]
pub(crate) struct Unixctl {
    peers: HashMap<ConnId, Peer>,
    /// What commands keep.
    pub(crate) tools: tools::Tools,
}

struct Peer {
    conn: Conn,
    daemon: Daemon,
    decoder: Decoder,
}

impl Unixctl {
    pub(crate) fn opened(&mut self, conn: Conn, daemon: Daemon) {
        let limits = FrameLimits { bytes: 1 << 20, depth: 16, values: 1 << 12 };
        self.peers.insert(conn.id, Peer { conn, daemon, decoder: Decoder::new(limits) });
    }

    pub(crate) fn closed(&mut self, conn: ConnId) {
        self.peers.remove(&conn);
    }

    /// The calls that `bytes` complete. A peer that does not speak JSON-RPC is cut off.
    pub(crate) fn received(&mut self, conn: ConnId, bytes: &[u8]) -> Vec<Call> {
        let Some(peer) = self.peers.get_mut(&conn) else { return Vec::new() };
        peer.decoder.feed(bytes);
        let mut calls = Vec::new();
        while let Some(found) = peer.decoder.next() {
            match found.and_then(Message::from_json) {
                Ok(Message::Request { id, method, params }) => {
                    calls.push(Call { daemon: peer.daemon, id, method, params });
                }
                Ok(_) => {}
                Err(e) => {
                    tracing::warn!("{e}");
                    self.peers.remove(&conn);
                    break;
                }
            }
        }
        calls
    }

    pub(crate) fn answer(&mut self, conn: ConnId, call: Call, answer: Answer) {
        let Some(peer) = self.peers.get(&conn) else { return };
        let (result, error) = match answer {
            Ok(text) => (Value::String(lines(text)), Value::Null),
            Err(text) => (Value::Null, Value::String(lines(text))),
        };
        let reply = serde_json::json!({"id": call.id, "result": result, "error": error});
        if peer.conn.send(reply.to_string().into_bytes()).is_err() {
            self.peers.remove(&conn);
        }
    }
}

/// Text that is not empty ends its last line.
fn lines(mut text: String) -> String {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// Runs a call. `None`: it is answered when the database is compacted.
pub(crate) fn execute(control: &mut Control, call: &Call) -> Option<Answer> {
    let answer = run(control, call);
    let later = call.method == database::COMPACT && answer.is_ok() && control.db.is_compacting();
    (!later).then_some(answer)
}

/// Looks the command up, checks its arguments, and runs it.
fn run(control: &mut Control, call: &Call) -> Answer {
    let name = &call.method;
    let params: Option<Vec<String>> = call.params.iter().map(|p| p.as_str().map(str::to_owned)).collect();
    let Some(params) = params else { return Err(format!("\"{name}\" command has non-string argument")) };
    let Some(command) = commands(call.daemon).find(|c| c.name == *name) else {
        if let Some(why) = absent::why(name).filter(|_| call.daemon == Daemon::Vswitchd) {
            return Err(format!("{name} is not offered: {why}"));
        }
        return Err(format!(
            "\"{name}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
    };
    let (least, most) = command.arguments;
    if params.len() < least {
        return Err(format!("\"{name}\" command requires at least {least} arguments"));
    }
    if params.len() > most {
        return Err(format!("\"{name}\" command takes at most {most} arguments"));
    }
    control.unixctl_daemon = call.daemon;
    (command.run)(control, &params)
}

fn commands(daemon: Daemon) -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|group| group.iter()).filter(move |c| c.daemons.contains(&daemon))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_bounds_are_in_order() {
        for daemon in Daemon::ALL {
            let mut names: Vec<_> = commands(daemon).map(|c| c.name).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", daemon.name());
        }
        assert!(GROUPS.iter().flat_map(|g| g.iter()).all(|c| c.arguments.0 <= c.arguments.1));
        assert!(absent::names().all(|name| commands(Daemon::Vswitchd).all(|c| c.name != name)));
    }
}
