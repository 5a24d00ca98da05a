//! What belongs to tables beside their rows, and never goes with them: policies, publications, triggers, grants.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::PgCatalog;
use super::connection::{Connection, SNAPSHOT};
use super::conninfo::ConnInfo;
use super::literal;
use crate::error::{Code, Result};
use crate::notice::{Notice, NoticeKind};
use chronicle_archive::show_text;

/// How many things of one kind are named.
const NAMED: usize = 8;

/// What is attached to the tables of a database: of each kind, the names with their tables.
pub struct Attached {
    tables: BTreeSet<String>,
    /// By kind, the table and the name.
    things: BTreeMap<String, BTreeSet<(String, String)>>,
}

impl Attached {
    /// Reads it from a database.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub async fn read(info: &ConnInfo) -> Result<Attached> {
        const WHAT: &str = "cannot look at what belongs to the tables";
        let connection = Connection::open(info).await?;
        connection.begin(Code::Source, WHAT, SNAPSHOT).await?;
        let catalog = PgCatalog::read(&connection, info.schema.as_deref(), None).await?;
        let tables: BTreeSet<String> = catalog.tables.iter().map(|t| t.name.clone()).collect();
        let names: Vec<String> = tables.iter().map(|name| literal(name)).collect();
        let sql = format!(
            "WITH tables AS (SELECT c.oid, c.relname, c.relowner, c.relacl, c.relrowsecurity \
                               FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                              WHERE n.nspname = {schema} AND c.relname IN ({names})) \
             SELECT 'row level security', relname, '' FROM tables WHERE relrowsecurity \
             UNION ALL SELECT 'policies', relname, polname FROM tables \
                         JOIN pg_catalog.pg_policy p ON p.polrelid = tables.oid \
             UNION ALL SELECT 'triggers', relname, tgname FROM tables \
                         JOIN pg_catalog.pg_trigger t ON t.tgrelid = tables.oid WHERE NOT tgisinternal \
             UNION ALL SELECT 'publications', tablename, pubname FROM pg_catalog.pg_publication_tables \
                        WHERE schemaname = {schema} AND tablename IN ({names}) \
             UNION ALL SELECT 'grants', relname, \
                              coalesce(r.rolname, 'PUBLIC') || ' (' || string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type) || ')' \
                         FROM tables CROSS JOIN LATERAL pg_catalog.aclexplode(relacl) a \
                         LEFT JOIN pg_catalog.pg_roles r ON r.oid = a.grantee \
                        WHERE a.grantee <> relowner GROUP BY relname, r.rolname",
            schema = literal(&catalog.schema),
            names = names.join(", "),
        );
        let read = connection
            .read(Code::Source, WHAT, &sql, |row| Ok((row.text()?, (row.text()?, row.text()?))));
        let mut things: BTreeMap<String, BTreeSet<(String, String)>> = BTreeMap::new();
        for (kind, thing) in read.await? {
            things.entry(kind).or_default().insert(thing);
        }
        Ok(Attached { tables, things })
    }

    /// What another database has at tables that both have, and this one lacks: a notice for each kind.
    pub fn lacks(&self, other: &Attached) -> Vec<Notice> {
        let mut notices = Vec::new();
        let none = BTreeSet::new();
        for (kind, theirs) in &other.things {
            let ours = self.things.get(kind).unwrap_or(&none);
            let missing: Vec<String> = (theirs.difference(ours))
                .filter(|(table, _)| self.tables.contains(table))
                .map(|(table, name)| match name.as_str() {
                    "" => show_text(table),
                    name => format!("{} of {}", show_text(name), show_text(table)),
                })
                .collect();
            if missing.is_empty() {
                continue;
            }
            let more = match missing.len().checked_sub(NAMED).filter(|more| *more > 0) {
                Some(more) => format!(" and {more} more"),
                None => String::new(),
            };
            let named = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
            let text = format!("the target lacks {kind} that the source has: {named}{more}");
            notices.push(Notice::new(NoticeKind::TargetLacks, text));
        }
        notices
    }
}
