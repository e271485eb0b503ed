//! Which of several links does the packet take? `multipath` and `bundle`.

use weft_flow::{Bundle, BundleAlgorithm, FlowMask, HashFields, Multipath};

use super::{Origin, Walk};

impl<'a> Walk<'a> {
    pub(super) fn multipath(&mut self, m: &Multipath) {
        let hash = self.hash_fields(m.fields, m.basis.into());
        let link = m.algorithm.choose(hash, u32::from(m.max_link) + 1, m.arg);
        self.write(m.dst, link.into());
    }

    /// Outputs to one of several ports, or writes its number.
    pub(super) fn bundle(&mut self, b: &Bundle, origin: Origin) {
        let hash = match b.algorithm {
            BundleAlgorithm::ActiveBackup => 0,
            BundleAlgorithm::Hrw => self.hash_fields(b.fields, b.basis.into()),
        };
        let up = |i: usize| b.members.get(i).is_some_and(|port| self.is_up(*port));
        let port = b.algorithm.choose(hash, b.members.len(), up).and_then(|i| b.members.get(i).copied());
        match b.dst {
            Some(dst) => {
                let number = port.map_or(0xffff, |p| p.to_u16().unwrap_or(0xffff));
                self.write(dst, number.into());
            }
            None => match port {
                Some(port) => self.output(port, u16::MAX, origin),
                None => self.blame(weft_flow::DropReason::PortDown),
            },
        }
    }

    /// A hash of the packet.
    pub(super) fn hash_fields(&mut self, fields: HashFields, basis: u32) -> u32 {
        let mut looked = FlowMask::empty();
        fields.mask_add(&self.packet.key, &mut looked);
        self.look(&looked);
        fields.hash(&self.packet.key, basis)
    }
}
