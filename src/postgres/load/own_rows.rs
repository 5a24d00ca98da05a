//! Rows that a database has in the tables of an archive, where they do not stay: deleted before rows come, or, of those
//! that the archive lacks, when all have come.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::error::SqlState;

use super::PgTarget;
use super::copy::StreamLoad;
use super::keys::Alias;
use super::loading::PgLoading;
use super::sidecar::STAGED_ENTRIES;
use crate::error::{Code, Error, Result};
use crate::load::{SAMPLES, still_referred};
use crate::plan::{Plan, TablePlan};
use crate::policy::OwnRows;
use crate::postgres::noted::referring;
use crate::postgres::quoted;
use crate::sidecar::DEFAULT;
use crate::undo::ShapeReference;
use chronicle_archive::show_text;

const WHAT: &str = "cannot delete the rows that the target has";

/// When rows go that the archive lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Before its rows come, which may have their unique values.
    BeforeRows,
    /// When its rows have come, and no longer refer to them.
    AfterRows,
}

/// A foreign key from a table that no archive fills to rows that may go.
pub(super) struct Outside {
    /// The table that refers, as messages name it.
    child: String,
    /// The table referred to.
    parent: String,
    /// SQL that is true where a row `c` of it refers to a row `p`.
    refers: String,
    /// The temporary table of the values that refer to a row when the batch begins, and SQL that is true where a row
    /// `p` has those of a row `v` of it.
    values: String,
    same: String,
}

