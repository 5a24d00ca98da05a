//! Staged rows that the table has already: those that it has under another key get that key, and a policy decides about
//! those with other content. All of it is found by joins on the server.

use super::dispute::DISPUTED;
use super::keys::{Alias, same_as_type};
use super::loading::PgLoading;
use super::merge::{Merge, STAGED, STORED};
use super::sidecar::STAGED_ENTRIES;
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::load::{Cause, Conflict, SAMPLES, key_not_unique, without};
use crate::plan::{Plan, TablePlan};
use crate::policy::OnConflict;
use crate::postgres::fields::Fields;
use crate::postgres::{key_text, literal, quoted};
use crate::sidecar::NAMELESS;
use chronicle_archive::Batch;

/// The rows of a table that stays as it is.
pub(super) const KEPT: &str = "kept";
/// The rows of a table that get the values of the archive.
pub(super) const UPDATED: &str = "updated";
/// The rows that nothing settles.
const REFUSED: &str = "refused";

/// Where the keys of rows are noted that were updated: their entries belong to their old values.
pub(super) const REPLACED: &str = "pg_temp.chronicle_dump_replaced";

/// Where staged rows are noted that differ from the table's, with what is decided about each.
pub(super) fn decisions(stream: usize) -> String {
    format!("pg_temp.chronicle_dump_decided_{stream}")
}

impl PgLoading {
    /// Gives staged rows the keys that the target has for them and for what they refer to.
    pub(super) async fn meet_existing(&mut self, plan: &Plan, loads: &[usize]) -> Result<()> {
        let mut renamed = vec![0; loads.len()];
        self.forget_earlier_keys(plan, loads).await?;
        for (n, load) in loads.iter().enumerate() {
            renamed[n] += self.rename_references(plan, *load).await?;
            if self.has_existing(*load).await? {
                renamed[n] += self.rename_keys(plan, *load).await?;
            }
        }
        for (n, load) in loads.iter().enumerate() {
            // tables may refer to themselves and to each other
            renamed[n] += self.rename_references(plan, *load).await?;
        }
        let matched = self.match_all_contents(loads).await?;
        self.repoint_loose(plan).await?;
        for ((load, renamed), matched) in loads.iter().zip(renamed).zip(matched) {
            if renamed + matched > 0 {
                self.sum_again(plan, *load).await?;
            }
        }
        Ok(())
    }

    /// Whether the table of a load may have had rows before.
    pub(super) async fn has_existing(&self, load: usize) -> Result<bool> {
        let stream = PgLoading::table_plan(&self.plan, self.done[load].stream)?;
        Ok(!self.db.is_empty(&stream.table_name).await?)
    }

    /// Gives staged rows the keys of the existing rows that have one of their unique values.
    async fn rename_keys(&mut self, plan: &Plan, load: usize) -> Result<u64> {
        let merges = self.merges(plan, &[load])?;
        let (mut renamed, mut conflicts, mut table) = (0, Vec::new(), None);
        for merge in &merges {
            let natural = merge.natural_keys().await?;
            if natural.is_empty() || merge.stream.key.is_empty() {
                continue;
            }
            let (rows, several) = merge.rename_keys(&natural).await?;
            conflicts.extend(several);
            if rows > 0 {
                merge.rename_entries().await?;
                table = Some(merge.stream.table);
            }
            renamed += rows;
        }
        table.into_iter().for_each(|table| self.db.found_other_keys(table));
        self.loaded[self.done[load].stream].matched_rows += renamed;
        conflicts.into_iter().for_each(|conflict| self.conflicts.add(conflict));
        Ok(renamed)
    }

    /// Sums the staged rows anew, which have other keys than they were sent with.
    async fn sum_again(&mut self, plan: &Plan, load: usize) -> Result<()> {
        let done = &self.done[load];
        let stream = PgLoading::table_plan(plan, done.stream)?;
        let Some(staging) = &done.staging else { return Ok(()) };
        let mut sums = done.sums.another();
        let from = format!("{staging} c");
        self.db
            .each_row(stream, &done.types, &from, "c", |batch, row| sums.add(batch, row))
            .await?;
        self.done[load].sums = sums;
        Ok(())
    }

