//! Moves Chronicle databases between SQLite and Postgres through one verified, portable archive.

pub mod archive;
pub mod error;
pub mod layout;
pub mod record;
pub mod time;

pub mod cancel;
pub mod convert;
pub mod plan;
pub mod source;
pub mod sqlite;
pub mod target;
