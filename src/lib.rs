//! Moves databases between SQLite and Postgres through one verified, portable archive.
//!
//! ```text
//!  sqlite/   ─┐ Source                                                                Target ┌─ sqlite/
//!             ├─▶ export ──▶ ArchiveWriter ══ stdout | ssh | file ══▶ ArchiveReader ──▶ import ─┤
//!  postgres/ ─┘                                                       plan, transform         └─ postgres/
//! ```
//!
//! A row travels in a [`chronicle_archive::Batch`]: a [`Source`] fills it, [`mod@export`] hands it to the
//! archive, [`mod@import`] takes it out again, [`transform`] turns it into rows of the target as the [`plan`]
//! says, and a [`Target`] loads them. Export and import meet only in the archive. [`mod@diff`] compares the
//! rows of any two archives or databases. [`location`] alone names both backends.

pub mod amend;
pub mod amendments;
pub mod archive_input;
pub mod archive_part;
pub mod audit;
pub mod cancel;
pub mod cat;
pub mod catalog;
pub mod chronicle;
pub mod cli;
pub mod copy;
pub mod decimal;
pub mod diff;
pub mod error;
pub mod export;
pub mod fault;
pub mod history;
pub mod identity;
pub mod import;
pub mod layout;
pub mod load;
pub mod location;
pub mod notice;
pub mod numbers;
pub mod part;
pub mod plan;
pub mod policy;
pub mod postgres;
pub mod profile;
pub mod progress;
pub mod retention;
pub mod rollback;
pub mod selection;
pub mod service;
pub mod sidecar;
pub mod sorted;
pub mod source;
pub mod spill;
pub mod sqlite;
pub mod temporary;
pub mod transform;
pub mod typed;
pub mod undo;
pub mod value_bytes;
pub mod verify;

pub use archive_input::ArchiveInput;
pub use diff::{CompareOptions, Compared, Difference, Side, compare};
pub use error::{Code, Error, Result};
pub use export::{ExportOptions, Exported, export};
pub use import::{ImportOptions, Imported, import};
pub use load::Target;
pub use location::Location;
pub use source::Source;
