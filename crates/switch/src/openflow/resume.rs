//! How does a packet wait for its controller, and go on when the controller says so?
//!
//! The rest of the walk goes to the controller in the packet-in and comes back in `NXT_RESUME`; the switch keeps
//! nothing.

use weft_datapath::Datapath;
use weft_flow::{Action, DpPort, EXTRA_CT, EXTRA_TUN_METADATA, Field, FlowKey};
use weft_openflow::msg::packet_in::{PacketIn, reason};
use weft_openflow::msg::packet_in2::{Continuation, PausedActions};
use weft_openflow::{ErrorCode, match_with_options};
use weft_pipeline::{Frozen, FrozenFrame, Pipeline};

use crate::bridge::Bridge;

/// Bytes of a value on the stack.
const VALUE: usize = 16;

/// What a packet-in says of the rest of a walk.
pub(super) fn pause(frozen: &Frozen, bridge: &Bridge, port: DpPort) -> Continuation {
    let mut actions = Vec::new();
    let mut action_set = frozen.action_set.clone();
    if let Some(table) = frozen.table {
        actions.push(PausedActions { table_id: 0, cookie: u64::MAX, actions: vec![goto(table)] });
    }
    for frame in &frozen.frames {
        let mut list = frame.actions.clone();
        if let Some(rest) = &frame.rest {
            if rest.clear {
                action_set.clear();
            }
            action_set.extend(rest.write.iter().cloned());
            if let Some((value, mask)) = rest.metadata {
                list.push(Action::SetField {
                    field: Field::Metadata,
                    value: value.into(),
                    mask: mask.into(),
                    load: false,
                });
            }
            list.extend(rest.goto.map(goto));
        }
        actions.push(PausedActions { table_id: frame.table, cookie: frame.cookie, actions: list });
    }
    Continuation {
        bridge: bridge.uuid.into_bytes(),
        stack: frozen.stack.iter().rev().map(|v| v.to_be_bytes().to_vec()).collect(),
        mirrors: 0,
        conntracked: frozen.conntracked,
        actions,
        action_set,
        odp_port: (port.0 != u32::MAX).then_some(port.0),
    }
}

/// Going on in a table is a look-up there.
fn goto(table: u8) -> Action {
    Action::Resubmit { port: None, table: Some(table), ct: false }
}

/// Lets a packet go on that its controller gives back.
///
/// # Errors
/// It is not of this bridge, not a frame, or has no rest of a walk.
pub(super) fn resume(
    packet: &PacketIn,
    bridge: &Bridge,
    pipeline: &Pipeline,
    datapath: &dyn Datapath,
    now: u64,
) -> Result<(), ErrorCode> {
    let Some(rest) = &packet.continuation else { return Err(ErrorCode::NXR_NOT_SUPPORTED) };
    if rest.bridge != bridge.uuid.into_bytes() {
        return Err(ErrorCode::NXR_STALE);
    }
    let tlv = pipeline.with_bridge(bridge.id, |b| b.tlv.clone()).unwrap_or_default();
    let given = &match_with_options(&packet.metadata, &packet.options, &tlv)?.key;
    let mut key =
        FlowKey { tunnel: given.tunnel, pipeline: given.pipeline, ct: given.ct, ..FlowKey::default() };
    let in_port = DpPort(rest.odp_port.unwrap_or(u32::MAX));
    super::packets::read_headers(&packet.data, in_port, datapath.tuning().vlan_limit, &mut key)
        .map_err(|_| ErrorCode::OFPBRC_BAD_PACKET)?;
    if given.tun_metadata.present != 0 {
        key.tun_metadata = given.tun_metadata;
        key.packet.extras |= EXTRA_TUN_METADATA;
    }
    if rest.conntracked {
        key.packet.extras |= EXTRA_CT;
    }
    let value = |bytes: &Vec<u8>| {
        let mut wide = [0; VALUE];
        let n = bytes.len().min(VALUE);
        wide[VALUE - n..].copy_from_slice(&bytes[bytes.len() - n..]);
        u128::from_be_bytes(wide)
    };
    let frame = |paused: &PausedActions| FrozenFrame {
        table: paused.table_id,
        cookie: paused.cookie,
        reason: reason::ACTION,
        actions: paused.actions.clone(),
        rest: None,
    };
    let frozen = Frozen {
        bridge: bridge.id,
        frames: rest.actions.iter().map(frame).collect(),
        stack: rest.stack.iter().rev().map(value).collect(),
        action_set: rest.action_set.clone(),
        pipeline: given.pipeline,
        conntracked: rest.conntracked,
        ..Frozen::default()
    };
    let verdict = pipeline.resume(&frozen, &key, now);
    super::packets::carry_out(verdict, packet.data.clone(), &key, in_port, datapath, now);
    Ok(())
}
