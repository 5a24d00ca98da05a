//! What is known of the rows that other rows refer to: a few marks for each key, in bounded memory.

use std::collections::HashMap;

use crate::error::Result;
use crate::spill::Spill;
use chronicle_archive::Value;

/// The keys that are kept in memory; more of them go to the spill.
const IN_MEMORY: usize = 100_000;

/// Marks by stream and key.
#[derive(Default)]
pub(super) struct Seen {
    few: HashMap<Vec<u8>, u8>,
    more: Option<Spill>,
    key: Vec<u8>,
}

impl Seen {
    /// The marks of a key; none of one that was never marked.
    pub(super) fn marks(&mut self, stream: usize, key: Value<'_>) -> Result<u8> {
        self.spell(stream, key);
        match (self.few.get(&self.key), &self.more) {
            (Some(marks), _) => Ok(*marks),
            (None, None) => Ok(0),
            (None, Some(more)) => {
                let found = more.get(0, &self.key)?;
                Ok(found.and_then(|marks| marks.first().copied()).unwrap_or(0))
            }
        }
    }

    /// Adds marks to those of a key.
    pub(super) fn mark(&mut self, stream: usize, key: Value<'_>, marks: u8) -> Result<()> {
        let known = self.marks(stream, key)?;
        let all = known | marks;
        if all == known {
            return Ok(());
        }
        if let Some(few) = self.few.get_mut(&self.key) {
            *few = all;
        } else if self.few.len() < IN_MEMORY {
            self.few.insert(self.key.clone(), all);
        } else {
            let more = match &mut self.more {
                Some(more) => more,
                None => self.more.insert(Spill::new()?),
            };
            more.put(0, &self.key, &[all])?;
        }
        Ok(())
    }

    /// Spells a key so that keys are the same text only if they are the same value.
    fn spell(&mut self, stream: usize, key: Value<'_>) {
        self.key.clear();
        self.key.extend_from_slice(&stream.to_le_bytes());
        let (tag, bytes): (u8, &[u8]) = match &key {
            Value::Null => (b'n', &[]),
            Value::Int(v) => (b'i', &v.to_le_bytes()),
            Value::Real(v) => (b'r', &v.to_bits().to_le_bytes()),
            Value::Bool(v) => (b'l', &[u8::from(*v)]),
            Value::Time(v) => (b't', &v.0.to_le_bytes()),
            Value::Uuid(v) => (b'u', v),
            Value::Text(v) => (b's', v),
            Value::Blob(v) => (b'b', v),
        };
        self.key.push(tag);
        self.key.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_add_up_in_memory_and_beyond() {
        let mut seen = Seen::default();
        let count = IN_MEMORY as i64 + 1000;
        for n in 0..count {
            seen.mark(0, Value::Int(n), 1).unwrap();
        }
        for n in [0, count - 1] {
            seen.mark(0, Value::Int(n), 4).unwrap();
            assert_eq!(seen.marks(0, Value::Int(n)).unwrap(), 5);
        }
        assert_eq!(seen.marks(0, Value::Int(count)).unwrap(), 0);
        assert_eq!(seen.marks(1, Value::Int(0)).unwrap(), 0);
        assert_eq!(seen.marks(0, Value::Text(b"0")).unwrap(), 0);
    }
}
