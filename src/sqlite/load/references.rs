//! Orphans: found, left out, or given the row that they lack.

use std::collections::{BTreeSet, HashSet};

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, ErrorCode, params_from_iter};

use super::SqliteTarget;
use super::keys::Keys;
use super::loading::SqliteLoading;
use super::row::Bound;
use crate::catalog::{Catalog, CatalogTable, Reference};
use crate::error::{Code, Error, Result};
use crate::load::without;
use crate::plan::TablePlan;
use crate::policy::{OnOrphans, OwnRows};
use crate::sidecar::{SIDECAR, SidecarEntry, SidecarValues, WHOLE_ROW};
use crate::source::{NOT_ADOPTED, ORPHANS_NAMED, Orphans};
use crate::sqlite::{failed, from_sqlite, key_text, literal, quoted, row_text, shown_key};
use chronicle_archive::{Value, show, show_text};

/// The parents that are remembered as found, so that most references need no look-up.
const PARENTS: usize = 8192;

/// One reference of a stream's rows while they are loaded.
pub(super) struct ReferenceCheck {
    /// Which of the table's references it is.
    number: usize,
    /// The columns of the plan that refer, in the order of the reference.
    columns: Vec<usize>,
    /// SQL that says whether there is a row with the bound values.
    exists: String,
    /// The temporary table of rows whose parent was missing when they came: key and place.
    pending: String,
    /// SQL that creates this table.
    create: String,
    /// SQL that inserts a row into it, once it exists.
    note: Option<String>,
    /// Values of existing parents.
    found: HashSet<Vec<u8>>,
    scratch: Vec<u8>,
}

impl ReferenceCheck {
    /// The checks of a stream's references. A reference by a column that the archive lacks is not
    /// checked: such a value is the table's own default.
    pub(super) fn all(
        number: usize,
        stream: &TablePlan,
        catalog: &Catalog,
        keys: &Keys,
    ) -> Vec<ReferenceCheck> {
        let table = &catalog.tables[stream.table];
        let position = |column: &usize| stream.columns.iter().position(|c| c.target == *column);
        let check = |(n, reference): (usize, &Reference)| {
            let parent = &catalog.tables[reference.table];
            let same: Vec<String> = (reference.parent_columns.iter())
                .map(|c| format!("{} = ?", quoted(&parent.columns[*c].physical)))
                .collect();
            let pending = format!("temp.orphan_{number}_{n}");
            Some(ReferenceCheck {
                number: n,
                columns: reference.columns.iter().map(position).collect::<Option<_>>()?,
                exists: format!(
                    "SELECT EXISTS (SELECT 1 FROM {} WHERE {})",
                    quoted(&parent.name),
                    same.join(" AND ")
                ),
                create: format!(
                    "CREATE TEMP TABLE orphan_{number}_{n} AS SELECT '' AS key, {} FROM {} AS t \
                     WHERE false",
                    keys.places("t"),
                    quoted(&table.name)
                ),
                pending,
                note: None,
                found: HashSet::new(),
                scratch: Vec::new(),
            })
        };
        table.references.iter().enumerate().filter_map(check).collect()
    }

    /// Whether the row that these values refer to exists; a NULL among them refers to nothing.
    pub(super) fn finds_parent<'v>(
        &mut self,
        connection: &Connection,
        value: impl Fn(usize) -> Value<'v>,
    ) -> rusqlite::Result<bool> {
        self.scratch.clear();
        for column in &self.columns {
            match value(*column) {
                Value::Null => return Ok(true),
                value => push_value(&mut self.scratch, value),
            }
        }
        if self.found.contains(&self.scratch) {
            return Ok(true);
        }
        let values = self.columns.iter().map(|column| Bound(value(*column)));
        let found = (connection.prepare_cached(&self.exists)?)
            .query_row(params_from_iter(values), |row| row.get(0))?;
        if found {
            if self.found.len() >= PARENTS {
                self.found.clear();
            }
            self.found.insert(self.scratch.clone());
        }
        Ok(found)
    }

    /// Notes a row whose parent is not loaded yet.
    pub(super) fn note(
        &mut self,
        connection: &Connection,
        key: &str,
        place: &[SqlValue],
    ) -> rusqlite::Result<()> {
        self.make_pending(connection)?;
        let Some(note) = &self.note else { return Ok(()) };
        let key = SqlValue::Text(key.to_owned());
        let values = std::iter::once(&key).chain(place);
        connection.prepare_cached(note)?.execute(params_from_iter(values)).map(|_| ())
    }

    /// Which of the table's references it is.
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// Forgets which parents exist, since some may be gone.
    pub(super) fn forget_found(&mut self) {
        self.found.clear();
    }

    /// The table of the rows that were noted, if any were.
    pub(super) fn pending_rows(&self) -> Option<String> {
        self.note.is_some().then(|| self.pending.clone())
    }

    fn make_pending(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.note.is_none() {
            connection.execute_batch(&self.create)?;
            let width: i64 = connection.query_row(
                "SELECT count(*) FROM pragma_table_info(?1, 'temp')",
                [self.pending.trim_start_matches("temp.")],
                |row| row.get(0),
            )?;
            let values = (0..width).map(|_| "?").collect::<Vec<_>>().join(", ");
            self.note = Some(format!("INSERT INTO {} VALUES ({values})", self.pending));
        }
        Ok(())
    }
}

