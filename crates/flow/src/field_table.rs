//! What is each field called, how wide is it, who numbers it, and where is it in the key?
//!
//! One row per field of `ovs-fields(7)`, in this form:
//!
//! ```text
//! Variant "name" [other names] bits/bytes Format mask|whole Prereq rw|ro place; [code points]
//! ```
//!
//! `bits` is the number of bits that may be set, `bytes` the width of the field in OXM and NXM, `mask` says that
//! bitwise masks are allowed and `whole` that they are not, `rw` that actions may change the field. A code point is
//! (name, number, first OpenFlow version or 0, first Open vSwitch release); its class follows from its name. Code
//! points stand in order of preference for OXM: standard ones before extensions of the same field, except where the
//! standard one came later than an official extension.

use core::mem::offset_of;

use super::field::{CodePoint, FieldInfo, Format, Place, Prereq};
use crate::FlowKey;

macro_rules! num {
    ($type:ident, $($path:ident).+) => { num!($type, $($path).+, 0, 0) };
    ($type:ident, $($path:ident).+, $shift:literal) => { num!($type, $($path).+, $shift, 0) };
    ($type:ident, $($path:ident).+, $shift:literal, $add:literal) => {
        Place::Num {
            at: (offset_of!(FlowKey, $($path).+) + $add) as u16,
            size: size_of::<$type>() as u8,
            shift: $shift,
        }
    };
}

macro_rules! bytes {
    ($len:literal, $($path:ident).+) => {
        Place::Bytes { at: offset_of!(FlowKey, $($path).+) as u16, len: $len }
    };
}

/// Four bytes in wire order, so far behind the beginning of a field.
macro_rules! word {
    ($add:literal, $($path:ident).+) => {
        Place::Bytes { at: (offset_of!(FlowKey, $($path).+) + $add) as u16, len: 4 }
    };
}

macro_rules! maskable {
    (mask) => {
        true
    };
    (whole) => {
        false
    };
}

macro_rules! writable {
    (rw) => {
        true
    };
    (ro) => {
        false
    };
}

macro_rules! fields {
    ($($variant:ident $name:literal [$($alias:literal),*] $bits:literal / $bytes:literal $format:ident
       $mask:ident $prereq:ident $access:ident $place:expr; [$(($point:literal, $number:literal, $of:literal, $ovs:literal)),*],)*) => {
        /// A field of OpenFlow or of the Nicira extensions: everything rules can match and actions can set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum Field {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
        }

        impl Field {
            /// Every field, in the order of the enum.
            pub const ALL: &'static [Field] = &[$(Field::$variant,)*];
        }

        pub(super) static INFO: [FieldInfo; Field::ALL.len()] = [$(FieldInfo {
            name: $name,
            aliases: &[$($alias),*],
            bits: $bits,
            bytes: $bytes,
            format: Format::$format,
            maskable: maskable!($mask),
            prereq: Prereq::$prereq,
            writable: writable!($access),
            place: $place,
            points: &[$(CodePoint::new($point, $number, $of, $ovs)),*],
        },)*];
    };
}

