//! What of the server around the tables concerns an import: who listens to its rows, and how much room the database takes up.

use super::PgTarget;
use crate::error::{Code, Result};
use crate::notice::{Notice, NoticeKind};
use crate::plan::Plan;
use crate::postgres::conninfo::Host;
use crate::postgres::literal;
use chronicle_archive::show_text;

const WHAT: &str = "cannot look at the server around the tables";
const MIB: u64 = 1 << 20;

impl PgTarget {
    /// Tells who gets every row that is loaded, once for each import.
    pub(super) async fn say_who_listens(&mut self, plan: &Plan) -> Result<()> {
        if !self.side_by_side {
            let listeners = self.listeners(plan).await?;
            self.notices.extend(listeners);
        }
        Ok(())
    }

    /// Who gets every row that is loaded: a publication that somebody reads, as Supabase's Realtime does for each open
    /// dashboard.
    async fn listeners(&self, plan: &Plan) -> Result<Option<Notice>> {
        let read = self.slots().await?;
        if read.is_empty() {
            return Ok(None);
        }
        let tables: Vec<String> =
            plan.tables().map(|(_, stream)| literal(&stream.table_name)).collect();
        let sql = format!(
            "SELECT pubname, string_agg(DISTINCT tablename, ', ' ORDER BY tablename) \
               FROM pg_catalog.pg_publication_tables \
              WHERE schemaname = {} AND tablename IN ({}) GROUP BY 1 ORDER BY 1",
            literal(&self.found.schema),
            tables.join(", ")
        );
        let published = self.connection.read(Code::Target, WHAT, &sql, |row| {
            Ok(format!("{} ({})", show_text(&row.text()?), show_text(&row.text()?)))
        });
        let published = published.await?;
        Ok((!published.is_empty()).then(|| {
            let names: Vec<String> = read.iter().map(|slot| show_text(slot)).collect();
            let text = format!(
                "every row that is loaded also goes to who reads the publication {}: {} at the moment ({}); a large import makes \
                 open dashboards slow, so close them first",
                published.join(" and "),
                match read.len() {
                    1 => "1 replication slot".to_owned(),
                    more => format!("{more} replication slots"),
                },
                names.join(", ")
            );
            Notice::new(NoticeKind::Listeners, text)
        }))
    }

    /// What a check says of the room that the database takes up.
    pub(super) async fn room(&self) -> Result<Option<Notice>> {
        let sql = "SELECT pg_catalog.pg_database_size(current_database())";
        let size = self.connection.read(Code::Target, WHAT, sql, |row| row.parsed::<u64>()).await?;
        let free = match self.info.hosts.iter().any(Host::is_supabase) {
            true => "; a free project becomes read-only at 500 MiB",
            false => "",
        };
        Ok(size.first().map(|bytes| {
            let text = format!("the target's database takes up {} MiB{free}", bytes.div_ceil(MIB));
            Notice::new(NoticeKind::Room, text)
        }))
    }

    /// The names of the logical replication slots of the database that somebody reads.
    async fn slots(&self) -> Result<Vec<String>> {
        let sql = "SELECT slot_name FROM pg_catalog.pg_replication_slots \
                    WHERE slot_type = 'logical' AND active AND database = current_database() ORDER BY 1";
        self.connection.read(Code::Target, WHAT, sql, |row| row.text()).await
    }
}
