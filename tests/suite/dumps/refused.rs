//! What is not the whole of a plain dump is refused, and says what to type.

use chronicle_dump::cancel::Cancel;
use chronicle_dump::error::Code;
use chronicle_dump::postgres::dump::open;
use chronicle_dump::source::SourceOptions;

use super::*;
use crate::full_disks::with_small_files;
use crate::support::generate::Random;
use crate::support::migrate::postgres;

#[test]
fn a_cut_dump_is_never_an_archive() {
    let database = postgres(LAYOUT, "dump_cut", &some_rows(6));
    database.psql("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $$ SELECT 'x;\n' $$");
    let dump = dump(&database, &[]);
    let end = memchr::memmem::rfind(&dump, b"complete").unwrap() + "complete".len();
    assert_eq!(&dump[end..end + 4], b"\n--\n");
    let copy = memchr::memmem::find(&dump, b"COPY public.chronicle_events").unwrap();
    let rows = memchr::memmem::find(&dump[copy..], b"\n\\.\n").unwrap() + copy;
    let mut cuts = vec![1, copy, copy + 9, rows, rows + 1, rows + 3, rows + 4, end - 1];
    let mut random = Random::new(7);
    cuts.extend((0..60).map(|_| 1 + random.below(end as u64 - 2) as usize));
    for cut in cuts {
        let output =
            refuse(&dump[..cut], &[]).fails_with(8).stderr_has("not complete: it ends in line");
        let line = 1 + dump[..cut].iter().filter(|byte| **byte == b'\n').count();
        output.stderr_has(&format!("line {line},"));
    }
    // what was cut does not become whole by what follows
    let after = [&dump[..copy], &dump[..]].concat();
    refuse(&after, &[]).fails_with(8).stderr_has("where another dump begins");
    let within = [&dump[..rows - 5], &dump[..]].concat();
    refuse(&within, &[]).fails_with(8);
    // with the checksum that the program zstd adds
    let mut zstd = zstd::Encoder::new(Vec::new(), 3).unwrap();
    zstd.include_checksum(true).unwrap();
    std::io::Write::write_all(&mut zstd, &dump).unwrap();
    let zstd = zstd.finish().unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &dump).unwrap();
    let gzip = gzip.finish().unwrap();
    for compressed in [zstd, gzip] {
        for cut in [30, compressed.len() / 2, compressed.len() - 3] {
            refuse(&compressed[..cut], &[]).fails_with(8).stderr_has("end too early");
        }
        let mut damaged = compressed.clone();
        damaged[compressed.len() / 2] ^= 0x20;
        refuse(&damaged, &[]).fails_with(8);
    }
}

/// Reads a dump, as the program does.
fn read(dump: Vec<u8>) -> chronicle_dump::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (options, cancel) =
        (SourceOptions { sorted: true, ..Default::default() }, Cancel::default());
    let opened = open(Box::new(std::io::Cursor::new(dump)), [None, None], &options, &cancel);
    runtime.block_on(opened).map(drop)
}

#[test]
fn a_damaged_dump_is_read_or_refused_and_never_a_bug() {
    let database = postgres(LAYOUT, "dump_damaged", &some_rows(2));
    let dump = dump(&database, &[]);
    read(dump.clone()).unwrap();
    let mut random = Random::new(11);
    let mut refused = 0;
    for _ in 0..600 {
        let mut damaged = dump.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(damaged.len() as u64) as usize;
            match random.below(4) {
                0 => damaged[at] = random.pick(b"\\'\"$;()\n\t-/*\0\xff,."),
                1 => drop(damaged.remove(at)),
                2 => drop(damaged.splice(at..at, b"$x$ \"' (".iter().copied())),
                _ => {
                    let end = (at + random.below(200) as usize).min(damaged.len());
                    let copy = damaged[at..end].to_vec();
                    drop(damaged.splice(at..at, copy));
                }
            }
        }
        if let Err(error) = read(damaged) {
            assert_ne!(error.code(), Code::Internal, "{}", error.full());
            refused += 1;
        }
    }
    assert!(refused > 60, "{refused}");
}

#[test]
fn other_formats_of_pg_dump_are_refused_with_the_way_out() {
    let database = postgres(LAYOUT, "dump_formats", &some_rows(1));
    for format in ["--format=custom", "--format=tar"] {
        refuse(&dump(&database, &[format]), &[]).fails_with(8).stderr_has("pg_restore -f dump.sql");
    }
    let scratch = scratch("dump_formats");
    let folder = scratch.path("folder");
    dump(&database, &["--format=directory", "--file", words(&folder)]);
    let run = Program::new(["export", "--from-dump", words(&folder)]).run();
    run.fails_with(7).stderr_has("is a directory").stderr_has("pg_restore -f");
    refuse(&dump(&database, &["--inserts"]), &[]).fails_with(8).stderr_has("are INSERT statements");
    let schema = dump(&database, &["--schema-only"]);
    refuse(&schema, &[]).fails_with(8).stderr_has("but not its rows");
    let without = dump(&database, &["--exclude-table-data=chronicle_events"]);
    refuse(&without, &[]).fails_with(8).stderr_has("public.chronicle_events, but not its rows");
    let data = dump(&database, &["--data-only"]);
    refuse(&data, &[]).fails_with(8).stderr_has("cat schema.sql data.sql");
    assert_same(&database, &[schema, data].concat(), &[]);
}

