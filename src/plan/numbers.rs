//! Which integer ids of an archive are those of the target, and which are another database's.

use uuid::Uuid;

use super::join::{Joiner, table_for};
use super::unplaced::origins_of_layouts;
use super::{ColumnSource, IdRule, Plan, TablePlan};
use crate::catalog::{Catalog, CatalogTable};
use crate::layout::{ORIGINS, origin_column};
use crate::notice::{Notice, NoticeKind};
use crate::numbers::{Numbering, Numbers, TableNumbers};
use crate::policy::OwnRows;
use chronicle_archive::{Kind, Origin, Stream};

/// The database that an archive's ids are of: the user's word, else the archive's.
pub(super) fn instance_of(origin: &Origin, said: Option<Uuid>) -> Uuid {
    let stated = || origin.instance.as_deref().and_then(|text| Uuid::parse_str(text).ok());
    said.or_else(stated).unwrap_or(Uuid::nil())
}

/// Whose the integer ids of an archive are, by the streams of the target that they go into.
pub(super) fn numbers_of(
    origin: &Origin,
    streams: &[Stream],
    catalog: &Catalog,
    said: Option<Uuid>,
) -> Numbering {
    let there = |stream: &Stream| {
        let table = table_for(stream, catalog)?;
        Some((stream.name.clone(), catalog.tables[table].stream.clone()))
    };
    Numbering::of_archive(origin, instance_of(origin, said))
        .renamed(streams.iter().filter_map(there))
}

/// Whose the integer ids of the target are.
pub(super) fn home(catalog: &Catalog) -> Option<Numbering> {
    let numbers = |t: &CatalogTable| Some((t.stream.clone(), t.numbers.as_ref()?.numbers.clone()));
    let streams = catalog.tables.iter().filter_map(numbers).collect();
    catalog.instance.map(|own| Numbering::new(own, streams))
}

impl Joiner<'_> {
    /// The column with the ids that rows had in the database that they first came from.
    pub(super) fn first_id(&self, stream: &Stream) -> Option<usize> {
        let own = stream.column(&origin_column(&self.origin.backend));
        own.or_else(|| ORIGINS.into_iter().find_map(|name| stream.column(name)))
            .or_else(|| origins_of_layouts().find_map(|name| stream.column(name)))
    }

    /// Whether the archive's numbers are other rows than the target's: those of another database. Where its rows stay
    /// alone, they keep theirs.
    pub(super) fn renumbers(&self, of: usize) -> bool {
        let table = &self.catalog.tables[of];
        let (Some(home), Some(there)) = (&self.home, &table.numbers) else { return false };
        self.options.own_rows == OwnRows::Stay
            && !self.numbers.agrees(home, &table.stream, there.greatest)
    }
}

impl TablePlan {
    /// The rule of the column that alone is the key, if it holds integers in the archive and in the target.
    fn number_rule(&self) -> Option<IdRule> {
        let [key] = self.key[..] else { return None };
        let column = &self.columns[key];
        let is_number = matches!(column.source, ColumnSource::Column(_))
            && column.kind == Kind::Int
            && column.ty.is_integer();
        column.ids.as_ref().filter(|_| is_number).map(|ids| ids.rule)
    }

    /// Whether its rows get other numbers than they have in the archive.
    pub fn is_renumbered(&self) -> bool {
        self.number_rule() == Some(IdRule::Number)
    }
}

impl Plan {
    /// The streams whose rows have integers as ids, in the archive and in the target.
    pub fn numbered_streams(&self) -> impl Iterator<Item = &TablePlan> {
        let tables = self.tables().map(|(_, stream)| stream);
        tables.filter(|stream| stream.number_rule().is_some() && stream.shares_with.is_none())
    }

    /// Whether rows of a table, or what refers to them, get numbers that only this import gives them.
    pub fn gives_numbers(&self, table: usize) -> bool {
        let columns = self.tables().flat_map(|(_, stream)| &stream.columns);
        let mut ids = columns.filter_map(|column| column.ids.as_ref());
        ids.any(|ids| ids.table == table && ids.rule.gives_integers())
    }

    /// Whether there are such streams.
    pub fn has_numbers(&self) -> bool {
        self.numbered_streams().next().is_some()
    }

    /// Whether the numbers of a stream are other rows than those that its table has.
    pub fn renumbers(&self, stream: &TablePlan, there: &TableNumbers) -> bool {
        let Some(home) = &self.home else { return false };
        let home = home.with(self.stream_of(stream), there.numbers.clone());
        !self.numbers.agrees(&home, self.stream_of(stream), there.greatest)
    }

    /// Whose the numbers of a stream's table are once its rows have come with theirs; None if nobody can say.
    pub fn numbers_after(&self, stream: &TablePlan, greatest: Option<i64>) -> Option<Numbers> {
        let home: &Numbering = self.home.as_ref()?;
        self.numbers.in_database(home, self.stream_of(stream), greatest)
    }

    /// The target's stream of a stream's table.
    fn stream_of<'a>(&self, stream: &'a TablePlan) -> &'a str {
        let key = stream.key.first().and_then(|key| stream.columns[*key].ids.as_ref());
        key.map_or(&stream.stream, |ids| &ids.of)
    }

    /// Says that rows have got other numbers, and what else the user may have meant.
    pub fn renumbered(&self) -> Option<Notice> {
        let streams = self.numbered_streams().filter(|stream| stream.is_renumbered());
        let names: Vec<&str> = streams.map(|stream| stream.stream.as_str()).collect();
        let home = self.home.as_ref().filter(|_| !names.is_empty())?.own();
        let text = format!(
            "{}: the archive's numbers are those of another database; rows that are not here yet get the next \
             free ones. If it is this database under a former path: --instance {home}; if both hold copies of \
             the same rows: --match content",
            names.join(", ")
        );
        Some(Notice::new(NoticeKind::Renumbered, text))
    }
}
