//! The ids in use before the load, and the sequences that numbers come from.

use uuid::Uuid;

use super::PgTarget;
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::load::{EXISTING_KEYS_PER_CALL, ExistingKey, KeysOf};
use crate::postgres::{literal, quoted};
use crate::sidecar::{SIDECAR, original_id};

impl PgTarget {
    /// The integers that stand in a table as ids, beside those they were before.
    pub(super) async fn known_ids_now(
        &self,
        ids: &KeysOf,
        after: Option<i64>,
    ) -> Result<Vec<ExistingKey>> {
        let table = &self.catalog.tables[ids.table];
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let Some(key) = table.key.first().copied() else { return Ok(Vec::new()) };
        let id = physical(ids.refers.unwrap_or(key));
        let origin = table.origin.filter(|_| ids.refers.is_none());
        let origin = origin.map_or_else(|| "NULL".into(), |o| format!("t.{}::text", physical(o)));
        let what = format!("cannot read {}", table.name);
        let sidecar = match self.keeps_residue(&what).await? {
            true => format!(
                "(SELECT r.sidecar FROM {} r WHERE r.table_name = {} AND r.key = t.{}::text)",
                self.found.full_name(SIDECAR),
                literal(&table.name),
                physical(key)
            ),
            false => "NULL".into(),
        };
        let wanted = match (ids.refers, ids.kept_as.first()) {
            (Some(_), Some(name)) => {
                format!("AND strpos({sidecar}, {}) > 0", literal(&format!("\"{name}\"")))
            }
            _ => String::new(),
        };
        let sql = format!(
            "SELECT DISTINCT ON (t.{id}) {origin}, {sidecar}, t.{id}::text FROM {} t \
              WHERE {} {wanted} ORDER BY t.{id} LIMIT {EXISTING_KEYS_PER_CALL}",
            self.found.full_name(&table.name),
            after.map_or_else(|| "true".into(), |after| format!("t.{id} > {after}")),
        );
        let rows = self.connection.rows(Code::Target, &what, &sql).await?;
        let known = |row: Vec<Option<String>>| {
            let mut texts = row.into_iter();
            let (origin, sidecar) = (texts.next()?, texts.next()?);
            let kept = sidecar.and_then(|kept| original_id(&kept, &ids.kept_as));
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
        let (full, own) = (self.found.full_name(&table.name), self.found.full_name(SIDECAR));
        let what = format!("cannot read {}", table.name);
        let there = self.keeps_residue(&what).await?;
        let own_column = table.origin.map(|o| quoted(&table.columns[o].physical));
        let in_table =
            own_column.map(|o| format!("SELECT t.{o}::text, t.{key}::text FROM {full} t"));
        let beside = kept_as.filter(|_| there).map(|name| {
            format!(
                "SELECT r.sidecar::json -> {} ->> 'text', r.key FROM {own} r \
                   JOIN {full} t ON t.{key}::text = r.key \
                  WHERE r.table_name = {} AND strpos(r.sidecar, {}) > 0",
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
                if matches!(column.ty, ColumnType::Int(_)) {
                    self.run("cannot advance a sequence", &sql).await?;
                }
            }
        }
        Ok(())
    }
}
