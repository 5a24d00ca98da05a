//! What a target cannot hold and does not lose: the originals of changed values and the values of
//! columns that it lacks, kept beside the rows when they are loaded and given back by an export.
//!
//! Two tables of our own stand beside Chronicle's, made only when they are needed:
//!
//! - `chronicle_dump_sidecar(table_name, key, sidecar)`: per row one JSON object that names columns.
//!   `{"data":{"text":"…","was":"…"}}` is the original of a column together with the fingerprint of
//!   what was loaded in its place: a row that was edited since keeps what it says now.
//!   `{"git_commit":{"text":"…"}}` is the value of a column that the table lacks,
//!   `{"claude_session_id":{"made":"…"}}` a value that stands there only because it must, or by the
//!   table's own default, and
//!   `{"*":{"made":"…"}}` a row that does: a session that was made for its events.
//! - `chronicle_dump_sidecar_columns(table_name, name, place, kind, instant, utc)`: the columns that the
//!   rows had where they came from.
//!
//! The rows of a stream that the target has no table for stand there as a whole, under [`UNMAPPED_PREFIX`] and
//! the stream's name.
//!
//! Where a row has a JSON object to carry them, values of columns that the table lacks stand in it
//! under [`RESERVED_KEY`], in the same form.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::error::{Code, Error};
use crate::identity::show_id;
use crate::layout::LayoutStream;
use chronicle_archive::canonical::Canonical;
use chronicle_archive::codec::real_text;
use chronicle_archive::hex;
use chronicle_archive::json::{JsonIssues, Scanner, member};
use chronicle_archive::time::{Instant, ZoneRule, offset_at};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value, show_text};

/// The table of originals.
pub const SIDECAR: &str = "chronicle_dump_sidecar";
/// The table of columns.
pub const COLUMNS: &str = "chronicle_dump_sidecar_columns";
/// What stands before the name of a stream without a table, where others have their table's name.
pub const UNMAPPED_PREFIX: &str = "stream:";
/// What a row is kept under that was made as a whole, where others have the names of columns: beside
/// it stands the row as it was made, so that an export leaves it out until it is edited.
pub const WHOLE_ROW: &str = "*";
/// The name under which a row tells that it is kept unmapped, too, as a row of its own stream: it goes
/// as long as nobody has edited it.
const ALSO_APART: &str = "*apart";
/// The key of a row's JSON object under which the values of columns without a place stand.
pub const RESERVED_KEY: &str = "chronicle_dump";

/// What is kept beside one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarEntry {
    /// The row's number among those that are loaded with it.
    pub row: usize,
    /// The row's key in the target, as text.
    pub key: String,
    /// The JSON object.
    pub text: String,
}

/// A value as a tag and a text, with what else is said of it.
type Tagged = BTreeMap<String, String>;

/// What is kept of a row, as it is collected.
#[derive(Debug, Default)]
pub struct SidecarValues(BTreeMap<String, Tagged>);

impl SidecarValues {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether something of a column is kept.
    pub fn has(&self, column: &str) -> bool {
        self.0.contains_key(column)
    }

    /// Keeps the original of a column in the place of which `was` stands.
    pub fn original(&mut self, column: &str, value: Value<'_>, was: String) {
        let mut tagged = tag(value);
        tagged.insert("was".into(), was);
        self.0.insert(column.to_owned(), tagged);
    }

    /// Keeps the value of a column that the table lacks.
    pub fn missing(&mut self, column: &str, value: Value<'_>) {
        self.0.insert(column.to_owned(), tag(value));
    }

    /// Notes that the row is kept unmapped, too, and what its columns hold.
    pub fn also_in_sidecar(&mut self, columns: BTreeMap<String, String>) {
        self.0.insert(ALSO_APART.to_owned(), columns);
    }

    /// Notes that a value stands there only because it must.
    pub fn made(&mut self, column: &str, value: &str) {
        self.0.insert(column.to_owned(), Tagged::from([("made".into(), value.into())]));
    }

