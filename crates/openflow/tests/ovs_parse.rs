//! Does `ovs-ofctl` understand every message that is written here, in every version?

#[allow(dead_code)]
mod values;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use weft_openflow::{Codec, Message, Version};

/// Messages of each version.
const COUNT: usize = 1500;

/// What Open vSwitch 3.1 has no reader for: some of OpenFlow 1.5, and bundles before the ONF had them.
fn foreign(version: Version, message: &Message) -> bool {
    use weft_openflow::stats::{StatsReply as Reply, StatsRequest as Request};
    match message {
        Message::ControllerStatus(_) => true,
        Message::BundleControl(_) | Message::BundleAdd(_) => version < Version::V13,
        Message::MultipartRequest(m) => {
            matches!(m.body, Request::FlowCounts(_) | Request::ControllerStatus | Request::BundleFeatures)
        }
        Message::MultipartReply(m) => {
            matches!(m.body, Reply::FlowCounts(_) | Reply::ControllerStatus(_) | Reply::BundleFeatures(_))
        }
        _ => false,
    }
}

/// What a message is, with the question if it is one.
fn kind(message: &Message) -> String {
    let text = match message {
        Message::MultipartRequest(m) => format!("{:?}", m.body),
        Message::MultipartReply(m) => format!("{:?}", m.body),
        _ => String::new(),
    };
    let word: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
    format!("{} {word}", message.name())
}

#[test]
fn ovs_ofctl_reads_every_message() {
    let mut failed = 0;
    for version in Version::ALL {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[version.wire(); 32]);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let messages = values::message(version);
        let codec = Codec::new(version);
        let (mut stream, mut written) = (Vec::new(), Vec::new());
        while written.len() < COUNT {
            let message = messages.new_tree(&mut runner).unwrap().current();
            if foreign(version, &message) {
                continue;
            }
            let start = stream.len();
            codec.encode(written.len() as u32, &message, &mut stream).unwrap();
            written.push((message, stream[start..].to_vec()));
        }
        let path = std::env::temp_dir().join(format!("weft-parse-{}-{version}", std::process::id()));
        fs::write(&path, &stream).unwrap();
        let run = Command::new("ovs-ofctl").arg("ofp-parse").arg(&path).output();
        fs::remove_file(&path).unwrap();
        let run = run.expect("ovs-ofctl is needed");
        let text = String::from_utf8_lossy(&run.stdout);
        let mut bad = BTreeMap::new();
        let mut current = usize::MAX;
        let mut silent: BTreeSet<usize> = (0..written.len()).collect();
        for line in text.lines() {
            let head = line.starts_with(['O', 'N']).then(|| line.split("(xid=0x").nth(1)).flatten();
            if let Some(xid) = head.and_then(|x| x.split(')').next()) {
                current = usize::from_str_radix(xid, 16).unwrap_or(usize::MAX);
                silent.remove(&current);
            }
            let Some(at) = line.find("***").filter(|_| !line.starts_with("***decode")) else { continue };
            // Errors quote messages; matches and actions are of any kind together; bundles hold echoes.
            let aside = [
                "truncated",
                "BMC_BAD_VALUE",
                "OFPBAC_",
                "OFPBFC_",
                "FMFC_BAD_TABLE_ID",
                "FMFC_BAD_FLAGS",
                "eviction=***",
            ]
            .iter()
            .any(|error| line.contains(error));
            if let Some((message, bytes)) = written.get(current).filter(|_| !aside) {
                let of = bad.entry((kind(message), line[at..].to_string())).or_insert((0, message, bytes));
                of.0 += 1;
            }
        }
        for (message, bytes) in silent.into_iter().map(|i| &written[i]) {
            bad.entry((kind(message), "not read".to_string())).or_insert((0, message, bytes)).0 += 1;
        }
        for ((kind, error), (count, message, bytes)) in &bad {
            println!("{version} {count} × {kind} {error}\n  {message:?}\n  {bytes:02x?}");
        }
        failed += bad.len();
    }
    assert_eq!(failed, 0, "ovs-ofctl refused what is printed above");
}
