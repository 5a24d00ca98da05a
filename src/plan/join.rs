//! Joins the streams of an archive to the tables of a target, column by column.

use std::collections::BTreeMap;

use super::explain::NO_TABLE;
use super::fit::{impossible, possible, same_name, text_column};
use super::numbers::{home, instance_of, numbers_of};
use super::unplaced::origins_of_layouts;
use super::{
    ColumnPlan, ColumnSource, Fate, IdRule, Ids, Plan, ReferencePlan, StreamPlan, TablePlan,
    Unmapped, UnmappedPlan, UnplacedColumn,
};
use crate::catalog::{
    Backend, Catalog, CatalogColumn, CatalogTable, CheckConstraint, ColumnType, Role,
};
use crate::error::{Code, Error, Result};
use crate::layout::{known_stream, origin_column};
use crate::numbers::{Numbering, has_integer_key};
use crate::policy::{AssumeZone, EventTypes, OnMissingColumn, OnUnrepresentable, PlanOptions};
use crate::sidecar::UNMAPPED_PREFIX;
use chronicle_archive::time::{ZoneRule, parse_zone};
use chronicle_archive::{Column, Kind, Origin, Stream, TimeText};

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
    let names: Vec<&str> = streams.iter().map(|s| s.name.as_str()).collect();
    options.conflicts.require_streams("--on-conflict", &names)?;
    options.matches.require_streams("--match", &names)?;
    let mut joiner = Joiner {
        origin,
        catalog,
        options: options.clone(),
        zone_rule,
        problems: Vec::new(),
        added: BTreeMap::new(),
        first: BTreeMap::new(),
        numbers: numbers_of(origin, streams, catalog, options.instance),
        home: home(catalog),
    };
    let mut plans = Vec::new();
    for (number, stream) in streams.iter().enumerate() {
        plans.extend(joiner.stream(number, stream));
    }
    if joiner.problems.is_empty() {
        return Ok(Plan {
            streams: plans,
            instance: instance_of(origin, options.instance),
            options,
            numbers: joiner.numbers,
            home: joiner.home,
            same_layout: same_layout(origin, catalog),
            zone_hint: origin.time_zone.clone(),
        });
    }
    let error = Error::new(
        Code::Plan,
        format!("the archive does not fit {}; nothing was changed", catalog.layout),
    );
    Err(error
        .with_details(joiner.problems)
        .hint("import it into a database of its own layout, or one with a place for everything"))
}

/// Whether the archive comes from a database of the target's kind and layout.
fn same_layout(origin: &Origin, catalog: &Catalog) -> bool {
    origin.backend == catalog.backend.word() && origin.layout.as_ref() == Some(&catalog.layout_name)
}

