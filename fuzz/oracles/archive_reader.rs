//! What holds of the archive reader for every input: it refuses the bytes or reads exactly what they say.

use std::io::{Cursor, Read};

use chronicle_archive::{
    ArchiveReader, ArchiveWriter, Batch, Header, Limits, Result, Stream, WriterOptions, sha256,
};

const HEADER: &[u8] = br#"{"type":"STATE","value":{"chronicle":{"kind":"header","#;
const STATE: &[u8] = br#"{"type":"STATE","#;

/// Panics if the reader takes bytes for something that they do not say.
pub(crate) fn check(input: &[u8]) {
    check_archive(input);
    // a mutation hardly ever gets past the checksums: so the same lines with checksums that fit
    if let Some(archive) = with_checksums(input) {
        check_archive(&archive);
    }
}

fn check_archive(bytes: &[u8]) {
    let Ok(reader) = ArchiveReader::open(bytes, Limits::default()) else { return };
    let read = read(reader, |_| Ok(()));
    let ahead = ArchiveReader::open(Cursor::new(bytes.to_vec()), Limits::default())
        .and_then(|mut reader| {
            // the row digests have to be asked for first
            reader.digest_rows();
            reader.prefetch().map(|()| reader)
        })
        .and_then(|reader| self::read(reader, |_| Ok(())));
    match (read, ahead) {
        (Ok(read), Ok(ahead)) => {
            assert_eq!(read, ahead, "prefetching reads something else");
            check_flipped(bytes, &read);
            check_rewritten(bytes, &read);
        }
        (read, ahead) => {
            let told = |result: Result<Contents>| result.map_err(|error| format!("{error:?}"));
            assert_eq!(told(read), told(ahead));
        }
    }
}

/// All that an archive says.
#[derive(Debug, PartialEq)]
struct Contents {
    digest: String,
    streams: Vec<Stream>,
    rows: Vec<String>,
    row_digests: Vec<(String, String)>,
}

fn read<R: Read>(
    mut reader: ArchiveReader<R>,
    mut each: impl FnMut(&Batch) -> Result<()>,
) -> Result<Contents> {
    let (mut batch, mut rows) = (Batch::default(), Vec::new());
    reader.digest_rows();
    let streams = reader.streams().to_vec();
    while reader.next_batch(&mut batch)? {
        let width = streams[batch.stream()].columns.len();
        for row in 0..batch.rows() {
            let values: Vec<_> = (0..width).map(|column| batch.value(row, column)).collect();
            rows.push(format!("{} {values:?}", batch.stream()));
        }
        each(&batch)?;
    }
    let digest = reader.sealed().expect("the end of an archive is sealed").digest.clone();
    Ok(Contents { digest, streams, rows, row_digests: reader.row_digests() })
}

/// One other bit is another archive or none; only the seek table is not part of it.
fn check_flipped(bytes: &[u8], contents: &Contents) {
    let mut flipped = bytes.to_vec();
    let at = usize::from_str_radix(&contents.digest[..8], 16).expect("digits") % bytes.len();
    flipped[at] ^= 1;
    let read = ArchiveReader::open(&flipped[..], Limits::default())
        .and_then(|reader| read(reader, |_| Ok(())));
    if let Ok(read) = read {
        let same = (&read.rows, &read.streams) == (&contents.rows, &contents.streams);
        assert!(same || read.digest != contents.digest, "two archives with one digest");
    }
}

/// The writer takes what the reader gives, and what it writes says the same.
fn check_rewritten(bytes: &[u8], contents: &Contents) {
    let reader = ArchiveReader::open(bytes, Limits::default()).expect("it was opened before");
    if (0..contents.streams.len()).any(|stream| reader.unknown_kind(stream).is_some()) {
        return;
    }
    // nulls where a SCHEMA line allows none are the one thing that only the writer refuses
    let mut streams = contents.streams.clone();
    streams.iter_mut().flat_map(|stream| &mut stream.columns).for_each(|c| c.nullable = true);
    let header = Header::new(reader.header().source.clone(), &streams, 1 << 16);
    let options = WriterOptions { level: 1, threads: 1, seek_table: true, row_digests: true };
    let mut writer = ArchiveWriter::create(Vec::new(), &header, streams.clone(), options)
        .expect("the writer takes these streams");
    read(reader, |batch| writer.write(batch)).expect("the writer takes every row");
    let (written, _) = writer.finish().expect("a vector takes every byte");
    let again = ArchiveReader::open(&written[..], Limits::default())
        .and_then(|reader| read(reader, |_| Ok(())))
        .expect("what was written is read");
    assert_eq!(again.streams, streams);
    assert_eq!(again.rows, contents.rows);
    assert_eq!(again.row_digests, contents.row_digests);
}

