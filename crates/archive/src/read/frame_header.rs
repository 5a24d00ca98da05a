//! The header of a zstd frame: the size of its content, and settings that no writer of archives uses.

use crate::error::{ArchiveError, ErrorKind, Result};
use crate::read::frames::truncated;

/// The first bytes of every zstd frame.
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// The header of a zstd frame (RFC 8878, 3.1.1.1).
pub(crate) struct FrameHeader {
    /// Its own bytes.
    pub(crate) length: usize,
    /// The bytes of its content.
    pub(crate) content: usize,
    pub(crate) window: u64,
    /// Whether it carries one of its content.
    pub(crate) checksum: bool,
}

impl FrameHeader {
    pub(crate) fn parse(bytes: &[u8]) -> Result<FrameHeader> {
        let Some((magic, rest)) = bytes.split_first_chunk::<4>() else {
            return Err(truncated("the middle of a frame"));
        };
        if *magic != ZSTD_MAGIC {
            return Err(ArchiveError::new(
                ErrorKind::Damaged,
                "no zstd frame where the next one should start",
            ));
        }
        Self::parse_descriptor(rest)
            .unwrap_or_else(|| Err(truncated("the middle of a frame header")))
    }

    /// None if there are too few bytes.
    fn parse_descriptor(bytes: &[u8]) -> Option<Result<FrameHeader>> {
        let (descriptor, mut rest) = bytes.split_first()?;
        let single_segment = descriptor & 0x20 != 0;
        let mut window = 0;
        if !single_segment {
            let (byte, after) = rest.split_first()?;
            let base = 1_u64 << (10 + (byte >> 3));
            window = base + base / 8 * u64::from(byte & 7);
            rest = after;
        }
        let dictionary_bytes = [0, 1, 2, 4][usize::from(descriptor & 3)];
        let dictionary = little_endian(rest.get(..dictionary_bytes)?);
        let size_bytes = match descriptor >> 6 {
            0 if single_segment => 1,
            0 => 0,
            flag => 1 << flag,
        };
        let size = little_endian(rest.get(dictionary_bytes..dictionary_bytes + size_bytes)?);
        // a two-byte size starts at 256 (RFC 8878, 3.1.1.1.4)
        let content = if size_bytes == 2 { size + 256 } else { size };
        let refuse = |what: &str| Some(Err(ArchiveError::new(ErrorKind::Recompressed, what)));
        if size_bytes == 0 {
            return refuse("a frame does not say the size of its content");
        }
        if dictionary != 0 {
            return refuse("a frame asks for a dictionary");
        }
        Some(Ok(FrameHeader {
            length: 5 + usize::from(!single_segment) + dictionary_bytes + size_bytes,
            content: usize::try_from(content).unwrap_or(usize::MAX),
            window: if single_segment { content } else { window },
            checksum: descriptor & 4 != 0,
        }))
    }
}

/// A number of up to eight bytes, the least significant one first.
pub(crate) fn little_endian(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}
