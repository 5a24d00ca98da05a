//! Reads and writes archives: rows of tables as zstd frames of NDJSON, checksummed and chained, sealed by a manifest.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod batch;
pub mod canonical;
pub mod codec;
pub mod control;
pub mod digest;
pub mod error;
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
pub use control::{Extent, Header, Manifest, Origin};
pub use error::{ArchiveError, ErrorKind, Result};
pub use hex::{hex, sha256};
pub use limits::{CHUNK_TARGET, CHUNK_TARGETS, VERSION, is_stream_name};
pub use model::{Column, Kind, Stream, TimeText, Value};
pub use read::{ArchiveReader, Index, Limits, Sealed};
pub use show::{show, show_path, show_text};
pub use write::{ArchiveWriter, WriterOptions, Written, processors};
