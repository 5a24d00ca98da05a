//! Orphans: found by references of any width, left out, or given the row that they lack.

use std::sync::Arc;

use super::keys::{key_names, same_as_type};
use super::loading::PgLoading;
use super::repoint::KeptOrphans;
use super::sidecar::STAGED_ENTRIES;
use crate::catalog::{CatalogTable, ColumnType, Reference};
use crate::error::{Code, Result};
use crate::load::bench_skip::{Step, skips};
use crate::load::without;
use crate::plan::TablePlan;
use crate::policy::{OnOrphans, OnUnrepresentable};
use crate::postgres::catalog::ForeignKey;
use crate::postgres::own_tables::OwnTables;
use crate::postgres::{key_text, literal, quoted, row_text};
use crate::sidecar::{DEFAULT, WHOLE_ROW};
use crate::source::{NOT_ADOPTED, ORPHANS_NAMED, Orphans};

/// A table that rows can be found in.
pub(super) struct Place<'a> {
    /// Its full name.
    pub(super) name: String,
    /// The stream that is staged there; none if it is the table itself.
    staged: Option<&'a TablePlan>,
    /// SQL that is true of the rows `p` that count; nothing if all do.
    only: Option<String>,
}

impl<'a> Place<'a> {
    pub(super) fn of(name: String, staged: Option<&'a TablePlan>) -> Place<'a> {
        Place { name, staged, only: None }
    }
}

impl PgLoading {
    /// Applies the policy for orphans to staged rows. Rows that refer to rows which are left out are
    /// orphans, too, so this is repeated until none is left out any more.
    pub(super) async fn apply_orphan_policy(&mut self, loads: &[usize]) -> Result<()> {
        loop {
            let mut skipped = 0;
            for load in loads {
                skipped += self.apply_orphan_policy_once(*load).await?;
            }
            let done = self.done.iter();
            let together = done.enumerate().any(|(n, l)| loads.contains(&n) && l.waits);
            if skipped == 0 || !together {
                return Ok(());
            }
        }
    }

    /// Applies the policy for orphans to the rows of one load; gives the number of those left out.
    async fn apply_orphan_policy_once(&mut self, load: usize) -> Result<u64> {
        let plan = Arc::clone(&self.plan);
        let (policy, number) = (plan.options.orphans, self.done[load].stream);
        let (stream, mut skipped) = (PgLoading::table_plan(&plan, number)?, 0);
        let references = self.db.catalog.tables[stream.table].references.clone();
        for (n, reference) in references.into_iter().enumerate() {
            let Some(staging) = self.done[load].staging.clone() else { break };
            let left = self.orphans_in(&staging, stream, true, &reference).await?;
            let Some(left) = left else { continue };
            let refused = reference.enforced || policy == Some(OnOrphans::Fail);
            match policy {
                Some(OnOrphans::Skip) => {
                    let rows = self.skip(stream, &reference, load, &staging).await?;
                    self.loaded[number].skipped_orphans += rows;
                    skipped += rows;
                }
                Some(OnOrphans::Adopt) if self.adopts(&reference) => {
                    let rows = self.adopt(stream, &reference, &staging).await?;
                    self.loaded[number].adopted_rows += rows;
                }
                _ if refused => {
                    self.refuse_orphans(&left, &reference)?;
                    continue;
                }
                _ => {
                    let orphans = left.clone();
                    self.kept_orphans.push(KeptOrphans { load, reference: n, orphans });
                }
            }
            self.note_orphans(left)?;
        }
        Ok(skipped)
    }

    /// Notes orphans together with those that were found before by the same reference.
    fn note_orphans(&mut self, left: Orphans) -> Result<()> {
        let orphans = &mut self.orphans;
        let same = |o: &&mut Orphans| o.stream == left.stream && o.column == left.column;
        match orphans.iter_mut().find(same) {
            None => orphans.push(left),
            Some(noted) => {
                noted.rows += left.rows;
                let room = ORPHANS_NAMED.saturating_sub(noted.samples.len());
                noted.samples.extend(left.samples.into_iter().take(room));
            }
        }
        Ok(())
    }

