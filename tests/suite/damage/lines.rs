//! Control lines and heads that say something else than what was written.

use chronicle_dump::error::Code;

use super::hand::{
    EVENTS, HEADER, Hand, Line, SESSION_ROWS, SESSIONS, assert_both_refused, assert_joined_refused,
    split, with_table,
};
use super::{DAMAGED, assert_refused, attempt};
use crate::archive::sha256;

#[test]
pub(super) fn control_lines_that_say_something_else_are_refused() {
    use Line::{Checkpoint, Manifest};
    let zeros = "0".repeat(64);
    let prev =
        sha256(Hand::new().pieces()[2].split_inclusive(|byte| *byte == b'\n').next_back().unwrap());
    for (what, line, from, to, says) in [
        (
            "rows too many",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":3",
            "it holds 2 rows, but its checkpoint counts 3",
        ),
        (
            "no rows",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":0",
            "it holds 2 rows, but its checkpoint counts 0",
        ),
        (
            "rows below zero",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":-2",
            "lacks a field or has a wrong one",
        ),
        (
            "rows in the head",
            Checkpoint(0),
            "\"rows\":0",
            "\"rows\":1",
            "the head's checkpoint claims rows",
        ),
        (
            "a stream of the head",
            Checkpoint(0),
            "\"stream\":null",
            "\"stream\":\"events\"",
            "the head's checkpoint claims rows",
        ),
        (
            "another number",
            Checkpoint(2),
            "\"chunk\":2",
            "\"chunk\":3",
            "its checkpoint is number 3",
        ),
        (
            "another stream",
            Checkpoint(1),
            "\"sessions\"",
            "\"events\"",
            "expected a RECORD of this stream",
        ),
        ("an unknown stream", Checkpoint(1), "\"sessions\"", "\"others\"", "its stream is unknown"),
        (
            "no stream",
            Checkpoint(1),
            "\"stream\":\"sessions\"",
            "\"stream\":null",
            "its stream is unknown",
        ),
        ("another chain", Checkpoint(3), &prev, &zeros, "the chain of checkpoints is broken"),
        (
            "no chain",
            Checkpoint(3),
            &format!("\"{prev}\""),
            "null",
            "the chain of checkpoints is broken",
        ),
        (
            "a chain in the head",
            Checkpoint(0),
            "\"prev\":null",
            "\"prev\":\"\"",
            "the chain of checkpoints is broken",
        ),
        ("other bytes", Checkpoint(3), "\"bytes\":", "\"bytes\":1", "but its checkpoint counts"),
        ("a field missing", Checkpoint(1), "\"rows\":2,", "", "the checkpoint line lacks a field"),
        (
            "a field twice",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":2,\"rows\":2",
            "the control line names a key twice",
        ),
        (
            "a field twice, escaped",
            Checkpoint(1),
            "\"rows\":2",
            "\"rows\":2,\"row\\u0073\":2",
            "names a key twice",
        ),
        (
            "bookmarks twice",
            Checkpoint(1),
            "\"bookmarks\":{}",
            "\"bookmarks\":{},\"bookmarks\":{}",
            "names a key twice",
        ),
        (
            "a mark twice",
            Manifest,
            "\"bookmarks\":{}",
            "\"bookmarks\":{\"a\":1,\"a\":2}",
            "names a key twice",
        ),
        (
            "a kind twice",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"checkpoint\",\"kind\":\"manifest\"",
            "names a key twice",
        ),
        (
            "an unknown kind",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"wonder\"",
            "a control line of kind \"wonder\"",
        ),
        (
            "a second header",
            Checkpoint(1),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"header\"",
            "a control line of kind \"header\"",
        ),
        (
            "a manifest as head",
            Checkpoint(0),
            "\"kind\":\"checkpoint\"",
            "\"kind\":\"manifest\"",
            "lacks a field",
        ),
        ("a carriage return", Checkpoint(0), "\"rows\":0", "\"rows\":\r0", "carriage return"),
        ("a carriage return", Checkpoint(2), "\n", "\r\n", "carriage return"),
        ("a carriage return", Manifest, "\n", "\r\n", "carriage return"),
        ("another version", Manifest, "\"version\":1", "\"version\":2", "its version"),
        ("chunks", Manifest, "\"chunks\":4", "\"chunks\":3", "its number of chunks"),
        ("bytes", Manifest, "\"bytes\":", "\"bytes\":1", "its number of bytes"),
        ("rows of a stream", Manifest, "\"events\":3", "\"events\":2", "its number of rows"),
        ("a stream missing", Manifest, ",\"events\":3", "", "its number of rows"),
        (
            "a stream more",
            Manifest,
            "\"events\":3",
            "\"events\":3,\"others\":0",
            "its number of rows",
        ),
        (
            "another order",
            Manifest,
            "\"sessions\":2,\"events\":3",
            "\"events\":3,\"sessions\":2",
            "its number of rows",
        ),
        ("rows twice", Manifest, "\"events\":3", "\"events\":3,\"events\":3", "names a key twice"),
        (
            "no rows",
            Manifest,
            "\"rows\":{\"sessions\":2,\"events\":3},",
            "",
            "the manifest line lacks a field",
        ),
    ] {
        let pieces = Hand::control(line, from, to);
        assert_both_refused(what, &pieces, DAMAGED, says);
    }
    // what only looks like a control line to a JSON parser is none: bare lines would read
    // differently
    for (from, to) in [
        ("{\"type\":\"STATE\",", "{ \"type\":\"STATE\","),
        ("{\"type\":\"STATE\",", "{\"more\":1,\"type\":\"STATE\","),
        ("{\"type\":\"STATE\",", "{\"type\":\"state\","),
        ("{\"type\":\"STATE\",", "{\"type\":\"CHECKPOINT\","),
    ] {
        for line in [Checkpoint(0), Checkpoint(2), Manifest] {
            let archive = with_table(&Hand::control(line, from, to));
            // what is not a manifest counts as records, and what follows it is read
            let says = match line {
                Manifest => "where the next one should start",
                Checkpoint(_) => "its last line is not a STATE line",
            };
            assert_refused(to, &archive, DAMAGED, says);
            attempt(&Hand::control(line, from, to).concat()).1.unwrap_err();
        }
    }
    let array = Hand::new().altered(|line, text| match line {
        Manifest => {
            text.replace("{\"type\":\"STATE\",\"value\":", "[\"STATE\",").replace("}}\n", "}]\n")
        }
        Checkpoint(_) => text,
    });
    assert_refused("an array", &with_table(&array), DAMAGED, "where the next one should start");
    let long = format!("\"bookmarks\":{{\"a\":\"{}\"}}", "x".repeat(1 << 20));
    let pieces = Hand::control(Checkpoint(1), "\"bookmarks\":{}", &long);
    assert_joined_refused("a long line", &pieces, DAMAGED, "over the limit of a control line");
    // a frame over that limit is none of a checkpoint
    assert_refused("a long line", &with_table(&split(&pieces)), DAMAGED, "not a STATE line");
    for line in [Checkpoint(0), Checkpoint(1), Manifest] {
        let mut pieces =
            Hand::control(line, "\"bookmarks\":{}", "\"bookmarks\":{\"a\":\"\u{7f}\"}");
        let place = match line {
            Checkpoint(n) => n,
            Manifest => pieces.len() - 1,
        };
        let at = pieces[place].iter().rposition(|byte| *byte == 0x7F).unwrap();
        pieces[place][at] = 0xFF;
        assert_both_refused("no UTF-8", &pieces, DAMAGED, "not UTF-8");
    }
}

