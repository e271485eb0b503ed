//! IPFIX messages (RFC 7011): how are templates and records of flows written?

/// Version in the header of a message (RFC 7011 §3.1).
pub const VERSION: u16 = 10;
/// UDP port of collectors (RFC 7011 §10.3.4).
pub const PORT: u16 = 4739;
/// Length of the header of a message.
pub const HEADER_LEN: usize = 16;
/// Least identifier of a template (RFC 7011 §3.4.1).
pub const FIRST_TEMPLATE: u16 = 256;
/// Set of templates (RFC 7011 §3.3.2).
const TEMPLATES: u16 = 2;
/// Set of options templates.
const OPTIONS_TEMPLATES: u16 = 3;
/// Length of the header of a set.
const SET_HEADER_LEN: usize = 4;
/// Bit of an element's identifier that says that an enterprise number follows.
const ENTERPRISE: u16 = 0x8000;

/// Where the fields of a message's header are.
mod field {
    use core::ops::Range;
    pub(super) const VERSION: Range<usize> = 0..2;
    pub(super) const LENGTH: Range<usize> = 2..4;
    pub(super) const EXPORT_TIME: Range<usize> = 4..8;
    pub(super) const SEQUENCE: Range<usize> = 8..12;
    pub(super) const DOMAIN: Range<usize> = 12..16;
}

/// An information element as a template names it (RFC 7011 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    /// Private enterprise number; 0: the element is IANA's.
    pub enterprise: u32,
    /// Identifier, at most 32767.
    pub id: u16,
    /// Bytes in a record; 65535: each record says so itself (RFC 7011 §7).
    pub len: u16,
}

impl Element {
    /// Length of what each record tells the length of.
    pub const VARIABLE: u16 = u16::MAX;

    /// An element of IANA's registry.
    pub const fn iana(id: u16, len: u16) -> Element {
        Element { enterprise: 0, id, len }
    }
}

/// The rest of a message's header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 when it was sent.
    pub export_time: u32,
    /// Records sent before, of this domain to this collector.
    pub sequence: u32,
    /// Observation domain.
    pub domain: u32,
}

/// A message that is being written: sets of templates and of records, as many as there is room for.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Vec<u8>,
    limit: usize,
    /// Identifier of the set at the end, and where it begins.
    set: Option<(u16, usize)>,
    records: u32,
}

impl Message {
    /// A message of at most `limit` bytes (65535 at most).
    pub fn new(limit: usize) -> Message {
        let limit = limit.min(usize::from(u16::MAX));
        Message { bytes: vec![0; HEADER_LEN], limit, set: None, records: 0 }
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER_LEN
    }

    /// Records written, other than templates.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Writes a template; the first `scope` of an options template's elements are its scope, 0: it is none. False: there
    /// is no room for it.
    pub fn template(&mut self, id: u16, elements: &[Element], scope: u16) -> bool {
        let mut out = Vec::with_capacity(6 + elements.len() * 8);
        out.extend(id.to_be_bytes());
        out.extend((elements.len() as u16).to_be_bytes());
        if scope > 0 {
            out.extend(scope.to_be_bytes());
        }
        for element in elements {
            let private = element.enterprise != 0;
            let id = element.id & !ENTERPRISE | if private { ENTERPRISE } else { 0 };
            out.extend(id.to_be_bytes());
            out.extend(element.len.to_be_bytes());
            if private {
                out.extend(element.enterprise.to_be_bytes());
            }
        }
        self.append(if scope > 0 { OPTIONS_TEMPLATES } else { TEMPLATES }, &out)
    }

    /// Writes a record as its template says. False: there is no room for it.
    pub fn record(&mut self, template: u16, record: &[u8]) -> bool {
        let fits = self.append(template, record);
        self.records += u32::from(fits);
        fits
    }

    fn append(&mut self, set: u16, bytes: &[u8]) -> bool {
        let begin = match self.set {
            Some((open, begin)) if open == set => Some(begin),
            _ => None,
        };
        let head = if begin.is_some() { 0 } else { SET_HEADER_LEN };
        if self.bytes.len() + head + bytes.len() > self.limit {
            return false;
        }
        let begin = begin.unwrap_or_else(|| {
            let begin = self.bytes.len();
            self.bytes.extend(set.to_be_bytes());
            self.bytes.extend([0; 2]);
            begin
        });
        self.set = Some((set, begin));
        self.bytes.extend_from_slice(bytes);
        let len = (self.bytes.len() - begin) as u16;
        self.bytes[begin + 2..begin + 4].copy_from_slice(&len.to_be_bytes());
        true
    }

    /// The message with its header.
    pub fn finish(mut self, header: &Header) -> Vec<u8> {
        let len = self.bytes.len() as u16;
        let mut put = |at: core::ops::Range<usize>, value: &[u8]| self.bytes[at].copy_from_slice(value);
        put(field::VERSION, &VERSION.to_be_bytes());
        put(field::LENGTH, &len.to_be_bytes());
        put(field::EXPORT_TIME, &header.export_time.to_be_bytes());
        put(field::SEQUENCE, &header.sequence.to_be_bytes());
        put(field::DOMAIN, &header.domain.to_be_bytes());
        self.bytes
    }
}

/// Appends a value of variable length (RFC 7011 §7); what is beyond 65535 bytes is left out.
pub fn put_variable(out: &mut Vec<u8>, value: &[u8]) {
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    if value.len() < 255 {
        out.push(value.len() as u8);
    } else {
        out.push(255);
        out.extend((value.len() as u16).to_be_bytes());
    }
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: Element = Element::iana(8, 4);
    const NAME: Element = Element { enterprise: 6876, id: 898, len: Element::VARIABLE };

    #[test]
    fn messages_are_as_the_standard_has_them() {
        let mut message = Message::new(100);
        assert!(message.is_empty());
        assert!(message.template(256, &[SOURCE, NAME], 0));
        assert!(message.template(257, &[SOURCE], 1));
        let mut record = vec![10, 0, 0, 1];
        put_variable(&mut record, b"ab");
        assert!(message.record(256, &record) && message.record(256, &record));
        assert_eq!(message.records(), 2);
        let bytes = message.finish(&Header { export_time: 1, sequence: 2, domain: 3 });
        let wanted: [&[u8]; 4] = [
            &[0, 10, 0, 68, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
            &[0, 2, 0, 20, 1, 0, 0, 2, 0, 8, 0, 4, 0x83, 0x82, 0xff, 0xff, 0, 0, 0x1a, 0xdc],
            &[0, 3, 0, 14, 1, 1, 0, 1, 0, 1, 0, 8, 0, 4],
            &[1, 0, 0, 18, 10, 0, 0, 1, 2, b'a', b'b', 10, 0, 0, 1, 2, b'a', b'b'],
        ];
        assert_eq!(bytes, wanted.concat());
    }

    #[test]
    fn there_is_an_end() {
        let mut message = Message::new(HEADER_LEN + 12);
        assert!(!message.record(256, &[0; 9]));
        assert!(message.is_empty());
        assert!(message.record(256, &[0; 8]));
        assert!(!message.record(256, &[0; 1]));
        assert_eq!((message.records(), message.finish(&Header::default()).len()), (1, HEADER_LEN + 12));
    }

    #[test]
    fn long_values_say_so() {
        let mut out = Vec::new();
        put_variable(&mut out, &[7; 300]);
        assert_eq!((out.len(), &out[..3]), (303, &[255, 1, 44][..]));
    }
}
