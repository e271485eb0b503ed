//! What are the tables and columns of a database, and how do they refer to each other?

use std::sync::Arc;

use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::{BaseType, ColumnType, RefKind};
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json::{self, Fields};
use crate::value::Datum;

/// Where the UUIDs of a column (or of one side of its map) lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference {
    /// Position of the table in the schema.
    pub table: usize,
    /// Strong or weak.
    pub kind: RefKind,
}

/// `<column-schema>`.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnSchema {
    /// What it holds.
    pub kind: ColumnType,
    /// Not written to the log; starts empty.
    pub ephemeral: bool,
    /// May change after the row is inserted.
    pub mutable: bool,
    /// Where elements (or keys) lead.
    pub key_ref: Option<Reference>,
    /// Where a map's values lead.
    pub value_ref: Option<Reference>,
    /// The value of a row that does not say.
    pub default: Arc<Datum>,
}

/// `<table-schema>`.
#[derive(Debug, Clone, PartialEq)]
pub struct TableSchema {
    columns: IndexMap<String, ColumnSchema>,
    /// Rows live without being referred to.
    pub is_root: bool,
    /// Most rows.
    pub max_rows: Option<usize>,
    /// Sets of column positions whose values together must be unique.
    pub indexes: Vec<Vec<usize>>,
    declared_root: bool,
}

/// `<database-schema>`.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// `x.y.z`; empty when the schema has none.
    pub version: String,
    /// What the schema's publisher put there.
    pub cksum: Option<String>,
    tables: IndexMap<String, TableSchema>,
}

impl ColumnSchema {
    fn from_json(value: &Value, what: &str) -> Result<Self> {
        let mut fields = Fields::open(value, what)?;
        let kind = ColumnType::from_json(fields.required("type")?)?;
        let ephemeral = fields.opt_bool("ephemeral")?.unwrap_or(false);
        let mutable = fields.opt_bool("mutable")?.unwrap_or(true);
        fields.close()?;
        let weak = |base: &BaseType| matches!(base, BaseType::Uuid(Some((_, RefKind::Weak))));
        // A weak reference goes away with its row, so its column cannot be fixed
        // (ovsdb-server(7) §3.2).
        let mutable = mutable || weak(&kind.key) || kind.value.as_ref().is_some_and(weak);
        let default = Arc::new(Datum::default_of(&kind));
        Ok(Self { kind, ephemeral, mutable, key_ref: None, value_ref: None, default })
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("type".into(), self.kind.to_json());
        if self.ephemeral {
            map.insert("ephemeral".into(), true.into());
        }
        if !self.mutable {
            map.insert("mutable".into(), false.into());
        }
        Value::Object(map)
    }
}

impl TableSchema {
    /// The columns in the schema's order, without `_uuid` and `_version`.
    pub fn columns(&self) -> impl ExactSizeIterator<Item = (&str, &ColumnSchema)> {
        self.columns.iter().map(|(name, c)| (name.as_str(), c))
    }

    /// A column and its position.
    pub fn column(&self, name: &str) -> Option<(usize, &ColumnSchema)> {
        self.columns.get_full(name).map(|(i, _, c)| (i, c))
    }

    /// The column at a position.
    pub fn column_at(&self, position: usize) -> Option<(&str, &ColumnSchema)> {
        self.columns.get_index(position).map(|(n, c)| (n.as_str(), c))
    }

    fn from_json(value: &Value, what: &str) -> Result<Self> {
        let mut fields = Fields::open(value, what)?;
        let declared = fields.object("columns")?;
        if declared.is_empty() {
            return Err(fields.error("a table needs a column"));
        }
        let mut columns = IndexMap::new();
        for (name, column) in declared {
            check_name(name, value)?;
            let what = format!("{what} column {name}");
            columns.insert(name.clone(), ColumnSchema::from_json(column, &what)?);
        }
        let is_root = fields.opt_bool("isRoot")?.unwrap_or(false);
        let max_rows = match fields.opt_int("maxRows")? {
            None => None,
            Some(n) => match usize::try_from(n) {
                Ok(n) if n > 0 => Some(n),
                _ => return Err(fields.error("maxRows is at least 1")),
            },
        };
        let mut indexes = Vec::new();
        for index in fields.opt_array("indexes")?.into_iter().flatten() {
            indexes.push(read_index(index, &columns)?);
        }
        fields.close()?;
        Ok(Self { columns, is_root, max_rows, indexes, declared_root: is_root })
    }

    fn to_json(&self) -> Value {
        let mut map = Map::new();
        let columns = self.columns.iter().map(|(n, c)| (n.clone(), c.to_json()));
        map.insert("columns".into(), Value::Object(columns.collect()));
        if self.declared_root {
            map.insert("isRoot".into(), true.into());
        }
        if let Some(max) = self.max_rows {
            map.insert("maxRows".into(), max.into());
        }
        if !self.indexes.is_empty() {
            let name = |i: &usize| self.column_at(*i).map(|(n, _)| Value::from(n));
            let index = |columns: &Vec<usize>| Value::Array(columns.iter().filter_map(name).collect());
            let indexes = self.indexes.iter().map(index).collect();
            map.insert("indexes".into(), Value::Array(indexes));
        }
        Value::Object(map)
    }
}

