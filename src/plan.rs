//! The plan of an import: which column of the archive goes where and how, decided from plain
//! values before any row is read.

use crate::archive::Origin;
use crate::error::{Code, Error, Result};
use crate::layout::{self, Backend, Role};
use crate::record::{Column, Kind, Stream};
use crate::target::{Catalog, TargetColumn, TargetTable, TargetType};
use crate::time::{Naive, parse_zone};

/// What becomes of a value that the target cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnrepresentable {
    /// It stops the import.
    #[default]
    Fail,
    /// Its portable form is loaded instead and counted.
    Adapt,
}

/// How local times without a zone are read where the target needs instants.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum AssumeZone {
    /// They stop the import.
    #[default]
    Refuse,
    /// In the zone that the archive hints at.
    Archive,
    /// In this zone.
    Zone(Naive),
}

impl AssumeZone {
    /// Reads what follows `--assume-tz`.
    pub fn parse(text: &str) -> Result<AssumeZone> {
        if text.eq_ignore_ascii_case("archive") {
            return Ok(AssumeZone::Archive);
        }
        parse_zone(text).map(AssumeZone::Zone).ok_or_else(|| {
            Error::new(Code::Usage, format!("--assume-tz: \"{text}\" is no time zone")).hint(
                "name one like Europe/Berlin, UTC or +02:00, or say `archive` to take the zone of \
                 the machine that exported",
            )
        })
    }
}

/// What the user decides about values.
#[derive(Debug, Clone, Copy, Default)]
pub struct PlanOptions {
    /// Values that the target cannot hold.
    pub on_unrepresentable: OnUnrepresentable,
    /// Local times without a zone.
    pub assume_zone: AssumeZone,
}

/// Where a column goes.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    /// Its position in the archive's records.
    pub source: usize,
    /// Its position in the target's table.
    pub target: usize,
    /// Its logical name.
    pub name: String,
    /// What the archive holds.
    pub kind: Kind,
    /// What the target can hold.
    pub ty: TargetType,
    /// How texts without a zone are read.
    pub naive: Naive,
    /// Whether the target refuses NULL.
    pub not_null: bool,
    /// Whether it is part of the key.
    pub key: bool,
}

/// Where a stream goes.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// Its name.
    pub stream: String,
    /// The position of the target's table.
    pub table: usize,
    /// The name of the target's table.
    pub table_name: String,
    /// The columns that travel.
    pub columns: Vec<ColumnPlan>,
    /// The key among them.
    pub key: Vec<usize>,
    /// Columns of the archive that the target lacks and can do without.
    pub dropped: Vec<String>,
    /// Columns of the target that the archive lacks: the database fills them.
    pub defaulted: Vec<String>,
}

/// Where everything goes. The loading code obeys it and decides nothing of its own.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The streams, in the order of the archive.
    pub streams: Vec<StreamPlan>,
    /// What the user decided about values.
    pub options: PlanOptions,
    /// The zone that the archive hints at, for messages.
    pub zone_hint: Option<String>,
}

/// Joins the streams of an archive to the tables of a target.
///
/// # Errors
/// Every stream and column that has no place, at once.
pub fn plan(
    origin: &Origin,
    streams: &[Stream],
    catalog: &Catalog,
    options: PlanOptions,
) -> Result<Plan> {
    let naive = match options.assume_zone {
        AssumeZone::Refuse => Naive::Refuse,
        AssumeZone::Zone(zone) => zone,
        AssumeZone::Archive => {
            origin.time_zone.as_deref().and_then(parse_zone).ok_or_else(|| {
                Error::new(Code::Plan, "the archive does not say in which time zone it was made")
                    .hint("name the zone: --assume-tz Europe/Berlin")
            })?
        }
    };
    let mut problems = Vec::new();
    let mut plans = Vec::new();
    for stream in streams {
        match table_for(stream, catalog) {
            Some(table) => {
                plans.push(plan_stream(stream, table, catalog, naive, &mut problems)?);
            }
            None => problems.push(format!("{}: the target has no table for it", stream.name)),
        }
    }
    if problems.is_empty() {
        return Ok(Plan { streams: plans, options, zone_hint: origin.time_zone.clone() });
    }
    Err(Error::new(
        Code::Plan,
        format!(
            "the archive does not fit {}; nothing was changed:\n  {}",
            catalog.layout,
            problems.join("\n  ")
        ),
    )
    .hint("import it into a database of the layout it came from, or of one that has these columns"))
}

