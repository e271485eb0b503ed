//! Which tunnel option is `tun_metadata3`?
//!
//! Controllers map Geneve options (RFC 8926 §3.5) to the fields `tun_metadata0` to `tun_metadata63` with
//! `ovs-ofctl add-tlv-map`. A [`TlvTable`] holds the map, and places the options' bodies in a [`TunMetadata`] of 256
//! bytes, in words of four bytes that need not be neighbours. Changing a table makes another, so that keys built by
//! one stay readable with it.

use std::collections::BTreeMap;

use crate::{Field, FlowKey, MAX_OPTION, OptionValue, TunMetadata};

/// Words of four bytes in a [`TunMetadata`].
const WORDS: usize = 64;
/// Bytes in front of an option's body: class, type, length.
const OPTION_HEADER: usize = 4;
/// Bit of an option's type: who does not know it must drop the packet.
const CRITICAL: u8 = 0x80;

/// One line of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TlvMapping {
    /// Option class.
    pub class: u16,
    /// Option type, the critical bit included.
    pub kind: u8,
    /// Length of the body in bytes: 4 to 124, a multiple of 4.
    pub len: u8,
    /// Which `tun_metadata` field, 0 to 63.
    pub index: u16,
}

/// Why a table cannot be changed so (`NXTTMFC_*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlvError {
    /// A length that no option can have (`NXTTMFC_BAD_OPT_LEN`).
    #[error("tunnel option length {0} is not a multiple of 4 from 4 to 124")]
    BadLength(u8),
    /// A field that does not exist (`NXTTMFC_BAD_FIELD_IDX`).
    #[error("there is no tun_metadata{0}")]
    BadIndex(u16),
    /// No room is left (`NXTTMFC_TABLE_FULL`).
    #[error("no room for the tunnel option: 256 bytes are all there are")]
    Full,
    /// The field is in use (`NXTTMFC_ALREADY_MAPPED`).
    #[error("tun_metadata{0} is already mapped")]
    AlreadyMapped(u16),
    /// The option is in the table (`NXTTMFC_DUP_ENTRY`).
    #[error("the tunnel option of class {0:#x} and type {1:#x} is already mapped")]
    Duplicate(u16, u8),
}

/// Options whose length reaches beyond the header they are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tunnel options are cut short")]
pub struct TruncatedOptions;

/// Options of a packet as the table knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownOptions {
    /// The bodies of those in the table.
    pub metadata: TunMetadata,
    /// Some option is marked critical and is not in the table (RFC 8926 §3.5.1).
    pub unknown_critical: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mapping: TlvMapping,
    /// Where the words of the body are, first one first.
    words: Vec<u8>,
}

/// The map of tunnel options to fields, and of fields to their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlvTable {
    /// By field.
    entries: BTreeMap<u16, Entry>,
}

impl TlvTable {
    /// A table that knows no option.
    pub const fn new() -> Self {
        TlvTable { entries: BTreeMap::new() }
    }

    /// This table with more lines; all of them, or an error and none.
    ///
    /// # Errors
    /// What is wrong with the first line that cannot be added.
    pub fn with(&self, mappings: &[TlvMapping]) -> Result<TlvTable, TlvError> {
        let mut out = self.clone();
        for mapping in mappings {
            if mapping.len == 0 || !mapping.len.is_multiple_of(4) || usize::from(mapping.len) > MAX_OPTION {
                return Err(TlvError::BadLength(mapping.len));
            }
            if usize::from(mapping.index) >= 64 {
                return Err(TlvError::BadIndex(mapping.index));
            }
            if out.entries.contains_key(&mapping.index) {
                return Err(TlvError::AlreadyMapped(mapping.index));
            }
            if out.index_of(mapping.class, mapping.kind).is_some() {
                return Err(TlvError::Duplicate(mapping.class, mapping.kind));
            }
            let words = out.free_words().take(usize::from(mapping.len) / 4).collect::<Vec<_>>();
            if words.len() < usize::from(mapping.len) / 4 {
                return Err(TlvError::Full);
            }
            out.entries.insert(mapping.index, Entry { mapping: *mapping, words });
        }
        Ok(out)
    }

