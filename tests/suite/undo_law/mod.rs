//! The undo law: whatever was imported, restored, undone and edited, a rollback gives back exactly what was before.
//!
//! Random walks, judged after every step by a dump that knows nothing of the program. `UNDO_STEPS=10000` walks further,
//! `UNDO_SEED=7` walks with one seed alone.

mod tables;
mod walk;

use tables::{CHRONICLE, GENERAL, KEYLESS, Tables};
use walk::{Counts, Walk};

/// The steps of one walk.
const STEPS: u64 = 40;
/// The steps of all walks, unless the environment says another number.
const ALL_STEPS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Walks with the seeds of a test: `share` of a thousand of all steps.
fn walks(tables: &'static Tables, server: bool, first: u64, share: u64) {
    let steps = number("UNDO_STEPS").unwrap_or(ALL_STEPS) * share / 1_000;
    let seeds = match number("UNDO_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + steps.div_ceil(STEPS),
    };
    let mut counts = Counts::new();
    for seed in seeds.clone() {
        let mut walk = Walk::new(tables, server, seed);
        walk.judge_twice();
        for _ in 0..STEPS {
            walk.step();
        }
        walk.judge_twice();
        for (what, (tried, done)) in std::mem::take(&mut walk.counts) {
            let all = counts.entry(what).or_default();
            (all.0, all.1) = (all.0 + tried, all.1 + done);
        }
    }
    println!("{}: seeds {seeds:?}: {counts:?}", tables.name);
    for (what, (tried, done)) in counts {
        assert!(tried < 40 || 8 * done >= tried, "{what}: only {done} of {tried} were done");
    }
}

/// Others that have found faults are among the first ones of the usual seeds.
#[test]
fn a_walk_that_has_found_a_fault_keeps_the_law() {
    let mut walk = Walk::new(&GENERAL, true, 5_001);
    (0..STEPS).for_each(|_| walk.step());
}

#[test]
fn chronicles_tables_in_a_file_keep_the_law() {
    walks(&CHRONICLE, false, 1_000, 360);
}

#[test]
fn tables_of_a_layout_in_a_file_keep_the_law() {
    walks(&GENERAL, false, 2_000, 420);
}

#[test]
fn rows_without_a_key_in_a_file_keep_the_law() {
    walks(&KEYLESS, false, 3_000, 160);
}

#[test]
fn chronicles_tables_on_a_server_keep_the_law() {
    walks(&CHRONICLE, true, 4_000, 20);
}

#[test]
fn tables_of_a_layout_on_a_server_keep_the_law() {
    walks(&GENERAL, true, 5_000, 20);
}

#[test]
fn rows_without_a_key_on_a_server_keep_the_law() {
    walks(&KEYLESS, true, 6_000, 20);
}
