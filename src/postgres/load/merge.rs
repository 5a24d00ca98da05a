//! Bringing staged rows into their tables: equal ones are there already, others are new or replace what is there.

use tokio_postgres::error::SqlState;

use super::PgTarget;
use super::copy::{is_about_a_value, with_hint};
use super::keys::{Alias, Key};
use super::loading::PgLoading;
use super::sidecar::STAGED_DEFAULTS;
use crate::catalog::{CatalogTable, ColumnType};
use crate::error::{Code, Error, Result};
use crate::plan::{ColumnPlan, TablePlan};
use crate::postgres::{literal, quoted};
use chronicle_archive::show_text;

/// The existing rows, and those that are staged.
pub(super) const STORED: Alias<'_> = Alias::Stored("t");
pub(super) const STAGED: Alias<'_> = Alias::Staged("s");

/// Bringing what was staged for one table into it.
pub(super) struct Merge<'a> {
    pub(super) loading: &'a PgLoading,
    /// The number of the stream.
    pub(super) number: usize,
    pub(super) stream: &'a TablePlan,
    pub(super) table: &'a CatalogTable,
    /// The staging table's full name.
    pub(super) staging: &'a str,
    /// How many existing rows get the values of staged ones.
    pub(super) updates: u64,
    pub(super) key: Key,
}

