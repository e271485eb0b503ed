//! Can a message, whatever it says, make the OpenFlow codec panic? What is understood must also be written and read
//! again without one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_openflow::msg::control::FlowFormat;
use weft_openflow::msg::packet_in::PacketInFormat;
use weft_openflow::{Codec, HEADER_LEN, Version};

fuzz_target!(|data: &[u8]| {
    let Some((choice, body)) = data.split_first_chunk::<3>() else { return };
    let Some(version) = Version::from_wire(choice[0] % 6 + 1) else { return };
    let mut codec = Codec::new(version);
    codec.table_ids = choice[2] & 1 != 0;
    codec.flow_format = if choice[2] & 2 != 0 { FlowFormat::Nxm } else { FlowFormat::OpenFlow10 };
    codec.packet_in_format =
        [PacketInFormat::Standard, PacketInFormat::Nxt, PacketInFormat::Nxt2][usize::from(choice[2] >> 2) % 3];
    // The header is made right, so that the input is spent on bodies.
    let length = (HEADER_LEN + body.len()).min(0xffff);
    let mut message = vec![version.wire(), choice[1], (length >> 8) as u8, length as u8, 0, 0, 0, 1];
    message.extend_from_slice(&body[..length - HEADER_LEN]);
    if let Ok((xid, decoded)) = codec.decode(&message) {
        let mut again = Vec::new();
        // Several messages where an answer is long: read the first.
        if codec.encode(xid, &decoded, &mut again).is_ok() && again.len() >= HEADER_LEN {
            let length = usize::from(u16::from_be_bytes([again[2], again[3]]));
            let _ = codec.decode(&again[..length]);
        }
    }
});