    /// This table without the lines of these classes and types. Those that it does not have are passed over.
    #[must_use]
    pub fn without(&self, options: &[(u16, u8)]) -> TlvTable {
        let mut out = self.clone();
        out.entries.retain(|_, e| !options.contains(&(e.mapping.class, e.mapping.kind)));
        out
    }

    fn free_words(&self) -> impl Iterator<Item = u8> + use<> {
        let mut used = [false; WORDS];
        for word in self.entries.values().flat_map(|e| &e.words) {
            used[usize::from(*word) % WORDS] = true;
        }
        (0..WORDS as u8).filter(move |w| !used[usize::from(*w)])
    }

    /// The lines, by field.
    pub fn mappings(&self) -> impl Iterator<Item = TlvMapping> {
        self.entries.values().map(|e| e.mapping)
    }

    /// Whether no option is known.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of bodies that the table can still place.
    pub fn room(&self) -> usize {
        4 * self.free_words().count()
    }

    /// Number of the field that an option is mapped to.
    pub fn index_of(&self, class: u16, kind: u8) -> Option<u16> {
        let same = |e: &&Entry| (e.mapping.class, e.mapping.kind) == (class, kind);
        self.entries.values().find(same).map(|e| e.mapping.index)
    }

    /// The line of `tun_metadata`*index*.
    pub fn mapping(&self, index: usize) -> Option<TlvMapping> {
        self.entry(index).map(|e| e.mapping)
    }

    fn entry(&self, index: usize) -> Option<&Entry> {
        self.entries.get(&u16::try_from(index).ok()?)
    }

    /// The body of an option, in wire order and as long as the table says; zeros when the packet does not have it.
    /// `None`: the field is not mapped.
    pub fn get(&self, index: usize, from: &TunMetadata) -> Option<Vec<u8>> {
        Some(self.entry(index)?.words.iter().flat_map(|w| word(from, *w)).collect())
    }

    /// Sets bits of the body of an option, both `value` and `mask` right aligned, and says that it is present. False:
    /// the field is not mapped.
    pub fn set(&self, index: usize, to: &mut TunMetadata, value: &[u8], mask: &[u8]) -> bool {
        let Some(entry) = self.entry(index) else { return false };
        let words = &entry.words;
        for (i, place) in words.iter().enumerate() {
            let mut bytes = word(to, *place);
            for (j, byte) in bytes.iter_mut().enumerate() {
                // Counted from the end of the body.
                let from_end = 4 * (words.len() - 1 - i) + 3 - j;
                let at = |bytes: &[u8]| bytes.iter().rev().nth(from_end).copied().unwrap_or(0);
                *byte = *byte & !at(mask) | at(value) & at(mask);
            }
            put_word(to, *place, bytes);
        }
        to.present |= 1 << index;
        true
    }

    /// Carries out `set_field` on a tunnel option. False: the field is not mapped.
    pub fn set_option(&self, to: &mut TunMetadata, option: &OptionValue) -> bool {
        let index = option.field.tun_metadata_index();
        index.is_some_and(|index| self.set(index, to, &option.value, &option.mask))
    }

    /// Removes an option (`delete_field`).
    pub fn remove(&self, index: usize, from: &mut TunMetadata) {
        if let Some(entry) = self.entry(index) {
            entry.words.iter().for_each(|place| put_word(from, *place, [0; 4]));
        }
        if index < 64 {
            from.present &= !(1 << index);
        }
    }

