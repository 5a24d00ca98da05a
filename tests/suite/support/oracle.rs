//! What a database held before and what another one holds after, seen from outside: rows read by the databases'
//! own clients, values compared by what they mean, archives read line by line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chronicle_archive::digest::RowDigest;
use chronicle_archive::{self as record, Batch, Kind, Stream, TimeText};
use chronicle_archive::{ArchiveReader, ArchiveWriter, Limits, WriterOptions};
use chronicle_dump::catalog::Backend;
use chronicle_dump::layout::{self, Choice, LayoutStream, Zoneless};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

use super::cluster::{Cluster, Database};
use super::files::workdir;
use super::program::{Output, Program};

/// The streams that every layout has.
pub(crate) const STREAMS: [&str; 2] = ["sessions", "events"];
/// How far east of Greenwich times without a zone were written, in seconds.
pub(crate) const EAST: i128 = 7200;

/// A value as a database's own client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// SQLite's storage class, or the type in Postgres.
    pub(crate) class: String,
    /// Its bytes, of a number its text; None is NULL.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Cell {
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.as_deref()?).ok()
    }
}

/// A row by the logical names of its columns.
pub(crate) type Row = BTreeMap<String, Cell>;

/// A column of a table.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) physical: String,
    pub(crate) ty: String,
    pub(crate) not_null: bool,
}

/// A database of a layout.
pub(crate) struct Store {
    pub(crate) choice: Choice,
    place: Place,
    folder: TempDir,
    columns: Mutex<BTreeMap<String, Arc<[Column]>>>,
}

enum Place {
    File(PathBuf),
    Server(Database),
}

impl Store {
    /// Nothing yet: a layout is made there by an import.
    pub(crate) fn empty(name: &str) -> Store {
        let choice = layout::choices().unwrap().into_iter().find(|c| c.name == name).unwrap();
        let folder = workdir(name);
        let place = match choice.layout.backend {
            Backend::Sqlite => Place::File(folder.path().join("it.db")),
            Backend::Postgres => Place::Server(Cluster::get().database(name)),
        };
        Store { choice, place, folder, columns: Mutex::default() }
    }

