//! What does each operation of a transaction do (RFC 7047 §5.2)?

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::column::{ColumnRef, find_column, read_columns};
use super::condition::Condition;
use super::mutation::{Mutation, mutable_column};
use super::overlay::Overlay;
use super::{Access, Context};
use crate::db::Row;
use crate::error::{ErrorKind, OvsdbError, Result};
use crate::json::{self, Fields};
use crate::schema::TableSchema;
use crate::uuids::{Uuid, parse_uuid};
use crate::value::{Datum, Symbols};

/// What an operation asks its transaction to do next.
pub(crate) enum Step {
    /// Go on; this is the operation's result.
    Next(Value),
    /// Try again when the named table has changed, or at the deadline if there is one.
    Block { table: usize, timeout_ms: Option<u64> },
}

/// Most cells one transaction may select: a small request can ask for a table many times.
const MAX_SELECTED: usize = 1 << 20;

/// The state the operations of one transaction share.
pub(crate) struct Executor<'a, 'u> {
    pub(crate) overlay: Overlay<'a>,
    pub(crate) symbols: Symbols<'u>,
    pub(crate) comments: Vec<String>,
    /// Cells selected so far.
    pub(crate) selected: usize,
    pub(crate) context: &'a Context<'a>,
}

impl<'a> Executor<'a, '_> {
    /// Reads and carries out one operation.
    pub(crate) fn run(&mut self, op: &Value, what: &str) -> Result<Step> {
        let mut fields = Fields::open(op, what)?;
        let name = fields.str("op")?;
        let run = match name {
            "insert" => Self::insert,
            "select" => Self::select,
            "update" => Self::update,
            "mutate" => Self::mutate,
            "delete" => Self::delete,
            "wait" => Self::wait,
            "commit" => Self::commit,
            "abort" => Self::abort,
            "comment" => Self::comment,
            "assert" => Self::assert,
            _ => return Err(fields.error(format_args!("there is no operation {name:?}"))),
        };
        if matches!(name, "insert" | "update" | "mutate" | "delete" | "comment")
            && let Access::ReadOnly(why) = self.context.access
        {
            let details = format!("{name} is refused: {why}");
            return Err(OvsdbError::new(ErrorKind::NotAllowed, details));
        }
        run(self, op, fields)
    }

    fn table(&self, fields: &mut Fields<'_>) -> Result<(usize, &'a TableSchema)> {
        let name = fields.id("table")?;
        let schema = self.overlay.db.schema();
        let found = schema.table(name);
        found.ok_or_else(|| fields.error(format_args!("there is no table {name}")))
    }

    fn matching(&mut self, table: usize, clauses: &[Value]) -> Result<Vec<Arc<Row>>> {
        let Some(schema) = self.overlay.schema(table) else {
            return Ok(Vec::new());
        };
        let condition = Condition::from_json(schema, clauses, Some(&mut self.symbols))?;
        Ok(self.overlay.select(table, &condition))
    }

    fn insert(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, schema) = self.table(&mut fields)?;
        let name = fields.opt_id("uuid-name")?;
        let wanted = fields.opt_str("uuid")?;
        let cells = fields.object("row")?;
        let wanted = match wanted {
            None => None,
            Some(text) => Some(
                parse_uuid(text)
                    // A reference column's default must not come to mean a row.
                    .filter(|uuid| !uuid.is_nil())
                    .ok_or_else(|| OvsdbError::syntax(&Value::from(text), "this is not a UUID"))?,
            ),
        };
        fields.close()?;
        let named = match name {
            None => None,
            Some(name) => Some(self.symbols.define(name).ok_or_else(|| {
                let details = "an earlier insert has this uuid-name";
                OvsdbError::new(ErrorKind::DuplicateUuidName, details).at(&Value::from(name))
            })?),
        };
        let uuid = match named.or(wanted) {
            Some(uuid) => uuid,
            None => self.symbols.fresh(),
        };
        let taken = self.overlay.get(table, uuid).is_some() || self.overlay.was_deleted(table, uuid);
        if taken {
            let details = "the table has, or had in this transaction, a row of this UUID";
            let error = OvsdbError::new(ErrorKind::DuplicateUuid, details);
            return Err(error.at(&Value::from(uuid.to_string())));
        }
        let mut row = Row::new(schema, uuid);
        for (name, value) in cells {
            // The implicit columns are the server's to fill.
            if let (ColumnRef::Cell(position), kind) = find_column(schema, name).map_err(|e| e.at(value))? {
                let datum = Datum::read(value, &kind, Some(&mut self.symbols))?;
                row.cells[position] = Arc::new(datum);
            }
        }
        check_defaults(schema, &row)?;
        self.overlay.put(table, row);
        Ok(Step::Next(object("uuid", Datum::scalar(uuid).to_json())))
    }

    fn select(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, schema) = self.table(&mut fields)?;
        let clauses = fields.array("where")?;
        let columns = fields.opt_array("columns")?;
        fields.close()?;
        let rows = self.matching(table, clauses)?;
        let columns = read_columns(schema, columns)?;
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for row in rows {
            if columns.contains(&ColumnRef::Uuid) || seen.insert(project(&row, &columns)) {
                self.selected += columns.len() + 1;
                if self.selected > MAX_SELECTED {
                    let details = "the transaction selects too much";
                    return Err(OvsdbError::new(ErrorKind::ResourcesExhausted, details));
                }
                out.push(row_to_json(schema, &row, &columns));
            }
        }
        Ok(Step::Next(object("rows", Value::Array(out))))
    }

    fn update(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, schema) = self.table(&mut fields)?;
        let clauses = fields.array("where")?;
        let cells = fields.object("row")?;
        fields.close()?;
        let mut new = Vec::with_capacity(cells.len());
        for (name, value) in cells {
            let (position, column) = mutable_column(schema, name).map_err(|e| e.at(value))?;
            let datum = Datum::read(value, &column.kind, Some(&mut self.symbols))?;
            new.push((position, Arc::new(datum)));
        }
        let rows = self.matching(table, clauses)?;
        for row in &rows {
            let mut row = Row::clone(row);
            for (position, datum) in &new {
                row.cells[*position] = Arc::clone(datum);
            }
            self.overlay.put(table, row);
        }
        Ok(Step::Next(count(rows.len())))
    }

    fn mutate(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, schema) = self.table(&mut fields)?;
        let clauses = fields.array("where")?;
        let list = fields.array("mutations")?;
        fields.close()?;
        let mut mutations = Vec::with_capacity(list.len());
        for value in list {
            mutations.push(Mutation::from_json(schema, value, &mut self.symbols)?);
        }
        let rows = self.matching(table, clauses)?;
        for row in &rows {
            let mut row = Row::clone(row);
            for mutation in &mutations {
                let Some((_, column)) = schema.column_at(mutation.column) else {
                    continue;
                };
                let (new, difference) = mutation.apply(&row.cells[mutation.column], &column.kind)?;
                match difference {
                    Some(difference) => {
                        let committed = self.overlay.committed(table, row.uuid);
                        let committed = committed.map(|committed| &committed.cells[mutation.column]);
                        row.step(mutation.column, new, difference, committed);
                    }
                    None => row.cells[mutation.column] = Arc::new(new),
                }
            }
            self.overlay.put(table, row);
        }
        Ok(Step::Next(count(rows.len())))
    }

    fn delete(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, _) = self.table(&mut fields)?;
        let clauses = fields.array("where")?;
        fields.close()?;
        let rows = self.matching(table, clauses)?;
        for row in &rows {
            self.overlay.delete(table, row.uuid);
        }
        Ok(Step::Next(count(rows.len())))
    }

    fn wait(&mut self, op: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let (table, schema) = self.table(&mut fields)?;
        let timeout = fields.opt_int("timeout")?;
        let clauses = fields.array("where")?;
        let columns = fields.opt_array("columns")?;
        let until = fields.str("until")?;
        let rows = fields.array("rows")?;
        fields.close()?;
        let wrong = |details: &str| OvsdbError::syntax(op, details);
        let equal = match until {
            "==" => true,
            "!=" => false,
            _ => return Err(wrong("wait: until is \"==\" or \"!=\"")),
        };
        let negative = |_| wrong("wait: the timeout may not be negative");
        let timeout_ms = timeout.map(u64::try_from).transpose().map_err(negative)?;
        let columns = read_columns(schema, columns)?;
        let mut expected = BTreeSet::new();
        for row in rows {
            expected.insert(project(&self.partial_row(schema, row)?, &columns));
        }
        let rows = self.matching(table, clauses)?;
        let found: BTreeSet<_> = rows.iter().map(|r| project(r, &columns)).collect();
        if (found == expected) == equal {
            return Ok(Step::Next(Value::Object(Map::new())));
        }
        match timeout_ms {
            Some(ms) if self.context.elapsed_ms >= ms => {
                let details = format!("the wait did not come true within {ms} ms");
                Err(OvsdbError::new(ErrorKind::TimedOut, details))
            }
            timeout_ms => Ok(Step::Block { table, timeout_ms }),
        }
    }

    /// A row given by a client to compare with; what it leaves out has the default value.
    fn partial_row(&mut self, schema: &TableSchema, value: &Value) -> Result<Row> {
        let Some(cells) = value.as_object() else {
            return Err(OvsdbError::syntax(value, "a row is an object"));
        };
        let mut row = Row::new(schema, Uuid::nil());
        for (name, value) in cells {
            let (column, kind) = find_column(schema, name).map_err(|e| e.at(value))?;
            let datum = Datum::read(value, &kind, Some(&mut self.symbols))?;
            match (column, datum.as_scalar()) {
                (ColumnRef::Cell(position), _) => row.cells[position] = Arc::new(datum),
                (ColumnRef::Uuid, Some(crate::value::Atom::Uuid(uuid))) => row.uuid = *uuid,
                (ColumnRef::Version, Some(crate::value::Atom::Uuid(uuid))) => row.version = *uuid,
                _ => {}
            }
        }
        Ok(row)
    }

    /// Every commit is durable before its reply, whatever `durable` says.
    fn commit(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        if fields.opt_bool("durable")?.is_none() {
            return Err(fields.error("member \"durable\" is missing"));
        }
        fields.close()?;
        Ok(Step::Next(Value::Object(Map::new())))
    }

    fn abort(&mut self, _: &Value, fields: Fields<'_>) -> Result<Step> {
        fields.close()?;
        let details = "the transaction asked to be aborted";
        Err(OvsdbError::new(ErrorKind::Aborted, details))
    }

    fn comment(&mut self, op: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let text = fields.str("comment")?;
        fields.close()?;
        if json::has_nul(op) {
            return Err(OvsdbError::syntax(op, "strings may not hold U+0000"));
        }
        self.comments.push(text.to_owned());
        Ok(Step::Next(Value::Object(Map::new())))
    }

    fn assert(&mut self, _: &Value, mut fields: Fields<'_>) -> Result<Step> {
        let lock = fields.id("lock")?;
        fields.close()?;
        if (self.context.owns_lock)(lock) {
            return Ok(Step::Next(Value::Object(Map::new())));
        }
        let details = format!("this client does not own lock {lock}");
        Err(OvsdbError::new(ErrorKind::NotOwner, details))
    }
}

/// A new row's columns that were left out may have a default the schema forbids.
fn check_defaults(schema: &TableSchema, row: &Row) -> Result<()> {
    for ((_, column), cell) in schema.columns().zip(&row.cells) {
        if Arc::ptr_eq(cell, &column.default) {
            cell.check(&column.kind)?;
        }
    }
    Ok(())
}

fn project(row: &Row, columns: &[ColumnRef]) -> Vec<Datum> {
    columns.iter().map(|c| c.with(row, Datum::clone)).collect()
}

fn row_to_json(schema: &TableSchema, row: &Row, columns: &[ColumnRef]) -> Value {
    let cell = |c: &ColumnRef| (c.name(schema).to_owned(), c.with(row, Datum::to_json));
    Value::Object(columns.iter().map(cell).collect())
}

fn object(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}

fn count(rows: usize) -> Value {
    object("count", Value::from(rows))
}
