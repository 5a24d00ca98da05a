//! The plan of an import: which column of the archive goes where and how, decided from plain
//! values before any row is read.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::catalog::{
    Affinity, Backend, Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Role,
};
use crate::error::{Code, Error, Result};
use crate::layout::{ORIGINS, all, known_stream, known_streams, origin_word};
use crate::policy::{AssumeZone, EventTypes, OnMissingColumn, OnUnrepresentable, PlanOptions};
use chronicle_archive::time::{ZoneRule, parse_zone};
use chronicle_archive::{Column, Kind, Origin, Stream, TimeText};

/// Where the value of a column comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnSource {
    /// A column of the archive, by its position.
    Column(usize),
    /// The text of a column of the archive that has another name.
    TextOf(usize),
    /// Always the same text.
    Text(String),
}

/// How ids of one kind become ids of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdRule {
    /// They stay; a text is spelled as it was.
    Keep,
    /// A UUID: the same one if the id is one, else one made from the id and where it comes from.
    Uuid,
    /// An integer: the one it had before if that is free, else the next one.
    Integer,
}

/// What a column of ids is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ids {
    /// The stream whose rows the ids name.
    pub of: String,
    /// The target's table of that stream.
    pub table: usize,
    /// How they are mapped.
    pub rule: IdRule,
    /// Whether they name the rows of this stream, not of another one.
    pub own: bool,
}

/// Where a column goes.
#[derive(Debug, Clone)]
pub struct ColumnPlan {
    /// Where its value comes from.
    pub taken: ColumnSource,
    /// Its position in the target's table.
    pub target: usize,
    /// Its logical name.
    pub name: String,
    /// What the archive holds.
    pub kind: Kind,
    /// Whether the archive holds instants as text.
    pub instant: bool,
    /// What the target can hold.
    pub ty: ColumnType,
    /// How texts without a zone are read.
    pub zone_rule: ZoneRule,
    /// Whether the target refuses NULL.
    pub not_null: bool,
    /// Whether it is part of the key.
    pub key: bool,
    /// The rule of the target for its values.
    pub check: Option<CheckConstraint>,
    /// What stands there in the place of NULL where the target refuses it.
    pub default: Option<ColumnSource>,
    /// If it holds ids.
    pub ids: Option<Ids>,
    /// If it is the type of an event: how it is mapped.
    pub event_type: Option<EventTypes>,
}

/// What becomes of a column of the archive that the target lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It can be made anew from the rest.
    Derived,
    /// The first value in it stops the import; where there is none, nothing is lost.
    Refused,
    /// Its values are lost, and counted.
    Dropped,
    /// Its values are kept under the reserved key of the JSON column, or beside the row.
    Folded,
    /// Its values are ids that rows had before: they are always kept beside the row.
    Kept,
}

/// A column of the archive that the target lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its position in the archive's records.
    pub source: usize,
    /// Its name.
    pub name: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of the rows of a stream that the target has no table for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmapped {
    /// The first one stops the import; a stream without rows needs no table.
    Fail,
    /// They are lost, and counted.
    Drop,
    /// They are kept in our own table, and an export of the target gives them back.
    Sidecar,
}

/// Where a stream goes.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// Its name.
    pub stream: String,
    /// What its rows are.
    pub role: Role,
    /// What becomes of its rows if the target has no table for it; nothing else of the plan is then
    /// about a table.
    pub unmapped: Option<Unmapped>,
    /// The position of the target's table.
    pub table: usize,
    /// The name of the target's table, or what our own table calls a stream without one.
    pub table_name: String,
    /// What the archive holds, as it says itself.
    pub source: Stream,
    /// The columns that are written.
    pub columns: Vec<ColumnPlan>,
    /// The key among them.
    pub key: Vec<usize>,
    /// The columns of the archive that the target lacks.
    pub missing: Vec<Missing>,
    /// The columns that the table gets, those of earlier streams that go into it first.
    pub added: Vec<CatalogColumn>,
    /// Columns of the target that the archive lacks: the database fills them.
    pub defaulted: Vec<String>,
    /// The JSON column that carries what has no column, among those that are written.
    pub fold: Option<usize>,
    /// The column of the archive with the id that a row had in a database like the target.
    pub former_id: Option<usize>,
    /// The columns that are original_columns beside the rows, with their places in the archive.
    pub original_columns: Vec<(usize, Column)>,
    /// The name under which the id that a row has in the archive is kept, if the target has no
    /// column for it.
    pub origin: Option<String>,
    /// Whether anything is kept beside the rows.
    pub remembers: bool,
    /// The position of the plan whose second copies these are: of its rows, those whose id another
    /// stream has brought into the same table before.
    pub duplicate_of: Option<usize>,
}

