//! How far a command has come: numbers only, for any display.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters that the work moves and a display reads.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Rows handled so far.
    pub rows: Arc<AtomicU64>,
    /// Rows expected in all, 0 if unknown.
    pub expected_rows: Arc<AtomicU64>,
    /// Bytes of the archive's file written or read so far.
    pub bytes: Arc<AtomicU64>,
    /// Bytes of the archive's file in all, 0 if unknown.
    pub expected_bytes: Arc<AtomicU64>,
}

impl Progress {
    /// Adds rows.
    pub fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// How far the work has come, from 0 to 1, if anything is known of its size.
    pub fn fraction(&self) -> Option<f64> {
        let part = |done: &AtomicU64, all: &AtomicU64| {
            let all = all.load(Ordering::Relaxed);
            (all > 0).then(|| (done.load(Ordering::Relaxed) as f64 / all as f64).min(1.0))
        };
        part(&self.bytes, &self.expected_bytes).or_else(|| part(&self.rows, &self.expected_rows))
    }
}
