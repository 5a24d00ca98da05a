//! The ids that rows of a target have already: they are registered before any row is mapped.

use super::keys::KeyMapper;
use crate::error::Result;
use crate::load::{ExistingKeys, KeysOf};
use crate::plan::{ColumnPlan, IdRule, Ids, Plan};
use crate::sidecar::{NAMELESS, kept_reference};

/// Registers the ids that the rows of a target have.
///
/// # Errors
/// If the target or the temporary file cannot be read.
pub async fn load_existing_keys(keys: &mut KeyMapper, target: &mut dyn ExistingKeys) -> Result<()> {
    for (ids, of) in numbered(keys.plan()) {
        let mut last = None;
        loop {
            let existing = target.existing_keys(&of, last).await?;
            for (original, id) in &existing {
                keys.register(&ids, original.as_deref(), *id, of.refers.is_some())?;
            }
            let Some((_, id)) = existing.last() else { break };
            last = Some(*id);
        }
    }
    for (ids, origin) in mapped(keys.plan(), |rule| rule == IdRule::Uuid) {
        let spellings = target.existing_uuid_spellings(ids.table, origin.as_deref()).await?;
        for (original, id) in spellings {
            keys.register_spelling(&ids, &original, id)?;
        }
    }
    Ok(())
}

/// The tables whose ids are mapped by a rule. With each, the name under which the ids that rows had
/// before are stored in the sidecar.
fn mapped(plan: &Plan, by: impl Fn(IdRule) -> bool) -> Vec<(Ids, Option<String>)> {
    let mut found: Vec<(Ids, Option<String>)> = Vec::new();
    for column in plan.tables().flat_map(|(_, table)| &table.columns) {
        if let Some(ids) = column.ids.as_ref().filter(|i| by(i.rule))
            && !found.iter().any(|(other, _)| other.table == ids.table)
        {
            let own = plan.tables().find(|(_, table)| table.table == ids.table);
            let origin = own.and_then(|(_, table)| table.origin.clone());
            found.push((ids.clone(), origin));
        }
    }
    found
}

/// The tables whose ids become numbers, with the columns that hold those in use: the keys of rows, and
/// references to rows that may not exist.
fn numbered(plan: &Plan) -> Vec<(Ids, KeysOf)> {
    let mut found = Vec::new();
    for (ids, origin) in mapped(plan, IdRule::gives_integers) {
        let of = ids.table;
        let kept_as = [NAMELESS.to_owned()].into_iter().chain(origin).collect();
        found.push((ids.clone(), KeysOf { table: of, refers: None, kept_as }));
        for (_, table) in plan.tables() {
            let refers =
                |c: &&ColumnPlan| c.ids.as_ref().is_some_and(|ids| !ids.own && ids.table == of);
            found.extend(table.columns.iter().filter(refers).map(|column| {
                let kept_as = vec![kept_reference(&column.name)];
                let refers = Some(column.target);
                (ids.clone(), KeysOf { table: table.table, refers, kept_as })
            }));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Catalog, ColumnType};
    use crate::plan::testing::{accounts_and_notes, planned, stream};
    use crate::policy::PlanOptions;
    use chronicle_archive::Kind;

    /// The same tables with numbers as ids.
    fn with_numbers() -> Catalog {
        let mut catalog = accounts_and_notes();
        for column in catalog.tables.iter_mut().flat_map(|t| &mut t.columns) {
            if column.ty == ColumnType::Uuid {
                column.ty = ColumnType::Int(8);
            }
        }
        catalog
    }

    #[test]
    fn keys_and_references_of_numbered_tables_are_asked_for() {
        let accounts = stream("accounts", &[("id", Kind::Text)]);
        let notes = stream("notes", &[("id", Kind::Text), ("account_id", Kind::Text)]);
        let plan = planned(&[accounts, notes], &with_numbers(), PlanOptions::default());
        let columns: Vec<_> =
            numbered(&plan).into_iter().map(|(of, k)| (of.table, k.table, k.refers)).collect();
        assert_eq!(columns, [(0, 0, None), (0, 2, Some(1)), (2, 2, None)]);
        assert!(mapped(&plan, |rule| rule == IdRule::Uuid).is_empty());
    }
}
