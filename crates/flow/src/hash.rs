//! How are keys hashed, fast and with a secret?
//!
//! Multiply-fold: two words, each with a part of the secret in them, are multiplied to 128 bits whose halves are
//! XORed. Who does not know the seed cannot choose packets that collide. Hashes are for tables in memory: they differ
//! between seeds and may differ between releases.

use crate::{FRAG_ANY, PacketKey};

/// Odd constants without pattern (digits of π), XORed with the seed: one for each word of a packet section.
pub(crate) const SALT: [u64; 18] = [
    0x243f_6a88_85a3_08d3,
    0x1319_8a2e_0370_7345,
    0xa409_3822_299f_31d1,
    0x082e_fa98_ec4e_6c89,
    0x4528_21e6_38d0_1377,
    0xbe54_66cf_34e9_0c6d,
    0xc0ac_29b7_c97c_50dd,
    0x3f84_d5b5_b547_0917,
    0x9216_d5d9_8979_fb1b,
    0xd131_0ba6_98df_b5ad,
    0x2ffd_72db_d01a_dfb7,
    0xb8e1_afed_6a26_7e97,
    0xba7c_9045_f12c_7f99,
    0x24a1_9947_b391_6cf7,
    0x0801_f2e2_858e_fc17,
    0x6369_20d8_7157_4e69,
    0xa458_fea3_f493_3d7f,
    0x0d95_748f_728e_b659,
];

/// The halves of a 128-bit product, XORed.
#[inline(always)]
pub(crate) fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl PacketKey {
    /// A 64-bit hash of the whole section, for an exact-match cache.
    #[inline]
    pub fn hash(&self, seed: u64) -> u64 {
        let w = self.words();
        let pair = |i: usize, j: usize| fold(w[i] ^ seed ^ SALT[i], w[j] ^ seed ^ SALT[j]);
        // Written out: the products do not depend on each other and overlap in the processor.
        let a = pair(0, 1).wrapping_add(pair(2, 3)).wrapping_add(pair(4, 5));
        let b = pair(6, 11);
        if self.eth_type == 0x0800 {
            // The words of IPv6, neighbour discovery and ARP are zero.
            return fold(a ^ w[12], b ^ seed ^ SALT[12]);
        }
        let a = a.wrapping_add(pair(7, 8)).wrapping_add(pair(9, 10));
        let b = b.wrapping_add(pair(12, 13)).wrapping_add(pair(14, 15));
        fold(a ^ w[16], b ^ seed ^ SALT[16])
    }

    /// A 32-bit hash of what names the connection: addresses, protocol and ports of IP, or else the Ethernet header
    /// and the label stack. Every fragment of a datagram hashes alike, because the ports are left out.
    ///
    /// For choosing the outer UDP source port (RFC 7348 §5), a queue, or a bond member.
    #[inline]
    pub fn flow_hash5(&self, seed: u64) -> u32 {
        let w = self.words();
        let is_ip = matches!(self.eth_type, 0x0800 | 0x86dd);
        let h = if is_ip {
            let ports = if self.ip_frag & FRAG_ANY == 0 {
                u64::from(self.tp_src) << 16 | u64::from(self.tp_dst)
            } else {
                0
            };
            // A fragment's protocol is not known in its later fragments (IPv6), so it does not count either.
            let proto = if self.ip_frag & FRAG_ANY == 0 { u64::from(self.ip_proto) << 32 } else { 0 };
            let addresses = if self.eth_type == 0x0800 {
                w[6]
            } else {
                fold(w[7] ^ seed ^ SALT[7], w[8] ^ seed ^ SALT[8])
                    .wrapping_add(fold(w[9] ^ seed ^ SALT[9], w[10] ^ seed ^ SALT[10]))
            };
            fold(addresses ^ seed ^ SALT[0], (ports | proto) ^ seed ^ SALT[1])
        } else {
            let ethernet = fold(w[1] ^ seed ^ SALT[0], (w[2] & 0x0000_ffff_ffff_ffff) ^ seed ^ SALT[1]);
            ethernet.wrapping_add(fold(w[4] ^ seed ^ SALT[2], w[5] ^ seed ^ SALT[3]))
        };
        let h = fold(h, seed ^ SALT[4]);
        (h ^ h >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PACKET_WORDS;
    use std::collections::HashSet;

    fn v4(src: u32, tp_src: u16) -> PacketKey {
        PacketKey {
            eth_type: 0x800,
            ipv4_src: src,
            ipv4_dst: 9,
            ip_proto: 17,
            tp_src,
            tp_dst: 53,
            ..PacketKey::default()
        }
    }

    #[test]
    fn flows_spread() {
        // 65,536 flows in 65,536 buckets: about 1/e of the buckets stay empty when the hash is good.
        for seed in [0, 1, 0x1234_5678_9abc_def0] {
            let keys = || (0..256).flat_map(|a| (0..256).map(move |p| v4(0x0a00_0000 + a, 1024 + p)));
            let full: HashSet<u64> = keys().map(|k| k.hash(seed) & 0xffff).collect();
            let five: HashSet<u32> = keys().map(|k| k.flow_hash5(seed) & 0xffff).collect();
            for used in [full.len(), five.len()] {
                assert!((40_000..43_000).contains(&used), "{used} buckets of seed {seed:x}");
            }
        }
    }

    #[test]
    fn every_word_and_the_seed_count() {
        let zero = PacketKey::default();
        assert_ne!(zero.hash(1), zero.hash(2));
        for bit in 0..PACKET_WORDS * 64 {
            let mut key = zero;
            key.words_mut()[bit / 64] |= 1 << (bit % 64);
            assert_ne!(key.hash(7), zero.hash(7), "bit {bit}");
        }
    }

    #[test]
    fn fragments_of_a_datagram_stay_together() {
        let mut first = v4(1, 1000);
        first.ip_frag = FRAG_ANY;
        let later = PacketKey { ip_frag: FRAG_ANY | crate::FRAG_LATER, tp_src: 0, tp_dst: 0, ..first };
        assert_eq!(first.flow_hash5(3), later.flow_hash5(3));
        assert_ne!(v4(1, 1000).flow_hash5(3), v4(1, 1001).flow_hash5(3));
    }
}