    /// Takes everything over that another one holds.
    pub fn append(&mut self, other: &mut SidecarValues) {
        self.0.append(&mut other.0);
    }

    /// The JSON object.
    pub fn text(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// The text of a JSON object with everything of this under the reserved key, or None if the
    /// text is no object, or has such a key already.
    pub fn fold_into(&self, scanner: &mut Scanner, text: &[u8]) -> Option<Vec<u8>> {
        let found = scanner.scan(text);
        if found.contains(JsonIssues::INVALID)
            || found.contains(JsonIssues::NOT_OBJECT)
            || member(scanner, text, RESERVED_KEY).is_some()
        {
            return None;
        }
        let end = text.iter().rposition(|b| *b == b'}')?;
        let head = &text[..end];
        let empty = head.iter().rev().find(|b| !b.is_ascii_whitespace()) == Some(&b'{');
        let mut folded = head.to_vec();
        if !empty {
            folded.push(b',');
        }
        folded.extend_from_slice(format!("\"{RESERVED_KEY}\":{}", self.text()).as_bytes());
        folded.extend_from_slice(&text[end..]);
        Some(folded)
    }
}

fn tag(value: Value<'_>) -> Tagged {
    let (tag, text) = match value {
        Value::Null => ("null", String::new()),
        Value::Int(v) => ("int", v.to_string()),
        Value::Real(v) => ("real", real_text(v)),
        Value::Bool(v) => ("bool", v.to_string()),
        Value::Uuid(v) => ("uuid", uuid::Uuid::from_bytes(v).to_string()),
        Value::Time(v) => {
            let mut text = Vec::new();
            v.write_postgres(&mut text);
            ("time", String::from_utf8_lossy(&text).into_owned())
        }
        Value::Blob(bytes) => ("blob", BASE64.encode(bytes)),
        Value::Text(bytes) => match std::str::from_utf8(bytes) {
            // jsonb and PostgreSQL's text hold no NUL, and neither does our table there
            Ok(text) if !text.contains('\0') => ("text", text.to_owned()),
            _ => ("text64", BASE64.encode(bytes)),
        },
    };
    Tagged::from([(tag.into(), text)])
}

/// What is kept beside a row that is there already, joined with what comes with it again: None if
/// that is nothing new.
///
/// # Errors
/// The first column of which another original is kept.
pub fn joined(kept: &str, again: &str) -> Result<Option<String>, String> {
    let (mut all, again) = (parse(kept.as_bytes()), parse(again.as_bytes()));
    let before = all.len();
    for (column, tagged) in again {
        match all.get(&column) {
            Some(there) if *there != tagged => return Err(column),
            _ => drop(all.insert(column, tagged)),
        }
    }
    Ok((all.len() > before).then(|| SidecarValues(all).text()))
}

/// The error of a row beside which another original is kept already.
pub fn kept_otherwise(table: &str, key: &str, column: &str) -> Error {
    Error::new(
        Code::Conflict,
        format!(
            "{table}: row with key {}: the target has this row already, and keeps another original \
             of \"{}\" beside it",
            show_text(key),
            show_text(column)
        ),
    )
    .hint(format!("import into an empty database, or remove that row from {SIDECAR} first"))
}

/// The name under which the id is kept that stood for a row without one where ids are numbers.
pub const NAMELESS: &str = "nameless_id";

/// The name under which an id is kept that refers to no row, where ids are numbers.
pub fn kept_reference(column: &str) -> String {
    format!("original_{column}")
}

/// The id of a row where it came from, as [`show_id`] names it, if its sidecar tells it as one of
/// `names`.
pub fn original_id(sidecar: &str, names: &[String]) -> Option<String> {
    let kept = parse(sidecar.as_bytes());
    let tagged = names.iter().find_map(|name| kept.get(name))?;
    let bytes = BASE64.decode(tagged.values().next()?).ok();
    tagged_value(tagged, bytes.as_deref()).map(show_id)
}

/// Appends the value that a tag and a text say to a column; false if they say none.
fn push_tagged(kind: Kind, tagged: &Tagged, batch: &mut Batch) -> bool {
    let text = tagged.iter().find(|(tag, _)| *tag != "was").map_or("", |(_, text)| text);
    let bytes = BASE64.decode(text).ok();
    let Some(value) = tagged_value(tagged, bytes.as_deref()) else { return false };
    match value {
        // classes that stand only in columns of their own kind
        Value::Uuid(_) | Value::Time(_) => {
            let own = matches!(kind, Kind::Uuid | Kind::Time);
            push_as(if own { kind } else { Kind::Text }, value, batch);
        }
        Value::Bool(v) if kind != Kind::Bool => batch.push(Value::Int(i64::from(v))),
        value => batch.push(value),
    }
    true
}

/// The value that a tag and a text say; `bytes` are those that the text stands for in Base64.
fn tagged_value<'a>(tagged: &'a Tagged, bytes: Option<&'a [u8]>) -> Option<Value<'a>> {
    let (tag, text) = tagged.iter().find(|(tag, _)| *tag != "was")?;
    match (tag.as_str(), bytes) {
        ("null", _) => Some(Value::Null),
        ("int", _) => text.parse().ok().map(Value::Int),
        ("real", _) => match text.as_str() {
            "NaN" => Some(Value::Real(f64::NAN)),
            "Infinity" => Some(Value::Real(f64::INFINITY)),
            "-Infinity" => Some(Value::Real(f64::NEG_INFINITY)),
            number => number.parse().ok().map(Value::Real),
        },
        ("bool", _) => text.parse().ok().map(Value::Bool),
        ("uuid", _) => uuid::Uuid::parse_str(text).ok().map(|v| Value::Uuid(v.into_bytes())),
        ("time", _) => Instant::read_postgres(text.as_bytes()).map(Value::Time),
        ("text", _) => Some(Value::Text(text.as_bytes())),
        ("text64", Some(bytes)) => Some(Value::Text(bytes)),
        ("blob", Some(bytes)) => Some(Value::Blob(bytes)),
        _ => None,
    }
}

/// Tells whether a value is still the one that was loaded.
#[derive(Debug, Default)]
pub struct Fingerprint {
    canonical: Canonical,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Sixteen hexadecimal digits of what a column of `kind` in the target holds.
    ///
    /// Only `jsonb` changes how a text is spelled; every other kind is taken as it stands.
    pub fn of(&mut self, kind: Kind, value: Value<'_>) -> String {
        let kind = if kind == Kind::Jsonb { kind } else { Kind::Text };
        self.bytes.clear();
        self.canonical.write(kind, false, ZoneRule::Refuse, value, &mut self.bytes);
        hex(&Sha256::digest(&self.bytes)[..8])
    }
}

/// A column that rows had where they came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalColumn {
    /// The table of the target.
    pub table: String,
    /// Its position in the records.
    pub place: usize,
    /// The column.
    pub column: Column,
}

