//! What is stored about the columns of archives: it stays while rows of later batches need it.

use super::sql::literal;
use super::take_back::{TakeBack, found, staged};
use super::{ShapeTable, Standing, UndoSql};
use crate::error::Result;

const WHAT: &str = "cannot look for what is stored about columns";

impl TakeBack {
    /// Marks the descriptions of tables that the batch has stored and that stay.
    pub(super) async fn keep_descriptions(
        &self,
        database: &mut dyn UndoSql,
        tables: &[String],
    ) -> Result<()> {
        let described = self.shape.tables.iter().position(ShapeTable::describes_columns);
        let Some(n) = described.filter(|_| !tables.is_empty()) else { return Ok(()) };
        let table = &self.shape.tables[n];
        let name = |k: &usize| table.columns[*k].name == "table_name";
        let Some(key) = table.key.iter().position(name) else { return Ok(()) };
        let names: Vec<String> = tables.iter().map(|name| literal(name)).collect();
        let sql = format!(
            "UPDATE {} SET state = 'needed' WHERE state = 'same' AND restores = 0 \
             AND n IN (SELECT u.n FROM {} u WHERE u.key{key} IN ({}))",
            found(n),
            staged(n),
            names.join(", ")
        );
        database.run(WHAT, &sql).await.map(|_| ())
    }

    /// Does it for the tables some of whose rows stay; what can be taken back then.
    ///
    /// # Errors
    /// If a query fails.
    pub async fn keep_descriptions_of_rest(
        &self,
        database: &mut dyn UndoSql,
        standing: Standing,
    ) -> Result<Standing> {
        let rest = standing.tables.iter().filter(|table| table.kept() > 0);
        let rest: Vec<String> = rest.map(|table| table.table.clone()).collect();
        self.keep_descriptions(database, &rest).await?;
        self.standing(database).await
    }
}
