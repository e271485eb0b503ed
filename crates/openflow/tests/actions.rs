//! Actions as bytes: does Weft read them as Debian's `ovs-ofctl` does, and write what it reads the same?
//!
//! Needs `ovs-ofctl`, which `make setup` installs, and fails without it.

use std::io::Write;
use std::process::{Command, Stdio};

use weft_flow::{Field, Instructions, Match};
use weft_openflow::{ActionKind, Codec, Message, Version};

/// A line of `actions.txt`.
struct Case {
    version: Version,
    bytes: Vec<u8>,
    /// Name of an error, or text.
    expected: &'static str,
    /// Text of what Weft writes, where it chooses another form.
    rewritten: &'static str,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn cases() -> Vec<Case> {
    let lines = include_str!("actions.txt").lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let mut parts = line.splitn(3, ' ');
            let version = Version::by_name(&format!("OpenFlow{}", parts.next().unwrap())).unwrap();
            let bytes = unhex(parts.next().unwrap());
            let expected = parts.next().unwrap();
            let (expected, rewritten) = expected.split_once(" ~ ").unwrap_or((expected, expected));
            Case { version, bytes, expected, rewritten }
        })
        .collect()
}

/// What stands before the actions in a packet-out of a version.
fn head(version: Version, actions: usize) -> Vec<u8> {
    let length = u16::try_from(actions).unwrap().to_be_bytes();
    let mut out = vec![version.wire(), 13, 0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff];
    match version {
        Version::V10 => {
            out.extend([0xff, 0xff]);
            out.extend(length);
        }
        Version::V15 => {
            out.extend(length);
            // Padding, and a match of input port 1.
            out.extend([0, 0, 0, 1, 0, 12, 0x80, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0]);
        }
        _ => {
            out.extend([0xff, 0xff, 0xff, 0xfd]);
            out.extend(length);
            out.extend([0; 6]);
        }
    }
    out
}

/// Reads the actions and writes them again.
fn again(case: &Case) -> Result<Vec<u8>, String> {
    let codec = Codec::new(case.version);
    let mut message = head(case.version, case.bytes.len());
    let at = message.len();
    message.extend(&case.bytes);
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    message[2..4].copy_from_slice(&length);
    let (_, read) = codec.decode(&message).map_err(|e| e.name().to_owned())?;
    assert!(matches!(read, Message::PacketOut(_)));
    let mut out = Vec::new();
    codec.encode(1, &read, &mut out).unwrap();
    Ok(out.split_off(at))
}