    /// Whether a row can be created for this reference: only where it says the whole key of the row.
    pub(super) fn adopts(&self, reference: &Reference) -> bool {
        let parent = &self.db.catalog.tables[reference.table];
        let is_key = parent.key.iter().all(|k| reference.parent_columns.contains(k));
        parent.adoptable && is_key && parent.key.len() == reference.parent_columns.len()
    }

    /// Takes staged rows out again that refer to nothing.
    async fn skip(
        &mut self,
        stream: &TablePlan,
        reference: &Reference,
        load: usize,
        staging: &str,
    ) -> Result<u64> {
        const WHAT: &str = "cannot leave out orphans";
        let Some(condition) = self.orphan_condition(stream, true, reference) else {
            return Ok(0);
        };
        let of = &mut self.done[load];
        let (types, fresh) = (of.types.clone(), of.sums.another());
        let mut sums = std::mem::replace(&mut of.sums, fresh);
        let from = format!("{staging} c WHERE {condition}");
        self.db.each_row(stream, &types, &from, "c", |batch, row| sums.take(batch, row)).await?;
        if self.sidecar().is_some() {
            let sql = format!(
                "DELETE FROM {STAGED_ENTRIES} r USING {staging} c \
                  WHERE r.table_name = {} AND r.key = {} AND {condition}",
                literal(&stream.table_name),
                self.db.key(stream).text("c")
            );
            self.db.run(WHAT, &sql).await?;
        }
        let sql = format!("DELETE FROM {staging} c WHERE {condition}");
        let rows = self.db.connection.client.execute_typed(&sql, &[]).await;
        let rows = rows.map_err(|e| self.db.connection.failed(Code::Target, WHAT, e))?;
        let load = &mut self.done[load];
        load.sums = sums;
        load.rows = without(load.rows, rows)?;
        Ok(rows)
    }