/// Which rows have no place in any table: those of a stream without one.
const NO_TABLE: &str = "the target has no table for it";
/// Which rows have no place in any table: those of a stream that shares one.
const SECOND: &str = "a row whose id another stream brings into the same table, too";

impl StreamPlan {
    /// The plan of every column that is not taken as it is, in words; one line says how many are.
    pub fn lines(&self) -> Vec<String> {
        if let Some(unmapped) = self.unmapped {
            let (rows, fate) = match (self.duplicate_of, unmapped) {
                (None, Unmapped::Fail) => (NO_TABLE, "any row of it stops the import"),
                (None, Unmapped::Drop) => (NO_TABLE, "its rows are lost"),
                (None, Unmapped::Sidecar) => (NO_TABLE, "its rows are kept in our own table"),
                (Some(_), Unmapped::Fail) => {
                    (SECOND, "left out if nothing is lost, else it stops the import")
                }
                (Some(_), Unmapped::Drop) => (SECOND, "lost"),
                (Some(_), Unmapped::Sidecar) => (SECOND, "kept in our own table"),
            };
            return vec![format!("{rows}: {fate}")];
        }
        let mut lines: Vec<String> = self.columns.iter().filter_map(ColumnPlan::line).collect();
        let direct = self.columns.len() - lines.len();
        lines.insert(0, format!("{direct} columns as they are"));
        for missing in &self.missing {
            let fate = match missing.fate {
                Fate::Derived => "left out: it can be made anew from the rest",
                Fate::Refused => {
                    "any value in it stops the import: the target has no column for it"
                }
                Fate::Dropped => "lost: the target has no column for it",
                Fate::Folded => "kept with its row: the target has no column for it",
                Fate::Kept => "kept with its row",
            };
            lines.push(format!("{}: {fate}", missing.name));
        }
        lines.extend(self.added.iter().map(|a| format!("{}: the target gets the column", a.name)));
        lines.extend(self.defaulted.iter().map(|name| {
            format!("{name}: the archive lacks it, the target's default stands there")
        }));
        lines
    }
}

impl ColumnPlan {
    /// How the column is filled, in words; None if its values are taken as they are.
    fn line(&self) -> Option<String> {
        let how = match (&self.taken, self.ids.as_ref().map(|ids| ids.rule)) {
            (ColumnSource::TextOf(_), _) => "made from another column".into(),
            (ColumnSource::Text(text), _) => format!("always \"{text}\""),
            (ColumnSource::Column(_), Some(IdRule::Uuid)) => {
                format!("{} to uuid; what is no UUID becomes one made from it", self.kind.word())
            }
            (ColumnSource::Column(_), Some(IdRule::Integer)) => {
                format!("{} to numbers", self.kind.word())
            }
            (ColumnSource::Column(_), _) if self.event_type == Some(EventTypes::Upstream) => {
                "old types become those of today".into()
            }
            (ColumnSource::Column(_), _) if self.converts() => {
                format!("{} to {}", self.kind.word(), self.ty.name())
            }
            (ColumnSource::Column(_), _) => return None,
        };
        Some(format!("{}: {how}", self.name))
    }

    /// Whether values are of another type in the target.
    fn converts(&self) -> bool {
        !matches!(
            (self.kind, &self.ty),
            (Kind::Uuid, ColumnType::Uuid)
                | (Kind::Time, ColumnType::Timestamptz)
                | (Kind::Int, ColumnType::Int(_))
                | (Kind::Real, ColumnType::Float(_))
                | (Kind::Bool, ColumnType::Bool)
                | (Kind::Bytes, ColumnType::Bytea)
                | (Kind::Json, ColumnType::Json)
                | (Kind::Jsonb, ColumnType::Jsonb)
                | (Kind::Text, ColumnType::Text(_))
                | (_, ColumnType::Cast(_))
                | (
                    Kind::Text
                        | Kind::Json
                        | Kind::Jsonb
                        | Kind::Int
                        | Kind::Real
                        | Kind::Bytes
                        | Kind::Numeric
                        | Kind::Other
                        | Kind::Date,
                    ColumnType::Sqlite(_)
                )
        )
    }
}

impl Plan {
    /// Whether an export of the target needs to know the columns of the archive, even if nothing is
    /// kept beside any row.
    pub fn keeps_columns(&self) -> bool {
        let folds = |s: &StreamPlan| s.missing.iter().any(|m| m.fate == Fate::Folded);
        self.options.on_unrepresentable == OnUnrepresentable::Preserve
            || self.streams.iter().any(folds)
    }

    /// Whether rows may refer to rows of a stream.
    pub fn is_referenced(&self, stream: &str) -> bool {
        let refers = |c: &ColumnPlan| c.ids.as_ref().is_some_and(|i| !i.own && i.of == stream);
        self.streams.iter().flat_map(|s| &s.columns).any(refers)
    }

