//! Moves Chronicle databases between SQLite and Postgres through one verified, portable archive.

pub mod archive;
pub mod error;
pub mod layout;
pub mod record;
pub mod time;
