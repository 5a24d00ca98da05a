//! Bringing staged rows into their table: equal rows are skipped, different ones refused by name.

use tokio_postgres::error::SqlState;

use super::PgTarget;
use super::copy::{is_about_a_value, type_name, with_hint};
use super::sidecar::STAGED_FILLED;
use crate::catalog::{CatalogTable, ColumnType};
use crate::error::{Code, Error, Result};
use crate::load::{Problem, Problems};
use crate::plan::{ColumnPlan, TablePlan};
use crate::postgres::catalog::Rule;
use crate::postgres::connection::failed;
use crate::postgres::{literal, quoted};
use crate::source::ORPHANS_NAMED;
use chronicle_archive::show_text;

/// Where a check tries what only the server can say.
const COPY: &str = "pg_temp.chronicle_dump_rehearsal";

/// A unique index or an exclusion constraint.
struct Unique {
    columns: Vec<String>,
    /// Whether equal columns are all that it refuses, and all of them are staged as they will be.
    foreseen: bool,
    /// SQL that makes it for the copy.
    made: String,
}

/// Bringing what was staged into its table: equal rows are skipped, different ones refused.
pub(super) struct Merge<'a> {
    pub(super) target: &'a PgTarget,
    pub(super) stream: &'a TablePlan,
    pub(super) table: &'a CatalogTable,
    /// The staging table's full name.
    pub(super) staging: &'a str,
}

