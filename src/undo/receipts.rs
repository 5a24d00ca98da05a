//! The receipts of a batch as an archive: the shape of its tables, then for every table the rows that were inserted and
//! those that were changed or deleted, as they were before.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::deleted::tables_of;
use super::pack::{self, pack, unpack};
use super::places::Places;
use super::{Shape, ShapeTable};
use crate::error::{Code, Error, Result};
use crate::history::TableChanges;
use crate::temporary;
use chronicle_archive::{
    ArchiveReader, ArchiveWriter, Batch, CHUNK_TARGET, Column, Header, Kind, Limits, Origin,
    Stream, Value, WriterOptions, Written,
};

/// The bytes of one piece in the table of receipts.
pub const PIECE: usize = 256 << 10;
/// The stream of the shape.
const SHAPE: &str = "shape";
/// The streams of each table.
const STREAMS: usize = 3;
/// The level of zstd: twice as fast as an archive's, and a twentieth larger.
pub(super) const LEVEL: i32 = 2;
/// The rows that are written at a time.
pub(super) const ROWS: usize = 512;
/// What stands for a column that has changed.
pub(super) const CHANGED: u8 = b'1';
/// The bytes of rows that are written at a time.
pub(super) const BYTES: usize = 1 << 20;

/// Writes receipts, table by table in the order of the shape: first the rows that were inserted, then those that
/// were changed, then how many others refer to them.
pub struct ReceiptsWriter {
    writer: ArchiveWriter<File>,
    batch: Batch,
    stream: usize,
    rows: Vec<u64>,
    /// Of each stream, how many packs were written.
    packs: Vec<u64>,
    /// The values of a row of each stream, before it is packed.
    widths: Vec<usize>,
}

impl ReceiptsWriter {
    /// Starts an archive in a nameless temporary file; `kind` says what the values of a column are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn create(shape: &Shape, kind: impl Fn(&str) -> Kind) -> Result<ReceiptsWriter> {
        let file = tempfile::tempfile().map_err(no_file)?;
        let streams = streams(shape, kind);
        let mut widths: Vec<usize> = streams.iter().map(|s| s.columns.len()).collect();
        for (n, table) in shape.tables.iter().enumerate() {
            widths[1 + STREAMS * n] = 1 + table.key.len();
        }
        let header = Header::new(Origin::default(), &streams, CHUNK_TARGET);
        let options = WriterOptions { level: LEVEL, seek_table: false, ..WriterOptions::default() };
        let writer = ArchiveWriter::create(file, &header, streams, options)?;
        let (rows, packs) = (vec![0; widths.len()], vec![0; widths.len()]);
        let mut receipts =
            ReceiptsWriter { writer, batch: Batch::default(), stream: 0, rows, packs, widths };
        let text = serde_json::to_string(shape)
            .map_err(|e| Error::new(Code::Internal, "cannot describe the tables").because(e))?;
        receipts.push(0, [Value::Int(1), Value::Text(text.as_bytes())].into_iter())?;
        Ok(receipts)
    }

    /// Notes a row that was inserted: its fingerprint and its key.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn inserted<'a>(
        &mut self,
        table: usize,
        fingerprint: i64,
        key: impl Iterator<Item = Value<'a>>,
    ) -> Result<()> {
        self.push(1 + STREAMS * table, std::iter::once(Value::Int(fingerprint)).chain(key))
    }

    /// Notes a row that was changed, with its fingerprint now, or [`GONE`](super::GONE), which of its columns have
    /// changed, as a text of `0` and `1`, the key by which it is found, and what these columns held before.
    ///
    /// # Errors
    /// As [`inserted`](ReceiptsWriter::inserted).
    pub fn changed<'a>(
        &mut self,
        table: usize,
        fingerprint: i64,
        changed: &'a [u8],
        key: impl Iterator<Item = Value<'a>>,
        before: impl Iterator<Item = Value<'a>>,
    ) -> Result<()> {
        let before = before.zip(changed);
        let before = before.map(|(value, c)| if *c == CHANGED { value } else { Value::Null });
        let first = [Value::Int(fingerprint), Value::Text(changed)].into_iter();
        self.push(2 + STREAMS * table, first.chain(key).chain(before))
    }

    /// Notes that rows which the batch did not load refer to one that it has inserted: how many, by which reference, and
    /// the key of that one.
    ///
    /// # Errors
    /// As [`inserted`](ReceiptsWriter::inserted).
    pub fn referred<'a>(
        &mut self,
        table: usize,
        rows: i64,
        reference: usize,
        key: impl Iterator<Item = Value<'a>>,
    ) -> Result<()> {
        let reference = i64::try_from(reference).unwrap_or(i64::MAX);
        let first = [Value::Int(rows), Value::Int(reference)].into_iter();
        self.push(3 + STREAMS * table, first.chain(key))
    }

    fn push<'a>(&mut self, stream: usize, values: impl Iterator<Item = Value<'a>>) -> Result<()> {
        let most = if self.is_packed(stream) { pack::ROWS } else { ROWS };
        if self.batch.rows() >= most || self.batch.size() >= BYTES || self.stream != stream {
            self.flush()?;
        }
        if self.batch.rows() == 0 {
            self.stream = stream;
            self.batch.start(stream, self.widths[stream], self.rows[stream] + 1);
        }
        self.rows[stream] += 1;
        values.for_each(|value| self.batch.push(value));
        Ok(())
    }

    /// Whether the rows of a stream are packed: those that were inserted.
    fn is_packed(&self, stream: usize) -> bool {
        stream % STREAMS == 1
    }

    fn flush(&mut self) -> Result<()> {
        if self.batch.rows() > 0 && self.is_packed(self.stream) {
            let packed = pack(&self.batch, self.widths[self.stream] - 1);
            let rows = i64::try_from(self.batch.rows()).unwrap_or(0);
            let mut one = Batch::default();
            self.packs[self.stream] += 1;
            one.start(self.stream, 2, self.packs[self.stream]);
            one.push(Value::Int(rows));
            one.push(Value::Blob(&packed));
            self.writer.write(&one).map_err(too_large)?;
        } else if self.batch.rows() > 0 {
            self.writer.write(&self.batch).map_err(too_large)?;
        }
        self.batch.start(0, 1, 1);
        self.batch.release_large();
        Ok(())
    }

    /// Seals the archive; its file, read from the start, and what was written.
    ///
    /// # Errors
    /// As [`inserted`](ReceiptsWriter::inserted).
    pub fn finish(mut self) -> Result<(File, Written)> {
        self.flush()?;
        let (mut file, written) = self.writer.finish()?;
        file.seek(SeekFrom::Start(0)).map_err(no_file)?;
        Ok((file, written))
    }
}

