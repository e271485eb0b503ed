//! What does a bare OpenFlow 1.4 connection look like? Bytes written here, so that no tool's own speed is measured.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

const VERSION: u8 = 5;
const HELLO: u8 = 0;
const ERROR: u8 = 1;
const ECHO_REQUEST: u8 = 2;
const FLOW_MOD: u8 = 14;
const MULTIPART_REQUEST: u8 = 18;
const MULTIPART_REPLY: u8 = 19;
const BARRIER_REQUEST: u8 = 20;
const BARRIER_REPLY: u8 = 21;
const BUNDLE_CONTROL: u8 = 33;
const BUNDLE_ADD: u8 = 34;
/// Multipart types: the flows, counters of a port.
const MP_FLOW: u16 = 1;
const MP_PORT_STATS: u16 = 4;
const ANY: [u8; 4] = [0xff; 4];

/// What a flow-mod does.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Adds the rule.
    Add = 0,
    /// Deletes every rule.
    DeleteAll = 3,
    /// Deletes this rule.
    DeleteStrict = 4,
}

/// A connection on which the hellos were exchanged.
pub(crate) struct Ofp {
    stream: UnixStream,
    buffer: Vec<u8>,
    at: usize,
    xid: u32,
}

impl Ofp {
    /// Connects to a bridge's management socket.
    pub(crate) fn connect(path: &Path) -> Result<Ofp, String> {
        let stream = UnixStream::connect(path).map_err(|e| format!("{}: {e}", path.display()))?;
        stream.set_read_timeout(Some(Duration::from_secs(120))).map_err(|e| e.to_string())?;
        let mut ofp = Ofp { stream, buffer: Vec::new(), at: 0, xid: 1 };
        ofp.write(&header(HELLO, 8, 1))?;
        match ofp.next()? {
            m if m[1] == HELLO => Ok(ofp),
            m => Err(format!("message {} instead of a hello", m[1])),
        }
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.stream.write_all(bytes).map_err(|e| format!("write to the switch: {e}"))
    }

    /// Asks for a barrier and waits until all before it is done; an error that came meanwhile is one.
    pub(crate) fn barrier(&mut self) -> Result<(), String> {
        let xid = self.fresh();
        self.write(&header(BARRIER_REQUEST, 8, xid))?;
        self.answer(BARRIER_REPLY, xid).map(drop)
    }

    /// Sends these rules and waits for one barrier.
    pub(crate) fn stream(
        &mut self,
        command: Command,
        rules: impl Iterator<Item = u32>,
    ) -> Result<(), String> {
        let mut bytes = Vec::with_capacity(1 << 17);
        for rule in rules {
            flow_mod(&mut bytes, command, rule, 1);
            if bytes.len() > 1 << 16 {
                self.write(&bytes)?;
                bytes.clear();
            }
        }
        self.write(&bytes)?;
        self.barrier()
    }

    /// Adds rules in one atomic, ordered bundle and waits until it is committed.
    pub(crate) fn bundle(&mut self, rules: impl Iterator<Item = u32>) -> Result<(), String> {
        let id = self.fresh();
        self.control(id, 0)?;
        let (mut bytes, mut inner) = (Vec::with_capacity(1 << 17), Vec::new());
        for rule in rules {
            let xid = self.fresh();
            inner.clear();
            flow_mod(&mut inner, Command::Add, rule, xid);
            bytes.extend(header(BUNDLE_ADD, 16 + inner.len(), xid));
            bytes.extend(id.to_be_bytes());
            bytes.extend([0, 0, 0, 3]);
            bytes.extend(&inner);
            if bytes.len() > 1 << 16 {
                self.write(&bytes)?;
                bytes.clear();
            }
        }
        self.write(&bytes)?;
        self.control(id, 4)
    }

    /// `OFPT_BUNDLE_CONTROL`: opens (0) or commits (4) and waits for the reply, whose type is one more.
    fn control(&mut self, id: u32, kind: u8) -> Result<(), String> {
        let xid = self.fresh();
        let mut m = header(BUNDLE_CONTROL, 16, xid).to_vec();
        m.extend(id.to_be_bytes());
        m.extend([0, kind, 0, 3]);
        self.write(&m)?;
        let reply = self.answer(BUNDLE_CONTROL, xid)?;
        if reply.get(13) == Some(&(kind + 1)) { Ok(()) } else { Err(format!("bundle: {reply:?}")) }
    }

    /// Reads every rule; returns how many there were.
    pub(crate) fn dump(&mut self) -> Result<u64, String> {
        let xid = self.fresh();
        let mut m = header(MULTIPART_REQUEST, 56, xid).to_vec();
        m.extend(MP_FLOW.to_be_bytes());
        m.extend([0; 6]);
        m.extend([0xff, 0, 0, 0]);
        m.extend(ANY);
        m.extend(ANY);
        m.extend([0; 20]);
        m.extend([0, 1, 0, 4, 0, 0, 0, 0]);
        self.write(&m)?;
        let mut rules = 0;
        loop {
            let part = self.answer(MULTIPART_REPLY, xid)?;
            let mut at = 16;
            while let Some(len) = part.get(at..at + 2) {
                at += usize::from(u16::from_be_bytes([len[0], len[1]])).max(8);
                rules += 1;
            }
            if part.get(11).is_none_or(|flags| flags & 1 == 0) {
                return Ok(rules);
            }
        }
    }