impl OriginalColumn {
    /// A column from the texts of its row in [`COLUMNS`]: table, name, place, kind, instant, utc.
    pub fn read(row: &[Option<String>]) -> Option<OriginalColumn> {
        let text = |n: usize| row.get(n).cloned().flatten();
        let yes = |n: usize| text(n).is_some_and(|t| matches!(t.as_str(), "t" | "true" | "1"));
        let name = text(1)?;
        Some(OriginalColumn {
            table: text(0)?,
            place: text(2)?.parse().ok()?,
            column: Column {
                physical: name.clone(),
                name,
                kind: Kind::from_word(&text(3)?)?,
                nullable: true,
                time_text: TimeText::new(yes(4), yes(5)),
            },
        })
    }
}

/// Gives rows back what was kept beside them.
pub struct Restorer {
    columns: Vec<Restored>,
    raw: Vec<Kind>,
    fold: Option<usize>,
    scanner: Scanner,
    fingerprint: Fingerprint,
}

struct Restored {
    name: String,
    /// Where it stands in the rows as they are read, if it does.
    from: Option<usize>,
    kind: Kind,
    /// Whether its texts without a zone are local times.
    local: bool,
    key: bool,
}

impl Restorer {
    /// The stream as it was where it came from, and who makes its rows out of those of `stream`,
    /// behind each of which its sidecar stands as one more text column. `unmade` names the columns
    /// that every row has only because it must: they go.
    pub fn new(
        stream: &Stream,
        original_columns: &[OriginalColumn],
        fold: Option<&str>,
        unmade: &[String],
    ) -> (Stream, Restorer) {
        let said = |name: &str| original_columns.iter().find(|r| r.column.name == name);
        let mut columns: Vec<(usize, Column, Option<usize>)> = Vec::new();
        for (n, column) in stream.columns.iter().enumerate() {
            if unmade.contains(&column.name) {
                continue;
            }
            columns.push(match said(&column.name) {
                Some(r) => {
                    let was = Column { physical: column.physical.clone(), ..r.column.clone() };
                    (r.place, was, Some(n))
                }
                // behind all that were there
                None => (chronicle_archive::limits::COLUMNS + n, column.clone(), Some(n)),
            });
        }
        for r in original_columns {
            if stream.column(&r.column.name).is_none() {
                columns.push((r.place, r.column.clone(), None));
            }
        }
        columns.sort_by_key(|(place, ..)| *place);
        let find = |name: &str| columns.iter().position(|(_, c, _)| c.name == name);
        let again = |places: &[usize]| -> Vec<usize> {
            places.iter().filter_map(|n| find(&stream.columns[*n].name)).collect()
        };
        // what is given back need not stand in the order in which the rows are read
        // and where all columns that came are original_columns, another one may be taken from some rows
        let preserved = original_columns.iter().any(|r| stream.column(&r.column.name).is_some());
        let same = |n: &usize| {
            let column = &stream.columns[*n];
            said(&column.name).map_or(!preserved, |r| r.column.kind == column.kind)
        };
        let order = if stream.order.iter().all(same) { again(&stream.order) } else { Vec::new() };
        let (key, raw) = (again(&stream.key), stream.columns.iter().map(|c| c.kind).collect());
        let restored = (columns.iter())
            .map(|(_, c, from)| Restored {
                name: c.name.clone(),
                from: *from,
                kind: c.kind,
                local: c.time_text == TimeText::Local,
                key: stream.key.iter().any(|k| Some(*k) == *from),
            })
            .collect();
        let mut was: Vec<Column> = columns.into_iter().map(|(_, column, _)| column).collect();
        for n in &key {
            // ids that were given back may be anything
            was[*n].nullable = true;
        }
        let fold = fold.and_then(|name| stream.column(name));
        (
            Stream { columns: was, key, order, ..stream.clone() },
            Restorer {
                columns: restored,
                raw,
                fold,
                scanner: Scanner::default(),
                fingerprint: Fingerprint::default(),
            },
        )
    }

