//! Fuzzes the time parser.
#![no_main]

#[path = "../oracles/time_parser.rs"]
mod time_parser;

libfuzzer_sys::fuzz_target!(
    init: chronicle_fuzz::write_seeds("time_parser", &time_parser::seeds()),
    |input: &[u8]| time_parser::check(input)
);
