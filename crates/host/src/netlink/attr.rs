//! How are netlink messages and their attributes (netlink(7)) written and read?

/// `struct nlmsghdr`: length u32, type u16, flags u16, sequence u32, port u32.
pub(crate) const HEADER: usize = 16;
/// Marks an attribute that holds attributes.
const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// One request being written.
pub(crate) struct Message(Vec<u8>);

impl Message {
    /// A request of type `kind` whose fixed part (ifinfomsg, rtmsg, …) is `fixed`.
    pub(crate) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        let mut buf = vec![0; HEADER];
        buf[4..6].copy_from_slice(&kind.to_ne_bytes());
        buf[6..8].copy_from_slice(&(flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        buf.extend_from_slice(fixed);
        buf.resize(align(buf.len()), 0);
        Self(buf)
    }

    /// Appends raw bytes without an attribute header (the fixed part inside a nest, as veth's peer has).
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self.0.resize(align(self.0.len()), 0);
        self
    }

    /// Appends an attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let len = (4 + value.len()) as u16;
        self.0.extend_from_slice(&len.to_ne_bytes());
        self.0.extend_from_slice(&kind.to_ne_bytes());
        self.raw(value)
    }

    /// Appends an attribute in host byte order.
    pub(crate) fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a one-byte attribute.
    pub(crate) fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// Appends a NUL-terminated string.
    pub(crate) fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an attribute made of what `inside` appends.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.0.len();
        self.attr(kind | NESTED, &[]);
        inside(self);
        let len = (self.0.len() - start) as u16;
        self.0[start..start + 2].copy_from_slice(&len.to_ne_bytes());
        self
    }

    /// The bytes to send under sequence number `seq`.
    pub(crate) fn finish(&mut self, seq: u32) -> &[u8] {
        let len = self.0.len() as u32;
        self.0[0..4].copy_from_slice(&len.to_ne_bytes());
        self.0[8..12].copy_from_slice(&seq.to_ne_bytes());
        &self.0
    }
}

/// One message received: its type, flags, sequence number and what follows the header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) body: &'a [u8],
}

/// Walks the messages of one datagram. Ends at the first that is cut.
pub(crate) fn messages(mut buf: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let len = get_u32(buf, 0)? as usize;
        if len < HEADER || len > buf.len() {
            return None;
        }
        let message = Received {
            kind: get_u16(buf, 4)?,
            flags: get_u16(buf, 6)?,
            seq: get_u32(buf, 8)?,
            body: &buf[HEADER..len],
        };
        buf = &buf[align(len).min(buf.len())..];
        Some(message)
    })
}

/// Walks the attributes after a fixed part: (type without flag bits, value). Ends at the first that is cut.
pub(crate) fn attrs(mut buf: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(get_u16(buf, 0)?);
        let kind = get_u16(buf, 2)? & TYPE_MASK;
        let value = buf.get(4..len)?;
        buf = &buf[align(len).min(buf.len())..];
        Some((kind, value))
    })
}

pub(crate) fn get_u16(buf: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*buf.get(at..)?.first_chunk()?))
}

pub(crate) fn get_u32(buf: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*buf.get(at..)?.first_chunk()?))
}

pub(crate) fn get_u64(buf: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_ne_bytes(*buf.get(at..)?.first_chunk()?))
}

/// A NUL-terminated string attribute.
pub(crate) fn get_str(value: &[u8]) -> String {
    let end = value.iter().position(|b| *b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Message::new(7, 1, &[9; 5]);
        message.u32(1, 42).str(2, "abc").nest(3, |m| {
            m.u8(4, 5).u32(6, 7);
        });
        let got: Vec<_> = messages(message.finish(99)).collect();
        assert_eq!((got.len(), got[0].kind, got[0].seq), (1, 7, 99));
        let list: Vec<_> = attrs(&got[0].body[8..]).collect();
        assert_eq!(list[0], (1, &42u32.to_ne_bytes()[..]));
        assert_eq!((list[1].0, get_str(list[1].1)), (2, "abc".to_owned()));
        let inner: Vec<_> = attrs(list[2].1).collect();
        assert_eq!(inner, [(4, &[5u8][..]), (6, &7u32.to_ne_bytes()[..])]);
    }

    #[test]
    fn cut_or_looping_lengths_end_the_walk() {
        assert_eq!(attrs(&[0, 0, 1, 0]).count(), 0, "length 0");
        assert_eq!(attrs(&[3, 0, 1, 0]).count(), 0, "length below its header");
        assert_eq!(attrs(&[8, 0, 1, 0, 1]).count(), 0, "cut value");
        assert_eq!(messages(&[0; 16]).count(), 0);
        assert_eq!(messages(&[17, 0, 0, 0, 0]).count(), 0);
    }
}
