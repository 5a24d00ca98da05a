//! The Postgres room: the only place that names tokio-postgres.
//!
//! [`conninfo`] reads how a server is named, [`connection`] gets in by way of `login`, and [`advice`] knows what helps
//! if that fails; [`catalog`] looks at the
//! tables, [`source`] reads them and [`load`] writes them; [`rollback`] takes back what was written.
//! [`dump`] reads the rows of a dump without a server.
//! [`copy_codec`] is the form of COPY in which rows cross the wire, in both directions.

pub mod advice;
pub mod attached;
mod batch;
mod cancel;
pub mod catalog;
pub mod connection;
pub mod conninfo;
pub mod copy_codec;
pub mod dump;
pub mod fields;
mod free_value;
mod history;
mod inquiry;
mod link;
pub mod load;
mod login;
mod narrow;
mod noted;
mod originals;
pub mod own_tables;
mod receipts;
pub mod rollback;
mod same;
mod sequences;
mod silence;
pub mod source;
mod tls;
mod undo;

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

/// SQL for the text that names a row `alias` by its key, given the quoted names of its columns: the same
/// as [`crate::identity::key_text`].
pub(crate) fn key_text(columns: &[String], alias: &str) -> String {
    match columns {
        [] => "NULL::text".into(),
        [column] => format!("{alias}.{column}::text"),
        several => {
            let part = |column: &String| {
                let text = format!("coalesce({alias}.{column}::text, 'NULL')");
                format!(r"replace(replace({text}, E'\\', E'\\\\'), ',', E'\\,')")
            };
            let parts: Vec<String> = several.iter().map(part).collect();
            format!("({})", parts.join(" || ', ' || "))
        }
    }
}
