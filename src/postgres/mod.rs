//! The Postgres room: the only place that names tokio-postgres.
//!
//! [`conninfo`] reads how a server is named, [`connection`] gets in, [`catalog`] looks at the
//! tables, [`source`] reads them and [`target`] writes them; [`binary`] is the form of COPY in
//! which rows cross the wire, in both directions.

pub mod catalog;
pub mod connection;
pub mod conninfo;
pub mod copy_codec;
pub mod load;
pub mod source;

/// A name as SQL writes it.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// SQL for a row as one text, by which it is seen whether the row was edited. A column without a value
/// is left out: one that is added later changes nothing.
pub(crate) fn row_text(row: &str) -> String {
    format!("jsonb_strip_nulls(to_jsonb({row}))::text")
}

/// A text as SQL writes it.
pub(crate) fn literal(text: &str) -> String {
    // E'' reads a backslash the same whatever standard_conforming_strings says
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