    /// Finds what is in the way of staged rows and decides about it.
    pub(super) async fn decide(&mut self, plan: &Plan, load: usize) -> Result<()> {
        let stream = PgLoading::table_plan(plan, self.done[load].stream)?;
        let (mut found, mut kept, mut updates, mut disputed) = (Vec::new(), 0, 0, 0);
        let mut ambiguous = None;
        for merge in self.merges(plan, &[load])? {
            found.extend(merge.twice().await?);
            ambiguous = merge.ambiguous().await?;
            (kept, updates, disputed) = merge.decide(ambiguous.is_none()).await?;
            found.extend(merge.refused().await?);
        }
        if disputed > 0 {
            self.note_disputed(stream, load).await?;
        }
        if let Some(error) = ambiguous {
            self.refuse(&stream.stream, error)?;
        }
        self.done[load].updates = updates;
        found.into_iter().for_each(|conflict| self.conflicts.add(conflict));
        if kept + disputed > 0 {
            self.take_kept_out(stream, load, disputed).await?;
        }
        Ok(())
    }

    /// Takes the rows that are not loaded, since the target's stay, out of the sums, and their entries out
    /// of what is staged.
    async fn take_kept_out(
        &mut self,
        stream: &TablePlan,
        load: usize,
        disputed: u64,
    ) -> Result<()> {
        let none = self.done[load].sums.another();
        let mut sums = std::mem::replace(&mut self.done[load].sums, none);
        let done = &self.done[load];
        let Some(staging) = &done.staging else { return Ok(()) };
        let from = format!(
            "{staging} c JOIN {} d ON d.staged = c.ctid AND d.decision = '{KEPT}'",
            decisions(done.stream)
        );
        let mut kept = 0;
        let take = |batch: &Batch, row| {
            sums.take(batch, row);
            kept += 1;
        };
        self.db.each_row(stream, &done.types, &from, "c", take).await?;
        if self.sidecar().is_some() {
            let sql = format!(
                "DELETE FROM {STAGED_ENTRIES} e USING {from} WHERE e.table_name = {} AND e.key = {}",
                literal(&stream.table_name),
                self.db.key(stream).text("c")
            );
            self.db.run("cannot leave out entries", &sql).await?;
        }
        let number = done.stream;
        self.loaded[number].conflicting_rows += without(kept, disputed)?;
        self.loaded[number].skipped_rows += disputed;
        let done = &mut self.done[load];
        done.sums = sums;
        done.kept = kept;
        Ok(())
    }
}