impl PgTarget {
    /// Prepares the tables of a plan whose own rows do not stay: notes what refers to them from elsewhere, and
    /// deletes them if they are to go first. Gives how many went, by stream.
    pub(super) async fn prepare_own_rows(&mut self, plan: &Plan) -> Result<Vec<(usize, u64)>> {
        if plan.options.own_rows == OwnRows::Stay {
            return Ok(Vec::new());
        }
        self.note_outside(plan).await?;
        let mut gone = Vec::new();
        let first: Vec<(usize, &TablePlan)> =
            plan.tables().filter(|(_, s)| self.cleared.insert(s.table_name.clone())).collect();
        if plan.options.own_rows != OwnRows::Cleared {
            return Ok(gone);
        }
        if !self.silenced.as_replica {
            // the server acts on what refers to a row as soon as it goes
            let mine = |o: &&Outside| first.iter().any(|(_, s)| s.table_name == o.parent);
            for outside in self.outside.iter().filter(mine) {
                self.refuse_referred(outside, "").await?;
            }
        }
        // children first
        for (number, stream) in first.iter().rev() {
            gone.push((*number, self.delete_rows(stream, "true").await?));
        }
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(unmapped) = stream.unmapped() else { continue };
            if self.cleared.insert(unmapped.table_name.clone()) {
                gone.push((number, self.delete_entries(&unmapped.table_name, "true").await?));
            }
        }
        Ok(gone)
    }

    /// Deletes the rows `t` of a table for which a condition is true, with their entries.
    async fn delete_rows(&self, stream: &TablePlan, condition: &str) -> Result<u64> {
        let full = self.found.full_name(&stream.table_name);
        if let Some(note) = self.note(&stream.table_name) {
            let from = format!("FROM {full} t WHERE {condition}");
            self.run(WHAT, &(note.create() + &note.before(&from))).await?;
        }
        let sql = format!("DELETE FROM {full} AS t WHERE {condition}");
        let gone = self.connection.client.execute_typed(&sql, &[]).await;
        let gone = gone.map_err(|e| self.still_needed(stream, e))?;
        let key = self.key(stream).text("k");
        self.delete_entries(
            &stream.table_name,
            &format!("NOT EXISTS (SELECT 1 FROM {full} k WHERE {key} = t.key)"),
        )
        .await?;
        Ok(gone)
    }

    /// The error of rows that the server does not let go.
    fn still_needed(&self, stream: &TablePlan, e: tokio_postgres::Error) -> Error {
        let state = e.as_db_error().map(|server| server.code().clone());
        let needed = [SqlState::FOREIGN_KEY_VIOLATION, SqlState::RESTRICT_VIOLATION];
        if !state.is_some_and(|state| needed.contains(&state)) {
            return self.connection.failed(Code::Target, WHAT, e);
        }
        let what = format!(
            "{}: rows that the archive lacks cannot go, since others refer to them; nothing was changed",
            show_text(&stream.table_name)
        );
        let hint = "point these to other rows, or load the archive with import instead: its rows are added";
        self.connection.failed(Code::Orphan, what, e).hint(hint)
    }

    /// Deletes the entries `t` of a table for which a condition is true.
    async fn delete_entries(&self, table: &str, condition: &str) -> Result<u64> {
        let Some(own) = self.own_tables().await? else { return Ok(0) };
        let condition = format!("{} AND {condition}", own.belongs("t", table));
        self.note_entries(&own, 0, &condition).await?;
        let sql = format!("DELETE FROM {} AS t WHERE {condition}", own.sidecar);
        let gone = self.connection.client.execute_typed(&sql, &[]).await;
        gone.map_err(|e| self.connection.failed(Code::Target, WHAT, e))
    }

    /// Notes the values by which tables outside of the plan refer to rows of its tables.
    async fn note_outside(&mut self, plan: &Plan) -> Result<()> {
        let fills = |name: &str| plan.tables().any(|(_, s)| s.table_name == name);
        for (_, stream) in plan.tables() {
            let parent = self.found.full_name(&stream.table_name);
            for ShapeReference { schema, table: child, columns, to } in
                referring(&self.connection, &parent).await?
            {
                let schema = schema.unwrap_or_default();
                if schema == self.found.schema && fills(&child) {
                    continue;
                }
                let values = format!("pg_temp.outside_{}", self.outside.len());
                let pairs = |left: &str, names: &[String]| -> String {
                    let same = names.iter().zip(&to);
                    let same = same.map(|(from, to)| format!("{left}.{from} = p.{}", quoted(to)));
                    same.collect::<Vec<_>>().join(" AND ")
                };
                let own: Vec<String> = columns.iter().map(|name| quoted(name)).collect();
                let noted: Vec<String> = (0..to.len()).map(|n| format!("v{n}")).collect();
                let shown: Vec<String> = (to.iter().zip(&noted))
                    .map(|(to, v)| format!("p.{} AS {v}", quoted(to)))
                    .collect();
                let outside = Outside {
                    child: format!("{schema}.{child}"),
                    parent: stream.table_name.clone(),
                    refers: pairs("c", &own),
                    same: pairs("v", &noted),
                    values,
                };
                let sql = format!(
                    "CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT DISTINCT {} FROM {} c JOIN {parent} p ON {}",
                    outside.values.trim_start_matches("pg_temp."),
                    shown.join(", "),
                    format_args!("{}.{}", quoted(&schema), quoted(&child)),
                    outside.refers
                );
                self.run("cannot look for what refers to the rows that the target has", &sql)
                    .await?;
                self.outside.push(outside);
            }
        }
        Ok(())
    }

    /// Refuses to delete rows `p` that a table outside refers to.
    async fn refuse_referred(&self, outside: &Outside, condition: &str) -> Result<()> {
        let parent = self.found.full_name(&outside.parent);
        let sql = format!(
            "SELECT DISTINCT v::text, count(*) OVER () FROM {} v JOIN {parent} p ON {} {condition} LIMIT {SAMPLES}",
            outside.values, outside.same
        );
        self.refuse_rows(outside, &sql).await
    }

    /// Refuses that rows are gone which tables outside of the archive refer to.
    pub(super) async fn check_outside(&self) -> Result<()> {
        for outside in &self.outside {
            let sql = format!(
                "SELECT v::text, count(*) OVER () FROM {} v \
                  WHERE NOT EXISTS (SELECT 1 FROM {} p WHERE {}) LIMIT {SAMPLES}",
                outside.values,
                self.found.full_name(&outside.parent),
                outside.same
            );
            self.refuse_rows(outside, &sql).await?;
        }
        Ok(())
    }

    async fn refuse_rows(&self, outside: &Outside, sql: &str) -> Result<()> {
        let read = self
            .connection
            .read(Code::Target, WHAT, sql, |row| Ok((row.text()?, row.parsed::<u64>()?)));
        let found = read.await?;
        let Some((_, rows)) = found.first() else { return Ok(()) };
        let keys: Vec<&str> = found.iter().map(|(key, _)| key.trim_matches(['(', ')'])).collect();
        Err(still_referred(&outside.child, &outside.parent, *rows, &keys))
    }
}

impl PgLoading {
    /// Whether rows go that the archive lacks.
    pub(super) fn replaces_rows(&self) -> bool {
        self.plan.options.own_rows == OwnRows::Replaced
    }

    /// Deletes the rows that the archive lacks, children first. Before the archive's rows come, a row that others refer
    /// to stays: these may be the archive's, and refer to another row in a moment.
    pub(super) async fn delete_others(&mut self, when: When) -> Result<()> {
        let (plan, mut tables) = (Arc::clone(&self.plan), BTreeSet::new());
        let streams: Vec<(usize, &TablePlan)> = plan.tables().collect();
        for (number, stream) in streams.into_iter().rev() {
            let into = |load: &&StreamLoad| {
                plan.streams[load.stream].table().is_some_and(|s| s.table == stream.table)
            };
            // what went straight into an empty table is all that it has
            let straight = self.done.iter().filter(into).any(|load| load.staging.is_none());
            if straight || !tables.insert(stream.table) {
                continue;
            }
            let mut goes = self.lacks(stream, "t");
            if let Some(stays) = self.stays(stream, "t")? {
                goes.push_str(&format!(" AND NOT {stays}"));
            }
            for outside in self.db.outside.iter().filter(|o| o.parent == stream.table_name) {
                // with the alias of that query
                let mut goes = format!("WHERE {}", self.lacks(stream, "p"));
                if let Some(stays) = self.stays(stream, "p")? {
                    goes.push_str(&format!(" AND NOT {stays}"));
                }
                self.db.refuse_referred(outside, &goes).await?;
            }
            if when == When::BeforeRows {
                goes.push_str(&self.is_referred_to(stream));
            }
            self.loaded[number].deleted_rows += self.db.delete_rows(stream, &goes).await?;
        }
        Ok(())
    }

