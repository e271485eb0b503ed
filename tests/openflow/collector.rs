//! What did an exporter of flows say? A collector of IPFIX messages (RFC 7011) that believes nothing.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use weft_host::netns::NetNs;

/// An element: enterprise number and identifier.
pub(crate) type Element = (u32, u16);

/// A record: values by element; ports' names come once or twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Record {
    pub(crate) domain: u32,
    pub(crate) values: BTreeMap<Element, Vec<Vec<u8>>>,
}

impl Record {
    /// The number that an element has.
    pub(crate) fn number(&self, element: Element) -> Option<u64> {
        let bytes = self.values.get(&element)?.first()?;
        Some(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b)))
    }

    /// The texts that an element has.
    pub(crate) fn texts(&self, element: Element) -> Vec<String> {
        let values = self.values.get(&element).into_iter().flatten();
        values.map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
    }
}

/// A socket that is sent messages.
pub(crate) struct Collector {
    socket: UdpSocket,
    templates: BTreeMap<(u32, u16), Vec<(Element, u16)>>,
    /// Sequence number that the next message of each domain should have.
    pub(crate) sequence: BTreeMap<u32, u32>,
    /// Whether some message had another sequence number.
    pub(crate) gap: bool,
    /// Takes templates of one observation domain for those of another: Open vSwitch tells them once.
    pub(crate) lenient: bool,
    /// Messages that had templates.
    pub(crate) taught: usize,
    /// Records of flows.
    pub(crate) records: Vec<Record>,
    /// Records of exporters.
    pub(crate) own: Vec<Record>,
}

impl Collector {
    /// A collector in a network namespace.
    pub(crate) fn open(ns: &str, addr: &str) -> Collector {
        let ns = NetNs::open(ns).expect("namespace");
        let socket = ns.run(|| UdpSocket::bind(addr).expect("a free port")).expect("inside");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
        Collector {
            socket,
            templates: BTreeMap::new(),
            sequence: BTreeMap::new(),
            gap: false,
            lenient: false,
            taught: 0,
            records: Vec::new(),
            own: Vec::new(),
        }
    }

    /// Where it is.
    pub(crate) fn port(&self) -> u16 {
        self.socket.local_addr().expect("an address").port()
    }

    /// Waits until there are as many records of flows, and none more for a moment.
    pub(crate) fn wait_for(&mut self, records: usize) -> Result<(), String> {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.receive() {
                true => {}
                false if self.records.len() >= records => break,
                false if Instant::now() > until => break,
                false => {}
            }
        }
        match self.records.len() {
            n if n == records => Ok(()),
            n => Err(format!("{n} records instead of {records}: {:#?}", self.records)),
        }
    }

    /// Takes in a message; false: there is none for a moment.
    pub(crate) fn receive(&mut self) -> bool {
        let mut bytes = vec![0; 65_536];
        let Ok(n) = self.socket.recv(&mut bytes) else { return false };
        bytes.truncate(n);
        assert!(self.message(&bytes).is_some(), "no IPFIX message: {bytes:02x?}");
        true
    }

    fn message(&mut self, bytes: &[u8]) -> Option<()> {
        let mut r = Bytes(bytes);
        let (version, len) = (r.u16()?, r.u16()?);
        let (_time, sequence, domain) = (r.u32()?, r.u32()?, r.u32()?);
        (version == 10 && usize::from(len) == bytes.len()).then_some(())?;
        let before = self.records.len() + self.own.len();
        while !r.0.is_empty() {
            let (id, len) = (r.u16()?, r.u16()?);
            let mut set = Bytes(r.take(usize::from(len).checked_sub(4)?)?);
            match id {
                2 | 3 => {
                    self.taught += 1;
                    // Sets may end in padding.
                    while set.0.len() >= 4 {
                        self.template(domain, id == 3, &mut set)?;
                    }
                }
                id => {
                    let known = self.templates.get(&(domain, id));
                    let elsewhere =
                        || self.templates.iter().find(|((_, known), _)| *known == id).map(|(_, t)| t);
                    let template = known.or_else(|| elsewhere().filter(|_| self.lenient))?.clone();
                    while !set.0.is_empty() {
                        let record = record(domain, &template, &mut set)?;
                        let own = record.values.contains_key(&(0, 144));
                        if own { self.own.push(record) } else { self.records.push(record) }
                    }
                }
            }
        }
        let records = (self.records.len() + self.own.len() - before) as u32;
        self.gap |= *self.sequence.get(&domain).unwrap_or(&sequence) != sequence;
        self.sequence.insert(domain, sequence.wrapping_add(records));
        Some(())
    }

    fn template(&mut self, domain: u32, options: bool, r: &mut Bytes<'_>) -> Option<()> {
        let (id, count) = (r.u16()?, r.u16()?);
        if options {
            r.u16()?;
        }
        let mut elements = Vec::new();
        for _ in 0..count {
            let (element, len) = (r.u16()?, r.u16()?);
            let enterprise = if element & 0x8000 != 0 { r.u32()? } else { 0 };
            elements.push(((enterprise, element & 0x7fff), len));
        }
        self.templates.insert((domain, id), elements);
        Some(())
    }
}

fn record(domain: u32, template: &[(Element, u16)], r: &mut Bytes<'_>) -> Option<Record> {
    let mut record = Record { domain, ..Record::default() };
    for (element, len) in template {
        let len = match *len {
            u16::MAX => match r.take(1)?[0] {
                255 => r.u16()?,
                short => u16::from(short),
            },
            len => len,
        };
        record.values.entry(*element).or_default().push(r.take(usize::from(len))?.to_vec());
    }
    Some(record)
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(head)
    }
    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }
    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }
}