    /// The position of the plan for second copies of a stream's rows, if there can be any.
    pub fn duplicates(&self, stream: usize) -> Option<usize> {
        self.streams.iter().position(|s| s.duplicate_of == Some(stream))
    }

    /// The position of the first stream that goes into the same table as this one.
    pub fn first_into_table(&self, stream: usize) -> Option<usize> {
        let table = self.streams[stream].table;
        self.streams.iter().position(|s| s.unmapped.is_none() && s.table == table)
    }
}

/// Where everything goes. The loading code obeys it and decides nothing of its own.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The streams, in the order of the archive; behind them what becomes of second copies.
    pub streams: Vec<StreamPlan>,
    /// What the user decided about values.
    pub options: PlanOptions,
    /// The name of the database that the archive's ids are of.
    pub instance: Uuid,
    /// The name of the target, if it is known.
    pub home: Option<Uuid>,
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
    let zone_rule = zone(origin, options.assume_zone)?;
    let mut joiner = Joiner {
        origin,
        catalog,
        options,
        zone_rule,
        problems: Vec::new(),
        grown: BTreeMap::new(),
    };
    let mut plans: Vec<StreamPlan> =
        streams.iter().filter_map(|stream| joiner.stream(stream)).collect();
    plans.extend(joiner.duplicates(&plans));
    if joiner.problems.is_empty() {
        let told = origin.instance.as_deref().and_then(|text| Uuid::parse_str(text).ok());
        return Ok(Plan {
            streams: plans,
            options,
            instance: options.instance.or(told).unwrap_or(Uuid::nil()),
            home: catalog.instance,
            zone_hint: origin.time_zone.clone(),
        });
    }
    let error = Error::new(
        Code::Plan,
        format!(
            "the archive does not fit {}; nothing was changed:\n  {}",
            catalog.layout,
            joiner.problems.join("\n  ")
        ),
    );
    Err(error.hint(
        "import it into a database of the layout it came from, or of one that has room for it",
    ))
}

fn zone(origin: &Origin, assume: AssumeZone) -> Result<ZoneRule> {
    match assume {
        AssumeZone::Refuse => Ok(ZoneRule::Refuse),
        AssumeZone::Zone(zone) => Ok(zone),
        AssumeZone::Archive => origin.time_zone.as_deref().and_then(parse_zone).ok_or_else(|| {
            Error::new(Code::Plan, "the archive does not say in which time zone it was made")
                .hint("name the zone: --assume-tz Europe/Berlin")
        }),
    }
}

/// The target's table of the same name, else the only one of the same role.
pub fn table_for(stream: &Stream, catalog: &Catalog) -> Option<usize> {
    let tables = &catalog.tables;
    if let Some(same) = tables.iter().position(|t| t.stream == stream.name) {
        return Some(same);
    }
    let role = role_of(stream).filter(Role::is_shared)?;
    let mut of_role = tables.iter().enumerate().filter(|(_, t)| t.role == role);
    match (of_role.next(), of_role.next()) {
        (Some((table, _)), None) => Some(table),
        _ => None,
    }
}

/// What the rows of a stream are: by its name, as the layouts that know it say.
fn role_of(stream: &Stream) -> Option<Role> {
    known_stream(&stream.name).map(|s| s.role)
}

/// Joins one stream after the other and collects what does not fit.
struct Joiner<'a> {
    origin: &'a Origin,
    catalog: &'a Catalog,
    options: PlanOptions,
    zone_rule: ZoneRule,
    problems: Vec<String>,
    /// By table, the columns that it gets for the streams so far.
    grown: BTreeMap<usize, Vec<CatalogColumn>>,
}