pub(super) fn too_large(e: chronicle_archive::ArchiveError) -> Error {
    Error::from(e).hint("--no-undo imports without the receipts that a rollback needs")
}

/// The error of rows whose table is not described.
pub(super) fn no_shape() -> Error {
    Error::new(Code::ArchiveDamaged, "receipts of a table without a shape")
}

pub(super) fn no_file(e: std::io::Error) -> Error {
    match crate::error::is_full(&e) {
        true => temporary::no_room(&temporary::folder(), None),
        false => {
            Error::new(Code::Output, "the temporary file of receipts cannot be used").because(e)
        }
    }
}

/// A stream whose rows come in any order.
pub(super) fn unsorted(name: &str, columns: Vec<Column>) -> Stream {
    Stream { order: Vec::new(), ..Stream::new(name, columns) }
}

/// The streams of receipts: the shape, and three for each table.
fn streams(shape: &Shape, kind: impl Fn(&str) -> Kind) -> Vec<Stream> {
    let columns = vec![Column::new("number", Kind::Int), Column::new("shape", Kind::Json)];
    let mut streams = vec![unsorted(SHAPE, columns)];
    for (n, table) in shape.tables.iter().enumerate() {
        let named = |prefix: &str, column: usize| {
            Column::new(&format!("{prefix}{column}"), kind(&table.columns[column].ty))
        };
        let packed = vec![Column::new("rows", Kind::Int), Column::new("packed", Kind::Bytes)];
        let mut columns =
            vec![Column::new("fingerprint", Kind::Int), Column::new("changed", Kind::Text)];
        columns.extend(table.key.iter().map(|k| named("key", *k)));
        let with_table = |s: Stream| Stream { table: table.name.clone(), ..s };
        streams.push(with_table(unsorted(&format!("inserted_{n}"), packed)));
        columns.extend((0..table.columns.len()).map(|c| named("was", c)));
        streams.push(with_table(unsorted(&format!("changed_{n}"), columns)));
        let mut columns = vec![Column::new("rows", Kind::Int), Column::new("reference", Kind::Int)];
        columns.extend(table.key.iter().map(|k| named("key", *k)));
        streams.push(with_table(unsorted(&format!("referred_{n}"), columns)));
    }
    streams
}

