//! What the server refuses of whole rows, asked before they are written: rules of the table, partitions without a place,
//! columns that cannot be computed, values too long for an index.

use tokio_postgres::types::{ToSql, Type};

use super::PgTarget;
use super::judge::{concerns_a_value, in_text, unexpected};
use super::loading::PgLoading;
use crate::error::{Code, Result};
use crate::load::{Cause, Rejected, Rows};
use crate::plan::{Plan, TablePlan};
use crate::postgres::connection::server_words;
use crate::postgres::{literal, quoted};
use chronicle_archive::Value;

/// The number of a row among those that are asked about.
const NUMBER: &str = "chronicle_dump_row";
/// Where values are tried that may be too long for an index.
const TRIAL: &str = "pg_temp.chronicle_dump_trial";
/// Values of fewer bytes fit into every index.
const FITS: usize = 1_800;

/// Something that the server asks of every row of a table.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    table: String,
    /// The columns that it is about.
    columns: Vec<String>,
    kind: RuleKind,
}

#[derive(Debug, Clone)]
enum RuleKind {
    /// A CHECK constraint: its name and its condition.
    Check(String, String),
    /// A table with partitions: what is true of the rows that have a place in one.
    Partition(String),
    /// A column that the server computes: its name, and how.
    Computed(String, String),
    /// An index whose entries have a greatest length: its name, and SQL that makes it for the trial.
    Index(String, String),
}

impl PgTarget {
    /// Reads what the server asks of rows, while all indexes are there.
    pub(super) async fn read_rules(&mut self, plan: &Plan) -> Result<()> {
        let mut rules: Vec<Rule> = Vec::new();
        let checks = self.found.checks.iter().filter(|check| check.foreseen.is_none());
        rules.extend(checks.map(|check| Rule {
            table: check.table.clone(),
            columns: check.columns.clone(),
            kind: RuleKind::Check(check.name.clone(), check.condition.clone()),
        }));
        for (_, stream) in plan.tables() {
            let table = &stream.table_name;
            if rules.iter().any(|r| r.table == *table && !matches!(r.kind, RuleKind::Check(..))) {
                continue;
            }
            let found = self.partitions(table).await?.into_iter();
            rules.extend(
                found.chain(self.computed(table).await?).chain(self.indexes_of(table).await?),
            );
        }
        self.rules = rules;
        Ok(())
    }

    async fn partitions(&self, table: &str) -> Result<Option<Rule>> {
        let full = literal(&self.found.full_name(table));
        let sql = format!(
            "SELECT string_agg('(' || pg_catalog.pg_get_partition_constraintdef(p.relid) || ')', ' OR '), \
                    (SELECT to_json(array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                      WHERE a.attrelid = {full}::regclass AND a.attnum = ANY (k.partattrs))) \
                       FROM pg_catalog.pg_partitioned_table k WHERE k.partrelid = {full}::regclass) \
               FROM pg_catalog.pg_partition_tree({full}::regclass) p \
              WHERE p.isleaf AND p.relid <> {full}::regclass \
             HAVING EXISTS (SELECT 1 FROM pg_catalog.pg_partitioned_table k \
                             WHERE k.partrelid = {full}::regclass)"
        );
        let what = "cannot read the partitions";
        let found = self.connection.read(Code::Target, what, &sql, |row| {
            // without partitions no row has a place
            let condition = row.optional()?.unwrap_or_else(|| "false".into());
            Ok(Rule {
                table: table.to_owned(),
                columns: row.texts()?,
                kind: RuleKind::Partition(condition),
            })
        });
        Ok(found.await?.into_iter().next())
    }

    async fn computed(&self, table: &str) -> Result<Vec<Rule>> {
        let sql = format!(
            "SELECT a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid), to_json(array( \
                    SELECT o.attname::text FROM pg_catalog.pg_depend p \
                      JOIN pg_catalog.pg_attribute o ON o.attrelid = p.refobjid AND o.attnum = p.refobjsubid \
                     WHERE p.classid = 'pg_catalog.pg_attrdef'::regclass AND p.objid = d.oid \
                       AND p.refobjid = a.attrelid AND p.refobjsubid NOT IN (0, a.attnum))) \
               FROM pg_catalog.pg_attribute a \
               JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum \
              WHERE a.attrelid = {}::regclass AND a.attgenerated = 's' AND NOT a.attisdropped",
            literal(&self.found.full_name(table))
        );
        let what = "cannot read the columns that are computed";
        let read = self.connection.read(Code::Target, what, &sql, |row| {
            let kind = RuleKind::Computed(row.text()?, row.text()?);
            Ok(Rule { table: table.to_owned(), columns: row.texts()?, kind })
        });
        read.await
    }

