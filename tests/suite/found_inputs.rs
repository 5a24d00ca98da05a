//! What the fuzzer starts from and what it has found, checked by its oracles: `tests/fuzz` looks for more.

use std::fs;
use std::path::Path;

use chronicle_dump::postgres::conninfo;

#[path = "../../fuzz/oracles/archive_reader.rs"]
mod archive_reader;
#[path = "../../fuzz/oracles/connection_string.rs"]
mod connection_string;
#[path = "../../fuzz/oracles/json_scanner.rs"]
mod json_scanner;
#[path = "../../fuzz/oracles/time_parser.rs"]
mod time_parser;

/// A target of the fuzzer: its name, what it starts from, and what must hold of every input.
type Target = (&'static str, fn() -> Vec<Vec<u8>>, fn(&[u8]));

const TARGETS: [Target; 4] = [
    ("archive_reader", archive_reader::seeds, archive_reader::check),
    ("connection_string", connection_string::seeds, connection_string::check),
    ("json_scanner", json_scanner::seeds, json_scanner::check),
    ("time_parser", time_parser::seeds, time_parser::check),
];

#[test]
fn the_oracles_hold_for_every_seed() {
    for (name, seeds, check) in TARGETS {
        let seeds = seeds();
        assert!(seeds.len() >= 10, "{name}");
        for (n, seed) in seeds.iter().enumerate() {
            println!("seed {n} of {name}");
            check(seed);
        }
    }
}

#[test]
fn the_oracles_hold_for_every_input_that_was_found() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/found");
    for folder in fs::read_dir(found).unwrap().map(|entry| entry.unwrap().path()) {
        let (_, _, check) = TARGETS
            .into_iter()
            .find(|(name, ..)| folder.ends_with(name))
            .unwrap_or_else(|| panic!("{} is of no target", folder.display()));
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            println!("{}", file.display());
            check(&fs::read(file).unwrap());
        }
    }
}