impl Joiner<'_> {
    fn stream(&mut self, stream: &Stream) -> Option<StreamPlan> {
        let Some(place) = table_for(stream, self.catalog) else {
            return self.unmapped(stream);
        };
        let table = &self.catalog.tables[place];
        let mut plan = StreamPlan {
            stream: stream.name.clone(),
            role: table.role.clone(),
            unmapped: None,
            table: place,
            table_name: table.name.clone(),
            source: stream.clone(),
            columns: Vec::new(),
            key: Vec::new(),
            missing: Vec::new(),
            // another stream may bring the same ones into the same table
            added: self.grown.get(&place).cloned().unwrap_or_default(),
            defaulted: Vec::new(),
            fold: None,
            former_id: self.former_id(stream, table),
            original_columns: Vec::new(),
            origin: None,
            remembers: false,
            duplicate_of: None,
        };
        for source in 0..stream.columns.len() {
            self.column(&mut plan, table, source);
        }
        for target in 0..table.columns.len() {
            if !plan.columns.iter().any(|c| c.target == target) {
                self.absent(&mut plan, table, target);
            }
        }
        for key in &table.key {
            match plan.columns.iter().position(|c| c.target == *key) {
                Some(position) => plan.key.push(position),
                None => self.problems.push(format!("{}: the archive lacks the key", stream.name)),
            }
        }
        plan.fold = plan.columns.iter().position(|c| Some(c.target) == table.fold);
        self.remember(&mut plan, table);
        self.grown.insert(place, plan.added.clone());
        Some(plan)
    }

    /// The plan of a stream that the target has no table for.
    fn unmapped(&mut self, stream: &Stream) -> Option<StreamPlan> {
        let role = role_of(stream).unwrap_or_else(|| Role(Role::SIDE.into()));
        if self.options.on_missing_column == OnMissingColumn::Fail && role.is_shared() {
            self.problems.push(format!("{}: {NO_TABLE}", stream.name));
            return None;
        }
        Some(self.without_table(stream, role))
    }

    /// The plans for rows whose id another stream brings into the same table, too: a table has no
    /// room for two rows with one id.
    fn duplicates(&self, plans: &[StreamPlan]) -> Vec<StreamPlan> {
        let shares = |plan: &StreamPlan, before: &[StreamPlan]| {
            plan.unmapped.is_none()
                && before.iter().any(|b| b.unmapped.is_none() && b.table == plan.table)
        };
        (plans.iter().enumerate())
            .filter(|(n, plan)| shares(plan, &plans[..*n]))
            .map(|(n, plan)| StreamPlan {
                duplicate_of: Some(n),
                ..self.without_table(&plan.source, plan.role.clone())
            })
            .collect()
    }

    /// The plan of rows that stand in no table, or in our own.
    fn without_table(&self, stream: &Stream, role: Role) -> StreamPlan {
        let (unmapped, fate) = match self.options.on_missing_column {
            OnMissingColumn::Fail => (Unmapped::Fail, Fate::Dropped),
            OnMissingColumn::Drop => (Unmapped::Drop, Fate::Dropped),
            OnMissingColumn::Fold | OnMissingColumn::Add => (Unmapped::Sidecar, Fate::Folded),
        };
        let columns = stream.columns.iter().enumerate();
        let original_columns = match unmapped {
            Unmapped::Sidecar => columns.clone().map(|(n, c)| (n, c.clone())).collect(),
            Unmapped::Fail | Unmapped::Drop => Vec::new(),
        };
        StreamPlan {
            stream: stream.name.clone(),
            role,
            unmapped: Some(unmapped),
            table: 0,
            table_name: format!("{}{}", crate::sidecar::UNMAPPED_PREFIX, stream.name),
            source: stream.clone(),
            columns: Vec::new(),
            key: Vec::new(),
            missing: columns
                .map(|(source, c)| Missing { source, name: c.name.clone(), fate })
                .collect(),
            added: Vec::new(),
            defaulted: Vec::new(),
            fold: None,
            former_id: None,
            remembers: !original_columns.is_empty(),
            original_columns,
            origin: None,
            duplicate_of: None,
        }
    }

    /// Decides what is original_columns of the archive beside the rows.
    fn remember(&self, plan: &mut StreamPlan, table: &CatalogTable) {
        let preserves = self.options.on_unrepresentable == OnUnrepresentable::Preserve;
        let source = &plan.source.columns;
        for (place, column) in source.iter().enumerate() {
            let fate = plan.missing.iter().find(|m| m.source == place).map(|m| m.fate);
            let travels = plan.columns.iter().any(|c| c.taken == ColumnSource::Column(place));
            let wanted = match fate {
                Some(Fate::Folded | Fate::Kept) => true,
                Some(Fate::Derived | Fate::Dropped | Fate::Refused) => false,
                // it may not be the one that the row gets back
                None => (preserves && travels) || plan.former_id == Some(place),
            };
            if wanted {
                plan.original_columns.push((place, original_columns(plan, place, column)));
            }
        }
        // a row that gets back the id it had before has another one in the archive, too
        let restored = plan.former_id.is_some();
        let mapped = |c: &ColumnPlan| {
            c.ids.as_ref().is_some_and(|ids| ids.own && (restored || ids.rule != IdRule::Keep))
        };
        if plan.columns.iter().any(mapped) && !self.keeps_origin(table) {
            let name = format!("original_{}_id", self.origin.name_of_backend());
            if plan.source.column(&name).is_none() {
                plan.original_columns.push((source.len(), text_column(&name)));
            }
            plan.origin = Some(name);
        }
        plan.remembers =
            !plan.original_columns.is_empty() || plan.columns.iter().any(|c| made_key(c, table));
    }

    /// Whether the target itself keeps the id that a row of the archive has.
    fn keeps_origin(&self, table: &CatalogTable) -> bool {
        table.origin.is_some() && self.origin.backend != self.catalog.backend.word()
    }

    /// The column with the id that a row had in a database like the target, before it went where
    /// the archive was made.
    fn former_id(&self, stream: &Stream, table: &CatalogTable) -> Option<usize> {
        let word = self.catalog.backend.word();
        let number =
            |stream: &Stream| matches!(stream.key[..], [k] if stream.columns[k].kind == Kind::Int);
        let numbered = matches!(
            table.key.first().map(|k| &table.columns[*k].ty),
            Some(ColumnType::Int(_) | ColumnType::Sqlite(Affinity::Numeric))
        );
        let own = format!("original_{}_id", origin_word(self.catalog.backend));
        let others = || self.origins().into_iter().filter(|name| !ORIGINS.contains(&name.as_str()));
        let names: Vec<String> = match (self.origin.backend == word, number(stream) == numbered) {
            (false, _) => std::iter::once(own).chain(others()).collect(),
            // from numbers to texts and back, within one kind of database
            (true, false) => vec![own],
            (true, true) => return None,
        };
        names.iter().find_map(|name| stream.column(name))
    }

    /// The names of the columns that keep ids which rows had before.
    fn origins(&self) -> Vec<String> {
        known_streams()
            .into_iter()
            .filter_map(|s| s.origin)
            .chain(ORIGINS.map(Into::into))
            .collect()
    }

    /// Finds the place of a column of the archive.
    fn column(&mut self, plan: &mut StreamPlan, table: &CatalogTable, source: usize) {
        let column = &plan.source.columns[source];
        let found = table.columns.iter().position(|c| same_name(&c.name, &column.name));
        let Some(place) = found else {
            self.missing(plan, table, source);
            return;
        };
        let planned =
            self.planned(&plan.source, table, place, ColumnSource::Column(source), column);
        let to = &table.columns[place];
        let mapped = planned.ids.as_ref().is_some_and(|ids| ids.rule != IdRule::Keep);
        if !mapped && !possible(column.kind, &to.ty) {
            self.problems.push(impossible(&plan.source, column, table, to));
        }
        plan.columns.push(planned);
    }

    fn planned(
        &self,
        stream: &Stream,
        table: &CatalogTable,
        place: usize,
        taken: ColumnSource,
        column: &Column,
    ) -> ColumnPlan {
        let to = &table.columns[place];
        ColumnPlan {
            taken,
            target: place,
            name: to.name.clone(),
            kind: column.kind,
            instant: column.time_text.is_time(),
            ty: to.ty.clone(),
            zone_rule: if column.time_text == TimeText::Utc {
                ZoneRule::Utc
            } else {
                self.zone_rule
            },
            not_null: to.not_null,
            key: table.key.contains(&place),
            check: to.check.clone(),
            default: match (to.not_null, &stream.key[..]) {
                (true, _) => made(stream, to),
                // a row that has no id of before has had this one
                (false, [key]) if Some(place) == table.origin && self.keeps_origin(table) => {
                    Some(ColumnSource::TextOf(*key))
                }
                (false, _) => None,
            },
            ids: self.ids(table, place, column.kind),
            event_type: to.vocabulary.then_some(self.options.event_types),
        }
    }

    /// What the ids in a column of the target are about, if it holds any.
    fn ids(&self, table: &CatalogTable, place: usize, kind: Kind) -> Option<Ids> {
        let rule = match table.columns[place].ty {
            ColumnType::Uuid if kind != Kind::Uuid => IdRule::Uuid,
            ColumnType::Int(_) | ColumnType::Sqlite(Affinity::Numeric) if kind != Kind::Int => {
                IdRule::Integer
            }
            _ => IdRule::Keep,
        };
        let own = table.key == [place];
        let number = self.catalog.tables.iter().position(|t| t.name == table.name)?;
        let of = self.catalog.identity_of(number, place)?;
        Some(Ids { of: self.catalog.tables[of].stream.clone(), table: of, rule, own })
    }

    /// Decides about a column that the target lacks.
    fn missing(&mut self, plan: &mut StreamPlan, table: &CatalogTable, source: usize) {
        if plan.former_id == Some(source) {
            // it is used up: the row gets back the id that it had
            return;
        }
        let column = plan.source.columns[source].clone();
        let fate = match self.options.on_missing_column {
            _ if self.origins().contains(&column.name) => Fate::Kept,
            OnMissingColumn::Fold => Fate::Folded,
            OnMissingColumn::Drop => Fate::Dropped,
            OnMissingColumn::Add if self.forbids(table, &column) => Fate::Folded,
            OnMissingColumn::Add => {
                let there = plan.added.iter().position(|a| same_name(&a.physical, &column.name));
                let place = table.columns.len() + there.unwrap_or(plan.added.len());
                if there.is_none() {
                    plan.added.push(added(&column, self.catalog.backend));
                }
                let with = CatalogTable {
                    columns: [&table.columns[..], &plan.added[..]].concat(),
                    ..table.clone()
                };
                let taken = ColumnSource::Column(source);
                plan.columns.push(self.planned(&plan.source, &with, place, taken, &column));
                return;
            }
            OnMissingColumn::Fail if derived(&plan.source, &column) => Fate::Derived,
            OnMissingColumn::Fail => Fate::Refused,
        };
        plan.missing.push(Missing { source, name: column.name, fate });
    }

    /// Whether a table cannot get this column: it has one of that name that means something else, or
    /// it would be of another layout, or of none.
    fn forbids(&self, table: &CatalogTable, column: &Column) -> bool {
        if table.columns.iter().any(|c| same_name(&c.physical, &column.name)) {
            return true;
        }
        let layouts = all(self.catalog.backend).unwrap_or_default();
        (layouts.iter().filter(|l| l.title == self.catalog.layout))
            .flat_map(|l| &l.streams)
            .filter(|s| s.table == table.name)
            .any(|s| s.forbids.iter().any(|name| same_name(name, &column.name)))
    }

    /// Decides about a column of the target that the archive lacks.
    fn absent(&mut self, plan: &mut StreamPlan, table: &CatalogTable, target: usize) {
        let column = &table.columns[target];
        if Some(target) == table.origin {
            if let (true, [key]) = (self.keeps_origin(table), &plan.source.key[..]) {
                let (from, taken) = (&plan.source.columns[*key], ColumnSource::TextOf(*key));
                let planned = self.planned(&plan.source, table, target, taken, from);
                plan.columns.push(ColumnPlan { ids: None, ..planned });
            }
            return;
        }
        if !column.not_null || column.has_default {
            plan.defaulted.push(column.name.clone());
            return;
        }
        let Some(taken) = made(&plan.source, column) else {
            self.problems.push(format!(
                "{}: {} needs \"{}\", which the archive lacks",
                plan.stream, table.name, column.name
            ));
            return;
        };
        let text = text_column(&column.name);
        let planned = self.planned(&plan.source, table, target, taken, &text);
        plan.columns.push(ColumnPlan { ids: None, default: None, ..planned });
    }
}

