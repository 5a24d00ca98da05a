//! The same rows give the same archive.

use super::*;

#[test]
fn the_bare_lines_of_an_archive_import_as_the_archive_does() {
    let folder = workdir("round-trip-lines");
    let source = folder.path().join("source.db");
    hostile_hooks_database(&source, 300, 8).expect("a database");
    let archive = export(words(&source), folder.path(), "source.archive");
    let compressed = std::fs::read(&archive).expect("the archive");
    let text = zstd::decode_all(compressed.as_slice()).expect("zstd");
    assert!(text.starts_with(b"{") && text.ends_with(b"\n"));
    let from_zstd = folder.path().join("from-zstd.db");
    let from_lines = folder.path().join("from-lines.db");
    import(&archive, words(&from_zstd), &["--create"]).success();
    Program::new(["import", "-", "--to", words(&from_lines), "--create"])
        .stdin(text)
        .run()
        .success();
    assert_same_rows(&sqlite_dump(&from_zstd), &sqlite_dump(&from_lines));
    assert_same_rows(&sqlite_dump(&source), &sqlite_dump(&from_lines));
}

/// The digest and the decompressed text of a reproducible export.
#[track_caller]
fn reproducible(from: &Path, options: &[&str]) -> (String, Vec<u8>) {
    let args = ["export", words(from), "--reproducible", "--json"];
    let output = Program::new(args.iter().chain(options)).run().success();
    let said: serde_json::Value = (output.stderr.lines())
        .find_map(|line| serde_json::from_str(line).ok())
        .unwrap_or_else(|| panic!("no JSON on stderr: {}", output.stderr));
    let digest = said["digest"].as_str().unwrap_or_else(|| panic!("no digest: {said}")).to_owned();
    (digest, zstd::decode_all(output.stdout.as_slice()).expect("zstd"))
}

#[test]
fn the_same_rows_give_the_same_digest_in_any_storage_order() {
    let folder = workdir("round-trip-reproducible");
    let usual = folder.path().join("usual.db");
    // More than one chunk, so that threads have something to share.
    hooks_database(&usual, 40, 4_000, 9).expect("a database");
    let (digest, text) = reproducible(&usual, &[]);
    assert!(digest.starts_with("sha256:"), "{digest}");
    let reversed = folder.path().join("reversed.db");
    sqlite_from(&["sqlite-hooks.sql"], &reversed, "wal");
    let database = Connection::open(&reversed).expect("open the file");
    database.pragma_update(None, "foreign_keys", "off").expect("foreign keys off");
    database.execute("ATTACH ? AS usual", [words(&usual)]).expect("attach");
    database
        .execute_batch(
            "INSERT INTO main.events SELECT * FROM usual.events ORDER BY rowid DESC; \
             INSERT INTO main.sessions SELECT * FROM usual.sessions ORDER BY claude_session_id; \
             DELETE FROM main.events WHERE rowid % 3 = 0; \
             INSERT INTO main.events SELECT * FROM usual.events WHERE id NOT IN (SELECT id FROM main.events);",
        )
        .expect("copy");
    drop(database);
    let vacuumed = folder.path().join("vacuumed.db");
    std::fs::copy(&reversed, &vacuumed).expect("copy the file");
    Connection::open(&vacuumed)
        .and_then(|database| {
            database.execute_batch(
                "PRAGMA journal_mode = delete; PRAGMA page_size = 8192; VACUUM; ANALYZE;",
            )
        })
        .expect("vacuum");
    let ways: [(&Path, &[&str]); 7] = [
        (&usual, &["--level", "1", "--threads", "1"]),
        (&usual, &["--level", "12", "--threads", "7"]),
        (&reversed, &[]),
        (&reversed, &["--threads", "1"]),
        (&reversed, &["--level", "1", "--threads", "4"]),
        (&vacuumed, &[]),
        (&vacuumed, &["--level", "9", "--threads", "2"]),
    ];
    for (path, options) in ways {
        let (other_digest, other_text) = reproducible(path, options);
        let way = format!("{} {options:?}", path.display());
        assert_eq!(digest, other_digest, "the digest of {way}");
        assert!(text == other_text, "the text of {way} differs");
    }
    let archive = |path: &Path| {
        Program::new(["export", words(path), "--reproducible"]).run().success().stdout
    };
    assert!(archive(&usual) == archive(&reversed), "the archives differ");
}

#[test]
fn other_rows_give_another_digest() {
    let folder = workdir("round-trip-other-digest");
    let source = folder.path().join("source.db");
    hooks_database(&source, 5, 50, 10).expect("a database");
    let (before, _) = reproducible(&source, &[]);
    Connection::open(&source)
        .and_then(|database| {
            database.execute_batch("UPDATE events SET data = CAST(data AS BLOB) WHERE rowid = 1")
        })
        .expect("change one value");
    assert_ne!(before, reproducible(&source, &[]).0);
}
