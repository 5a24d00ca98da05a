//! Numbers that a database gives: the ids in use, and the sequences behind them.

use super::PgTarget;
use crate::error::{Code, Result};
use crate::postgres::{literal, quoted};
use crate::residue::{RESIDUE, original_id};
use crate::target::{KnownId, TargetType};

impl PgTarget {
    /// The integers that rows of a table have as ids, beside those they had before.
    pub(super) async fn known_ids_now(
        &self,
        table: usize,
        kept_as: Option<&str>,
    ) -> Result<Vec<KnownId>> {
        let table = &self.catalog.tables[table];
        let Some(key) = table.key.first() else { return Ok(Vec::new()) };
        let key = quoted(&table.columns[*key].physical);
        let origin = table.origin.map_or_else(
            || "NULL".into(),
            |o| format!("t.{}::text", quoted(&table.columns[o].physical)),
        );
        let what = format!("cannot read {}", table.name);
        let own = self.found.full_name(RESIDUE);
        let there = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(&own));
        let beside = match self.connection.rows(Code::Target, &what, &there).await?.is_empty() {
            true => "NULL".into(),
            false => format!(
                "(SELECT r.residue FROM {own} r WHERE r.table_name = {} AND r.key = t.{key}::text)",
                literal(&table.name)
            ),
        };
        let sql = format!(
            "SELECT {origin}, {beside}, t.{key}::text FROM {} t",
            self.found.full_name(&table.name)
        );
        let rows = self.connection.rows(Code::Target, &what, &sql).await?;
        let known = |row: Vec<Option<String>>| {
            let mut texts = row.into_iter();
            let (origin, beside) = (texts.next()?, texts.next()?);
            let kept = beside.zip(kept_as).and_then(|(kept, name)| original_id(&kept, name));
            Some((origin.or(kept), texts.next()??.parse().ok()?))
        };
        Ok(rows.into_iter().filter_map(known).collect())
    }

    /// Moves the sequences of loaded columns behind the largest value, never back.
    pub(super) async fn advance_sequences(&self) -> Result<()> {
        for table in &self.catalog.tables {
            let full = self.found.full_name(&table.name);
            for column in &table.columns {
                let sql = format!(
                    "SELECT pg_catalog.setval(s.seq, m.most) \
                       FROM (SELECT pg_catalog.pg_get_serial_sequence({}, {})::regclass AS seq) s, \
                            (SELECT max({}) AS most FROM {full}) m \
                      WHERE s.seq IS NOT NULL AND m.most > coalesce( \
                            pg_catalog.pg_sequence_last_value(s.seq), 0)",
                    literal(&full),
                    literal(&column.physical),
                    quoted(&column.physical),
                );
                if matches!(column.ty, TargetType::Int(_)) {
                    self.run("cannot advance a sequence", &sql).await?;
                }
            }
        }
        Ok(())
    }
}