#[test]
fn the_two_files_of_supabase_db_dump_are_read_as_one() {
    let database = postgres(LAYOUT, "dump_supabase_cli", &some_rows(3));
    let text = |options: &[&str]| String::from_utf8(dump(&database, options)).unwrap();
    // as its scripts change what pg_dump writes
    let schema: Vec<String> = (text(&["--schema-only", "--quote-all-identifiers"]).lines())
        .filter(|line| !line.starts_with("--"))
        .map(|line| match line.strip_prefix("CREATE TABLE \"") {
            Some(rest) => format!("CREATE TABLE IF NOT EXISTS \"{rest}"),
            None => line.to_owned(),
        })
        .collect();
    let schema = format!("{}\nRESET ALL;\n", schema.join("\n"));
    let data = text(&["--data-only", "--quote-all-identifiers"]).replace("\n\\", "\n-- \\");
    let data = data.replace("\n-- \\.", "\n\\.");
    let data = format!("SET session_replication_role = replica;\n\n{data}\nRESET ALL;\n");
    assert_same(&database, format!("{schema}{data}").as_bytes(), &[]);
    refuse(schema.as_bytes(), &[]).fails_with(8).stderr_has("not complete");
    refuse(data.as_bytes(), &[]).fails_with(8).stderr_has("but not the table");
    refuse(format!("{data}{schema}").as_bytes(), &[]).fails_with(8);
}

#[test]
fn what_a_dump_does_not_say_exactly_is_refused() {
    let database = postgres(LAYOUT, "dump_inexact", &some_rows(1));
    let plain = dump(&database, &[]);
    let latin = dump(&database, &["--encoding=LATIN1"]);
    refuse(&latin, &[]).fails_with(8).stderr_has("latin1").stderr_has("pg_dump -E UTF8");
    let rls = dump(&database, &["--enable-row-security"]);
    refuse(&rls, &[]).fails_with(8).stderr_has("may not be all");
    refuse(&[&plain[..], &plain[..]].concat(), &[]).fails_with(8).stderr_has("twice");
    let text = String::from_utf8(plain).unwrap();
    for (from, to, words) in [
        (
            "\t2025-08-19 ",
            "\tsoon ",
            "chronicle_events.timestamp: not a value of timestamp with time zone",
        ),
        ("/home/kim/1", "/home\\kim", "an escape that COPY does not write"),
        ("/home/kim/1", "/home\tkim", "values in place of"),
        ("/home/kim/1", "a\0b", "not text in UTF-8"),
        ("FROM stdin;", "FROM stdin WITH (FORMAT csv);", "is not as pg_dump writes it"),
        ("SET client_encoding = 'UTF8';", "", "before any client_encoding"),
        ("SET lock_timeout", "\\i more.sql\nSET lock_timeout", "no command that pg_dump writes"),
        (
            "CREATE TABLE public.chronicle_sessions (",
            "CREATE TABLE public.chronicle_sessions AS (",
            "is not understood",
        ),
    ] {
        assert!(text.contains(from), "{from}");
        refuse(text.replacen(from, to, 1).as_bytes(), &[]).fails_with(8).stderr_has(words);
    }
    for (name, bytes, hint) in [
        ("empty", &b""[..], "the sending command"),
        ("sqlite", b"SQLite format 3\0", "chronicle-dump export FILE"),
        ("archive", b"{\"type\":", "chronicle-dump import"),
        ("xz", b"\xfd7zXZ\0\0", "xz -dc"),
    ] {
        let output = refuse(bytes, &[]).fails_with(8);
        assert!(output.stderr.contains(hint), "{name}: {}", output.stderr);
    }
    database.psql("ALTER TABLE chronicle_sessions ADD x tstzrange");
    refuse(&dump(&database, &[]), &[]).fails_with(8).stderr_has("tstzrange");
}

#[test]
fn without_room_to_sort_a_dump_nothing_is_written() {
    let database = postgres(LAYOUT, "dump_full_disk", &some_rows(1));
    database.psql(
        "INSERT INTO chronicle_events (session_id, event_type, timestamp, metadata) \
         SELECT s.id, 'stop', now(), jsonb_build_object('text', repeat(md5(n::text), 60)) \
           FROM chronicle_sessions s, generate_series(1, 6000) n;",
    );
    let scratch = scratch("dump_full_disk");
    save(&scratch, &dump(&database, &[]));
    std::fs::create_dir(scratch.path("tmp")).unwrap();
    let folder = scratch.path("");
    let export = ["export", "--from-dump", "dump.sql", "-o", "archive"];
    let (code, said) = with_small_files(4_000, &folder, &export);
    assert_eq!(code, Some(13), "{said}");
    assert!(said.contains("no room for a temporary file") && said.contains("TMPDIR="), "{said}");
    assert!(!scratch.path("archive").exists());
    assert_eq!(std::fs::read_dir(scratch.path("tmp")).unwrap().count(), 0);
}

#[test]
fn a_dump_of_something_else_is_refused_as_a_database_is() {
    let database = Cluster::get().database("dump_else");
    database.psql("CREATE TABLE notes (id int); CREATE VIEW chronicle_sessions AS SELECT 1 AS id");
    refuse(&dump(&database, &[]), &[]).fails_with(9).stderr_has("not a Chronicle database");
    let scratch = scratch("dump_else");
    let path = save(&scratch, &dump(&database, &[]));
    let run = |args: &[&str]| Program::new(args).run();
    run(&["export", "--from-dump", words(&path), &database.url()]).fails_with(2);
    run(&["export", "--dump-database", "x"]).fails_with(2);
    run(&["export", "--from-dump", "none.sql"]).fails_with(7).stderr_has("no such file");
}