    /// Creates the rows that staged rows refer to.
    async fn adopt(&self, stream: &TablePlan, reference: &Reference, staging: &str) -> Result<u64> {
        let Some(condition) = self.orphan_condition(stream, true, reference) else {
            return Ok(0);
        };
        let table = &self.db.catalog.tables[stream.table];
        let parent = &self.db.catalog.tables[reference.table];
        let place = Place::of(staging.to_owned(), Some(stream));
        let refers: Vec<String> = (reference.columns.iter())
            .map(|n| self.value(&place, "c", &table.columns[*n].physical))
            .collect();
        let began = table.time.filter(|t| stream.columns.iter().any(|c| c.target == *t));
        let began = began.map_or_else(
            || "NULL".into(),
            |t| format!("min({})", self.value(&place, "c", &table.columns[t].physical)),
        );
        let mut columns = Vec::new();
        for (n, column) in parent.columns.iter().enumerate() {
            let key = reference.parent_columns.iter().position(|k| *k == n);
            let from = column.default_from.as_ref().and_then(|name| {
                let is_it = |k: &usize| parent.columns[*k].name == *name;
                reference.parent_columns.iter().position(is_it)
            });
            let value = match (key, from) {
                (Some(key), _) => refers[key].clone(),
                _ if parent.time == Some(n) => began.clone(),
                _ if !column.not_null || column.has_default => continue,
                (None, Some(from)) => format!("({})::text", refers[from]),
                (None, None) => column.default.as_deref().map_or_else(|| "''".into(), literal),
            };
            columns.push((quoted(&column.physical), value));
        }
        if let Some(batch) = self.db.filled_column(parent) {
            columns.retain(|(name, _)| *name != batch.0);
            columns.push(batch);
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let sql = format!(
            "INSERT INTO {} AS p ({}) SELECT {} FROM {staging} c WHERE {condition} GROUP BY {}",
            self.db.found.full_name(&parent.name),
            names.join(", "),
            values.join(", "),
            refers.join(", ")
        );
        let sql = self.noting_adopted(reference.table, sql).await?;
        let adopted = self.db.connection.client.execute_typed(&sql, &[]).await;
        adopted.map_err(|e| {
            // a value or a rule of the table: classes of SQLSTATE
            let state = e.code().map_or("", |state| state.code());
            let refused = state.starts_with("22") || state.starts_with("23");
            let what = "cannot create the rows that others refer to";
            match refused {
                true => self.db.connection.failed(Code::Orphan, what, e).hint(NOT_ADOPTED),
                false => self.db.connection.failed(Code::Target, what, e),
            }
        })
    }

    /// SQL that creates rows and, where originals are preserved, notes that an import has created them.
    async fn noting_adopted(&self, parent: usize, insert: String) -> Result<String> {
        const WHAT: &str = "cannot prepare the receipts";
        let parent = &self.db.catalog.tables[parent];
        let preserves = self.plan.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let (mut names, mut values, mut steps) = (Vec::new(), Vec::new(), Vec::new());
        let note = self.db.note(&parent.name);
        if let Some(note) = &note {
            self.db.run(WHAT, &note.create()).await?;
            names.extend(note.names());
            values.extend(note.ids("p"));
        }
        let Some(sidecar) = self.sidecar().filter(|_| preserves) else {
            return Ok(match note {
                None => insert,
                Some(note) => format!(
                    "WITH created ({}) AS ({insert} RETURNING {}) {}",
                    names.join(", "),
                    values.join(", "),
                    note.new_rows("created")
                ),
            });
        };
        let own = &sidecar.tables;
        names.extend(["entry_key", "entry_row"].map(str::to_owned));
        values.extend([key_text(&key_names(parent), "p"), row_text("p")]);
        steps.push(format!(
            "created ({}) AS ({insert} RETURNING {})",
            names.join(", "),
            values.join(", ")
        ));
        steps.extend(note.map(|note| format!("noted AS ({})", note.new_rows("created"))));
        if let Some(note) = self.db.note_own(own, 0) {
            self.db.run(WHAT, &note.create()).await?;
            let from = format!(
                "FROM {} t WHERE {} AND t.key IN (SELECT entry_key FROM created)",
                own.sidecar,
                own.belongs("t", &parent.name)
            );
            let keys = format!(
                "(SELECT {}::text AS i0, {}::text AS i1, entry_key AS i2 FROM created)",
                own.schema_name(),
                literal(&parent.name)
            );
            steps.push(format!("entries AS ({})", note.before(&from)));
            steps.push(format!("new_entries AS ({})", note.inserted(&keys)));
        }
        // an existing entry for such a key belongs to a deleted row
        Ok(format!(
            "WITH {} INSERT INTO {} SELECT {}, {}, entry_key, \
                    jsonb_build_object('{WHOLE_ROW}', jsonb_build_object('{DEFAULT}', entry_row))::text \
               FROM created ON CONFLICT (schema_name, table_name, key) \
                           DO UPDATE SET entry = excluded.entry",
            steps.join(", "),
            own.sidecar,
            own.schema_name(),
            literal(&parent.name)
        ))
    }

    /// Checks the references of rows that went straight into their tables.
    pub(super) async fn check_direct(&mut self) -> Result<()> {
        let (plan, mut found) = (Arc::clone(&self.plan), Vec::new());
        for (number, load) in self.done.iter().enumerate().filter(|(_, l)| l.staging.is_none()) {
            let stream = PgLoading::table_plan(&plan, load.stream)?;
            let table = &self.db.catalog.tables[stream.table];
            for (n, reference) in table.references.iter().enumerate() {
                let place = self.db.found.full_name(&table.name);
                let left = self.orphans_in(&place, stream, false, reference).await?;
                let Some(left) = left else { continue };
                if reference.enforced || plan.options.orphans == Some(OnOrphans::Fail) {
                    return Err(left.refused(reference.enforced));
                }
                found.push(KeptOrphans { load: number, reference: n, orphans: left });
            }
        }
        for kept in found {
            self.note_orphans(kept.orphans.clone())?;
            self.note_loose_direct(kept).await?;
        }
        Ok(())
    }

    /// SQL that is true for rows `c` which refer to no row: neither to one of the table nor to one that is
    /// still staged. `None` if the reference is not written.
    pub(super) fn orphan_condition(
        &self,
        stream: &TablePlan,
        staged: bool,
        reference: &Reference,
    ) -> Option<String> {
        let table = &self.db.catalog.tables[stream.table];
        let own: Vec<String> =
            reference.columns.iter().map(|n| table.columns[*n].physical.clone()).collect();
        if !self.db.writes(stream, &own) {
            return None;
        }
        let place = Place::of(String::new(), staged.then_some(stream));
        let values: Vec<String> = own.iter().map(|name| self.value(&place, "c", name)).collect();
        Some(self.refers_to_nothing(stream.table, reference, &values))
    }

    /// The same for rows of a table that refer by these values.
    pub(super) fn refers_to_nothing(
        &self,
        table: usize,
        reference: &Reference,
        values: &[String],
    ) -> String {
        let parent = &self.db.catalog.tables[reference.table];
        let parent_columns: Vec<String> =
            reference.parent_columns.iter().map(|n| parent.columns[*n].physical.clone()).collect();
        let nowhere: Vec<String> = (self.places(reference.table, &parent_columns).iter())
            .map(|p| {
                let only = p.only.as_ref().map_or_else(String::new, |only| format!(" AND {only}"));
                let same = self.refers((table, reference), values, (p, "p"));
                format!("NOT EXISTS (SELECT 1 FROM {} p WHERE {same}{only})", p.name)
            })
            .collect();
        let table = &self.db.catalog.tables[table];
        let is_it = |key: &&ForeignKey| {
            let same = self.db.found.reference(&self.db.catalog.tables, key);
            key.table == table.name && same.as_ref() == Some(reference)
        };
        let match_full =
            self.db.found.foreign_keys.iter().find(is_it).is_some_and(|k| k.match_full);
        let nowhere = match nowhere.is_empty() {
            true => "true".to_owned(),
            false => nowhere.join(" AND "),
        };
        refers_to_nothing(values, &nowhere, match_full)
    }

    /// SQL that is true where rows at a place, under an alias, are those that a row of a table refers to by these values.
    fn refers(
        &self,
        (table, reference): (usize, &Reference),
        values: &[String],
        (place, alias): (&Place<'_>, &str),
    ) -> String {
        let table = &self.db.catalog.tables[table];
        let parent = &self.db.catalog.tables[reference.table];
        let pairs = reference.columns.iter().zip(&reference.parent_columns).zip(values);
        let same = pairs.map(|((own, to), value)| {
            let (own, to) = (&table.columns[*own].physical, &parent.columns[*to]);
            let collation = self.collation((&table.name, own), (&parent.name, &to.physical));
            let other = self.value(place, alias, &to.physical);
            match &to.ty {
                ColumnType::Cast(ty) => format!("{}{collation}", same_as_type(&other, value, ty)),
                _ => format!("{other} = {value}{collation}"),
            }
        });
        same.collect::<Vec<_>>().join(" AND ")
    }

    /// SQL that is true of rows of a stream's table which the archive lacks and which stay all the same, where its rows
    /// refer to them: those that an import has created for such rows, as an export leaves them out; all, if rows are
    /// created for orphans. `None` if there are none.
    pub(super) fn stays(&self, stream: &TablePlan, alias: &str) -> Result<Option<String>> {
        let parent = &self.db.catalog.tables[stream.table];
        let created = match self.counts_of_its_own(stream.table) {
            Counts::None => return Ok(None),
            Counts::All => String::new(),
            Counts::Only(own) => format!(" AND {}", is_created(own, parent, alias)),
        };
        let mut refers = Vec::new();
        let place = Place::of(String::new(), None);
        for load in &self.done {
            let child = PgLoading::table_plan(&self.plan, load.stream)?;
            let table = &self.db.catalog.tables[child.table];
            let from = Place::of(
                load.place(&self.db.found, &table.name),
                load.staging.is_some().then_some(child),
            );
            for reference in table.references.iter().filter(|r| r.table == stream.table) {
                let own: Vec<String> =
                    reference.columns.iter().map(|n| table.columns[*n].physical.clone()).collect();
                if !self.adopts(reference) || !self.db.writes(child, &own) {
                    continue;
                }
                let values: Vec<String> =
                    own.iter().map(|name| self.value(&from, "c", name)).collect();
                let same = self.refers((child.table, reference), &values, (&place, alias));
                refers.push(format!("EXISTS (SELECT 1 FROM {} c WHERE {same})", from.name));
            }
        }
        let any = refers.join(" OR ");
        Ok((!refers.is_empty()).then(|| format!("(({any}){created})")))
    }

    /// Which rows of its own a table has for rows that refer to it, where all go that the archive lacks.
    fn counts_of_its_own(&self, table: usize) -> Counts<'_> {
        match (self.plan.options.orphans, &self.created) {
            (Some(OnOrphans::Adopt), _) => Counts::All,
            (None | Some(OnOrphans::Keep), Some(own))
                if self.db.catalog.tables[table].adoptable =>
            {
                Counts::Only(own)
            }
            _ => Counts::None,
        }
    }

    /// The table itself as a place of rows; `None` if all that it still has go.
    fn own_place(&self, table: usize) -> Option<Place<'_>> {
        let described = &self.db.catalog.tables[table];
        let full = Place::of(self.db.found.full_name(&described.name), None);
        let into = |n: usize| self.plan.streams[n].table().is_some_and(|s| s.table == table);
        let is_planned = (0..self.plan.streams.len()).any(into);
        let mut loads = self.done.iter().filter(|load| into(load.stream));
        if !self.replaces_rows()
            || !is_planned
            || loads.any(|load| load.merged || load.staging.is_none())
        {
            return Some(full);
        }
        // of a part, the rows that are not in it stay
        let planned = self.plan.tables().find(|(_, stream)| stream.table == table);
        let is_in = planned.and_then(|(_, stream)| self.db.is_in_part(stream, "p"));
        let stays = is_in.map(|is_in| format!("NOT {is_in}"));
        match (self.counts_of_its_own(table), stays) {
            (Counts::All, _) => Some(full),
            (Counts::Only(own), stays) => {
                let created = is_created(own, described, "p");
                let any = stays.map_or_else(|| created.clone(), |s| format!("({created} OR {s})"));
                Some(Place { only: Some(any), ..full })
            }
            (Counts::None, stays) => stays.map(|stays| Place { only: Some(stays), ..full }),
        }
    }

