//! How long may a message be? Checked before anything else is read of it, so that what is too short, too long or not
//! whole entries is `OFPBRC_BAD_LEN` whatever else is wrong with it.

use crate::Version;
use crate::codec::ofpt::*;

/// Bytes of the fixed part of a body, and the size of what may follow it any number of times; 0: nothing follows.
type Length = (usize, usize);

fn is(length: Length, bytes: usize) -> bool {
    let (fixed, entry) = length;
    match bytes.checked_sub(fixed) {
        Some(0) => true,
        Some(more) => entry != 0 && more.is_multiple_of(entry),
        None => false,
    }
}

/// Whether a body may be so long, by the type as OpenFlow 1.1 numbers it. Questions with long answers and experimenters'
/// messages are looked at in [`fits_nicira`] and by what reads them.
pub(crate) fn fits(version: Version, kind: u8, bytes: usize) -> bool {
    use Version::{V10, V13, V14, V15};
    let v10 = version == V10;
    let length = match kind {
        FEATURES_REQUEST | GET_CONFIG_REQUEST | BARRIER_REQUEST | BARRIER_REPLY | GET_ASYNC_REQUEST => (0, 0),
        FEATURES_REPLY if v10 => (24, 48),
        FEATURES_REPLY if version < V13 => (24, 64),
        FEATURES_REPLY => (24, 0),
        GET_CONFIG_REPLY | SET_CONFIG => (4, 0),
        PACKET_IN if v10 => (10, 1),
        PACKET_IN => (16, 1),
        MULTIPART_REPLY if v10 => (4, 1),
        MULTIPART_REPLY | QUEUE_GET_CONFIG_REPLY => (8, 1),
        FLOW_REMOVED if v10 => (80, 0),
        FLOW_REMOVED => (40, 8),
        PORT_STATUS if v10 => (56, 0),
        PORT_STATUS if version < V14 => (72, 0),
        PORT_STATUS => (48, 8),
        PACKET_OUT if v10 || version == V15 => (8, 1),
        PACKET_OUT => (16, 1),
        FLOW_MOD if v10 => (64, 8),
        FLOW_MOD => (40, 8),
        GROUP_MOD if version == V15 => (16, 8),
        GROUP_MOD => (8, 8),
        PORT_MOD if version >= V14 => (24, 8),
        PORT_MOD if v10 => (24, 0),
        PORT_MOD => (32, 0),
        TABLE_MOD if version >= V14 => (8, 8),
        TABLE_MOD => (8, 0),
        QUEUE_GET_CONFIG_REQUEST if v10 => (4, 0),
        QUEUE_GET_CONFIG_REQUEST => (8, 0),
        ROLE_REQUEST | ROLE_REPLY => (16, 0),
        GET_ASYNC_REPLY | SET_ASYNC if version >= V14 => (0, 8),
        GET_ASYNC_REPLY | SET_ASYNC => (24, 0),
        METER_MOD | BUNDLE_CONTROL => (8, 8),
        BUNDLE_ADD_MESSAGE => (8, 1),
        _ => (0, 1),
    };
    is(length, bytes)
}

/// Whether a version has one of Nicira's messages.
pub(crate) fn is_of_nicira(version: Version, subtype: u32) -> bool {
    match subtype {
        // Flow format, group-mod.
        12 | 31 => version == Version::V10,
        // Flow monitors: the ONF's from 1.3 on.
        21..=23 => version < Version::V13,
        // Asynchronous messages as properties.
        27 => version < Version::V14,
        _ => true,
    }
}

/// Whether the body of one of Nicira's messages may be so long, experimenter and subtype not counted.
pub(crate) fn fits_nicira(subtype: u32, bytes: usize) -> bool {
    let length = match subtype {
        // Roles, flow format, packet-in format, cancelled monitors.
        10..=12 | 16 | 21 => (4, 0),
        // Table numbers in flow-mods, number of the controller, flushed zone.
        15 | 20 | 29 => (8, 0),
        // Idle times, paused and resumed monitors, the question for tunnel options.
        18 | 22 | 23 | 25 => (0, 0),
        // Asynchronous messages.
        19 => (24, 0),
        // Flow-mod, flow removed, packet-in, tunnel options.
        13 => (32, 8),
        14 => (40, 1),
        17 => (24, 1),
        26 => (16, 8),
        // Tunnel options, flushed connections.
        24 | 32 => (8, 8),
        // Asynchronous messages as properties.
        27 => (0, 8),
        // Group-mod.
        31 => (16, 8),
        _ => (0, 1),
    };
    is(length, bytes)
}

/// Whether only switches send messages of a type, as OpenFlow 1.1 numbers them.
pub(crate) fn is_of_switch(kind: u8) -> bool {
    matches!(
        kind,
        FEATURES_REPLY
            | GET_CONFIG_REPLY
            | PACKET_IN
            | FLOW_REMOVED
            | PORT_STATUS
            | MULTIPART_REPLY
            | BARRIER_REPLY
            | QUEUE_GET_CONFIG_REPLY
            | ROLE_REPLY
            | GET_ASYNC_REPLY
            | ROLE_STATUS
            | TABLE_STATUS
            | REQUESTFORWARD
            | CONTROLLER_STATUS
    )
}

/// Whether only switches send this message of Nicira's.
pub(crate) fn is_of_switch_nicira(subtype: u32) -> bool {
    // Role reply, flow removed, packet-in, monitors paused and resumed, tunnel options, packet-in with properties.
    matches!(subtype, 11 | 14 | 17 | 22 | 23 | 26 | 30)
}
