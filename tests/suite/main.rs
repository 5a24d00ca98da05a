//! The one test binary: each module holds the laws of one thing.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

// the archive alone
mod archive;
mod damage;
mod format_document;

// what is said of the program, and how it is built
mod architecture;
mod help;
mod readme;
