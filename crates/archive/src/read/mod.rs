//! Reading: frames from a file or a pipe, chunks verified one by one, and rows only of what was verified.

pub(crate) mod chunk;
pub(crate) mod frame_header;
pub mod frames;
pub(crate) mod prefetch;
pub mod reader;

pub use frames::Limits;
pub use reader::{ArchiveReader, Index, Sealed};
