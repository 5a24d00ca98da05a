//! Reads and writes archives: rows of tables as zstd frames of NDJSON, checksummed and chained, sealed by a manifest.
//!
//! An archive holds *streams*, each the rows of one table, in *chunks* of a few MiB. A chunk is verified before its
//! rows are handed on, and the end of an archive is an end only after its manifest agreed: whatever was cut, edited or
//! reordered is an [`ArchiveError`] that says where. The format is described in `schemas/archive.md` of the repository.
//!
//! # Reading
//!
//! An [`ArchiveReader`] fills a [`Batch`] with the rows of one chunk at a time; the batch is used again. This lists the
//! tasks of an archive:
//!
//! ```no_run
//! use std::fs::File;
//!
//! use chronicle_archive::{ArchiveReader, Batch, Limits, show};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut reader = ArchiveReader::open(File::open("tasks.ndjson.zst")?, Limits::default())?;
//! let tasks = reader.stream("tasks").ok_or("no stream tasks")?;
//! let id = reader.streams()[tasks].column("id").ok_or("no column id")?;
//! let mut batch = Batch::default();
//! while reader.next_batch(&mut batch)? {
//!     if batch.stream() == tasks {
//!         for row in 0..batch.rows() {
//!             println!("{}", show(batch.value(row, id)));
//!         }
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Rows come before the manifest was checked: what was done with them is final only when
//! [`next_batch`](ArchiveReader::next_batch) has returned `false`. [`show()`] is for messages and cuts a text at 80
//! characters; a program takes the [`Value`] itself. A text is [`Value::Text`] with its bytes; a time is [`Value::Time`]
//! where the source stored instants, else a text as it was written, which [`time::read_text`] reads.
//!
//! # Writing
//!
//! An [`ArchiveWriter`] takes the rows of one stream after the other, in the order of its streams. What it writes reads
//! back:
//!
//! ```
//! use chronicle_archive::{
//!     ArchiveReader, ArchiveWriter, Batch, CHUNK_TARGET, Column, Header, Kind, Limits, Origin, Stream,
//!     Value, WriterOptions,
//! };
//!
//! # fn main() -> chronicle_archive::Result<()> {
//! let columns = vec![Column::new("id", Kind::Text), Column::new("steps", Kind::Int)];
//! let streams = vec![Stream::new("tasks", columns)];
//! let origin = Origin { backend: "sqlite".into(), ..Origin::default() };
//! let header = Header::new(origin, &streams, CHUNK_TARGET);
//! let mut writer = ArchiveWriter::create(Vec::new(), &header, streams, WriterOptions::default())?;
//! let mut batch = Batch::default();
//! batch.start(0, 2, 1); // stream 0, 2 columns, from its row 1 on
//! batch.push(Value::Text(b"5f0c0f6e"));
//! batch.push(Value::Int(12));
//! writer.write(&batch)?;
//! let (archive, written) = writer.finish()?;
//!
//! let mut reader = ArchiveReader::open(&archive[..], Limits::default())?;
//! assert!(reader.next_batch(&mut batch)?);
//! assert_eq!(batch.value(0, 1), Value::Int(12));
//! assert!(!reader.next_batch(&mut batch)?);
//! assert_eq!(reader.sealed().map(|sealed| &sealed.digest), Some(&written.digest));
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look further
//!
//! - [`ArchiveReader::prefetch`] reads on several threads; [`ArchiveReader::digest_rows`] compares rows whatever their order.
//! - [`Kind`] says what a column may hold, [`Value`] what a row does, and [`show()`] a value as a message shows it.
//! - [`control`] has the lines that are no records, [`limits`] the numbers of the format.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod batch;
pub mod canonical;
pub mod codec;
pub mod control;
pub mod digest;
pub mod error;
pub mod escape;
pub mod hex;
pub mod json;
pub mod limits;
pub mod model;
pub mod read;
pub mod seek_table;
pub mod show;
pub mod time;
pub mod write;

pub use batch::Batch;
pub use control::{Extent, Header, Manifest, NumberRange, Origin};
pub use error::{ArchiveError, ErrorKind, Result};
pub use escape::{escaped, escaped_json};
pub use hex::{hex, sha256};
pub use limits::{CHUNK_TARGET, CHUNK_TARGETS, VERSION, is_stream_name};
pub use model::{Column, Kind, Stream, TimeText, Value};
pub use read::{ArchiveReader, Index, Limits, Sealed};
pub use show::{show, show_count, show_number, show_path, show_text, singular};
pub use write::{ArchiveWriter, WriterOptions, Written, processors};
