//! Fuzzes the parser of connection strings.
#![no_main]

use chronicle_dump::postgres::conninfo;

#[path = "../oracles/connection_string.rs"]
mod connection_string;

libfuzzer_sys::fuzz_target!(
    init: chronicle_fuzz::write_seeds("connection_string", &connection_string::seeds()),
    |input: &[u8]| connection_string::check(input)
);