    /// The indexes whose entries have a greatest length: not those that keep hashes.
    async fn indexes_of(&self, table: &str) -> Result<Vec<Rule>> {
        let sql = format!(
            "SELECT c.relname, replace(replace(replace(pg_catalog.pg_get_indexdef(i.indexrelid), \
                      'CREATE UNIQUE INDEX ', 'CREATE INDEX '), ' ON ONLY ', ' ON '), \
                      ' ON ' || i.indrelid::regclass::text || ' USING ', ' ON {TRIAL} USING '), \
                    to_json(array(SELECT a.attname::text FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) \
                        OR EXISTS (SELECT 1 FROM pg_catalog.pg_depend p \
                                    WHERE p.classid = 'pg_catalog.pg_class'::regclass \
                                      AND p.objid = i.indexrelid AND p.refobjid = i.indrelid \
                                      AND p.refobjsubid = a.attnum)))) \
               FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
               JOIN pg_catalog.pg_am m ON m.oid = c.relam \
              WHERE i.indrelid = {}::regclass AND i.indisready AND m.amname <> 'hash' \
                AND NOT EXISTS (SELECT 1 FROM unnest(i.indclass::oid[]) AS u(o) \
                     JOIN pg_catalog.pg_opclass l ON l.oid = u.o \
                    WHERE l.opcname IN ('jsonb_ops', 'jsonb_path_ops', 'tsvector_ops') \
                      AND m.amname = 'gin') \
                AND EXISTS (SELECT 1 FROM pg_catalog.pg_attribute a \
                     WHERE a.attrelid = i.indexrelid AND a.attlen = -1)",
            literal(&self.found.full_name(table))
        );
        let what = "cannot read the indexes";
        let read = self.connection.read(Code::Target, what, &sql, |row| {
            let kind = RuleKind::Index(row.text()?, row.text()?);
            Ok(Rule { table: table.to_owned(), columns: row.texts()?, kind })
        });
        read.await
    }

    /// What is asked of the rows of a stream, as far as it is about columns that are written.
    pub(super) fn rules_of(&self, stream: &TablePlan) -> Vec<Rule> {
        let own = self.rules.iter().filter(|rule| rule.table == stream.table_name);
        // one about no column is about no value: it may count rows, or look at the clock
        let is_asked =
            |rule: &&Rule| !rule.columns.is_empty() && self.writes(stream, &rule.columns);
        own.filter(is_asked).cloned().collect()
    }
}

impl PgLoading {
    /// The rows that the server refuses, each with its cause.
    pub(super) async fn refused_rows(
        &self,
        stream: &TablePlan,
        rows: &Rows<'_>,
    ) -> Result<Vec<Rejected>> {
        let mut refused: Vec<Rejected> = Vec::new();
        for rule in self.db.rules_of(stream) {
            let late = matches!(rule.kind, RuleKind::Index(..));
            let probe = Probe::new(&self.db, stream, rows, &rule);
            let asked: Vec<usize> = (0..rows.rows.rows())
                .filter(|row| !refused.iter().any(|r| r.row == *row))
                .filter(|row| !late || probe.length(*row) > FITS)
                .collect();
            if !asked.is_empty() {
                refused.extend(probe.refused(&asked).await?);
            }
        }
        refused.sort_by_key(|r| r.row);
        Ok(refused)
    }
}

/// Asks the server about rows of a batch.
struct Probe<'a> {
    db: &'a PgTarget,
    rows: &'a Rows<'a>,
    rule: &'a Rule,
    /// The columns that the rule is about, among those that are written.
    columns: Vec<usize>,
    /// Their names in messages.
    names: Vec<String>,
    /// Each as SQL, of the value that is given as `u.cN`.
    typed: Vec<String>,
}