fn read_index(value: &Value, columns: &IndexMap<String, ColumnSchema>) -> Result<Vec<usize>> {
    let wrong = |details: String| OvsdbError::syntax(value, details);
    let names = value.as_array().filter(|names| !names.is_empty());
    let names = names.ok_or_else(|| wrong("an index is an array of column names".into()))?;
    let mut index = Vec::new();
    for name in names {
        let found = name.as_str().and_then(|n| columns.get_full(n));
        let (position, name, column) = found.ok_or_else(|| wrong(format!("{name} is not a column")))?;
        if column.ephemeral {
            return Err(wrong(format!("column {name} is ephemeral and cannot be indexed")));
        }
        if index.contains(&position) {
            return Err(wrong(format!("column {name} stands twice in the index")));
        }
        index.push(position);
    }
    Ok(index)
}

impl DatabaseSchema {
    /// Reads a `<database-schema>` and resolves its references.
    ///
    /// # Errors
    /// `syntax error` naming what is wrong and where.
    pub fn from_json(value: &Value) -> Result<Self> {
        let mut fields = Fields::open(value, "database schema")?;
        let name = fields.id("name")?.to_owned();
        let version = fields.opt_str("version")?.unwrap_or("").to_owned();
        if !version.is_empty() && !is_version(&version) {
            return Err(fields.error("version must be x.y.z"));
        }
        let cksum = fields.opt_str("cksum")?.map(str::to_owned);
        let mut tables = IndexMap::new();
        for (name, table) in fields.object("tables")? {
            check_name(name, value)?;
            let what = format!("table {name}");
            tables.insert(name.clone(), TableSchema::from_json(table, &what)?);
        }
        fields.close()?;
        resolve_references(&mut tables)?;
        // A schema that declares no root at all means every table (RFC 7047 §3.2 isRoot).
        if !tables.values().any(|t| t.is_root) {
            tables.values_mut().for_each(|t| t.is_root = true);
        }
        Ok(Self { name, version, cksum, tables })
    }

    /// The `<database-schema>`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        map.insert("name".into(), self.name.as_str().into());
        if !self.version.is_empty() {
            map.insert("version".into(), self.version.as_str().into());
        }
        if let Some(cksum) = &self.cksum {
            map.insert("cksum".into(), cksum.as_str().into());
        }
        let tables = self.tables.iter().map(|(n, t)| (n.clone(), t.to_json()));
        map.insert("tables".into(), Value::Object(tables.collect()));
        Value::Object(map)
    }

    /// The tables in the schema's order.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = (&str, &TableSchema)> {
        self.tables.iter().map(|(name, t)| (name.as_str(), t))
    }

    /// A table and its position.
    pub fn table(&self, name: &str) -> Option<(usize, &TableSchema)> {
        self.tables.get_full(name).map(|(i, _, t)| (i, t))
    }

    /// The table at a position.
    pub fn table_at(&self, position: usize) -> Option<(&str, &TableSchema)> {
        self.tables.get_index(position).map(|(n, t)| (n.as_str(), t))
    }

    /// True when both say the same, in whatever order.
    pub fn same_as(&self, other: &Self) -> bool {
        json::canonical(&self.to_json()) == json::canonical(&other.to_json())
    }
}

fn check_name(name: &str, value: &Value) -> Result<()> {
    if !json::is_id(name) {
        return Err(OvsdbError::syntax(value, format!("{name:?} is not an <id>")));
    }
    if name.starts_with('_') {
        let details = format!("{name:?}: names that begin with an underscore are reserved");
        return Err(OvsdbError::syntax(value, details));
    }
    Ok(())
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number = |p: &&str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number)
}

fn resolve_references(tables: &mut IndexMap<String, TableSchema>) -> Result<()> {
    let names: IndexMap<String, ()> = tables.keys().map(|n| (n.clone(), ())).collect();
    let resolve = |base: &BaseType, at: &str| match base {
        BaseType::Uuid(Some((target, kind))) => match names.get_index_of(target) {
            Some(table) => Ok(Some(Reference { table, kind: *kind })),
            None => {
                let details = format!("{at} refers to table {target}, which does not exist");
                Err(OvsdbError::new(ErrorKind::Syntax, details))
            }
        },
        _ => Ok(None),
    };
    for (table_name, table) in tables.iter_mut() {
        for (name, column) in &mut table.columns {
            let at = format!("column {name} of table {table_name}");
            column.key_ref = resolve(&column.kind.key, &at)?;
            if let Some(value) = &column.kind.value {
                column.value_ref = resolve(value, &at)?;
            }
        }
    }
    Ok(())
}