/// Appends a value so that no two lists of values have the same bytes.
fn push_value(out: &mut Vec<u8>, value: Value<'_>) {
    let (class, bytes) = match value {
        Value::Text(bytes) => (b't', bytes),
        Value::Blob(bytes) => (b'b', bytes),
        Value::Int(v) => return push_bytes(out, b'i', &v.to_le_bytes()),
        Value::Real(v) => return push_bytes(out, b'r', &v.to_bits().to_le_bytes()),
        // SQLite is given none of these
        Value::Null | Value::Bool(_) | Value::Time(_) | Value::Uuid(_) => (b'n', &[][..]),
    };
    push_bytes(out, class, bytes);
}

fn push_bytes(out: &mut Vec<u8>, class: u8, bytes: &[u8]) {
    out.push(class);
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// SQL that is true where a row `p` is the one that a row `t` refers to. The child's side has neither
/// collation nor affinity of its own, as SQLite compares foreign keys.
pub(super) fn refers(table: &CatalogTable, parent: &CatalogTable, reference: &Reference) -> String {
    let same: Vec<String> = (reference.columns.iter().zip(&reference.parent_columns))
        .map(|(from, to)| {
            let (from, to) = (&table.columns[*from].physical, &parent.columns[*to].physical);
            format!("p.{} = +t.{}", quoted(to), quoted(from))
        })
        .collect();
    same.join(" AND ")
}

/// Whether a row can be created for this reference to a table.
pub(super) fn adopts(parent: &CatalogTable, reference: &Reference) -> bool {
    parent.adoptable && parent.key.iter().all(|k| reference.parent_columns.contains(k))
}

/// A check of one reference: the number of its stream in the plan, and which of the stream's checks it is.
pub(super) type CheckPlace = (usize, usize);

/// Which rows of a table are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Those that this import has loaded.
    Loaded,
    /// All: each of them is the archive's.
    All,
}

/// The rows of a stream that refer to nothing by one reference.
pub(super) struct Left {
    /// The number of the stream in the plan.
    pub(super) stream: usize,
    /// Which of its checks it is.
    pub(super) check: usize,
    pub(super) orphans: Orphans,
}

impl SqliteLoading {
    /// Decides about the orphans, now that all rows are loaded. Returns what was
    /// found, and which references are to be given their rows.
    pub(super) fn settle_references(&mut self) -> Result<(Vec<Orphans>, Vec<CheckPlace>)> {
        let is_choice = !matches!(self.plan.options.orphans, None | Some(OnOrphans::Keep));
        if is_choice && self.plan.options.own_rows == OwnRows::Replaced {
            // rows went that others referred to when they came, and equal ones were not looked at
            let all: BTreeSet<usize> = (0..self.db.catalog.tables.len()).collect();
            let cannot = |e| failed(Code::Target, "cannot check the references", e);
            self.note_again(&all, Among::All).map_err(cannot)?;
        }
        let mut left = self.left()?;
        let mut adopting = Vec::new();
        match self.plan.options.orphans {
            Some(OnOrphans::Fail) => {
                for left in &left {
                    match &mut self.problems {
                        Some(problems) => problems.orphans(&left.orphans, OnOrphans::Keep),
                        None => return Err(left.orphans.refused(false)),
                    }
                }
            }
            Some(OnOrphans::Skip) => self.skip_all(&mut left)?,
            Some(OnOrphans::Adopt) => {
                let adopts = left.iter().filter(|left| self.can_adopt(left));
                adopting.extend(adopts.map(|left| (left.stream, left.check)));
            }
            // at rest SQLite enforces nothing, and Chronicle's own files hold orphans: keep them
            // by default
            Some(OnOrphans::Keep) | None => {}
        }
        Ok((left.into_iter().map(|left| left.orphans).collect(), adopting))
    }

