//! Rows of an archive that are changed on their way into a target, as a user wants it; all else sees the changed rows as
//! those of the archive.

mod filter;

use crate::amendments::{Amendments, Constant, MovedPath};
use crate::catalog::{Affinity, Catalog, CatalogColumn, ColumnType};
use crate::error::{Code, Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::plan::table_for;
use chronicle_archive::time::{ZoneRule, read_text};
use chronicle_archive::{Batch, Column, Kind, Stream, Value, show_count, show_text};
use filter::Filter;

/// The column that holds paths of the machine where a row was written.
const PATHS: &str = "project_path";

/// Changes the rows of the streams at hand.
pub struct Amender {
    streams: Vec<StreamAmender>,
    /// What has no effect.
    ignored: Vec<Notice>,
}

/// What changes the rows of one stream.
struct StreamAmender {
    /// The stream with the columns that it gets.
    stream: Stream,
    /// How many columns the archive has.
    width: usize,
    filter: Option<Filter>,
    paths: Option<Paths>,
    constants: Vec<TypedConstant>,
    /// The values of the constants, in one row.
    values: Batch,
}

/// The paths in a column.
struct Paths {
    column: usize,
    moved: Vec<MovedPath>,
    rows: u64,
}

/// A value for a column of a stream.
struct TypedConstant {
    column: usize,
    constant: Constant,
    rows: u64,
}

impl Amender {
    /// What the amendments mean for these streams on their way into a target; None if there are none.
    ///
    /// # Errors
    /// If one is of a stream or a column that is not there, or its value is none of the column's type.
    pub fn new(
        amendments: &Amendments,
        streams: &[Stream],
        catalog: &Catalog,
    ) -> Result<Option<Amender>> {
        if amendments.is_empty() {
            return Ok(None);
        }
        let mut all: Vec<StreamAmender> = streams.iter().map(StreamAmender::new).collect();
        for (stream, text) in &amendments.filters {
            let found = all.iter_mut().find(|of| of.stream.name == *stream);
            let of =
                found.ok_or_else(|| no_stream(&format!("--jq {}", show_text(stream)), streams))?;
            if of.filter.is_some() {
                let what = format!("--jq {}: this stream has a filter already", show_text(stream));
                return Err(Error::new(Code::Usage, what).hint("join the two: --jq STREAM 'A | B'"));
            }
            of.filter = Some(Filter::compile(&of.stream, text)?);
        }
        let of_paths = all.iter_mut().filter(|_| !amendments.paths.is_empty());
        let with_paths = of_paths.filter_map(|of| {
            let column = of.stream.column(PATHS)?;
            of.paths = Some(Paths { column, moved: amendments.paths.clone(), rows: 0 });
            Some(())
        });
        if with_paths.count() == 0 && !amendments.paths.is_empty() {
            let what = format!("--map-path: no stream has a column {PATHS}");
            return Err(Error::new(Code::Usage, what));
        }
        let mut ignored = Vec::new();
        for constant in &amendments.constants {
            let wanted =
                |name: &str| constant.stream.as_deref().is_none_or(|stream| stream == name);
            let mut any = false;
            for of in all.iter_mut().filter(|of| wanted(&of.stream.name)) {
                any |= of.add(constant, catalog)?;
            }
            if let (false, Some(key)) = (any, &constant.key) {
                let text = format!("{key} is ignored: the target has no column {constant}");
                ignored.push(Notice::new(NoticeKind::Ignored, text));
            } else if !any {
                let what = format!(
                    "--set {constant}: no table of the target has this column for rows of the archive"
                );
                return Err(Error::new(Code::Usage, what).hint(
                    "name a column of the target as `chronicle-dump inspect` names those of archives",
                ));
            }
        }
        Ok(Some(Amender { streams: all, ignored }))
    }

    /// The streams with the columns that they get.
    pub fn streams(&self) -> Vec<Stream> {
        self.streams.iter().map(|of| of.stream.clone()).collect()
    }

    /// Changes the rows of a batch.
    ///
    /// # Errors
    /// If a filter fails, with its row.
    pub fn amend(&mut self, batch: &mut Batch) -> Result<()> {
        self.streams[batch.stream()].amend(batch)
    }

    /// What was changed.
    pub fn notices(&self) -> Vec<Notice> {
        let mut notices = self.ignored.clone();
        for of in &self.streams {
            let name = |column: usize| {
                format!("{}.{}", of.stream.name, show_text(&of.stream.columns[column].name))
            };
            if let Some(filter) = &of.filter {
                let (changed, left_out) = (filter.changed_rows, filter.left_out_rows);
                let what = format!("{} changed by --jq", show_count(changed, &of.stream.name));
                let left_out = match left_out {
                    0 => String::new(),
                    rows => format!(", {} left out", show_count(rows, &of.stream.name)),
                };
                notices.push(Notice::new(NoticeKind::Amended, what + &left_out));
            }
            if let Some(paths) = &of.paths {
                let rows = show_count(paths.rows, "rows");
                let text = format!("{} changed by --map-path in {rows}", name(paths.column));
                notices.push(Notice::new(NoticeKind::Amended, text));
            }
            for TypedConstant { column, constant, rows } in &of.constants {
                let (value, rows) = (show_text(&constant.value), show_count(*rows, "rows"));
                let text = format!("{} changed by --set to \"{value}\" in {rows}", name(*column));
                notices.push(Notice::new(NoticeKind::Amended, text));
            }
        }
        notices
    }
}

impl StreamAmender {
    fn new(stream: &Stream) -> StreamAmender {
        let mut values = Batch::default();
        values.start(0, 0, 1);
        StreamAmender {
            stream: stream.clone(),
            width: stream.columns.len(),
            filter: None,
            paths: None,
            constants: Vec::new(),
            values,
        }
    }

    /// Adds a constant, if the target has a column for it; whether it has.
    fn add(&mut self, constant: &Constant, catalog: &Catalog) -> Result<bool> {
        let table = table_for(&self.stream, catalog).map(|table| &catalog.tables[table]);
        let to = table.and_then(|table| table.columns.iter().find(|c| c.name == constant.column));
        let Some(to) = to else { return Ok(false) };
        let place = self.stream.column(&constant.column);
        let refers = table.is_some_and(|table| {
            let at = table.columns.iter().position(|c| c.name == constant.column);
            let of_key = at.is_some_and(|at| table.key.contains(&at));
            of_key || table.references.iter().any(|r| at.is_some_and(|at| r.columns.contains(&at)))
        });
        if refers {
            let of = constant.origin();
            let what = format!("{of}: it says which row a row is or belongs to");
            return Err(Error::new(Code::Usage, what).hint("set a column that holds a value"));
        }
        let kind =
            place.map_or_else(|| kind_of(to, &constant.value), |n| self.stream.columns[n].kind);
        let column = place.unwrap_or(self.stream.columns.len());
        if place.is_none() {
            self.stream.columns.push(Column::new(&constant.column, kind));
        }
        let mut values = Batch::default();
        values.start(0, self.constants.len() + 1, 1);
        (0..self.constants.len()).for_each(|n| values.push(self.values.value(0, n)));
        let Some(value) = typed(kind, &constant.value) else {
            return Err(not_of_kind(constant, kind));
        };
        values.push(value);
        self.values = values;
        self.constants.push(TypedConstant { column, constant: constant.clone(), rows: 0 });
        Ok(true)
    }

    fn amend(&mut self, batch: &mut Batch) -> Result<()> {
        if let Some(filter) = &mut self.filter {
            filter.apply(batch)?;
        }
        let added = self.stream.columns.len() - self.width;
        if added > 0 {
            batch.widen(added);
        }
        for row in 0..batch.rows() {
            if let Some(paths) = &mut self.paths {
                let moved = match batch.value(row, paths.column) {
                    Value::Text(path) => paths.moved.iter().find_map(|to| to.moved(path)),
                    _ => None,
                };
                if let Some(path) = moved {
                    batch.set(row, paths.column, Value::Text(&path));
                    paths.rows += 1;
                }
            }
            for (n, of) in self.constants.iter_mut().enumerate() {
                let value = self.values.value(0, n);
                let now = batch.value(row, of.column);
                let lacks = now == Value::Null || (of.constant.always && now != value);
                if lacks {
                    batch.set(row, of.column, value);
                    of.rows += 1;
                }
            }
        }
        Ok(())
    }
}

/// The kind of a value that the archive has no column for.
fn kind_of(to: &CatalogColumn, value: &str) -> Kind {
    let number = |kind: Kind| if typed(kind, value).is_some() { kind } else { Kind::Text };
    match &to.ty {
        ColumnType::Int(_) => Kind::Int,
        ColumnType::Float(_) => Kind::Real,
        ColumnType::Bool => Kind::Bool,
        ColumnType::Timestamptz => Kind::Time,
        ColumnType::Uuid => Kind::Uuid,
        ColumnType::Json => Kind::Json,
        ColumnType::Jsonb => Kind::Jsonb,
        ColumnType::Sqlite(Affinity::Integer) => number(Kind::Int),
        ColumnType::Sqlite(Affinity::Real) => number(Kind::Real),
        ColumnType::Sqlite(_) if to.json => Kind::Json,
        _ => Kind::Text,
    }
}

/// The error of a text that is no value of a kind.
fn not_of_kind(constant: &Constant, kind: Kind) -> Error {
    let (expected, example) = match kind {
        Kind::Int => ("a whole number", "250"),
        Kind::Real => ("a number", "0.5"),
        Kind::Numeric => ("a decimal number", "1.50"),
        Kind::Bool => ("true or false", "true"),
        Kind::Time => ("a time with its zone", "2025-08-19T12:00:00Z"),
        Kind::Uuid => ("a UUID", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        Kind::Json | Kind::Jsonb => ("JSON", "'{\"a\": 1}'"),
        // every text is one of these, and none is of the first
        Kind::Bytes | Kind::Text | Kind::Date | Kind::Other => ("a value of this column", ""),
    };
    let what =
        format!("{}: \"{}\" is not {expected}", constant.origin(), show_text(&constant.value));
    let error = Error::new(Code::Usage, what);
    let assigns = if constant.always { ":=" } else { "=" };
    match (&constant.key, example) {
        (Some(_), _) => error.hint(format!("its column takes {expected}, such as {example}")),
        (None, "") => error.hint(
            "its column takes bytes, which cannot be typed: --jq can remove or replace values",
        ),
        (None, example) => {
            error.hint(format!("give {expected}, such as --set {constant}{assigns}{example}"))
        }
    }
}

/// A text as a value of a kind, if it is one.
fn typed(kind: Kind, text: &str) -> Option<Value<'_>> {
    let as_text = Value::Text(text.as_bytes());
    Some(match kind {
        Kind::Int => Value::Int(text.parse().ok()?),
        Kind::Real => Value::Real(text.parse().ok()?),
        Kind::Bool => Value::Bool(text.parse().ok()?),
        Kind::Time => Value::Time(read_text(text.as_bytes(), ZoneRule::Refuse).ok()?),
        Kind::Uuid => Value::Uuid(*uuid::Uuid::parse_str(text).ok()?.as_bytes()),
        Kind::Json | Kind::Jsonb => {
            serde_json::from_str::<serde::de::IgnoredAny>(text).ok()?;
            as_text
        }
        Kind::Bytes => return None,
        Kind::Numeric => {
            crate::decimal::Decimal::read(text.as_bytes())?;
            as_text
        }
        Kind::Text | Kind::Date | Kind::Other => as_text,
    })
}

/// The error of an option for a stream that the archive lacks.
fn no_stream(option: &str, streams: &[Stream]) -> Error {
    let names: Vec<String> = streams.iter().map(|stream| show_text(&stream.name)).collect();
    Error::new(Code::Usage, format!("{option}: the archive has no such stream"))
        .hint(format!("its streams: {}", names.join(", ")))
}