/// The header, the SCHEMA lines and the records of an archive without compression, between control lines that fit
/// them. A control line in the text ends a chunk there, whatever it says.
fn with_checksums(text: &[u8]) -> Option<Vec<u8>> {
    if !text.starts_with(HEADER) {
        return None;
    }
    let mut sealed = Sealed::default();
    for (n, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if n > 0 && line.starts_with(STATE) {
            sealed.end_chunk();
        } else if !line.is_empty() {
            sealed.push(line);
        }
    }
    Some(sealed.finish())
}

#[derive(Default)]
struct Sealed {
    out: Vec<u8>,
    chunk: Vec<u8>,
    /// Of each SCHEMA line: the stream and its rows so far.
    streams: Vec<(String, u64)>,
    /// The stream of the chunk and its rows; none in the head.
    current: Option<(String, u64)>,
    chunks: u64,
    prev: Option<String>,
}

impl Sealed {
    fn push(&mut self, line: &[u8]) {
        if let Some(stream) = stream_of(line, br#"{"type":"RECORD","stream":""#) {
            match &mut self.current {
                Some((current, rows)) if *current == stream => *rows += 1,
                _ => {
                    self.end_chunk();
                    self.current = Some((stream, 1));
                }
            }
        } else if let Some(stream) = stream_of(line, br#"{"type":"SCHEMA","stream":""#) {
            self.streams.push((stream, 0));
        }
        self.chunk.extend_from_slice(line);
        self.chunk.push(b'\n');
    }

    fn end_chunk(&mut self) {
        if self.chunk.is_empty() {
            return;
        }
        let (stream, rows) = match self.current.take() {
            Some((stream, rows)) => {
                let total = self.streams.iter_mut().find(|(name, _)| *name == stream);
                total.into_iter().for_each(|(_, total)| *total += rows);
                (format!("\"{stream}\""), rows)
            }
            None => ("null".to_owned(), 0),
        };
        let prev = self.prev.as_ref().map_or("null".to_owned(), |prev| format!("\"{prev}\""));
        let (chunk, bytes, sha256) = (self.chunks, self.chunk.len(), sha256(&self.chunk));
        let line = control(&format!(
            r#""kind":"checkpoint","chunk":{chunk},"stream":{stream},"rows":{rows},"bytes":{bytes},"sha256":"{sha256}","prev":{prev}"#
        ));
        self.out.append(&mut self.chunk);
        self.out.extend_from_slice(line.as_bytes());
        self.prev = Some(self::sha256(line.as_bytes()));
        self.chunks += 1;
    }

    fn finish(mut self) -> Vec<u8> {
        self.end_chunk();
        let rows = self.streams.iter().map(|(name, rows)| format!("\"{name}\":{rows}"));
        let rows = rows.collect::<Vec<_>>().join(",");
        let (chunks, bytes, prev) = (self.chunks, self.out.len(), self.prev.unwrap_or_default());
        let line = control(&format!(
            r#""kind":"manifest","version":1,"chunks":{chunks},"bytes":{bytes},"rows":{{{rows}}},"prev":"{prev}","seek_table":false"#
        ));
        self.out.extend_from_slice(line.as_bytes());
        self.out
    }
}

/// The name of the stream in a line that starts like this.
fn stream_of(line: &[u8], start: &[u8]) -> Option<String> {
    let name = line.strip_prefix(start)?.split(|byte| *byte == b'"').next()?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn control(chronicle: &str) -> String {
    format!(
        "{{\"type\":\"STATE\",\"value\":{{\"chronicle\":{{{chronicle}}},\"bookmarks\":{{}}}}}}\n"
    )
}

/// The fixtures: unchanged, and without compression, with the first short records of each stream.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let archives: [&[u8]; 4] = [
        include_bytes!("../../fixtures/archives/empty.ndjson.zst"),
        include_bytes!("../../fixtures/archives/hooks.ndjson.zst"),
        include_bytes!("../../fixtures/archives/hostile.ndjson.zst"),
        include_bytes!("../../fixtures/archives/postgres.ndjson.zst"),
    ];
    let texts = archives.map(|archive| shortened(&zstd::decode_all(archive).expect("a fixture")));
    archives.iter().map(|archive| archive.to_vec()).chain(texts.into_iter().flatten()).collect()
}

/// Archives of the same head with a few records each, which mutate faster than a long one.
fn shortened(text: &[u8]) -> Vec<Vec<u8>> {
    const RECORDS: usize = 6;
    let lines = || text.split(|byte| *byte == b'\n');
    let head: Vec<_> =
        lines().take_while(|line| !line.starts_with(STATE) || line.starts_with(HEADER)).collect();
    let records: Vec<_> = lines()
        .filter(|line| !line.starts_with(STATE) && line.len() < 1500)
        .skip(head.len() - 1)
        .collect();
    let archive = |records: &[&[u8]]| with_checksums(&[&head, records].concat().join(&b'\n'));
    if records.is_empty() {
        return archive(&[]).into_iter().collect();
    }
    records.chunks(RECORDS).take(20).filter_map(archive).collect()
}
