//! Is a verdict right for other packets than the one it was made for? Packets that a cache takes for the same.

use weft_flow::{
    CACHED_WORDS, CT_EST, CT_NEW, CT_TRK, CT_WORDS, DpAction, EXTRA_CT, EXTRA_TUNNEL, FlowKey, PACKET_WORDS,
    TUNNEL_WORDS, Verdict,
};

/// Keys of the copies that recirculate by a verdict, in some state.
pub fn copies(key: &FlowKey, actions: &[DpAction], noise: u64) -> Vec<FlowKey> {
    let mut out = Vec::new();
    for action in actions {
        match action {
            DpAction::Recirc(recirc) => {
                let mut key = *key;
                key.packet.recirc_id = recirc.id;
                if noise & 8 == 0 {
                    key.packet.extras |= EXTRA_CT;
                    key.ct.state = CT_TRK | if noise & 1 == 0 { CT_NEW } else { CT_EST };
                    (key.ct.mark, key.ct.zone) = (noise as u32 & 3, noise as u16 & 7);
                    key.ct.dp_hash = noise as u32 >> 4;
                }
                out.push(key);
            }
            DpAction::Clone(list) => out.extend(copies(key, list, noise)),
            DpAction::CheckPktLen { greater, not_greater, .. } => {
                out.extend(copies(key, greater, noise));
                out.extend(copies(key, not_greater, noise));
            }
            _ => {}
        }
    }
    out
}

/// A key that agrees with `key` where `mask` looks and is like `noise` elsewhere.
pub fn twin(key: &FlowKey, verdict: &Verdict, noise: &[u64]) -> FlowKey {
    let mut twin = *key;
    let tunnel = key.packet.extras & EXTRA_TUNNEL != 0;
    let tracked = key.packet.extras & EXTRA_CT != 0;
    let ct = CACHED_WORDS - CT_WORDS..CACHED_WORDS;
    for (i, word) in twin.words_mut()[..CACHED_WORDS].iter_mut().enumerate() {
        let present =
            i < PACKET_WORDS || tunnel && i < PACKET_WORDS + TUNNEL_WORDS || tracked && ct.contains(&i);
        if !present {
            continue;
        }
        let mask = verdict.mask.words()[i];
        *word = *word & mask | noise[i % noise.len()].rotate_left(i as u32) & !mask;
    }
    twin
}

/// Whether two verdicts are the same, found by looking at the same.
pub fn same(a: &Verdict, b: &Verdict) -> bool {
    same_but_for_mask(a, b) && a.mask == b.mask
}

/// Whether two verdicts are the same. What was looked at may differ: of several reasons why a rule does not match, one is
/// enough.
pub fn same_but_for_mask(a: &Verdict, b: &Verdict) -> bool {
    let refresh =
        a.refresh.iter().map(|r| (r.bridge, r.port)).eq(b.refresh.iter().map(|r| (r.bridge, r.port)));
    let rules = a
        .rules
        .iter()
        .map(|r| (r.bridge, r.table, r.cookie))
        .eq(b.rules.iter().map(|r| (r.bridge, r.table, r.cookie)));
    a.actions == b.actions
        && a.drop == b.drop
        && a.cacheable == b.cacheable
        && a.deps == b.deps
        && refresh
        && rules
        && a.effects.len() == b.effects.len()
        && a.counters.len() == b.counters.len()
}
