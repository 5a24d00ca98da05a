//! The ids in use before the load, and the sequences that numbers come from.

use uuid::Uuid;

use super::PgTarget;
use super::keys::key_names;
use crate::catalog::ColumnType;
use crate::error::{Code, Result};
use crate::history::noted;
use crate::load::{EXISTING_KEYS_PER_CALL, ExistingKey, KeysOf};
use crate::numbers::TableNumbers;
use crate::postgres::history::readable_history;
use crate::postgres::sequences::advance;
use crate::postgres::{key_text, literal, quoted};
use crate::sidecar::original_id;

impl PgTarget {
    /// The integers that are ids in a table, with the ids that the rows had before.
    pub(super) async fn existing_keys_now(
        &self,
        ids: &KeysOf,
        after: Option<i64>,
    ) -> Result<Vec<ExistingKey>> {
        let table = &self.catalog.tables[ids.table];
        let physical = |n: usize| quoted(&table.columns[n].physical);
        let id = match (ids.refers, &table.key[..]) {
            (Some(refers), _) => physical(refers),
            (None, [key]) => physical(*key),
            // a key of several columns is no id
            (None, _) => return Ok(Vec::new()),
        };
        let origin = table.origin.filter(|_| ids.refers.is_none());
        let origin = origin.map_or_else(|| "NULL".into(), |o| format!("t.{}::text", physical(o)));
        let what = format!("cannot read {}", table.name);
        let entry = self.own_tables().await?.map_or_else(
            || "NULL".into(),
            |own| {
                let belongs = own.belongs("r", &table.name);
                let key = key_text(&key_names(table), "t");
                format!("(SELECT r.entry FROM {} r WHERE {belongs} AND r.key = {key})", own.sidecar)
            },
        );
        let filter = match (ids.refers, ids.kept_as.first()) {
            (Some(_), Some(name)) => {
                format!("AND strpos({entry}, {}) > 0", literal(&format!("\"{name}\"")))
            }
            _ => String::new(),
        };
        let sql = format!(
            "SELECT DISTINCT ON (t.{id}) {origin}, {entry}, t.{id}::text FROM {} t \
              WHERE {} {filter} ORDER BY t.{id} LIMIT {EXISTING_KEYS_PER_CALL}",
            self.found.full_name(&table.name),
            after
                .map_or_else(|| format!("t.{id} IS NOT NULL"), |after| format!("t.{id} > {after}")),
        );
        let read = self.connection.read(Code::Target, &what, &sql, |row| {
            let (origin, entry) = (row.optional()?, row.optional()?);
            let before = entry.and_then(|entry| original_id(&entry, &ids.kept_as));
            Ok((origin.or(before), row.parsed()?))
        });
        read.await
    }

    /// Whose the integer ids of the tables are, and how far they reach.
    pub(super) async fn table_numbers_now(&self) -> Result<Vec<Option<TableNumbers>>> {
        let (mut found, mut history) = (Vec::new(), None);
        for table in &self.catalog.tables {
            let Some(key) = table.integer_key() else {
                found.push(None);
                continue;
            };
            let id = quoted(&table.columns[key].physical);
            let sql = format!("SELECT max({id}) FROM {}", self.found.full_name(&table.name));
            let what = format!("cannot read {}", table.name);
            let read = self.connection.read(Code::Target, &what, &sql, |row| row.optional_parsed());
            let greatest = read.await?.into_iter().next().flatten();
            if history.is_none() {
                history = Some(readable_history(&self.connection, &self.found.schema).await?);
            }
            let numbers = noted(history.as_deref().unwrap_or_default(), &table.name);
            found.push(Some(TableNumbers { numbers, greatest }));
        }
        Ok(found)
    }

    /// The UUIDs that rows of a table have as ids, with those that they had before in another spelling.
    pub(super) async fn existing_uuid_spellings_now(
        &self,
        table: usize,
        kept_as: Option<&str>,
    ) -> Result<Vec<(String, Uuid)>> {
        let table = &self.catalog.tables[table];
        let [key] = table.key[..] else { return Ok(Vec::new()) };
        let key = quoted(&table.columns[key].physical);
        let full = self.found.full_name(&table.name);
        let what = format!("cannot read {}", table.name);
        let own_column = table.origin.map(|o| quoted(&table.columns[o].physical));
        let in_table =
            own_column.map(|o| format!("SELECT t.{o}::text, t.{key}::text FROM {full} t"));
        let in_sidecar = self.own_tables().await?.zip(kept_as).map(|(own, name)| {
            format!(
                "SELECT r.entry::json -> {} ->> 'text', r.key FROM {} r \
                   JOIN {full} t ON t.{key}::text = r.key \
                  WHERE {} AND strpos(r.entry, {}) > 0",
                literal(name),
                own.sidecar,
                own.belongs("r", &table.name),
                literal(&format!("\"{name}\"")),
            )
        });
        let selects: Vec<String> = in_table.into_iter().chain(in_sidecar).collect();
        if selects.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT * FROM ({}) AS known (original, id) \
              WHERE original ~* '^(urn:uuid:)?[{{]?([0-9a-f]-?){{32}}[}}]?$'",
            selects.join(" UNION ALL ")
        );
        let read =
            self.connection.read(Code::Target, &what, &sql, |row| Ok((row.text()?, row.parsed()?)));
        read.await
    }

    /// The sequences of loaded columns that move behind the largest value, never back, and where to.
    pub(super) async fn sequence_moves(&self) -> Result<Vec<(String, i64)>> {
        let mut moves = Vec::new();
        for table in &self.catalog.tables {
            let full = self.found.full_name(&table.name);
            for column in &table.columns {
                let sql = format!(
                    "SELECT s.seq, e.edge \
                       FROM (SELECT pg_catalog.pg_get_serial_sequence({}, {})::regclass AS seq) s \
                       JOIN pg_catalog.pg_sequence q ON q.seqrelid = s.seq \
                      CROSS JOIN (SELECT min({2}) AS least, max({2}) AS most FROM {full}) m \
                      CROSS JOIN LATERAL (SELECT CASE WHEN q.seqincrement > 0 \
                            THEN least(m.most, q.seqmax) ELSE greatest(m.least, q.seqmin) END AS edge) e \
                      CROSS JOIN LATERAL (SELECT pg_catalog.pg_sequence_last_value(s.seq) AS last) l \
                      WHERE CASE WHEN q.seqincrement > 0 THEN e.edge > coalesce(l.last, q.seqstart - 1) \
                                 ELSE e.edge < coalesce(l.last, q.seqstart + 1) END",
                    literal(&full),
                    literal(&column.physical),
                    quoted(&column.physical),
                );
                if matches!(column.ty, ColumnType::Int(_)) {
                    let what = "cannot look at a sequence";
                    let read = self
                        .connection
                        .read(Code::Target, what, &sql, |row| Ok((row.text()?, row.parsed()?)));
                    moves.extend(read.await?);
                }
            }
        }
        Ok(moves)
    }

    /// Moves the sequences of loaded columns.
    pub(super) async fn advance_sequences(&self) -> Result<()> {
        let moves = match &self.moves {
            Some(moves) => moves.clone(),
            None => self.sequence_moves().await?,
        };
        for (sequence, edge) in moves {
            advance(&self.connection, &sequence, edge).await?;
        }
        Ok(())
    }
}