    /// The columns of a row as it was.
    pub fn width(&self) -> usize {
        self.columns.len()
    }

    /// Whether the columns of a row hold what their fingerprints say.
    fn is_unedited(&mut self, was: &Tagged, batch: &Batch, row: usize) -> bool {
        was.iter().all(|(name, was)| {
            let from = self.columns.iter().find(|c| c.name == *name).and_then(|c| c.from);
            from.is_some_and(|n| self.fingerprint.of(self.raw[n], batch.value(row, n)) == *was)
        })
    }

    /// Appends a row as it was to `out`, unless it is kept unmapped, too, and nobody has edited it.
    pub fn restore(&mut self, batch: &Batch, row: usize, out: &mut Batch) {
        let mut kept = match batch.value(row, self.raw.len()) {
            Value::Text(text) => parse(text),
            _ => BTreeMap::new(),
        };
        if kept.get(ALSO_APART).is_some_and(|was| self.is_unedited(was, batch, row)) {
            return;
        }
        let payload = self.unfold(batch, row, &mut kept);
        for n in 0..self.columns.len() {
            let column = &self.columns[n];
            let value = match column.from {
                Some(from) if Some(from) == self.fold && payload.is_some() => {
                    Value::Text(payload.as_deref().unwrap_or_default())
                }
                Some(from) => batch.value(row, from),
                None => Value::Null,
            };
            let tagged = kept.get(&column.name);
            let stale = |fingerprint: &mut Fingerprint, was: &String| {
                let kind = column.from.map_or(column.kind, |from| self.raw[from]);
                fingerprint.of(kind, value) != *was
            };
            let given = match tagged {
                None => false,
                Some(tagged) => match (tagged.get("made"), tagged.get("was")) {
                    (Some(made), _) if still_made(made, value) => {
                        out.push(Value::Null);
                        true
                    }
                    (Some(_), _) => false,
                    (None, Some(was)) if stale(&mut self.fingerprint, was) => false,
                    // others may refer to the key by now: the row keeps it, and is marked
                    _ if column.key && tagged.contains_key("null") => {
                        out.set_keyless(out.rows());
                        false
                    }
                    (None, _) => push_tagged(column.kind, tagged, out),
                },
            };
            if !given {
                push_as(column.kind, value, out);
            } else if let (true, Value::Time(instant)) = (column.local, value) {
                note_offset(instant, out);
            }
        }
    }

