//! Where do flow-mods go that are done with? Back to the reader: they are too large to be made for each message anew.

use weft_flow::Instructions;

use crate::Version;
use crate::actions::Refusal;
use crate::bytes::Reader;
use crate::msg::flow::FlowMod;

/// How many are kept: about as many as a few kilobytes of messages hold.
const MAX: usize = 64;

/// Flow-mods that may be written over. One serves any number of sessions.
#[derive(Debug, Default)]
#[allow(clippy::vec_box, reason = "messages hold them boxed: the memory itself goes round")]
pub struct Spare(Vec<Box<FlowMod>>);

impl Spare {
    /// Takes back a flow-mod. Lists, which may be long, are not kept.
    pub fn put(&mut self, mut flow_mod: Box<FlowMod>) {
        if self.0.len() < MAX {
            (flow_mod.instructions, flow_mod.options) = (Instructions::default(), Vec::new());
            self.0.push(flow_mod);
        }
    }

    /// Reads a flow-mod of OpenFlow 1.1 or later.
    pub(crate) fn flow_mod(&mut self, version: Version, r: Reader<'_>) -> Result<Box<FlowMod>, Refusal> {
        let mut flow_mod = self.0.pop().unwrap_or_default();
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
            assert_eq!((refused, spare.0.len()), (Err(ErrorCode::OFPFMFC_BAD_FLAGS), 1));
        }
    }
}