/// A column as an export of the target gives it back: ids stay those that the target gave.
fn original_columns(plan: &StreamPlan, place: usize, column: &Column) -> Column {
    let taken = plan.columns.iter().find(|c| c.taken == ColumnSource::Column(place));
    let kind = match taken.and_then(|c| c.ids.as_ref()).map(|ids| ids.rule) {
        Some(IdRule::Integer) => Kind::Int,
        Some(IdRule::Uuid) if column.kind != Kind::Text => Kind::Uuid,
        _ => column.kind,
    };
    Column { kind, ..column.clone() }
}

/// Whether a column is not in the archive and stands in the target only because it must.
fn made_key(column: &ColumnPlan, table: &CatalogTable) -> bool {
    !matches!(column.taken, ColumnSource::Column(_)) && Some(column.target) != table.origin
}

fn text_column(name: &str) -> Column {
    Column {
        name: name.to_owned(),
        physical: name.to_owned(),
        kind: Kind::Text,
        nullable: true,
        time_text: TimeText::None,
    }
}

/// What stands in a column of the target where the archive has nothing for it.
fn made(stream: &Stream, column: &CatalogColumn) -> Option<ColumnSource> {
    let from = column.default_from.as_deref().and_then(|name| stream.column(name));
    from.map(ColumnSource::TextOf).or_else(|| column.default.clone().map(ColumnSource::Text))
}

