//! Foreign keys to tables that no layout knows of: checked by us, since silenced triggers do not.

use std::sync::Arc;

use super::copy::StreamLoad;
use super::loading::PgLoading;
use super::references::{Place, refers_to_nothing};
use crate::error::{Code, Error, Result};
use crate::plan::TablePlan;
use crate::postgres::catalog::ForeignKey;
use chronicle_archive::show_text;

impl PgLoading {
    /// Checks the foreign keys to tables that no layout knows of: while triggers are silenced the server
    /// does not check them itself.
    pub(super) async fn check_foreign_keys(&mut self) -> Result<()> {
        let (plan, mut violated) = (Arc::clone(&self.plan), Vec::new());
        for load in &self.done {
            let stream = PgLoading::table_plan(&plan, load.stream)?;
            let table = &self.db.catalog.tables[stream.table];
            for key in self.db.found.foreign_keys.iter().filter(|k| k.table == table.name) {
                let known = self.db.found.reference(&self.db.catalog.tables, key).is_some();
                if known || !self.db.writes(stream, &key.columns) {
                    continue;
                }
                match self.check_foreign_key(stream, key, load).await {
                    Err(e) if e.code() == Code::Orphan => violated.push((&stream.stream, e)),
                    checked => checked?,
                }
            }
        }
        violated.into_iter().try_for_each(|(stream, error)| self.refuse(stream, error))
    }

    /// Checks a foreign key of the rows of a load.
    async fn check_foreign_key(
        &self,
        stream: &TablePlan,
        key: &ForeignKey,
        load: &StreamLoad,
    ) -> Result<()> {
        let place = Place::of(
            load.place(&self.db.found, &key.table),
            load.staging.as_ref().map(|_| stream),
        );
        let own = key.columns.iter().map(|c| self.value(&place, "c", c)).collect::<Vec<_>>();
        let parent = Place::of(key.parent.clone(), None);
        let others = key.parent_columns.iter().map(|c| self.value(&parent, "p", c));
        let same = own.iter().zip(others).map(|(own, other)| format!("{other} = {own}"));
        let same = same.collect::<Vec<_>>().join(" AND ");
        let nowhere = format!("NOT EXISTS (SELECT 1 FROM {} p WHERE {same})", parent.name);
        let sql = format!(
            "SELECT count(*) FROM {} c WHERE {} HAVING count(*) > 0",
            place.name,
            refers_to_nothing(&own, &nowhere, key.match_full)
        );
        let what = "cannot check the references";
        let counts = self.db.connection.read(Code::Target, what, &sql, |row| row.text()).await?;
        let Some(count) = counts.first() else { return Ok(()) };
        Err(Error::new(
            Code::Orphan,
            format!(
                "{}: {count} rows violate the foreign key {}: {} is not in {}",
                key.table,
                show_text(&key.name),
                key.columns.join(", "),
                key.parent
            ),
        )
        .hint("load the rows that they refer to first, or correct the source and export it again"))
    }

    /// The error of staged rows that violate a foreign key.
    pub(super) async fn violated(
        &self,
        stream: &TablePlan,
        key: &ForeignKey,
        staging: &str,
    ) -> Option<Error> {
        if let Some(reference) = self.db.found.reference(&self.db.catalog.tables, key) {
            let left = self.orphans_in(staging, stream, true, &reference).await;
            return Some(left.ok()??.refused(true));
        }
        let load = self.done.iter().find(|l| l.staging.as_deref() == Some(staging))?;
        self.check_foreign_key(stream, key, load).await.err()
    }
}