    /// The tables of a layout, without rows and without triggers, which would change what is put in.
    pub(crate) fn made(name: &str) -> Store {
        let store = Store::empty(name);
        let ddl = store.choice.layout.ddl().unwrap();
        match &store.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                database.execute_batch(ddl).unwrap();
                let mut found = database
                    .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                    .unwrap();
                let triggers: Vec<String> =
                    found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
                for side in store.sides() {
                    database.execute_batch(&format!("DROP TABLE {side}")).unwrap();
                }
                for trigger in triggers {
                    database.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
                }
            }
            Place::Server(database) => {
                database.psql(ddl);
                for side in store.sides() {
                    database.psql(&format!("DROP TABLE {side}"));
                }
                for stream in STREAMS {
                    let table = &store.stream(stream).table;
                    database.psql(&format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
                }
            }
        }
        store
    }

    /// The tables that only a layout itself has, those first that refer to others.
    fn sides(&self) -> Vec<&str> {
        let streams = self.choice.layout.streams.iter().rev();
        let sides = streams.filter(|s| {
            !STREAMS.contains(&s.name.as_str()) && s.name != "users" && s.name != "audit_log"
        });
        sides.map(|s| s.table.as_str()).collect()
    }

    /// Takes everything away again.
    pub(crate) fn clear(&self) {
        match &self.place {
            Place::File(path) => drop(fs::remove_file(path)),
            Place::Server(database) => {
                database.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            }
        }
    }

    /// Forgets which columns it has: an import may have added some.
    pub(crate) fn forget(&self) {
        self.columns.lock().unwrap().clear();
    }

    /// What the command line calls it.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::File(path) => path.to_str().unwrap().to_owned(),
            Place::Server(database) => database.url(),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        self.choice.layout.backend
    }

    /// A file beside it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A stream of its layout.
    pub(crate) fn stream(&self, name: &str) -> &LayoutStream {
        self.choice.layout.streams.iter().find(|s| s.name == name).unwrap()
    }

    /// Runs statements one by one, and leaves out those that the database refuses.
    pub(crate) fn try_each(&self, statements: &[String]) {
        match &self.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                database.pragma_update(None, "foreign_keys", "off").unwrap();
                database.execute_batch("BEGIN").unwrap();
                for sql in statements {
                    let _ = database.execute_batch(sql);
                }
                database.execute_batch("COMMIT").unwrap();
            }
            Place::Server(database) => {
                let mut all = String::new();
                for sql in statements {
                    writeln!(
                        all,
                        "DO $do$ BEGIN {sql}; EXCEPTION WHEN OTHERS THEN NULL; END $do$;"
                    )
                    .unwrap();
                }
                database.psql(&all);
            }
        }
    }

    /// The columns of a stream's table, as they were when it was first asked.
    pub(crate) fn columns(&self, stream: &str) -> Arc<[Column]> {
        let mut known = self.columns.lock().unwrap();
        Arc::clone(known.entry(stream.to_owned()).or_insert_with(|| self.find_columns(stream)))
    }

    fn find_columns(&self, stream: &str) -> Arc<[Column]> {
        let said = self.stream(stream);
        let found: Vec<(String, String, bool)> = match &self.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                let mut query = database
                    .prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)")
                    .unwrap();
                let rows = query
                    .query_map([&said.table], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                    .unwrap();
                rows.map(Result::unwrap).collect()
            }
            Place::Server(database) => {
                let sql = format!(
                    "SELECT a.attname, t.typname, a.attnotnull FROM pg_attribute a \
                     JOIN pg_type t ON t.oid = a.atttypid \
                     WHERE a.attrelid = '{}'::regclass AND a.attnum > 0 ORDER BY a.attnum",
                    said.table
                );
                let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
                let rows = database.rows(&sql).into_iter();
                rows.map(|r| (text(&r[0]), text(&r[1]), text(&r[2]) == "t")).collect()
            }
        };
        let named = |(physical, ty, not_null): (String, String, bool)| Column {
            name: said.logical(&physical),
            physical,
            ty,
            not_null,
        };
        found.into_iter().map(named).collect()
    }

    /// The rows of a stream's table. A `jsonb` object also stands without the reserved key, under the
    /// column's name with a `-`.
    pub(crate) fn rows(&self, stream: &str) -> Vec<Row> {
        let columns = self.columns(stream);
        let table = &self.stream(stream).table;
        match &self.place {
            Place::File(path) => {
                let names: Vec<String> =
                    columns.iter().map(|c| format!("\"{}\"", c.physical)).collect();
                let database = Connection::open(path).unwrap();
                let sql = format!("SELECT {} FROM {table}", names.join(", "));
                let mut query = database.prepare(&sql).unwrap();
                let mut found = query.query([]).unwrap();
                let mut rows = Vec::new();
                while let Some(row) = found.next().unwrap() {
                    let cell = |n: usize| of_sqlite(row.get_ref(n).unwrap());
                    rows.push(
                        columns
                            .iter()
                            .enumerate()
                            .map(|(n, c)| (c.name.clone(), cell(n)))
                            .collect(),
                    );
                }
                rows
            }
            Place::Server(database) => {
                let mut each = Vec::new();
                let mut names = Vec::new();
                for c in columns.iter() {
                    each.push(format!("\"{}\"::text", c.physical));
                    names.push((c.name.clone(), c.ty.clone()));
                    if c.ty == "jsonb" {
                        each.push(format!(
                            "CASE jsonb_typeof(\"{0}\") WHEN 'object' \
                             THEN \"{0}\" - 'chronicle_dump' ELSE \"{0}\" END::text",
                            c.physical
                        ));
                        names.push((format!("{}-", c.name), c.ty.clone()));
                    }
                }
                let sql = format!(
                    "SET TimeZone = 'UTC'; SET extra_float_digits = 3; SELECT {} FROM {table}",
                    each.join(", ")
                );
                let cell = |((name, ty), value): (&(String, String), Option<String>)| {
                    (name.clone(), Cell { class: ty.clone(), bytes: value.map(String::into_bytes) })
                };
                let rows = database.rows(&sql).into_iter();
                rows.map(|row| names.iter().zip(row).map(cell).collect()).collect()
            }
        }
    }
}