fn zone(origin: &Origin, assume: AssumeZone) -> Result<ZoneRule> {
    match assume {
        AssumeZone::Refuse => Ok(ZoneRule::Refuse),
        AssumeZone::Zone(zone) => Ok(zone),
        AssumeZone::Archive => origin.time_zone.as_deref().and_then(parse_zone).ok_or_else(|| {
            Error::new(Code::Plan, "the archive does not name its time zone")
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

/// The role of a stream's rows: that of its name in the layouts.
fn role_of(stream: &Stream) -> Option<Role> {
    known_stream(&stream.name).map(|s| s.role.clone())
}

/// Joins one stream after the other and collects what does not fit.
pub(super) struct Joiner<'a> {
    pub(super) origin: &'a Origin,
    pub(super) catalog: &'a Catalog,
    pub(super) options: PlanOptions,
    pub(super) zone_rule: ZoneRule,
    problems: Vec<String>,
    /// By table, the columns that it gets for the streams so far.
    added: BTreeMap<usize, Vec<CatalogColumn>>,
    /// By table, the first stream that goes into it.
    first: BTreeMap<usize, usize>,
    /// Whose the archive's integer ids are.
    pub(super) numbers: Numbering,
    /// Whose those of the target are.
    pub(super) home: Option<Numbering>,
}

impl Joiner<'_> {
    fn stream(&mut self, number: usize, stream: &Stream) -> Option<StreamPlan> {
        let Some(place) = table_for(stream, self.catalog) else {
            return self.unmapped(stream).map(StreamPlan::Unmapped);
        };
        let table = &self.catalog.tables[place];
        let shares_with = self.first.get(&place).copied();
        self.first.entry(place).or_insert(number);
        let mut plan = TablePlan {
            stream: stream.name.clone(),
            role: table.role.clone(),
            table: place,
            table_name: table.name.clone(),
            source: stream.clone(),
            columns: Vec::new(),
            key: Vec::new(),
            references: Vec::new(),
            unplaced: Vec::new(),
            // another stream may bring the same ones into the same table
            added: self.added.get(&place).cloned().unwrap_or_default(),
            defaulted: Vec::new(),
            fold: None,
            former_id: self.former_id(stream, table),
            original_columns: Vec::new(),
            origin: None,
            batch: None,
            has_sidecar: false,
            shares_with,
            duplicates: shares_with.map(|_| self.without_table(stream)),
            on_conflict: self.options.conflicts.of(&stream.name),
            changed: None,
            content: Vec::new(),
            named_by: self.first_id(stream),
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
        let changed = |c: &ColumnPlan| Some(c.target) == table.changed && c.is_from_archive();
        plan.changed = plan.columns.iter().position(changed);
        plan.content = self.content(&plan, table);
        self.batch_column(&mut plan, table);
        self.refuse_vocabulary(&plan);
        plan.references = self.references(&plan, table);
        plan.fold = plan.columns.iter().position(|c| Some(c.target) == table.fold);
        self.keep_originals(&mut plan, table);
        self.added.insert(place, plan.added.clone());
        Some(StreamPlan::Table(Box::new(plan)))
    }

    /// Refuses to map words to those that the target does not allow: each would be mapped back.
    fn refuse_vocabulary(&mut self, plan: &TablePlan) {
        for column in plan.columns.iter().filter(|c| c.vocabulary == Some(EventTypes::Tutorial)) {
            let Some(CheckConstraint::OneOf(allowed)) = &column.check else { continue };
            let is_allowed = |word: &str| allowed.iter().any(|a| a == word);
            if !EventTypes::TUTORIAL_TYPES.iter().all(|word| is_allowed(word)) {
                self.problems.push(format!(
                    "{}: --map-event-types tutorial needs the tutorial's tables: \"{}\" allows {}",
                    plan.stream,
                    column.name,
                    allowed.join(", ")
                ));
            }
        }
    }

    /// The references all of whose columns are written.
    fn references(&self, plan: &TablePlan, table: &CatalogTable) -> Vec<ReferencePlan> {
        let written = |target: &usize| plan.columns.iter().position(|c| c.target == *target);
        let planned = |reference: &crate::catalog::Reference| {
            let columns: Option<Vec<usize>> = reference.columns.iter().map(written).collect();
            Some(ReferencePlan {
                columns: columns?,
                table: reference.table,
                of: self.catalog.tables.get(reference.table)?.stream.clone(),
                parent_columns: reference.parent_columns.clone(),
            })
        };
        table.references.iter().filter_map(planned).collect()
    }

    /// The plan of a stream that the target has no table for.
    fn unmapped(&mut self, stream: &Stream) -> Option<UnmappedPlan> {
        let shared = role_of(stream).is_some_and(|role| role.is_shared());
        if self.options.on_missing_column == OnMissingColumn::Fail && shared {
            self.problems.push(format!("{}: {NO_TABLE}", stream.name));
            return None;
        }
        Some(self.without_table(stream))
    }

    /// The plan of rows that no table takes.
    fn without_table(&self, stream: &Stream) -> UnmappedPlan {
        UnmappedPlan {
            stream: stream.name.clone(),
            table_name: format!("{UNMAPPED_PREFIX}{}", stream.name),
            source: stream.clone(),
            policy: Unmapped::of(self.options.on_missing_column),
            on_conflict: self.options.conflicts.of(&stream.name),
        }
    }

    /// Decides which columns of the archive an export of the target restores.
    fn keep_originals(&self, plan: &mut TablePlan, table: &CatalogTable) {
        let preserves = self.options.on_unrepresentable == OnUnrepresentable::Preserve;
        for (place, column) in plan.source.columns.iter().enumerate() {
            let fate = plan.unplaced.iter().find(|m| m.source == place).map(|m| m.fate);
            let written = plan.columns.iter().any(|c| c.archive_column() == Some(place));
            let adds = match fate {
                Some(Fate::Folded | Fate::Preserved | Fate::Sidecar) => true,
                Some(Fate::Derived | Fate::Dropped | Fate::Refused) => false,
                // it may not be the one that the row gets back
                None => (preserves && written) || plan.former_id == Some(place),
            };
            if adds {
                plan.original_columns.push((place, original_column(plan, place, column)));
            }
        }
        // a row that gets back the id it had before has another one in the archive, too
        let restored = plan.former_id.is_some();
        let mapped = |c: &ColumnPlan| {
            c.ids.as_ref().is_some_and(|ids| ids.own && (restored || ids.rule != IdRule::Keep))
        };
        if plan.columns.iter().any(mapped) && !self.keeps_origin(table) {
            let name = origin_column(&self.origin.backend);
            if plan.source.column(&name).is_none() {
                plan.original_columns.push((plan.source.columns.len(), text_column(&name)));
            }
            plan.origin = Some(name);
        }
        plan.has_sidecar =
            !plan.original_columns.is_empty() || plan.columns.iter().any(|c| is_filler(c, table));
    }

    /// Whether the target itself keeps the id that a row of the archive has.
    fn keeps_origin(&self, table: &CatalogTable) -> bool {
        table.origin.is_some() && self.origin.backend != self.catalog.backend.word()
    }

    /// The column with the id that a row had in a database like the target, before it went where
    /// the archive was exported.
    fn former_id(&self, stream: &Stream, table: &CatalogTable) -> Option<usize> {
        let word = self.catalog.backend.word();
        let [key] = table.key[..] else { return None };
        let numbered = table.columns[key].ty.is_integer();
        let own = origin_column(word);
        match (self.origin.backend == word, has_integer_key(stream) == numbered) {
            (false, _) => {
                let others = || origins_of_layouts().find_map(|name| stream.column(name));
                stream.column(&own).or_else(others)
            }
            // from numbers to texts and back, within one kind of database
            (true, false) => stream.column(&own),
            (true, true) => None,
        }
    }

    /// Finds the place of a column of the archive.
    fn column(&mut self, plan: &mut TablePlan, table: &CatalogTable, source: usize) {
        let column = &plan.source.columns[source];
        let Some(place) = place_of(&plan.source, table, &column.name) else {
            self.unplaced(plan, table, source);
            return;
        };
        let taken =
            plan.columns.iter().find(|c| c.target == place).and_then(|c| c.archive_column());
        if let Some(other) = taken {
            self.problems.push(format!(
                "{}: \"{}\" and \"{}\" would both go into \"{}\" of {}",
                plan.stream,
                plan.source.columns[other].name,
                column.name,
                table.columns[place].name,
                table.name
            ));
            return;
        }
        let planned =
            self.planned(&plan.source, table, place, ColumnSource::Column(source), column);
        let to = &table.columns[place];
        let mapped = planned.ids.as_ref().is_some_and(|ids| ids.rule != IdRule::Keep);
        if !mapped && !possible(column.kind, &to.ty) {
            self.problems.push(impossible(&plan.source, column, table, to));
        }
        plan.columns.push(planned);
    }

    /// Gives the table a column for one of the archive.
    pub(super) fn add_column(
        &self,
        plan: &mut TablePlan,
        table: &CatalogTable,
        source: usize,
        column: &Column,
    ) {
        // another stream may bring the same one into the same table
        let there = plan.added.iter().position(|a| a.physical == column.name);
        let place = table.columns.len() + there.unwrap_or(plan.added.len());
        let near = plan.added.iter().any(|a| same_name(&a.physical, &column.name));
        if there.is_none() && near && self.catalog.backend == Backend::Sqlite {
            // the names of its columns have no case
            let (name, fate) = (column.name.clone(), Fate::Preserved);
            plan.unplaced.push(UnplacedColumn { source, name, fate });
            return;
        }
        if there.is_none() {
            plan.added.push(CatalogColumn::of_type(
                &column.name,
                self.catalog.backend.type_for(column.kind),
            ));
        }
        let with = CatalogTable {
            columns: [&table.columns[..], &plan.added[..]].concat(),
            ..table.clone()
        };
        let from = ColumnSource::Column(source);
        plan.columns.push(self.planned(&plan.source, &with, place, from, column));
    }

    pub(super) fn planned(
        &self,
        stream: &Stream,
        table: &CatalogTable,
        place: usize,
        source: ColumnSource,
        column: &Column,
    ) -> ColumnPlan {
        let to = &table.columns[place];
        ColumnPlan {
            source,
            target: place,
            name: to.name.clone(),
            kind: column.kind,
            ty: to.ty.clone(),
            zone_rule: match column.time_text {
                TimeText::Utc => ZoneRule::Utc,
                TimeText::Local | TimeText::None => self.zone_rule,
            },
            not_null: to.not_null,
            strict: to.strict,
            key: table.key.contains(&place),
            check: to.check.clone(),
            default: match (to.not_null, &stream.key[..]) {
                (true, _) => default_for(stream, to),
                // a row that has no former id has had this one
                (false, [key]) if Some(place) == table.origin && self.keeps_origin(table) => {
                    Some(ColumnSource::TextOf(*key))
                }
                (false, _) => None,
            },
            ids: self.ids(table, place, column.kind),
            vocabulary: to.vocabulary.then_some(self.options.event_types),
        }
    }

    /// Which rows the ids in a column of the target identify, if it holds any.
    fn ids(&self, table: &CatalogTable, place: usize, kind: Kind) -> Option<Ids> {
        let own = table.key == [place];
        let number = self.catalog.tables.iter().position(|t| t.name == table.name)?;
        let of = self.catalog.identity_of(number, place)?;
        let ty = &table.columns[place].ty;
        let rule = match kind {
            Kind::Int if ty.is_integer() && self.renumbers(of) => IdRule::Number,
            Kind::Int => IdRule::Keep,
            _ if ty.is_integer() => IdRule::Integer,
            _ => IdRule::Keep,
        };
        let rule = match ty {
            ColumnType::Uuid if kind != Kind::Uuid => IdRule::Uuid,
            _ => rule,
        };
        Some(Ids { of: self.catalog.tables[of].stream.clone(), table: of, rule, own })
    }

    /// Decides about a column of the target that the archive lacks.
    fn absent(&mut self, plan: &mut TablePlan, table: &CatalogTable, target: usize) {
        let column = &table.columns[target];
        if table.batch_column() == Some(target) {
            self.add_batch_column(plan, table, target);
            return;
        }
        if Some(target) == table.origin {
            if let (true, [key]) = (self.keeps_origin(table), &plan.source.key[..]) {
                let (from, source) = (&plan.source.columns[*key], ColumnSource::TextOf(*key));
                let planned = self.planned(&plan.source, table, target, source, from);
                plan.columns.push(ColumnPlan { ids: None, ..planned });
            }
            return;
        }
        if !column.not_null || column.has_default {
            plan.defaulted.push(column.name.clone());
            return;
        }
        let Some(source) = default_for(&plan.source, column) else {
            self.problems.push(format!(
                "{}: {} needs \"{}\", which the archive lacks",
                plan.stream, table.name, column.name
            ));
            return;
        };
        let text = text_column(&column.name);
        let planned = self.planned(&plan.source, table, target, source, &text);
        plan.columns.push(ColumnPlan { ids: None, default: None, ..planned });
    }
}

/// The column of a table for one of the archive: that of the same name, else one whose name differs by its
/// case only and belongs to no other column of the archive.
fn place_of(source: &Stream, table: &CatalogTable, name: &str) -> Option<usize> {
    let exact = |c: &CatalogColumn| c.name == name;
    let near = |c: &CatalogColumn| same_name(&c.name, name) && source.column(&c.name).is_none();
    table.columns.iter().position(exact).or_else(|| table.columns.iter().position(near))
}

/// A column as an export of the target restores it: ids stay those that the target gave.
fn original_column(plan: &TablePlan, place: usize, column: &Column) -> Column {
    let written = plan.columns.iter().find(|c| c.archive_column() == Some(place));
    let kind = match written.and_then(|c| c.ids.as_ref()).map(|ids| ids.rule) {
        Some(IdRule::Integer | IdRule::Number) => Kind::Int,
        Some(IdRule::Uuid) if column.kind != Kind::Text => Kind::Uuid,
        _ => column.kind,
    };
    Column { kind, ..column.clone() }
}

/// Whether a column is not in the archive and has a value only because the target requires one.
fn is_filler(column: &ColumnPlan, table: &CatalogTable) -> bool {
    !column.is_from_archive()
        && Some(column.target) != table.origin
        && column.source != ColumnSource::Batch
}

/// What fills a column of the target where the archive has nothing for it.
fn default_for(stream: &Stream, column: &CatalogColumn) -> Option<ColumnSource> {
    let from = column.default_from.as_deref().and_then(|name| stream.column(name));
    from.map(ColumnSource::TextOf).or_else(|| column.default.clone().map(ColumnSource::Text))
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

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
        events.references.push(refers(&[1], 0, &[0]));
        catalog(vec![table("sessions", "sessions", sessions), events])
    }

    fn sessions(more: &[(&str, Kind)]) -> Stream {
        let own = [("id", Kind::Text), ("start_time", Kind::Text)];
        stream("sessions", &[&own[..], more].concat())
    }

    fn table_of(plan: &Plan, stream: usize) -> &TablePlan {
        plan.streams[stream].table().expect("a table")
    }

    #[test]
    fn columns_join_by_name_and_ids_by_the_type_of_the_target() {
        let events = [("id", Kind::Int), ("session_id", Kind::Int), ("event_type", Kind::Text)];
        let events = stream("events", &[&events[..], &[("data", Kind::Json)]].concat());
        let plan = planned(&[sessions(&[]), events], &upstream(), PlanOptions::default());
        let columns = &table_of(&plan, 1).columns;
        let rules: Vec<_> = (columns.iter())
            .filter_map(|c| c.ids.as_ref().map(|ids| (c.name.as_str(), ids.rule, ids.own)))
            .collect();
        assert_eq!(rules, [("id", IdRule::Uuid, true), ("session_id", IdRule::Uuid, false)]);
        assert_eq!(columns[1].ids.as_ref().map(|i| i.of.as_str()), Some("sessions"));
        let lines = plan.streams[0].lines();
        assert!(lines.contains(&"start_time: text to timestamptz".into()), "{lines:?}");
        assert!(
            lines.contains(&"claude_session_id: copied from another column".into()),
            "{lines:?}"
        );
    }

    #[test]
    fn a_part_of_a_wide_key_is_mapped_through_its_reference() {
        let plan = planned(&numbered_streams(), &accounts_and_notes(), PlanOptions::default());
        let members = table_of(&plan, 1);
        let ids = |n: usize| members.columns[n].ids.as_ref().map(|i| (i.table, i.rule, i.own));
        assert_eq!(ids(0), Some((0, IdRule::Uuid, false)), "the account's id");
        assert_eq!(ids(1), None, "a plain number");
        assert_eq!(members.key, [0, 1]);
        let references: Vec<_> =
            table_of(&plan, 2).references.iter().map(|r| (r.table, r.columns.clone())).collect();
        assert_eq!(references, [(0, vec![1]), (1, vec![1, 3])]);
    }

    #[test]
    fn a_second_stream_of_one_table_has_a_plan_for_duplicates() {
        let shared = |name: &str| stream(name, &[("id", Kind::Text), ("start_time", Kind::Text)]);
        let streams = [shared("sessions"), shared("server_sessions")];
        let plan = planned(&streams, &upstream(), PlanOptions::strict());
        assert!(table_of(&plan, 0).duplicates.is_none());
        let second = table_of(&plan, 1);
        assert_eq!(second.shares_with, Some(0));
        assert_eq!(second.duplicates.as_ref().map(|d| d.policy), Some(Unmapped::Fail));
    }

    #[test]
    fn a_required_column_that_nothing_fills_is_a_problem() {
        let streams = [stream("sessions", &[("id", Kind::Text)])];
        let error =
            plan(&from("sqlite"), &streams, &upstream(), PlanOptions::default()).unwrap_err();
        assert_eq!(error.code(), Code::Plan);
        assert!(error.full().contains("needs \"start_time\""), "{}", error.full());
    }

    #[test]
    fn kinds_that_never_fit_are_a_problem_before_any_row() {
        let streams = [stream("sessions", &[("id", Kind::Text), ("start_time", Kind::Bytes)])];
        let error =
            plan(&from("sqlite"), &streams, &upstream(), PlanOptions::default()).unwrap_err();
        assert!(error.full().contains("\"start_time\" is bytes"), "{}", error.full());
    }

    #[test]
    fn a_former_id_counts_only_from_the_other_kind_of_database() {
        let streams = [sessions(&[("original_supabase_id", Kind::Text)])];
        let former = |backend| {
            let plan = plan(&from(backend), &streams, &upstream(), PlanOptions::default()).unwrap();
            let sessions = table_of(&plan, 0);
            (sessions.former_id, sessions.unplaced.iter().map(|m| m.fate).collect())
        };
        assert_eq!(former("sqlite"), (Some(2), vec![]));
        assert_eq!(former("postgres"), (None, vec![Fate::Sidecar]));
    }

    #[test]
    fn the_zone_is_the_users_or_the_archives_or_none() {
        let zoned = Origin { time_zone: Some("Europe/Berlin".into()), ..from("sqlite") };
        let zone_rule = |origin: &Origin, assume_zone| {
            let options = PlanOptions { assume_zone, ..PlanOptions::default() };
            let plan = plan(origin, &[sessions(&[])], &upstream(), options);
            plan.map(|plan| table_of(&plan, 0).columns[1].zone_rule)
        };
        assert_eq!(zone_rule(&zoned, AssumeZone::Refuse).unwrap(), ZoneRule::Refuse);
        assert_eq!(zone_rule(&zoned, AssumeZone::Archive).ok(), parse_zone("Europe/Berlin"));
        assert!(zone_rule(&from("sqlite"), AssumeZone::Archive).is_err());
    }
}