/// The files of receipts that were verified.
pub struct ReceiptsFiles {
    /// The receipts: one file, or one for each group of a batch that was committed in groups.
    pub receipts: Vec<File>,
    /// The rows that the batch has deleted, if they are in an archive of their own.
    pub deleted: Option<File>,
}

/// Receipts on their way back.
pub struct ReceiptsReader {
    /// The parts that are not read to their end.
    parts: VecDeque<PartReader>,
    /// The deleted rows, with the table of the shape that each of its streams belongs to.
    deleted: Option<(ArchiveReader<BufReader<File>>, Vec<usize>)>,
    /// What the batch has touched.
    pub shape: Shape,
    /// Which table of the shape each one is that the receipts describe.
    tables: Vec<Option<usize>>,
}

/// Receipts of one group of a batch, with their places in the shape of all.
struct PartReader {
    reader: ArchiveReader<BufReader<File>>,
    places: Places,
}

impl PartReader {
    /// Opens receipts, and reads what they describe.
    fn open(file: File) -> Result<(ArchiveReader<BufReader<File>>, Shape)> {
        let mut reader = open_archive(file)?;
        let mut batch = Batch::default();
        let any = reader.next_batch(&mut batch)?;
        let shape =
            match (any && batch.stream() == 0 && batch.rows() == 1).then(|| batch.value(0, 1)) {
                Some(Value::Text(text)) => serde_json::from_slice(text).ok(),
                _ => None,
            };
        let shape = shape.ok_or_else(|| {
            Error::new(
                Code::ArchiveUnsupported,
                "the receipts are of another version of this program",
            )
        })?;
        Ok((reader, shape))
    }

    /// The next rows, with the table of all that they are of.
    fn next(&mut self, batch: &mut Batch) -> Result<Option<Receipts>> {
        if !self.reader.next_batch(batch)? {
            return Ok(None);
        }
        let Some(place) = batch.stream().checked_sub(1) else {
            return Err(Error::new(Code::ArchiveDamaged, "the receipts have two shapes"));
        };
        let described = place / STREAMS;
        let table = *self.places.tables.get(described).ok_or_else(no_shape)?;
        Ok(Some(match place % STREAMS {
            0 => Receipts::Inserted(table),
            1 => Receipts::Changed(table),
            _ => {
                self.places.number_references(described, batch)?;
                Receipts::Referred(table)
            }
        }))
    }
}

fn open_archive(mut file: File) -> Result<ArchiveReader<BufReader<File>>> {
    file.seek(SeekFrom::Start(0)).map_err(no_file)?;
    Ok(ArchiveReader::open(BufReader::new(file), Limits::default())?)
}

/// What a batch of receipts holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// Rows that were inserted into a table.
    Inserted(usize),
    /// Rows of a table that were changed or deleted.
    Changed(usize),
    /// Rows that were inserted into a table and that others refer to, which the batch did not load.
    Referred(usize),
    /// Rows of a table that were deleted, all their columns and nothing else.
    Deleted(usize),
}

impl Receipts {
    /// In which of its columns a column of the key is.
    pub(super) fn key_column(self, table: &ShapeTable, key: usize) -> usize {
        match self {
            Receipts::Inserted(_) => 1 + key,
            Receipts::Changed(_) | Receipts::Referred(_) => 2 + key,
            Receipts::Deleted(_) => table.key[key],
        }
    }
}

impl ReceiptsReader {
    /// Whether they are those of several groups, each of which was a transaction of its own.
    pub(super) fn is_in_groups(&self) -> bool {
        self.parts.len() > 1
    }

