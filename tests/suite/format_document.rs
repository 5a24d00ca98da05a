//! The format document and its JSON Schemas say what the archives are that the library writes.

mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::LazyLock;

use chronicle_archive::read::frames::{Container, Limits};
use chronicle_archive::seek_table::Entry;
use chronicle_archive::time::Instant;
use chronicle_archive::{
    ArchiveReader, ArchiveWriter, Header, NumberRange, Origin, WriterOptions, Written, hex, sha256,
};
use chronicle_archive::{Batch, Column, Kind, Stream, TimeText, Value};
use jsonschema::{Draft, Validator};
use proptest::prelude::*;
use serde_json::Value as Json;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/archive.md");
const BEGIN: &str = "<!-- example:begin -->\n";
const END: &str = "<!-- example:end -->\n";

/// The schemas, by the word that names what they describe.
static SCHEMAS: LazyLock<BTreeMap<&str, Validator>> = LazyLock::new(|| {
    let files = [
        ("header", include_str!("../../schemas/header.schema.json")),
        ("checkpoint", include_str!("../../schemas/checkpoint.schema.json")),
        ("manifest", include_str!("../../schemas/manifest.schema.json")),
        ("SCHEMA", include_str!("../../schemas/schema-line.schema.json")),
        ("RECORD", include_str!("../../schemas/record.schema.json")),
    ];
    let read = |text| validator(&serde_json::from_str(text).unwrap());
    files.into_iter().map(|(what, text)| (what, read(text))).collect()
});

fn validator(schema: &Json) -> Validator {
    assert!(jsonschema::meta::is_valid(schema), "not a JSON Schema: {schema}");
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .should_validate_formats(true)
        .build(schema)
        .unwrap()
}

/// What a line is: the kind of a control line, else its type.
fn what(line: &Json) -> &str {
    line["value"]["chronicle"]["kind"].as_str().or(line["type"].as_str()).unwrap()
}

/// An archive as a file and as what its frames hold: head, records and checkpoint of each chunk, manifest.
struct Archive {
    file: Vec<u8>,
    written: Written,
    frames: Vec<Vec<u8>>,
    entries: Vec<Entry>,
}

impl Archive {
    fn lines(&self) -> impl Iterator<Item = &str> {
        self.frames.iter().flat_map(|frame| std::str::from_utf8(frame).unwrap().lines())
    }
}

/// One row of a stream.
type Row<'a> = Vec<Value<'a>>;

