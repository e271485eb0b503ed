//! How is a match written as a list of OXM or NXM fields (OpenFlow 1.3 §7.2.3, `ovs-fields(7)`)?

use std::sync::OnceLock;

use weft_flow::{Field, FlowMask, KEY_WORDS, Match, OfPort, OptionValue};

use super::options::decode_option;
use super::{TlvHeader, read_header, write_tlv};
use crate::bytes::{Put, Reader};
use crate::{ErrorCode, Version};

/// Which of several numbers of a field to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Nicira's, for OpenFlow 1.0.
    Nxm,
    /// Standard ones where the version has them.
    Oxm(Version),
}

/// `NXM_NX_COOKIE`: class 1, number 30, shared with the one-byte `NXM_NX_MPLS_TTL`; told apart by its length.
const NXM_NX_COOKIE: (u16, u8, usize) = (1, 30, 8);

/// Reads fields until the end of `bytes`, and the tunnel options that are matched besides. `cookie` takes value and
/// mask of `NXM_NX_COOKIE` where it is allowed. Unknown fields are an error if `strict`, else skipped.
pub(crate) fn decode_with_options(
    bytes: &[u8],
    cookie: Option<&mut (u64, u64)>,
    strict: bool,
) -> Result<(Match, Vec<OptionValue>), ErrorCode> {
    let mut m = Match::any();
    let options = decode_into(bytes, cookie, strict, &mut m)?;
    Ok((m, options))
}

/// As [`decode_with_options`], into `m`, which matches everything: a match is too large to be handed around.
pub(crate) fn decode_into(
    bytes: &[u8],
    mut cookie: Option<&mut (u64, u64)>,
    strict: bool,
    m: &mut Match,
) -> Result<Vec<OptionValue>, ErrorCode> {
    let mut options: Vec<OptionValue> = Vec::new();
    let mut r = Reader::new(bytes, ErrorCode::OFPBMC_BAD_LEN);
    while !r.is_empty() {
        let header = read_header(&mut r)?;
        let mut body = r.sub(header.body)?;
        if header.has_mask && !masked(body.rest()) {
            return Err(ErrorCode::OFPBMC_BAD_WILDCARDS);
        }
        if let Some(cookie) = cookie.as_deref_mut()
            && is_cookie(&header)
        {
            let value = body.u64()?;
            let mask = if header.has_mask { body.u64()? } else { u64::MAX };
            if cookie.1 != 0 {
                return Err(ErrorCode::OFPBMC_DUP_FIELD);
            }
            *cookie = (value & mask, mask);
            continue;
        }
        match header.field() {
            Some(field) if field.tun_metadata_index().is_some() => {
                if options.iter().any(|option| option.field == field) {
                    return Err(ErrorCode::OFPBMC_DUP_FIELD);
                }
                options.push(decode_option(field, &header, &mut body)?);
            }
            Some(field) => add_field(m, field, &header, &mut body)?,
            None if strict => return Err(ErrorCode::OFPBMC_BAD_FIELD),
            None => {}
        }
    }
    Ok(options)
}

/// Whether a value has no bits but those of the mask that follows it.
fn masked(body: &[u8]) -> bool {
    let (value, mask) = body.split_at(body.len() / 2);
    value.iter().zip(mask).all(|(value, mask)| value & !mask == 0)
}

fn is_cookie(header: &TlvHeader) -> bool {
    let (class, number, len) = NXM_NX_COOKIE;
    let body = if header.has_mask { 2 * len } else { len };
    header.class == class && header.number == number && header.body == body
}

fn add_field(
    m: &mut Match,
    field: Field,
    header: &TlvHeader,
    body: &mut Reader<'_>,
) -> Result<(), ErrorCode> {
    let bytes = usize::from(field.bytes());
    if header.body != if header.has_mask { 2 * bytes } else { bytes } {
        return Err(ErrorCode::OFPBMC_BAD_FIELD);
    }
    let value = body.number(bytes)?;
    let width_mask = if bytes == 16 { u128::MAX } else { (1 << (8 * bytes)) - 1 };
    let mask = if header.has_mask { body.number(bytes)? } else { width_mask };
    let full = field.value_mask();
    if !field.maskable() && mask != 0 && mask & full != full {
        return Err(ErrorCode::OFPBMC_BAD_MASK);
    }
    let port = [Field::InPort, Field::ActsetOutput].contains(&field);
    if value & !full != 0 || !field.accepts(value) || port && OfPort(value as u32).to_u16().is_none() {
        return Err(ErrorCode::OFPBMC_BAD_VALUE);
    }
    if !m.meets(field.prereq()) {
        return Err(ErrorCode::OFPBMC_BAD_PREREQ);
    }
    // Whoever matches headers of a frame has said that it is Ethernet.
    let said = field == Field::PacketType && m.mask.0.packet.words().iter().any(|w| *w != 0);
    if said || field.mask_of(&m.mask) != 0 {
        return Err(ErrorCode::OFPBMC_DUP_FIELD);
    }
    if mask & full != 0 {
        field.set(&mut m.key, value);
        field.mask_add(&mut m.mask, mask & full);
    }
    Ok(())
}