impl Merge<'_> {
    fn name(&self, column: usize) -> String {
        quoted(&self.table.columns[self.stream.columns[column].target].physical)
    }

    fn key(&self) -> String {
        self.stream.key.first().map_or_else(String::new, |k| self.name(*k))
    }

    /// Brings everything over; returns the rows that were not there before.
    pub(super) async fn run(&self) -> Result<u64> {
        self.refuse_doubles().await?;
        self.refuse_different().await?;
        let full = self.target.found.full_name(&self.table.name);
        let inserted = self.insert(&full).await?;
        self.refuse_cast(&full).await?;
        Ok(inserted)
    }

    /// Refuses what the server has spelled otherwise while it cast a text into its own type: it may
    /// be another value, as of a number with fewer digits.
    async fn refuse_cast(&self, place: &str) -> Result<()> {
        let key = self.key();
        for (n, column) in self.stream.columns.iter().enumerate() {
            if !matches!(column.ty, ColumnType::Cast(_)) {
                continue;
            }
            let name = self.name(n);
            let sql = format!(
                "SELECT s.{key}::text, s.{name}, t.{name}::text FROM {} s JOIN {place} t \
                   ON t.{key} = s.{key} WHERE {} LIMIT 1",
                self.staging,
                self.differs(n, &column.ty)
            );
            let rows = self.rows(&sql).await?;
            let Some(row) = rows.first() else { continue };
            let text = |n: usize| {
                row.get(n).cloned().flatten().map_or_else(|| "NULL".into(), |t| show_text(&t))
            };
            // blanks at an end are seen only between quotes
            let quoted = |n: usize| match row.get(n) {
                Some(Some(_)) => format!("\"{}\"", text(n)),
                _ => text(n),
            };
            return Err(Error::new(
                Code::Value,
                format!(
                    "{}: row with key {}, column \"{}\" ({} in the target): {} would become {}",
                    self.table.name,
                    text(0),
                    column.name,
                    column.ty.name(),
                    quoted(1),
                    quoted(2)
                ),
            )
            .hint("the column holds less than the value says: give it a wider type"));
        }
        Ok(())
    }

    /// Everything that [`Merge::run`] would refuse. Of rows that are `clean` so far the server is
    /// asked, too.
    pub(super) async fn problems(&self, clean: bool) -> Result<Vec<Problem>> {
        let mut found = Vec::new();
        let key = self.key();
        let full = self.target.found.full_name(&self.table.name);
        let any: Vec<String> = (self.stream.columns.iter().enumerate())
            .filter(|(n, c)| !self.stream.key.contains(n) && !self.is_added(c))
            .map(|(n, column)| self.differs(n, &column.ty))
            .collect();
        let hint = "import into an empty database, or remove these rows from the target first";
        let doubles = format!(
            "SELECT {key}::text, count(*) OVER () FROM {} GROUP BY {key} HAVING count(*) > 1",
            self.staging
        );
        let different = format!(
            "SELECT s.{key}::text, count(*) OVER () FROM {} s JOIN {full} t ON t.{key} = s.{key} \
              WHERE {}",
            self.staging,
            any.join(" OR ")
        );
        let mut asked = vec![
            (doubles, "the archive holds it twice".to_owned()),
            (different, "the target has this row already, with other content".into()),
        ];
        let (foreseen, odd): (Vec<Unique>, Vec<Unique>) =
            self.unique().await?.into_iter().partition(|u| u.foreseen);
        for Unique { columns, .. } in foreseen {
            let same: Vec<String> =
                columns.iter().map(|c| format!("o.{0} = s.{0}", quoted(c))).collect();
            for others in [full.as_str(), self.staging] {
                asked.push((
                    format!(
                        "SELECT s.{key}::text, count(*) OVER () FROM {} s JOIN {others} o ON {} \
                          WHERE o.{key} <> s.{key}",
                        self.staging,
                        same.join(" AND ")
                    ),
                    format!("its {} belongs to another row already", columns.join(", ")),
                ));
            }
        }
        for (sql, reason) in asked {
            let rows = self.rows(&format!("{sql} LIMIT {ORPHANS_NAMED}")).await?;
            let text = |row: &[Option<String>], n: usize| row.get(n).cloned().flatten();
            let Some(count) = rows.first().and_then(|row| text(row, 1)) else { continue };
            found.push(Problem {
                code: Code::Conflict.word(),
                stream: self.stream.stream.clone(),
                column: None,
                reason,
                rows: count.parse().unwrap_or(0),
                first: rows.iter().filter_map(|row| text(row, 0)).collect(),
                remedy: Some(hint.into()),
            });
        }
        if clean && found.is_empty() {
            let mut problems = Problems::default();
            let refused = self.rehearse(&odd).await?;
            refused.iter().for_each(|e| problems.refused(&self.stream.stream, e));
            found.extend(problems.all());
        }
        Ok(found)
    }

    /// What the server refuses by rules that only it can apply: the staged rows go into a copy of
    /// their table that is taken back again. It names the first thing, as to an import.
    async fn rehearse(&self, odd: &[Unique]) -> Result<Option<Error>> {
        let casts = self.stream.columns.iter().any(|c| matches!(c.ty, ColumnType::Cast(_)));
        if !casts && odd.is_empty() && !self.rules().any(|rule| !self.writes(&rule.columns)) {
            return Ok(None);
        }
        self.target.run("cannot set a savepoint", "SAVEPOINT rehearsal").await?;
        self.make_copy(odd).await?;
        let refused = match self.insert(COPY).await {
            Ok(_) => self.refuse_cast(COPY).await.err(),
            Err(e) => Some(e),
        };
        self.target.run("cannot go back", "ROLLBACK TO SAVEPOINT rehearsal").await?;
        Ok(refused)
    }

    /// Makes a copy of the table with its rules, and with its rows as far as new ones can clash with
    /// them.
    async fn make_copy(&self, odd: &[Unique]) -> Result<()> {
        let found = &self.target.found;
        let full = found.full_name(&self.table.name);
        let mut sql = format!(
            "CREATE TEMPORARY TABLE chronicle_dump_rehearsal \
             (LIKE {full} INCLUDING DEFAULTS INCLUDING GENERATED) ON COMMIT DROP;"
        );
        // a sequence does not go back, so nothing is taken from it
        for column in self.numbered().await? {
            sql.push_str(&format!(
                "ALTER TABLE {COPY} ALTER {column} DROP DEFAULT, ALTER {column} DROP NOT NULL;"
            ));
        }
        for column in &self.stream.added {
            let (name, ty) = (quoted(&column.physical), type_name(&column.ty));
            sql.push_str(&format!("ALTER TABLE {COPY} ADD COLUMN {name} {ty};"));
        }
        let own = found.tables.iter().find(|t| t.name == self.table.name);
        if let (Some(table), false) = (own, odd.is_empty()) {
            let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
            let columns = columns.join(", ");
            sql.push_str(&format!("INSERT INTO {COPY} ({columns}) SELECT {columns} FROM {full};"));
        }
        for rule in self.rules() {
            // as the rows that are there may break a rule that came later
            sql.push_str(&format!(
                "ALTER TABLE {COPY} ADD CONSTRAINT {} CHECK ({}) NOT VALID;",
                quoted(&rule.name),
                rule.condition
            ));
        }
        odd.iter().for_each(|unique| sql.push_str(&format!("{};", unique.made)));
        self.target.run("cannot make a copy of the table to check with", &sql).await
    }

    /// The columns that the server numbers, as SQL writes them.
    async fn numbered(&self) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a \
               LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
              WHERE a.attrelid = {}::regclass AND a.attnum > 0 AND NOT a.attisdropped \
                AND a.attgenerated = '' AND (a.attidentity <> '' \
                    OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')",
            literal(&self.target.found.full_name(&self.table.name))
        );
        Ok(self.rows(&sql).await?.into_iter().flatten().flatten().collect())
    }

    fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.target.found.rules.iter().filter(|rule| rule.table == self.table.name)
    }

    /// Whether all these columns are written.
    fn writes(&self, columns: &[String]) -> bool {
        let physical = |c: &ColumnPlan| &self.table.columns[c.target].physical;
        columns.iter().all(|name| self.stream.columns.iter().any(|c| physical(c) == name))
    }

    /// Whether some of these columns are staged as texts.
    fn casts(&self, columns: &[String]) -> bool {
        self.stream.columns.iter().any(|c| {
            matches!(c.ty, ColumnType::Cast(_))
                && columns.contains(&self.table.columns[c.target].physical)
        })
    }

    fn is_added(&self, column: &ColumnPlan) -> bool {
        self.stream.added.iter().any(|a| a.name == column.name)
    }

    /// Every unique index and exclusion constraint beside the key.
    async fn unique(&self) -> Result<Vec<Unique>> {
        let sql = format!(
            "SELECT array_to_string(array(SELECT a.attname FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)), E'\\n'), \
                    i.indisunique AND NOT i.indisexclusion AND i.indpred IS NULL \
                      AND i.indexprs IS NULL AND i.indnatts = i.indnkeyatts AND coalesce( \
                      pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct', 'false') = 'false', \
                    coalesce('ALTER TABLE {COPY} ADD CONSTRAINT ' \
                      || pg_catalog.quote_ident(k.conname) || ' ' \
                      || pg_catalog.pg_get_constraintdef(k.oid), replace(replace( \
                      pg_catalog.pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON '), \
                      ' ON ' || i.indrelid::regclass::text || ' USING ', ' ON {COPY} USING ')) \
               FROM pg_catalog.pg_index i LEFT JOIN pg_catalog.pg_constraint k \
                 ON k.conindid = i.indexrelid AND k.contype IN ('u', 'x') \
              WHERE i.indrelid = {}::regclass AND (i.indisunique OR i.indisexclusion) \
                AND NOT i.indisprimary AND i.indisready",
            literal(&self.target.found.full_name(&self.table.name))
        );
        let index = |row: Vec<Option<String>>| {
            let mut texts = row.into_iter().map(Option::unwrap_or_default);
            let columns: Vec<String> = texts.next()?.split('\n').map(str::to_owned).collect();
            let plain = texts.next()? == "t";
            let foreseen = plain && self.writes(&columns) && !self.casts(&columns);
            Some(Unique { columns, foreseen, made: texts.next()? })
        };
        Ok(self.rows(&sql).await?.into_iter().filter_map(index).collect())
    }

    async fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let what = format!("cannot compare with {}", self.table.name);
        self.target.connection.rows(Code::Target, &what, sql).await
    }

    fn conflict(&self, key: &str, what: &str) -> Error {
        Error::new(
            Code::Conflict,
            format!("{}: row with key {}: {what}", self.table.name, show_text(key)),
        )
        .hint("import into an empty database, or remove that row from the target first")
    }

    async fn refuse_doubles(&self) -> Result<()> {
        let key = self.key();
        let sql = format!(
            "SELECT {key}::text FROM {} GROUP BY {key} HAVING count(*) > 1 LIMIT 1",
            self.staging
        );
        match self.rows(&sql).await?.first().and_then(|r| r.first().cloned().flatten()) {
            Some(key) => Err(self.conflict(&key, "the archive holds it twice")),
            None => Ok(()),
        }
    }

    async fn refuse_different(&self) -> Result<()> {
        let differs: Vec<(String, String)> = (self.stream.columns.iter().enumerate())
            .filter(|(n, _)| !self.stream.key.contains(n))
            .map(|(n, column)| (column.name.clone(), self.differs(n, &column.ty)))
            .collect();
        if differs.is_empty() {
            return Ok(());
        }
        let first: Vec<String> = (differs.iter())
            .map(|(name, condition)| format!("WHEN {condition} THEN {}", literal(name)))
            .collect();
        let any: Vec<String> = differs.iter().map(|(_, condition)| condition.clone()).collect();
        let key = self.key();
        let sql = format!(
            "SELECT s.{key}::text, CASE {} END, count(*) OVER () FROM {} s JOIN {} t \
               ON t.{key} = s.{key} WHERE {} LIMIT 1",
            first.join(" "),
            self.staging,
            self.target.found.full_name(&self.table.name),
            any.join(" OR ")
        );
        let rows = self.rows(&sql).await?;
        let Some(row) = rows.first() else { return Ok(()) };
        let text = |n: usize| row.get(n).cloned().flatten().unwrap_or_default();
        Err(self.conflict(
            &text(0),
            &format!(
                "the target has this row already, with another value in \"{}\" ({} rows differ)",
                text(1),
                text(2)
            ),
        ))
    }

    /// SQL that is true if a column of the two rows is not the same.
    fn differs(&self, column: usize, ty: &ColumnType) -> String {
        let name = self.name(column);
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

    /// Brings the staged rows that are not in the table into `place`.
    async fn insert(&self, place: &str) -> Result<u64> {
        let columns: Vec<String> = (0..self.stream.columns.len()).map(|n| self.name(n)).collect();
        let values: Vec<String> = (self.stream.columns.iter().zip(&columns))
            .map(|(column, name)| match &column.ty {
                ColumnType::Cast(ty) => format!("s.{name}::{ty}"),
                _ => format!("s.{name}"),
            })
            .collect();
        let key = self.key();
        let full = self.target.found.full_name(&self.table.name);
        let mut sql = format!(
            "INSERT INTO {place} AS t ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} s \
              WHERE NOT EXISTS (SELECT 1 FROM {full} o WHERE o.{key} = s.{key})",
            columns.join(", "),
            values.join(", "),
            self.staging
        );
        if let Some(filled) = self.target.filled(self.stream) {
            sql = format!(
                "WITH new AS ({sql} RETURNING {filled}) INSERT INTO {STAGED_FILLED} SELECT * FROM new"
            );
        }
        let connection = &self.target.connection;
        self.target.run("cannot set a savepoint", "SAVEPOINT merge").await?;
        match connection.client.execute_typed(&sql, &[]).await {
            Ok(rows) => Ok(rows),
            Err(e) => Err(self.explain(e).await),
        }
    }

    /// Says which row the server refused, where it does not say so itself.
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
        let error = with_hint(code, failed(&self.target.info, code, what, &e));
        let Some(constraint) = constraint else { return error };
        // only behind the savepoint does the server answer questions again
        if self.target.run("cannot go back", "ROLLBACK TO SAVEPOINT merge").await.is_err() {
            return error;
        }
        let better = match code {
            Code::Conflict => self.taken(&constraint).await,
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

    /// The error of the first staged row that takes another row's unique value.
    async fn taken(&self, constraint: &str) -> Option<Error> {
        let full = self.target.found.full_name(&self.table.name);
        let sql = format!(
            "SELECT a.attname FROM pg_catalog.pg_index i \
               JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
               JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) \
              WHERE c.relname = {} AND i.indrelid = {}::regclass ORDER BY a.attnum",
            literal(constraint),
            literal(&full)
        );
        let columns: Vec<String> =
            self.rows(&sql).await.ok()?.into_iter().flatten().flatten().collect();
        let same: Vec<String> =
            columns.iter().map(|c| format!("o.{0} = s.{0}", quoted(c))).collect();
        if same.is_empty() {
            return None;
        }
        let key = self.key();
        for others in [full.as_str(), self.staging] {
            let sql = format!(
                "SELECT s.{key}::text, o.{key}::text FROM {} s JOIN {others} o ON {} \
                  WHERE o.{key} <> s.{key} LIMIT 1",
                self.staging,
                same.join(" AND ")
            );
            if let Some([Some(own), Some(other)]) =
                self.rows(&sql).await.ok()?.first().map(|r| &r[..])
            {
                let what = format!(
                    "its {} belongs to the row with key {} already",
                    columns.join(", "),
                    show_text(other)
                );
                return Some(self.conflict(own, &what));
            }
        }
        None
    }

    /// The error of the staged rows that violate a foreign key.
    async fn orphaned(&self, constraint: &str) -> Option<Error> {
        let key = self
            .target
            .found
            .foreign_keys
            .iter()
            .find(|k| k.table == self.table.name && k.name == constraint)?;
        for reference in &self.table.references {
            if key.columns == [self.table.columns[reference.columns[0]].physical.clone()] {
                let left = self.target.orphans_in(self.staging, self.stream, reference).await;
                return Some(left.ok()??.refused(true));
            }
        }
        self.target.check_foreign_key(self.stream, key, self.staging).await.err()
    }

    /// The first staged row that violates a check of the table.
    async fn first_against(&self, constraint: &str) -> Option<String> {
        let sql = format!(
            "SELECT pg_catalog.pg_get_expr(conbin, conrelid) FROM pg_catalog.pg_constraint \
              WHERE conname = {} AND conrelid = {}::regclass",
            literal(constraint),
            literal(&self.target.found.full_name(&self.table.name))
        );
        let check = self.rows(&sql).await.ok()?.first()?.first()?.clone()?;
        let key = self.key();
        let sql = format!("SELECT {key}::text FROM {} WHERE NOT ({check}) LIMIT 1", self.staging);
        self.rows(&sql).await.ok()?.first()?.first()?.clone()
    }
}