fn of_sqlite(value: ValueRef<'_>) -> Cell {
    let (class, bytes) = match value {
        ValueRef::Null => ("null", None),
        ValueRef::Integer(v) => ("integer", Some(v.to_string().into_bytes())),
        ValueRef::Real(v) => ("real", Some(format!("{v:?}").into_bytes())),
        ValueRef::Text(bytes) => ("text", Some(bytes.to_vec())),
        ValueRef::Blob(bytes) => ("blob", Some(bytes.to_vec())),
    };
    Cell { class: class.into(), bytes }
}

/// What a time column's texts mean without a zone: by the layout that they come from.
pub(crate) fn zoneless(stream: &LayoutStream, column: &Column) -> Option<Zoneless> {
    stream.column(&column.physical).and_then(|said| said.instant)
}

/// How two values are to each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Same {
    /// The same bytes.
    Kept,
    /// The same meaning, spelled as the other kind of column spells it.
    Converted,
    /// Something else.
    Differs,
}

/// Compares a value with what came of it. `bare` is what came of it without the reserved key, `jsonb` how Postgres
/// itself spells the text as `jsonb`.
pub(crate) fn same(
    from: &Cell,
    to: &Cell,
    bare: Option<&Cell>,
    zone: Option<Zoneless>,
    jsonb: Option<&str>,
) -> Same {
    let (Some(a), Some(b)) = (&from.bytes, &to.bytes) else {
        return if from.bytes == to.bytes { Same::Kept } else { Same::Differs };
    };
    let converted = |yes: bool| if yes { Same::Converted } else { Same::Differs };
    let (one, other) = (family(&from.class), family(&to.class));
    // of PostgreSQL's two, `json` keeps a text byte for byte
    let text = other == "text" || to.class == "json";
    if a == b && (one == other || (one != "blob" && text && one != "number")) {
        return Same::Kept;
    }
    if one != "blob" && to.class == "text" && unfolded(b).is_some_and(|b| b == *a) {
        return Same::Kept;
    }
    let texts = (from.text(), to.text());
    let (Some(x), Some(y)) = texts else { return Same::Differs };
    if one == "blob" || other == "blob" {
        return Same::Differs;
    }
    if to.class == "uuid" || from.class == "uuid" {
        return converted(Uuid::try_parse(x).is_ok() && Uuid::try_parse(x) == Uuid::try_parse(y));
    }
    if to.class == "timestamptz" || from.class == "timestamptz" {
        let zone_rule = if zone == Some(Zoneless::Utc) { 0 } else { EAST };
        return converted(
            one != "number" && instant(x, zone_rule) == instant(y, 0) && instant(y, 0).is_some(),
        );
    }
    if to.class == "jsonb" {
        let bare = bare.and_then(Cell::text);
        return converted(jsonb.is_some_and(|j| j == y || Some(j) == bare));
    }
    match (one, other) {
        ("number", "text") | ("text", "number") => converted(a == b),
        ("number", "number") => converted(x.parse::<f64>().ok() == y.parse::<f64>().ok()),
        ("bool", "number") => converted((x == "t" || x == "true") == (y == "1")),
        _ => Same::Differs,
    }
}

fn family(class: &str) -> &str {
    match class {
        "integer" | "int2" | "int4" | "int8" => "number",
        "real" | "float4" | "float8" => "real",
        "bool" | "blob" | "uuid" | "timestamptz" => class,
        "json" | "jsonb" => "json",
        _ => "text",
    }
}

/// A JSON text without what was folded into its end; None if nothing was.
fn unfolded(text: &[u8]) -> Option<Vec<u8>> {
    const KEY: &[u8] = b"\"chronicle_dump\":";
    let at = memchr::memmem::rfind(text, KEY)?;
    let end = text.iter().rposition(|b| *b == b'}')?;
    let head = text[..at].strip_suffix(b",").unwrap_or(&text[..at]);
    Some([head, text.get(end..)?].concat())
}

