//! How are a Geneve header and its options laid out? (RFC 8926 §3.4, §3.5)

use crate::bytes::{array, be16, head, head_mut, put, put16, room};
use crate::{Error, EtherType, Result, Vni};

const LAYER: &str = "geneve";

/// Bytes of the header without options.
pub const HEADER_LEN: usize = 8;
/// Most bytes of options: 63 words of 4 bytes.
pub const MAX_OPTIONS_LEN: usize = 252;
/// Bytes of an option without its data.
pub const OPTION_HEADER_LEN: usize = 4;
/// Most bytes of one option's data.
pub const MAX_OPTION_DATA: usize = 124;

/// Byte offsets inside the header.
pub mod field {
    /// Version (2 bits) and length of the options in words of 4 bytes (6 bits).
    pub const VERSION_LEN: usize = 0;
    /// Control and critical flags, 1 byte.
    pub const FLAGS: usize = 1;
    /// EtherType of the payload, 2 bytes.
    pub const PROTOCOL: usize = 2;
    /// Virtual network identifier, 3 bytes.
    pub const VNI: usize = 4;
    /// Reserved, 1 byte.
    pub const RESERVED: usize = 7;
    /// Options.
    pub const OPTIONS: usize = 8;
}

/// Flag bits of the second byte.
pub mod flag {
    /// A control packet: no payload for tenants.
    pub const CONTROL: u8 = 0x80;
    /// Some option is critical.
    pub const CRITICAL: u8 = 0x40;
}

/// A checked view of a Geneve packet.
#[derive(Debug, Clone, Copy)]
pub struct GeneveView<'a> {
    head: &'a [u8; HEADER_LEN],
    options: &'a [u8],
    payload: &'a [u8],
}

impl<'a> GeneveView<'a> {
    /// Checks version and the length of the options.
    ///
    /// # Errors
    /// `Truncated` when header or options end early, `Malformed` for another version.
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self> {
        let (head, rest) = head::<HEADER_LEN>(LAYER, bytes)?;
        let first = head[field::VERSION_LEN];
        if first >> 6 != 0 {
            return Err(Error::malformed(LAYER, "version"));
        }
        let options_len = usize::from(first & 0x3f) * 4;
        let (options, payload) = rest.split_at_checked(options_len).ok_or(Error::truncated(LAYER))?;
        Ok(Self { head, options, payload })
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// True for a control packet.
    #[inline]
    #[must_use]
    pub fn control(&self) -> bool {
        self.head[field::FLAGS] & flag::CONTROL != 0
    }

    /// True when some option must be understood.
    #[inline]
    #[must_use]
    pub fn critical(&self) -> bool {
        self.head[field::FLAGS] & flag::CRITICAL != 0
    }

    /// Type of the payload: [`EtherType::TEB`] for an Ethernet frame.
    #[inline]
    #[must_use]
    pub fn protocol(&self) -> EtherType {
        EtherType(be16(self.head, field::PROTOCOL))
    }

    /// Virtual network identifier.
    #[inline]
    #[must_use]
    pub fn vni(&self) -> Vni {
        Vni::from_be_bytes(array(self.head, field::VNI))
    }

    /// The options as bytes; [`GeneveOptions`] reads them.
    #[inline]
    #[must_use]
    pub fn options(&self) -> &'a [u8] {
        self.options
    }

    /// What follows the options.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        self.payload
    }
}

/// A Geneve header as a value. Reserved bits are written as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeneveRepr<'a> {
    /// A control packet.
    pub control: bool,
    /// Some option must be understood.
    pub critical: bool,
    /// Type of the payload.
    pub protocol: EtherType,
    /// Virtual network identifier.
    pub vni: Vni,
    /// The options as bytes: at most [`MAX_OPTIONS_LEN`], a multiple of 4.
    pub options: &'a [u8],
}

impl<'a> GeneveRepr<'a> {
    /// The header of an Ethernet frame without options.
    #[must_use]
    pub const fn ethernet(vni: Vni) -> Self {
        Self { control: false, critical: false, protocol: EtherType::TEB, vni, options: &[] }
    }

    /// Reads the fields of a view.
    #[inline]
    #[must_use]
    pub fn parse(view: &GeneveView<'a>) -> Self {
        Self {
            control: view.control(),
            critical: view.critical(),
            protocol: view.protocol(),
            vni: view.vni(),
            options: view.options,
        }
    }

    /// Bytes of the header, options included.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        HEADER_LEN + self.options.len()
    }

    /// Writes header and options at the start of `buf` and returns their length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the options are not as documented.
    #[inline]
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let options_len = self.options.len();
        if options_len > MAX_OPTIONS_LEN || !options_len.is_multiple_of(4) {
            return Err(Error::malformed(LAYER, "options"));
        }
        let buf = room(LAYER, buf, self.header_len())?;
        let control = if self.control { flag::CONTROL } else { 0 };
        let critical = if self.critical { flag::CRITICAL } else { 0 };
        buf[field::VERSION_LEN] = (options_len / 4) as u8;
        buf[field::FLAGS] = control | critical;
        put16(buf, field::PROTOCOL, self.protocol.0);
        put(buf, field::VNI, self.vni.to_be_bytes());
        buf[field::RESERVED] = 0;
        buf[field::OPTIONS..].copy_from_slice(self.options);
        Ok(self.header_len())
    }
}

