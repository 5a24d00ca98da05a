//! Dumps: what `pg_dump`, `pg_dumpall` and `supabase db dump` write as plain SQL, read without a server.
//!
//! `walk` goes once over the text and has each part read: `input` decompresses it, `sql` tells statements apart, `schema` and
//! `types` learn the tables from them, and `found` takes the rows of Chronicle's tables, whose `values` become those of a
//! live export and are sorted in its `order`. `source` hands them out, with what the sidecar stores, as a server's rows.

mod found;
mod input;
mod interval;
mod order;
mod restoring;
mod row_text;
mod schema;
mod source;
mod sql;
mod stored;
mod types;
mod values;
mod walk;

use tokio::sync::oneshot;

use super::quoted;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::sidecar::Recipe;
use crate::source::SourceOptions;
use walk::Wanted;

pub use input::{Bytes, RESTORE};
pub use source::DumpSource;

/// What to do about a dump that is not whole.
const CUT: &str =
    "it was cut or damaged in transit, or is still being written: fetch it or dump it again";

/// What to do where a dump does not say enough.
const LIVE: &str = "restore the dump into a server and export from there: psql -f DUMP";

/// Reads a dump to its end: rows as stored, and how those of each stream are restored. Of several databases or schemas with
/// Chronicle's tables, one must be named.
///
/// # Errors
/// If it is not complete, not plain SQL, or its tables are of no known layout.
pub async fn open(
    input: Bytes,
    [database, schema]: [Option<&str>; 2],
    options: &SourceOptions,
    cancel: &Cancel,
) -> Result<(DumpSource, Vec<Option<Recipe>>)> {
    let wanted = Wanted::new(database, schema, options.layout.as_ref(), options.sorted)?;
    let (options, stop) = (options.clone(), cancel.clone());
    let (done, read) = oneshot::channel();
    let failed = || Error::new(Code::Internal, "the reading thread has failed");
    // a pipe may have nothing to read: a stop is seen all the same
    std::thread::Builder::new()
        .name("dump".into())
        .spawn(move || {
            let content = walk::read(input, &wanted, &stop);
            let _ = done.send(content.and_then(|content| DumpSource::new(content, &options)));
        })
        .map_err(|e| failed().because(e))?;
    cancel.or(async { read.await.map_err(|_| failed())? }).await
}
