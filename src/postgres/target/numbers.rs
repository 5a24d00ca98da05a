//! The ids in use before the load, and the sequences that numbers come from.

use uuid::Uuid;

use super::PgTarget;
use crate::error::{Code, Result};
use crate::postgres::{literal, quoted};
use crate::residue::{RESIDUE, original_id};
use crate::target::{KNOWN_AT_ONCE, KnownId, TargetType};

impl PgTarget {
    /// The integers that rows of a table have as ids, beside those they had before.
    pub(super) async fn known_ids_now(
        &self,
        table: usize,
        kept_as: Option<&str>,
        after: Option<i64>,
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
            "SELECT {origin}, {beside}, t.{key}::text FROM {} t WHERE {} \
              ORDER BY t.{key} LIMIT {KNOWN_AT_ONCE}",
            self.found.full_name(&table.name),
            after.map_or_else(|| "true".into(), |after| format!("t.{key} > {after}")),
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

    /// The UUIDs that rows of a table have as ids, beside those that they had before in another
    /// spelling.
    pub(super) async fn known_spellings_now(
        &self,
        table: usize,
        kept_as: Option<&str>,
    ) -> Result<Vec<(String, Uuid)>> {
        let table = &self.catalog.tables[table];
        let Some(key) = table.key.first() else { return Ok(Vec::new()) };
        let key = quoted(&table.columns[*key].physical);
        let (full, own) = (self.found.full_name(&table.name), self.found.full_name(RESIDUE));
        let what = format!("cannot read {}", table.name);
        let there = format!("SELECT 1 WHERE to_regclass({}) IS NOT NULL", literal(&own));
        let there = !self.connection.rows(Code::Target, &what, &there).await?.is_empty();
        let own_column = table.origin.map(|o| quoted(&table.columns[o].physical));
        let in_table =
            own_column.map(|o| format!("SELECT t.{o}::text, t.{key}::text FROM {full} t"));
        let beside = kept_as.filter(|_| there).map(|name| {
            format!(
                "SELECT r.residue::json -> {} ->> 'text', r.key FROM {own} r \
                   JOIN {full} t ON t.{key}::text = r.key \
                  WHERE r.table_name = {} AND strpos(r.residue, {}) > 0",
                literal(name),
                literal(&table.name),
                literal(&format!("\"{name}\"")),
            )
        });
        let asked: Vec<String> = in_table.into_iter().chain(beside).collect();
        if asked.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT * FROM ({}) AS known (original, id) \
              WHERE original ~* '^(urn:uuid:)?[{{]?([0-9a-f]-?){{32}}[}}]?$'",
            asked.join(" UNION ALL ")
        );
        let rows = self.connection.rows(Code::Target, &what, &sql).await?;
        let known = |row: Vec<Option<String>>| match &row[..] {
            [Some(original), Some(id)] => Some((original.clone(), Uuid::parse_str(id).ok()?)),
            _ => None,
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