/// The column that a target gets for one that it lacks: of a type that holds every value as it is.
fn added(column: &Column, backend: Backend) -> CatalogColumn {
    let ty = match (backend, column.kind) {
        (Backend::Sqlite, Kind::Int | Kind::Bool) => ColumnType::Sqlite(Affinity::Numeric),
        (Backend::Sqlite, Kind::Real) => ColumnType::Sqlite(Affinity::Real),
        (Backend::Sqlite, Kind::Bytes) => ColumnType::Sqlite(Affinity::Blob),
        (Backend::Sqlite, _) => ColumnType::Sqlite(Affinity::Text),
        (Backend::Postgres, Kind::Int) => ColumnType::Int(8),
        (Backend::Postgres, Kind::Real) => ColumnType::Float(8),
        (Backend::Postgres, Kind::Bool) => ColumnType::Bool,
        (Backend::Postgres, Kind::Time) => ColumnType::Timestamptz,
        (Backend::Postgres, Kind::Uuid) => ColumnType::Uuid,
        (Backend::Postgres, Kind::Bytes) => ColumnType::Bytea,
        // json keeps the text, jsonb does not
        (Backend::Postgres, Kind::Json) => ColumnType::Json,
        (Backend::Postgres, Kind::Jsonb) => ColumnType::Jsonb,
        (Backend::Postgres, Kind::Numeric | Kind::Date | Kind::Text | Kind::Other) => {
            ColumnType::Text(None)
        }
    };
    CatalogColumn {
        name: column.name.clone(),
        physical: column.name.clone(),
        ty,
        not_null: false,
        has_default: false,
        check: None,
        vocabulary: false,
        default_from: None,
        default: None,
    }
}

