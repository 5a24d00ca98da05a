//! Small archives and catalogs for the tests of the plan and of what obeys it.

use super::fit::text_column;
use super::{Plan, plan};
use crate::catalog::{Backend, Catalog, CatalogColumn, CatalogTable, ColumnType, Reference, Role};
use crate::policy::PlanOptions;
use chronicle_archive::{Column, Kind, Origin, Stream};

pub(crate) fn column(name: &str, kind: Kind) -> Column {
    Column { kind, ..text_column(name) }
}

/// A stream of these columns whose first is the key.
pub(crate) fn stream(name: &str, columns: &[(&str, Kind)]) -> Stream {
    Stream {
        name: name.into(),
        table: name.into(),
        columns: columns.iter().map(|(name, kind)| column(name, *kind)).collect(),
        key: vec![0],
        order: vec![],
    }
}

pub(crate) fn to(name: &str, ty: ColumnType) -> CatalogColumn {
    CatalogColumn::of_type(name, ty)
}

pub(crate) fn required(name: &str, ty: ColumnType) -> CatalogColumn {
    CatalogColumn { not_null: true, ..to(name, ty) }
}

/// A table for the stream of this name, with its first column as the key.
pub(crate) fn table(stream: &str, role: &str, columns: Vec<CatalogColumn>) -> CatalogTable {
    CatalogTable {
        computed: Vec::new(),
        name: format!("the_{stream}"),
        stream: stream.into(),
        role: Role(role.into()),
        time: None,
        changed: None,
        stored: None,
        numbers: None,
        adoptable: false,
        fold: columns.iter().position(|c| c.ty == ColumnType::Jsonb),
        columns,
        key: vec![0],
        references: vec![],
        origin: None,
        batch: None,
    }
}

pub(crate) fn refers(columns: &[usize], table: usize, parent_columns: &[usize]) -> Reference {
    Reference {
        columns: columns.to_vec(),
        table,
        parent_columns: parent_columns.to_vec(),
        enforced: true,
    }
}

pub(crate) fn catalog(tables: Vec<CatalogTable>) -> Catalog {
    Catalog::new(Backend::Postgres, "test".into(), tables)
}

pub(crate) fn from(backend: &str) -> Origin {
    Origin { backend: backend.into(), ..Origin::default() }
}

/// Streams of a SQLite file on their way into a catalog of Postgres.
pub(crate) fn planned(streams: &[Stream], catalog: &Catalog, options: PlanOptions) -> Plan {
    plan(&from("sqlite"), streams, catalog, options).unwrap()
}

/// Accounts with UUIDs as keys, notes that refer to them, and members whose key has two columns.
pub(crate) fn accounts_and_notes() -> Catalog {
    let accounts = vec![required("id", ColumnType::Uuid), to("info", ColumnType::Jsonb)];
    let notes = vec![
        required("id", ColumnType::Uuid),
        to("account_id", ColumnType::Uuid),
        to("text", ColumnType::Text(None)),
        to("position", ColumnType::Int(8)),
    ];
    let members = vec![
        required("account_id", ColumnType::Uuid),
        required("position", ColumnType::Int(8)),
        to("name", ColumnType::Text(None)),
    ];
    let mut notes = table("notes", Role::SIDE, notes);
    let mut members = table("members", Role::SIDE, members);
    members.key = vec![0, 1];
    members.references.push(refers(&[0], 0, &[0]));
    notes.references.push(refers(&[1], 0, &[0]));
    notes.references.push(refers(&[1, 3], 1, &[0, 1]));
    catalog(vec![table("accounts", Role::SIDE, accounts), members, notes])
}

/// The streams that go into [`accounts_and_notes`], with numbers as ids.
pub(crate) fn numbered_streams() -> Vec<Stream> {
    let accounts = stream("accounts", &[("id", Kind::Int), ("info", Kind::Json)]);
    let members = stream(
        "members",
        &[("account_id", Kind::Int), ("position", Kind::Int), ("name", Kind::Text)],
    );
    let notes = [
        ("id", Kind::Int),
        ("account_id", Kind::Int),
        ("text", Kind::Text),
        ("position", Kind::Int),
    ];
    vec![accounts, Stream { key: vec![0, 1], ..members }, stream("notes", &notes)]
}
