//! What does a monitor request ask for?

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Flavor, Monitor, Select, TableMonitor};
use crate::error::{OvsdbError, Result};
use crate::json::Fields;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::txn::{ColumnRef, Condition, read_columns};

impl Monitor {
    /// Reads the `<monitor-requests>` or `<monitor-cond-requests>` of a request.
    pub(crate) fn from_json(schema: &DatabaseSchema, requests: &Value, flavor: Flavor) -> Result<Self> {
        let Some(map) = requests.as_object() else {
            return Err(OvsdbError::syntax(requests, "monitor requests are an object"));
        };
        let mut tables = BTreeMap::new();
        for (name, groups) in map {
            let (position, table) = find_table(schema, name)?;
            let mut monitor =
                TableMonitor { columns: Vec::new(), conditions: Vec::new(), select: Select::NONE };
            // One request may stand for an array of one (ovsdb-server(7) §4.1.5).
            let groups = groups.as_array().map_or(std::slice::from_ref(groups), Vec::as_slice);
            for group in groups {
                monitor.add_group(table, name, group, flavor)?;
            }
            // A table asked for with no groups is not covered at all.
            if !groups.is_empty() {
                tables.insert(position, monitor);
            }
        }
        Ok(Self { flavor, tables })
    }

    /// About how many bytes it takes.
    pub(crate) fn weight(&self) -> usize {
        let table = |t: &TableMonitor| {
            let conditions: usize = t.conditions.iter().map(Condition::weight).sum();
            64 + 24 * t.columns.len() + conditions
        };
        self.tables.values().map(table).sum()
    }

    /// The dialect it speaks.
    pub(crate) fn flavor(&self) -> Flavor {
        self.flavor
    }

    /// The same monitor with the conditions of a `monitor_cond_change` request.
    pub(crate) fn with_conditions(&self, schema: &DatabaseSchema, requests: &Value) -> Result<Self> {
        let Some(map) = requests.as_object() else {
            return Err(OvsdbError::syntax(requests, "condition changes are an object"));
        };
        let mut changed = self.clone();
        for (name, groups) in map {
            let (position, table) = find_table(schema, name)?;
            let Some(monitor) = changed.tables.get_mut(&position) else {
                let details = format!("table {name} is not monitored");
                return Err(OvsdbError::syntax(groups, details));
            };
            let Some(groups) = groups.as_array() else {
                return Err(OvsdbError::syntax(groups, "condition changes are an array"));
            };
            let mut conditions = Vec::new();
            for group in groups {
                let what = format!("condition change of table {name}");
                let mut fields = Fields::open(group, &what)?;
                let clauses = fields.opt_array("where")?;
                fields.close()?;
                let clauses = clauses.map_or(&[][..], Vec::as_slice);
                conditions.push(Condition::from_json(table, clauses, None)?);
            }
            if !conditions.is_empty() {
                monitor.conditions = conditions;
            }
        }
        Ok(changed)
    }
}

fn find_table<'a>(schema: &'a DatabaseSchema, name: &str) -> Result<(usize, &'a TableSchema)> {
    schema
        .table(name)
        .ok_or_else(|| OvsdbError::syntax(&Value::from(name), format!("there is no table {name}")))
}

impl TableMonitor {
    fn add_group(&mut self, schema: &TableSchema, name: &str, group: &Value, flavor: Flavor) -> Result<()> {
        let what = format!("monitor request for table {name}");
        let mut fields = Fields::open(group, &what)?;
        let names = fields.opt_array("columns")?;
        let select = fields.optional("select").map(read_select).transpose()?;
        let clauses = match flavor {
            Flavor::Plain => None,
            Flavor::Conditional | Flavor::Since => fields.opt_array("where")?,
        };
        let columns = match names {
            Some(names) => read_columns(schema, Some(names))?,
            None => ColumnRef::all(schema).filter(|c| *c != ColumnRef::Uuid).collect(),
        };
        let select = select.unwrap_or(Select::ALL);
        self.select = self.select.or(select);
        for column in columns {
            if self.columns.iter().any(|(c, _)| *c == column) {
                let details = format!("column {} is monitored twice", column.name(schema));
                return Err(fields.error(details));
            }
            self.columns.push((column, select));
        }
        fields.close()?;
        let clauses = clauses.map_or(&[][..], Vec::as_slice);
        self.conditions.push(Condition::from_json(schema, clauses, None)?);
        Ok(())
    }
}

fn read_select(value: &Value) -> Result<Select> {
    let mut fields = Fields::open(value, "monitor select")?;
    let select = Select {
        initial: fields.opt_bool("initial")?.unwrap_or(true),
        insert: fields.opt_bool("insert")?.unwrap_or(true),
        delete: fields.opt_bool("delete")?.unwrap_or(true),
        modify: fields.opt_bool("modify")?.unwrap_or(true),
    };
    fields.close()?;
    Ok(select)
}
