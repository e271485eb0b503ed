//! Which action of a message was it that was refused?

use crate::actions::{ActionKind, Refusal};
use crate::bytes::Reader;
use crate::error::NICIRA;
use crate::frame::{HEADER_LEN, Header};
use crate::msg::flow::FlowMod;
use crate::msg::packet_out::PacketOut;
use crate::{Codec, ErrorCode, Version};

const OFPT_EXPERIMENTER: u8 = 4;
const OFPT_PACKET_OUT: u8 = 13;
const OFPT_FLOW_MOD: u8 = 14;
const NXT_FLOW_MOD: u32 = 13;

impl Codec {
    /// The action or instruction for which [`Codec::decode`] refused a flow-mod or packet-out: for logs, as the error
    /// message names none. `None`: the message is fine, is another one, or something else is wrong with it.
    pub fn refused_action(&self, message: &[u8]) -> Option<ActionKind> {
        let header = Header::parse(message).ok()?;
        let mut r = Reader::new(message.get(HEADER_LEN..)?, ErrorCode::OFPBRC_BAD_LEN);
        let refusal: Refusal = match (header.kind, self.version) {
            (OFPT_PACKET_OUT, version) => PacketOut::default().read(version, r).err()?,
            (OFPT_FLOW_MOD, Version::V10) => FlowMod::decode10(self.table_ids, r).err()?,
            (OFPT_FLOW_MOD, version) => FlowMod::default().read11(version, r).err()?,
            (OFPT_EXPERIMENTER, Version::V10) => {
                let ours = (r.u32().ok()?, r.u32().ok()?) == (NICIRA, NXT_FLOW_MOD);
                FlowMod::decode_nxt(self.table_ids, r).err().filter(|_| ours)?
            }
            _ => return None,
        };
        refusal.action
    }
}