    /// Where rows of a table are: in it, and where they are staged and not yet merged, which for a check
    /// they never are.
    fn places(&self, table: usize, columns: &[String]) -> Vec<Place<'_>> {
        let mut places: Vec<Place<'_>> = self.own_place(table).into_iter().collect();
        for load in self.done.iter().filter(|l| !l.merged) {
            let Some(stream) = self.plan.streams[load.stream].table() else { continue };
            if let (Some(staging), true) = (&load.staging, stream.table == table)
                && self.db.writes(stream, columns)
            {
                places.push(Place::of(staging.clone(), Some(stream)));
            }
        }
        places
    }

    /// A column of rows at a place, as SQL, with the type that it has in its table.
    pub(super) fn value(&self, place: &Place<'_>, alias: &str, physical: &str) -> String {
        let name = quoted(physical);
        match place.staged.and_then(|stream| self.db.cast_of(stream, physical)) {
            Some(ty) => format!("{alias}.{name}::{ty}"),
            None => format!("{alias}.{name}"),
        }
    }

    /// The collation in which two columns are compared, as SQL: that of the column referred to, as the
    /// server does it. Nothing where both have that of their types.
    fn collation(&self, own: (&str, &str), parent: (&str, &str)) -> String {
        let of = |(table, column): (&str, &str)| {
            let table = self.db.found.tables.iter().find(|t| t.name == table)?;
            table.columns.iter().find(|c| c.name == column)?.collation.clone()
        };
        match (of(own), of(parent)) {
            (None, None) => String::new(),
            (_, Some(collation)) => format!(" COLLATE {collation}"),
            (Some(_), None) => " COLLATE pg_catalog.\"default\"".into(),
        }
    }

