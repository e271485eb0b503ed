//! What does one cell hold, and how is it read and written?

use serde_json::Value;

use super::{Atom, Symbols};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::schema::{BaseType, ColumnType};

/// The value of one column in one row. A scalar is a set of exactly one atom.
///
/// Elements are sorted and unique (maps: by key), so equal contents compare equal.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Datum {
    /// A scalar or a set.
    Set(Vec<Atom>),
    /// A map.
    Map(Vec<(Atom, Atom)>),
}

impl Datum {
    /// A scalar.
    pub fn scalar(atom: impl Into<Atom>) -> Self {
        Self::Set(vec![atom.into()])
    }

    /// An empty set.
    pub fn empty() -> Self {
        Self::Set(Vec::new())
    }

    /// A set of the given atoms; duplicates are folded.
    pub fn set<A: Into<Atom>>(atoms: impl IntoIterator<Item = A>) -> Self {
        let mut atoms: Vec<Atom> = atoms.into_iter().map(Into::into).collect();
        atoms.sort_unstable();
        atoms.dedup();
        Self::Set(atoms)
    }

    /// A map of the given pairs; of pairs with one key the first is kept.
    pub fn map<K: Into<Atom>, V: Into<Atom>>(pairs: impl IntoIterator<Item = (K, V)>) -> Self {
        let mut pairs: Vec<(Atom, Atom)> = pairs.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        pairs.dedup_by(|b, a| a.0 == b.0);
        Self::Map(pairs)
    }

    /// The default of a column type (RFC 7047 §5.2.1).
    pub fn default_of(kind: &ColumnType) -> Self {
        let atom = |base: &BaseType| Atom::default_of(base.atomic());
        match (&kind.value, kind.min) {
            (None, 0) => Self::Set(Vec::new()),
            (None, _) => Self::Set(vec![atom(&kind.key)]),
            (Some(_), 0) => Self::Map(Vec::new()),
            (Some(value), _) => Self::Map(vec![(atom(&kind.key), atom(value))]),
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Set(atoms) => atoms.len(),
            Self::Map(pairs) => pairs.len(),
        }
    }