/// Appends every field of the match that the dialect can express, in an order that satisfies prerequisites.
/// `cookie`, if its mask is not zero, goes first.
pub(crate) fn encode_tlvs(dialect: Dialect, m: &Match, cookie: Option<(u64, u64)>, out: &mut Vec<u8>) {
    if let Some((value, mask)) = cookie.filter(|(_, mask)| *mask != 0) {
        let exact = mask == u64::MAX;
        let (class, number, len) = NXM_NX_COOKIE;
        let length = if exact { len } else { 2 * len };
        out.u32(u32::from(class) << 16 | u32::from(number) << 9 | u32::from(!exact) << 8 | length as u32);
        out.u64(value);
        if !exact {
            out.u64(mask);
        }
    }
    for (field, value, mask) in fields(dialect, m) {
        encode_field(dialect, field, value, mask, out);
    }
}

/// Appends a field, if the dialect has it. Returns whether.
pub(super) fn encode_field(
    dialect: Dialect,
    field: Field,
    value: u128,
    mask: u128,
    out: &mut Vec<u8>,
) -> bool {
    let point = match dialect {
        Dialect::Nxm => field.nxm(),
        Dialect::Oxm(version) => field.oxm(version.wire()),
    };
    let Some(point) = point else { return false };
    let mask = (mask != field.value_mask()).then_some(mask);
    write_tlv(point, field.bytes(), value, mask, out);
    true
}

/// A set of fields, by their place in [`Index::order`].
type FieldSet = [u64; 4];

/// Which fields look at a word of a key.
struct Index {
    /// In the order in which they are written.
    order: Vec<Field>,
    by_word: [FieldSet; KEY_WORDS],
}

impl Index {
    fn get() -> &'static Index {
        static INDEX: OnceLock<Index> = OnceLock::new();
        INDEX.get_or_init(Index::new)
    }

    fn new() -> Index {
        // Fields in the order of the table name what they depend on later, so the basic ones go first.
        const FIRST: [Field; 6] = [
            Field::EthType,
            Field::VlanTci,
            Field::VlanVid,
            Field::NwProto,
            Field::IcmpType,
            Field::Icmpv6Type,
        ];
        let rest = Field::ALL.iter().filter(|f| !FIRST.contains(f));
        let order: Vec<Field> = FIRST.iter().chain(rest).copied().collect();
        debug_assert!(order.len() <= 256);
        let mut by_word = [FieldSet::default(); KEY_WORDS];
        for (word, set) in by_word.iter_mut().enumerate() {
            let mut mask = FlowMask::empty();
            mask.0.words_mut()[word] = u64::MAX;
            for (n, _) in order.iter().enumerate().filter(|(_, f)| f.mask_of(&mask) != 0) {
                set[n / 64] |= 1 << (n % 64);
            }
        }
        Index { order, by_word }
    }

    /// The fields of which a mask has bits, or that share a word with such.
    fn fields_of(&self, mask: &FlowMask) -> impl Iterator<Item = Field> + '_ {
        let mut found = FieldSet::default();
        for (set, _) in self.by_word.iter().zip(mask.words()).filter(|(_, bits)| **bits != 0) {
            found.iter_mut().zip(set).for_each(|(found, set)| *found |= set);
        }
        let bits = found.into_iter().enumerate().flat_map(|(n, mut set)| {
            std::iter::from_fn(move || {
                let bit = (set != 0).then(|| set.trailing_zeros() as usize)?;
                set &= set - 1;
                Some(64 * n + bit)
            })
        });
        bits.filter_map(|n| self.order.get(n).copied())
    }
}

/// The fields of a match with value and mask, each bit of the match in one field only.
pub(super) fn fields(dialect: Dialect, m: &Match) -> impl Iterator<Item = (Field, u128, u128)> {
    Index::get().fields_of(&m.mask).filter_map(move |field| {
        let mask = field.mask_of(&m.mask);
        if mask == 0 || !chosen(dialect, field, m) || !m.meets(field.prereq()) {
            return None;
        }
        if !field.maskable() && mask != field.value_mask() {
            return None;
        }
        Some((field, field.get(&m.key) & mask, mask))
    })
}

/// Several fields look at the same bits of the key; whether `field` is the one to write.
fn chosen(dialect: Dialect, field: Field, m: &Match) -> bool {
    let nxm = dialect == Dialect::Nxm;
    let wide = matches!(dialect, Dialect::Oxm(v) if v >= Version::V15);
    let reg = Field::Reg0..=Field::Reg15;
    let xreg = Field::Xreg0..=Field::Xreg7;
    let xxreg = Field::Xxreg0..=Field::Xxreg3;
    match field {
        Field::InPort16 | Field::VlanTci | Field::NwTos => nxm,
        Field::InPort | Field::VlanVid | Field::VlanPcp | Field::IpDscp => !nxm,
        // Ethernet is what an absent packet type means.
        Field::PacketType => m.key.pipeline.packet_type != 0,
        f if reg.contains(&f) => !wide,
        f if xreg.contains(&f) => wide,
        f if xxreg.contains(&f) => false,
        _ => true,
    }
}
