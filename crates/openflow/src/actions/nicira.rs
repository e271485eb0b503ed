//! Nicira's actions (`ovs-actions(7)`): which one is it, and who reads or writes it?

use weft_flow::{Action, Field};
use weft_wire::EtherType;

use super::table::nxast;
use super::{
    Item, Place, Refusal, Scope, Track, choose, ct, encap, encode_actions, learn, nested, of11, put_nicira,
    regs, send, set,
};
use crate::ErrorCode;
use crate::bytes::{Put, Reader};

/// Reads the body after the number.
pub(super) fn decode(scope: &mut Scope, number: u16, r: &mut Reader<'_>) -> Result<Item, Refusal> {
    Ok(Item::Action(match number {
        nxast::CT => ct::decode_ct(scope, r)?,
        nxast::NAT => return Ok(Item::Nat(ct::decode_nat(r)?)),
        nxast::CLONE => {
            r.skip(6)?;
            Action::Clone(nested(scope, Place::Actions, r.rest())?.actions)
        }
        nxast::WRITE_METADATA => {
            if r.take(6)?.iter().any(|b| *b != 0) {
                return Err(ErrorCode::NXBRC_MUST_BE_ZERO.into());
            }
            return Ok(Item::Metadata(r.u64()?, r.u64()?));
        }
        _ => decode_plain(number, r)?,
    }))
}

/// Reads the body of an action without actions in it.
fn decode_plain(number: u16, r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    Ok(match number {
        nxast::RESUBMIT => Action::Resubmit { port: send::resubmit_port(r.u16()?), table: None, ct: false },
        nxast::RESUBMIT_TABLE => send::decode_resubmit(false, r)?,
        nxast::RESUBMIT_TABLE_CT => send::decode_resubmit(true, r)?,
        nxast::SET_TUNNEL => set::whole(Field::TunId, padded(2, 4, r)?),
        nxast::SET_TUNNEL64 => set::whole(Field::TunId, padded(6, 8, r)?),
        nxast::SET_QUEUE => Action::SetQueue(padded(2, 4, r)? as u32),
        nxast::GROUP => Action::Group(padded(2, 4, r)? as u32),
        nxast::SET_MPLS_LABEL => set::whole(Field::MplsLabel, padded(2, 4, r)? & 0xf_ffff),
        nxast::SET_MPLS_TC => set::whole(Field::MplsTc, r.number(1)? & 7),
        nxast::SET_MPLS_TTL => set::whole(Field::MplsTtl, r.number(1)?),
        nxast::DEC_MPLS_TTL => Action::DecMplsTtl,
        nxast::PUSH_MPLS => Action::PushMpls(of11::mpls_type(r.u16()?)?),
        nxast::POP_MPLS => Action::PopMpls(EtherType(r.u16()?)),
        nxast::POP_QUEUE => Action::PopQueue,
        nxast::REG_MOVE => regs::decode_move(r)?,
        nxast::REG_LOAD => set::decode_load(r)?,
        nxast::REG_LOAD2 => set::decode_load2(r)?,
        nxast::NOTE => Action::Note(r.rest().to_vec()),
        nxast::MULTIPATH => choose::decode_multipath(r)?,
        nxast::BUNDLE => choose::decode_bundle(false, r)?,
        nxast::BUNDLE_LOAD => choose::decode_bundle(true, r)?,
        nxast::OUTPUT_REG => send::decode_output_reg(r)?,
        nxast::OUTPUT_REG2 => send::decode_output_reg2(r)?,
        nxast::OUTPUT_TRUNC => send::decode_trunc(r)?,
        nxast::LEARN => learn::decode(false, r)?,
        nxast::LEARN2 => learn::decode(true, r)?,
        nxast::EXIT => Action::Exit,
        nxast::DEC_TTL => Action::DecTtl(Vec::new()),
        nxast::DEC_TTL_CNT_IDS => decode_ttl_ids(r)?,
        nxast::FIN_TIMEOUT => Action::FinTimeout { idle: r.u16()?, hard: r.u16()? },
        nxast::CONTROLLER => Action::controller(r.u16()?, r.u16()?, r.u8()?),
        nxast::CONTROLLER2 => send::decode_controller2(r)?,
        nxast::STACK_PUSH | nxast::STACK_POP => regs::decode_stack(number, r)?,
        nxast::SAMPLE => send::decode_sample(1, r)?,
        nxast::SAMPLE2 => send::decode_sample(2, r)?,
        nxast::SAMPLE3 => send::decode_sample(3, r)?,
        nxast::CONJUNCTION => decode_conjunction(r)?,
        nxast::CT_CLEAR => Action::CtClear,
        nxast::DEC_NSH_TTL => Action::DecNshTtl,
        nxast::ENCAP => encap::decode_encap(r)?,
        nxast::DECAP => encap::decode_decap(r)?,
        nxast::CHECK_PKT_LARGER => regs::decode_check_len(r)?,
        nxast::DELETE_FIELD => regs::decode_delete(r)?,
        _ => return Err(ErrorCode::OFPBAC_BAD_VENDOR_TYPE),
    })
}

/// A number after padding.
fn padded(pad: usize, bytes: usize, r: &mut Reader<'_>) -> Result<u128, ErrorCode> {
    r.skip(pad)?;
    r.number(bytes)
}

