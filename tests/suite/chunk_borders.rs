//! A store that keeps equal frames once keeps few new ones after an edit: chunk borders depend on content.

use std::collections::HashSet;

use crate::archive::{
    Owned, PLAIN, Row, Way, decompress, frames, letter, letters, read, sha256, write,
};
use crate::support::generate::Random;

const SEEDS: u64 = 24;
const ROWS: usize = 8000;
/// So small that there are more than 200 chunks.
const CHUNK_TARGET: u64 = 5000;

/// The SHA-256 of every frame of records.
fn record_frames(rows: &[Row], is_keyless: bool) -> Vec<String> {
    let mut stream = letters("letters");
    if is_keyless {
        stream.columns[0].nullable = true;
        stream.order.clear();
    }
    let way = Way { level: 1, seek_table: false, ..PLAIN };
    let (archive, _) = write(CHUNK_TARGET, &[stream], &[rows.to_vec()], way);
    let all = frames(&archive);
    let records = all[1..all.len() - 1].iter().step_by(2);
    records.map(|frame| sha256(&archive[frame.start..frame.end])).collect()
}

/// A row with a random key and a body of random length.
fn random_row(random: &mut Random, is_keyless: bool) -> Row {
    let id = format!("{:016x}", random.below(u64::MAX));
    let mut row = letter(
        &id,
        format!("{:x}", random.below(u64::MAX)).repeat(1 + random.below(8) as usize).into_bytes(),
    );
    if is_keyless {
        row[0] = Owned::Null;
    }
    row
}

/// Inserts, changes or deletes a random row.
fn edit(rows: &mut Vec<Row>, random: &mut Random, is_keyless: bool) {
    let at = random.below(rows.len() as u64) as usize;
    match random.below(3) {
        0 => rows.insert(at, random_row(random, is_keyless)),
        1 => rows[at][1] = random_row(random, is_keyless)[1].clone(),
        _ => drop(rows.remove(at)),
    }
}

/// The mean number of new frames over all seeds after `work` has been done to the rows; prints the worst.
fn mean_of_new_frames(
    what: &str,
    is_keyless: bool,
    work: impl Fn(&mut Vec<Row>, &mut Random),
) -> f64 {
    let mut counts = Vec::new();
    for seed in 0..SEEDS {
        let mut random = Random::new(seed);
        let mut rows: Vec<Row> = (0..ROWS).map(|_| random_row(&mut random, is_keyless)).collect();
        let before = record_frames(&rows, is_keyless);
        assert!(before.len() >= 200, "{} chunks", before.len());
        work(&mut rows, &mut random);
        let before: HashSet<String> = before.into_iter().collect();
        let after = record_frames(&rows, is_keyless);
        counts.push(after.iter().filter(|frame| !before.contains(*frame)).count());
    }
    let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    println!("{what}: {mean:.2} new frames, at worst {}", counts.iter().max().unwrap());
    mean
}

#[test]
fn random_edits_change_few_frames() {
    for is_keyless in [false, true] {
        for edits in [1, 5, 25] {
            let mean = mean_of_new_frames(&format!("{edits} edits"), is_keyless, |rows, random| {
                (0..edits).for_each(|_| edit(rows, random, is_keyless));
            });
            assert!(mean <= f64::from(3 * edits + 2), "{edits} edits: {mean} new frames");
            assert!(mean >= 0.5, "{edits} edits: {mean} new frames: nothing was edited");
        }
    }
}

#[test]
fn appended_rows_change_the_last_frames_only() {
    for appended in [1, 5, 10] {
        let mean = mean_of_new_frames(&format!("{appended} appended"), false, |rows, random| {
            rows.extend((0..appended).map(|_| random_row(random, false)));
        });
        assert!((1.0..=2.0).contains(&mean), "{appended} appended rows: {mean} new frames");
    }
}

#[test]
fn a_chunk_is_the_same_whatever_chunks_are_before_it() {
    let mut random = Random::new(1);
    let rows: Vec<Row> = (0..ROWS).map(|_| random_row(&mut random, false)).collect();
    let all = record_frames(&rows, false);
    // without a third of the rows, all frames but the first ones of the rest are among those of all
    let rest = record_frames(&rows[ROWS / 3..], false);
    let known = rest.iter().rev().take_while(|frame| all.contains(frame)).count();
    assert!(known + 16 > rest.len(), "{known} of {}", rest.len());
}

#[test]
fn checkpoints_of_1500_streams_name_one_stream_each() {
    let streams: Vec<_> = (0..1500).map(|n| letters(&format!("table_{n:04}"))).collect();
    let rows = vec![vec![letter("a", b"one row".to_vec())]; streams.len()];
    let (archive, written) = write(65_536, &streams, &rows, PLAIN);
    let lines = decompress(&archive).len();
    assert!(lines <= 2_000_000, "{lines} bytes");
    assert_eq!(written.manifest.chunks, 1501);
    assert!(read(&archive[..]).unwrap().rows == rows);
}