    /// The rows at a place, the table itself or a staging table, that refer to no row.
    pub(super) async fn orphans_in(
        &self,
        place: &str,
        stream: &TablePlan,
        staged: bool,
        reference: &Reference,
    ) -> Result<Option<Orphans>> {
        if skips(Step::References) {
            return Ok(None);
        }
        let Some(condition) = self.orphan_condition(stream, staged, reference) else {
            return Ok(None);
        };
        let table = &self.db.catalog.tables[stream.table];
        let columns: Vec<_> = reference.columns.iter().map(|n| &table.columns[*n]).collect();
        let refers: Vec<String> = columns.iter().map(|c| quoted(&c.physical)).collect();
        let (key, from) = (self.db.key(stream).text("c"), format!("{place} c WHERE {condition}"));
        let (rows, samples) = self.count_orphans(&key, &refers, &from).await?;
        if rows == 0 {
            return Ok(None);
        }
        let names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).collect();
        let (stream, column) = (stream.stream.clone(), names.join(", "));
        Ok(Some(Orphans { stream, column, rows, samples }))
    }

    /// How many rows `c` there are, which are given as SQL behind FROM, and of the first few their key and what they refer
    /// to by some columns.
    pub(super) async fn count_orphans(
        &self,
        key: &str,
        refers: &[String],
        from: &str,
    ) -> Result<(u64, Vec<(String, String)>)> {
        let sql = format!(
            "SELECT {key}, {}, count(*) OVER () FROM {from} LIMIT {ORPHANS_NAMED}",
            key_text(refers, "c")
        );
        let what = "cannot check the references";
        let read = self.db.connection.read(Code::Target, what, &sql, |row| {
            let key = row.optional()?.unwrap_or_else(|| "NULL".into());
            Ok(((key, row.text()?), row.parsed::<u64>()?))
        });
        let (samples, counts): (Vec<_>, Vec<u64>) = read.await?.into_iter().unzip();
        Ok((counts.first().copied().unwrap_or_default(), samples))
    }
}