fn decode_ttl_ids(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let count = usize::from(r.u16()?);
    if r.u32()? != 0 {
        return Err(ErrorCode::NXBRC_MUST_BE_ZERO);
    }
    if r.len() < count * 2 {
        return Err(ErrorCode::OFPBAC_BAD_LEN);
    }
    (0..count).map(|_| r.u16()).collect::<Result<_, _>>().map(Action::DecTtl)
}

fn decode_conjunction(r: &mut Reader<'_>) -> Result<Action, ErrorCode> {
    let (clause, clauses, id) = (r.u8()?, r.u8()?, r.u32()?);
    if !(2..=64).contains(&clauses) || clause >= clauses {
        return Err(ErrorCode::NXBAC_BAD_CONJUNCTION);
    }
    Ok(Action::Conjunction { id, clause, clauses })
}

/// Appends those actions that are Nicira's in every version; the others belong to the version's own module.
pub(super) fn encode(track: &mut Track, action: &Action, out: &mut Vec<u8>) {
    let bare = |number: u16, out: &mut Vec<u8>| put_nicira(out, number, |out| out.zeros(6));
    match action {
        Action::Resubmit { port, table, ct } => send::resubmit(*port, *table, *ct, out),
        Action::OutputReg { src, max_len } => send::output_reg(*src, *max_len, out),
        Action::OutputTrunc { port, max_len } => send::trunc(*port, *max_len, out),
        Action::Controller(to) => send::controller(to, out),
        Action::Sample(sample) => send::sample(sample, out),
        Action::Move { src, dst } => regs::reg_move(*src, *dst, out),
        Action::StackPush(what) => regs::stack(nxast::STACK_PUSH, *what, out),
        Action::StackPop(what) => regs::stack(nxast::STACK_POP, *what, out),
        Action::CheckPktLarger { len, dst } => regs::check_len(*len, *dst, out),
        Action::DeleteField(field) => regs::delete(*field, out),
        Action::SetOption(option) => set::option(track.version, option, out),
        Action::Multipath(multipath) => choose::multipath(multipath, out),
        Action::Bundle(bundle) => choose::bundle(bundle, out),
        Action::Learn(learn) => learn::encode(learn, out),
        Action::Ct(tracking) => ct::ct(track, tracking, out),
        Action::Encap(header) => encap::encap(header, out),
        Action::Decap(kind) => encap::decap(*kind, out),
        Action::Clone(actions) => put_nicira(out, nxast::CLONE, |out| {
            out.zeros(6);
            encode_actions(&mut track.clone(), actions, out);
        }),
        Action::Note(bytes) => put_nicira(out, nxast::NOTE, |out| {
            out.bytes(bytes);
            // The shortest note is 6 bytes.
            out.zeros(6usize.saturating_sub(bytes.len()));
        }),
        Action::DecTtl(ids) => put_nicira(out, nxast::DEC_TTL_CNT_IDS, |out| {
            out.u16(u16::try_from(ids.len()).unwrap_or(u16::MAX));
            out.zeros(4);
            ids.iter().take(usize::from(u16::MAX)).for_each(|id| out.u16(*id));
        }),
        Action::Conjunction { id, clause, clauses } => put_nicira(out, nxast::CONJUNCTION, |out| {
            out.u8(*clause);
            out.u8(*clauses);
            out.u32(*id);
        }),
        Action::FinTimeout { idle, hard } => put_nicira(out, nxast::FIN_TIMEOUT, |out| {
            out.u16(*idle);
            out.u16(*hard);
            out.u16(0);
        }),
        Action::CtClear => bare(nxast::CT_CLEAR, out),
        Action::DecNshTtl => bare(nxast::DEC_NSH_TTL, out),
        Action::PopQueue => bare(nxast::POP_QUEUE, out),
        Action::Exit => bare(nxast::EXIT, out),
        // Meters are actions from OpenFlow 1.5 on; no version before 1.1 copies TTLs.
        Action::Meter(_) | Action::CopyTtlOut | Action::CopyTtlIn => {}
        // The modules of the versions have written these.
        Action::Output { .. }
        | Action::SetField { .. }
        | Action::PushVlan(_)
        | Action::PopVlan
        | Action::SetVlanVid(_)
        | Action::SetVlanPcp(_)
        | Action::SetTpPort { .. }
        | Action::PushMpls(_)
        | Action::PopMpls(_)
        | Action::DecMplsTtl
        | Action::SetQueue(_)
        | Action::Enqueue { .. }
        | Action::Group(_) => {}
    }
}

/// Appends an action that holds one 32-bit number.
pub(super) fn put_number(number: u16, value: u32, out: &mut Vec<u8>) {
    put_nicira(out, number, |out| {
        out.u16(0);
        out.u32(value);
    });
}

/// Appends the older of two actions if the identifier fits it.
pub(super) fn set_tunnel(id: u64, out: &mut Vec<u8>) {
    match u32::try_from(id) {
        Ok(id) => put_number(nxast::SET_TUNNEL, id, out),
        Err(_) => put_nicira(out, nxast::SET_TUNNEL64, |out| {
            out.zeros(6);
            out.u64(id);
        }),
    }
}

/// Appends the metadata instruction as OpenFlow 1.0 knows it.
pub(crate) fn write_metadata(value: u64, mask: u64, out: &mut Vec<u8>) {
    put_nicira(out, nxast::WRITE_METADATA, |out| {
        out.zeros(6);
        out.u64(value);
        out.u64(mask);
    });
}

/// Appends the goto instruction as OpenFlow 1.0 knows it: a resubmission.
pub(crate) fn goto_table(table: u8, out: &mut Vec<u8>) {
    send::resubmit(None, Some(table), false, out);
}
