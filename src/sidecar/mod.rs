//! What a target cannot hold and does not lose: the originals of changed values and the values of
//! columns that it lacks, stored in tables of our own when rows are loaded and restored by an export.
//!
//! Two tables of our own are created, only when they are needed:
//!
//! - `chronicle_dump_sidecar(table_name, key, entry)`: per row one JSON object that names columns.
//!   `{"data":{"text":"…","loaded":"…"}}` is the original of a column together with the fingerprint of
//!   what was loaded in its place: a row that was edited since keeps its new value.
//!   `{"git_commit":{"text":"…"}}` is the value of a column that the table lacks,
//!   `{"alias":{"default":"…"}}` a value that exists only because the table requires one, or by the
//!   table's own default, and
//!   `{"*":{"default":"…"}}` a row that was created as a whole for rows which refer to it.
//! - `chronicle_dump_sidecar_columns(table_name, name, place, kind, time_text)`: the columns that the
//!   rows had where they came from.
//!
//! The rows of a stream that the target has no table for are stored whole, under [`UNMAPPED_PREFIX`] and
//! the stream's name. A row that is stored whole and loaded, too, says so under `*also_whole`, with the
//! fingerprints of its columns.
//!
//! Where a row has a JSON object to carry them, values of columns that the table lacks are in it
//! under [`RESERVED_KEY`], in the same form.

mod fingerprint;
mod restore;
mod value;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use self::value::{parse, tagged_value, value_of};
use crate::identity::show_id;
use crate::layout::LayoutStream;
use chronicle_archive::{Column, Kind, Stream, TimeText};

pub use fingerprint::Fingerprint;
pub use restore::{Recipe, Restorer, UnmappedStream, default_of, is_default, unmapped};
pub use value::{DEFAULT, SidecarValues, comes_back, in_ascii, is_same};

/// The table of what rows cannot hold.
pub const SIDECAR: &str = "chronicle_dump_sidecar";
/// The table of the columns that rows had where they came from.
pub const COLUMNS: &str = "chronicle_dump_sidecar_columns";
/// The prefix of the name of a stream without a table, where others have their table's name.
pub const UNMAPPED_PREFIX: &str = "stream:";
/// The name under which a row says that it was created as a whole, where others have the names of
/// columns: with the row as it was created, so that an export leaves it out until it is edited.
pub const WHOLE_ROW: &str = "*";
/// The name under which a row says that it is stored whole, too, as a row of its own stream: it is left
/// out as long as nobody has edited it.
const ALSO_WHOLE: &str = "*also_whole";
/// The key of a row's JSON object that holds the values of columns without a place.
pub const RESERVED_KEY: &str = "chronicle_dump";

/// What is stored of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SidecarEntry {
    /// The row's number among those that are loaded with it.
    pub row: usize,
    /// The row's key in the target, as text.
    pub key: String,
    /// The JSON object.
    pub text: String,
}

/// The stored entry of an existing row, joined with the one that arrives with it: None if that adds nothing.
///
/// # Errors
/// The first column of which another original is stored.
pub fn joined(stored: &str, arriving: &str) -> Result<Option<String>, String> {
    let (mut all, arriving) = (parse(stored.as_bytes()), parse(arriving.as_bytes()));
    let before = all.len();
    for (column, tagged) in arriving {
        match all.get(&column) {
            Some(known) if *known != tagged => return Err(column),
            _ => drop(all.insert(column, tagged)),
        }
    }
    Ok((all.len() > before).then(|| SidecarValues::of(all).text()))
}

/// The stored entry of an existing row with what arrives in place of what it has.
pub fn replaced(stored: &str, arriving: &str) -> String {
    let mut all = parse(stored.as_bytes());
    all.extend(parse(arriving.as_bytes()));
    SidecarValues::of(all).text()
}

/// What arrives for a row in place of its stored entry, with the values by default that this one has; None if there is
/// nothing to store.
pub fn exactly(stored: &str, arriving: Option<&str>) -> Option<String> {
    let mut all = parse(stored.as_bytes());
    all.retain(|_, tagged| tagged.contains_key(DEFAULT));
    all.extend(arriving.map(|text| parse(text.as_bytes())).unwrap_or_default());
    (!all.is_empty()).then(|| SidecarValues::of(all).text())
}

/// The entry of a row, if it has one, with what arrives under some names that it lacks; None if nothing does.
pub fn added(stored: Option<&str>, arriving: &str, names: &[String]) -> Option<String> {
    let mut all = stored.map(|text| parse(text.as_bytes())).unwrap_or_default();
    let before = all.len();
    for (name, tagged) in parse(arriving.as_bytes()) {
        if names.contains(&name) {
            all.entry(name).or_insert(tagged);
        }
    }
    (all.len() > before).then(|| SidecarValues::of(all).text())
}

/// An entry without some names; None if that is all.
pub fn without(entry: &str, names: &[String]) -> Option<String> {
    let mut stored = parse(entry.as_bytes());
    stored.retain(|name, _| !names.contains(name));
    (!stored.is_empty()).then(|| SidecarValues::of(stored).text())
}

/// The name under which the UUID of a row without an id is stored where ids are numbers.
pub const NAMELESS: &str = "nameless_id";

/// The name under which an id that refers to no row is stored where ids are numbers.
pub fn kept_reference(column: &str) -> String {
    format!("original_{column}")
}

/// The id of a row where it came from, as [`show_id`] names it, if its sidecar has it under one of
/// `names`.
pub fn original_id(sidecar: &str, names: &[String]) -> Option<String> {
    let stored = parse(sidecar.as_bytes());
    let tagged = names.iter().find_map(|name| stored.get(name))?;
    let bytes = BASE64.decode(value_of(tagged)?.1).ok();
    tagged_value(tagged, bytes.as_deref()).map(show_id)
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

/// A stream whose rows have their sidecar as one more column, the last one.
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

/// The columns of a stream that may have a value only because the table requires one, or by its
/// default: none of the original columns has only that.
pub fn default_columns<'a>(
    described: &LayoutStream,
    stream: &'a Stream,
    original_columns: &[OriginalColumn],
    has_default: impl Fn(&str) -> bool,
) -> Vec<&'a Column> {
    let may = |(n, column): &(usize, &Column)| {
        let layout_column = described.column(&column.physical);
        layout_column.is_some_and(|c| c.default_from.is_some() || c.default.is_some())
            || (has_default(&column.physical)
                && !stream.key.contains(n)
                && !original_columns.iter().any(|r| r.column.name == column.name))
    };
    stream.columns.iter().enumerate().filter(may).map(|(_, column)| column).collect()
}

/// The sidecar of a row without the defaults of some columns; None if that is all.
pub fn without_defaults(sidecar: &str, columns: &[String]) -> Option<String> {
    let mut stored = parse(sidecar.as_bytes());
    stored.retain(|column, tagged| !(tagged.contains_key(DEFAULT) && columns.contains(column)));
    (!stored.is_empty()).then(|| SidecarValues::of(stored).text())
}