/// SQLite compares names without regard to case, so do we.
fn same_name(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Whether a column can be made anew from the rest, as any layout says.
pub fn derived(stream: &Stream, column: &Column) -> bool {
    known_streams().iter().any(|s| s.name == stream.name && s.is_derived(&column.name))
}

/// Whether any value of a kind can go into a type; each value is looked at on its own later.
fn possible(kind: Kind, ty: &ColumnType) -> bool {
    match ty {
        ColumnType::Sqlite(_) | ColumnType::Text(_) | ColumnType::Cast(_) => true,
        ColumnType::Uuid => matches!(kind, Kind::Uuid | Kind::Text),
        ColumnType::Int(_) => kind == Kind::Int,
        ColumnType::Float(_) => matches!(kind, Kind::Real | Kind::Int),
        ColumnType::Bool => matches!(kind, Kind::Bool | Kind::Int),
        ColumnType::Timestamptz => matches!(kind, Kind::Time | Kind::Text | Kind::Int | Kind::Real),
        ColumnType::Json | ColumnType::Jsonb => {
            matches!(kind, Kind::Json | Kind::Jsonb | Kind::Text)
        }
        ColumnType::Bytea => matches!(kind, Kind::Bytes),
    }
}

fn impossible(
    stream: &Stream,
    column: &Column,
    table: &CatalogTable,
    target: &CatalogColumn,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Reference;

    fn column(name: &str, kind: Kind) -> Column {
        Column { kind, ..text_column(name) }
    }

    /// A stream of these columns whose first is the key.
    fn stream(name: &str, columns: &[(&str, Kind)]) -> Stream {
        Stream {
            name: name.into(),
            table: name.into(),
            columns: columns.iter().map(|(name, kind)| column(name, *kind)).collect(),
            key: vec![0],
            order: vec![],
        }
    }

    fn to(name: &str, ty: ColumnType) -> CatalogColumn {
        CatalogColumn { ty, ..added(&text_column(name), Backend::Postgres) }
    }

    fn required(name: &str, ty: ColumnType) -> CatalogColumn {
        CatalogColumn { not_null: true, ..to(name, ty) }
    }

    fn table(stream: &str, role: &str, columns: Vec<CatalogColumn>) -> CatalogTable {
        CatalogTable {
            name: format!("chronicle_{stream}"),
            stream: stream.into(),
            role: Role(role.into()),
            time: None,
            adoptable: false,
            fold: columns.iter().position(|c| c.ty == ColumnType::Jsonb),
            columns,
            key: vec![0],
            references: vec![],
            origin: None,
        }
    }

    /// What Chronicle's own Postgres tables look like, as far as it matters here.
    fn upstream() -> Catalog {
        let sessions = vec![
            required("id", ColumnType::Uuid),
            CatalogColumn {
                default_from: Some("id".into()),
                ..required("claude_session_id", ColumnType::Text(None))
            },
            required("start_time", ColumnType::Timestamptz),
            to("metadata", ColumnType::Jsonb),
        ];
        let events = vec![
            required("id", ColumnType::Uuid),
            to("session_id", ColumnType::Uuid),
            required("event_type", ColumnType::Text(None)),
            required("data", ColumnType::Jsonb),
        ];
        let mut events = table("events", "events", events);
        events.references.push(Reference {
            columns: vec![1],
            table: 0,
            parent_columns: vec![0],
            enforced: true,
        });
        Catalog {
            backend: Backend::Postgres,
            layout: "upstream".into(),
            tables: vec![table("sessions", "sessions", sessions), events],
            instance: None,
        }
    }

    fn from(backend: &str) -> Origin {
        Origin { backend: backend.into(), ..Origin::default() }
    }

    fn planned(streams: &[Stream], options: PlanOptions) -> Plan {
        plan(&from("sqlite"), streams, &upstream(), options).unwrap()
    }

    fn sessions(more: &[(&str, Kind)]) -> Stream {
        let own = [("id", Kind::Text), ("start_time", Kind::Text)];
        stream("sessions", &[&own[..], more].concat())
    }

    #[test]
    fn every_column_goes_where_its_name_is_and_by_the_rule_of_its_type() {
        let events = [("id", Kind::Int), ("session_id", Kind::Int), ("event_type", Kind::Text)];
        let events = stream("events", &[&events[..], &[("data", Kind::Json)]].concat());
        let plan = planned(&[sessions(&[]), events], PlanOptions::default());
        let rules: Vec<_> = (plan.streams[1].columns.iter())
            .filter_map(|c| c.ids.as_ref().map(|ids| (c.name.as_str(), ids.rule, ids.own)))
            .collect();
        assert_eq!(rules, [("id", IdRule::Uuid, true), ("session_id", IdRule::Uuid, false)]);
        assert_eq!(
            plan.streams[1].columns[1].ids.as_ref().map(|i| i.of.as_str()),
            Some("sessions")
        );
        let lines = plan.streams[0].lines();
        assert!(lines.contains(&"start_time: text to timestamptz".into()), "{lines:?}");
        assert!(lines.contains(&"claude_session_id: made from another column".into()), "{lines:?}");
    }

    #[test]
    fn a_column_that_the_target_lacks_goes_where_the_user_says() {
        let streams = [sessions(&[("note", Kind::Text), ("updated_at", Kind::Text)])];
        let fates = |on_missing_column| {
            let options = PlanOptions { on_missing_column, ..PlanOptions::default() };
            let plan = planned(&streams, options);
            let stream = plan.streams[0].clone();
            let fates: Vec<Fate> = stream.missing.iter().map(|m| m.fate).collect();
            (fates, stream.added.len(), stream.original_columns.len(), plan.keeps_columns())
        };
        assert_eq!(
            fates(OnMissingColumn::Fail),
            (vec![Fate::Refused, Fate::Derived], 0, 1, false),
            "the ids that become UUIDs are original_columns in any case"
        );
        assert_eq!(fates(OnMissingColumn::Drop), (vec![Fate::Dropped; 2], 0, 1, false));
        assert_eq!(fates(OnMissingColumn::Fold), (vec![Fate::Folded; 2], 0, 3, true));
        assert_eq!(fates(OnMissingColumn::Add), (vec![], 2, 1, false));
    }

    #[test]
    fn what_the_target_requires_and_nobody_has_is_a_problem_with_its_name() {
        let streams = [stream("sessions", &[("id", Kind::Text)])];
        let error =
            plan(&from("sqlite"), &streams, &upstream(), PlanOptions::default()).unwrap_err();
        assert_eq!(error.code(), Code::Plan);
        assert!(error.full().contains("needs \"start_time\""), "{}", error.full());
    }

    #[test]
    fn kinds_that_never_fit_are_a_problem_before_any_row_is_read() {
        let streams = [stream("sessions", &[("id", Kind::Text), ("start_time", Kind::Bytes)])];
        let error =
            plan(&from("sqlite"), &streams, &upstream(), PlanOptions::default()).unwrap_err();
        assert!(error.full().contains("\"start_time\" is bytes"), "{}", error.full());
    }

    #[test]
    fn a_row_gets_its_former_id_back_only_from_the_other_kind_of_database() {
        let streams = [sessions(&[("original_supabase_id", Kind::Text)])];
        let former = |backend| {
            let plan = plan(&from(backend), &streams, &upstream(), PlanOptions::default()).unwrap();
            (plan.streams[0].former_id, plan.streams[0].missing.iter().map(|m| m.fate).collect())
        };
        assert_eq!(former("sqlite"), (Some(2), vec![]));
        assert_eq!(former("postgres"), (None, vec![Fate::Kept]));
    }

    #[test]
    fn a_stream_without_a_table_stands_apart() {
        let side = stream("tool_events", &[("id", Kind::Text), ("tool_name", Kind::Text)]);
        let unmapped = |on_missing_column| {
            let options = PlanOptions { on_missing_column, ..PlanOptions::default() };
            planned(&[sessions(&[]), side.clone()], options).streams[1].unmapped
        };
        assert_eq!(unmapped(OnMissingColumn::Fail), Some(Unmapped::Fail));
        assert_eq!(unmapped(OnMissingColumn::Drop), Some(Unmapped::Drop));
        assert_eq!(unmapped(OnMissingColumn::Fold), Some(Unmapped::Sidecar));
    }

    #[test]
    fn the_zone_is_that_of_the_user_of_the_archive_or_nobodys() {
        let zoned = Origin { time_zone: Some("Europe/Berlin".into()), ..from("sqlite") };
        let zone_rule = |origin: &Origin, assume_zone| {
            let options = PlanOptions { assume_zone, ..PlanOptions::default() };
            let plan = plan(origin, &[sessions(&[])], &upstream(), options);
            plan.map(|plan| plan.streams[0].columns[1].zone_rule)
        };
        assert_eq!(zone_rule(&zoned, AssumeZone::Refuse).unwrap(), ZoneRule::Refuse);
        assert_eq!(zone_rule(&zoned, AssumeZone::Archive).ok(), parse_zone("Europe/Berlin"));
        assert!(zone_rule(&from("sqlite"), AssumeZone::Archive).is_err());
    }
}
