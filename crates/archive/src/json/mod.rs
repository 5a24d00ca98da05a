//! JSON text as bytes: whether every database can hold it, how to make it so, what its tokens are, and what it means.
//!
//! *Portable* JSON is what SQLite, PostgreSQL's `json` and `jsonb`, and common parsers all read alike: an object in
//! one line, without NUL, lone surrogates, equal names, extreme numbers or extreme depth. [`Scanner`] finds what
//! keeps a text from it, and [`sanitize`] makes the nearest portable text.

mod depth;
mod hash;
mod issues;
mod member;
mod names;
mod number;
mod sanitize;
mod scan;
mod string;
#[cfg(test)]
mod testing;
mod token;

pub use hash::JsonHash;
pub use issues::JsonIssues;
pub use member::{Place, member};
pub use sanitize::sanitize;
pub use scan::Scanner;
pub use string::{plain_string, read_string, write_string};
pub(crate) use token::{Token, Tokens};