/// The picoseconds since 1970 that a text says, read by the calendar alone; `east` is where a text without an offset
/// was written.
pub(crate) fn instant(text: &str, east: i128) -> Option<i128> {
    match text {
        "infinity" => return Some(i128::MAX),
        "-infinity" => return Some(i128::MIN),
        _ => {}
    }
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |t| (t, true));
    let (date, rest) = text.split_at_checked(text.find(['T', 't', ' '])?)?;
    let mut parts = date.splitn(3, '-');
    let mut part = || parts.next()?.parse::<i128>().ok();
    let (year, month, day) = (part()?, part()?, part()?);
    let year = if bc { 1 - year } else { year };
    let clock_end = rest[1..].find(|c: char| !(c.is_ascii_digit() || ":.,".contains(c)));
    let (clock, zone) = rest[1..].split_at(clock_end.unwrap_or(rest.len() - 1));
    let (clock, fraction) = clock.split_once(['.', ',']).unwrap_or((clock, ""));
    let number = |t: &str| t.parse::<i128>().ok();
    let times: Vec<i128> = clock.split(':').map(number).collect::<Option<_>>()?;
    let seconds = times.iter().zip([3600, 60, 1]).map(|(t, unit)| t * unit).sum::<i128>();
    let zone = zone.trim();
    let offset = match zone.chars().next() {
        None => east,
        Some('Z' | 'z' | 'U') => 0,
        Some(sign) => {
            let digits: String = zone[1..].chars().filter(char::is_ascii_digit).collect();
            let two = |n: usize| digits.get(2 * n..2 * n + 2).map_or(Some(0), number);
            let value = two(0)? * 3600 + two(1)? * 60 + two(2)?;
            if sign == '-' { -value } else { value }
        }
    };
    let picos: i128 = format!("{fraction:0<12}").get(..12)?.parse().ok()?;
    let whole = days(year, month, day)? * 86_400 + seconds - offset;
    Some(whole * 1_000_000_000_000 + picos)
}

/// The days since 1970-01-01 in the Gregorian calendar.
fn days(year: i128, month: i128, day: i128) -> Option<i128> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let most = match month {
        2 => 28 + i128::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=most).contains(&day) {
        return None;
    }
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    Some(
        era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + (153 * m + 2) / 5 + day
            - 719_469,
    )
}

/// How Postgres spells texts as `jsonb`; None for those that it refuses.
pub(crate) fn as_jsonb(texts: &[Option<&str>]) -> Vec<Option<String>> {
    let database = Cluster::get().database("as jsonb");
    let mut sql = String::from(
        "CREATE FUNCTION pg_temp.spelled(text) RETURNS text LANGUAGE plpgsql AS $$ \
         BEGIN RETURN $1::jsonb::text; EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$;",
    );
    for text in texts {
        let text = text.filter(|t| !t.contains('\0'));
        let literal = text.map_or("NULL".into(), |t| format!("'{}'", t.replace('\'', "''")));
        writeln!(sql, "SELECT pg_temp.spelled({literal});").unwrap();
    }
    database.rows(&sql).into_iter().map(|mut row| row.remove(0)).collect()
}

/// The mark that tells the rows apart in every layout: a moment of 2001 that no odd value says.
pub(crate) fn mark(n: usize) -> String {
    format!("2001-01-{:02}T{:02}:{:02}:00Z", 1 + n / 1440, n / 60 % 24, n % 60)
}

const MARKS: [&str; 3] = ["created_at", "timestamp", "start_time"];

/// The number of a row by its mark, whatever one of its columns holds.
pub(crate) fn number<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<usize> {
    let start = instant("2001-01-01T00:00:00Z", 0)?;
    let of = |name: &&str| {
        let minutes = instant(value(name)?, 0)?.checked_sub(start)? / 60_000_000_000_000;
        (0..100_000).contains(&minutes).then_some(minutes as usize)
    };
    MARKS.iter().find_map(of).or_else(|| {
        // a layout may lack the only column that carries the mark
        let id = value("id")?;
        let Some((prefix, number)) = id.split_once("-0000-4000-8000-") else {
            return id.parse().ok();
        };
        ["5e551011", "e0e27000"]
            .contains(&prefix)
            .then(|| usize::from_str_radix(number, 16).ok())?
    })
}