#[test]
pub(super) fn heads_that_say_something_else_are_refused() {
    let unsupported = Code::ArchiveUnsupported;
    let not_ours = "the SCHEMA lines are not those of the header's streams";
    for (what, from, to, code, says) in [
        ("version 2", "\"version\":1", "\"version\":2", unsupported, "the archive is of version 2"),
        (
            "version 10",
            "\"version\":1",
            "\"version\":10",
            unsupported,
            "the archive is of version 10",
        ),
        (
            "version 2 of all",
            HEADER,
            "{\"type\":\"STATE\",\"value\":{\"chronicle\":{\"kind\":\"header\",\"version\":2}}}\n",
            unsupported,
            "version 2",
        ),
        (
            "a feature",
            "\"requires\":[]",
            "\"requires\":[\"multi-archive\"]",
            unsupported,
            "the feature \"multi-archive\"",
        ),
        (
            "increments",
            "\"requires\":[]",
            "\"requires\":[\"delta\"]",
            unsupported,
            "needs feature `delta` (incremental archives), which this version does not read",
        ),
        (
            "deleted rows",
            "\"requires\":[]",
            "\"requires\":[\"tombstone\",\"delta\"]",
            unsupported,
            "needs feature `tombstone` (rows deleted since the base archive)",
        ),
        (
            "removed values",
            "\"requires\":[]",
            "\"requires\":[\"redacted\"]",
            unsupported,
            "needs feature `redacted` (values removed after the export)",
        ),
        ("no features", "\"requires\":[],", "", DAMAGED, "the header line lacks a field"),
        (
            "a key twice",
            "\"writer\":",
            "\"writer\":\"x\",\"writer\":",
            DAMAGED,
            "the header line names a key twice",
        ),
        (
            "a version twice",
            "\"requires\"",
            "\"version\":1,\"requires\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "a stream without SCHEMA",
            "[\"sessions\",\"events\"]",
            "[\"sessions\",\"events\",\"more\"]",
            DAMAGED,
            not_ours,
        ),
        ("a SCHEMA too many", "[\"sessions\",\"events\"]", "[\"sessions\"]", DAMAGED, not_ours),
        (
            "another order",
            "[\"sessions\",\"events\"]",
            "[\"events\",\"sessions\"]",
            DAMAGED,
            not_ours,
        ),
        ("a SCHEMA twice", SESSIONS, &SESSIONS.repeat(2), DAMAGED, not_ours),
        ("no SCHEMA", EVENTS, "", DAMAGED, not_ours),
        ("a blank line", EVENTS, &format!("\n{EVENTS}"), DAMAGED, "not a SCHEMA line"),
        ("a record", EVENTS, SESSION_ROWS, DAMAGED, "not a SCHEMA line"),
        (
            "lower case",
            "{\"type\":\"SCHEMA\",\"stream\":\"events\"",
            "{\"type\":\"schema\",\"stream\":\"events\"",
            DAMAGED,
            "not a SCHEMA line",
        ),
        (
            "a stream's name",
            "{\"type\":\"SCHEMA\",\"stream\":\"events\"",
            "{\"type\":\"SCHEMA\",\"stream\":\"Events\"",
            DAMAGED,
            "without a proper stream name",
        ),
        (
            "a carriage return",
            "\"table\":\"events\"",
            "\r\"table\":\"events\"",
            DAMAGED,
            "carriage return",
        ),
        (
            "a key twice",
            "\"table\":\"events\"",
            "\"table\":\"events\",\"table\":\"e\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "a column twice",
            "\"n\":\"int\"",
            "\"n\":\"int\",\"n\":\"int\"",
            DAMAGED,
            "names a key twice",
        ),
        (
            "columns that differ",
            "\"n\":\"int\",",
            "",
            DAMAGED,
            "stream events: the columns of the SCHEMA line disagree",
        ),
        (
            "columns in another order",
            "\"n\":\"int\",\"x\":\"real\"",
            "\"x\":\"real\",\"n\":\"int\"",
            DAMAGED,
            "disagree",
        ),
        (
            "a long name",
            "\"n\":\"int\"",
            &format!("\"{}\":\"int\"", "n".repeat(256)),
            DAMAGED,
            "disagree or break a limit",
        ),
        (
            "no key",
            "\"key_properties\":[\"id\"],\"chronicle\":{\"table\":\"events\"",
            "\"key_properties\":[],\"chronicle\":{\"table\":\"events\"",
            DAMAGED,
            "names no key",
        ),
        (
            "a key of no column",
            "\"key_properties\":[\"id\"],\"chronicle\":{\"table\":\"events\"",
            "\"key_properties\":[\"no\"],\"chronicle\":{\"table\":\"events\"",
            DAMAGED,
            "a column that it lacks",
        ),
    ] {
        assert_both_refused(what, &Hand::head(from, to).pieces(), code, says);
    }
    let spaced = Hand::head(
        "{\"type\":\"STATE\",\"value\":{\"chronicle\":{\"kind\":\"header\"",
        "{\"type\":\"STATE\",\"value\":{\"chronicle\":{ \"kind\":\"header\"",
    )
    .pieces();
    assert_both_refused("a space", &spaced, Code::NotAnArchive, "its first line is not a header");
    let long = format!("\"table\":\"{}\"", "x".repeat(1 << 20));
    let pieces = Hand::head("\"table\":\"events\"", &long).pieces();
    assert_both_refused("a long line", &pieces, DAMAGED, "a SCHEMA line is over its limit");
}
