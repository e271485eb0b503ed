//! Where do flow-mods go that are done with? Back to the reader: they are too large to be made for each message anew.

use crate::Version;
use crate::actions::Refusal;
use crate::bytes::Reader;
use crate::msg::flow::FlowMod;

/// How many are kept: about as many as a few kilobytes of messages hold.
const MAX: usize = 64;

/// Flow-mods that may be written over. One serves any number of sessions.
#[derive(Debug, Default)]
pub struct Spare(Vec<Box<FlowMod>>);

impl Spare {
    /// Takes back a flow-mod.
    pub fn put(&mut self, flow_mod: Box<FlowMod>) {
        if self.0.len() < MAX {
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
