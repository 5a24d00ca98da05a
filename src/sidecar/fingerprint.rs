//! Fingerprints: whether a value is still the one that was loaded.

use sha2::{Digest as _, Sha256};

use chronicle_archive::canonical::Canonical;
use chronicle_archive::time::ZoneRule;
use chronicle_archive::{Kind, Value, hex};

/// The bytes of a buffer beyond which it is not kept for other values.
const LARGE: usize = 8 << 20;

/// Tells whether a value is still the one that was loaded.
#[derive(Debug, Default)]
pub struct Fingerprint {
    canonical: Canonical,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Sixteen hexadecimal digits of what a column of `kind` in the target holds.
    ///
    /// Only `jsonb` changes how a text is spelled; every other kind keeps the bytes.
    pub fn of(&mut self, kind: Kind, value: Value<'_>) -> String {
        let kind = if kind == Kind::Jsonb { kind } else { Kind::Text };
        self.bytes.clear();
        self.canonical.write(kind, false, ZoneRule::Refuse, value, &mut self.bytes);
        let fingerprint = hex(&Sha256::digest(&self.bytes)[..8]);
        if self.bytes.capacity() > LARGE {
            *self = Fingerprint::default();
        }
        fingerprint
    }
}