    /// The reference that a check is about.
    pub(super) fn reference(&self, stream: usize, check: usize) -> &Reference {
        let number = self.streams[stream].references[check].number;
        &self.db.catalog.tables[self.streams[stream].table].references[number]
    }

    /// Whether the rows that orphans lack can be created: of some tables they would be empty, and
    /// a created row has the key that the orphan names.
    fn can_adopt(&self, left: &Left) -> bool {
        let reference = self.reference(left.stream, left.check);
        adopts(&self.db.catalog.tables[reference.table], reference)
    }

    /// SQL for the rows `t` that were noted for a reference, `o`, and still refer to nothing.
    pub(super) fn pending_rows(&self, stream: usize, check: usize) -> String {
        let reference = self.reference(stream, check);
        let table = self.streams[stream].table;
        let (child, parent) =
            (&self.db.catalog.tables[table], &self.db.catalog.tables[reference.table]);
        format!(
            "FROM {} AS o CROSS JOIN {} AS t ON {} WHERE NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
            self.streams[stream].references[check].pending,
            quoted(&child.name),
            self.db.keys[table].is_at("t", "o"),
            quoted(&parent.name),
            refers(child, parent, reference)
        )
    }

    /// The rows that refer to nothing, by every reference that has such rows.
    fn left(&self) -> Result<Vec<Left>> {
        self.left_now().map_err(|e| failed(Code::Target, "cannot check the references", e))
    }

    pub(super) fn left_now(&self) -> rusqlite::Result<Vec<Left>> {
        let mut left = Vec::new();
        for (stream, progress) in self.streams.iter().enumerate() {
            for (check, _) in
                progress.references.iter().enumerate().filter(|(_, c)| c.note.is_some())
            {
                let found = self.orphans(stream, check)?;
                left.extend(found.map(|orphans| Left { stream, check, orphans }));
            }
        }
        Ok(left)
    }

    fn orphans(&self, stream: usize, check: usize) -> rusqlite::Result<Option<Orphans>> {
        let (progress, columns) = (&self.streams[stream], &self.reference(stream, check).columns);
        let column = |c: &usize| &self.db.catalog.tables[progress.table].columns[*c];
        let refers = columns.iter().map(|c| column(c).physical.as_str());
        let (rows, samples) = self.db.count_orphans(refers, &self.pending_rows(stream, check))?;
        Ok((rows > 0).then(|| Orphans {
            stream: progress.loaded.stream.clone(),
            column: columns.iter().map(|c| column(c).name.as_str()).collect::<Vec<_>>().join(", "),
            rows,
            samples,
        }))
    }

    /// Takes the rows out again that refer to nothing, and the rows that refer to those, until every
    /// row that is left refers to an existing one.
    fn skip_all(&mut self, all: &mut Vec<Left>) -> Result<()> {
        let cannot = |e| failed(Code::Target, "cannot leave out rows that refer to nothing", e);
        let mut round = self.left()?;
        while !round.is_empty() {
            let mut shrunk = BTreeSet::new();
            for left in &round {
                let progress = &self.streams[left.stream];
                if progress.loaded.updated_rows > 0 {
                    // leaving them out deletes them, and a row that was there before is not ours
                    let what = "some rows of this stream were updated, so orphans cannot be left out; nothing was changed";
                    return Err(Error::new(
                        Code::Orphan,
                        format!("{}: {what}", progress.loaded.stream),
                    )
                    .hint(match self.plan.options.own_rows {
                        // a restore always updates
                        OwnRows::Replaced => "--orphans keep loads them",
                        _ => "--orphans keep loads them; --on-conflict skip updates no rows",
                    }));
                }
                let (rows, all) = self.skip(left.stream, left.check).map_err(cannot)?;
                let before = without(all, rows)?;
                let loaded = &mut self.streams[left.stream].loaded;
                loaded.inserted_rows = without(loaded.inserted_rows, rows)?;
                // which the file had already, and equal ones
                loaded.skipped_rows = without(loaded.skipped_rows, before)?;
                loaded.deleted_rows += before;
                loaded.skipped_orphans += all;
                shrunk.insert(self.streams[left.stream].table);
            }
            let among = match self.plan.options.own_rows {
                OwnRows::Replaced => Among::All,
                OwnRows::Stay | OwnRows::Cleared => Among::Loaded,
            };
            self.note_again(&shrunk, among).map_err(cannot)?;
            round = self.left()?;
            for left in &round {
                let same = |l: &&mut Left| (l.stream, l.check) == (left.stream, left.check);
                match all.iter_mut().find(same) {
                    Some(before) => before.orphans.rows += left.orphans.rows,
                    None => all.push(Left { orphans: left.orphans.clone(), ..*left }),
                }
            }
        }
        Ok(())
    }