    /// Reads the options of a Geneve header. Options that are not in the table, or have another length there, are
    /// passed over; of one that comes twice the last counts.
    ///
    /// # Errors
    /// An option reaches beyond the bytes.
    pub fn decode(&self, mut options: &[u8]) -> Result<KnownOptions, TruncatedOptions> {
        let mut out = KnownOptions { metadata: TunMetadata::default(), unknown_critical: false };
        while !options.is_empty() {
            let (head, rest) = options.split_first_chunk::<OPTION_HEADER>().ok_or(TruncatedOptions)?;
            let len = usize::from(head[3] & 0x1f) * 4;
            let (body, rest) = rest.split_at_checked(len).ok_or(TruncatedOptions)?;
            options = rest;
            let index = self.index_of(u16::from_be_bytes([head[0], head[1]]), head[2]);
            let entry = index.and_then(|i| self.entries.get(&i)).filter(|e| 4 * e.words.len() == len);
            match entry {
                Some(entry) => {
                    for (place, bytes) in entry.words.iter().zip(body.chunks_exact(4)) {
                        put_word(&mut out.metadata, *place, [bytes[0], bytes[1], bytes[2], bytes[3]]);
                    }
                    out.metadata.present |= 1 << entry.mapping.index;
                }
                None => out.unknown_critical |= head[2] & CRITICAL != 0,
            }
        }
        Ok(out)
    }

    /// Writes the options that are present as they go on the wire, in the order of their fields.
    pub fn encode(&self, metadata: &TunMetadata) -> Vec<u8> {
        let mut out = Vec::new();
        for entry in self.entries.values().filter(|e| metadata.present >> e.mapping.index & 1 != 0) {
            let TlvMapping { class, kind, len, .. } = entry.mapping;
            out.extend_from_slice(&class.to_be_bytes());
            out.extend_from_slice(&[kind, len / 4]);
            entry.words.iter().for_each(|place| out.extend_from_slice(&word(metadata, *place)));
        }
        out
    }

    /// Which options a list that [`TlvTable::encode`] wrote has that are critical: what sets the C bit of the header.
    pub fn has_critical(mut options: &[u8]) -> bool {
        while let Some((head, rest)) = options.split_first_chunk::<OPTION_HEADER>() {
            if head[2] & CRITICAL != 0 {
                return true;
            }
            options = rest.get(usize::from(head[3] & 0x1f) * 4..).unwrap_or(&[]);
        }
        false
    }
}

fn word(from: &TunMetadata, place: u8) -> [u8; 4] {
    let half = usize::from(place % 2) * 4;
    let b = &from.data[usize::from(place / 2) % from.data.len()];
    [b[half], b[half + 1], b[half + 2], b[half + 3]]
}

fn put_word(to: &mut TunMetadata, place: u8, bytes: [u8; 4]) {
    let half = usize::from(place % 2) * 4;
    let len = to.data.len();
    to.data[usize::from(place / 2) % len][half..half + 4].copy_from_slice(&bytes);
}

impl Field {
    /// The field's value in wire order: as wide as in OXM, or as the table says for a tunnel option; of one that is
    /// not mapped, nothing.
    pub fn get_bytes(self, key: &FlowKey, table: &TlvTable) -> Vec<u8> {
        match self.tun_metadata_index() {
            Some(index) => table.get(index, &key.tun_metadata).unwrap_or_default(),
            None => {
                let value = self.get(key).to_be_bytes();
                value[value.len() - usize::from(self.bytes()).min(value.len())..].to_vec()
            }
        }
    }

