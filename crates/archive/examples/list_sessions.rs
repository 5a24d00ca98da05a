//! Lists the sessions of an archive: `cargo run -p chronicle-archive --example list_sessions FILE`.

use std::error::Error;
use std::fs::File;
use std::io::Write;

use chronicle_archive::{ArchiveReader, Batch, Limits, show};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).ok_or("usage: list_sessions FILE")?;
    let mut reader = ArchiveReader::open(File::open(path)?, Limits::default())?;
    let stream = reader.stream("sessions").ok_or("the archive has no stream sessions")?;
    let id = reader.streams()[stream].column("id").ok_or("sessions have no column id")?;
    let (mut batch, mut out) = (Batch::default(), std::io::stdout().lock());
    // false only after the manifest agreed: what ends without it is an error
    while reader.next_batch(&mut batch)? {
        for row in (0..batch.rows()).filter(|_| batch.stream() == stream) {
            writeln!(out, "{}", show(batch.value(row, id)))?;
        }
    }
    Ok(())
}
