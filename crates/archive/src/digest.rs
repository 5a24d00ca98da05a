//! The row digest `lrd1`: one number per stream, equal for equal content, whatever the order of the
//! rows, the database they came from, and the spelling of their JSON.
//!
//! It is a sum of hashes, which finds accidents, not attackers: a sum can be forged. Two equal rows do
//! not cancel out, as they would with exclusive or.

use sha2::{Digest as _, Sha256};

use crate::canonical::{Scratch, write_canonical, write_instant};
use crate::json::write_string;
use crate::model::{Kind, Stream};

/// The name of the algorithm in manifests.
pub const LRD1: &str = "lrd1";

/// The digest of the rows of one stream.
#[derive(Debug, Clone)]
pub struct RowDigest {
    columns: Vec<Column>,
    sum: RowSum,
    row: Vec<u8>,
    scratch: Scratch,
}

/// A sum of row hashes: a 256-bit number, the most significant limb first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowSum([u64; 4]);

impl RowSum {
    /// Adds another sum, modulo 2^256.
    pub fn add(&mut self, other: RowSum) {
        let mut carry = false;
        for (limb, word) in self.0.iter_mut().zip(other.0).rev() {
            let (sum, over) = limb.overflowing_add(word);
            let (sum, over_again) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, over || over_again);
        }
    }

    /// The sum as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.0.iter().map(|limb| format!("{limb:016x}")).collect()
    }
}

#[derive(Debug, Clone)]
struct Column {
    /// The name as JSON, with a colon, and a comma before all but the first.
    name: Vec<u8>,
    is_time: bool,
}

impl RowDigest {
    /// A digest of rows of `stream`, with no rows yet.
    pub fn new(stream: &Stream) -> RowDigest {
        let columns = (stream.columns.iter().enumerate())
            .map(|(n, column)| {
                let mut name = if n == 0 { Vec::new() } else { b",".to_vec() };
                write_string(&mut name, &column.name);
                name.push(b':');
                Column { name, is_time: column.time_text.is_time() && column.kind == Kind::Text }
            })
            .collect();
        RowDigest { columns, sum: RowSum::default(), row: Vec::new(), scratch: Scratch::default() }
    }

    /// Adds a row, given as the JSON texts of its record values in the order of the columns.
    pub fn add<'a>(&mut self, values: impl IntoIterator<Item = &'a [u8]>) {
        self.row.clear();
        self.row.push(b'{');
        for (column, value) in self.columns.iter().zip(values) {
            self.row.extend_from_slice(&column.name);
            if !(column.is_time && write_instant(value, &mut self.row)) {
                write_canonical(value, &mut self.row, &mut self.scratch);
            }
        }
        self.row.push(b'}');
        self.add_hash(&Sha256::digest(&self.row));
    }

    /// Adds a row, given as its canonical bytes as a whole.
    pub fn add_row(&mut self, row: &[u8]) {
        self.add_hash(&Sha256::digest(row));
    }

    /// Adds a hash as a 256-bit big-endian number.
    fn add_hash(&mut self, hash: &[u8]) {
        let mut sum = RowSum::default();
        for (limb, bytes) in sum.0.iter_mut().zip(hash.chunks_exact(8)) {
            *limb = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        }
        self.sum.add(sum);
    }

    /// Returns the sum of the rows so far and starts again from zero.
    pub fn take(&mut self) -> RowSum {
        std::mem::take(&mut self.sum)
    }

    /// The digest as 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        self.sum.hex()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::TimeText;

    fn stream() -> Stream {
        let column = |name: &str, time_text| crate::model::Column {
            name: name.into(),
            physical: name.into(),
            kind: Kind::Text,
            nullable: true,
            time_text,
        };
        Stream {
            name: "s".into(),
            table: "s".into(),
            columns: vec![column("id", TimeText::None), column("at", TimeText::Local)],
            key: vec![0],
            order: vec![],
        }
    }

    #[test]
    fn the_number_of_rows_matters_and_their_order_does_not() {
        let rows: [[&[u8]; 2]; 3] = [[b"\"a\"", b"null"], [b"\"b\"", b"null"], [b"\"b\"", b"null"]];
        let digest = |order: &[usize]| {
            let mut digest = RowDigest::new(&stream());
            order.iter().for_each(|n| digest.add(rows[*n]));
            digest.hex()
        };
        assert_eq!(digest(&[0, 1, 2]), digest(&[2, 1, 0]));
        assert_ne!(digest(&[0, 1]), digest(&[0, 1, 2]));
        assert_eq!(digest(&[]), "0".repeat(64));
        // One row: the SHA-256 of its canonical text.
        assert_eq!(digest(&[0]), crate::sha256(br#"{"id":"a","at":null}"#));
    }

    #[test]
    fn instants_are_compared_as_instants() {
        let digest = |at: &str| {
            let mut digest = RowDigest::new(&stream());
            digest.add([&b"\"a\""[..], at.as_bytes()]);
            digest.hex()
        };
        assert_eq!(digest("\"2025-08-19T12:00:00+02:00\""), digest("\"2025-08-19 10:00:00\""));
        assert_ne!(digest("\"2025-08-19T12:00:00+02:00\""), digest("\"2025-08-19 12:00:00\""));
        assert_ne!(digest("\"now\""), digest("\"then\""));
    }
}