fn number_of(row: &Row) -> Option<usize> {
    number(|name| row.get(name)?.text())
}

/// The rows of a stream by their numbers.
pub(crate) fn numbered(rows: impl IntoIterator<Item = Row>) -> BTreeMap<usize, Row> {
    let mut found = BTreeMap::new();
    for row in rows {
        let n = number_of(&row).unwrap_or_else(|| panic!("no mark: {row:?}"));
        assert!(found.insert(n, row).is_none(), "two rows of the mark {n}");
    }
    found
}

/// A row of an archive, its values as they are spelled there.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) record: BTreeMap<String, String>,
    pub(crate) exact: BTreeMap<String, String>,
    pub(crate) rejected: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct RawLine<'a> {
    #[serde(rename = "type")]
    kind: String,
    stream: Option<String>,
    #[serde(borrow, default)]
    record: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    chronicle: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct Beside<'a> {
    #[serde(borrow, default)]
    exact: BTreeMap<String, &'a RawValue>,
    #[serde(default)]
    rejected: Vec<Why>,
}

#[derive(Deserialize)]
struct Why {
    column: Option<String>,
    reason: String,
}

impl Line {
    /// The number of the row.
    pub(crate) fn number(&self) -> Option<usize> {
        number(|name| Some(self.record.get(name)?.trim_matches('"')))
    }
}

/// The rows of an archive.
pub(crate) fn lines(archive: &Path) -> Vec<Line> {
    let bytes = zstd::decode_all(&*fs::read(archive).unwrap()).unwrap();
    let mut found = Vec::new();
    for line in bytes.split(|b| *b == b'\n').filter(|l| l.starts_with(b"{\"type\":\"RECORD\"")) {
        let raw: RawLine<'_> = serde_json::from_slice(line).unwrap();
        assert_eq!(raw.kind, "RECORD");
        let beside: Beside<'_> =
            raw.chronicle.map(|c| serde_json::from_str(c.get()).unwrap()).unwrap_or_default();
        let texts = |map: BTreeMap<String, &RawValue>| {
            map.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
        };
        found.push(Line {
            stream: raw.stream.unwrap(),
            record: texts(raw.record),
            exact: texts(beside.exact),
            rejected: (beside.rejected.into_iter())
                .map(|why| (why.column.unwrap_or_default(), why.reason))
                .collect(),
        });
    }
    found
}

/// A value as `lrd1` sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) kind: Kind,
    /// The row digest of this value alone.
    pub(crate) hex: String,
    /// Whether it is a text that reads as an instant.
    pub(crate) instant: bool,
}

/// Digests by stream, number of the row and column.
pub(crate) type Digests = BTreeMap<(String, usize, String), Digest>;

/// The values of an archive as `lrd1` sees them, without what was folded into them; all texts that can be instants are.
/// Left out are rows without a mark and values that the record does not tell in full.
pub(crate) fn digests(archive: &Path) -> Digests {
    let input = fs::File::open(archive).unwrap();
    let reader = ArchiveReader::open(Box::new(input), Limits::default()).unwrap();
    let mut found = Digests::new();
    for line in lines(archive) {
        let Some(n) = line.number() else { continue };
        let stream = reader.streams().iter().find(|s| s.name == line.stream).unwrap();
        for column in stream.columns.iter().filter(|c| !line.exact.contains_key(&c.name)) {
            let value = bare(&line.record[&column.name]);
            let [hex, text] = [true, false].map(|is_time| {
                let columns = vec![record::Column {
                    time_text: TimeText::new(is_time, false),
                    ..column.clone()
                }];
                let mut digest = RowDigest::new(&Stream { columns, ..stream.clone() });
                digest.add([value.as_bytes()]);
                digest.hex()
            });
            let place = (line.stream.clone(), n, column.name.clone());
            found.insert(place, Digest { kind: column.kind, instant: hex != text, hex });
        }
    }
    found
}