/// Moves everything over; returns for each the numbers of new and of updated rows. The new rows of all
/// tables go in by one statement: the server checks their references when it ends, so tables may refer
/// to themselves and to each other, whether or not a constraint can be deferred.
pub(super) async fn merge(merges: &[Merge<'_>]) -> Result<Vec<(u64, u64)>> {
    for merge in merges {
        merge.make_way().await?;
    }
    let inserted = match merges {
        [one] => vec![one.insert(&one.full()).await?],
        several => insert_together(several).await?,
    };
    let mut done = Vec::new();
    for (merge, inserted) in merges.iter().zip(inserted) {
        done.push((inserted, merge.update().await?));
    }
    Ok(done)
}

/// Moves the new rows of several tables over.
async fn insert_together(merges: &[Merge<'_>]) -> Result<Vec<u64>> {
    let Some(first) = merges.first() else { return Ok(Vec::new()) };
    let mut inserts = Vec::new();
    for (n, merge) in merges.iter().enumerate() {
        merge.prepare_notes().await?;
        let (steps, last) = merge.insert_steps(&merge.full(), n);
        inserts.extend(steps);
        inserts.push(format!("new_{n} AS ({last} RETURNING 1)"));
    }
    let counts: Vec<String> =
        (0..merges.len()).map(|n| format!("(SELECT count(*) FROM new_{n})")).collect();
    let sql = format!("WITH {} SELECT {}", inserts.join(", "), counts.join(", "));
    let target = first.db();
    target.run("cannot set a savepoint", "SAVEPOINT merge").await?;
    match target.connection.client.query_typed(&sql, &[]).await {
        Ok(rows) => {
            let count = |n| rows.first().and_then(|row| row.try_get::<_, i64>(n).ok());
            let count = |n| count(n).and_then(|rows| u64::try_from(rows).ok());
            let counts: Option<Vec<u64>> = (0..merges.len()).map(count).collect();
            counts.ok_or_else(|| Error::new(Code::Internal, "the server counted no rows"))
        }
        Err(e) => {
            let named = e.as_db_error().and_then(|server| server.table());
            let of = merges.iter().find(|m| Some(m.table.name.as_str()) == named);
            Err(of.unwrap_or(first).explain(e).await)
        }
    }
}

impl Merge<'_> {
    pub(super) fn db(&self) -> &PgTarget {
        &self.loading.db
    }

    pub(super) fn full(&self) -> String {
        self.db().found.full_name(&self.table.name)
    }

    pub(super) fn name(&self, column: usize) -> String {
        quoted(&self.table.columns[self.stream.columns[column].target].physical)
    }

    pub(super) async fn read<T>(
        &self,
        sql: &str,
        read: impl Fn(&mut crate::postgres::fields::Fields) -> Result<T>,
    ) -> Result<Vec<T>> {
        let what = format!("cannot compare with {}", self.table.name);
        self.db().connection.read(Code::Target, &what, sql, read).await
    }

    fn taken(&self, key: &str, what: &str) -> Error {
        Error::new(
            Code::Conflict,
            format!("{}: row with key {}: {what}", self.table.name, show_text(key)),
        )
        .hint("compare the two rows with `chronicle-dump diff`, or import into an empty database")
    }

    /// SQL for the keys of staged rows that another staged row has, too, and how many there are.
    pub(super) fn duplicates_sql(&self) -> String {
        format!(
            "SELECT min({} COLLATE \"C\"), count(*) OVER () FROM {} s GROUP BY {} \
             HAVING count(*) > 1",
            self.key.text("s"),
            self.staging,
            self.key.grouped(STAGED)
        )
    }

    /// For every column outside the key, SQL that is true if the two rows differ in it.
    pub(super) fn differences(&self) -> Vec<(&ColumnPlan, String)> {
        (self.stream.columns.iter().enumerate())
            .filter(|(n, _)| !self.stream.key.contains(n))
            .map(|(n, column)| (column, self.differs(n, &column.ty)))
            .collect()
    }

    /// SQL that is true if a column of the two rows is not the same.
    pub(super) fn differs(&self, column: usize, ty: &ColumnType) -> String {
        let name = self.name(column);
        if self.loading.rehearses() && self.is_added(&self.stream.columns[column]) {
            return format!("s.{name} IS NOT NULL");
        }
        if self.stream.batch == Some(column) {
            let stored = self.db().content(self.stream, column, &format!("t.{name}"));
            return format!("{stored} IS DISTINCT FROM s.{name}");
        }
        match ty {
            // no equality of their own, or one that is too lenient: their texts decide
            ColumnType::Cast(_) => format!("t.{name}::text IS DISTINCT FROM s.{name}"),
            ColumnType::Json => format!("t.{name}::text IS DISTINCT FROM s.{name}::text"),
            ColumnType::Text(_) => {
                format!("t.{name} COLLATE \"C\" IS DISTINCT FROM s.{name} COLLATE \"C\"")
            }
            _ => format!("t.{name} IS DISTINCT FROM s.{name}"),
        }
    }

    /// SQL that brings the staged rows that are not in the table into `place`.
    fn insert_sql(&self, place: &str) -> String {
        let columns: Vec<String> = (0..self.stream.columns.len()).map(|n| self.name(n)).collect();
        let values: Vec<String> = (self.stream.columns.iter().zip(&columns).enumerate())
            .map(|(n, (column, name))| match &column.ty {
                ColumnType::Cast(ty) => format!("s.{name}::{ty}"),
                _ => self.db().inserted(self.stream, n, format!("s.{name}")),
            })
            .collect();
        format!(
            "INSERT INTO {place} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} s \
              WHERE NOT EXISTS (SELECT 1 FROM {} o WHERE {})",
            columns.join(", "),
            values.join(", "),
            self.staging,
            self.full(),
            self.key.same(Alias::Stored("o"), STAGED)
        )
    }

    /// Brings the staged rows that are not in the table into `place`.
    pub(super) async fn insert(&self, place: &str) -> Result<u64> {
        self.prepare_notes().await?;
        let (steps, last) = self.insert_steps(place, 0);
        match steps.is_empty() {
            true => self.write(&last).await,
            false => self.write(&format!("WITH {} {last}", steps.join(", "))).await,
        }
    }

    /// SQL that brings the staged rows that are not in the table into `place`: steps with names that end in `n`, and a
    /// last one that writes as many rows.
    fn insert_steps(&self, place: &str, n: usize) -> (Vec<String>, String) {
        let insert = self.insert_sql(place);
        let defaults = self.loading.defaults(self.stream);
        let note = self.db().note(&self.table.name);
        let (mut names, mut values) = (Vec::new(), Vec::new());
        if let Some(defaults) = &defaults {
            names.extend(["table_name", "key", "entry"].map(str::to_owned));
            values.push(defaults.clone());
        }
        if let Some(note) = &note {
            names.extend(note.names());
            values.extend(note.ids("t"));
        }
        if values.is_empty() {
            return (Vec::new(), insert);
        }
        let (names, values) = (names.join(", "), values.join(", "));
        let mut steps = vec![format!("filled_{n} ({names}) AS ({insert} RETURNING {values})")];
        let stage =
            format!("INSERT INTO {STAGED_DEFAULTS} SELECT table_name, key, entry FROM filled_{n}");
        match (defaults, note) {
            (_, None) => (steps, stage),
            (defaults, Some(note)) => {
                steps.extend(defaults.map(|_| format!("defaults_{n} AS ({stage})")));
                (steps, note.new_rows(&format!("filled_{n}")))
            }
        }
    }

    /// Makes the tables in which changes of the table are noted, if they are.
    pub(super) async fn prepare_notes(&self) -> Result<()> {
        match self.db().note(&self.table.name) {
            Some(note) => self.db().run("cannot prepare the receipts", &note.create()).await,
            None => Ok(()),
        }
    }

    /// Writes rows; the number of those written. Where the server refuses one, the error says which.
    pub(super) async fn write(&self, sql: &str) -> Result<u64> {
        self.db().run("cannot set a savepoint", "SAVEPOINT merge").await?;
        match self.db().connection.client.execute_typed(sql, &[]).await {
            Ok(rows) => Ok(rows),
            Err(e) => Err(self.explain(e).await),
        }
    }

    /// Finds out which row the server refused, where its message does not name it.
    async fn explain(&self, e: tokio_postgres::Error) -> Error {
        let server = e.as_db_error();
        let what = format!("{}: cannot be written", self.table.name);
        let state = server.map(|s| s.code().clone());
        let constraint = server.and_then(|s| s.constraint()).map(str::to_owned);
        let code = match &state {
            Some(s) if *s == SqlState::UNIQUE_VIOLATION => Code::Conflict,
            Some(s) if *s == SqlState::FOREIGN_KEY_VIOLATION => Code::Orphan,
            Some(s) if is_about_a_value(s) => Code::Value,
            _ => Code::Target,
        };
        let error = with_hint(code, self.db().connection.said(code, what, &e));
        let Some(constraint) = constraint else { return error };
        // only behind the savepoint does the server answer questions again
        if self.db().run("cannot go back", "ROLLBACK TO SAVEPOINT merge").await.is_err() {
            return error;
        }
        let better = match code {
            Code::Conflict => self.already_used(&constraint).await,
            Code::Orphan => self.orphaned(&constraint).await,
            Code::Value => match self.first_against(&constraint).await {
                Some(key) => {
                    return error.at(format_args!("row with key {}", show_text(&key)));
                }
                None => None,
            },
            _ => None,
        };
        better.unwrap_or(error)
    }

    /// SQL for pairs of a staged row and another one that has the same unique values; `select` says what
    /// of them, with the rows as `s` and `o`.
    pub(super) fn clashes_sql(&self, columns: &[String], stored: bool, select: &str) -> String {
        let same: Vec<String> =
            columns.iter().map(|c| format!("o.{0} = s.{0}", quoted(c))).collect();
        let (others, alias) = match stored {
            true => (self.full(), Alias::Stored("o")),
            false => (self.staging.to_owned(), Alias::Staged("o")),
        };
        format!(
            "SELECT {select} FROM {} s JOIN {others} o ON {} WHERE NOT coalesce({}, false)",
            self.staging,
            same.join(" AND "),
            self.key.same(alias, STAGED)
        )
    }

    /// The error of the first staged row with a unique value that another row has already.
    async fn already_used(&self, constraint: &str) -> Option<Error> {
        let sql = format!(
            "SELECT a.attname FROM pg_catalog.pg_index i \
               JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
              WHERE c.relname = {} AND i.indrelid = {}::regclass ORDER BY a.attnum",
            literal(constraint),
            literal(&self.full())
        );
        let columns = self.read(&sql, |row| row.text()).await.ok()?;
        if columns.is_empty() {
            return None;
        }
        for stored in [true, false] {
            let keys = format!("{}, {}", self.key.text("s"), self.key.text("o"));
            let sql = format!("{} LIMIT 1", self.clashes_sql(&columns, stored, &keys));
            let rows = self.read(&sql, |row| Ok((row.text()?, row.text()?))).await.ok()?;
            if let Some((own, other)) = rows.first() {
                let what = format!(
                    "its {} is already used by the row with key {}",
                    columns.join(", "),
                    show_text(other)
                );
                return Some(self.taken(own, &what));
            }
        }
        None
    }

    /// The error of the staged rows that violate a foreign key.
    async fn orphaned(&self, constraint: &str) -> Option<Error> {
        let mut keys = self.db().found.foreign_keys.iter();
        let key = keys.find(|k| k.table == self.table.name && k.name == constraint)?;
        self.loading.violated(self.stream, key, self.staging).await
    }

    /// The first staged row that violates a CHECK constraint of the table.
    async fn first_against(&self, constraint: &str) -> Option<String> {
        let sql = format!(
            "SELECT pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint \
              WHERE conname = {} AND conrelid = {}::regclass",
            literal(constraint),
            literal(&self.full())
        );
        let check = self.read(&sql, |row| row.text()).await.ok()?.into_iter().next()?;
        let sql = format!(
            "SELECT {} FROM {} s WHERE NOT ({check}) LIMIT 1",
            self.key.text("s"),
            self.staging
        );
        self.read(&sql, |row| row.text()).await.ok()?.into_iter().next()
    }
}
