//! Staged rows that the table has under another key with the same content: found by the server, which compares JSON and
//! instants itself, taken out of what is staged, and what refers to them is pointed to the row that was there.

use std::sync::Arc;

use super::conflict::numbered;
use super::keys::Alias;
use super::loading::PgLoading;
use super::merge::{Merge, STAGED, STORED};
use super::sidecar::STAGED_ENTRIES;
use crate::catalog::ColumnType;
use crate::error::Result;
use crate::plan::{ContentColumn, Plan};
use crate::postgres::{key_text, literal};

const WHAT: &str = "cannot compare the content of rows";
/// Where staged rows are noted with their key and that of the row that they were found to be.
const PAIRS: &str = "pg_temp.chronicle_dump_pairs";

impl PgLoading {
    /// Takes the staged rows of a load out that its table has under another key with the same content; gives their
    /// number.
    pub(super) async fn match_contents(&mut self, plan: &Plan, load: usize) -> Result<u64> {
        let number = self.done[load].stream;
        let stream = PgLoading::table_plan(plan, number)?;
        let into = |n: usize| plan.streams[n].table().is_some_and(|s| s.table == stream.table);
        let others: Vec<Option<String>> =
            self.done.iter().filter(|l| into(l.stream)).map(|l| l.staging.clone()).collect();
        // rows that went straight into their table found it empty: all that it has is the archive's
        let Some(brought) = others.into_iter().collect::<Option<Vec<String>>>() else {
            return Ok(0);
        };
        if stream.content.is_empty() || stream.key.is_empty() {
            return Ok(0);
        }
        let mut rows = 0;
        for merge in self.merges(plan, &[load])? {
            self.db.run(WHAT, &merge.create_known_as()).await?;
            rows = merge.find_pairs(&brought).await?;
            if rows > 0 {
                merge.join_entries().await?;
                merge.take_out().await?;
            }
            self.db.run(WHAT, &format!("DROP TABLE {PAIRS}")).await?;
        }
        if rows > 0 {
            self.db.found_other_keys(stream.table);
            self.loaded[number].content_matched_rows += rows;
        }
        Ok(rows)
    }

    /// Matches the contents of loads until no row more is found: of rows that refer to each other, some are the same
    /// only once those are. Gives for each load how many of its rows have changed or are gone.
    pub(super) async fn match_all_contents(&mut self, loads: &[usize]) -> Result<Vec<u64>> {
        let plan = Arc::clone(&self.plan);
        let mut changed = vec![0; loads.len()];
        loop {
            let mut matched = 0;
            for (n, load) in loads.iter().enumerate() {
                if self.has_existing(*load).await? {
                    let rows = self.match_contents(&plan, *load).await?;
                    changed[n] += rows;
                    matched += rows;
                }
            }
            if matched == 0 {
                return Ok(changed);
            }
            for (n, load) in loads.iter().enumerate() {
                changed[n] += self.rename_references(&plan, *load).await?;
            }
        }
    }
}

