//! Fuzzes the JSON scanner.
#![no_main]

#[path = "../oracles/json_scanner.rs"]
mod json_scanner;

libfuzzer_sys::fuzz_target!(
    init: chronicle_fuzz::write_seeds("json_scanner", &json_scanner::seeds()),
    |input: &[u8]| json_scanner::check(input)
);