    /// Sets bits of the field, value and mask in wire order and right aligned. Tunnel options that are not mapped stay
    /// as they are. With `value` and `mask` the same, and the key of a mask, this adds bits to that.
    pub fn set_bytes(self, key: &mut FlowKey, table: &TlvTable, value: &[u8], mask: &[u8]) {
        match self.tun_metadata_index() {
            Some(index) => {
                table.set(index, &mut key.tun_metadata, value, mask);
            }
            None => {
                let number = |bytes: &[u8]| bytes.iter().fold(0u128, |n, b| n << 8 | u128::from(*b));
                let (value, mask) = (number(value), number(mask));
                let old = self.get(key);
                self.set(key, old & !mask | value & mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(class: u16, kind: u8, len: u8, index: u16) -> TlvMapping {
        TlvMapping { class, kind, len, index }
    }

    #[test]
    fn tables_refuse_what_does_not_fit() {
        let table = TlvTable::new().with(&[line(0xffff, 0, 4, 0), line(0xffff, 1, 124, 1)]).unwrap();
        assert_eq!(table.room(), 128);
        let add = |l| table.with(&[line(1, 1, 4, 9), l]).map(|_| ());
        assert_eq!(add(line(2, 2, 0, 2)), Err(TlvError::BadLength(0)));
        assert_eq!(add(line(2, 2, 6, 2)), Err(TlvError::BadLength(6)));
        assert_eq!(add(line(2, 2, 128, 2)), Err(TlvError::BadLength(128)));
        assert_eq!(add(line(2, 2, 4, 64)), Err(TlvError::BadIndex(64)));
        assert_eq!(add(line(2, 2, 4, 1)), Err(TlvError::AlreadyMapped(1)));
        assert_eq!(add(line(0xffff, 1, 4, 2)), Err(TlvError::Duplicate(0xffff, 1)));
        assert_eq!(add(line(2, 2, 124, 2)), Ok(()));
        assert_eq!(table.with(&[line(2, 2, 124, 2), line(2, 3, 8, 3)]), Err(TlvError::Full));
        let fewer = table.without(&[(0xffff, 0), (7, 7)]);
        assert_eq!(fewer.mappings().collect::<Vec<_>>(), [line(0xffff, 1, 124, 1)]);
        // The hole that is left and the end together have room.
        let scattered = fewer.with(&[line(3, 3, 124, 5), line(4, 4, 8, 6)]).unwrap();
        assert_eq!(scattered.room(), 0);
    }

    #[test]
    fn options_of_a_packet() {
        let table = TlvTable::new().with(&[line(0xffff, 0x80, 8, 3), line(0x102, 7, 4, 1)]).unwrap();
        let wire = [1, 2, 7, 1, 1, 2, 3, 4, 0xff, 0xff, 0x80, 2, 8, 7, 6, 5, 4, 3, 2, 1];
        let known = table.decode(&wire).unwrap();
        assert_eq!(known.metadata.present, 0b1010);
        assert!(!known.unknown_critical && TlvTable::has_critical(&wire));
        assert_eq!(table.encode(&known.metadata), wire);
        let mut key = FlowKey { tun_metadata: known.metadata, ..FlowKey::default() };
        assert_eq!(Field::TunMetadata3.get_bytes(&key, &table), [8, 7, 6, 5, 4, 3, 2, 1]);
        Field::TunMetadata3.set_bytes(&mut key, &table, &[0xa, 0xb], &[0xf, 0xff]);
        assert_eq!(Field::TunMetadata3.get_bytes(&key, &table), [8, 7, 6, 5, 4, 3, 0xa, 0xb]);
        table.remove(3, &mut key.tun_metadata);
        assert_eq!(table.encode(&key.tun_metadata), wire[..8]);
        let other = TlvTable::new().decode(&wire).unwrap();
        assert!(other.unknown_critical && other.metadata == TunMetadata::default());
        let longer = TlvTable::new().with(&[line(0xffff, 0x80, 4, 3)]).unwrap();
        assert!(longer.decode(&wire).unwrap().unknown_critical, "a length that differs is another option");
        for cut in 1..wire.len() {
            assert_eq!(table.decode(&wire[..cut]).is_err(), cut != 8, "{cut}");
        }
    }

    proptest! {
        #[test]
        fn options_read_back(
            lines in prop::collection::vec((any::<u16>(), any::<u8>(), 1..8u8, 0..64u16), 0..12),
            bodies in prop::collection::vec(any::<u8>(), 124),
            present: u64,
        ) {
            let mut table = TlvTable::new();
            for (class, kind, words, index) in lines {
                table = table.with(&[line(class, kind, words * 4, index)]).unwrap_or(table);
            }
            let mut metadata = TunMetadata::default();
            for mapping in table.mappings().filter(|m| present >> m.index & 1 != 0) {
                prop_assert!(table.set(mapping.index.into(), &mut metadata, &bodies, &[0xff; 124]));
            }
            let wire = table.encode(&metadata);
            let known = table.decode(&wire).unwrap();
            prop_assert_eq!(known.metadata, metadata);
            prop_assert!(!known.unknown_critical);
        }

        #[test]
        fn no_option_is_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let table = TlvTable::new().with(&[line(0, 0, 4, 0)]).unwrap();
            let _ = table.decode(&bytes);
            TlvTable::has_critical(&bytes);
        }
    }
}