impl Merge<'_> {
    /// A column of the content as SQL that can be sorted, and is equal if what it means is.
    fn content(&self, column: &ContentColumn, rows: Alias<'_>) -> String {
        let (Alias::Stored(alias) | Alias::Staged(alias)) = rows;
        let name = format!("{alias}.{}", self.name(column.column));
        match (&self.stream.columns[column.column].ty, rows) {
            // a number is the same however many digits it is written with
            (ColumnType::Cast(ty), Alias::Staged(_)) if ty.starts_with("numeric") => {
                format!("{name}::{ty}")
            }
            (ColumnType::Cast(ty), Alias::Stored(_)) if ty.starts_with("numeric") => name,
            (ColumnType::Cast(ty), Alias::Staged(_)) => format!("{name}::{ty}::text COLLATE \"C\""),
            (ColumnType::Cast(_), Alias::Stored(_)) => format!("{name}::text COLLATE \"C\""),
            (ColumnType::Text(_), _) => format!("{name}::text COLLATE \"C\""),
            // what jsonb refuses is compared as text
            (ColumnType::Json, _) => format!(
                r"CASE WHEN {name}::text ~ '\\u(0000|[dD][89abAB])|[eE][+-]?[0-9]{{3}}' THEN to_jsonb({name}::text) ELSE {name}::jsonb END"
            ),
            _ => name,
        }
    }

    /// SQL that is true of stored rows for which there may be a staged one of the same content, found without sorting.
    fn plausible(&self) -> Option<String> {
        let plain = |c: &&ContentColumn| {
            let column = &self.stream.columns[c.column];
            let sorts = matches!(
                column.ty,
                ColumnType::Timestamptz
                    | ColumnType::Uuid
                    | ColumnType::Int(_)
                    | ColumnType::Text(_)
            );
            // NULL equals nothing here
            sorts && column.not_null
        };
        let same: Vec<String> = (self.stream.content.iter().filter(plain))
            .map(|c| format!("{} = {}", self.content(c, STORED), self.content(c, STAGED)))
            .collect();
        let staging = self.staging;
        (!same.is_empty())
            .then(|| format!("EXISTS (SELECT 1 FROM {staging} s WHERE {})", same.join(" AND ")))
    }

    /// Pairs staged rows whose key the table lacks with rows that it has and that no row of the archive is, in any of
    /// the staging tables: of equal ones as many as there are on both sides.
    async fn find_pairs(&self, brought: &[String]) -> Result<u64> {
        let width = self.key.names().len();
        let (keys, content) = (numbered("k", width), numbered("c", self.stream.content.len()));
        let select = |rows: Alias<'_>| {
            let values = self.stream.content.iter().map(|c| self.content(c, rows));
            let keys = self.key.values(rows).into_iter().zip(&keys);
            let all = keys.chain(values.zip(&content));
            all.map(|(value, name)| format!("{value} AS {name}")).collect::<Vec<_>>().join(", ")
        };
        let has_key = |rows: Alias<'_>| {
            let values = self.key.values(rows).into_iter();
            values.map(|value| format!("{value} IS NOT NULL")).collect::<Vec<_>>()
        };
        let mut staged = has_key(STAGED);
        let met = self.key.same(Alias::Stored("k"), STAGED);
        staged.push(format!("NOT EXISTS (SELECT 1 FROM {} k WHERE {met})", self.full()));
        let mut stored = has_key(STORED);
        stored.extend(self.plausible());
        let is_it = self.key.same(STORED, STAGED);
        for staging in brought {
            stored.push(format!("NOT EXISTS (SELECT 1 FROM {staging} s WHERE {is_it})"));
        }
        let aliases: Vec<String> =
            numbered("n", width).iter().map(|name| format!("d.{name}")).collect();
        stored.push(format!(
            "NOT EXISTS (SELECT 1 FROM {} d WHERE d.earlier IS NULL AND {})",
            self.known_as(),
            self.key.equal(&aliases, &self.key.values(STORED))
        ));
        let pairs: Vec<String> = (0..width)
            .flat_map(|n| [format!("a.k{n} AS o{n}"), format!("b.k{n} AS n{n}")])
            .collect();
        let (keys, content) = (keys.join(", "), content.join(", "));
        let sql = format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS \
             WITH rows AS (SELECT true AS new, s.ctid AS place, {} FROM {} s WHERE {} \
                           UNION ALL SELECT false, t.ctid, {} FROM {} t WHERE {}), \
                  ranked AS (SELECT *, dense_rank() OVER (ORDER BY {content}) AS content, \
                                    row_number() OVER (PARTITION BY {content}, new ORDER BY {keys}) AS rank \
                               FROM rows) \
             SELECT a.place AS staged, {} FROM ranked a JOIN ranked b USING (content, rank) \
              WHERE a.new AND NOT b.new",
            PAIRS.trim_start_matches("pg_temp."),
            select(STAGED),
            self.staging,
            staged.join(" AND "),
            select(STORED),
            self.full(),
            stored.join(" AND "),
            pairs.join(", ")
        );
        self.db().run(WHAT, &sql).await?;
        let count = format!("SELECT count(*) FROM {PAIRS}");
        let count = self.read(&count, |row| row.parsed::<u64>()).await?;
        Ok(count.first().copied().unwrap_or_default())
    }

    /// Gives the rows that were there what is staged of the new ones in columns that the table lacks, and leaves out the
    /// rest: how a value is spelled is decided by the row that has it.
    async fn join_entries(&self) -> Result<()> {
        let Some(sidecar) = self.loading.sidecar() else { return Ok(()) };
        let own = &sidecar.tables;
        let width = self.key.names().len();
        let [old, new] = ["o", "n"].map(|prefix| key_text(&numbered(prefix, width), "d"));
        let table = literal(&self.stream.table_name);
        let lacking: Vec<String> = self.stream.lacking().iter().map(|n| literal(n)).collect();
        let joined = match lacking.is_empty() {
            true => "'{}'".to_owned(),
            false => format!(
                "coalesce((SELECT jsonb_object_agg(v.key, v.value)::text FROM jsonb_each(e.entry::jsonb) v \
                   WHERE v.key IN ({}) AND NOT EXISTS (SELECT 1 FROM {} r WHERE {} AND r.key = {new} \
                         AND r.entry::jsonb ? v.key)), '{{}}')",
                lacking.join(", "),
                own.sidecar,
                own.belongs("r", &self.stream.table_name)
            ),
        };
        let sql = format!(
            "UPDATE {STAGED_ENTRIES} e SET key = {new}, entry = {joined} FROM {PAIRS} d \
              WHERE e.table_name = {table} AND e.key = {old}; \
             DELETE FROM {STAGED_ENTRIES} e WHERE e.table_name = {table} AND e.entry = '{{}}'"
        );
        self.db().run("cannot move the entries of existing rows", &sql).await
    }

    /// Takes the staged rows of the pairs out, and notes their keys, so that what refers to them is pointed to the
    /// others.
    async fn take_out(&self) -> Result<()> {
        let width = self.key.names().len();
        let columns = [numbered("o", width), numbered("n", width)].concat().join(", ");
        let sql = format!(
            "INSERT INTO {} ({columns}) SELECT {columns} FROM {PAIRS}; \
             DELETE FROM {} s USING {PAIRS} d WHERE d.staged = s.ctid",
            self.known_as(),
            self.staging
        );
        self.db().run(WHAT, &sql).await
    }
}
