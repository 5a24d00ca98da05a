//! The seek table: a skippable frame behind the manifest that lists every frame's sizes.
//!
//! It is the "Zstandard Seekable Format" 0.1.0 of the zstd project with checksums. It is a cache:
//! never trusted, only compared.

/// The magic number of the skippable frame that holds the table.
pub const SKIPPABLE: u32 = 0x184D_2A5E;
/// The magic number that ends the table.
pub const FOOTER: u32 = 0x8F92_EAB1;
/// The bytes of the footer: the number of frames, a descriptor, the magic number.
pub const FOOTER_BYTES: usize = 9;
/// The bytes of an entry.
pub const ENTRY_BYTES: usize = 12;
/// The descriptor: entries have checksums.
const DESCRIPTOR: u8 = 0x80;
/// The bytes before the entries: the skippable frame's magic number and size.
pub const HEADER_BYTES: usize = 8;

/// One frame's sizes and the checksum of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its compressed bytes.
    pub compressed: u32,
    /// Its content's bytes.
    pub decompressed: u32,
    /// The low 32 bits of XXH64 of the content: the last four bytes of the frame.
    pub checksum: u32,
}

/// The table's bytes.
pub fn write(entries: &[Entry]) -> Vec<u8> {
    let size = entries.len() * ENTRY_BYTES + FOOTER_BYTES;
    let mut out = Vec::with_capacity(HEADER_BYTES + size);
    let mut put = |value: u32| out.extend_from_slice(&value.to_le_bytes());
    put(SKIPPABLE);
    put(u32::try_from(size).unwrap_or(u32::MAX));
    for entry in entries {
        put(entry.compressed);
        put(entry.decompressed);
        put(entry.checksum);
    }
    put(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    out.push(DESCRIPTOR);
    out.extend_from_slice(&FOOTER.to_le_bytes());
    out
}

/// The entries of a whole table, or None if it is not one.
pub fn read(table: &[u8]) -> Option<Vec<Entry>> {
    let frames = frames(table.get(table.len().checked_sub(FOOTER_BYTES)?..)?)?;
    let size = frames.checked_mul(ENTRY_BYTES)?.checked_add(FOOTER_BYTES)?;
    let header_matches = number(table, 0)? == SKIPPABLE
        && usize::try_from(number(table, 4)?).ok()? == size
        && table.len() == HEADER_BYTES + size;
    let entries = table.get(HEADER_BYTES..HEADER_BYTES + frames.checked_mul(ENTRY_BYTES)?)?;
    header_matches.then(|| {
        entries
            .chunks_exact(ENTRY_BYTES)
            .filter_map(|entry| {
                Some(Entry {
                    compressed: number(entry, 0)?,
                    decompressed: number(entry, 4)?,
                    checksum: number(entry, 8)?,
                })
            })
            .collect()
    })
}

/// The number of frames that a footer claims, or None if it is not one.
pub fn frames(footer: &[u8]) -> Option<usize> {
    let right = footer.len() == FOOTER_BYTES
        && footer.get(4) == Some(&DESCRIPTOR)
        && number(footer, 5)? == FOOTER;
    if right { usize::try_from(number(footer, 0)?).ok() } else { None }
}

/// The little-endian number at a position.
pub fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_back_and_a_damaged_one_does_not() {
        let entries: Vec<Entry> =
            (0..3).map(|n| Entry { compressed: n, decompressed: n * 2, checksum: !n }).collect();
        let table = write(&entries);
        assert_eq!(table.len(), 8 + 36 + 9);
        assert_eq!(read(&table), Some(entries));
        assert_eq!(read(&table[..table.len() - 1]), None);
        assert_eq!(read(&[]), None);
        let mut longer = table.clone();
        longer[4] ^= 1;
        assert_eq!(read(&longer), None);
    }
}
