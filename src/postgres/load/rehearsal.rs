//! What a check finds out about staged rows: all that a merge would refuse, and what only the server can say, tried in a
//! copy of the table.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::PgTarget;
use super::conflict::{UPDATED, decisions};
use super::copy::type_name;
use super::keys::Alias;
use super::loading::{Mode, PgLoading};
use super::merge::{Merge, STAGED};
use crate::cancel::Cancel;
use crate::catalog::{Catalog, ColumnType};
use crate::error::{Code, Error, Result};
use crate::load::{ExistingKeys, Loading, Problem, Problems, Target};
use crate::notice::{Notice, NoticeKind};
use crate::plan::{ColumnPlan, Plan};
use crate::postgres::catalog::TableCheck;
use crate::postgres::{literal, quoted};
use crate::source::ORPHANS_NAMED;

/// Where a check tries what only the server can say.
const COPY: &str = "pg_temp.chronicle_dump_rehearsal";

/// A unique index or an exclusion constraint.
struct Unique {
    name: String,
    columns: Vec<String>,
    /// Whether equal columns are all that it refuses, and all of them are staged as they will be.
    foreseen: bool,
    /// SQL that creates it for the copy.
    definition: String,
}

/// A Postgres database for a check: rows are staged, no table is locked or changed.
pub struct PgRehearsal(PgTarget);

impl PgRehearsal {
    /// A target that rehearses what another one does.
    pub fn new(target: PgTarget) -> PgRehearsal {
        PgRehearsal(target)
    }
}

impl Target for PgRehearsal {
    fn keys(&mut self) -> &mut dyn ExistingKeys {
        self.0.keys()
    }

    fn catalog(&self) -> &Catalog {
        self.0.catalog()
    }

    fn rehearsal(self: Box<Self>) -> Box<dyn Target> {
        self
    }

    fn begin(
        self: Box<Self>,
        plan: Arc<Plan>,
        cancel: Cancel,
    ) -> BoxFuture<'static, Result<Box<dyn Loading>>> {
        let PgRehearsal(mut target) = *self;
        Box::pin(async move {
            plan.tables().for_each(|(_, stream)| drop(target.expect_columns(stream)));
            let problems = cancel.or(async {
                target.forget_given_numbers(&plan).await?;
                target.find_own_batches(&plan).await?;
                target.read_rules(&plan).await?;
                target.look(&plan).await
            });
            let problems = problems.await;
            let mode = problems.map(|problems| (Mode::Rehearse(problems), Vec::new()));
            target.into_loading(plan, mode, None).await
        })
    }

    fn abort(self: Box<Self>) -> BoxFuture<'static, ()> {
        Box::new(self.0).abort()
    }

    fn fail(self: Box<Self>, error: Error) -> BoxFuture<'static, Error> {
        Box::new(self.0).fail(error)
    }
}

impl PgLoading {
    /// Notes what a merge of staged streams would refuse; returns the new and the updated rows of each.
    pub(super) async fn rehearse(
        &mut self,
        plan: &Plan,
        loads: &[usize],
    ) -> Result<Vec<(u64, u64)>> {
        let mut counts = Vec::new();
        for load in loads {
            let (mut found, mut unchecked) = (Vec::new(), Vec::new());
            for merge in self.merges(plan, &[*load])? {
                counts.push(merge.counts().await?);
                let stream = &merge.stream.stream;
                let clean = match &self.mode {
                    Mode::Load { .. } => continue,
                    Mode::Rehearse(problems) => {
                        !problems.has(stream) && !self.conflicts.has(stream)
                    }
                };
                let (problems, not_tried) = merge.problems(clean).await?;
                found.extend(problems);
                unchecked.extend(not_tried);
            }
            self.db.notices.extend(unchecked);
            if let Mode::Rehearse(problems) = &mut self.mode {
                found.into_iter().for_each(|problem| problems.push(problem));
            }
        }
        Ok(counts)
    }
}