impl<'a> Probe<'a> {
    fn new(db: &'a PgTarget, stream: &TablePlan, rows: &'a Rows<'a>, rule: &'a Rule) -> Probe<'a> {
        let table = &db.catalog.tables[stream.table];
        let physical = |n: &usize| &table.columns[stream.columns[*n].target].physical;
        let is_asked = |n: &usize| rule.columns.contains(physical(n));
        let columns: Vec<usize> = (0..stream.columns.len()).filter(is_asked).collect();
        let typed = columns.iter().enumerate().map(|(at, n)| {
            let found = db.column_of(stream, *n);
            let ty = found.map_or("text", |c| c.full_type.as_str());
            let collation = found.and_then(|c| c.collation.as_ref());
            let collation = collation.map_or_else(String::new, |c| format!(" COLLATE {c}"));
            format!("(convert_from(u.c{at}, 'UTF8')::{ty}){collation} AS {}", quoted(physical(n)))
        });
        let names = columns.iter().map(|n| stream.columns[*n].name.clone()).collect();
        Probe { db, rows, rule, names, typed: typed.collect(), columns }
    }

    /// The bytes of a row that the rule is about.
    fn length(&self, row: usize) -> usize {
        let of = |n: &usize| match self.rows.rows.value(row, *n) {
            Value::Text(bytes) | Value::Blob(bytes) => bytes.len(),
            _ => 8,
        };
        self.columns.iter().map(of).sum()
    }

    /// The rows that are refused: asked together, and in halves where the server does not say which.
    async fn refused(&self, asked: &[usize]) -> Result<Vec<Rejected>> {
        let (mut refused, mut open) = (Vec::new(), vec![asked]);
        self.db.run("cannot set a savepoint", "SAVEPOINT rules").await?;
        if let RuleKind::Index(_, definition) = &self.rule.kind {
            let names: Vec<String> = self.rule.columns.iter().map(|c| quoted(c)).collect();
            let sql = format!(
                "CREATE TEMPORARY TABLE chronicle_dump_trial ON COMMIT DROP AS SELECT {} FROM {} \
                 WITH NO DATA; {definition}",
                names.join(", "),
                self.db.found.full_name(&self.rule.table)
            );
            self.db.run("cannot try the values of an index", &sql).await?;
        }
        while let Some(part) = open.pop() {
            match self.ask(part).await? {
                Ok(found) => refused.extend(found.into_iter().map(|row| self.rejected(row, None))),
                Err(words) => match part {
                    [row] => refused.push(self.rejected(*row, Some(words))),
                    several => {
                        let (first, second) = several.split_at(several.len() / 2);
                        open.extend([second, first]);
                    }
                },
            }
        }
        self.db.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT rules").await?;
        Ok(refused)
    }

    /// Those of some rows that are refused, or what the server says if it cannot even tell.
    async fn ask(&self, part: &[usize]) -> Result<std::result::Result<Vec<usize>, String>> {
        let value = |n: &usize, row: &usize| match self.rows.rows.value(*row, *n) {
            Value::Null => None,
            value => Some(in_text(value)),
        };
        let given: Vec<Vec<Option<Vec<u8>>>> =
            self.columns.iter().map(|n| part.iter().map(|row| value(n, row)).collect()).collect();
        let arrays: Vec<(&(dyn ToSql + Sync), Type)> =
            given.iter().map(|c| (c as &(dyn ToSql + Sync), Type::BYTEA_ARRAY)).collect();
        self.db.run("cannot set a savepoint", "SAVEPOINT rule").await?;
        match self.db.connection.client.query_typed(&self.sql(), &arrays).await {
            Ok(found) => {
                self.db.run("cannot release a savepoint", "RELEASE SAVEPOINT rule").await?;
                let row = |row: &tokio_postgres::Row| {
                    let number: i64 = row.try_get(0).map_err(|_| unexpected())?;
                    let at = usize::try_from(number - 1).ok().and_then(|n| part.get(n));
                    at.copied().ok_or_else(unexpected)
                };
                Ok(Ok(found.iter().map(row).collect::<Result<_>>()?))
            }
            Err(e) => {
                let Some(server) = e.as_db_error().filter(|s| concerns_a_value(s.code())) else {
                    let what = format!("{}: cannot ask what it refuses", self.rule.table);
                    return Err(self.db.connection.failed(Code::Target, what, e));
                };
                let words = server_words(&self.db.info, server.message());
                self.db.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT rule").await?;
                Ok(Err(words))
            }
        }
    }

    /// SQL that gives the numbers of rows which are refused.
    fn sql(&self) -> String {
        let arrays: Vec<String> =
            (1..=self.columns.len()).map(|n| format!("${n}::bytea[]")).collect();
        let names: Vec<String> = (0..self.columns.len()).map(|n| format!("c{n}")).collect();
        let rows = format!(
            "(SELECT u.n AS {NUMBER}, {} FROM unnest({}) WITH ORDINALITY AS u({}, n) OFFSET 0) r",
            self.typed.join(", "),
            arrays.join(", "),
            names.join(", ")
        );
        match &self.rule.kind {
            RuleKind::Check(_, condition) | RuleKind::Partition(condition) => {
                format!("SELECT r.{NUMBER} FROM {rows} WHERE NOT ({condition})")
            }
            // it is never below zero: what counts is whether there is a value at all
            RuleKind::Computed(_, expression) => {
                format!("SELECT r.{NUMBER} FROM {rows} WHERE pg_column_size(({expression})) < 0")
            }
            RuleKind::Index(..) => {
                let columns: Vec<String> = self.rule.columns.iter().map(|c| quoted(c)).collect();
                // by name: the order is that of the rule
                let columns = columns.join(", ");
                format!(
                    "WITH tried AS (INSERT INTO {TRIAL} ({columns}) SELECT {columns} FROM {rows} \
                     RETURNING 1) SELECT 0::bigint FROM tried WHERE false"
                )
            }
        }
    }

    fn rejected(&self, row: usize, words: Option<String>) -> Rejected {
        let columns = self.names.clone();
        let cause = match (&self.rule.kind, words) {
            (RuleKind::Check(name, condition), None) => {
                Cause::Check { name: name.clone(), condition: condition.clone(), columns }
            }
            (RuleKind::Partition(_), None) => Cause::NoPartition { columns },
            (RuleKind::Index(name, _), _) => Cause::TooLong { index: name.clone(), columns },
            (RuleKind::Computed(name, _), words) => {
                Cause::Computed { column: name.clone(), words: words.unwrap_or_default(), columns }
            }
            (_, Some(words)) => Cause::Database { words, columns },
        };
        Rejected { row, cause }
    }
}
