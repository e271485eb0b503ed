//! What is known of a frame besides its bytes, from one pass through the lane to the next?
//!
//! While a batch is looked up these things stand in its keys. Actions that change them, or that have a frame looked up
//! again, work on the frame's own copy: [`Meta`].

use weft_flow::{
    CtKey, EXTRA_BARE, EXTRA_CT, EXTRA_TUN_METADATA, EXTRA_TUNNEL, FlowKey, TunMetadata, TunnelKey,
};

/// What a frame carries along. Sections count only if `extras` says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meta {
    /// Priority that chooses a queue; 0: the default. A device's queueing discipline hears of it, a TAP's does not.
    pub(crate) priority: u32,
    /// Packet mark, in the same way.
    pub(crate) mark: u32,
    /// If it was put together from fragments: the length of the longest, from the IP header on. Else 0.
    pub(crate) mru: u16,
    /// Of a packet without an Ethernet header, the EtherType it begins with; else 0. Such packets have no offloads.
    pub(crate) bare: u16,
    /// Which sections are filled in (`EXTRA_*`).
    pub(crate) extras: u16,
    /// Outer header it came in with.
    pub(crate) tunnel: TunnelKey,
    /// Connection tracking, and the hash.
    pub(crate) ct: CtKey,
    /// Tunnel options; the box is kept when they are not filled in.
    options: Option<Box<TunMetadata>>,
}

impl Meta {
    /// A frame that was just received: nothing is known of it.
    #[inline(always)]
    pub(crate) fn reset(&mut self) {
        (self.priority, self.mark, self.mru, self.bare, self.extras) = (0, 0, 0, 0, 0);
    }

    /// Takes the sections over from a key.
    pub(crate) fn load(&mut self, key: &FlowKey) {
        self.extras = key.packet.extras & !EXTRA_BARE;
        if self.extras & EXTRA_TUNNEL != 0 {
            self.tunnel = key.tunnel;
        }
        if self.extras & EXTRA_CT != 0 {
            self.ct = key.ct;
        }
        if self.extras & EXTRA_TUN_METADATA != 0 {
            **self.options.get_or_insert_default() = key.tun_metadata;
        }
    }

    /// Gives the sections to a key in which they are zero.
    pub(crate) fn store(&self, key: &mut FlowKey) {
        key.packet.extras = self.extras | self.extra_bare();
        if self.extras & EXTRA_TUNNEL != 0 {
            key.tunnel = self.tunnel;
        }
        if self.extras & EXTRA_CT != 0 {
            key.ct = self.ct;
        }
        if let Some(options) = self.options.as_deref().filter(|_| self.extras & EXTRA_TUN_METADATA != 0) {
            key.tun_metadata = *options;
        }
    }

    /// Becomes a copy of another.
    pub(crate) fn copy_from(&mut self, other: &Meta) {
        (self.priority, self.mark, self.mru) = (other.priority, other.mark, other.mru);
        (self.bare, self.extras) = (other.bare, other.extras);
        if self.extras & EXTRA_TUNNEL != 0 {
            self.tunnel = other.tunnel;
        }
        if self.extras & EXTRA_CT != 0 {
            self.ct = other.ct;
        }
        if let Some(options) = other.options.as_deref().filter(|_| self.extras & EXTRA_TUN_METADATA != 0) {
            **self.options.get_or_insert_default() = *options;
        }
    }

    /// The bit of a key's extras that says there is no Ethernet header.
    #[inline]
    pub(crate) fn extra_bare(&self) -> u16 {
        if self.bare == 0 { 0 } else { EXTRA_BARE }
    }

    /// The section of connection tracking and the hash, to change; filled in from now on.
    pub(crate) fn ct_mut(&mut self) -> &mut CtKey {
        if self.extras & EXTRA_CT == 0 {
            self.extras |= EXTRA_CT;
            self.ct = CtKey::default();
        }
        &mut self.ct
    }

    /// Forgets what connection tracking said; the hash stays.
    pub(crate) fn clear_ct(&mut self) {
        if self.extras & EXTRA_CT != 0 {
            self.ct = CtKey { dp_hash: self.ct.dp_hash, ..CtKey::default() };
            if self.ct.dp_hash == 0 {
                self.extras &= !EXTRA_CT;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_come_back_as_they_went() {
        let mut key = FlowKey::default();
        (key.tunnel.id, key.ct.mark, key.tun_metadata.present) = (1, 2, 3);
        for extras in 0..8 {
            key.packet.extras = extras;
            let (mut meta, mut copy, mut back) = (Meta::default(), Meta::default(), FlowKey::default());
            meta.load(&key);
            copy.copy_from(&meta);
            copy.store(&mut back);
            let wanted = |bit, value| if extras & bit != 0 { value } else { 0 };
            assert_eq!(back.tunnel.id, wanted(EXTRA_TUNNEL, 1));
            assert_eq!(back.ct.mark, wanted(EXTRA_CT, 2) as u32);
            assert_eq!(back.tun_metadata.present, wanted(EXTRA_TUN_METADATA, 3));
        }
    }

    #[test]
    fn clearing_leaves_the_hash() {
        let mut meta = Meta::default();
        meta.ct_mut().state = 0x21;
        meta.clear_ct();
        assert_eq!(meta.extras, 0);
        *meta.ct_mut() = CtKey { state: 0x21, dp_hash: 7, ..CtKey::default() };
        meta.clear_ct();
        assert_eq!((meta.extras, meta.ct.state, meta.ct.dp_hash), (EXTRA_CT, 0, 7));
    }
}
