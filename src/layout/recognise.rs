//! Which layout a database has: its tables and columns, compared with every layout that is known.

use std::cmp::Reverse;

use super::{Backend, Layout, LayoutStream, all};
use crate::error::{Code, Error, Result};
use chronicle_archive::show_text;

/// What tables of our own bookkeeping are called; they belong to no layout.
const OURS: &str = "chronicle_dump_";

/// A table or view as it was found.
#[derive(Debug, Clone)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its physical columns.
    pub columns: Vec<String>,
    /// Whether it is a view, which holds nothing of its own.
    pub view: bool,
}

impl Table {
    fn has(&self, column: &str) -> bool {
        self.columns.iter().any(|c| c.eq_ignore_ascii_case(column))
    }

    /// Whether a table of this name is bookkeeping of ours.
    pub fn is_ours(name: &str) -> bool {
        name.get(..OURS.len()).is_some_and(|start| start.eq_ignore_ascii_case(OURS))
    }
}

/// The layout of a database without the optional streams that it lacks: `forced` if it is
/// given, else the one that its columns fit; of several the one that asks for most.
///
/// # Errors
/// If none fits: the message shows what was found and what the nearest layout misses.
pub fn fit(backend: Backend, tables: &[Table], forced: Option<&Layout>) -> Result<Layout> {
    let tables: Vec<Table> = tables.iter().filter(|t| !Table::is_ours(&t.name)).cloned().collect();
    if let Some(layout) = forced {
        let misfits = misfits(layout, &tables);
        if misfits.is_empty() {
            return Ok(present(layout.clone(), &tables));
        }
        return Err(Error::new(
            Code::Layout,
            format!("the tables do not fit the layout {}: {}", layout.name, misfits.join("; ")),
        )
        .hint("use another --layout, or leave it out to have the tables recognised"));
    }
    let layouts = all(backend)?;
    let fitting = layouts.iter().filter(|layout| misfits(layout, &tables).is_empty());
    let best = fitting.max_by_key(|layout| (asks(layout), Reverse(&layout.name)));
    match best {
        Some(layout) => Ok(present((*layout).clone(), &tables)),
        None => Err(unknown(&layouts, &tables)),
    }
}

/// How many columns a database must have to be of a layout.
fn asks(layout: &Layout) -> usize {
    layout.streams.iter().filter(|s| !s.optional).map(|s| s.requires.len()).sum()
}

/// A layout without the optional streams whose tables are missing.
fn present(mut layout: Layout, tables: &[Table]) -> Layout {
    let mut gone: Vec<String> = Vec::new();
    layout.streams.retain(|stream| {
        let orphaned = stream.references.values().any(|parent| gone.contains(parent));
        let stays = misfits_of(stream, tables).is_empty() && !(stream.optional && orphaned);
        if !stays {
            gone.push(stream.name.clone());
        }
        stays
    });
    layout
}

/// What keeps tables from being of a layout, in words.
fn misfits(layout: &Layout, tables: &[Table]) -> Vec<String> {
    let needed = layout.streams.iter().filter(|s| !s.optional);
    needed.flat_map(|stream| misfits_of(stream, tables)).collect()
}

fn misfits_of(stream: &LayoutStream, tables: &[Table]) -> Vec<String> {
    let Some(table) = tables.iter().find(|t| t.name.eq_ignore_ascii_case(&stream.table)) else {
        return vec![format!("there is no table {}", stream.table)];
    };
    if table.view {
        return vec![format!("{} is a view, not a table", stream.table)];
    }
    let quoted = |columns: Vec<&String>| -> String {
        let names: Vec<&str> = columns.iter().map(|c| c.as_str()).collect();
        names.join(", ")
    };
    let missing: Vec<&String> = stream.requires.iter().filter(|c| !table.has(c)).collect();
    let extra: Vec<&String> = stream.forbids.iter().filter(|c| table.has(c)).collect();
    let column = |n: usize| if n == 1 { "column" } else { "columns" };
    let mut found = Vec::new();
    if !missing.is_empty() {
        let (word, names) = (column(missing.len()), quoted(missing));
        found.push(format!("table {} lacks {word} {names}", stream.table));
    }
    if !extra.is_empty() {
        let (word, names) = (column(extra.len()), quoted(extra));
        found.push(format!(
            "table {} has {word} {names}, which this layout does not have",
            stream.table
        ));
    }
    found
}

