//! Fuzzes the parser of connection strings.
#![no_main]

// The parser's own files: its package would bring everything of the databases along, minutes to compile.
#[allow(dead_code, unused_imports)]
#[path = "../../src/postgres/conninfo/mod.rs"]
mod conninfo;
#[allow(dead_code, unused_imports)]
#[path = "../../src/error.rs"]
mod error;
#[allow(dead_code, unused_imports)]
#[path = "../../src/notice.rs"]
mod notice;

#[path = "../oracles/connection_string.rs"]
mod connection_string;

libfuzzer_sys::fuzz_target!(
    init: chronicle_fuzz::write_seeds("connection_string", &connection_string::seeds()),
    |input: &[u8]| connection_string::check(input)
);