/// One option.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GeneveOption<'a> {
    /// Namespace of the type.
    pub class: u16,
    /// Type, without its critical bit: 7 bits.
    pub kind: u8,
    /// Whoever does not know the option must drop the packet.
    pub critical: bool,
    /// Data: at most [`MAX_OPTION_DATA`] bytes, a multiple of 4.
    pub data: &'a [u8],
}

impl GeneveOption<'_> {
    /// Bytes of the option on the wire.
    #[must_use]
    pub const fn wire_len(&self) -> usize {
        OPTION_HEADER_LEN + self.data.len()
    }

    /// Writes the option at the start of `buf` and returns its length.
    ///
    /// # Errors
    /// `NoSpace` when `buf` is too short; `Malformed` when the data is not as documented.
    pub fn emit(&self, buf: &mut [u8]) -> Result<usize> {
        let len = self.data.len();
        if len > MAX_OPTION_DATA || !len.is_multiple_of(4) {
            return Err(Error::malformed(LAYER, "option data"));
        }
        let (head, rest) = head_mut::<OPTION_HEADER_LEN>(LAYER, buf)?;
        put16(head, 0, self.class);
        head[2] = self.kind & 0x7f | u8::from(self.critical) << 7;
        head[3] = (len / 4) as u8;
        room(LAYER, rest, len)?.copy_from_slice(self.data);
        Ok(self.wire_len())
    }
}

/// The options of a packet, in order; ends with an error when one overruns the rest.
#[derive(Debug, Clone)]
pub struct GeneveOptions<'a> {
    rest: &'a [u8],
}

impl<'a> GeneveOptions<'a> {
    /// Reads what [`GeneveView::options`] gives.
    #[inline]
    #[must_use]
    pub const fn new(options: &'a [u8]) -> Self {
        Self { rest: options }
    }
}

impl<'a> Iterator for GeneveOptions<'a> {
    type Item = Result<GeneveOption<'a>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let all = core::mem::take(&mut self.rest);
        if all.is_empty() {
            return None;
        }
        let Some((start, rest)) = all.split_first_chunk::<OPTION_HEADER_LEN>() else {
            return Some(Err(Error::truncated(LAYER)));
        };
        let Some((data, rest)) = rest.split_at_checked(usize::from(start[3] & 0x1f) * 4) else {
            return Some(Err(Error::truncated(LAYER)));
        };
        self.rest = rest;
        let critical = start[2] & 0x80 != 0;
        Some(Ok(GeneveOption { class: be16(start, 0), kind: start[2] & 0x7f, critical, data }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trip(
            flags in any::<(bool, bool)>(), protocol: u16, vni in 0u32..1 << 24,
            options in prop::collection::vec((any::<u16>(), 0u8..128, any::<bool>(), 0usize..6, any::<u8>()), 0..6),
        ) {
            let mut bytes = Vec::new();
            for (class, kind, critical, words, fill) in &options {
                let data = vec![*fill; words * 4];
                let option = GeneveOption { class: *class, kind: *kind, critical: *critical, data: &data };
                let mut buf = vec![0; option.wire_len()];
                option.emit(&mut buf).unwrap();
                bytes.extend(buf);
            }
            let repr = GeneveRepr {
                control: flags.0, critical: flags.1, protocol: EtherType(protocol),
                vni: Vni::new(vni).unwrap(), options: &bytes,
            };
            let mut buf = vec![0xff; repr.header_len() + 2];
            repr.emit(&mut buf).unwrap();
            let view = GeneveView::parse(&buf).unwrap();
            prop_assert_eq!(GeneveRepr::parse(&view), repr);
            prop_assert_eq!(view.payload(), &[0xff, 0xff]);
            let read: Vec<_> = GeneveOptions::new(view.options()).map(|o| o.unwrap()).collect();
            prop_assert_eq!(read.len(), options.len());
            for (got, want) in read.iter().zip(&options) {
                prop_assert_eq!((got.class, got.kind, got.critical), (want.0, want.1, want.2));
                prop_assert_eq!(got.data, &vec![want.4; want.3 * 4][..]);
            }
        }

        #[test]
        fn hostile_options_end(bytes in prop::collection::vec(any::<u8>(), 0..252)) {
            prop_assert!(GeneveOptions::new(&bytes).count() <= bytes.len() / 4 + 1);
        }
    }

    #[test]
    fn refuses() {
        assert!(GeneveView::parse(&[0x40, 0, 0x65, 0x58, 0, 0, 1, 0]).is_err(), "version 1");
        assert!(GeneveView::parse(&[1, 0, 0x65, 0x58, 0, 0, 1, 0, 0, 0, 0]).is_err(), "cut option");
        let vni = Vni::new(1).unwrap();
        let mut buf = [0; 400];
        assert!(GeneveRepr { options: &[0; 256], ..GeneveRepr::ethernet(vni) }.emit(&mut buf).is_err());
        assert!(GeneveRepr { options: &[0; 6], ..GeneveRepr::ethernet(vni) }.emit(&mut buf).is_err());
        let option = GeneveOption { class: 1, kind: 1, critical: false, data: &[0; 128] };
        assert!(option.emit(&mut buf).is_err());
    }
}
