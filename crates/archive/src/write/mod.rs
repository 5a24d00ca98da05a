//! Writing: rows into chunks, chunks into frames that are compressed side by side and written in order.

mod borders;
pub mod frames;
pub mod writer;

pub use writer::{ArchiveWriter, WriterOptions, Written};

/// The processors of this machine: how many threads do what can be done side by side.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}
