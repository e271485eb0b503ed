//! Does any text make a parser of `weft-flow` panic, or any flow read back as another? Do tunnel options?
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_flow::text::{Syntax, format_dp_flow_options, parse_dp_flow, parse_flow, parse_key};
use weft_flow::{TlvMapping, TlvTable};

fuzz_target!(|data: &[u8]| {
    let line = |class, kind, len, index| TlvMapping { class, kind, len, index };
    let Ok(tlv) = TlvTable::new().with(&[line(0xffff, 0x80, 8, 0), line(0, 1, 124, 7)]) else { return };
    if let Ok(known) = tlv.decode(data) {
        let again = tlv.decode(&tlv.encode(&known.metadata));
        assert_eq!(again.map(|k| k.metadata), Ok(known.metadata));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let syntax = Syntax { tlv: &tlv, ..Syntax::default() };
    let _ = parse_key(text, &syntax);
    if let Ok(flow) = parse_flow(text, &syntax) {
        let printed = flow.format(&syntax);
        let again = parse_flow(&printed, &syntax).unwrap_or_else(|e| panic!("{printed}: {e}"));
        assert_eq!(again.format(&syntax), printed);
    }
    if let Ok((key, mask)) = parse_dp_flow(text, &|_| None, &tlv) {
        let _ = format_dp_flow_options(&key, &mask, &tlv, &|_| None);
    }
});
