//! A controller sends a packet: `OFPT_PACKET_OUT`.

use weft_flow::{Action, Field, Instructions, Match, OfPort, PacketKey};

use super::packet_in::{buffer_id, put_buffer_id};
use super::port::port;
use crate::actions::{self, Refusal, Scope, Track, decode_actions, encode_actions};
use crate::bytes::{Put, Reader};
use crate::matches::{decode_match_into, encode_match};
use crate::{ErrorCode, Version};

/// EtherType of IPv6.
const IPV6: u16 = 0x86dd;

/// `OFPT_PACKET_OUT`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketOut {
    /// A packet the switch holds, instead of `data`.
    pub buffer_id: Option<u32>,
    /// What the packet comes with: `in_port` always; in OpenFlow 1.5 maybe tunnel fields and registers.
    pub matching: Match,
    /// What to do with it.
    pub actions: Vec<Action>,
    /// The frame.
    pub data: Vec<u8>,
}

impl PacketOut {
    /// A frame that counts as received by `in_port`.
    pub fn new(in_port: OfPort, actions: Vec<Action>, data: Vec<u8>) -> Self {
        PacketOut { buffer_id: None, matching: only_in_port(in_port), actions, data }
    }
    /// The port the packet counts as received by.
    pub fn in_port(&self) -> OfPort {
        OfPort(self.matching.key.pipeline.in_port)
    }

    /// Whether the actions fit the frame, of which `packet` holds the headers (OpenFlow 1.3 §6.4); OpenFlow 1.0 does
    /// not ask for that.
    ///
    /// # Errors
    /// As for the actions of a rule that matches just this packet.
    pub fn check(&self, version: Version, packet: &PacketKey) -> Result<(), ErrorCode> {
        let mut matching = Match::any();
        matching.key.packet = *packet;
        if packet.packet_type() != 0 {
            matching.set(Field::PacketType, packet.packet_type().into());
        }
        for field in [Field::EthType, Field::VlanTci, Field::NwProto, Field::IpFrag] {
            field.mask_add(&mut matching.mask, u128::MAX);
        }
        let types = if packet.eth_type == IPV6 { Field::Icmpv6Type } else { Field::IcmpType };
        types.mask_add(&mut matching.mask, u128::MAX);
        let instructions = Instructions { apply: self.actions.clone(), ..Instructions::default() };
        actions::check(version, &matching, &instructions)
    }

    /// Reads a message over what was said before.
    pub(crate) fn read(&mut self, version: Version, mut r: Reader<'_>) -> Result<(), Refusal> {
        self.buffer_id = buffer_id(r.u32()?);
        let actions_len = match version {
            Version::V10 => {
                self.matching = only_in_port(OfPort::from_u16(r.u16()?));
                r.u16()?
            }
            Version::V15 => {
                let actions_len = r.u16()?;
                r.skip(2)?;
                self.matching = Match::any();
                if !decode_match_into(&mut r, &mut self.matching)?.is_empty() {
                    return Err(ErrorCode::NXFMFC_INVALID_TLV_FIELD.into());
                }
                if !of_pipeline(&self.matching) {
                    return Err(ErrorCode::OFPBRC_PIPELINE_FIELDS_ONLY.into());
                }
                actions_len
            }
            _ => {
                self.matching = only_in_port(port(r.u32()?)?);
                let actions_len = r.u16()?;
                r.skip(6)?;
                actions_len
            }
        };
        if !valid_in_port(&self.matching) {
            return Err(ErrorCode::OFPBRC_BAD_PORT.into());
        }
        let list = r.take(usize::from(actions_len))?;
        self.actions = decode_actions(Scope::new(version), list)?;
        self.data = r.rest().to_vec();
        Ok(())
    }

    pub(crate) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_buffer_id(self.buffer_id, out);
        let at = match version {
            Version::V10 => {
                out.u16(self.in_port().to_u16().unwrap_or(0xffff));
                out.u16(0);
                out.len() - 2
            }
            Version::V15 => {
                let at = out.len();
                out.u32(0);
                encode_match(version, &self.matching, out);
                at
            }
            _ => {
                out.u32(self.in_port().0);
                out.zeros(8);
                out.len() - 8
            }
        };
        let start = out.len();
        encode_actions(&mut Track::new(version, &self.matching), &self.actions, out);
        out.patch_u16(at, out.len() - start);
        out.bytes(&self.data);
    }
}

/// A match of nothing but the input port.
pub(crate) fn only_in_port(port: OfPort) -> Match {
    let mut m = Match::any();
    Field::InPort.set(&mut m.key, port.0.into());
    Field::InPort.mask_add(&mut m.mask, u128::MAX);
    m
}

/// Whether nothing of the packet itself is said (OpenFlow 1.5 §7.3.6).
fn of_pipeline(m: &Match) -> bool {
    m.mask.0.packet == Default::default()
}

/// A port that a packet can come from: a real one, or one of the switch's own.
fn valid_in_port(m: &Match) -> bool {
    let port = OfPort(m.key.pipeline.in_port);
    m.mask.0.pipeline.in_port == u32::MAX
        && (!port.is_reserved() || [OfPort::LOCAL, OfPort::CONTROLLER, OfPort::ANY].contains(&port))
}
