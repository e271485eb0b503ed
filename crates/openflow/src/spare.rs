//! Where do messages go that are done with? Back to the reader: those with a match are too large to be made anew each time.

use weft_flow::Instructions;

use crate::actions::Refusal;
use crate::bytes::Reader;
use crate::msg::flow::FlowMod;
use crate::msg::packet_in::PacketIn;
use crate::msg::packet_out::PacketOut;
use crate::{ErrorCode, Version};

/// How many are kept: about as many as a few kilobytes of messages hold.
const MAX: usize = 64;

/// Messages that may be written over. One serves any number of sessions.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "messages hold them boxed: the memory itself goes round")]
pub struct Spare {
    flow_mods: Vec<Box<FlowMod>>,
    packet_ins: Vec<Box<PacketIn>>,
    packet_outs: Vec<Box<PacketOut>>,
}

impl Spare {
    /// Takes back a flow-mod. Lists, which may be long, are not kept.
    pub fn put(&mut self, mut flow_mod: Box<FlowMod>) {
        if self.flow_mods.len() < MAX {
            (flow_mod.instructions, flow_mod.options) = (Instructions::default(), Vec::new());
            self.flow_mods.push(flow_mod);
        }
    }

    /// A packet-in of which nothing is said yet.
    pub fn blank_packet_in(&mut self) -> Box<PacketIn> {
        self.packet_ins.pop().unwrap_or_default()
    }

    /// Takes back a packet-in, whose lists are not kept.
    pub fn put_packet_in(&mut self, mut packet: Box<PacketIn>) {
        if self.packet_ins.len() < MAX {
            packet.clear();
            self.packet_ins.push(packet);
        }
    }

    /// Takes back a packet-out, whose lists are not kept.
    pub fn put_packet_out(&mut self, mut packet: Box<PacketOut>) {
        if self.packet_outs.len() < MAX {
            (packet.actions, packet.data) = (Vec::new(), Vec::new());
            self.packet_outs.push(packet);
        }
    }

    /// Reads a packet-in of Nicira's second form.
    pub(crate) fn packet_in(&mut self, version: Version, r: Reader<'_>) -> Result<Box<PacketIn>, ErrorCode> {
        let mut packet = self.blank_packet_in();
        packet.read_nxt2(version, false, r)?;
        Ok(packet)
    }

    /// Reads a packet-out.
    pub(crate) fn packet_out(&mut self, version: Version, r: Reader<'_>) -> Result<Box<PacketOut>, Refusal> {
        let mut packet = self.packet_outs.pop().unwrap_or_default();
        packet.read(version, r)?;
        Ok(packet)
    }

    /// Reads a flow-mod of OpenFlow 1.1 or later.
    pub(crate) fn flow_mod(&mut self, version: Version, r: Reader<'_>) -> Result<Box<FlowMod>, Refusal> {
        let mut flow_mod = self.flow_mods.pop().unwrap_or_default();
        match flow_mod.read11(version, r) {
            Ok(()) => Ok(flow_mod),
            Err(refusal) => {
                self.put(flow_mod);
                Err(refusal)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_flow::{Action, Field, Instructions, Match, OfPort};

    use super::*;
    use crate::msg::flow::FlowCommand;
    use crate::msg::packet_in::PacketInFormat;
    use crate::{Codec, ErrorCode, Message};

    fn bytes(codec: Codec, flow_mod: &FlowMod) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec.encode(1, &Message::FlowMod(Box::new(flow_mod.clone())), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn nothing_stays_of_what_was_there_before() {
        let output = Action::Output { port: OfPort(2), max_len: 0 };
        let full = FlowMod {
            command: FlowCommand::ModifyStrict,
            table: Some(3),
            cookie: 5,
            cookie_mask: 7,
            new_cookie: None,
            idle_timeout: 1,
            hard_timeout: 2,
            priority: 9,
            buffer_id: Some(4),
            out_port: OfPort(1),
            out_group: 6,
            flags: 0x1f,
            importance: 8,
            matching: Match::any().with(Field::EthType, 0x0800).with(Field::IpSrc, 1).with(Field::Reg15, 2),
            options: Vec::new(),
            instructions: Instructions { goto: Some(9), clear: true, ..Instructions::apply(vec![output]) },
        };
        let small = FlowMod { table: Some(0), ..FlowMod::default() };
        let codec = Codec::new(Version::V14);
        let mut spare = Spare::default();
        for flow_mod in [&full, &small, &full, &small] {
            let mut bytes = bytes(codec, flow_mod);
            let Ok((1, Message::FlowMod(read))) = codec.decode_with(&bytes, &mut spare) else { panic!() };
            assert_eq!(*read, *flow_mod);
            spare.put(read);
            // Flags that there are not: refused when half of it is read, which then is written over as well.
            bytes[44..46].fill(0xff);
            let refused = codec.decode_with(&bytes, &mut spare).map(drop);
            assert_eq!((refused, spare.flow_mods.len()), (Err(ErrorCode::OFPFMFC_BAD_FLAGS), 1));
        }
    }

    #[test]
    fn nothing_stays_of_packets_either() {
        let mut codec = Codec::new(Version::V15);
        codec.packet_in_format = PacketInFormat::Nxt2;
        let metadata = Match::any().with(Field::InPort, 3).with(Field::Metadata, 7).with(Field::Reg3, 9);
        let full = PacketIn {
            total_len: 99,
            reason: 1,
            table_id: 4,
            cookie: 5,
            metadata: Box::new(metadata),
            data: vec![1; 60],
            userdata: vec![2; 9],
            ..PacketIn::default()
        };
        let small = PacketIn { total_len: 14, data: vec![3; 14], ..PacketIn::default() };
        let out = |port, length| {
            let mut out = PacketOut::new(
                OfPort(port),
                vec![Action::Output { port: OfPort(2), max_len: 0 }],
                vec![5; length],
            );
            if port == 1 {
                out.matching = out.matching.with(Field::Metadata, 7);
            }
            out
        };
        let mut spare = Spare::default();
        for (packet_in, packet_out) in [(&full, out(1, 60)), (&small, out(2, 14)), (&full, out(1, 60))] {
            let mut bytes = Vec::new();
            codec.encode(1, &Message::PacketIn(Box::new(packet_in.clone())), &mut bytes).unwrap();
            let Ok((1, Message::PacketIn(read))) = codec.decode_with(&bytes, &mut spare) else { panic!() };
            assert_eq!(*read, *packet_in);
            spare.put_packet_in(read);
            let mut bytes = Vec::new();
            codec.encode(1, &Message::PacketOut(Box::new(packet_out.clone())), &mut bytes).unwrap();
            let Ok((1, Message::PacketOut(read))) = codec.decode_with(&bytes, &mut spare) else { panic!() };
            assert_eq!(*read, packet_out);
            spare.put_packet_out(read);
            assert_eq!((spare.packet_ins.len(), spare.packet_outs.len()), (1, 1));
        }
    }
}