/// Which rows of a table count for rows that refer to it, beside those of the archive.
enum Counts<'a> {
    None,
    /// Those that an import has created, as our own tables say.
    Only(&'a OwnTables),
    All,
}

/// SQL that is true of rows of a table that an import has created and nobody has edited since.
fn is_created(own: &OwnTables, table: &CatalogTable, alias: &str) -> String {
    format!(
        "EXISTS (SELECT 1 FROM {} e WHERE {} AND e.key = {} AND starts_with(e.entry, '{{\"{WHOLE_ROW}\"') \
         AND e.entry::json #>> ARRAY['{WHOLE_ROW}', '{DEFAULT}'] = {})",
        own.sidecar,
        own.belongs("e", &table.name),
        key_text(&key_names(table), alias),
        row_text(alias)
    )
}

/// SQL that is true for rows that refer to nothing, given the values by which they refer and what is true
/// if no row has these. A row refers only if none of the values is NULL; MATCH FULL allows all to be
/// NULL, but not some.
pub(super) fn refers_to_nothing(values: &[String], nowhere: &str, match_full: bool) -> String {
    let given: Vec<String> = values.iter().map(|v| format!("{v} IS NOT NULL")).collect();
    match match_full && values.len() > 1 {
        false => format!("{} AND {nowhere}", given.join(" AND ")),
        true => {
            let (all, any) = (given.join(" AND "), given.join(" OR "));
            format!("({any}) AND (NOT ({all}) OR {nowhere})")
        }
    }
}