    /// Takes out the rows that refer to nothing by one reference; how many of them were loaded, and how many there were.
    fn skip(&mut self, stream: usize, check: usize) -> rusqlite::Result<(u64, u64)> {
        let plan = self.plan.clone();
        let Some(planned) = plan.streams[stream].table() else { return Ok((0, 0)) };
        let (table, keys) = (&self.db.catalog.tables[planned.table], &self.db.keys[planned.table]);
        let name = quoted(&table.name);
        // by themselves first: what is deleted changes what else refers to nothing
        self.db.connection.execute_batch(&format!(
            "CREATE TEMP TABLE removed AS SELECT {} {}",
            keys.places("t"),
            self.pending_rows(stream, check)
        ))?;
        let rows = format!("temp.removed AS o CROSS JOIN {name} AS t ON {}", keys.is_at("t", "o"));
        let loaded = match &self.streams[stream].places {
            Some(loaded) => format!("{rows} WHERE {}", keys.is_among("t", loaded)),
            None => rows.clone(),
        };
        let (sketch, mut taken) = (&mut self.streams[stream].sketch, 0);
        self.db.each_row(planned, &loaded, |batch| {
            sketch.take(batch, 0);
            taken += 1;
        })?;
        if self.sidecar {
            let sql = format!(
                "DELETE FROM {SIDECAR} WHERE table_name = {} AND key IN (SELECT {} FROM {rows})",
                literal(&table.name),
                key_text(&keys.key("t"))
            );
            self.db.connection.execute(&sql, [])?;
        }
        let sql = format!("DELETE FROM {name} AS t WHERE {}", keys.is_among("t", "temp.removed"));
        let removed = self.db.connection.execute(&sql, [])? as u64;
        self.db.connection.execute_batch("DROP TABLE temp.removed")?;
        Ok((taken, removed))
    }

    /// Notes the rows that refer to nothing since rows of these tables went.
    fn note_again(&mut self, shrunk: &BTreeSet<usize>, among: Among) -> rusqlite::Result<()> {
        for stream in 0..self.streams.len() {
            for check in 0..self.streams[stream].references.len() {
                let reference = self.reference(stream, check);
                if !shrunk.contains(&reference.table) {
                    continue;
                }
                let number = self.streams[stream].table;
                let (table, keys) = (&self.db.catalog.tables[number], &self.db.keys[number]);
                let parent = &self.db.catalog.tables[reference.table];
                let mut conditions: Vec<String> = (reference.columns.iter())
                    .map(|c| format!("t.{} IS NOT NULL", quoted(&table.columns[*c].physical)))
                    .collect();
                if let (Some(loaded), Among::Loaded) = (&self.streams[stream].places, among) {
                    conditions.push(keys.is_among("t", loaded));
                }
                let sql = format!(
                    "SELECT {}, {} FROM {} AS t WHERE {} AND NOT EXISTS (SELECT 1 FROM {} AS p WHERE {})",
                    shown_key(&keys.key("t")),
                    keys.places("t"),
                    quoted(&table.name),
                    conditions.join(" AND "),
                    quoted(&parent.name),
                    refers(table, parent, reference)
                );
                let check = &mut self.streams[stream].references[check];
                check.make_pending(&self.db.connection)?;
                self.db.connection.execute_batch(&format!(
                    "DELETE FROM {pending}; INSERT INTO {pending} {sql};",
                    pending = check.pending
                ))?;
            }
        }
        Ok(())
    }