    /// The payload without what was folded into it, which joins what was kept; None if nothing was.
    fn unfold(
        &mut self,
        batch: &Batch,
        row: usize,
        kept: &mut BTreeMap<String, Tagged>,
    ) -> Option<Vec<u8>> {
        let fold = self.fold?;
        let value = batch.value(row, fold);
        let Value::Text(text) = value else { return None };
        memchr::memmem::find(text, RESERVED_KEY.as_bytes())?;
        let place = member(&mut self.scanner, text, RESERVED_KEY)?;
        let column = self.columns.iter().find(|c| c.from == Some(fold))?;
        let was = kept.get(&column.name).and_then(|tagged| tagged.get("was"));
        if was.is_some_and(|was| self.fingerprint.of(self.raw[fold], value) == *was) {
            // the payload came with such a key of its own
            return None;
        }
        let folded: BTreeMap<String, Tagged> =
            serde_json::from_slice(&text[place.value.clone()]).ok()?;
        // a row may have such a key of its own: ours names columns that the table lacks, and what
        // has no place under it stands beside the row
        let ours = |name: &String| {
            let lacking = |c: &Restored| c.name == *name && c.from.is_none();
            self.columns.iter().any(lacking) && !kept.contains_key(name)
        };
        if !folded.keys().all(ours) {
            return None;
        }
        kept.extend(folded);
        Some([&text[..place.whole.start], &text[place.whole.end..]].concat())
    }
}

/// The stream whose rows stand in our own table as a whole, and who makes them; None if nothing is
/// original_columns of it.
pub fn unmapped(
    table_name: &str,
    original_columns: &[OriginalColumn],
) -> Option<(Stream, Restorer)> {
    let name = table_name.strip_prefix(UNMAPPED_PREFIX)?;
    let none = Stream {
        name: name.to_owned(),
        table: name.to_owned(),
        columns: Vec::new(),
        key: Vec::new(),
        order: Vec::new(),
    };
    let (mut stream, restorer) = Restorer::new(&none, original_columns, None, &[]);
    let known = crate::layout::known_stream(name);
    let key = known.map_or_else(|| vec!["id".to_owned()], |stream| stream.key);
    stream.key = key.iter().filter_map(|name| stream.column(name)).collect();
    if stream.key.is_empty() {
        stream.key.push(0);
    }
    (!stream.columns.is_empty() && chronicle_archive::is_stream_name(name))
        .then_some((stream, restorer))
}

/// A stream whose rows have what is kept beside them as one more column, the last one.
pub fn with_sidecar(mut stream: Stream) -> Stream {
    stream.columns.push(Column {
        name: SIDECAR.into(),
        physical: SIDECAR.into(),
        kind: Kind::Jsonb,
        nullable: true,
        time_text: TimeText::None,
    });
    stream
}

