//! What the sidecar of a dump says of the rows of a table: whether and how they are restored.

use super::found::OwnRows;
use super::row_text::RowText;
use super::stored::{StoredRow, StoredRows};
use crate::error::Result;
use crate::layout::LayoutStream;
use crate::postgres::catalog::PgTable;
use crate::sidecar::{Recipe, Restorer, default_columns, default_of, is_default};
use chronicle_archive::{Stream, Value};

/// How the rows of a table are restored, if anything is stored of them; `text` makes texts of them.
pub(super) fn recipe(
    own: &OwnRows,
    described: &LayoutStream,
    table: &PgTable,
    stream: &Stream,
    rows: &mut StoredRows,
    text: RowText,
) -> Result<Option<Recipe>> {
    let original_columns = own.original_columns_of(&stream.table);
    let space = own.space_of(&stream.table);
    if !own.has_sidecar() || (original_columns.is_empty() && space.is_none()) {
        return Ok(None);
    }
    rows.read_entries(stream, space);
    if own.whole.contains(&stream.table) {
        rows.leave_out_created(&stream.table, text);
    }
    let has_default = |name: &str| table.columns.iter().any(|c| c.name == name && c.has_default);
    let candidates = default_columns(described, stream, &original_columns, has_default);
    let mut fillers: Vec<Filler<'_>> = candidates
        .into_iter()
        .filter_map(|column| Some(Filler::new(&column.name, stream.column(&column.name)?)))
        .collect();
    if !fillers.is_empty() {
        let mut rows = rows.read()?;
        while let Some(StoredRow { values, entry }) = rows.next_kept(&own.entries)? {
            for filler in &mut fillers {
                filler.look(entry.as_deref(), values[filler.place]);
            }
            fillers.retain(|filler| filler.may_be);
        }
    }
    let fillers: Vec<String> =
        fillers.iter().filter(|f| f.has_any).map(|f| f.column.to_owned()).collect();
    let (original, restorer) =
        Restorer::new(stream, &original_columns, described.fold.as_deref(), &fillers);
    Ok(Some(Recipe { original, restorer }))
}

/// A column whose values may all be there only because the table requires one, or by its default.
struct Filler<'a> {
    column: &'a str,
    place: usize,
    may_be: bool,
    has_any: bool,
}

impl<'a> Filler<'a> {
    fn new(column: &'a str, place: usize) -> Filler<'a> {
        Filler { column, place, may_be: true, has_any: false }
    }

    fn look(&mut self, entry: Option<&[u8]>, value: Value<'_>) {
        let default = entry.and_then(|entry| default_of(entry, self.column));
        self.has_any |= default.is_some();
        self.may_be &= match default {
            Some(default) => is_default(&default, value),
            None => value == Value::Null,
        };
    }
}
