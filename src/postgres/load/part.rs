//! A restore of a part: which rows of the target are in it. All others stay.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use super::PgTarget;
use super::keys::Alias;
use crate::error::Result;
use crate::load::no_part_without_a_table;
use crate::plan::{Plan, TablePlan};
use crate::postgres::{literal, quoted};
use crate::value_bytes::read;
use chronicle_archive::{Value, hex};

const WHAT: &str = "cannot look for the rows to restore";
/// How many keys go to the server at once.
const AT_ONCE: usize = 1000;

impl PgTarget {
    /// Notes the keys of the rows that a restore is about in temporary tables, if it is not about all.
    pub(super) async fn note_part(&mut self, plan: &Plan) -> Result<()> {
        let part = self.part.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(part) = part else { return Ok(()) };
        no_part_without_a_table(plan)?;
        let mut tables = BTreeMap::new();
        for (_, stream) in plan.tables().filter(|(_, s)| s.shares_with.is_none()) {
            let name = format!("part_{}", stream.table);
            let columns = self.key(stream).names().join(", ");
            let full = self.found.full_name(&stream.table_name);
            let create = format!(
                "CREATE TEMPORARY TABLE {name} ON COMMIT DROP AS SELECT {columns} FROM {full} WHERE false"
            );
            self.run(WHAT, &create).await?;
            let of = self.catalog.tables[stream.table].stream.clone();
            let mut after: Option<Vec<u8>> = None;
            loop {
                let mut rows = Vec::new();
                while rows.len() < AT_ONCE
                    && let Some(key) = part.next(&of, after.as_deref())?
                {
                    let values: Vec<String> = read(&key).into_iter().map(as_sql).collect();
                    rows.push(format!("({})", values.join(", ")));
                    after = Some(key);
                }
                if rows.is_empty() {
                    break;
                }
                let sql = format!("INSERT INTO pg_temp.{name} VALUES {}", rows.join(", "));
                self.run(WHAT, &sql).await?;
            }
            self.run(WHAT, &format!("CREATE INDEX ON pg_temp.{name} ({columns}); ANALYZE {name}"))
                .await?;
            tables.insert(stream.table, format!("pg_temp.{}", quoted(&name)));
        }
        self.part_tables = Some(tables);
        Ok(())
    }

    /// SQL that is true of rows of a stream's table which a restore is about; `None` if it is about all.
    pub(super) fn is_in_part(&self, stream: &TablePlan, alias: &str) -> Option<String> {
        let tables = self.part_tables.as_ref()?;
        let Some(part) = tables.get(&stream.table) else { return Some("false".into()) };
        let same = self.key(stream).same(Alias::Stored(alias), Alias::Stored("part"));
        Some(format!("EXISTS (SELECT 1 FROM {part} part WHERE {same})"))
    }

    /// The same for the entries `t` of such rows in the sidecar table.
    pub(super) fn has_entry_in_part(&self, stream: &TablePlan) -> Option<String> {
        let tables = self.part_tables.as_ref()?;
        let Some(part) = tables.get(&stream.table) else { return Some("false".into()) };
        let text = self.key(stream).text("part");
        Some(format!("EXISTS (SELECT 1 FROM {part} part WHERE {text} = t.key)"))
    }
}

/// A value of a key as SQL; the column says its type.
fn as_sql(value: Value<'_>) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Int(number) => number.to_string(),
        Value::Real(number) => format!("'{number}'"),
        Value::Bool(truth) => truth.to_string(),
        Value::Uuid(bytes) => format!("'{}'", uuid::Uuid::from_bytes(bytes)),
        Value::Text(text) => literal(&String::from_utf8_lossy(text)),
        Value::Blob(bytes) => format!("'\\x{}'", hex(bytes)),
        Value::Time(at) => {
            let mut text = Vec::new();
            at.write_postgres(&mut text);
            format!("'{}'", String::from_utf8_lossy(&text))
        }
    }
}
