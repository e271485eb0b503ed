//! What does a case say? The form of the files in `cases/`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// A file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Does a rule match a packet, and not another?
    #[serde(default)]
    pub(crate) matches: Vec<MatchCase>,
    /// What comes out of which port?
    #[serde(default)]
    pub(crate) forwards: Vec<ForwardCase>,
    /// What is refused, and how?
    #[serde(default)]
    pub(crate) refusals: Vec<RefusalCase>,
}

/// `[match, packet that it takes, packet that it does not take]`, and the OpenFlow version if not 1.5.
#[derive(Debug, Deserialize)]
pub(crate) struct MatchCase(
    pub(crate) String,
    pub(crate) String,
    pub(crate) String,
    #[serde(default)] pub(crate) Option<String>,
);

/// Rules, a packet, and what leaves.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ForwardCase {
    pub(crate) name: String,
    /// OpenFlow versions as `-O` of ovs-ofctl takes them.
    #[serde(default = "newest")]
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) meters: Vec<String>,
    #[serde(default)]
    pub(crate) groups: Vec<String>,
    /// Rules; one that starts with `actions=` matches everything.
    #[serde(default)]
    pub(crate) flows: Vec<String>,
    /// Rules that ovs-ofctl has no words for: they are sent in the case's version without it.
    #[serde(default)]
    pub(crate) encoded: Vec<String>,
    /// Commands of ovs-vsctl before all else.
    #[serde(default)]
    pub(crate) vsctl: Vec<String>,
    /// Commands of ovs-ofctl before the packets, such as `mod-port br0 p2 down`.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    /// Packets, sent one after the other: `port: flow`, the port 1 if there is none.
    #[serde(default = "any_packet")]
    pub(crate) send: Vec<String>,
    /// For each port that something leaves by, the frames in order. Nothing leaves by others.
    #[serde(default)]
    pub(crate) expect: BTreeMap<usize, Vec<String>>,
    /// Lines that `ovs-ofctl dump-flows` must contain after, counters left out.
    #[serde(default)]
    pub(crate) rules_after: Vec<String>,
    /// What Open vSwitch 3.1 does instead, where it is not asked.
    #[serde(default)]
    pub(crate) ovs: Option<String>,
    /// Text that `dpctl/dump-conntrack -s` must contain after.
    #[serde(default)]
    pub(crate) connections_after: Vec<String>,
}

/// Something the switch refuses.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RefusalCase {
    pub(crate) name: String,
    #[serde(default = "newest")]
    pub(crate) version: String,
    /// Commands of ovs-ofctl that must succeed before.
    #[serde(default)]
    pub(crate) before: Vec<String>,
    /// Messages that are sent before, on the same connection, and must not be refused.
    #[serde(default)]
    pub(crate) first: Vec<String>,
    /// A command of ovs-ofctl, or
    #[serde(default)]
    pub(crate) ofctl: Option<String>,
    /// a message in hexadecimal, whole. `LLLL` stands for its length, `MMMMMMMMMMMM` for the address of port 1.
    #[serde(default)]
    pub(crate) message: Option<String>,
    /// Name of the error, as ovs-ofctl prints it.
    pub(crate) error: String,
    /// What Open vSwitch 3.1 says instead, where the specification is followed rather than it.
    #[serde(default)]
    pub(crate) ovs: Option<String>,
    /// What it says instead of a port that is a network device.
    #[serde(default)]
    pub(crate) ovs_device: Option<String>,
}

fn newest() -> String {
    "OpenFlow15".to_owned()
}

fn any_packet() -> Vec<String> {
    vec![String::new()]
}

/// Reads all files of cases, by name.
pub(crate) fn read() -> Vec<(String, File)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/openflow/cases");
    let entries = std::fs::read_dir(&dir).expect("the directory of cases");
    let mut names: Vec<_> = entries.map(|e| e.expect("an entry").path()).collect();
    names.sort();
    let read = |path: &std::path::PathBuf| {
        let text = std::fs::read_to_string(path).expect("a file of cases");
        let file = serde_yaml_ng::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        (path.file_stem().unwrap_or_default().to_string_lossy().into_owned(), file)
    };
    names.iter().map(read).collect()
}