impl Merge<'_> {
    /// The unique columns, other than the key, that an existing row can be recognised by.
    pub(super) async fn natural_keys(&self) -> Result<Vec<Vec<String>>> {
        let sql = format!(
            "SELECT to_json(array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))) \
               FROM pg_catalog.pg_index i \
              WHERE i.indrelid = {}::regclass AND i.indisunique AND NOT i.indisprimary \
                AND NOT i.indisexclusion AND i.indisready AND i.indpred IS NULL \
                AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts",
            literal(&self.full())
        );
        let found = self.read(&sql, |row| row.texts()).await?;
        Ok(found.into_iter().filter(|columns| self.db().writes(self.stream, columns)).collect())
    }

    /// SQL that is true if a stored and a staged row have the same values in unique columns.
    pub(super) fn same_values(&self, columns: &[String]) -> String {
        let same = |name: &String| {
            let column = quoted(name);
            match self.db().cast_of(self.stream, name) {
                Some(ty) => same_as_type(&format!("t.{column}"), &format!("s.{column}"), ty),
                None => format!("t.{column} = s.{column}"),
            }
        };
        columns.iter().map(same).collect::<Vec<_>>().join(" AND ")
    }

    /// Gives staged rows without an existing row of their key that of the row with the same unique values;
    /// the number of those rows, and the conflict of rows that several existing ones are in the way of.
    async fn rename_keys(&self, natural: &[Vec<String>]) -> Result<(u64, Option<Conflict>)> {
        const WHAT: &str = "cannot look for existing rows";
        let (place, create) = (self.known_as(), self.create_known_as());
        let width = self.key.names().len();
        let (old, new) = (numbered("o", width), numbered("n", width));
        let staged = self.key.values(STAGED);
        let stored = self.key.values(STORED);
        let columns: Vec<String> = old.iter().zip(&new).map(|(o, n)| format!("{o}, {n}")).collect();
        let values: Vec<String> =
            staged.iter().zip(&stored).map(|(s, t)| format!("{s}, {t}")).collect();
        let mut sql = format!("{create};");
        for unique in natural {
            sql.push_str(&format!(
                "INSERT INTO {place} ({}) SELECT {} FROM {} s JOIN {} t ON {} \
                  WHERE NOT EXISTS (SELECT 1 FROM {} k WHERE {}) \
                    AND NOT EXISTS (SELECT 1 FROM {place} d WHERE {} AND {});",
                columns.join(", "),
                values.join(", "),
                self.staging,
                self.full(),
                self.same_values(unique),
                self.full(),
                self.key.same(Alias::Stored("k"), STAGED),
                self.key.equal(&dotted("d", &old), &staged),
                self.key.equal(&dotted("d", &new), &stored),
            ));
        }
        self.db().run(WHAT, &sql).await?;
        let several = format!(
            "SELECT {}, count(*) OVER () FROM {place} d GROUP BY {} HAVING count(*) > 1",
            key_text(&old, "d"),
            dotted("d", &old).join(", ")
        );
        let taken = Cause::Taken { columns: natural.concat(), by: None };
        let conflict = self.conflict(&several, taken).await?;
        if conflict.is_some() {
            let sql = format!(
                "DELETE FROM {place} WHERE ({o}) IN (SELECT {o} FROM {place} GROUP BY {o} \
                 HAVING count(*) > 1)",
                o = old.join(", ")
            );
            self.db().run(WHAT, &sql).await?;
        }
        let set: Vec<String> = (self.stream.key.iter().zip(&new))
            .map(|(column, n)| format!("{} = {}", self.name(*column), self.as_staged(*column, n)))
            .collect();
        let sql = format!(
            "UPDATE {} s SET {} FROM {place} d WHERE {}",
            self.staging,
            set.join(", "),
            self.key.equal(&dotted("d", &old), &staged)
        );
        Ok((self.execute(WHAT, &sql).await?, conflict))
    }

    /// Gives the entries of rows that the target has under another key that key, without the ids that the
    /// rows have in the archive.
    async fn rename_entries(&self) -> Result<()> {
        if self.loading.sidecar().is_none() {
            return Ok(());
        }
        let place = self.known_as();
        let (old, new) =
            (numbered("o", self.stream.key.len()), numbered("n", self.stream.key.len()));
        let mut names = vec![NAMELESS.to_owned()];
        names.extend(self.stream.origin.clone());
        names.extend(self.stream.key.iter().map(|n| self.stream.columns[*n].name.clone()));
        let without: Vec<String> =
            names.iter().map(|name| format!(" - {}", literal(name))).collect();
        let sql = format!(
            "UPDATE {STAGED_ENTRIES} e SET key = {}, entry = (e.entry::jsonb{})::text FROM {place} d \
              WHERE e.table_name = {table} AND e.key = {}; \
             DELETE FROM {STAGED_ENTRIES} e WHERE e.table_name = {table} AND e.entry = '{{}}'",
            key_text(&new, "d"),
            without.join(""),
            key_text(&old, "d"),
            table = literal(&self.stream.table_name)
        );
        self.db().run("cannot move the entries of existing rows", &sql).await
    }

    /// The rows whose key another row of the archive has, too.
    async fn twice(&self) -> Result<Option<Conflict>> {
        self.conflict(&self.duplicates_sql(), Cause::Twice).await
    }

    /// The conflict of the rows that a query names by key, with their number in its second column.
    async fn conflict(&self, sql: &str, cause: Cause) -> Result<Option<Conflict>> {
        let sql = format!("{sql} LIMIT {SAMPLES}");
        let read = self.read(&sql, |row| {
            Ok((row.optional()?.unwrap_or_else(|| "NULL".into()), row.parsed::<u64>()?))
        });
        let (samples, counts): (Vec<String>, Vec<u64>) = read.await?.into_iter().unzip();
        let stream = self.stream.stream.clone();
        Ok(counts.first().map(|rows| Conflict { stream, cause, rows: *rows, samples }))
    }

    /// The error of staged rows whose key several rows of the table have: none of these can be told to be the same
    /// row, and each staged row would count as often as there are.
    async fn ambiguous(&self) -> Result<Option<Error>> {
        if self.key_is_unique().await? {
            return Ok(None);
        }
        let sql = format!(
            "SELECT min({} COLLATE \"C\") FROM {} t WHERE EXISTS (SELECT 1 FROM {} s WHERE {}) \
              GROUP BY {} HAVING count(*) > 1 ORDER BY 1 NULLS LAST LIMIT 1",
            self.key.text("t"),
            self.full(),
            self.staging,
            self.key.same(STORED, STAGED),
            self.key.grouped(STORED),
        );
        let found = self.read(&sql, |row| row.optional()).await?.into_iter().next();
        let names: Vec<&str> =
            self.table.key.iter().map(|n| self.table.columns[*n].physical.as_str()).collect();
        Ok(found.map(|key| {
            let key = key.as_deref().unwrap_or("NULL");
            key_not_unique(&self.stream.table_name, &names, Some(key))
        }))
    }

    /// Whether the server keeps the key of the table unique.
    async fn key_is_unique(&self) -> Result<bool> {
        let key: Vec<String> =
            self.table.key.iter().map(|n| literal(&self.table.columns[*n].physical)).collect();
        let sql = format!(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i \
              WHERE i.indrelid = {}::regclass AND i.indisunique AND i.indisvalid AND i.indimmediate \
                AND i.indpred IS NULL AND i.indexprs IS NULL \
                AND NOT EXISTS (SELECT 1 FROM unnest(i.indkey::int2[]) WITH ORDINALITY AS k(number, place) \
                      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number \
                     WHERE k.place <= i.indnkeyatts \
                       AND NOT (a.attnotnull AND a.attname = ANY (ARRAY[{}]::name[]))))",
            literal(&self.full()),
            key.join(", ")
        );
        Ok(self.read(&sql, |row| row.boolean()).await? == [true])
    }

    /// Decides about the rows that differ from the table's; how many of them stay, how many are updated, and how many
    /// are disputed. Where they cannot be compared, nothing is decided.
    async fn decide(&self, comparable: bool) -> Result<(u64, u64, u64)> {
        const WHAT: &str = "cannot compare with existing rows";
        let place = decisions(self.number);
        let (mut first, mut any) = (Vec::new(), Vec::new());
        for (column, differs) in self.differences() {
            first.push(format!("WHEN {differs} THEN {}", literal(&column.name)));
            any.push(differs);
        }
        // where all columns are key columns, rows with the same key are the same
        let (first, any) = match any.is_empty() || !comparable {
            true => ("NULL".to_owned(), "false".to_owned()),
            false => (format!("CASE {} END", first.join(" ")), any.join(" OR ")),
        };
        let sql = format!(
            "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS \
             SELECT s.ctid AS staged, ({first})::text AS \"column\", ({})::text AS decision \
               FROM {} s JOIN {} t ON {} WHERE {any}",
            place.trim_start_matches("pg_temp."),
            self.decision(),
            self.staging,
            self.full(),
            self.key.same(STORED, STAGED),
        );
        self.db().run(WHAT, &sql).await?;
        let sql = format!(
            "SELECT count(*) FILTER (WHERE decision = '{KEPT}'), \
                    count(*) FILTER (WHERE decision = '{UPDATED}'), \
                    count(*) FILTER (WHERE decision = '{DISPUTED}') FROM {place}"
        );
        let read = |row: &mut Fields| Ok((row.parsed()?, row.parsed()?, row.parsed()?));
        let counts = self.read(&sql, read).await?;
        Ok(counts.first().copied().unwrap_or_default())
    }

    /// SQL for what the policy decides about a staged row and a stored one that differ.
    fn decision(&self) -> String {
        let fixed = |word: &str| format!("'{word}'");
        let refused = || match self.is_disputed() {
            Some(is_it) => format!("CASE WHEN {is_it} THEN '{DISPUTED}' ELSE '{REFUSED}' END"),
            None => fixed(REFUSED),
        };
        match (self.stream.on_conflict, self.stream.changed) {
            (OnConflict::Skip, _) => fixed(KEPT),
            (OnConflict::Update, _) => fixed(UPDATED),
            (OnConflict::Newer, Some(column))
                if self.stream.columns[column].ty == ColumnType::Timestamptz =>
            {
                let name = self.name(column);
                format!(
                    "CASE WHEN s.{name} > t.{name} THEN '{UPDATED}' WHEN s.{name} < t.{name} \
                     THEN '{KEPT}' ELSE {} END",
                    refused()
                )
            }
            (OnConflict::Fail | OnConflict::Newer, _) => refused(),
        }
    }

    /// The rows that differ and that nothing settles, by the first column that differs.
    async fn refused(&self) -> Result<Vec<Conflict>> {
        let place = decisions(self.number);
        let sql = format!(
            "SELECT \"column\", count(*) FROM {place} WHERE decision = '{REFUSED}' \
              GROUP BY 1 ORDER BY 1"
        );
        let columns = self.read(&sql, |row| row.text()).await?;
        let mut found = Vec::new();
        for column in columns {
            let sql = format!(
                "SELECT {}, count(*) OVER () FROM {} s JOIN {place} d ON d.staged = s.ctid \
                  WHERE d.decision = '{REFUSED}' AND d.\"column\" = {} ORDER BY 1",
                self.key.text("s"),
                self.staging,
                literal(&column)
            );
            found.extend(self.conflict(&sql, Cause::Differs { column }).await?);
        }
        Ok(found)
    }

    /// Gives existing rows the values of the archive, where that is decided.
    pub(super) async fn update(&self) -> Result<u64> {
        let place = decisions(self.number);
        let set: Vec<String> = (0..self.stream.columns.len())
            .filter(|n| !self.stream.key.contains(n))
            .map(|n| match &self.stream.columns[n].ty {
                ColumnType::Cast(ty) => format!("{0} = s.{0}::{ty}", self.name(n)),
                _ => {
                    let staged = format!("s.{}", self.name(n));
                    format!("{} = {}", self.name(n), self.db().updated(self.stream, n, staged))
                }
            })
            .collect();
        if set.is_empty() || self.updates == 0 {
            return Ok(0);
        }
        let create = format!(
            "CREATE TEMPORARY TABLE IF NOT EXISTS {} (table_name text, key text) ON COMMIT DROP",
            REPLACED.trim_start_matches("pg_temp.")
        );
        self.db().run("cannot prepare an update", &create).await?;
        let from = format!("{} s JOIN {place} d ON d.staged = s.ctid", self.staging);
        let same = format!("d.decision = '{UPDATED}' AND {}", self.key.same(STORED, STAGED));
        let (mut names, mut values) = (vec!["key".to_owned()], vec![self.key.text("t")]);
        let mut moved = String::new();
        if let Some(note) = self.db().note(&self.table.name) {
            let rows =
                format!("FROM {} t WHERE EXISTS (SELECT 1 FROM {from} WHERE {same})", self.full());
            self.prepare_notes().await?;
            self.db().run("cannot note the rows that change", &note.before(&rows)).await?;
            let changed: Vec<&str> = (self.stream.columns.iter().enumerate())
                .filter(|(n, _)| !self.stream.key.contains(n))
                .map(|(_, c)| self.table.columns[c.target].physical.as_str())
                .collect();
            if note.moves(&changed) {
                names.extend(note.names());
                values.extend(note.ids("t"));
                moved = format!(", moved AS ({})", note.inserted("new"));
            }
        }
        let sql = format!(
            "WITH new ({}) AS (UPDATE {} AS t SET {} FROM {from} WHERE {same} RETURNING {}){moved} \
             INSERT INTO {REPLACED} SELECT {}, key FROM new",
            names.join(", "),
            self.full(),
            set.join(", "),
            values.join(", "),
            literal(&self.stream.table_name)
        );
        self.write(&sql).await
    }

    pub(super) async fn execute(&self, what: &str, sql: &str) -> Result<u64> {
        let done = self.db().connection.client.execute_typed(sql, &[]).await;
        done.map_err(|e| self.db().connection.failed(Code::Target, what, e))
    }
}

/// Names of columns: a prefix and a number.
pub(super) fn numbered(prefix: &str, width: usize) -> Vec<String> {
    (0..width).map(|n| format!("{prefix}{n}")).collect()
}

/// Columns of an alias.
pub(super) fn dotted(alias: &str, names: &[String]) -> Vec<String> {
    names.iter().map(|name| format!("{alias}.{name}")).collect()
}
