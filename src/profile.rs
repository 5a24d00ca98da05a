//! What an archive holds, found by reading all of it: rows, times, and the values that plain JSON
//! cannot express.

use std::collections::BTreeMap;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::Result;
use crate::progress::Progress;
use chronicle_archive::Sealed;
use chronicle_archive::codec;
use chronicle_archive::json::Scanner;
use chronicle_archive::{Batch, show};

/// Values of one class that plain JSON cannot express: the archive stores them outside their records.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NonportableValues {
    /// The stream.
    pub stream: String,
    /// The column.
    pub column: String,
    /// What they are: `text64` is text that is not UTF-8, `json` is not a portable JSON object, the
    /// others are of a class that the column does not declare.
    pub class: &'static str,
    /// How many values.
    pub values: u64,
    /// The key of the first row.
    pub first_key: String,
}

/// What was found.
#[derive(Debug)]
pub struct Profile {
    /// What is known of the archive.
    pub sealed: Sealed,
    /// The values that plain JSON cannot express.
    pub nonportable: Vec<NonportableValues>,
}

/// Reads an archive to its end; every batch is also given to `also`.
///
/// # Errors
/// A damaged or cut archive, or a stop.
pub async fn profile(
    archive_input: &mut ArchiveInput,
    also: &mut (dyn FnMut(&Batch) + Send),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Profile> {
    let mut scanner = Scanner::default();
    let mut found: BTreeMap<(usize, usize, &'static str), (u64, String)> = BTreeMap::new();
    let mut batch = Batch::default();
    let sealed = loop {
        if let Some(sealed) = cancel.or(archive_input.next(&mut batch)).await? {
            break sealed;
        }
        also(&batch);
        let stream = &archive_input.streams[batch.stream()];
        for row in 0..batch.rows() {
            for (n, column) in stream.columns.iter().enumerate() {
                let key = stream.key.contains(&n);
                let value = batch.value(row, n);
                if let Some(class) = codec::nonportable(&mut scanner, column.kind, key, value) {
                    let first = || {
                        let key = stream.key.iter().map(|k| show(batch.value(row, *k)));
                        (0, key.collect::<Vec<_>>().join(", "))
                    };
                    found.entry((batch.stream(), n, class)).or_insert_with(first).0 += 1;
                }
            }
        }
        progress.add_rows(batch.rows());
    };
    let nonportable =
        found.into_iter().map(|((stream, column, class), (values, first_key))| NonportableValues {
            stream: archive_input.streams[stream].name.clone(),
            column: archive_input.streams[stream].columns[column].name.clone(),
            class,
            values,
            first_key,
        });
    Ok(Profile { sealed, nonportable: nonportable.collect() })
}