/// The columns of a stream that may stand in its table only because they must, or by a default: none
/// of those that are original_columns has only that.
pub fn made_columns<'a>(
    described: &LayoutStream,
    stream: &'a Stream,
    original_columns: &[OriginalColumn],
    has_default: impl Fn(&str) -> bool,
) -> Vec<&'a Column> {
    let may = |(n, column): &(usize, &Column)| {
        let said = described.column(&column.physical);
        said.is_some_and(|c| c.default_from.is_some() || c.default.is_some())
            || (has_default(&column.physical)
                && !stream.key.contains(n)
                && !original_columns.iter().any(|r| r.column.name == column.name))
    };
    stream.columns.iter().enumerate().filter(may).map(|(_, column)| column).collect()
}

/// What is kept beside a row without the values that defaults have put into some columns; None if
/// that is all.
pub fn without_made(kept: &str, columns: &[String]) -> Option<String> {
    let mut kept = parse(kept.as_bytes());
    kept.retain(|column, tagged| !(tagged.contains_key("made") && columns.contains(column)));
    (!kept.is_empty()).then(|| SidecarValues(kept).text())
}

/// Whether a value is still the one that was made, of which the database's own text is kept.
fn still_made(made: &str, value: Value<'_>) -> bool {
    match value {
        Value::Text(text) => text == made.as_bytes(),
        Value::Int(v) => made.parse() == Ok(v),
        Value::Real(v) => made.parse() == Ok(v),
        Value::Bool(v) => made.parse() == Ok(v),
        Value::Uuid(v) => uuid::Uuid::parse_str(made).is_ok_and(|made| made.into_bytes() == v),
        Value::Time(v) => Instant::read_postgres(made.as_bytes()) == Some(v),
        Value::Null | Value::Blob(_) => false,
    }
}

/// Notes the offset of the value pushed last, if it is the local time of an instant.
fn note_offset(instant: Instant, out: &mut Batch) {
    let Some(last) = out.cells().checked_sub(1) else { return };
    if let Value::Text(text) = out.value_at(last)
        && let Some(offset) = offset_at(text, instant)
    {
        out.set_offset(last, offset);
    }
}

fn parse(text: &[u8]) -> BTreeMap<String, Tagged> {
    serde_json::from_slice(text).unwrap_or_default()
}

