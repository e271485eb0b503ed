//! How do packets go to controllers, and come from them?

use weft_datapath::{Datapath, Execute, PacketIn};
use weft_flow::{DpPort, FlowKey, OfPort, Verdict, extract_packet};
use weft_openflow::ErrorCode;
use weft_openflow::msg;
use weft_openflow::msg::packet_in::reason;
use weft_pipeline::{Frozen, PacketOut, Pipeline};

use super::OpenFlow;
use super::packet_ins::{Admitted, Kind};
use crate::bridge::World;

/// Smallest frame a packet-out may hold.
const MIN_FRAME: usize = 14;

impl OpenFlow {
    /// A packet for controllers of its bridge.
    pub(crate) fn on_packet_in(&mut self, world: &World, packet: PacketIn, now: u64) {
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
        let message = msg::packet_in::PacketIn {
            buffer_id: None,
            total_len: u32::try_from(packet.total_len).unwrap_or(u32::MAX),
            reason: context.reason,
            table_id: context.table,
            cookie: context.cookie,
            metadata: msg::packet_in::PacketIn::metadata_of(&context.key),
            data: packet.frame,
            userdata: context.userdata.clone(),
            continuation,
        };
        let waiting = Waiting { controller: context.controller_id, message };
        let kind = if context.reason == reason::NO_MATCH { Kind::Miss } else { Kind::Action };
        for connection in self.connections.values_mut().filter(|c| c.bridge == context.bridge) {
            if let Admitted::Send(waiting) = connection.packet_ins.admit(kind, in_port, waiting.clone(), now)
            {
                connection.send_packet_in(waiting);
            }
        }
    }
}

/// A packet for a controller.
#[derive(Clone)]
pub(super) struct Waiting {
    /// Number of the controllers that are to have it.
    pub(super) controller: u16,
    pub(super) message: msg::packet_in::PacketIn,
}

/// Sends a packet of a controller's.
pub(super) fn packet_out(
    bridge: u32,
    m: &msg::packet_out::PacketOut,
    pipeline: &Pipeline,
    datapath: &dyn Datapath,
    world: &World,
    now: u64,
) -> Result<(), ErrorCode> {
    if m.buffer_id.is_some() {
        return Err(ErrorCode::OFPBRC_BUFFER_UNKNOWN);
    }
    if m.data.len() < MIN_FRAME {
        return Ok(());
    }
    let in_port = m.in_port();
    let port = world.by_id(bridge).and_then(|b| b.by_ofport(in_port)).and_then(|i| i.dp_port);
    let dp_port = port.unwrap_or(DpPort(u32::MAX));
    let mut key =
        FlowKey { tunnel: m.matching.key.tunnel, pipeline: m.matching.key.pipeline, ..FlowKey::default() };
    if extract_packet(&m.data, dp_port.0, &mut key.packet).is_err() {
        return Err(ErrorCode::OFPBRC_BAD_PACKET);
    }
    let verdict = pipeline.packet_out(&PacketOut { bridge, in_port, actions: &m.actions }, &key, now);
    carry_out(verdict, m.data.clone(), dp_port, datapath, now);
    Ok(())
}

/// Does with a packet of a controller's what was decided, and counts it.
pub(super) fn carry_out(
    verdict: Verdict,
    frame: Vec<u8>,
    in_port: DpPort,
    datapath: &dyn Datapath,
    now: u64,
) {
    let length = frame.len() as u64;
    verdict.rules.iter().for_each(|rule| rule.stats.credit(1, length, now));
    verdict.counters.iter().for_each(|counter| counter.credit(1, length, now));
    if !verdict.actions.is_empty()
        && let Err(e) = datapath.execute(Execute { frame, in_port, actions: verdict.actions })
    {
        tracing::warn!("packet-out: {e}");
    }
}
