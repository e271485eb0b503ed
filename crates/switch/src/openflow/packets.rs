//! How do packets go to controllers, and come from them?

use weft_datapath::{Datapath, Execute, PacketIn};
use weft_flow::{DpPort, DropReason, FlowKey, Layout, OfPort, Verdict, extract_bare, extract_packet_vlans};
use weft_openflow::msg;
use weft_openflow::msg::packet_in::reason;
use weft_openflow::{ErrorCode, Version};
use weft_pipeline::{Frozen, PacketOut, Pipeline, Snapshot};

use super::packet_ins::{Admitted, Kind};
use super::{OpenFlow, flows};
use crate::bridge::{Bridge, World};

/// Smallest frame a packet-out may hold.
const MIN_FRAME: usize = 14;

impl OpenFlow {
    /// A packet for controllers of its bridge.
    pub(crate) fn on_packet_in(&mut self, world: &World, pipeline: &Pipeline, packet: PacketIn, now: u64) {
        let context = &packet.context;
        let in_port = OfPort(context.key.pipeline.in_port);
        let known = world.by_id(context.bridge).and_then(|b| b.by_ofport(in_port));
        if known.is_some_and(|i| i.flags.no_packet_in && context.reason == reason::NO_MATCH) {
            return;
        }
        let frozen = context.paused.as_ref().and_then(|p| p.0.downcast_ref::<Frozen>());
        let continuation = frozen
            .zip(world.by_id(context.bridge))
            .map(|(frozen, bridge)| Box::new(super::resume::pause(frozen, bridge, packet.in_port)));
        let of_packet =
            |b: &weft_pipeline::Bridge| msg::packet_in::PacketIn::options_of_packet(&context.key, &b.tlv);
        let options = (context.key.tun_metadata.present != 0)
            .then(|| pipeline.with_bridge(context.bridge, of_packet))
            .flatten();
        let mut message = self.spare.blank_packet_in();
        message.total_len = u32::try_from(packet.total_len).unwrap_or(u32::MAX);
        (message.reason, message.table_id, message.cookie) = (context.reason, context.table, context.cookie);
        msg::packet_in::PacketIn::write_metadata(&context.key, &mut message.metadata);
        message.options = options.unwrap_or_default();
        message.data = packet.frame;
        message.userdata.clone_from(&context.userdata);
        message.continuation = continuation;
        let mut waiting = Some(Waiting { controller: context.controller_id, message });
        let kind = if context.reason == reason::NO_MATCH { Kind::Miss } else { Kind::Action };
        let mut to = self.connections.values_mut().filter(|c| c.bridge == context.bridge).peekable();
        while let Some(connection) = to.next() {
            // The last has the packet itself; mostly there is but one.
            let mine = if to.peek().is_some() { waiting.clone() } else { waiting.take() };
            if let Some(mine) = mine
                && let Admitted::Send(mine) = connection.packet_ins.admit(kind, in_port, mine, now)
            {
                connection.send_packet_in(mine, &mut self.spare);
            }
        }
    }
}

/// A packet for a controller.
#[derive(Clone)]
pub(super) struct Waiting {
    /// Number of the controllers that are to have it.
    pub(super) controller: u16,
    pub(super) message: Box<msg::packet_in::PacketIn>,
}

/// A packet of a controller's that may go.
pub(super) struct Outgoing {
    message: Box<msg::packet_out::PacketOut>,
    key: Box<FlowKey>,
    port: DpPort,
}

/// Looks at a packet of a controller's. `None`: it is too short to be a frame, and nothing happens to it.
///
/// # Errors
/// It is not held here, no frame, from no port, or its actions do not fit it or use what there is not.
///
/// `vlans`: how many tags are looked behind.
pub(super) fn prepare(
    message: Box<msg::packet_out::PacketOut>,
    version: Version,
    bridge: &Bridge,
    tables: &weft_pipeline::Bridge,
    vlans: usize,
) -> Result<Option<Outgoing>, ErrorCode> {
    if message.buffer_id.is_some() {
        return Err(ErrorCode::OFPBRC_BUFFER_UNKNOWN);
    }
    let port = bridge.by_ofport(message.in_port()).and_then(|i| i.dp_port).unwrap_or(DpPort(u32::MAX));
    let given = &message.matching.key;
    let mut key = Box::new(FlowKey { tunnel: given.tunnel, pipeline: given.pipeline, ..FlowKey::default() });
    let frame = message.data.len() >= MIN_FRAME;
    if frame && read_headers(&message.data, port, vlans, &mut key).is_err() {
        return Err(ErrorCode::OFPBRC_BAD_PACKET);
    }
    message.check(version, &key.packet)?;
    flows::check_actions(&message.actions, tables)?;
    Ok(frame.then_some(Outgoing { message, key, port }))
}

/// Reads the headers of a packet that begins with what the pipeline section of its key says, behind at
/// most `vlans` tags.
pub(super) fn read_headers(
    data: &[u8],
    port: DpPort,
    vlans: usize,
    key: &mut FlowKey,
) -> Result<(), DropReason> {
    match key.pipeline.packet_type >> 16 {
        1 => {
            let eth_type = key.pipeline.packet_type as u16;
            extract_bare(data, eth_type, port.0, &mut key.packet, &mut Layout::default());
            Ok(())
        }
        _ => extract_packet_vlans(data, port.0, vlans, &mut key.packet).map(|_| ()),
    }
}

impl Outgoing {
    /// Sends it, as the tables given say, or else those that are published. What is left of the message is given back.
    pub(super) fn send(
        mut self,
        bridge: u32,
        tables: Option<&Snapshot>,
        pipeline: &Pipeline,
        datapath: &dyn Datapath,
        now: u64,
    ) -> Box<msg::packet_out::PacketOut> {
        let out = PacketOut { bridge, in_port: self.message.in_port(), actions: &self.message.actions };
        let verdict = match tables {
            Some(tables) => pipeline.packet_out_by(tables, &out, &self.key, now),
            None => pipeline.packet_out(&out, &self.key, now),
        };
        let frame = std::mem::take(&mut self.message.data);
        carry_out(verdict, frame, &self.key, self.port, datapath, now);
        self.message
    }
}

/// Does with a packet of a controller's what was decided, and counts it.
pub(super) fn carry_out(
    verdict: Verdict,
    frame: Vec<u8>,
    key: &FlowKey,
    in_port: DpPort,
    datapath: &dyn Datapath,
    now: u64,
) {
    let bare = if key.packet.packet_type() == 0 { 0 } else { key.packet.eth_type };
    let length = frame.len() as u64;
    verdict.rules.iter().for_each(|rule| rule.stats.credit(1, length, now));
    verdict.counters.iter().for_each(|counter| counter.credit(1, length, now));
    if !verdict.actions.is_empty()
        && let Err(e) = datapath.execute(Execute { frame, bare, in_port, actions: verdict.actions })
    {
        tracing::warn!("packet-out: {e}");
    }
}