    /// True for an empty set or map.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let atom = |atom: &Atom| match atom {
            Atom::String(s) => 40 + s.len(),
            _ => 24,
        };
        match self {
            Self::Set(atoms) => atoms.iter().map(atom).sum(),
            Self::Map(pairs) => pairs.iter().map(|(k, v)| atom(k) + atom(v)).sum(),
        }
    }

    /// The atoms of a set; nothing for a map.
    pub fn atoms(&self) -> &[Atom] {
        match self {
            Self::Set(atoms) => atoms,
            Self::Map(_) => &[],
        }
    }

    /// The pairs of a map; nothing for a set.
    pub fn pairs(&self) -> &[(Atom, Atom)] {
        match self {
            Self::Set(_) => &[],
            Self::Map(pairs) => pairs,
        }
    }

    /// The only atom of a set of one.
    pub fn as_scalar(&self) -> Option<&Atom> {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms.first(),
            _ => None,
        }
    }

    /// Reads a `<value>` of RFC 7047 §5.1 as the given type: form, number of elements,
    /// duplicates and the type's constraints are all checked. References are not.
    ///
    /// # Errors
    /// `syntax error`, `constraint violation`, or `ovsdb error` for duplicates.
    pub fn from_json(value: &Value, kind: &ColumnType) -> Result<Self> {
        Self::read(value, kind, None)
    }

    /// [`from_json`](Self::from_json) where `named-uuid` has a meaning.
    pub(crate) fn read(value: &Value, kind: &ColumnType, symbols: Option<&mut Symbols<'_>>) -> Result<Self> {
        let datum = Self::read_unchecked(value, kind, symbols)?;
        datum.check(kind)?;
        Ok(datum)
    }

    /// [`read`](Self::read) without the constraints of the base types.
    pub(crate) fn read_unchecked(
        value: &Value,
        kind: &ColumnType,
        mut symbols: Option<&mut Symbols<'_>>,
    ) -> Result<Self> {
        let Some(value_type) = &kind.value else {
            let atoms = match tagged(value, "set")? {
                None => vec![Atom::from_json(value, kind.key.atomic(), symbols)?],
                Some(items) => {
                    check_count(items.len(), kind, value)?;
                    let read = |item| Atom::from_json(item, kind.key.atomic(), symbols.as_deref_mut());
                    items.iter().map(read).collect::<Result<Vec<_>>>()?
                }
            };
            return unique_set(atoms, value);
        };
        let Some(items) = tagged(value, "map")? else {
            return Err(OvsdbError::syntax(value, "[\"map\", <array>] is needed"));
        };
        check_count(items.len(), kind, value)?;
        let mut pairs = Vec::with_capacity(items.len());
        for item in items {
            let Some([k, v]) = item.as_array().map(Vec::as_slice) else {
                return Err(OvsdbError::syntax(item, "a pair is an array of two"));
            };
            pairs.push((
                Atom::from_json(k, kind.key.atomic(), symbols.as_deref_mut())?,
                Atom::from_json(v, value_type.atomic(), symbols.as_deref_mut())?,
            ));
        }
        unique_map(pairs, value)
    }

    /// The `<value>` of RFC 7047 §5.1; a set of one is written as the bare atom.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Set(atoms) if atoms.len() == 1 => atoms[0].to_json(),
            Self::Set(atoms) => {
                let items = atoms.iter().map(Atom::to_json).collect();
                Value::Array(vec!["set".into(), Value::Array(items)])
            }
            Self::Map(pairs) => {
                let pair = |(k, v): &(Atom, Atom)| Value::Array(vec![k.to_json(), v.to_json()]);
                let items = pairs.iter().map(pair).collect();
                Value::Array(vec!["map".into(), Value::Array(items)])
            }
        }
    }

    /// Checks every element against the constraints of the type.
    pub(crate) fn check(&self, kind: &ColumnType) -> Result<()> {
        match (self, &kind.value) {
            (Self::Set(atoms), _) => atoms.iter().try_for_each(|a| kind.key.check(a)),
            (Self::Map(pairs), value) => pairs.iter().try_for_each(|(k, v)| {
                kind.key.check(k)?;
                value.as_ref().map_or(Ok(()), |base| base.check(v))
            }),
        }
    }

    /// Checks everything a value built in this process may get wrong.
    pub(crate) fn check_fits(&self, kind: &ColumnType) -> Result<()> {
        let set = |atoms: &[Atom]| atoms.iter().all(|a| a.atomic_type() == kind.key.atomic());
        let fits = match (self, &kind.value) {
            (Self::Set(atoms), None) => set(atoms),
            (Self::Map(pairs), Some(value)) => pairs
                .iter()
                .all(|(k, v)| k.atomic_type() == kind.key.atomic() && v.atomic_type() == value.atomic()),
            _ => false,
        };
        if !fits || self.has_nul() {
            let details = format!("{} is not a {kind}", self.to_json());
            return Err(OvsdbError::new(ErrorKind::Constraint, details));
        }
        self.check_len(kind)?;
        self.check(kind)
    }

    fn has_nul(&self) -> bool {
        let nul = |atom: &Atom| matches!(atom, Atom::String(s) if s.contains('\0'));
        match self {
            Self::Set(atoms) => atoms.iter().any(nul),
            Self::Map(pairs) => pairs.iter().any(|(k, v)| nul(k) || nul(v)),
        }
    }

    /// Checks the number of elements against the type.
    pub(crate) fn check_len(&self, kind: &ColumnType) -> Result<()> {
        if kind.allows_len(self.len()) {
            return Ok(());
        }
        let details = format!("{} elements do not fit a {kind}", self.len());
        Err(OvsdbError::new(ErrorKind::Constraint, details))
    }
}

/// The array of `[tag, array]`, `None` when the value is not tagged that way at all.
fn tagged<'a>(value: &'a Value, tag: &str) -> Result<Option<&'a Vec<Value>>> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(found), rest]) if found == tag => rest
            .as_array()
            .map(Some)
            .ok_or_else(|| OvsdbError::syntax(value, format!("[{tag:?}, <array>] is needed"))),
        _ => Ok(None),
    }
}

fn check_count(count: usize, kind: &ColumnType, value: &Value) -> Result<()> {
    if kind.allows_len(count) {
        return Ok(());
    }
    let details = format!("{count} elements do not fit a {kind}");
    Err(OvsdbError::syntax(value, details))
}

fn unique_set(mut atoms: Vec<Atom>, value: &Value) -> Result<Datum> {
    atoms.sort_unstable();
    if atoms.windows(2).any(|w| w[0] == w[1]) {
        let error = OvsdbError::new(ErrorKind::Duplicate, "an element stands twice in the set");
        return Err(error.at(value));
    }
    Ok(Datum::Set(atoms))
}

fn unique_map(mut pairs: Vec<(Atom, Atom)>, value: &Value) -> Result<Datum> {
    pairs.sort_unstable();
    if pairs.windows(2).any(|w| w[0].0 == w[1].0) {
        let error = OvsdbError::new(ErrorKind::Duplicate, "a key stands twice in the map");
        return Err(error.at(value));
    }
    Ok(Datum::Map(pairs))
}
