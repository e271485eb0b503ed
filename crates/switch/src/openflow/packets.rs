//! How do packets go to controllers, and come from them?

use weft_datapath::{Datapath, Execute, PacketIn};
use weft_flow::{DpPort, FlowKey, OfPort, Verdict, extract_packet};
use weft_openflow::msg;
use weft_openflow::{ErrorCode, session::SwitchSession};
use weft_pipeline::{Frozen, PacketOut, Pipeline};

use super::OpenFlow;
use crate::bridge::World;

/// Smallest frame a packet-out may hold.
const MIN_FRAME: usize = 14;

impl OpenFlow {
    /// A packet for controllers of its bridge.
    pub(crate) fn on_packet_in(&mut self, world: &World, packet: PacketIn) {
        let context = &packet.context;
        let in_port = OfPort(context.key.pipeline.in_port);
        let known = world.by_id(context.bridge).and_then(|b| b.by_ofport(in_port));
        if known.is_some_and(|i| i.flags.no_packet_in && context.reason == msg::packet_in::reason::NO_MATCH) {
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
        let controller = context.controller_id;
        for session in self.sessions_of(context.bridge) {
            let mut message = message.clone();
            shorten(&mut message, session);
            session.packet_in(controller, message);
        }
    }
}

/// A packet that no rule matched is cut to what the controller wants of those.
fn shorten(message: &mut msg::packet_in::PacketIn, session: &SwitchSession) {
    let wanted = session.miss_send_len();
    if message.reason == msg::packet_in::reason::NO_MATCH && wanted != u16::MAX {
        message.data.truncate(usize::from(wanted));
    }
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