/// A JSON text without the reserved key.
fn bare(text: &str) -> String {
    let members = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text);
    let Some(mut members) = members.ok().filter(|_| text.contains("chronicle_dump")) else {
        return text.to_owned();
    };
    members.remove("chronicle_dump");
    serde_json::to_string(&members).unwrap()
}

/// Exports a database into a file.
#[track_caller]
pub(crate) fn export(from: &Store, archive: &Path) {
    Program::new(["export", "--quiet", &from.url(), "-o", archive.to_str().unwrap()])
        .run()
        .success();
}

/// Imports an archive into a database; gives the run and its report.
#[track_caller]
pub(crate) fn import(archive: &Path, to: &Store, options: &[&str]) -> (Output, Json) {
    let url = to.url();
    let words = ["import", archive.to_str().unwrap(), "--to", &url, "--json", "--quiet"];
    let run = Program::new(words.iter().chain(options).copied()).run();
    let report = serde_json::from_str(run.text().trim())
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", run.text(), run.stderr));
    (run, report)
}

/// Copies an archive without some of its rows: those of a stream by their places.
pub(crate) fn without(archive: &Path, place: &Path, leave: &BTreeSet<(String, usize)>) {
    let input = fs::File::open(archive).unwrap();
    let mut reader = ArchiveReader::open(Box::new(input), Limits::default()).unwrap();
    let (header, streams) = (reader.header().clone(), reader.streams().to_vec());
    let output = fs::File::create(place).unwrap();
    let names: Vec<String> = streams.iter().map(|s| s.name.clone()).collect();
    let mut writer = ArchiveWriter::create(
        output,
        &header,
        streams,
        WriterOptions { threads: 1, ..WriterOptions::default() },
    )
    .unwrap();
    let (mut batch, mut places) = (Batch::default(), BTreeMap::<usize, usize>::new());
    while reader.next_batch(&mut batch).unwrap() {
        let place = places.entry(batch.stream()).or_default();
        for row in 0..batch.rows() {
            if !leave.contains(&(names[batch.stream()].clone(), *place)) {
                writer.write_row(&batch, row, "").unwrap();
            }
            *place += 1;
        }
    }
    writer.finish().unwrap();
}