/// What `ovs-ofctl` says of each line of actions.
fn peer(version: Version, lines: &[String]) -> Vec<String> {
    let mut child = Command::new("ovs-ofctl")
        .args(["-vconsole:off", "parse-actions", version.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("ovs-ofctl cannot be run ({e}); run `make setup`"));
    let input = lines.join("\n") + "\n";
    let mut stdin = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let answer = |line: &str| match line.split_once(" actions: ") {
        Some((bad, error)) if bad.starts_with("bad ") => Some(error.to_owned()),
        _ => Some(line.to_owned()).filter(|l| l.starts_with("actions=")),
    };
    String::from_utf8(output.stdout).unwrap().lines().filter_map(answer).collect()
}

#[test]
fn bytes_mean_what_they_mean_to_open_vswitch() {
    let cases = cases();
    assert!(cases.len() > 800, "{}", cases.len());
    for version in Version::ALL {
        let of: Vec<&Case> = cases.iter().filter(|c| c.version == version).collect();
        let given: Vec<String> = of.iter().map(|c| hex(&c.bytes)).collect();
        let answers = peer(version, &given);
        assert_eq!(answers.len(), of.len(), "{version}");
        let (mut written, mut expected) = (Vec::new(), Vec::new());
        for (case, answer) in of.iter().zip(&answers) {
            assert_eq!(answer, case.expected, "ovs-ofctl of {version} {}", hex(&case.bytes));
            match again(case) {
                Err(error) => assert_eq!(error, case.expected, "{version} {}", hex(&case.bytes)),
                Ok(bytes) => {
                    written.push(hex(&bytes));
                    expected.push((case.rewritten, hex(&case.bytes)));
                }
            }
        }
        assert!(written.len() > 40, "{version}: {}", written.len());
        for (answer, (text, given)) in peer(version, &written).iter().zip(&expected) {
            assert_eq!(answer, text, "written after reading {version} {given}");
        }
    }
}

#[test]
fn the_refused_action_is_named() {
    let of = |version: Version, actions: &str| {
        let bytes = unhex(actions);
        let mut message = head(version, bytes.len());
        message.extend(bytes);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        message[2..4].copy_from_slice(&length);
        let codec = Codec::new(version);
        assert_eq!(codec.decode(&message).is_ok(), codec.refused_action(&message).is_none());
        codec.refused_action(&message)
    };
    let output = "0000001000000001ffff000000000000";
    assert_eq!(of(Version::V13, output), None);
    // push_pbb, then Nicira's 99, then a resubmission inside a clone inside a clone, then somebody's.
    let cases = [
        ("001a000888e70000", ActionKind::Standard(26)),
        ("ffff0010000023200063000000000000", ActionKind::Nicira(99)),
        (
            "ffff0030000023 20002a000000000000 ffff0020000023 20002a000000000000 ffff0010000023 20000e000001000001",
            ActionKind::Nicira(14),
        ),
        ("ffff0010001122330001000000000000", ActionKind::Vendor(0x0011_2233)),
    ];
    for (bytes, kind) in cases {
        let bytes = format!("{output}{}", bytes.replace(' ', ""));
        assert_eq!(of(Version::V13, &bytes), Some(kind), "{bytes}");
    }
}

/// What was understood in any version is kept as it was.
#[test]
fn what_is_kept_is_read_again_as_it_was() {
    let mut kept = 0;
    let tagged = Match::any().with(Field::VlanTci, 0x2005);
    let keep = |instructions: &Instructions| {
        let mut bytes = Vec::new();
        weft_openflow::kept::encode(instructions, &tagged, &mut bytes);
        let mut matching = Match::any();
        assert_eq!(weft_openflow::kept::decode(&bytes, &mut matching).as_ref(), Ok(instructions));
        assert_eq!(matching, tagged);
        let buckets = [instructions.apply.clone(), Vec::new(), instructions.write.clone()];
        let mut of_buckets = Vec::new();
        weft_openflow::kept::encode_buckets(buckets.iter().map(|b| &b[..]), &mut of_buckets);
        assert_eq!(weft_openflow::kept::decode_buckets(&of_buckets).as_deref(), Ok(&buckets[..]));
        for cut in 0..bytes.len() {
            // Hostile or cut, it is at worst refused.
            let _ = weft_openflow::kept::decode(&bytes[..cut], &mut matching);
            let _ = weft_openflow::kept::decode_buckets(&bytes[..cut]);
        }
    };
    for case in cases() {
        let codec = Codec::new(case.version);
        let mut message = head(case.version, case.bytes.len());
        message.extend(&case.bytes);
        let length = u16::try_from(message.len()).unwrap().to_be_bytes();
        message[2..4].copy_from_slice(&length);
        let Ok((_, Message::PacketOut(read))) = codec.decode(&message) else { continue };
        let write = read.actions.iter().filter(|a| a.in_action_set()).cloned().collect();
        keep(&Instructions { write, goto: Some(9), ..Instructions::apply(read.actions) });
        kept += 1;
    }
    assert!(kept > 100, "{kept}");
    keep(&Instructions::default());
    let metered =
        Instructions { clear: true, meter: Some(7), metadata: Some((5, 0xff)), ..Instructions::default() };
    keep(&metered);
}
