//! A packet goes to the controller and may come back to go on: `NXT_PACKET_IN2` and `NXT_RESUME`.
//!
//! Both are lists of properties. The continuation among them is for the switch alone: a controller hands it back as it
//! got it. Its numbers are those of Open vSwitch, so that `ovs-ofctl monitor` can show what it holds.

use weft_flow::{Action, Match};

use super::packet_in::{PacketIn, buffer_id};
use super::prop::{PropertyKind, nested, next_property, property};
use crate::actions::{Scope, Track, decode_actions, encode_actions};
use crate::bytes::{Put, Reader};
use crate::matches::{Dialect, decode_into, encode_options, encode_tlvs};
use crate::{ErrorCode, Version};

const NXPINT_PACKET: u16 = 0;
const NXPINT_FULL_LEN: u16 = 1;
const NXPINT_BUFFER_ID: u16 = 2;
const NXPINT_TABLE_ID: u16 = 3;
const NXPINT_COOKIE: u16 = 4;
const NXPINT_REASON: u16 = 5;
const NXPINT_METADATA: u16 = 6;
const NXPINT_USERDATA: u16 = 7;
const NXPINT_CONTINUATION: u16 = 8;

const NXCPT_BRIDGE: u16 = 0x8000;
const NXCPT_STACK: u16 = 0x8001;
const NXCPT_MIRRORS: u16 = 0x8002;
const NXCPT_CONNTRACKED: u16 = 0x8003;
const NXCPT_TABLE_ID: u16 = 0x8004;
const NXCPT_COOKIE: u16 = 0x8005;
const NXCPT_ACTIONS: u16 = 0x8006;
const NXCPT_ACTION_SET: u16 = 0x8007;
const NXCPT_ODP_PORT: u16 = 0x8008;

/// Actions that are still to be executed, of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PausedActions {
    /// Table of the rule.
    pub table_id: u8,
    /// Its cookie.
    pub cookie: u64,
    /// The actions.
    pub actions: Vec<Action>,
}

/// Where a packet's walk was paused. Registers, metadata and tunnel fields are in the packet-in's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// UUID of the bridge; zeros: none.
    pub bridge: [u8; 16],
    /// What is on the stack, the top first; each in network order.
    pub stack: Vec<Vec<u8>>,
    /// Mirrors that have the packet already.
    pub mirrors: u32,
    /// Whether connection tracking has seen the packet.
    pub conntracked: bool,
    /// What is left to do, in order.
    pub actions: Vec<PausedActions>,
    /// The action set.
    pub action_set: Vec<Action>,
    /// Port of the datapath that the packet came by.
    pub odp_port: Option<u32>,
}

impl PacketIn {
    /// Reads `NXT_PACKET_IN2`, in which unknown properties are skipped, or `NXT_RESUME`, in which they are refused.
    pub(crate) fn decode_nxt2(version: Version, strict: bool, r: Reader<'_>) -> Result<Self, ErrorCode> {
        let mut packet = PacketIn::default();
        packet.read_nxt2(version, strict, r)?;
        Ok(packet)
    }

    /// As [`PacketIn::decode_nxt2`], into a packet of which nothing is said.
    pub(crate) fn read_nxt2(
        &mut self,
        version: Version,
        strict: bool,
        mut r: Reader<'_>,
    ) -> Result<(), ErrorCode> {
        let p = self;
        let (mut full_len, mut told) = (None, false);
        while !r.is_empty() {
            let mut property = next_property(&mut r)?;
            let body = &mut property.body;
            match property.kind {
                PropertyKind::Standard(NXPINT_PACKET) => p.data = body.rest().to_vec(),
                PropertyKind::Standard(NXPINT_FULL_LEN) => full_len = Some(body.u32()?),
                PropertyKind::Standard(NXPINT_BUFFER_ID) => p.buffer_id = buffer_id(body.u32()?),
                PropertyKind::Standard(NXPINT_TABLE_ID) => p.table_id = body.u8()?,
                PropertyKind::Standard(NXPINT_COOKIE) => {
                    body.skip(4)?;
                    p.cookie = body.u64()?;
                }
                PropertyKind::Standard(NXPINT_REASON) => p.reason = body.u8()?,
                PropertyKind::Standard(NXPINT_METADATA) => {
                    if std::mem::replace(&mut told, true) {
                        *p.metadata = Match::any();
                    }
                    p.options = decode_into(body.rest(), None, strict, &mut p.metadata)?;
                }
                PropertyKind::Standard(NXPINT_USERDATA) => p.userdata = body.rest().to_vec(),
                PropertyKind::Standard(NXPINT_CONTINUATION) => {
                    p.continuation = Some(Box::new(Continuation::decode(version, body)?));
                }
                other if strict => return Err(other.unknown()),
                _ => {}
            }
        }
        p.total_len = full_len.unwrap_or(p.data.len() as u32);
        if strict && (p.data.is_empty() || (p.total_len as usize) < p.data.len()) {
            return Err(ErrorCode::OFPBRC_BAD_LEN);
        }
        Ok(())
    }