/// Appends a value of the target as the column's former kind spells it, where it can.
fn push_as(kind: Kind, value: Value<'_>, out: &mut Batch) {
    let mut text = Vec::new();
    let given = match (kind, value) {
        (Kind::Text, Value::Time(v)) => {
            if !v.write_portable(&mut text) {
                v.write_postgres(&mut text);
            }
            Value::Text(&text)
        }
        (Kind::Text, Value::Uuid(v)) => {
            text.extend_from_slice(uuid::Uuid::from_bytes(v).to_string().as_bytes());
            Value::Text(&text)
        }
        (Kind::Time, Value::Text(t)) => Instant::read_portable(t)
            .or_else(|| Instant::read_postgres(t))
            .map_or(value, Value::Time),
        (Kind::Uuid, Value::Text(t)) => {
            uuid::Uuid::try_parse_ascii(t).map_or(value, |v| Value::Uuid(v.into_bytes()))
        }
        (Kind::Bool, Value::Int(v @ 0..=1)) => Value::Bool(v == 1),
        (Kind::Int, Value::Bool(v)) => Value::Int(i64::from(v)),
        (Kind::Int, Value::Text(t)) => std::str::from_utf8(t)
            .ok()
            .and_then(|t| t.parse().ok().filter(|v: &i64| v.to_string() == t))
            .map_or(value, Value::Int),
        _ => value,
    };
    out.push(given);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, kind: Kind) -> Column {
        Column {
            name: name.into(),
            physical: name.into(),
            kind,
            nullable: true,
            time_text: TimeText::None,
        }
    }

    fn stream() -> Stream {
        Stream {
            name: "events".into(),
            table: "chronicle_events".into(),
            columns: vec![
                column("id", Kind::Uuid),
                column("at", Kind::Time),
                column("data", Kind::Jsonb),
                column("must", Kind::Text),
            ],
            key: vec![0],
            order: vec![1, 0],
        }
    }

    #[test]
    fn what_was_kept_comes_back_and_what_was_edited_stays() {
        let original_columns: Vec<OriginalColumn> =
            [("at", Kind::Text), ("data", Kind::Json), ("tool", Kind::Text), ("n", Kind::Int)]
                .into_iter()
                .enumerate()
                .map(|(n, (name, kind))| OriginalColumn {
                    table: "chronicle_events".into(),
                    place: n + 1,
                    column: column(name, kind),
                })
                .collect();
        let (was, mut restorer) =
            Restorer::new(&stream(), &original_columns, Some("data"), &["must".into()]);
        let names: Vec<&str> = was.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["at", "data", "tool", "n", "id"]);
        assert!(was.order.is_empty(), "the times are texts again");
        let loaded = Value::Text(b"{\"a\": 1}");
        let mut kept = SidecarValues::default();
        kept.original(
            "data",
            Value::Text(b"{ \"a\":1 }"),
            Fingerprint::default().of(Kind::Jsonb, loaded),
        );
        kept.original("at", Value::Text(b"noon"), "0".repeat(16));
        let mut folded = SidecarValues::default();
        folded.missing("tool", Value::Text(b"Bash"));
        folded.missing("n", Value::Int(7));
        let payload = folded.fold_into(&mut Scanner::default(), b"{\"a\": 1}").unwrap();
        let (sidecar, mut raw, mut out) = (kept.text(), Batch::default(), Batch::default());
        raw.start(0, 5, 1);
        raw.push(Value::Uuid([7; 16]));
        raw.push(Value::Time(Instant(0)));
        raw.push(Value::Text(&payload));
        raw.push(Value::Text(b"must"));
        raw.push(Value::Text(sidecar.as_bytes()));
        out.start(0, 5, 1);
        restorer.restore(&raw, 0, &mut out);
        // its fingerprint does not fit: somebody has changed the time since
        assert_eq!(out.value(0, 0), Value::Text(b"2000-01-01T00:00:00.000000Z"));
        assert_eq!(out.value(0, 1), Value::Text(b"{ \"a\":1 }"));
        assert_eq!(out.value(0, 2), Value::Text(b"Bash"));
        assert_eq!(out.value(0, 3), Value::Int(7));
        assert_eq!(out.value(0, 4), Value::Uuid([7; 16]));
    }

    #[test]
    fn every_class_of_value_is_kept_whole() {
        let values = [
            Value::Null,
            Value::Int(i64::MIN),
            Value::Real(f64::NEG_INFINITY),
            Value::Real(-0.0),
            Value::Bool(true),
            Value::Uuid([9; 16]),
            Value::Time(Instant::INFINITY),
            Value::Text(b"a\0b"),
            Value::Text(b"\xff"),
            Value::Blob(b""),
        ];
        for value in values {
            let mut out = Batch::default();
            out.start(0, 1, 1);
            let kind = match value {
                Value::Bool(_) => Kind::Bool,
                Value::Uuid(_) => Kind::Uuid,
                Value::Time(_) => Kind::Time,
                _ => Kind::Text,
            };
            assert!(push_tagged(kind, &tag(value), &mut out), "{value:?}");
            assert_eq!(out.value(0, 0), value);
        }
    }

    #[test]
    fn only_an_object_without_the_key_carries_anything() {
        let mut kept = SidecarValues::default();
        kept.missing("n", Value::Int(7));
        for none in ["", "[]", "null", "x", r#"{"chronicle_dump":1}"#] {
            assert_eq!(kept.fold_into(&mut Scanner::default(), none.as_bytes()), None, "{none}");
        }
        let into = |text: &str| {
            let folded = kept.fold_into(&mut Scanner::default(), text.as_bytes());
            String::from_utf8(folded.unwrap()).unwrap()
        };
        assert_eq!(into("{ }"), r#"{ "chronicle_dump":{"n":{"int":"7"}}}"#);
        assert_eq!(into(r#"{"a":1} "#), r#"{"a":1,"chronicle_dump":{"n":{"int":"7"}}} "#);
    }
}
