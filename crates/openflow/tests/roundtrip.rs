//! What is written reads back the same, in every version; what is mutated breaks nothing.

mod values;

use proptest::prelude::*;
use weft_flow::{Action, Instructions, OfPort};
use weft_openflow::msg::control::FlowFormat;
use weft_openflow::msg::flow::FlowMod;
use weft_openflow::msg::packet_out::PacketOut;
use weft_openflow::session::{ControllerSession, Options, SwitchSession};
use weft_openflow::{Codec, Header, Message, Version};

fn codec(version: Version) -> Codec {
    let mut codec = Codec::new(version);
    codec.table_ids = version == Version::V10;
    codec
}

/// Writes a message and reads it back.
fn back(codec: &Codec, message: &Message) -> Message {
    let mut bytes = Vec::new();
    codec.encode(7, message, &mut bytes).unwrap();
    let (xid, back) = codec.decode(&bytes).unwrap_or_else(|e| panic!("{e} of {message:?} as {bytes:02x?}"));
    assert_eq!(xid, 7);
    back
}

fn versioned<T: std::fmt::Debug, S: Strategy<Value = T>>(
    of: impl Fn(Version) -> S + 'static,
) -> impl Strategy<Value = (Version, T)> {
    values::version().prop_flat_map(move |v| of(v).prop_map(move |value| (v, value)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_message_reads_back((version, message) in versioned(values::message)) {
        prop_assert_eq!(back(&codec(version), &message), message);
    }

    #[test]
    fn matches_read_back_in_both_forms_of_1_0(m in values::matching()) {
        let message = Message::FlowMod(Box::new(FlowMod { matching: m, priority: 5, ..FlowMod::default() }));
        for flow_format in [FlowFormat::OpenFlow10, FlowFormat::Nxm] {
            prop_assert_eq!(&back(&Codec { flow_format, ..codec(Version::V10) }, &message), &message);
        }
    }

    /// Versions write some actions in different ways; writing what was read changes nothing any more.
    #[test]
    fn actions_settle((version, apply) in versioned(|v| prop::collection::vec(values::action(v), 0..8))) {
        let codec = codec(version);
        let message = PacketOut::new(OfPort(1), apply, Vec::new());
        let once = back(&codec, &Message::PacketOut(Box::new(message)));
        prop_assert_eq!(&back(&codec, &once), &once);
    }

    #[test]
    fn mutations_break_nothing(
        (version, messages) in versioned(|v| prop::collection::vec(values::message(v), 1..4)),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
        fix in any::<bool>(),
    ) {
        let codec = codec(version);
        let mut stream = Vec::new();
        for message in &messages {
            let mut bytes = Vec::new();
            codec.encode(1, message, &mut bytes).unwrap();
            for (at, to) in &edits {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            if let Some(cut) = &cut {
                bytes.truncate(cut.index(bytes.len()).max(8));
            }
            if fix && bytes.len() >= 8 {
                bytes[0] = version.wire();
                let length = (bytes.len() as u16).to_be_bytes();
                bytes[2..4].copy_from_slice(&length);
            }
            if let Ok((_, message)) = codec.decode(&bytes) {
                // What was understood can be written, and read, again.
                let mut again = Vec::new();
                if codec.encode(1, &message, &mut again).is_ok() {
                    let _ = codec.decode(&again);
                }
            }
            stream.extend(bytes);
        }
        let mut hello = Vec::new();
        Header { version: version.wire(), kind: 0, length: 8, xid: 0 }.emit(&mut hello);
        hello.extend(stream);
        let mut switch = SwitchSession::new(Options::default(), 0);
        let mut controller = ControllerSession::new(Options::default(), 0);
        for chunk in hello.chunks(37) {
            switch.receive(chunk, 1);
            controller.receive(chunk, 1);
        }
        prop_assert!(switch.backlog() < 1 << 20);
    }
}

/// Translations between versions that `ovs-ofctl` relies on.
#[test]
fn vlan_actions_are_translated() {
    let set = |list: Vec<Action>| {
        let f = FlowMod { table: Some(0), instructions: Instructions::apply(list), ..FlowMod::default() };
        Message::FlowMod(Box::new(f))
    };
    let apply = |message: &Message| match message {
        Message::FlowMod(f) => f.instructions.apply.clone(),
        _ => unreachable!(),
    };
    let vid = Action::SetVlanVid(5);
    // 1.0 pushes and sets in one action; 1.3 needs two; back in 1.0 they are one again.
    let later = apply(&back(&codec(Version::V13), &set(vec![vid.clone()])));
    assert_eq!(later.len(), 2);
    assert_eq!(apply(&back(&codec(Version::V10), &set(later))), vec![vid]);
}