    /// SQL that is true of rows of a stream's table that the archive does not have.
    fn lacks(&self, stream: &TablePlan, alias: &str) -> String {
        let key = self.db.key(stream);
        let is_none = self.done.iter().filter_map(|load| {
            let into = self.plan.streams[load.stream].table()?;
            let staging = load.staging.as_ref().filter(|_| into.table == stream.table)?;
            let same = key.same(Alias::Stored(alias), Alias::Staged("s"));
            Some(format!("NOT EXISTS (SELECT 1 FROM {staging} s WHERE {same})"))
        });
        let in_part = self.db.is_in_part(stream, alias);
        let is_none: Vec<String> = is_none.chain(in_part).collect();
        if is_none.is_empty() { "true".into() } else { is_none.join(" AND ") }
    }

    /// SQL that leaves out the rows `t` of a stream's table to which rows refer that stay for now, by the keys that the
    /// server enforces.
    fn is_referred_to(&self, stream: &TablePlan) -> String {
        if self.db.silenced.as_replica {
            return String::new();
        }
        let full = self.db.found.full_name(&stream.table_name);
        let oid = self.db.found.tables.iter().find(|t| t.name == stream.table_name).map(|t| t.oid);
        let keys = self.db.found.foreign_keys.iter().filter(|key| Some(key.parent_oid) == oid);
        let refers = keys.map(|key| {
            let same: Vec<String> = (key.columns.iter().zip(&key.parent_columns))
                .map(|(from, to)| format!("c.{} = t.{}", quoted(from), quoted(to)))
                .collect();
            let (child, same) = (self.db.found.full_name(&key.table), same.join(" AND "));
            // of its own table those that go with it do not count
            let stays = match child == full {
                true => format!(" AND NOT ({})", self.lacks(stream, "c")),
                false => String::new(),
            };
            format!(" AND NOT EXISTS (SELECT 1 FROM {child} c WHERE {same}{stays})")
        });
        refers.collect()
    }

    /// Makes the entries of our own tables exactly those that the archive gives; values by default stay, of which it
    /// knows nothing.
    pub(super) async fn replace_entries(&mut self) -> Result<()> {
        let Some(own) = self.db.own_tables().await? else { return Ok(()) };
        let plan = Arc::clone(&self.plan);
        let stages = self.sidecar().is_some();
        let arriving = match stages {
            true => format!(
                "(SELECT DISTINCT ON (table_name, key) table_name, key, entry FROM {STAGED_ENTRIES})"
            ),
            false => "(SELECT NULL::text AS table_name, NULL::text AS key, NULL::text AS entry WHERE false)".into(),
        };
        for (_, stream) in plan.tables() {
            // of a part, what the archive says nothing of stays
            let in_part = self.db.has_entry_in_part(stream);
            let in_part = in_part
                .map_or_else(String::new, |is_in| format!(" AND (a.key IS NOT NULL OR {is_in})"));
            let exact = format!(
                "(SELECT t.key AS key, \
                    coalesce((SELECT jsonb_object_agg(o.key, o.value) FROM jsonb_each(t.entry::jsonb) o \
                               WHERE o.value ? '{DEFAULT}'), '{{}}') || coalesce(a.entry::jsonb, '{{}}') AS entry \
                   FROM {} t LEFT JOIN {arriving} a ON a.table_name = t.table_name AND a.key = t.key \
                  WHERE {}{in_part})",
                own.sidecar,
                own.belongs("t", &stream.table_name)
            );
            let differs = format!(
                "{} AND EXISTS (SELECT 1 FROM {exact} x WHERE x.key = t.key AND x.entry <> t.entry::jsonb)",
                own.belongs("t", &stream.table_name)
            );
            self.db.note_entries(&own, 0, &differs).await?;
            let sql = format!(
                "DELETE FROM {0} t USING {exact} x WHERE {1} AND x.key = t.key AND x.entry = '{{}}'; \
                 UPDATE {0} t SET entry = x.entry::text FROM {exact} x \
                  WHERE {1} AND x.key = t.key AND x.entry <> t.entry::jsonb",
                own.sidecar,
                own.belongs("t", &stream.table_name)
            );
            self.db.run(WHAT, &sql).await?;
        }
        for (number, stream) in plan.streams.iter().enumerate() {
            let Some(unmapped) = stream.unmapped() else { continue };
            let lacks = format!(
                "NOT EXISTS (SELECT 1 FROM {arriving} a WHERE a.table_name = t.table_name AND a.key = t.key)"
            );
            let gone = self.db.delete_entries(&unmapped.table_name, &lacks).await?;
            self.loaded[number].deleted_rows += gone;
        }
        Ok(())
    }
}
