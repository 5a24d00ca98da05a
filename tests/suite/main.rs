//! The one test binary: each module holds the laws of one thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod support;

// the archive alone
mod archive;
mod chunk_borders;
mod damage;
mod format_document;
mod found_inputs;

// databases and processes, for real
mod against;
mod amend;
mod cat;
mod catalogue;
mod check;
mod cli_output;
mod connecting;
mod contract;
mod copy;
mod diff;
mod discover;
mod dumps;
mod env_files;
mod faults;
mod fidelity;
mod files;
mod full_disks;
mod hostile_costs;
mod identity;
mod indexes;
mod keys;
mod layouts;
mod log;
mod lossless;
mod memory;
mod model;
mod pipes;
mod pooled;
mod postgres_history;
mod progress;
mod reader;
mod round_trip;
mod schedule;
mod secrets;
mod selection;
mod snapshot;
mod statistics;
mod status;
mod terminal;
mod tls;
mod undo_law;
mod values;
mod versions;

// what is said of the program, and how it is built
mod architecture;
mod documents;
mod help;
mod manual;
mod messages;
mod test_files;