impl Merge<'_> {
    /// Everything that a merge would refuse. Of rows that are `clean` so far the server is asked, too; of
    /// others it is told what it was not asked.
    async fn problems(&self, clean: bool) -> Result<(Vec<Problem>, Option<Notice>)> {
        let (mut found, mut queries, key) = (Vec::new(), Vec::new(), self.key.text("s"));
        let (foreseen, others): (Vec<Unique>, Vec<Unique>) =
            self.unique().await?.into_iter().partition(|u| u.foreseen);
        for Unique { columns, .. } in foreseen {
            for stored in [true, false] {
                let select = format!("{key}, count(*) OVER ()");
                let reason = format!("its {} is already used by another row", columns.join(", "));
                let written = format!(
                    "{} AND NOT EXISTS (SELECT 1 FROM {} d WHERE d.staged = s.ctid \
                     AND d.decision <> '{UPDATED}')",
                    self.clashes_sql(&columns, stored, &select),
                    decisions(self.number)
                );
                queries.push((written, reason));
            }
        }
        for (sql, reason) in queries {
            let sql = format!("{sql} LIMIT {ORPHANS_NAMED}");
            let read = self.read(&sql, |row| {
                Ok((row.optional()?.unwrap_or_else(|| "NULL".into()), row.parsed::<u64>()?))
            });
            let (samples, counts): (Vec<String>, Vec<u64>) = read.await?.into_iter().unzip();
            let Some(rows) = counts.first().copied() else { continue };
            let remedy =
                "compare the rows with `chronicle-dump diff`, or import into an empty database";
            found.push(Problem {
                rows,
                keys: samples,
                remedy: Some(remedy.into()),
                ..Problem::new(Code::Conflict, &self.stream.stream, reason)
            });
        }
        if clean && found.is_empty() {
            let mut problems = Problems::default();
            let refused = self.rehearse(&others).await?;
            refused.iter().for_each(|e| problems.refused(&self.stream.stream, e));
            found.extend(problems.all());
            return Ok((found, None));
        }
        let names: Vec<&str> = others.iter().map(|unique| unique.name.as_str()).collect();
        let not_tried = format!(
            "not checked: {} of {}, until the rows above are settled",
            names.join(", "),
            self.table.name
        );
        let not_tried = Notice::new(NoticeKind::NotChecked, not_tried);
        Ok((found, (!names.is_empty()).then_some(not_tried)))
    }

    /// What the server refuses by rules that only it can apply: the staged rows go into a copy of
    /// their table that is taken back again. It names the first thing, as to an import.
    async fn rehearse(&self, unique: &[Unique]) -> Result<Option<Error>> {
        let casts = self.stream.columns.iter().any(|c| matches!(c.ty, ColumnType::Cast(_)));
        let unwritten = |check: &TableCheck| !self.db().writes(self.stream, &check.columns);
        if !casts && unique.is_empty() && !self.checks().any(unwritten) {
            return Ok(None);
        }
        self.db().run("cannot set a savepoint", "SAVEPOINT rehearsal").await?;
        self.make_copy(unique).await?;
        let refused = self.insert(COPY).await.err();
        self.db().run("cannot go back", "ROLLBACK TO SAVEPOINT rehearsal").await?;
        Ok(refused)
    }

    /// Makes a copy of the table with its constraints, and with its rows as far as new ones can clash with
    /// them.
    async fn make_copy(&self, unique: &[Unique]) -> Result<()> {
        let found = &self.db().found;
        let full = self.full();
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
        if let (Some(table), false) = (own, unique.is_empty()) {
            let columns: Vec<String> = table.columns.iter().map(|c| quoted(&c.name)).collect();
            let columns = columns.join(", ");
            sql.push_str(&format!("INSERT INTO {COPY} ({columns}) SELECT {columns} FROM {full};"));
        }
        for check in self.checks() {
            // since existing rows may break a constraint that was added later
            sql.push_str(&format!(
                "ALTER TABLE {COPY} ADD CONSTRAINT {} CHECK ({}) NOT VALID;",
                quoted(&check.name),
                check.condition
            ));
        }
        unique.iter().for_each(|unique| sql.push_str(&format!("{};", unique.definition)));
        self.db().run("cannot create a copy of the table to check with", &sql).await
    }

    /// The columns that the server numbers, as SQL writes them.
    async fn numbered(&self) -> Result<Vec<String>> {
        let sql = format!(
            "SELECT pg_catalog.quote_ident(a.attname) FROM pg_catalog.pg_attribute a \
               LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
              WHERE a.attrelid = {}::regclass AND a.attnum > 0 AND NOT a.attisdropped \
                AND a.attgenerated = '' AND (a.attidentity <> '' \
                    OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%')",
            literal(&self.full())
        );
        self.read(&sql, |row| row.text()).await
    }

    fn checks(&self) -> impl Iterator<Item = &TableCheck> {
        self.db().found.checks.iter().filter(|check| check.table == self.table.name)
    }

    /// Whether some of these columns are staged as texts.
    fn casts(&self, columns: &[String]) -> bool {
        columns.iter().any(|name| self.db().cast_of(self.stream, name).is_some())
    }

    /// The rows that would be new and those that would be updated.
    async fn counts(&self) -> Result<(u64, u64)> {
        let sql = format!(
            "SELECT (SELECT count(*) FROM {} s WHERE NOT EXISTS (SELECT 1 FROM {} o WHERE {})), \
                    (SELECT count(*) FROM {} WHERE decision = '{UPDATED}')",
            self.staging,
            self.full(),
            self.key.same(Alias::Stored("o"), STAGED),
            decisions(self.number)
        );
        let read = self.read(&sql, |row| Ok((row.parsed()?, row.parsed()?)));
        Ok(read.await?.into_iter().next().unwrap_or_default())
    }

    pub(super) fn is_added(&self, column: &ColumnPlan) -> bool {
        self.stream.added.iter().any(|a| a.name == column.name)
    }

    /// Every unique index and exclusion constraint other than the key's, in the order in which the server asks them.
    async fn unique(&self) -> Result<Vec<Unique>> {
        let sql = format!(
            "SELECT i.indexrelid::regclass::text, \
                    to_json(array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey))), \
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
                AND NOT i.indisprimary AND i.indisready ORDER BY i.indexrelid",
            literal(&self.full())
        );
        self.read(&sql, |row| {
            let (name, columns, plain) = (row.text()?, row.texts()?, row.boolean()?);
            let written = self.db().writes(self.stream, &columns);
            let foreseen = plain && written && !self.casts(&columns);
            Ok(Unique { name, columns, foreseen, definition: row.text()? })
        })
        .await
    }
}