/// Writes an archive and takes it apart again.
fn archive(header: &Header, streams: &[Stream], rows: &[Vec<Row<'_>>]) -> Archive {
    let options = WriterOptions { level: 3, threads: 1, seek_table: true, row_digests: true };
    let mut writer = ArchiveWriter::create(Vec::new(), header, streams.to_vec(), options).unwrap();
    for (n, (stream, rows)) in streams.iter().zip(rows).enumerate() {
        let mut batch = Batch::default();
        batch.start(n, stream.columns.len(), 1);
        rows.iter().flatten().for_each(|value| batch.push(*value));
        writer.write(&batch).unwrap();
    }
    let (file, written) = writer.finish().unwrap();
    let mut container = Container::open(&file[..], Limits::default()).unwrap();
    for _ in 0..=written.manifest.chunks {
        container.next_chunk(Vec::new()).unwrap().unwrap();
    }
    let entries = container.entries().to_vec();
    let (mut frames, mut rest) = (Vec::new(), &file[..]);
    for entry in &entries {
        let (frame, behind) = rest.split_at(entry.compressed as usize);
        frames.push(zstd::decode_all(frame).unwrap());
        rest = behind;
    }
    Archive { file, written, frames, entries }
}

fn column(name: &str, kind: Kind) -> Column {
    Column {
        name: name.into(),
        physical: name.into(),
        kind,
        nullable: true,
        time_text: TimeText::None,
    }
}

fn stream(name: &str, columns: Vec<Column>, order: Vec<usize>) -> Stream {
    let mut columns = columns;
    columns[0].nullable = false;
    Stream { name: name.into(), table: name.into(), columns, key: vec![0], order }
}

fn local(name: &str) -> Column {
    Column { time_text: TimeText::Local, ..column(name, Kind::Text) }
}

fn utc(name: &str) -> Column {
    Column { time_text: TimeText::Utc, ..local(name) }
}

/// One session and two events; the second payload has an escaped NUL.
fn example() -> Archive {
    let sessions = vec![
        column("id", Kind::Text),
        column("claude_session_id", Kind::Text),
        column("project_path", Kind::Text),
        local("start_time"),
        local("end_time"),
        utc("created_at"),
    ];
    let events = vec![
        column("id", Kind::Text),
        column("session_id", Kind::Text),
        column("event_type", Kind::Text),
        local("timestamp"),
        column("data", Kind::Json),
        column("tool_name", Kind::Text),
        column("duration_ms", Kind::Int),
        utc("created_at"),
    ];
    let streams = [stream("sessions", sessions, vec![0]), stream("events", events, vec![3, 0])];
    let text = |text: &'static str| Value::Text(text.as_bytes());
    let session = text("0b6f9b1e-52a5-4d0e-9b53-5a3f6f1d2c10");
    let rows = [
        vec![vec![
            session,
            text("cs-1"),
            text("/home/u/p"),
            text("2025-08-19T10:00:00.123456+00:00"),
            Value::Null,
            text("2025-08-19 10:00:00"),
        ]],
        vec![
            vec![
                text("1b6f9b1e-52a5-4d0e-9b53-5a3f6f1d2c11"),
                session,
                text("user_prompt_submit"),
                text("2025-08-19T10:00:01+00:00"),
                text(r#"{"prompt": "caf\u00e9?", "n": 9007199254740993}"#),
                Value::Null,
                Value::Null,
                text("2025-08-19 10:00:01"),
            ],
            vec![
                text("2b6f9b1e-52a5-4d0e-9b53-5a3f6f1d2c12"),
                session,
                text("post_tool_use"),
                text("2025-08-19T10:00:02+00:00"),
                text(r#"{"tool_name": "Bash", "out": "a\u0000b"}"#),
                text("Bash"),
                Value::Int(12),
                text("2025-08-19 10:00:02"),
            ],
        ],
    ];
    let origin = Origin {
        backend: "sqlite".into(),
        layout: Some("hooks".into()),
        time_zone: Some("Europe/Berlin".into()),
        ..Origin::default()
    };
    let mut header = Header::new(origin, &streams, 4 << 20);
    header.archive_id = "5f0c0f6e-8f7b-4b8e-9a55-3f6a1f3f7b10".into();
    header.created_at = Some("2025-08-20T08:00:00.000000Z".into());
    header.writer = "chronicle-dump 0.1.0".into();
    archive(&header, &streams, &rows)
}

fn words<'a>(runs: impl Iterator<Item = &'a [u8]>) -> String {
    runs.map(hex).collect::<Vec<_>>().join(" ")
}

/// The example as the document shows it.
fn render(example: &Archive) -> String {
    let frames = example.entries.iter().map(|e| e.compressed as usize).sum::<usize>();
    let table = &example.file[frames..];
    let mut text = format!(
        "The file has {} bytes: {} frames and the seek table.\n\n\
         | frame | holds | offset | compressed | decompressed | checksum |\n\
         |---|---|---|---|---|---|\n",
        example.file.len(),
        example.entries.len(),
    );
    let mut offset = 0;
    for (n, entry) in example.entries.iter().enumerate() {
        let lines = example.frames[n].iter().filter(|byte| **byte == b'\n').count();
        let holds = match (n, n + 1 == example.entries.len()) {
            (0, _) => "head".to_owned(),
            (_, true) => "tail".to_owned(),
            _ if n % 2 == 1 => format!("records of chunk {}", n / 2 + 1),
            _ => format!("checkpoint of chunk {}", n / 2),
        };
        let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
        let Entry { compressed, decompressed, checksum } = entry;
        let row = format!("{offset} | {compressed} | {decompressed} | `{checksum:08x}`");
        writeln!(text, "| {n} | {holds}, {lines} | {row} |").unwrap();
        offset += compressed;
    }
    writeln!(text, "| – | seek table | {offset} | {} | – | – |", table.len()).unwrap();
    text.push_str("\nThe decompressed lines:\n\n```json\n");
    example.lines().for_each(|line| writeln!(text, "{line}").unwrap());
    text.push_str("```\n\nThe seek table, in hexadecimal:\n\n```text\n");
    let (start, rest) = table.split_at(8);
    let (entries, footer) = rest.split_at(rest.len() - 9);
    let (count, magic) = footer.split_at(4);
    let footer = [count, &magic[..1], &magic[1..]];
    writeln!(text, "{}", words(start.chunks(4))).unwrap();
    entries.chunks(12).for_each(|entry| writeln!(text, "{}", words(entry.chunks(4))).unwrap());
    writeln!(text, "{}", words(footer.into_iter())).unwrap();
    let digest = &example.written.digest;
    write!(text, "```\n\nThe archive digest: `sha256:{digest}`\n").unwrap();
    text
}

#[test]
fn the_document_shows_the_example_that_is_written() {
    let shown = render(&example());
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the example's begin marker");
    let (between, after) = rest.split_once(END).expect("the example's end marker");
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(DOCUMENT, format!("{before}{BEGIN}\n{shown}\n{END}{after}")).unwrap();
        return;
    }
    assert_eq!(
        between,
        format!("\n{shown}\n"),
        "run `UPDATE_DOCS=1 cargo test --test suite format_document`"
    );
    check_digests(between);
}

/// Checks the example as a reader does who knows nothing but the document.
fn check_digests(example: &str) {
    let block = example.split_once("```json\n").unwrap().1.split_once("```").unwrap().0;
    let (mut chunk, mut prev) = (String::new(), Json::Null);
    for line in block.split_inclusive('\n') {
        let control = &serde_json::from_str::<Json>(line).unwrap()["value"]["chronicle"];
        if control["kind"] == "checkpoint" {
            assert_eq!(control["sha256"], sha256(chunk.as_bytes()));
            assert_eq!(control["bytes"], chunk.len());
            assert_eq!(control["prev"], prev);
            prev = sha256(line.as_bytes()).into();
            chunk.clear();
        } else {
            chunk.push_str(line);
        }
    }
    let manifest = &serde_json::from_str::<Json>(&chunk).unwrap()["value"]["chronicle"];
    assert_eq!(manifest["prev"], prev);
    assert!(example.contains(&format!("`sha256:{}`", sha256(chunk.as_bytes()))));
}

/// Checks every line against its schema, and every record against the SCHEMA line of its stream.
/// Returns how many lines of each sort there were and which tags of exact values.
fn check_lines(archive: &Archive) -> (BTreeMap<String, usize>, BTreeSet<String>) {
    let (mut counts, mut tags, mut streams) =
        (BTreeMap::new(), BTreeSet::new(), BTreeMap::<String, Validator>::new());
    for text in archive.lines() {
        let line: Json = serde_json::from_str(text).unwrap();
        let sort = what(&line);
        if let Err(error) = SCHEMAS[sort].validate(&line) {
            panic!("{error} at {} in {text}", error.instance_path());
        }
        *counts.entry(sort.to_owned()).or_default() += 1;
        let stream = line["stream"].as_str().unwrap_or("");
        if sort == "SCHEMA" {
            streams.insert(stream.into(), validator(&line["schema"]));
        }
        if sort == "RECORD" {
            if let Err(error) = streams[stream].validate(&line["record"]) {
                panic!("{error} at {} in {text}", error.instance_path());
            }
            let exact = line["chronicle"]["exact"].as_object();
            let tagged = exact.into_iter().flat_map(|exact| exact.values());
            tags.extend(tagged.flat_map(|tagged| tagged.as_object().unwrap().keys().cloned()));
        }
    }
    (counts, tags)
}

/// A stream with a key and a column of every kind.
fn kinds(name: &str, order: Vec<usize>) -> Stream {
    let all = Kind::WORDS.iter().map(|(kind, word)| column(word, *kind));
    stream(name, [column("id", Kind::Text)].into_iter().chain(all).collect(), order)
}

/// The value in the key and in the column of every kind, as SQLite could have it.
fn everywhere(value: Value<'_>) -> Row<'_> {
    let key = if value == Value::Null { Value::Text(b"no key is null") } else { value };
    [key].into_iter().chain(Kind::WORDS.iter().map(|_| value)).collect()
}

/// The value in the columns of one kind only, as PostgreSQL has it.
fn at_home(kind: Kind, value: Value<'_>) -> Row<'_> {
    let columns = Kind::WORDS.iter().map(|(k, _)| if *k == kind { value } else { Value::Null });
    [Value::Text(b"at home")].into_iter().chain(columns).collect()
}

/// Three streams of which the last has no rows; small chunks, every optional field.
fn hostile(rows: Vec<Row<'_>>) -> Archive {
    let loose = rows.iter().take(1).cloned().collect();
    let mut streams = [kinds("a", vec![0]), kinds("b_2", vec![]), kinds("c", vec![0])];
    streams[1].columns[3].physical = "Other \"name\"\n".into();
    let origin = Origin {
        backend: "postgres".into(),
        layout: Some("upstream".into()),
        schema: Some("public".into()),
        server: Some("PostgreSQL 15".into()),
        label: Some("a \"label\"\u{7}".into()),
        time_zone: Some("UTC".into()),
        instance: Some("6ba7b810-9dad-11d1-80b4-00c04fd430c8".into()),
        numbers: [(
            "a".to_owned(),
            vec![NumberRange {
                last: i64::MIN,
                instance: "6ba7b811-9dad-11d1-80b4-00c04fd430c8".into(),
            }],
        )]
        .into(),
    };
    let mut header = Header::new(origin, &streams, 64 << 10);
    header.filters = Some([("project".to_owned(), "/home/u/p".to_owned())].into());
    archive(&header, &streams, &[rows, loose, Vec::new()])
}

#[test]
fn lines_of_hostile_values_obey_the_schemas() {
    let deep = |depth: usize| {
        format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1)).into_bytes()
    };
    let long = format!("{{\"a\":{}}}", "7".repeat(70_000)).into_bytes();
    let (shallow, too_deep) = (deep(100), deep(101));
    let texts: [&[u8]; 45] = [
        b"",
        b" ",
        b"a\0b",
        b"\0",
        b"\xff\xfe",
        b"x\xe2\x82",
        b"\xed\xa0\x80",
        "é\u{2028}\u{7f}\u{feff}😀".as_bytes(),
        b"\r\n\t\x08\x0c\x1b\\\"/",
        b"{}",
        br#"{ "b" : 1E2, "a" : 1.10, "n" : 9007199254740993 }"#,
        br#"{"a":1,"\u0061":2}"#,
        br#"{"a":"x\u0000y","\u0000":1}"#,
        br#"{"a":"\ud83d","b":"\ude00\ud83d"}"#,
        br#"{"a":[1e309,-1e400,1e-400,0e999]}"#,
        b"{\"a\":1}\n",
        b"{\r\n}",
        b"{\"a\":\"\xff\"}",
        b"[1]",
        b"null",
        b"true",
        b"\"{}\"",
        b"{",
        b"{}{}",
        b"NaN",
        b"1.10",
        b"-0",
        b"-0.00",
        b"1e5",
        b"99999999999999999999999999999999999999999999999999.5",
        b"Infinity",
        b"-infinity",
        b"2025-02-28",
        b"2025-02-29",
        b"0044-03-15 BC",
        b"12025-08-19",
        b"0000-01-01",
        b"2025-08-19 12:00:00",
        b"2025-08-19T12:00:00.000000Z",
        b"294276-12-31 23:59:59.999999+00",
        b"5F0C0F6E-8F7B-4B8E-9A55-3F6A1F3F7B10",
        b"AP8=",
        &long,
        &shallow,
        &too_deep,
    ];
    let numbers = [0, 1, -1, i64::MAX, i64::MIN].map(Value::Int);
    let reals = [0.0, -0.0, 0.1, 1e16, 1e300, 5e-324, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
        .map(Value::Real);
    let blobs = [&b""[..], b"\0\xff", b"abc"].map(Value::Blob);
    let instants = [
        Instant(0),
        Instant::MIN,
        Instant::MAX,
        Instant::INFINITY,
        Instant::NEG_INFINITY,
        Instant::read_portable(b"0001-01-01T00:00:00.000000Z").unwrap(),
        Instant::read_portable(b"9999-12-31T23:59:59.999999Z").unwrap(),
    ];
    let free = texts.map(Value::Text).into_iter().chain(numbers).chain(reals).chain(blobs);
    let mut rows: Vec<Row<'_>> = free.chain([Value::Null]).map(everywhere).collect();
    rows.extend(instants.map(|instant| at_home(Kind::Time, Value::Time(instant))));
    rows.extend([true, false].map(|value| at_home(Kind::Bool, Value::Bool(value))));
    rows.push(at_home(Kind::Uuid, Value::Uuid([0xAB; 16])));
    let count = rows.len();
    let archive = hostile(rows);
    let (counts, tags) = check_lines(&archive);
    assert_eq!(counts["RECORD"], count + 1);
    assert_eq!((counts["header"], counts["SCHEMA"], counts["manifest"]), (1, 3, 1));
    assert!(counts["checkpoint"] > 4, "several chunks: {counts:?}");
    let all = ["blob", "int", "json", "jsonb", "numeric", "real", "text", "text64", "time"];
    assert_eq!(tags, all.map(str::to_owned).into());
    // and the library itself takes them for an archive
    let mut reader = ArchiveReader::open(&archive.file[..], Limits::default()).unwrap();
    let mut batch = Batch::default();
    while reader.next_batch(&mut batch).unwrap() {}
    assert_eq!(reader.sealed().unwrap().digest, archive.written.digest);
}

#[test]
fn the_example_obeys_the_schemas() {
    let (counts, tags) = check_lines(&example());
    let expected =
        [("RECORD", 3), ("SCHEMA", 2), ("checkpoint", 3), ("header", 1), ("manifest", 1)];
    assert_eq!(counts, expected.map(|(sort, count)| (sort.to_owned(), count)).into());
    assert_eq!(tags, ["json".to_owned()].into());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn generated_values_make_lines_that_obey_the_schemas(
        texts in proptest::collection::vec(any::<String>(), 0..6),
        bytes in proptest::collection::vec(any::<Vec<u8>>(), 1..4),
        json in proptest::collection::vec("[{}\\[\\],:\"a0-9\\\\u.eE+ \n-]{0,24}", 0..6),
        numbers in proptest::collection::vec((any::<i64>(), any::<f64>()), 1..4),
    ) {
        let members: Vec<String> = json.iter().map(|text| format!("{{\"a\":{text}}}")).collect();
        let texts = texts.iter().chain(&json).chain(&members).map(|text| text.as_bytes());
        let texts = texts.chain(bytes.iter().map(Vec::as_slice)).map(Value::Text);
        let blobs = bytes.iter().map(|bytes| Value::Blob(bytes));
        let numbers = numbers.iter().flat_map(|(int, real)| [Value::Int(*int), Value::Real(*real)]);
        let rows = texts.chain(blobs).chain(numbers).map(everywhere).collect();
        check_lines(&hostile(rows));
    }
}

/// The first line of a sort in an archive where every sort has all that it can have.
fn good(sort: &str) -> Json {
    let archive = hostile(vec![everywhere(Value::Text(b"a\0b"))]);
    let mut lines = archive.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
    // the second checkpoint is that of a chunk
    lines.by_ref().filter(|line| what(line) == sort).nth(usize::from(sort == "checkpoint")).unwrap()
}

/// The line with another value at a place, or without it.
fn changed(line: &Json, place: &str, value: Option<Json>) -> Json {
    let mut line = line.clone();
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = line.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    match value {
        Some(value) => drop(parent.insert(key.into(), value)),
        None => drop(parent.remove(key).expect(place)),
    }
    line
}