    /// Opens receipts that were [`verified`].
    ///
    /// # Errors
    /// If they are damaged.
    pub fn open(files: ReceiptsFiles) -> Result<ReceiptsReader> {
        let (mut parts, mut shape) = (VecDeque::new(), Shape::default());
        for file in files.receipts {
            let (reader, described) = PartReader::open(file)?;
            let places = shape.join(described)?;
            parts.push_back(PartReader { reader, places });
        }
        let deleted = match files.deleted.map(open_archive).transpose()? {
            Some(reader) => {
                let tables = tables_of(reader.streams(), &shape)?;
                Some((reader, tables))
            }
            None => None,
        };
        let tables = (0..shape.tables.len()).map(Some).collect();
        Ok(ReceiptsReader { parts, deleted, shape, tables })
    }

    /// Leaves out the tables in which the batch has changed no row: nobody has to leave them as they are.
    #[must_use]
    pub fn of_changed(mut self, changes: &[TableChanges]) -> ReceiptsReader {
        let mut places = 0..;
        let has_changed =
            |table: &ShapeTable| table.own || changes.iter().any(|c| c.table == table.name);
        self.tables = (self.shape.tables.iter())
            .map(|table| has_changed(table).then(|| places.next()).flatten())
            .collect();
        self.shape.tables.retain(has_changed);
        self
    }

    /// The next rows; `None` behind the last one.
    ///
    /// # Errors
    /// If the receipts are damaged.
    pub fn next(&mut self, batch: &mut Batch) -> Result<Option<Receipts>> {
        loop {
            match self.next_described(batch)? {
                // rows that the batch has deleted and inserted again, and that others refer to
                Some(Receipts::Referred(table)) if self.table(table).is_err() => {}
                None => return Ok(None),
                Some(kind) => return self.in_shape(kind, batch).map(Some),
            }
        }
    }

    /// Receipts of a table that they describe as those of one of the shape.
    fn in_shape(&self, kind: Receipts, batch: &mut Batch) -> Result<Receipts> {
        Ok(match kind {
            Receipts::Inserted(table) => {
                let table = self.table(table)?;
                self.unpack(table, batch)?;
                Receipts::Inserted(table)
            }
            Receipts::Changed(table) => Receipts::Changed(self.table(table)?),
            Receipts::Referred(table) => Receipts::Referred(self.table(table)?),
            Receipts::Deleted(table) => Receipts::Deleted(self.table(table)?),
        })
    }

    fn next_described(&mut self, batch: &mut Batch) -> Result<Option<Receipts>> {
        while let Some(part) = self.parts.front_mut() {
            match part.next(batch)? {
                None => drop(self.parts.pop_front()),
                some => return Ok(some),
            }
        }
        let Some((deleted, tables)) = &mut self.deleted else { return Ok(None) };
        let any = deleted.next_batch(batch)?;
        Ok(any.then(|| Receipts::Deleted(tables[batch.stream()])))
    }

    /// Which table of the shape one is that the receipts describe.
    fn table(&self, described: usize) -> Result<usize> {
        self.tables.get(described).copied().flatten().ok_or_else(no_shape)
    }

    /// Puts the rows of packs in the place of these.
    fn unpack(&self, table: usize, batch: &mut Batch) -> Result<()> {
        let keys = self.shape.tables.get(table).ok_or_else(no_shape)?.key.len();
        let mut rows = Batch::default();
        rows.start(batch.stream(), keys + 1, 1);
        for row in 0..batch.rows() {
            let (Value::Int(count), Value::Blob(bytes)) =
                (batch.value(row, 0), batch.value(row, 1))
            else {
                return Err(no_shape());
            };
            let count = usize::try_from(count).map_err(|_| no_shape())?;
            unpack(bytes, count.min(pack::ROWS), keys, &mut rows)?;
        }
        *batch = rows;
        Ok(())
    }
}

/// Reads receipts from the first to the last byte, and checks that they are what was written; their digest. Their rows
/// are read by who uses them.
///
/// # Errors
/// If they are damaged or cut.
pub fn verified(input: impl Read) -> Result<String> {
    let mut reader = ArchiveReader::open(input, Limits::default())?;
    reader.skip_rows();
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch)? {}
    let sealed = reader.sealed().map(|sealed| sealed.digest.clone());
    sealed
        .ok_or_else(|| Error::new(Code::ArchiveTruncated, "the receipts end before their manifest"))
}