/// What a database held before an import of its archive.
pub(crate) struct Before {
    /// Per stream the rows by their numbers.
    pub(crate) rows: BTreeMap<&'static str, BTreeMap<usize, Row>>,
    zones: BTreeMap<(&'static str, String), Option<Zoneless>>,
    jsonb: BTreeMap<(&'static str, usize, String), Option<String>>,
}

/// What became of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Became {
    /// The same bytes.
    Kept,
    /// Its meaning in another spelling.
    Converted,
    /// A reference to a row whose id became another one.
    Follows,
    /// Something else, which the report counts.
    Changed,
    /// It stands with its row, since the target has no column for it.
    Folded,
    /// It was left out with its row, for a reason.
    Rejected(String),
    /// It was left out with its row, which refers to nothing.
    Orphan,
}

/// What became of every value: by stream, number of the row and column.
pub(crate) type Fates = BTreeMap<(&'static str, usize, String), Became>;
/// Why rows were left out: by stream and number, columns and reasons.
pub(crate) type Rejected = BTreeMap<(String, usize), Vec<(String, String)>>;

impl Before {
    /// Reads a database.
    pub(crate) fn of(store: &Store) -> Before {
        let (mut rows, mut zones) = (BTreeMap::new(), BTreeMap::new());
        for stream in STREAMS {
            for column in store.columns(stream).iter() {
                let zone = zoneless(store.stream(stream), column);
                zones.insert((stream, column.name.clone()), zone);
            }
            rows.insert(stream, numbered(store.rows(stream)));
        }
        let mut before = Before { rows, zones, jsonb: BTreeMap::new() };
        let mut places = Vec::new();
        for (stream, n, name, cell) in before.cells() {
            if name.starts_with("data") || name.starts_with("metadata") {
                places.push(((stream, n, name.to_owned()), cell.text().map(str::to_owned)));
            }
        }
        let texts: Vec<Option<&str>> = places.iter().map(|(_, text)| text.as_deref()).collect();
        let spelled = as_jsonb(&texts);
        before.jsonb = places.into_iter().map(|(place, _)| place).zip(spelled).collect();
        before
    }

    fn cells(&self) -> impl Iterator<Item = (&'static str, usize, &str, &Cell)> {
        self.rows.iter().flat_map(|(stream, rows)| {
            rows.iter().flat_map(|(n, row)| {
                (row.iter().filter(|(name, _)| !name.ends_with('-')))
                    .map(|(name, cell)| (*stream, *n, name.as_str(), cell))
            })
        })
    }

    /// Finds out what became of every value but of those in rows that were not in the archive, and holds it against the
    /// report: what is another value and not counted there is an error.
    pub(crate) fn judge(
        &self,
        to: &Store,
        report: &Json,
        rejected: &Rejected,
        absent: &BTreeSet<(String, usize)>,
    ) -> Result<Fates, String> {
        let mut fates = Fates::new();
        let mut wrong = Vec::new();
        let mut after = BTreeMap::new();
        let mut names = BTreeMap::new();
        for stream in STREAMS {
            let columns: BTreeSet<String> =
                to.columns(stream).iter().map(|c| c.name.clone()).collect();
            names.insert(stream, columns);
            // a session that an import made has perhaps no mark
            let marked = to.rows(stream).into_iter().filter(|row| number_of(row).is_some());
            after.insert(stream, numbered(marked));
        }
        let mut skipped = 0;
        for (stream, n, name, cell) in self.cells() {
            let place = (stream.to_owned(), n);
            if absent.contains(&place) {
                continue;
            }
            let why = rejected.get(&place);
            let fate = match (after[stream].get(&n), why) {
                (Some(_), Some(_)) => {
                    wrong.push(format!("{stream} {n} is there and among the rejects"));
                    continue;
                }
                (None, Some(why)) => match why.iter().find(|(c, _)| c == name || c.is_empty()) {
                    Some((_, reason)) => Became::Rejected(reason.clone()),
                    None => continue,
                },
                (None, None) => {
                    skipped += u64::from(name == "id");
                    Became::Orphan
                }
                (Some(_), None) if !names[stream].contains(name) => {
                    if cell.bytes.is_none() {
                        Became::Kept
                    } else {
                        Became::Folded
                    }
                }
                (Some(row), None) => self.compare(stream, n, name, cell, row, &after),
            };
            fates.insert((stream, n, name.to_owned()), fate);
        }
        let sum = |key: &str| -> u64 {
            let streams = report["streams"].as_array().into_iter().flatten();
            streams.filter_map(|s| s[key].as_u64()).sum()
        };
        if skipped != sum("orphans_skipped") {
            wrong.push(format!("{skipped} rows are missing, of which the report does not tell"));
        }
        wrong.extend(uncounted(&fates, report, skipped));
        if wrong.is_empty() { Ok(fates) } else { Err(wrong.join("\n")) }
    }

    fn compare(
        &self,
        stream: &'static str,
        n: usize,
        name: &str,
        cell: &Cell,
        row: &Row,
        after: &BTreeMap<&'static str, BTreeMap<usize, Row>>,
    ) -> Became {
        let place = (stream, n, name.to_owned());
        let jsonb = self.jsonb.get(&place).and_then(Option::as_deref);
        let zone = self.zones.get(&(stream, name.to_owned())).copied().flatten();
        let bare = row.get(&format!("{name}-"));
        match same(cell, &row[name], bare, zone, jsonb) {
            Same::Kept => Became::Kept,
            Same::Converted => Became::Converted,
            Same::Differs if name == "session_id" => {
                let mut sessions = self.rows["sessions"].iter();
                let session = sessions.find(|(_, s)| s["id"].bytes == cell.bytes).map(|(n, _)| *n);
                let now = session.and_then(|n| after["sessions"].get(&n)).map(|s| &s["id"]);
                let follows = now.is_some_and(|now| now.bytes == row[name].bytes);
                if follows { Became::Follows } else { Became::Changed }
            }
            Same::Differs => Became::Changed,
        }
    }
}

/// Everything that is another value than before, or stands elsewhere, and is not counted in the report.
fn uncounted(fates: &Fates, report: &Json, skipped: u64) -> Vec<String> {
    let mut counted: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    for change in report["changes"].as_array().into_iter().flatten() {
        let text = |key: &str| change[key].as_str().unwrap().to_owned();
        let count = counted.entry((text("stream"), text("column"))).or_default();
        match text("what").as_str() {
            "folded" | "dropped" => count.1 += change["values"].as_u64().unwrap(),
            _ => count.0 += change["values"].as_u64().unwrap(),
        }
    }
    for orphans in report["orphans"].as_array().into_iter().flatten() {
        let text = |key: &str| orphans[key].as_str().unwrap().to_owned();
        let count = counted.entry((text("stream"), text("column"))).or_default();
        count.0 += orphans["rows"].as_u64().unwrap();
    }
    let mut found: BTreeMap<(String, String), (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for ((stream, n, name), fate) in fates {
        let rows = found.entry(((*stream).to_owned(), name.clone())).or_default();
        match fate {
            Became::Changed => rows.0.push(*n),
            Became::Folded if !name.starts_with("original_") => rows.1.push(*n),
            _ => {}
        }
    }
    let mut wrong = Vec::new();
    for ((stream, name), (changed, folded)) in found {
        let derived = report["notices"].as_array().is_some_and(|notices| {
            notices
                .iter()
                .any(|n| n.as_str().is_some_and(|n| n.contains(&name) && n.contains("recomputed")))
        });
        let (values, kept) =
            counted.get(&(stream.clone(), name.clone())).copied().unwrap_or((0, 0));
        if changed.len() as u64 > values {
            wrong.push(format!("{stream}.{name}: {changed:?} changed, {values} counted"));
        }
        // rows that were left out at the end, since they refer to nothing, were counted before
        let least = kept.saturating_sub(skipped);
        let explained = (least..=kept).contains(&(folded.len() as u64)) || derived && kept == 0;
        if !explained {
            wrong.push(format!("{stream}.{name}: {folded:?} without a column, {kept} counted"));
        }
    }
    wrong
}

/// Why rows were left out, as the archive of rejects says.
pub(crate) fn rejects(archive: &Path) -> Rejected {
    let mut found = Rejected::new();
    for line in if archive.exists() { lines(archive) } else { Vec::new() } {
        let n = line.number().unwrap_or_else(|| panic!("no mark: {line:?}"));
        found.insert((line.stream, n), line.rejected);
    }
    found
}

/// What of one archive is not in another one of the same rows, which came back: values that are spelled otherwise, or
/// are gone.
pub(crate) fn given_back(first: &[Line], again: &[Line]) -> Vec<String> {
    let find = |line: &Line| {
        let number = line.number();
        again.iter().find(|l| l.stream == line.stream && l.number() == number)
    };
    let mut wrong = Vec::new();
    for line in first {
        // what is missing was counted before
        let Some(back) = find(line) else { continue };
        for (name, value) in &line.record {
            let now = back.record.get(name);
            let same = now == Some(value) && back.exact.get(name) == line.exact.get(name);
            let original = || {
                // of another class than text it is told exactly
                let keeps = |(n, v): (&String, &String)| {
                    n.starts_with("original_")
                        && match line.exact.get(name) {
                            Some(exact) => back.exact.get(n) == Some(exact),
                            None => {
                                let number = format!("{{\"int\":\"{value}\"}}");
                                v == value || back.exact.get(n) == Some(&number)
                            }
                        }
                };
                back.record.iter().any(keeps)
            };
            // a column that is used up had nothing in this row
            let nothing = now.is_none() && value == "null" && !line.exact.contains_key(name);
            if same || nothing || (name == "id" && original()) || name == "session_id" {
                continue;
            }
            let n = line.number();
            wrong.push(format!(
                "{} {n:?} {name}: {value} {:?} is now {now:?} {:?}",
                line.stream,
                line.exact.get(name),
                back.exact.get(name)
            ));
        }
    }
    wrong
}
