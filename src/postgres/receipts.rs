//! Writing the receipts of a batch into the database, and proving that they are there.

use std::io::BufReader;

use super::batch::OpenBatch;
use super::undo::{PgUndo, kind};
use crate::error::{Code, Error, Result};
use crate::fault;
use crate::history::{BatchRecord, ReceiptsDigest};
use crate::undo::{Noted, Shape, collect, verified};

/// Writes the receipts of a batch, reads them back, and seals its record.
pub(super) async fn write_receipts(
    undo: &mut PgUndo<'_>,
    batch: &OpenBatch,
    record: &mut BatchRecord,
    shape: &Shape,
    noted: &[Noted],
) -> Result<()> {
    record.note_shapes(shape.fingerprints())?;
    let (mut file, written, tables) = collect(undo, shape, noted, kind).await?;
    let (connection, id) = (undo.connection(), record.batch_id);
    fault::point("receipts: before they are stored")?;
    let first = batch.tables().store(connection, id, &mut file).await?;
    fault::point("receipts: before they are read back")?;
    let stored = batch.tables().load(connection, id, first).await?;
    let digest = verified(BufReader::new(stored)).map_err(|e| not_as_written().because(e))?;
    if digest != written.digest {
        return Err(not_as_written());
    }
    fault::point("receipts: after they are read back")?;
    record.seal(tables, Some(ReceiptsDigest::new(digest, written.compressed_bytes)));
    Ok(())
}

fn not_as_written() -> Error {
    Error::new(
        Code::Readback,
        "the receipts are not stored as they were written; nothing was changed",
    )
    .hint("--no-undo leaves them out; the batch cannot be rolled back then")
}