    /// Creates the rows that orphans refer to; returns their table, and the entry to be stored for each.
    pub(super) fn adopt(&self, stream: usize, check: usize) -> Result<(usize, Vec<SidecarEntry>)> {
        let reference = self.reference(stream, check);
        let table = &self.db.catalog.tables[self.streams[stream].table];
        let parent = &self.db.catalog.tables[reference.table];
        let mut columns = adopted_columns(table, parent, reference);
        if let Some(batch) = self.db.filled_column(parent) {
            columns.retain(|(name, _)| *name != batch.0);
            columns.push(batch);
        }
        let (names, values): (Vec<String>, Vec<String>) = columns.into_iter().unzip();
        let refers: Vec<String> = (reference.columns.iter())
            .map(|c| format!("t.{}", quoted(&table.columns[*c].physical)))
            .collect();
        let sql = format!(
            "INSERT INTO {} ({}) SELECT {} {} GROUP BY {} ON CONFLICT DO NOTHING RETURNING {}, {}",
            quoted(&parent.name),
            names.join(", "),
            values.join(", "),
            self.pending_rows(stream, check),
            refers.join(", "),
            key_text(&self.db.keys[reference.table].key("")),
            row_text("", parent.columns.iter().map(|c| &c.physical)),
        );
        let created = |row: &rusqlite::Row<'_>| {
            let mut kept = SidecarValues::default();
            kept.defaulted(WHOLE_ROW, &row.get::<_, String>(1)?);
            Ok(SidecarEntry { row: 0, key: row.get(0)?, text: kept.text() })
        };
        let cannot = |e| failed(Code::Target, "cannot create the rows that orphans refer to", e);
        let adopted = (self.db.connection.prepare(&sql))
            .and_then(|mut insert| insert.query_map([], created)?.collect())
            .map_err(|e| self.not_adopted(stream, check, e))?;
        match self.orphans(stream, check).map_err(cannot)? {
            None => Ok((reference.table, adopted)),
            Some(left) => {
                let parent = show_text(&parent.name);
                let why = format!("the rows for them conflict with other rows of {parent}");
                Err(Error::new(Code::Conflict, format!("{}, and {why}", left.sentence()))
                    .hint(NOT_ADOPTED))
            }
        }
    }

    /// The error of rows for orphans that the table does not take: an id of another type, a rule of its own.
    fn not_adopted(&self, stream: usize, check: usize, e: rusqlite::Error) -> Error {
        let refused = matches!(
            e.sqlite_error_code(),
            Some(ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch)
        );
        let parent = &self.db.catalog.tables[self.reference(stream, check).table].name;
        let orphans = self.orphans(stream, check).ok().flatten().filter(|_| refused);
        let Some(orphans) = orphans else {
            return failed(Code::Target, "cannot create the rows that orphans refer to", e);
        };
        let why = format!("{} cannot hold the rows for them: {e}", show_text(parent));
        Error::new(Code::Orphan, format!("{}, and {why}", orphans.sentence())).hint(NOT_ADOPTED)
    }
}

impl SqliteTarget {
    /// How many rows `t` there are, given as SQL from FROM on, and of the first few the key that is noted in `o` and what
    /// they refer to by some columns.
    pub(super) fn count_orphans<'c>(
        &self,
        columns: impl Iterator<Item = &'c str>,
        from: &str,
    ) -> rusqlite::Result<(u64, Vec<(String, String)>)> {
        let count = format!("SELECT count(*) {from}");
        let rows: i64 = self.connection.query_row(&count, [], |r| r.get(0))?;
        if rows == 0 {
            return Ok((0, Vec::new()));
        }
        let refers: Vec<String> = columns.map(|name| format!("t.{}", quoted(name))).collect();
        let sql = format!("SELECT o.key, {} {from} LIMIT {ORPHANS_NAMED}", refers.join(", "));
        let mut statement = self.connection.prepare(&sql)?;
        let samples = statement.query_map([], |row| {
            let part = |n: usize| Ok(show(from_sqlite(row.get_ref(n + 1)?)));
            let parent = (0..refers.len()).map(part).collect::<rusqlite::Result<Vec<String>>>()?;
            Ok((row.get(0)?, parent.join(", ")))
        })?;
        Ok((rows.unsigned_abs(), samples.collect::<rusqlite::Result<_>>()?))
    }
}

/// The columns of a row that is created for orphans, each with its value, as SQL.
fn adopted_columns(
    table: &CatalogTable,
    parent: &CatalogTable,
    reference: &Reference,
) -> Vec<(String, String)> {
    let child = |column: usize| format!("t.{}", quoted(&table.columns[column].physical));
    let referring = |name: &str| {
        let at = reference.parent_columns.iter().position(|c| parent.columns[*c].name == name)?;
        Some(child(reference.columns[at]))
    };
    let mut columns = Vec::new();
    for (n, column) in parent.columns.iter().enumerate() {
        let value = match (referring(&column.name), table.time) {
            (Some(value), _) => value,
            (None, Some(time)) if parent.time == Some(n) => format!("min({})", child(time)),
            _ if !column.not_null || column.has_default => continue,
            _ => match column.default_from.as_deref().and_then(referring) {
                Some(value) => format!("CAST({value} AS TEXT)"),
                None => column.default.as_deref().map_or_else(|| "''".into(), literal),
            },
        };
        columns.push((quoted(&column.physical), value));
    }
    columns
}