    /// Packets that left by a port.
    pub(crate) fn sent(&mut self, port: u32) -> Result<u64, String> {
        let xid = self.fresh();
        let mut m = header(MULTIPART_REQUEST, 24, xid).to_vec();
        m.extend(MP_PORT_STATS.to_be_bytes());
        m.extend([0; 6]);
        m.extend(port.to_be_bytes());
        m.extend([0; 4]);
        self.write(&m)?;
        let reply = self.answer(MULTIPART_REPLY, xid)?;
        // length, pad, port, duration (8), received packets (8), sent packets
        let count: [u8; 8] =
            reply.get(16 + 24..16 + 32).and_then(|b| b.try_into().ok()).ok_or("no counters")?;
        Ok(u64::from_be_bytes(count))
    }

    fn fresh(&mut self) -> u32 {
        self.xid = self.xid.wrapping_add(1);
        self.xid
    }

    /// The next message of this type and number; errors fail, echo requests are answered, others are passed over.
    fn answer(&mut self, kind: u8, xid: u32) -> Result<Vec<u8>, String> {
        loop {
            let message = self.next()?;
            if message[1] == ERROR {
                return Err(format!("the switch says error {:?}", &message[8..message.len().min(12)]));
            }
            if message[1] == ECHO_REQUEST {
                let mut reply = message.clone();
                reply[1] = ECHO_REQUEST + 1;
                self.write(&reply)?;
            }
            if message[1] == kind && message[4..8] == xid.to_be_bytes() {
                return Ok(message);
            }
        }
    }

    fn next(&mut self) -> Result<Vec<u8>, String> {
        loop {
            let rest = &self.buffer[self.at..];
            if let Some(head) = rest.get(..8) {
                let len = usize::from(u16::from_be_bytes([head[2], head[3]])).max(8);
                if let Some(message) = rest.get(..len) {
                    let message = message.to_vec();
                    self.at += len;
                    return Ok(message);
                }
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            let old = self.buffer.len();
            self.buffer.resize(old + (1 << 17), 0);
            let got = self.stream.read(&mut self.buffer[old..]);
            self.buffer.truncate(old + got.as_ref().map_or(0, |n| *n));
            match got {
                Ok(0) => return Err("the switch closed the connection".to_owned()),
                Ok(_) => {}
                Err(e) => return Err(format!("nothing from the switch: {e}")),
            }
        }
    }
}

fn header(kind: u8, len: usize, xid: u32) -> [u8; 8] {
    let (l, x) = ((len as u16).to_be_bytes(), xid.to_be_bytes());
    [VERSION, kind, l[0], l[1], x[0], x[1], x[2], x[3]]
}

/// A flow-mod of the rule with this number: UDP from 10.0.0.0 + number, in eight shapes of mask, to port 2.
pub(crate) fn flow_mod(out: &mut Vec<u8>, command: Command, rule: u32, xid: u32) {
    let start = out.len();
    out.extend(header(FLOW_MOD, 0, xid));
    out.extend([0; 16]);
    let table = if command == Command::DeleteAll { 0xff } else { 0 };
    out.extend([table, command as u8, 0, 0, 0, 0]);
    out.extend(100u16.to_be_bytes());
    out.extend([ANY, ANY, ANY].concat());
    out.extend([0; 4]);
    if command == Command::DeleteAll {
        out.extend([0, 1, 0, 4, 0, 0, 0, 0]);
    } else {
        matches(out, rule);
        out.extend([0, 4, 0, 24, 0, 0, 0, 0]);
        out.extend([0, 0, 0, 16, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    let len = ((out.len() - start) as u16).to_be_bytes();
    out[start + 2..start + 4].copy_from_slice(&len);
}

/// The match of a rule, in OXM of the basic class.
fn matches(out: &mut Vec<u8>, rule: u32) {
    let start = out.len();
    out.extend([0, 1, 0, 0]);
    let mut field = |number: u8, value: &[u8]| {
        out.extend([0x80, 0, number << 1, value.len() as u8]);
        out.extend(value);
    };
    if rule & 1 != 0 {
        field(0, &1u32.to_be_bytes());
    }
    field(5, &[0x08, 0x00]);
    field(10, &[17]);
    field(11, &(0x0a00_0000 | rule).to_be_bytes());
    if rule & 2 != 0 {
        field(12, &[10, 128, 0, 1]);
    }
    if rule & 4 != 0 {
        field(16, &53u16.to_be_bytes());
    }
    let len = out.len() - start;
    out[start + 2..start + 4].copy_from_slice(&(len as u16).to_be_bytes());
    out.resize(start + len.next_multiple_of(8), 0);
}
