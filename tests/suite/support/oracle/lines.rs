//! The lines of an archive with the numbers that tests give rows.

use super::*;

/// The mark that distinguishes the rows in every layout: a time of 2001 that no odd value has.
pub(crate) fn mark(n: usize) -> String {
    format!("2001-01-{:02}T{:02}:{:02}:00Z", 1 + n / 1440, n / 60 % 24, n % 60)
}

pub(super) const MARKS: [&str; 3] = ["created_at", "timestamp", "start_time"];

/// The number of a row by its mark, whatever one of its columns holds.
pub(crate) fn number<'a>(value: impl Fn(&str) -> Option<&'a str>) -> Option<usize> {
    let start = instant("2001-01-01T00:00:00Z", 0)?;
    let of = |name: &&str| {
        let minutes = instant(value(name)?, 0)?.checked_sub(start)? / 60_000_000_000_000;
        (0..100_000).contains(&minutes).then_some(minutes as usize)
    };
    MARKS.iter().find_map(of).or_else(|| {
        // a layout may lack the only column that carries the mark
        let id = value("id")?;
        let Some((prefix, number)) = id.split_once("-0000-4000-8000-") else {
            return id.parse().ok();
        };
        ["5e551011", "e0e27000"]
            .contains(&prefix)
            .then(|| usize::from_str_radix(number, 16).ok())?
    })
}

pub(super) fn number_of(row: &Row) -> Option<usize> {
    number(|name| row.get(name)?.text())
}

/// The rows of a stream by their numbers.
pub(crate) fn numbered(rows: impl IntoIterator<Item = Row>) -> BTreeMap<usize, Row> {
    let mut found = BTreeMap::new();
    for row in rows {
        let n = number_of(&row).unwrap_or_else(|| panic!("no mark: {row:?}"));
        assert!(found.insert(n, row).is_none(), "two rows of the mark {n}");
    }
    found
}

/// A row of an archive, its values in the archive's spelling.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) stream: String,
    pub(crate) record: BTreeMap<String, String>,
    pub(crate) exact: BTreeMap<String, String>,
    pub(crate) rejected: Vec<(String, String)>,
}

#[derive(Deserialize)]
pub(super) struct RawLine<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) stream: Option<String>,
    #[serde(borrow, default)]
    pub(super) record: BTreeMap<String, &'a RawValue>,
    #[serde(borrow)]
    pub(super) chronicle: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
pub(super) struct Beside<'a> {
    #[serde(borrow, default)]
    pub(super) exact: BTreeMap<String, &'a RawValue>,
    #[serde(default)]
    pub(super) rejected: Vec<Why>,
}

#[derive(Deserialize)]
pub(super) struct Why {
    pub(super) column: Option<String>,
    pub(super) reason: String,
}

impl Line {
    /// The number of the row.
    pub(crate) fn number(&self) -> Option<usize> {
        number(|name| Some(self.record.get(name)?.trim_matches('"')))
    }
}

/// The rows of an archive.
pub(crate) fn lines(archive: &Path) -> Vec<Line> {
    let bytes = zstd::decode_all(&*fs::read(archive).unwrap()).unwrap();
    let mut found = Vec::new();
    for line in bytes.split(|b| *b == b'\n').filter(|l| l.starts_with(b"{\"type\":\"RECORD\"")) {
        let raw: RawLine<'_> = serde_json::from_slice(line).unwrap();
        assert_eq!(raw.kind, "RECORD");
        let beside: Beside<'_> =
            raw.chronicle.map(|c| serde_json::from_str(c.get()).unwrap()).unwrap_or_default();
        let texts = |map: BTreeMap<String, &RawValue>| {
            map.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect()
        };
        found.push(Line {
            stream: raw.stream.unwrap(),
            record: texts(raw.record),
            exact: texts(beside.exact),
            rejected: (beside.rejected.into_iter())
                .map(|why| (why.column.unwrap_or_default(), why.reason))
                .collect(),
        });
    }
    found
}

