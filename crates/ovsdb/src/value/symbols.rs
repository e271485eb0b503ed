//! Which row does a `named-uuid` of a transaction mean?

use std::collections::BTreeMap;

use crate::uuids::{Uuid, UuidStream};

#[derive(Debug, Clone, Copy)]
struct Symbol {
    uuid: Uuid,
    inserted: bool,
}

/// The `uuid-name`s of one transaction. A name may be used before the insert that gives it.
#[derive(Debug)]
pub(crate) struct Symbols<'a> {
    names: BTreeMap<String, Symbol>,
    uuids: &'a mut UuidStream,
}

impl<'a> Symbols<'a> {
    pub(crate) fn new(uuids: &'a mut UuidStream) -> Self {
        Self { names: BTreeMap::new(), uuids }
    }

    /// Fixes the UUID a name stands for before anything refers to it.
    pub(crate) fn preset(&mut self, name: &str, uuid: Uuid) {
        let inserted = false;
        self.names.entry(name.to_owned()).or_insert(Symbol { uuid, inserted });
    }

    /// The UUID `name` stands for, drawn at its first use.
    pub(crate) fn resolve(&mut self, name: &str) -> Uuid {
        if let Some(symbol) = self.names.get(name) {
            return symbol.uuid;
        }
        let uuid = self.uuids.draw();
        self.preset(name, uuid);
        uuid
    }

    /// Marks `name` as given by an insert; `None` when an earlier insert gave it.
    pub(crate) fn define(&mut self, name: &str) -> Option<Uuid> {
        self.resolve(name);
        let symbol = self.names.get_mut(name)?;
        let first = !std::mem::replace(&mut symbol.inserted, true);
        first.then_some(symbol.uuid)
    }

    /// A UUID for a row without a name.
    pub(crate) fn fresh(&mut self) -> Uuid {
        self.uuids.draw()
    }
}
