//! Rows as they were where they came from: what their sidecars store, put back.

use std::collections::BTreeMap;

use super::value::{LOADED, Tagged, parse, push_as, push_tagged};
use super::{
    ALSO_WHOLE, DEFAULT, Fingerprint, OriginalColumn, RESERVED_KEY, UNMAPPED_PREFIX, with_sidecar,
};
use chronicle_archive::json::{Scanner, member};
use chronicle_archive::time::{Instant, offset_at};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};

/// Restores rows from their sidecars.
pub struct Restorer {
    columns: Vec<RestoredColumn>,
    raw: Vec<Kind>,
    fold: Option<usize>,
    scanner: Scanner,
    fingerprint: Fingerprint,
}

struct RestoredColumn {
    name: String,
    /// Its position in the rows that are read, if it has one.
    from: Option<usize>,
    kind: Kind,
    /// Whether its texts without a zone are local times.
    local: bool,
    key: bool,
}

impl Restorer {
    /// The stream as it was where it came from, and what restores its rows from those of `stream`,
    /// each of which has its sidecar as one more text column. `fillers` names the columns that every
    /// row has only because the table requires them: they are left out.
    pub fn new(
        stream: &Stream,
        original_columns: &[OriginalColumn],
        fold: Option<&str>,
        fillers: &[String],
    ) -> (Stream, Restorer) {
        let original = |name: &str| original_columns.iter().find(|r| r.column.name == name);
        let mut columns: Vec<(usize, Column, Option<usize>)> = Vec::new();
        for (n, column) in stream.columns.iter().enumerate() {
            if fillers.contains(&column.name) {
                continue;
            }
            columns.push(match original(&column.name) {
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
        let positions = |places: &[usize]| -> Vec<usize> {
            places.iter().filter_map(|n| find(&stream.columns[*n].name)).collect()
        };
        // restored values need not be in the order in which the rows are read
        // and where all columns that came are known, another one may be missing in some rows
        let preserved = original_columns.iter().any(|r| stream.column(&r.column.name).is_some());
        let same = |n: &usize| {
            let column = &stream.columns[*n];
            original(&column.name).map_or(!preserved, |r| r.column.kind == column.kind)
        };
        let order =
            if stream.order.iter().all(same) { positions(&stream.order) } else { Vec::new() };
        let (key, raw) = (positions(&stream.key), stream.columns.iter().map(|c| c.kind).collect());
        let restored = (columns.iter())
            .map(|(_, c, from)| RestoredColumn {
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

    /// Appends a row as it was to `out`, unless it is stored whole, too, and nobody has edited it.
    pub fn restore(&mut self, batch: &Batch, row: usize, out: &mut Batch) {
        let mut stored = match batch.value(row, self.raw.len()) {
            Value::Text(text) => parse(text),
            _ => BTreeMap::new(),
        };
        if stored.get(ALSO_WHOLE).is_some_and(|was| self.is_unedited(was, batch, row)) {
            return;
        }
        let payload = self.unfold(batch, row, &mut stored);
        for n in 0..self.columns.len() {
            let column = &self.columns[n];
            let value = match column.from {
                Some(from) if Some(from) == self.fold && payload.is_some() => {
                    Value::Text(payload.as_deref().unwrap_or_default())
                }
                Some(from) => batch.value(row, from),
                None => Value::Null,
            };
            let tagged = stored.get(&column.name);
            let stale = |fingerprint: &mut Fingerprint, was: &String| {
                let kind = column.from.map_or(column.kind, |from| self.raw[from]);
                fingerprint.of(kind, value) != *was
            };
            let given = match tagged {
                None => false,
                Some(tagged) => match (tagged.get(DEFAULT), tagged.get(LOADED)) {
                    (Some(default), _) if is_default(default, value) => {
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

    /// The payload without what was folded into it, which joins what was stored; None if nothing was.
    fn unfold(
        &mut self,
        batch: &Batch,
        row: usize,
        stored: &mut BTreeMap<String, Tagged>,
    ) -> Option<Vec<u8>> {
        let fold = self.fold?;
        let value = batch.value(row, fold);
        let Value::Text(text) = value else { return None };
        memchr::memmem::find(text, RESERVED_KEY.as_bytes())?;
        let place = member(&mut self.scanner, text, RESERVED_KEY)?;
        let column = self.columns.iter().find(|c| c.from == Some(fold))?;
        let was = stored.get(&column.name).and_then(|tagged| tagged.get(LOADED));
        if was.is_some_and(|was| self.fingerprint.of(self.raw[fold], value) == *was) {
            // the payload came with such a key of its own
            return None;
        }
        let folded: BTreeMap<String, Tagged> =
            serde_json::from_slice(&text[place.value.clone()]).ok()?;
        // a row may have such a key of its own: ours names columns that the table lacks, and what
        // has no place under it is in the sidecar
        let ours = |name: &String| {
            let lacking = |c: &RestoredColumn| c.name == *name && c.from.is_none();
            self.columns.iter().any(lacking) && !stored.contains_key(name)
        };
        if !folded.keys().all(ours) {
            return None;
        }
        stored.extend(folded);
        Some([&text[..place.whole.start], &text[place.whole.end..]].concat())
    }
}

/// The default that an entry has for a column, as the database's own text.
pub fn default_of(entry: &[u8], column: &str) -> Option<String> {
    parse(entry).remove(column)?.remove(DEFAULT)
}

/// How the stored rows of a stream become those that were loaded.
pub struct Recipe {
    /// The stream as it was where its rows came from.
    pub original: Stream,
    /// What turns stored rows, which have their sidecar entry as their last column, into its rows.
    pub restorer: Restorer,
}

/// A stream whose rows are stored whole.
pub struct UnmappedStream {
    /// As it is stored: entries alone.
    pub stored: Stream,
    /// How its rows are restored.
    pub recipe: Recipe,
}

/// The stream whose rows are stored whole under this name; None if no columns of it are known.
pub fn unmapped(table_name: &str, original_columns: &[OriginalColumn]) -> Option<UnmappedStream> {
    let name = table_name.strip_prefix(UNMAPPED_PREFIX)?;
    let none = Stream {
        name: name.to_owned(),
        table: name.to_owned(),
        columns: Vec::new(),
        key: Vec::new(),
        order: Vec::new(),
    };
    let (mut original, restorer) = Restorer::new(&none, original_columns, None, &[]);
    let known = crate::layout::known_stream(name);
    let key = known.map_or_else(|| vec!["id".to_owned()], |stream| stream.key.clone());
    original.key = key.iter().filter_map(|name| original.column(name)).collect();
    if original.key.is_empty() {
        original.key.push(0);
    }
    let known = !original.columns.is_empty() && chronicle_archive::is_stream_name(name);
    let stored = with_sidecar(none);
    known.then_some(UnmappedStream { stored, recipe: Recipe { original, restorer } })
}

/// Whether a value is still the default, of which the database's own text is stored.
pub fn is_default(default: &str, value: Value<'_>) -> bool {
    match value {
        Value::Text(text) => text == default.as_bytes(),
        Value::Int(v) => default.parse() == Ok(v),
        Value::Real(v) => default.parse() == Ok(v),
        Value::Bool(v) => default.parse() == Ok(v),
        Value::Uuid(v) => {
            uuid::Uuid::parse_str(default).is_ok_and(|default| default.into_bytes() == v)
        }
        Value::Time(v) => Instant::read_postgres(default.as_bytes()) == Some(v),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sidecar::SidecarValues;

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
    fn originals_come_back_and_edited_values_stay() {
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
        let mut stored = SidecarValues::default();
        stored.original(
            "data",
            Value::Text(b"{ \"a\":1 }"),
            Fingerprint::default().of(Kind::Jsonb, loaded),
        );
        stored.original("at", Value::Text(b"noon"), "0".repeat(16));
        let mut folded = SidecarValues::default();
        folded.missing("tool", Value::Text(b"Bash"));
        folded.missing("n", Value::Int(7));
        let payload = folded.fold_into(&mut Scanner::default(), b"{\"a\": 1}").unwrap();
        let (sidecar, mut raw, mut out) = (stored.text(), Batch::default(), Batch::default());
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
}
