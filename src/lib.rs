//! Moves Chronicle databases between SQLite and Postgres through one verified, portable archive.
//!
//! ```text
//!  sqlite/   ─┐ Source                                                                Target ┌─ sqlite/
//!             ├─▶ export ──▶ archive/writer ══ stdout | ssh | file ══▶ archive/reader ──▶ import ─┤
//!  postgres/ ─┘                                                        plan, convert            └─ postgres/
//! ```
//!
//! A row travels in a [`record::Batch`]: a room of one database fills it, [`mod@export`] hands it to
//! the archive, [`mod@import`] takes it out again, and by the [`plan`] the room of the other database
//! loads it. Export and import meet only in [`archive`] and [`record`]. [`mod@compare`] takes the
//! rows of any two archives or databases and tells what differs. What a database is called is the
//! business of [`location`], which alone names both.

pub mod error;
pub mod record;
pub mod time;

pub mod source;
pub use source::Source;

pub mod export;
pub use export::{ExportOptions, Exported, export};

pub mod archive;

pub mod verify;

pub mod against;
pub mod cat;
pub mod compare;
pub use compare::{CompareOptions, Compared, Difference, Side, compare};

pub mod import;
pub use import::{ImportOptions, Imported, import};
pub mod incoming;
pub use incoming::Incoming;

pub mod convert;
pub mod event_type;
pub mod ids;
pub mod plan;
pub mod readback;
pub mod rejects;
pub mod residue;
pub mod shape;
pub mod shaping;
pub mod skip;
pub mod survey;

pub mod target;
pub use target::Target;

pub mod layout;
pub mod postgres;
pub mod sqlite;
pub use sqlite::spool;

pub mod discover;
pub mod location;
pub use location::Location;

pub mod cli;

pub mod cancel;
pub mod progress;

pub use error::{Code, Error, Result};