fields! {
    // Identifiers of a walk.
    ConjId "conj_id" [] 32/4 Dec whole None ro num!(u32, pipeline.conj_id); [("NXM_NX_CONJ_ID", 37, 0, "2.4")],
    RecircId "recirc_id" [] 32/4 Hex whole None ro num!(u32, packet.recirc_id); [("NXM_NX_RECIRC_ID", 36, 0, "2.2")],
    DpHash "dp_hash" [] 32/4 Hex mask None ro num!(u32, ct.dp_hash);
        [("NXM_NX_DP_HASH", 35, 0, "2.2"), ("NXOXM_ET_DP_HASH", 0, 0, "2.4")],
    // Tunnels.
    TunId "tun_id" ["tunnel_id"] 64/8 Hex mask None rw num!(u64, tunnel.id);
        [("OXM_OF_TUNNEL_ID", 38, 4, "1.10"), ("NXM_NX_TUN_ID", 16, 0, "1.1")],
    TunSrc "tun_src" [] 32/4 Ipv4 mask None rw num!(u32, tunnel.ipv4_src); [("NXM_NX_TUN_IPV4_SRC", 31, 0, "2.0")],
    TunDst "tun_dst" [] 32/4 Ipv4 mask None rw num!(u32, tunnel.ipv4_dst); [("NXM_NX_TUN_IPV4_DST", 32, 0, "2.0")],
    TunIpv6Src "tun_ipv6_src" [] 128/16 Ipv6 mask None rw bytes!(16, tunnel.ipv6_src);
        [("NXM_NX_TUN_IPV6_SRC", 109, 0, "2.5")],
    TunIpv6Dst "tun_ipv6_dst" [] 128/16 Ipv6 mask None rw bytes!(16, tunnel.ipv6_dst);
        [("NXM_NX_TUN_IPV6_DST", 110, 0, "2.5")],
    TunGbpId "tun_gbp_id" [] 16/2 Dec mask None rw num!(u16, tunnel.gbp_id); [("NXM_NX_TUN_GBP_ID", 38, 0, "2.4")],
    TunGbpFlags "tun_gbp_flags" [] 8/1 Hex mask None rw num!(u8, tunnel.gbp_flags);
        [("NXM_NX_TUN_GBP_FLAGS", 39, 0, "2.4")],
    TunErspanVer "tun_erspan_ver" [] 4/1 Dec mask None rw num!(u8, tunnel.erspan_ver);
        [("NXOXM_ET_ERSPAN_VER", 12, 0, "2.10")],
    TunErspanIdx "tun_erspan_idx" [] 20/4 Hex mask None rw num!(u32, tunnel.erspan_idx);
        [("NXOXM_ET_ERSPAN_IDX", 11, 0, "2.10")],
    TunErspanDir "tun_erspan_dir" [] 1/1 Dec mask None rw num!(u8, tunnel.erspan_dir);
        [("NXOXM_ET_ERSPAN_DIR", 13, 0, "2.10")],
    TunErspanHwid "tun_erspan_hwid" [] 6/1 Hex mask None rw num!(u8, tunnel.erspan_hwid);
        [("NXOXM_ET_ERSPAN_HWID", 14, 0, "2.10")],
    TunGtpuFlags "tun_gtpu_flags" [] 8/1 Hex mask None ro num!(u8, tunnel.gtpu_flags);
        [("NXOXM_ET_GTPU_FLAGS", 15, 0, "2.13")],
    TunGtpuMsgtype "tun_gtpu_msgtype" [] 8/1 Dec mask None ro num!(u8, tunnel.gtpu_msgtype);
        [("NXOXM_ET_GTPU_MSGTYPE", 16, 0, "2.13")],
    TunMetadata0 "tun_metadata0" [] 992/124 Hex mask None rw Place::Option(0);
        [("NXM_NX_TUN_METADATA0", 40, 0, "2.5")],
    TunMetadata1 "tun_metadata1" [] 992/124 Hex mask None rw Place::Option(1);
        [("NXM_NX_TUN_METADATA1", 41, 0, "2.5")],
    TunMetadata2 "tun_metadata2" [] 992/124 Hex mask None rw Place::Option(2);
        [("NXM_NX_TUN_METADATA2", 42, 0, "2.5")],
    TunMetadata3 "tun_metadata3" [] 992/124 Hex mask None rw Place::Option(3);
        [("NXM_NX_TUN_METADATA3", 43, 0, "2.5")],
    TunMetadata4 "tun_metadata4" [] 992/124 Hex mask None rw Place::Option(4);
        [("NXM_NX_TUN_METADATA4", 44, 0, "2.5")],
    TunMetadata5 "tun_metadata5" [] 992/124 Hex mask None rw Place::Option(5);
        [("NXM_NX_TUN_METADATA5", 45, 0, "2.5")],
    TunMetadata6 "tun_metadata6" [] 992/124 Hex mask None rw Place::Option(6);
        [("NXM_NX_TUN_METADATA6", 46, 0, "2.5")],
    TunMetadata7 "tun_metadata7" [] 992/124 Hex mask None rw Place::Option(7);
        [("NXM_NX_TUN_METADATA7", 47, 0, "2.5")],
    TunMetadata8 "tun_metadata8" [] 992/124 Hex mask None rw Place::Option(8);
        [("NXM_NX_TUN_METADATA8", 48, 0, "2.5")],
    TunMetadata9 "tun_metadata9" [] 992/124 Hex mask None rw Place::Option(9);
        [("NXM_NX_TUN_METADATA9", 49, 0, "2.5")],
    TunMetadata10 "tun_metadata10" [] 992/124 Hex mask None rw Place::Option(10);
        [("NXM_NX_TUN_METADATA10", 50, 0, "2.5")],
    TunMetadata11 "tun_metadata11" [] 992/124 Hex mask None rw Place::Option(11);
        [("NXM_NX_TUN_METADATA11", 51, 0, "2.5")],
    TunMetadata12 "tun_metadata12" [] 992/124 Hex mask None rw Place::Option(12);
        [("NXM_NX_TUN_METADATA12", 52, 0, "2.5")],
    TunMetadata13 "tun_metadata13" [] 992/124 Hex mask None rw Place::Option(13);
        [("NXM_NX_TUN_METADATA13", 53, 0, "2.5")],
    TunMetadata14 "tun_metadata14" [] 992/124 Hex mask None rw Place::Option(14);
        [("NXM_NX_TUN_METADATA14", 54, 0, "2.5")],
    TunMetadata15 "tun_metadata15" [] 992/124 Hex mask None rw Place::Option(15);
        [("NXM_NX_TUN_METADATA15", 55, 0, "2.5")],
    TunMetadata16 "tun_metadata16" [] 992/124 Hex mask None rw Place::Option(16);
        [("NXM_NX_TUN_METADATA16", 56, 0, "2.5")],
    TunMetadata17 "tun_metadata17" [] 992/124 Hex mask None rw Place::Option(17);
        [("NXM_NX_TUN_METADATA17", 57, 0, "2.5")],
    TunMetadata18 "tun_metadata18" [] 992/124 Hex mask None rw Place::Option(18);
        [("NXM_NX_TUN_METADATA18", 58, 0, "2.5")],
    TunMetadata19 "tun_metadata19" [] 992/124 Hex mask None rw Place::Option(19);
        [("NXM_NX_TUN_METADATA19", 59, 0, "2.5")],
    TunMetadata20 "tun_metadata20" [] 992/124 Hex mask None rw Place::Option(20);
        [("NXM_NX_TUN_METADATA20", 60, 0, "2.5")],
    TunMetadata21 "tun_metadata21" [] 992/124 Hex mask None rw Place::Option(21);
        [("NXM_NX_TUN_METADATA21", 61, 0, "2.5")],
    TunMetadata22 "tun_metadata22" [] 992/124 Hex mask None rw Place::Option(22);
        [("NXM_NX_TUN_METADATA22", 62, 0, "2.5")],
    TunMetadata23 "tun_metadata23" [] 992/124 Hex mask None rw Place::Option(23);
        [("NXM_NX_TUN_METADATA23", 63, 0, "2.5")],
    TunMetadata24 "tun_metadata24" [] 992/124 Hex mask None rw Place::Option(24);
        [("NXM_NX_TUN_METADATA24", 64, 0, "2.5")],
    TunMetadata25 "tun_metadata25" [] 992/124 Hex mask None rw Place::Option(25);
        [("NXM_NX_TUN_METADATA25", 65, 0, "2.5")],
    TunMetadata26 "tun_metadata26" [] 992/124 Hex mask None rw Place::Option(26);
        [("NXM_NX_TUN_METADATA26", 66, 0, "2.5")],
    TunMetadata27 "tun_metadata27" [] 992/124 Hex mask None rw Place::Option(27);
        [("NXM_NX_TUN_METADATA27", 67, 0, "2.5")],
    TunMetadata28 "tun_metadata28" [] 992/124 Hex mask None rw Place::Option(28);
        [("NXM_NX_TUN_METADATA28", 68, 0, "2.5")],
    TunMetadata29 "tun_metadata29" [] 992/124 Hex mask None rw Place::Option(29);
        [("NXM_NX_TUN_METADATA29", 69, 0, "2.5")],
    TunMetadata30 "tun_metadata30" [] 992/124 Hex mask None rw Place::Option(30);
        [("NXM_NX_TUN_METADATA30", 70, 0, "2.5")],
    TunMetadata31 "tun_metadata31" [] 992/124 Hex mask None rw Place::Option(31);
        [("NXM_NX_TUN_METADATA31", 71, 0, "2.5")],
    TunMetadata32 "tun_metadata32" [] 992/124 Hex mask None rw Place::Option(32);
        [("NXM_NX_TUN_METADATA32", 72, 0, "2.5")],
    TunMetadata33 "tun_metadata33" [] 992/124 Hex mask None rw Place::Option(33);
        [("NXM_NX_TUN_METADATA33", 73, 0, "2.5")],
    TunMetadata34 "tun_metadata34" [] 992/124 Hex mask None rw Place::Option(34);
        [("NXM_NX_TUN_METADATA34", 74, 0, "2.5")],
    TunMetadata35 "tun_metadata35" [] 992/124 Hex mask None rw Place::Option(35);
        [("NXM_NX_TUN_METADATA35", 75, 0, "2.5")],
    TunMetadata36 "tun_metadata36" [] 992/124 Hex mask None rw Place::Option(36);
        [("NXM_NX_TUN_METADATA36", 76, 0, "2.5")],
    TunMetadata37 "tun_metadata37" [] 992/124 Hex mask None rw Place::Option(37);
        [("NXM_NX_TUN_METADATA37", 77, 0, "2.5")],
    TunMetadata38 "tun_metadata38" [] 992/124 Hex mask None rw Place::Option(38);
        [("NXM_NX_TUN_METADATA38", 78, 0, "2.5")],
    TunMetadata39 "tun_metadata39" [] 992/124 Hex mask None rw Place::Option(39);
        [("NXM_NX_TUN_METADATA39", 79, 0, "2.5")],
    TunMetadata40 "tun_metadata40" [] 992/124 Hex mask None rw Place::Option(40);
        [("NXM_NX_TUN_METADATA40", 80, 0, "2.5")],
    TunMetadata41 "tun_metadata41" [] 992/124 Hex mask None rw Place::Option(41);
        [("NXM_NX_TUN_METADATA41", 81, 0, "2.5")],
    TunMetadata42 "tun_metadata42" [] 992/124 Hex mask None rw Place::Option(42);
        [("NXM_NX_TUN_METADATA42", 82, 0, "2.5")],
    TunMetadata43 "tun_metadata43" [] 992/124 Hex mask None rw Place::Option(43);
        [("NXM_NX_TUN_METADATA43", 83, 0, "2.5")],
    TunMetadata44 "tun_metadata44" [] 992/124 Hex mask None rw Place::Option(44);
        [("NXM_NX_TUN_METADATA44", 84, 0, "2.5")],
    TunMetadata45 "tun_metadata45" [] 992/124 Hex mask None rw Place::Option(45);
        [("NXM_NX_TUN_METADATA45", 85, 0, "2.5")],
    TunMetadata46 "tun_metadata46" [] 992/124 Hex mask None rw Place::Option(46);
        [("NXM_NX_TUN_METADATA46", 86, 0, "2.5")],
    TunMetadata47 "tun_metadata47" [] 992/124 Hex mask None rw Place::Option(47);
        [("NXM_NX_TUN_METADATA47", 87, 0, "2.5")],
    TunMetadata48 "tun_metadata48" [] 992/124 Hex mask None rw Place::Option(48);
        [("NXM_NX_TUN_METADATA48", 88, 0, "2.5")],
    TunMetadata49 "tun_metadata49" [] 992/124 Hex mask None rw Place::Option(49);
        [("NXM_NX_TUN_METADATA49", 89, 0, "2.5")],
    TunMetadata50 "tun_metadata50" [] 992/124 Hex mask None rw Place::Option(50);
        [("NXM_NX_TUN_METADATA50", 90, 0, "2.5")],
    TunMetadata51 "tun_metadata51" [] 992/124 Hex mask None rw Place::Option(51);
        [("NXM_NX_TUN_METADATA51", 91, 0, "2.5")],
    TunMetadata52 "tun_metadata52" [] 992/124 Hex mask None rw Place::Option(52);
        [("NXM_NX_TUN_METADATA52", 92, 0, "2.5")],
    TunMetadata53 "tun_metadata53" [] 992/124 Hex mask None rw Place::Option(53);
        [("NXM_NX_TUN_METADATA53", 93, 0, "2.5")],
    TunMetadata54 "tun_metadata54" [] 992/124 Hex mask None rw Place::Option(54);
        [("NXM_NX_TUN_METADATA54", 94, 0, "2.5")],
    TunMetadata55 "tun_metadata55" [] 992/124 Hex mask None rw Place::Option(55);
        [("NXM_NX_TUN_METADATA55", 95, 0, "2.5")],
    TunMetadata56 "tun_metadata56" [] 992/124 Hex mask None rw Place::Option(56);
        [("NXM_NX_TUN_METADATA56", 96, 0, "2.5")],
    TunMetadata57 "tun_metadata57" [] 992/124 Hex mask None rw Place::Option(57);
        [("NXM_NX_TUN_METADATA57", 97, 0, "2.5")],
    TunMetadata58 "tun_metadata58" [] 992/124 Hex mask None rw Place::Option(58);
        [("NXM_NX_TUN_METADATA58", 98, 0, "2.5")],
    TunMetadata59 "tun_metadata59" [] 992/124 Hex mask None rw Place::Option(59);
        [("NXM_NX_TUN_METADATA59", 99, 0, "2.5")],
    TunMetadata60 "tun_metadata60" [] 992/124 Hex mask None rw Place::Option(60);
        [("NXM_NX_TUN_METADATA60", 100, 0, "2.5")],
    TunMetadata61 "tun_metadata61" [] 992/124 Hex mask None rw Place::Option(61);
        [("NXM_NX_TUN_METADATA61", 101, 0, "2.5")],
    TunMetadata62 "tun_metadata62" [] 992/124 Hex mask None rw Place::Option(62);
        [("NXM_NX_TUN_METADATA62", 102, 0, "2.5")],
    TunMetadata63 "tun_metadata63" [] 992/124 Hex mask None rw Place::Option(63);
        [("NXM_NX_TUN_METADATA63", 103, 0, "2.5")],
    TunFlags "tun_flags" [] 1/2 TunFlags mask None rw num!(u16, tunnel.flags, 3);
        [("NXM_NX_TUN_FLAGS", 104, 0, "2.5")],
    // Ports and metadata that is not in the packet.
    InPort16 "in_port" [] 16/2 Port whole None rw Place::Port16; [("NXM_OF_IN_PORT", 0, 0, "1.1")],
    InPort "in_port_oxm" [] 32/4 Port whole None rw num!(u32, pipeline.in_port); [("OXM_OF_IN_PORT", 0, 3, "1.7")],
    SkbPriority "skb_priority" [] 32/4 Hex whole None ro num!(u32, pipeline.skb_priority); [],
    PktMark "pkt_mark" [] 32/4 Hex mask None rw num!(u32, pipeline.pkt_mark); [("NXM_NX_PKT_MARK", 33, 0, "2.0")],
    ActsetOutput "actset_output" [] 32/4 Port whole None ro num!(u32, pipeline.actset_output);
        [("ONFOXM_ET_ACTSET_OUTPUT", 43, 4, "2.4"), ("OXM_OF_ACTSET_OUTPUT", 43, 6, "2.4")],
    PacketType "packet_type" [] 32/4 PacketType whole None ro num!(u32, pipeline.packet_type);
        [("OXM_OF_PACKET_TYPE", 44, 6, "2.8")],
    // Connection tracking.
    CtState "ct_state" [] 32/4 CtState mask None ro num!(u16, ct.state); [("NXM_NX_CT_STATE", 105, 0, "2.5")],
    CtZone "ct_zone" [] 16/2 Hex whole None ro num!(u16, ct.zone); [("NXM_NX_CT_ZONE", 106, 0, "2.5")],
    CtMark "ct_mark" [] 32/4 Hex mask None rw num!(u32, ct.mark); [("NXM_NX_CT_MARK", 107, 0, "2.5")],
    CtLabel "ct_label" [] 128/16 Hex mask None rw bytes!(16, ct.label); [("NXM_NX_CT_LABEL", 108, 0, "2.5")],
    CtNwSrc "ct_nw_src" [] 32/4 Ipv4 mask Ct ro num!(u32, ct.ipv4_src); [("NXM_NX_CT_NW_SRC", 120, 0, "2.8")],
    CtNwDst "ct_nw_dst" [] 32/4 Ipv4 mask Ct ro num!(u32, ct.ipv4_dst); [("NXM_NX_CT_NW_DST", 121, 0, "2.8")],
    CtIpv6Src "ct_ipv6_src" [] 128/16 Ipv6 mask Ct ro bytes!(16, ct.ipv6_src);
        [("NXM_NX_CT_IPV6_SRC", 122, 0, "2.8")],
    CtIpv6Dst "ct_ipv6_dst" [] 128/16 Ipv6 mask Ct ro bytes!(16, ct.ipv6_dst);
        [("NXM_NX_CT_IPV6_DST", 123, 0, "2.8")],
    CtNwProto "ct_nw_proto" [] 8/1 Dec whole Ct ro num!(u8, ct.ip_proto); [("NXM_NX_CT_NW_PROTO", 119, 0, "2.8")],
    CtTpSrc "ct_tp_src" [] 16/2 Dec mask Ct ro num!(u16, ct.tp_src); [("NXM_NX_CT_TP_SRC", 124, 0, "2.8")],
    CtTpDst "ct_tp_dst" [] 16/2 Dec mask Ct ro num!(u16, ct.tp_dst); [("NXM_NX_CT_TP_DST", 125, 0, "2.8")],
    // Registers.
    Metadata "metadata" [] 64/8 Hex mask None rw num!(u64, pipeline.metadata); [("OXM_OF_METADATA", 2, 3, "1.8")],
    Reg0 "reg0" [] 32/4 Hex mask None rw Place::Regs(0, 1); [("NXM_NX_REG0", 0, 0, "1.1")],
    Reg1 "reg1" [] 32/4 Hex mask None rw Place::Regs(1, 1); [("NXM_NX_REG1", 1, 0, "1.1")],
    Reg2 "reg2" [] 32/4 Hex mask None rw Place::Regs(2, 1); [("NXM_NX_REG2", 2, 0, "1.1")],
    Reg3 "reg3" [] 32/4 Hex mask None rw Place::Regs(3, 1); [("NXM_NX_REG3", 3, 0, "1.1")],
    Reg4 "reg4" [] 32/4 Hex mask None rw Place::Regs(4, 1); [("NXM_NX_REG4", 4, 0, "1.1")],
    Reg5 "reg5" [] 32/4 Hex mask None rw Place::Regs(5, 1); [("NXM_NX_REG5", 5, 0, "1.1")],
    Reg6 "reg6" [] 32/4 Hex mask None rw Place::Regs(6, 1); [("NXM_NX_REG6", 6, 0, "1.1")],
    Reg7 "reg7" [] 32/4 Hex mask None rw Place::Regs(7, 1); [("NXM_NX_REG7", 7, 0, "1.1")],
    Reg8 "reg8" [] 32/4 Hex mask None rw Place::Regs(8, 1); [("NXM_NX_REG8", 8, 0, "1.1")],
    Reg9 "reg9" [] 32/4 Hex mask None rw Place::Regs(9, 1); [("NXM_NX_REG9", 9, 0, "1.1")],
    Reg10 "reg10" [] 32/4 Hex mask None rw Place::Regs(10, 1); [("NXM_NX_REG10", 10, 0, "1.1")],
    Reg11 "reg11" [] 32/4 Hex mask None rw Place::Regs(11, 1); [("NXM_NX_REG11", 11, 0, "1.1")],
    Reg12 "reg12" [] 32/4 Hex mask None rw Place::Regs(12, 1); [("NXM_NX_REG12", 12, 0, "1.1")],
    Reg13 "reg13" [] 32/4 Hex mask None rw Place::Regs(13, 1); [("NXM_NX_REG13", 13, 0, "1.1")],
    Reg14 "reg14" [] 32/4 Hex mask None rw Place::Regs(14, 1); [("NXM_NX_REG14", 14, 0, "1.1")],
    Reg15 "reg15" [] 32/4 Hex mask None rw Place::Regs(15, 1); [("NXM_NX_REG15", 15, 0, "1.1")],
    Xreg0 "xreg0" [] 64/8 Hex mask None rw Place::Regs(0, 2); [("OXM_OF_PKT_REG0", 0, 4, "2.4")],
    Xreg1 "xreg1" [] 64/8 Hex mask None rw Place::Regs(2, 2); [("OXM_OF_PKT_REG1", 1, 4, "2.4")],
    Xreg2 "xreg2" [] 64/8 Hex mask None rw Place::Regs(4, 2); [("OXM_OF_PKT_REG2", 2, 4, "2.4")],
    Xreg3 "xreg3" [] 64/8 Hex mask None rw Place::Regs(6, 2); [("OXM_OF_PKT_REG3", 3, 4, "2.4")],
    Xreg4 "xreg4" [] 64/8 Hex mask None rw Place::Regs(8, 2); [("OXM_OF_PKT_REG4", 4, 4, "2.4")],
    Xreg5 "xreg5" [] 64/8 Hex mask None rw Place::Regs(10, 2); [("OXM_OF_PKT_REG5", 5, 4, "2.4")],
    Xreg6 "xreg6" [] 64/8 Hex mask None rw Place::Regs(12, 2); [("OXM_OF_PKT_REG6", 6, 4, "2.4")],
    Xreg7 "xreg7" [] 64/8 Hex mask None rw Place::Regs(14, 2); [("OXM_OF_PKT_REG7", 7, 4, "2.4")],
    Xxreg0 "xxreg0" [] 128/16 Hex mask None rw Place::Regs(0, 4); [("NXM_NX_XXREG0", 111, 0, "2.6")],
    Xxreg1 "xxreg1" [] 128/16 Hex mask None rw Place::Regs(4, 4); [("NXM_NX_XXREG1", 112, 0, "2.6")],
    Xxreg2 "xxreg2" [] 128/16 Hex mask None rw Place::Regs(8, 4); [("NXM_NX_XXREG2", 113, 0, "2.6")],
    Xxreg3 "xxreg3" [] 128/16 Hex mask None rw Place::Regs(12, 4); [("NXM_NX_XXREG3", 114, 0, "2.6")],
    // Ethernet and VLAN.
    EthSrc "eth_src" ["dl_src"] 48/6 Mac mask Ethernet rw bytes!(6, packet.eth_src);
        [("OXM_OF_ETH_SRC", 4, 3, "1.7"), ("NXM_OF_ETH_SRC", 2, 0, "1.1")],
    EthDst "eth_dst" ["dl_dst"] 48/6 Mac mask Ethernet rw bytes!(6, packet.eth_dst);
        [("OXM_OF_ETH_DST", 3, 3, "1.7"), ("NXM_OF_ETH_DST", 1, 0, "1.1")],
    EthType "eth_type" ["dl_type"] 16/2 Hex whole Ethernet ro num!(u16, packet.eth_type);
        [("OXM_OF_ETH_TYPE", 5, 3, "1.7"), ("NXM_OF_ETH_TYPE", 3, 0, "1.1")],
    VlanVid "vlan_vid" [] 12/2 Dec mask Ethernet rw num!(u16, packet.vlan, 0, 2); [("OXM_OF_VLAN_VID", 6, 3, "1.7")],
    VlanPcp "vlan_pcp" [] 3/1 Dec whole Vlan rw num!(u16, packet.vlan, 13, 2); [("OXM_OF_VLAN_PCP", 7, 3, "1.7")],
    VlanTci "vlan_tci" [] 16/2 Hex mask Ethernet rw num!(u16, packet.vlan, 0, 2); [("NXM_OF_VLAN_TCI", 4, 0, "1.1")],
    DlVlan "dl_vlan" [] 12/2 Dec whole Ethernet rw num!(u16, packet.vlan, 0, 2); [],
    DlVlanPcp "dl_vlan_pcp" [] 3/1 Dec whole Ethernet rw num!(u16, packet.vlan, 13, 2); [],
    // MPLS.
    MplsLabel "mpls_label" [] 20/4 Dec whole Mpls rw num!(u32, packet.mpls, 12);
        [("OXM_OF_MPLS_LABEL", 34, 3, "1.11")],
    MplsTc "mpls_tc" [] 3/1 Dec whole Mpls rw num!(u32, packet.mpls, 9); [("OXM_OF_MPLS_TC", 35, 3, "1.11")],
    MplsBos "mpls_bos" [] 1/1 Dec whole Mpls ro num!(u32, packet.mpls, 8); [("OXM_OF_MPLS_BOS", 36, 4, "1.11")],
    MplsTtl "mpls_ttl" [] 8/1 Dec whole Mpls rw num!(u32, packet.mpls); [("NXM_NX_MPLS_TTL", 30, 0, "2.6")],
    // IPv4 and IPv6.
    IpSrc "ip_src" ["nw_src"] 32/4 Ipv4 mask Ipv4 rw num!(u32, packet.ipv4_src);
        [("OXM_OF_IPV4_SRC", 11, 3, "1.7"), ("NXM_OF_IP_SRC", 7, 0, "1.1")],
    IpDst "ip_dst" ["nw_dst"] 32/4 Ipv4 mask Ipv4 rw num!(u32, packet.ipv4_dst);
        [("OXM_OF_IPV4_DST", 12, 3, "1.7"), ("NXM_OF_IP_DST", 8, 0, "1.1")],
    Ipv6Src "ipv6_src" [] 128/16 Ipv6 mask Ipv6 rw bytes!(16, packet.ipv6_src);
        [("OXM_OF_IPV6_SRC", 26, 3, "1.1"), ("NXM_NX_IPV6_SRC", 19, 0, "1.1")],
    Ipv6Dst "ipv6_dst" [] 128/16 Ipv6 mask Ipv6 rw bytes!(16, packet.ipv6_dst);
        [("OXM_OF_IPV6_DST", 27, 3, "1.1"), ("NXM_NX_IPV6_DST", 20, 0, "1.1")],
    Ipv6Label "ipv6_label" [] 20/4 Hex mask Ipv6 rw num!(u32, packet.ipv6_label);
        [("OXM_OF_IPV6_FLABEL", 28, 3, "1.7"), ("NXM_NX_IPV6_LABEL", 27, 0, "1.4")],
    NwProto "nw_proto" ["ip_proto"] 8/1 Dec whole Ip ro num!(u8, packet.ip_proto);
        [("OXM_OF_IP_PROTO", 10, 3, "1.7"), ("NXM_OF_IP_PROTO", 6, 0, "1.1")],
    NwTtl "nw_ttl" [] 8/1 Dec whole Ip rw num!(u8, packet.ip_ttl); [("NXM_NX_IP_TTL", 29, 0, "1.4")],
    IpFrag "ip_frag" ["nw_frag"] 2/1 Frag mask Ip ro num!(u8, packet.ip_frag); [("NXM_NX_IP_FRAG", 26, 0, "1.3")],
    NwTos "nw_tos" [] 8/1 Dec whole Ip rw num!(u8, packet.ip_tos); [("NXM_OF_IP_TOS", 5, 0, "1.1")],
    IpDscp "ip_dscp" [] 6/1 Dec whole Ip rw num!(u8, packet.ip_tos, 2); [("OXM_OF_IP_DSCP", 8, 3, "1.7")],
    NwEcn "nw_ecn" ["ip_ecn"] 2/1 Dec whole Ip rw num!(u8, packet.ip_tos);
        [("OXM_OF_IP_ECN", 9, 3, "1.7"), ("NXM_NX_IP_ECN", 28, 0, "1.4")],
    // ARP.
    ArpOp "arp_op" [] 16/2 Dec whole Arp rw num!(u8, packet.ip_proto);
        [("OXM_OF_ARP_OP", 21, 3, "1.7"), ("NXM_OF_ARP_OP", 15, 0, "1.1")],
    ArpSpa "arp_spa" [] 32/4 Ipv4 mask Arp rw num!(u32, packet.ipv4_src);
        [("OXM_OF_ARP_SPA", 22, 3, "1.7"), ("NXM_OF_ARP_SPA", 16, 0, "1.1")],
    ArpTpa "arp_tpa" [] 32/4 Ipv4 mask Arp rw num!(u32, packet.ipv4_dst);
        [("OXM_OF_ARP_TPA", 23, 3, "1.7"), ("NXM_OF_ARP_TPA", 17, 0, "1.1")],
    ArpSha "arp_sha" [] 48/6 Mac mask Arp rw bytes!(6, packet.arp_sha);
        [("OXM_OF_ARP_SHA", 24, 3, "1.7"), ("NXM_NX_ARP_SHA", 17, 0, "1.1")],
    ArpTha "arp_tha" [] 48/6 Mac mask Arp rw bytes!(6, packet.arp_tha);
        [("OXM_OF_ARP_THA", 25, 3, "1.7"), ("NXM_NX_ARP_THA", 18, 0, "1.1")],
    // TCP, UDP, SCTP.
    TcpSrc "tcp_src" ["tp_src"] 16/2 Dec mask Tcp rw num!(u16, packet.tp_src);
        [("OXM_OF_TCP_SRC", 13, 3, "1.7"), ("NXM_OF_TCP_SRC", 9, 0, "1.1")],
    TcpDst "tcp_dst" ["tp_dst"] 16/2 Dec mask Tcp rw num!(u16, packet.tp_dst);
        [("OXM_OF_TCP_DST", 14, 3, "1.7"), ("NXM_OF_TCP_DST", 10, 0, "1.1")],
    TcpFlags "tcp_flags" [] 12/2 TcpFlags mask Tcp ro num!(u16, packet.tcp_flags);
        [("ONFOXM_ET_TCP_FLAGS", 42, 4, "2.4"), ("OXM_OF_TCP_FLAGS", 42, 6, "2.3"), ("NXM_NX_TCP_FLAGS", 34, 0, "2.1")],
    UdpSrc "udp_src" [] 16/2 Dec mask Udp rw num!(u16, packet.tp_src);
        [("OXM_OF_UDP_SRC", 15, 3, "1.7"), ("NXM_OF_UDP_SRC", 11, 0, "1.1")],
    UdpDst "udp_dst" [] 16/2 Dec mask Udp rw num!(u16, packet.tp_dst);
        [("OXM_OF_UDP_DST", 16, 3, "1.7"), ("NXM_OF_UDP_DST", 12, 0, "1.1")],
    SctpSrc "sctp_src" [] 16/2 Dec mask Sctp rw num!(u16, packet.tp_src); [("OXM_OF_SCTP_SRC", 17, 3, "2.0")],
    SctpDst "sctp_dst" [] 16/2 Dec mask Sctp rw num!(u16, packet.tp_dst); [("OXM_OF_SCTP_DST", 18, 3, "2.0")],
    // ICMP and neighbour discovery.
    IcmpType "icmp_type" [] 8/1 Dec whole Icmp4 rw num!(u16, packet.tp_src);
        [("OXM_OF_ICMPV4_TYPE", 19, 3, "1.7"), ("NXM_OF_ICMP_TYPE", 13, 0, "1.1")],
    IcmpCode "icmp_code" [] 8/1 Dec whole Icmp4 rw num!(u16, packet.tp_dst);
        [("OXM_OF_ICMPV4_CODE", 20, 3, "1.7"), ("NXM_OF_ICMP_CODE", 14, 0, "1.1")],
    Icmpv6Type "icmpv6_type" [] 8/1 Dec whole Icmp6 rw num!(u16, packet.tp_src);
        [("OXM_OF_ICMPV6_TYPE", 29, 3, "1.7"), ("NXM_NX_ICMPV6_TYPE", 21, 0, "1.1")],
    Icmpv6Code "icmpv6_code" [] 8/1 Dec whole Icmp6 rw num!(u16, packet.tp_dst);
        [("OXM_OF_ICMPV6_CODE", 30, 3, "1.7"), ("NXM_NX_ICMPV6_CODE", 22, 0, "1.1")],
    NdTarget "nd_target" [] 128/16 Ipv6 mask Nd rw bytes!(16, packet.nd_target);
        [("OXM_OF_IPV6_ND_TARGET", 31, 3, "1.7"), ("NXM_NX_ND_TARGET", 23, 0, "1.1")],
    NdSll "nd_sll" [] 48/6 Mac mask NdSolicit rw bytes!(6, packet.arp_sha);
        [("OXM_OF_IPV6_ND_SLL", 32, 3, "1.7"), ("NXM_NX_ND_SLL", 24, 0, "1.1")],
    NdTll "nd_tll" [] 48/6 Mac mask NdAdvert rw bytes!(6, packet.arp_tha);
        [("OXM_OF_IPV6_ND_TLL", 33, 3, "1.7"), ("NXM_NX_ND_TLL", 25, 0, "1.1")],
    NdReserved "nd_reserved" [] 32/4 Dec whole Nd rw num!(u32, packet.nd_reserved);
        [("ERICOXM_OF_ICMPV6_ND_RESERVED", 1, 0, "2.11")],
    NdOptionsType "nd_options_type" [] 8/1 Dec whole Nd rw num!(u8, packet.nd_options_type);
        [("ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", 2, 0, "2.11")],
    // NSH, in the places of other fields: see `PacketKey`.
    NshFlags "nsh_flags" [] 8/1 Dec mask Nsh rw num!(u32, packet.nd_reserved, 24); [("NXOXM_NSH_FLAGS", 1, 0, "2.8")],
    NshTtl "nsh_ttl" [] 8/1 Dec whole Nsh rw num!(u32, packet.nd_reserved, 16); [("NXOXM_NSH_TTL", 10, 0, "2.9")],
    NshMdtype "nsh_mdtype" [] 8/1 Dec whole Nsh ro num!(u32, packet.nd_reserved, 8);
        [("NXOXM_NSH_MDTYPE", 2, 0, "2.8")],
    NshNp "nsh_np" [] 8/1 Dec whole Nsh ro num!(u32, packet.nd_reserved); [("NXOXM_NSH_NP", 3, 0, "2.8")],
    NshSpi "nsh_spi" ["nsp"] 24/4 Hex whole Nsh rw num!(u32, packet.ipv4_src, 8); [("NXOXM_NSH_SPI", 4, 0, "2.8")],
    NshSi "nsh_si" ["nsi"] 8/1 Dec whole Nsh rw num!(u32, packet.ipv4_src); [("NXOXM_NSH_SI", 5, 0, "2.8")],
    NshC1 "nsh_c1" ["nshc1"] 32/4 Hex mask Nsh rw word!(0, packet.nd_target); [("NXOXM_NSH_C1", 6, 0, "2.8")],
    NshC2 "nsh_c2" ["nshc2"] 32/4 Hex mask Nsh rw word!(4, packet.nd_target); [("NXOXM_NSH_C2", 7, 0, "2.8")],
    NshC3 "nsh_c3" ["nshc3"] 32/4 Hex mask Nsh rw word!(8, packet.nd_target); [("NXOXM_NSH_C3", 8, 0, "2.8")],
    NshC4 "nsh_c4" ["nshc4"] 32/4 Hex mask Nsh rw word!(12, packet.nd_target); [("NXOXM_NSH_C4", 9, 0, "2.8")],
}
