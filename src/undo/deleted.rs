//! The rows that a rollback deletes, written before they go: an archive of its own, which stands behind the receipts.
//!
//! It is read back to its end on a thread of its own, while they go.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::thread::JoinHandle;

use super::receipts::{BYTES, LEVEL, ROWS, no_file, no_shape, too_large, unsorted, verified};
use super::{Shape, ShapeTable};
use crate::error::{Code, Error, Result};
use chronicle_archive::{
    ArchiveWriter, Batch, CHUNK_TARGET, Column, Header, Kind, Origin, Value, WriterOptions, Written,
};

/// Writes rows, table by table in the order of a shape.
pub struct DeletedWriter {
    writer: ArchiveWriter<File>,
    batch: Batch,
    widths: Vec<usize>,
    rows: Vec<u64>,
}

impl DeletedWriter {
    /// Starts an archive in a nameless temporary file; `kind` says what the values of a column are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(tables: &[ShapeTable], kind: impl Fn(&str) -> Kind) -> Result<DeletedWriter> {
        let file = tempfile::tempfile().map_err(no_file)?;
        let mut streams = Vec::new();
        for (n, table) in tables.iter().enumerate() {
            let columns = table.columns.iter().enumerate();
            let columns = columns.map(|(c, of)| Column::new(&format!("was{c}"), kind(&of.ty)));
            let mut stream = unsorted(&format!("deleted_{n}"), columns.collect());
            stream.table.clone_from(&table.name);
            streams.push(stream);
        }
        let widths: Vec<usize> = streams.iter().map(|s| s.columns.len()).collect();
        let header = Header::new(Origin::default(), &streams, CHUNK_TARGET);
        let options = WriterOptions { level: LEVEL, seek_table: false, ..WriterOptions::default() };
        let writer = ArchiveWriter::create(file, &header, streams, options)?;
        let rows = vec![0; widths.len()];
        Ok(DeletedWriter { writer, batch: Batch::default(), widths, rows })
    }

    /// Writes a row of a table.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn row<'a>(&mut self, table: usize, values: impl Iterator<Item = Value<'a>>) -> Result<()> {
        let full = self.batch.rows() >= ROWS || self.batch.size() >= BYTES;
        if full || self.batch.stream() != table {
            self.flush()?;
        }
        if self.batch.rows() == 0 {
            self.batch.start(table, self.widths[table], self.rows[table] + 1);
        }
        self.rows[table] += 1;
        values.for_each(|value| self.batch.push(value));
        Ok(())
    }

    /// How many rows of each table were written.
    pub fn rows(&self) -> &[u64] {
        &self.rows
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.rows() > 0 {
            self.writer.write(&self.batch).map_err(too_large)?;
        }
        self.batch.start(0, 1, 1);
        self.batch.release_large();
        Ok(())
    }

    /// Seals the archive, and starts to read it back.
    ///
    /// # Errors
    /// As [`row`](DeletedWriter::row).
    pub fn finish(mut self) -> Result<DeletedRows> {
        self.flush()?;
        let (file, written) = self.writer.finish()?;
        let read_back = ReadBack { file: file.try_clone().map_err(no_file)?, at: 0 };
        let read = move || verified(read_back);
        let proof =
            std::thread::Builder::new().name("proof".into()).spawn(read).map_err(no_file)?;
        Ok(DeletedRows { file, written, rows: self.rows, proof })
    }
}

/// Rows that were written, and are being read back.
pub struct DeletedRows {
    file: File,
    /// What was written.
    pub written: Written,
    /// How many there are of each table.
    pub rows: Vec<u64>,
    proof: JoinHandle<Result<String>>,
}

impl DeletedRows {
    /// Their file, read from the start.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn file(&mut self) -> Result<&File> {
        self.file.seek(SeekFrom::Start(0)).map_err(no_file)?;
        Ok(&self.file)
    }

    /// Waits until all were read back.
    ///
    /// # Errors
    /// If they are not what was written.
    pub fn prove(self) -> Result<()> {
        let died = || Error::new(Code::Internal, "a thread has failed");
        let digest = self.proof.join().map_err(|_| died())??;
        if digest != self.written.digest {
            let what = "the deleted rows are not what was written; nothing was changed";
            return Err(Error::new(Code::Readback, what));
        }
        Ok(())
    }
}

/// A file that is read whatever place others are at in it.
struct ReadBack {
    file: File,
    at: u64,
}

impl Read for ReadBack {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(into, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Which table of a shape the streams of such an archive belong to.
pub(super) fn tables_of(
    streams: &[chronicle_archive::Stream],
    shape: &Shape,
) -> Result<Vec<usize>> {
    let table = |stream: &chronicle_archive::Stream| {
        let found = shape.tables.iter().position(|table| table.name == stream.table);
        found.ok_or_else(no_shape)
    };
    streams.iter().map(table).collect()
}
