//! Whose the integer ids of a target are: asked before an import, required of its transaction, and noted in its batch.

use std::collections::BTreeMap;

use super::{Loading, Target};
use crate::catalog::Catalog;
use crate::error::{Code, Error, Result};
use crate::numbers::{Numbers, TableNumbers};
use crate::plan::Plan;
use crate::policy::OwnRows;

/// Whose the integer ids are in the tables that this batch has written so far, by table, if it has changed that.
pub type BatchNumbers = BTreeMap<String, Numbers>;

/// The catalog of a target with whose its integer ids are, also by the archives of this batch.
///
/// # Errors
/// As all here: if the target cannot be asked.
pub async fn numbered(target: &mut dyn Target, batch: &BatchNumbers) -> Result<Catalog> {
    let mut catalog = target.catalog().clone();
    if catalog.tables.iter().any(|table| table.integer_key().is_some()) {
        let found = target.keys().table_numbers().await?;
        for (table, numbers) in catalog.tables.iter_mut().zip(found) {
            table.numbers = numbers.map(|found| in_batch(found, &table.name, batch));
        }
    }
    Ok(catalog)
}

/// Whose the integer ids of a table are, with what the archives of this batch have brought so far.
fn in_batch(found: TableNumbers, table: &str, batch: &BatchNumbers) -> TableNumbers {
    match batch.get(table) {
        Some(numbers) => TableNumbers { numbers: numbers.clone(), ..found },
        None => found,
    }
}

/// Requires that the integer ids of the target are still those of the plan, now that nobody else can add any.
///
/// # Errors
/// If they are not.
pub async fn require_same_numbers(
    plan: &Plan,
    loading: &mut dyn Loading,
    batch: &BatchNumbers,
) -> Result<()> {
    if plan.options.own_rows != OwnRows::Stay || !plan.has_numbers() {
        return Ok(());
    }
    let now = loading.keys().table_numbers().await?;
    for stream in plan.numbered_streams() {
        let Some(found) = now.get(stream.table).cloned().flatten() else { continue };
        let found = in_batch(found, &stream.table_name, batch);
        if plan.renumbers(stream, &found) != stream.is_renumbered() {
            let what = "others have added rows since the import began; nothing was changed";
            return Err(Error::new(Code::Conflict, format!("{}: {what}", stream.table_name))
                .hint("import again"));
        }
    }
    Ok(())
}

/// Notes whose the integer ids are in the tables that have got the archive's rows with their numbers.
///
/// # Errors
/// As [`numbered`].
pub async fn note_numbers(
    plan: &Plan,
    loading: &mut dyn Loading,
    batch: &mut BatchNumbers,
) -> Result<()> {
    if !plan.has_numbers() {
        return Ok(());
    }
    let now = loading.keys().table_numbers().await?;
    for stream in plan.numbered_streams().filter(|stream| !stream.is_renumbered()) {
        let Some(found) = now.get(stream.table).cloned().flatten() else { continue };
        let found = in_batch(found, &stream.table_name, batch);
        if let Some(numbers) = plan.numbers_after(stream, found.greatest)
            && numbers != found.numbers
        {
            batch.insert(stream.table_name.clone(), numbers);
        }
    }
    Ok(())
}
