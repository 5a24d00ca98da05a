//! Fuzzes the archive reader.
#![no_main]

#[path = "../oracles/archive_reader.rs"]
mod archive_reader;

libfuzzer_sys::fuzz_target!(
    init: chronicle_fuzz::write_seeds("archive_reader", &archive_reader::seeds()),
    |input: &[u8]| archive_reader::check(input)
);
