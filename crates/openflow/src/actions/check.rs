//! Do the actions of a rule fit the packets that it matches, as strictly as the version asks?

use weft_flow::{ActionError, CheckContext, Instructions, Match};

use crate::{ErrorCode, Version};

/// Checks that what actions read and change is there in what `m` matches (OpenFlow 1.3 §6.4).
///
/// OpenFlow 1.0 lets a rule set what its packets may lack, which then does nothing; Nicira's actions that read or move
/// fields are checked there too.
///
/// # Errors
/// `OFPBAC_MATCH_INCONSISTENT`, or what is wrong with the argument of an action.
pub(crate) fn check(version: Version, m: &Match, instructions: &Instructions) -> Result<(), ErrorCode> {
    // Addresses of a connection's original direction are of one IP version.
    let (mask, eth_type) = (&m.mask.0.ct, m.exact(weft_flow::Field::EthType));
    let v4 = mask.ipv4_src != 0 || mask.ipv4_dst != 0;
    let v6 = mask.ipv6_src != [0; 16] || mask.ipv6_dst != [0; 16];
    if v4 && eth_type != Some(0x0800) || v6 && eth_type != Some(0x86dd) {
        return Err(ErrorCode::OFPBAC_MATCH_INCONSISTENT);
    }
    let old = matches!(version, Version::V10 | Version::V11);
    let context = CheckContext { lenient: version == Version::V10, own_actions: old, ..CheckContext::new(m) };
    instructions.check_in(&context).map_err(|error| match error {
        ActionError::Prerequisite(_) => ErrorCode::OFPBAC_MATCH_INCONSISTENT,
        ActionError::BadSubfield(_) | ActionError::BadZone(_) => ErrorCode::OFPBAC_BAD_SET_LEN,
        ActionError::ReadOnly(_)
        | ActionError::VlanNotPresent
        | ActionError::BadValue(_)
        | ActionError::OutsideCt(_) => ErrorCode::OFPBAC_BAD_SET_ARGUMENT,
        ActionError::NotOfConnection(_) | ActionError::BadArgument(_) => ErrorCode::OFPBAC_BAD_ARGUMENT,
        ActionError::BadPort(_) => ErrorCode::OFPBAC_BAD_OUT_PORT,
        ActionError::TooManyTags => ErrorCode::OFPBAC_BAD_TAG,
        ActionError::BadConjunction => ErrorCode::NXBAC_BAD_CONJUNCTION,
        ActionError::BadTable(_) => ErrorCode::OFPBIC_BAD_TABLE_ID,
        ActionError::BadMeter(_) => ErrorCode::OFPMMFC_INVALID_METER,
        ActionError::NotInActionSet => ErrorCode::OFPBAC_BAD_TYPE,
    })
}