/// The target's table of the same name, else the only one of the same role.
fn table_for(stream: &Stream, catalog: &Catalog) -> Option<usize> {
    let tables = &catalog.tables;
    if let Some(same) = tables.iter().position(|t| t.stream == stream.name) {
        return Some(same);
    }
    let role = role_of(stream)?;
    let mut of_role = tables.iter().enumerate().filter(|(_, t)| t.role == role);
    match (of_role.next(), of_role.next()) {
        (Some((table, _)), None) => Some(table),
        _ => None,
    }
}

/// What the rows of a stream are: by its name, else as the layouts that know it say.
fn role_of(stream: &Stream) -> Option<Role> {
    known_streams().into_iter().find(|s| s.name == stream.name).map(|s| s.role)
}

fn known_streams() -> Vec<layout::LayoutStream> {
    [Backend::Sqlite, Backend::Postgres]
        .into_iter()
        .flat_map(|backend| layout::all(backend).unwrap_or_default())
        .flat_map(|layout| layout.streams)
        .collect()
}

fn plan_stream(
    stream: &Stream,
    table: usize,
    catalog: &Catalog,
    naive: Naive,
    problems: &mut Vec<String>,
) -> Result<StreamPlan> {
    let target = &catalog.tables[table];
    let mut plan = StreamPlan {
        stream: stream.name.clone(),
        table,
        table_name: target.name.clone(),
        columns: Vec::new(),
        key: Vec::new(),
        dropped: Vec::new(),
        defaulted: Vec::new(),
    };
    for (source, column) in stream.columns.iter().enumerate() {
        match target.columns.iter().position(|c| same_name(&c.name, &column.name)) {
            Some(place) => {
                let to = &target.columns[place];
                if !possible(column.kind, &to.ty) {
                    problems.push(impossible(stream, column, target, to));
                }
                let zoneless = if column.utc { Naive::Utc } else { naive };
                let key = target.key.contains(&place);
                plan.columns.push(ColumnPlan {
                    source,
                    target: place,
                    name: column.name.clone(),
                    kind: column.kind,
                    ty: to.ty.clone(),
                    naive: zoneless,
                    not_null: to.not_null,
                    key,
                });
            }
            None if derived(stream, column) => plan.dropped.push(column.name.clone()),
            None => problems.push(format!(
                "{}: {} has no column for \"{}\"",
                stream.name, target.name, column.name
            )),
        }
    }
    for (place, column) in target.columns.iter().enumerate() {
        if plan.columns.iter().any(|c| c.target == place) {
            continue;
        }
        if column.not_null && !column.has_default {
            problems.push(format!(
                "{}: {} needs \"{}\", which the archive lacks",
                stream.name, target.name, column.name
            ));
        }
        plan.defaulted.push(column.name.clone());
    }
    for key in &target.key {
        match plan.columns.iter().position(|c| c.target == *key) {
            Some(position) => plan.key.push(position),
            None => problems.push(format!("{}: the archive lacks the key", stream.name)),
        }
    }
    Ok(plan)
}

/// SQLite compares names without regard to case, so do we.
fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Whether a column can be made anew from the rest, as any layout says.
fn derived(stream: &Stream, column: &Column) -> bool {
    known_streams().iter().any(|s| s.name == stream.name && s.is_derived(&column.name))
}

/// Whether any value of a kind can go into a type; each value is looked at on its own later.
fn possible(kind: Kind, ty: &TargetType) -> bool {
    match ty {
        TargetType::Sqlite(_) | TargetType::Text(_) | TargetType::Cast(_) => true,
        TargetType::Uuid => matches!(kind, Kind::Uuid | Kind::Text),
        TargetType::Int(_) => kind == Kind::Int,
        TargetType::Float(_) => matches!(kind, Kind::Real | Kind::Int),
        TargetType::Bool => matches!(kind, Kind::Bool | Kind::Int),
        TargetType::Timestamptz => matches!(kind, Kind::Time | Kind::Text),
        TargetType::Json | TargetType::Jsonb => {
            matches!(kind, Kind::Json | Kind::Jsonb | Kind::Text)
        }
        TargetType::Bytea => matches!(kind, Kind::Bytes),
    }
}

fn impossible(
    stream: &Stream,
    column: &Column,
    table: &TargetTable,
    target: &TargetColumn,
) -> String {
    format!(
        "{}: \"{}\" is {} in the archive and {} in {}",
        stream.name,
        column.name,
        column.kind.word(),
        target.ty.name(),
        table.name
    )
}
