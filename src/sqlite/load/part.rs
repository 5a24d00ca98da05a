//! A restore of a part: the rows of a file that are not in it are as good as the archive's own, so that they stay.

use rusqlite::params_from_iter;

use super::SqliteTarget;
use super::own_rows::Seen;
use crate::error::Result;
use crate::load::no_part_without_a_table;
use crate::plan::{Plan, TablePlan};
use crate::sqlite::{failed, quoted, to_sqlite};
use crate::value_bytes::read;

fn cannot(e: rusqlite::Error) -> crate::error::Error {
    failed(crate::error::Code::Target, "cannot look for the rows to restore", e)
}

impl SqliteTarget {
    /// Refuses a part of which some rows have no table.
    pub(super) fn require_tables(&self, plan: &Plan) -> Result<()> {
        match &self.part {
            Some(_) => no_part_without_a_table(plan),
            None => Ok(()),
        }
    }

    /// Marks the rows of a table that are not in the part as rows that the archive has.
    pub(super) fn see_others(&self, stream: &TablePlan, seen: &Seen) -> Result<()> {
        let Some(part) = self.part.as_ref().filter(|_| stream.shares_with.is_none()) else {
            return Ok(());
        };
        let (keys, name) = (&self.keys[stream.table], format!("part_{}", stream.table));
        let key = keys.key("t");
        let columns: Vec<String> = (0..key.len()).map(|n| format!("k{n}")).collect();
        let columns = columns.join(", ");
        let create = format!(
            "CREATE TEMP TABLE {name} ({columns}); CREATE INDEX temp.{name}_index ON {name} ({columns})"
        );
        self.connection.execute_batch(&create).map_err(cannot)?;
        let values = vec!["?"; key.len()].join(", ");
        let insert = format!("INSERT INTO temp.{name} VALUES ({values})");
        let mut insert = self.connection.prepare(&insert).map_err(cannot)?;
        let of = &self.catalog.tables[stream.table].stream;
        let mut after = None;
        while let Some(bytes) = part.next(of, after.as_deref())? {
            let values = read(&bytes).into_iter().map(to_sqlite);
            insert.execute(params_from_iter(values)).map_err(cannot)?;
            after = Some(bytes);
        }
        let same: Vec<String> = (key.iter().enumerate())
            .map(|(n, column)| format!("p.k{n} IS +{column} COLLATE BINARY"))
            .collect();
        let others = format!(
            "{} AS t WHERE NOT EXISTS (SELECT 1 FROM temp.{name} AS p WHERE {})",
            quoted(&stream.table_name),
            same.join(" AND ")
        );
        seen.note_all(&self.connection, &keys.places("t"), &others).map_err(cannot)
    }
}