/// A value as `lrd1` sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) kind: Kind,
    /// The row digest of this value alone.
    pub(crate) hex: String,
    /// Whether it is a text that reads as an instant.
    pub(crate) instant: bool,
}

/// Digests by stream, number of the row and column.
pub(crate) type Digests = BTreeMap<(String, usize, String), Digest>;

/// The values of an archive as `lrd1` sees them, without what was folded into them; all texts that can be instants are.
/// Left out are rows without a mark and values that the record does not express in full.
pub(crate) fn digests(archive: &Path) -> Digests {
    let input = fs::File::open(archive).unwrap();
    let reader = ArchiveReader::open(Box::new(input), Limits::default()).unwrap();
    let mut found = Digests::new();
    for line in lines(archive) {
        let Some(n) = line.number() else { continue };
        let stream = reader.streams().iter().find(|s| s.name == line.stream).unwrap();
        for column in stream.columns.iter().filter(|c| !line.exact.contains_key(&c.name)) {
            let value = bare(&line.record[&column.name]);
            let [hex, text] = [true, false].map(|is_time| {
                let columns = vec![record::Column {
                    time_text: TimeText::new(is_time, false),
                    ..column.clone()
                }];
                let mut digest = RowDigest::new(&Stream { columns, ..stream.clone() });
                digest.add([value.as_bytes()]);
                digest.hex()
            });
            let place = (line.stream.clone(), n, column.name.clone());
            found.insert(place, Digest { kind: column.kind, instant: hex != text, hex });
        }
    }
    found
}

/// A JSON text without the reserved key.
pub(super) fn bare(text: &str) -> String {
    let members = serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text);
    let Some(mut members) = members.ok().filter(|_| text.contains("chronicle_dump")) else {
        return text.to_owned();
    };
    members.remove("chronicle_dump");
    serde_json::to_string(&members).unwrap()
}

/// Exports a database into a file.
#[track_caller]
pub(crate) fn export(from: &Store, archive: &Path) {
    Program::new(["export", "--quiet", "--force", &from.url(), "-o", archive.to_str().unwrap()])
        .run()
        .success();
}

/// Imports an archive into a database; gives the run and its report.
#[track_caller]
pub(crate) fn import(archive: &Path, to: &Store, options: &[&str]) -> (Output, Json) {
    let url = to.url();
    let words =
        ["import", "--trust-zone", archive.to_str().unwrap(), "--to", &url, "--json", "--quiet"];
    let run = Program::new(words.iter().chain(options).copied()).run();
    let report = serde_json::from_str(run.text().trim())
        .unwrap_or_else(|e| panic!("{e}: {}\n{}", run.text(), run.stderr));
    (run, report)
}

/// Copies an archive without some of its rows: those of a stream by their places.
pub(crate) fn without(archive: &Path, place: &Path, leave: &BTreeSet<(String, usize)>) {
    let input = fs::File::open(archive).unwrap();
    let mut reader = ArchiveReader::open(Box::new(input), Limits::default()).unwrap();
    let (header, streams) = (reader.header().clone(), reader.streams().to_vec());
    let output = fs::File::create(place).unwrap();
    let names: Vec<String> = streams.iter().map(|s| s.name.clone()).collect();
    let mut writer = ArchiveWriter::create(
        output,
        &header,
        streams,
        WriterOptions { threads: 1, ..WriterOptions::default() },
    )
    .unwrap();
    let (mut batch, mut places) = (Batch::default(), BTreeMap::<usize, usize>::new());
    while reader.next_batch(&mut batch).unwrap() {
        let place = places.entry(batch.stream()).or_default();
        for row in 0..batch.rows() {
            if !leave.contains(&(names[batch.stream()].clone(), *place)) {
                writer.write_row(&batch, row, "").unwrap();
            }
            *place += 1;
        }
    }
    writer.finish().unwrap();
}
