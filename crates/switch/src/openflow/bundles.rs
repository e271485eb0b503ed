//! How do several messages take effect together, or none of them?
//!
//! ```text
//!   every message in its order: rules and groups into a copy of the tables; port-mods and packet-outs checked against it
//!        │ one is refused: nothing has happened
//!        ▼
//!   publish the copy ─▶ change ports ─▶ packets go, each by the tables as they were at its place in the bundle
//! ```

use weft_openflow::ErrorCode;
use weft_openflow::msg::port::PortMod;
use weft_openflow::session::{BundleCommit, ReplyTo, Request};
use weft_pipeline::Snapshot;

use super::execute::{Draft, Target};
use super::packets::{self, Outgoing};
use super::{OpenFlow, ports};
use crate::stream::ConnId;

/// What is done once everything was found to be right.
enum Later {
    Port(PortMod),
    /// A packet, and the tables that decide about it.
    Packet(Box<Outgoing>, Snapshot),
}

impl OpenFlow {
    /// Applies a bundle whole or not at all, and answers.
    pub(super) fn commit(
        &mut self,
        conn: ConnId,
        bridge: u32,
        to: &ReplyTo,
        commit: &BundleCommit,
        draft: &mut Draft,
        target: &mut Target<'_>,
    ) {
        // A bundle is seen whole or not at all, so it changes a copy.
        let before = (draft.open(target.pipeline).clone(), draft.done.len());
        let mut failed = None;
        let mut later = Vec::new();
        let mut messages = commit.messages();
        draft.told = None;
        while let Some((inner, request)) = messages.next(&mut self.spare) {
            if let Err(code) = self.bundled(conn, bridge, &inner, request, draft, &mut later, target) {
                failed = Some((inner, code));
                break;
            }
        }
        if failed.is_some() {
            draft.snapshot = Some(before.0);
            draft.done.truncate(before.1);
        } else {
            self.publish(draft, target);
            self.finish(bridge, later, target);
        }
        self.barrier = true;
        self.session(conn, |session| match &failed {
            None => session.reply_commit(to, Ok(())),
            Some((inner, code)) => session.reply_commit(to, Err((inner, *code))),
        });
    }

    /// Takes a message into the copy, or checks it and leaves it for later.
    #[allow(clippy::too_many_arguments, reason = "a message, who sent it, and everything it can touch")]
    fn bundled(
        &mut self,
        conn: ConnId,
        bridge: u32,
        to: &ReplyTo,
        request: Request,
        draft: &mut Draft,
        later: &mut Vec<Later>,
        target: &Target<'_>,
    ) -> Result<(), ErrorCode> {
        match request {
            Request::FlowMod(m) => self.flow_mod((conn, to.xid), bridge, m, draft, target),
            Request::GroupMod(m) => self.group_mod((conn, to.xid), bridge, &m, draft, target),
            Request::PortMod(m) => {
                let live = target.world.by_id(bridge).ok_or(ErrorCode::OFPPMFC_EPERM)?;
                ports::check(live, &m)?;
                later.push(Later::Port(m));
                Ok(())
            }
            Request::PacketOut(m) => {
                let version = self.version_of(conn)?;
                let snapshot = draft.open(target.pipeline);
                let live = target.world.by_id(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let tables = snapshot.bridge(bridge).ok_or(ErrorCode::OFPBRC_EPERM)?;
                let vlans = target.datapath.tuning().vlan_limit;
                if let Some(outgoing) = packets::prepare(m, version, live, tables, vlans)? {
                    later.push(Later::Packet(Box::new(outgoing), snapshot.clone()));
                }
                Ok(())
            }
            _ => Err(ErrorCode::OFPBFC_MSG_UNSUP),
        }
    }

    /// What was checked and published is followed by what goes out.
    fn finish(&mut self, bridge: u32, later: Vec<Later>, target: &mut Target<'_>) {
        for step in later {
            match step {
                Later::Port(m) => {
                    if let Err(code) = self.port_mod(bridge, &m, target) {
                        tracing::warn!("port {}: {code}", m.port_no.0);
                    }
                }
                Later::Packet(outgoing, tables) => {
                    let done =
                        outgoing.send(bridge, Some(&tables), target.pipeline, target.datapath, target.now);
                    self.spare.put_packet_out(done);
                    self.unsynced = true;
                }
            }
        }
    }
}
