//! Which tunnel options are fields, as controllers set it?

use weft_flow::{TlvError, TlvMapping, TlvTable};
use weft_openflow::ErrorCode;
use weft_openflow::msg::tlv::{TLV_FIELDS, TLV_SPACE, TlvCommand, TlvMap, TlvTableMod, TlvTableReply};

/// The table after a change.
///
/// # Errors
/// Why it cannot be changed so.
pub(super) fn change(old: &TlvTable, m: &TlvTableMod) -> Result<TlvTable, ErrorCode> {
    match m.command {
        TlvCommand::Add => {
            let line = |m: &TlvMap| TlvMapping { class: m.class, kind: m.kind, len: m.len, index: m.index };
            let lines: Vec<TlvMapping> = m.maps.iter().map(line).collect();
            old.with(&lines).map_err(error)
        }
        TlvCommand::Delete => {
            let options: Vec<(u16, u8)> = m.maps.iter().map(|m| (m.class, m.kind)).collect();
            Ok(old.without(&options))
        }
        TlvCommand::Clear => Ok(TlvTable::new()),
    }
}

fn error(error: TlvError) -> ErrorCode {
    match error {
        TlvError::BadLength(_) => ErrorCode::NXTTMFC_BAD_OPT_LEN,
        TlvError::BadIndex(_) => ErrorCode::NXTTMFC_BAD_FIELD_IDX,
        TlvError::Full => ErrorCode::NXTTMFC_TABLE_FULL,
        TlvError::AlreadyMapped(_) => ErrorCode::NXTTMFC_ALREADY_MAPPED,
        TlvError::Duplicate(..) => ErrorCode::NXTTMFC_DUP_ENTRY,
    }
}

/// The table, as an answer tells it.
pub(super) fn reply(table: &TlvTable) -> TlvTableReply {
    let line = |m: TlvMapping| TlvMap { class: m.class, kind: m.kind, len: m.len, index: m.index };
    TlvTableReply { max_space: TLV_SPACE, max_fields: TLV_FIELDS, maps: table.mappings().map(line).collect() }
}