    /// Appends `NXT_PACKET_IN2`, or with `resume` `NXT_RESUME`, which has no user data.
    pub(crate) fn encode_nxt2(&self, version: Version, resume: bool, out: &mut Vec<u8>) {
        property(out, NXPINT_PACKET, |out| out.bytes(&self.data));
        if self.total_len as usize != self.data.len() {
            property(out, NXPINT_FULL_LEN, |out| out.u32(self.total_len));
        }
        if let Some(id) = self.buffer_id {
            property(out, NXPINT_BUFFER_ID, |out| out.u32(id));
        }
        property(out, NXPINT_TABLE_ID, |out| out.u8(self.table_id));
        put_cookie(out, NXPINT_COOKIE, Some(self.cookie).filter(|c| *c != u64::MAX));
        property(out, NXPINT_REASON, |out| out.u8(self.wire_reason(version)));
        let dialect = if version >= Version::V12 { Dialect::Oxm(version) } else { Dialect::Nxm };
        property(out, NXPINT_METADATA, |out| {
            encode_tlvs(dialect, &self.metadata, None, out);
            encode_options(dialect, &self.options, out);
        });
        if !self.userdata.is_empty() && !resume {
            property(out, NXPINT_USERDATA, |out| out.bytes(&self.userdata));
        }
        if let Some(continuation) = &self.continuation {
            nested(out, NXPINT_CONTINUATION, |out| continuation.encode(version, out));
        }
    }
}

/// A 64-bit number in a property is aligned by four zeros before it.
fn put_cookie(out: &mut Vec<u8>, kind: u16, cookie: Option<u64>) {
    if let Some(cookie) = cookie {
        property(out, kind, |out| {
            out.zeros(4);
            out.u64(cookie);
        });
    }
}

impl Continuation {
    fn decode(version: Version, r: &mut Reader<'_>) -> Result<Self, ErrorCode> {
        r.skip(4)?;
        let scope = Scope::new(version);
        let mut out = Continuation::default();
        let (mut table_id, mut cookie) = (0, 0);
        while !r.is_empty() {
            let mut property = next_property(r)?;
            let body = &mut property.body;
            match property.kind {
                PropertyKind::Standard(NXCPT_BRIDGE) => out.bridge = body.array()?,
                PropertyKind::Standard(NXCPT_STACK) => out.stack.push(body.rest().to_vec()),
                PropertyKind::Standard(NXCPT_MIRRORS) => out.mirrors = body.u32()?,
                PropertyKind::Standard(NXCPT_CONNTRACKED) => out.conntracked = true,
                PropertyKind::Standard(NXCPT_TABLE_ID) => table_id = body.u8()?,
                PropertyKind::Standard(NXCPT_COOKIE) => {
                    body.skip(4)?;
                    cookie = body.u64()?;
                }
                PropertyKind::Standard(NXCPT_ACTIONS) => {
                    body.skip(4)?;
                    let actions = decode_actions(scope, body.rest())?;
                    out.actions.push(PausedActions { table_id, cookie, actions });
                }
                PropertyKind::Standard(NXCPT_ACTION_SET) => {
                    body.skip(4)?;
                    out.action_set = decode_actions(scope, body.rest())?;
                }
                PropertyKind::Standard(NXCPT_ODP_PORT) => out.odp_port = Some(body.u32()?),
                other => return Err(other.unknown()),
            }
        }
        Ok(out)
    }

    fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if self.bridge != [0; 16] {
            property(out, NXCPT_BRIDGE, |out| out.bytes(&self.bridge));
        }
        for value in &self.stack {
            property(out, NXCPT_STACK, |out| out.bytes(value));
        }
        if self.mirrors != 0 {
            property(out, NXCPT_MIRRORS, |out| out.u32(self.mirrors));
        }
        if self.conntracked {
            property(out, NXCPT_CONNTRACKED, |_| {});
        }
        let list = |kind: u16, actions: &[Action], out: &mut Vec<u8>| {
            nested(out, kind, |out| {
                encode_actions(&mut Track::new(version, &Match::any()), actions, out);
            });
        };
        let (mut table_id, mut cookie) = (0, 0);
        for part in &self.actions {
            if part.table_id != table_id {
                property(out, NXCPT_TABLE_ID, |out| out.u8(part.table_id));
            }
            put_cookie(out, NXCPT_COOKIE, Some(part.cookie).filter(|c| *c != cookie));
            (table_id, cookie) = (part.table_id, part.cookie);
            list(NXCPT_ACTIONS, &part.actions, out);
        }
        if !self.action_set.is_empty() {
            list(NXCPT_ACTION_SET, &self.action_set, out);
        }
        if let Some(port) = self.odp_port {
            property(out, NXCPT_ODP_PORT, |out| out.u32(port));
        }
    }
}