/// How far tables are from a layout that they share a table with, in columns. Any other layout is
/// further, by the part of its columns, in thousandths, that no table of another name has.
fn distance(layout: &Layout, tables: &[Table]) -> (bool, usize) {
    let (mut shared, mut far, mut found, mut asked) = (false, 0, 0, 0);
    for stream in layout.streams.iter().filter(|s| !s.optional) {
        let lacks = |t: &Table| stream.requires.iter().filter(|c| !t.has(c)).count();
        match tables.iter().find(|t| t.name.eq_ignore_ascii_case(&stream.table)) {
            None => {
                let columns = stream.requires.len();
                far += columns + 1;
                asked += columns;
                found += tables.iter().map(|t| columns - lacks(t)).max().unwrap_or(0);
            }
            Some(table) => {
                shared = true;
                far += lacks(table);
                far += stream.forbids.iter().filter(|c| table.has(c)).count();
                far += usize::from(table.view);
            }
        }
    }
    if shared { (false, far) } else { (true, 1000 - 1000 * found / asked.max(1)) }
}

/// How many tables a message shows.
const TABLES_SHOWN: usize = 6;

/// The first tables with their columns, so that people see which database this is.
fn shown(tables: &[&Table]) -> String {
    let mut shown: Vec<String> = (tables.iter().take(TABLES_SHOWN))
        .map(|t| show_text(&format!("{} ({})", t.name, t.columns.join(", "))))
        .collect();
    if tables.len() > shown.len() {
        shown.push("…".into());
    }
    shown.join("; ")
}

fn unknown(layouts: &[&Layout], tables: &[Table]) -> Error {
    let real: Vec<&Table> = tables.iter().filter(|t| !t.view).collect();
    let is_related = |t: &&&Table| t.name.contains("session") || t.name.contains("event");
    let related: Vec<&Table> = real.iter().filter(is_related).copied().collect();
    let mut found = match (real.len(), related.is_empty()) {
        (0, _) => "it has no tables".to_owned(),
        (n, true) => {
            format!("none of its {n} tables is named like sessions or events: {}", shown(&real))
        }
        (_, false) => format!("found {}", shown(&related)),
    };
    let nearest = layouts.iter().min_by_key(|layout| distance(layout, tables));
    if let Some(nearest) = nearest.filter(|_| !tables.is_empty()) {
        let misfits = misfits(nearest, tables).join("; ");
        found.push_str(&format!("; nearest: {} ({}): {misfits}", nearest.title, nearest.name));
    }
    Error::new(Code::Layout, format!("not a Chronicle database: {found}")).hint(
        "`chronicle-dump schema` lists the layouts that are known; --layout FILE supplies another, \
         schemas/layouts/README.md describes such files",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, columns: &[&str]) -> Table {
        let columns = columns.iter().map(|c| (*c).into()).collect();
        Table { name: name.into(), columns, view: false }
    }

    fn hooks() -> [Table; 2] {
        [
            table("sessions", &["id", "claude_session_id", "start_time", "metadata"]),
            table("events", &["id", "session_id", "event_type", "timestamp", "data"]),
        ]
    }

    #[test]
    fn a_file_with_both_layouts_is_recognised_as_both() {
        let sessions = ["id", "claude_session_id", "start_time", "metadata", "event_count"];
        let server = [
            table("chronicle_sessions", &sessions),
            table("chronicle_events", &["id", "session_id", "event_type", "timestamp", "metadata"]),
        ];
        let name = |tables: &[Table]| fit(Backend::Sqlite, tables, None).unwrap().name;
        assert_eq!(name(&hooks()), "hooks");
        assert_eq!(name(&server), "server");
        assert_eq!(name(&[hooks(), server].concat()), "hooks+server");
    }

    #[test]
    fn an_unknown_pair_of_tables_is_shown_with_the_nearest_layout() {
        let steps = ["id", "run_id", "event_type", "timestamp", "data"];
        let notes = [table("runs", &["id", "claude_id", "begun"]), table("steps", &steps)];
        let error = fit(Backend::Sqlite, &notes, None).unwrap_err().full();
        assert!(error.contains("runs (id, claude_id, begun); steps (id, run_id,"), "{error}");
        assert!(error.contains("; nearest: Chronicle's hooks"), "{error}");
        let error = fit(Backend::Sqlite, &[table("my_events", &["a", "b"])], None).unwrap_err();
        assert!(error.full().contains("my_events (a, b)"), "{}", error.full());
        assert_eq!(error.code(), Code::Layout);
        let mut tables = hooks();
        tables[1].columns.retain(|c| c != "data");
        let error = fit(Backend::Sqlite, &tables, None).unwrap_err().full();
        let nearest = "nearest: Chronicle's hooks (hooks): table events lacks column data";
        assert!(error.contains(nearest), "{error}");
        tables[1].view = true;
        let error = fit(Backend::Sqlite, &tables, None).unwrap_err().full();
        assert!(error.contains("events is a view, not a table"), "{error}");
    }

    #[test]
    fn our_own_tables_belong_to_no_layout() {
        let ours = table("chronicle_dump_sessions", &["id"]);
        let error = fit(Backend::Sqlite, &[ours], None).unwrap_err();
        assert!(error.full().contains("it has no tables"), "{}", error.full());
    }
}
