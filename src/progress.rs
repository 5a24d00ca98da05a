//! How far a command has come: numbers only, for any display.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a command is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Rows are read, and nothing is written to a database.
    Reading,
    /// Rows go into the target.
    Loading,
    /// References are checked, and what was loaded is read back.
    Verifying,
    /// The indexes of the target are built.
    Indexes,
    /// Everything becomes visible.
    Committing,
}

impl Phase {
    const ALL: [Phase; 5] =
        [Phase::Reading, Phase::Loading, Phase::Verifying, Phase::Indexes, Phase::Committing];

    /// The phase in words.
    pub fn word(self) -> &'static str {
        match self {
            Phase::Reading => "reading",
            Phase::Loading => "loading",
            Phase::Verifying => "verifying",
            Phase::Indexes => "building indexes",
            Phase::Committing => "committing",
        }
    }
}

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
    /// The phase, as its number.
    pub phase: Arc<AtomicU8>,
}

impl Progress {
    /// Adds rows.
    pub fn add_rows(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// Enters a phase.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// The phase that the work is in.
    pub fn phase(&self) -> Phase {
        let phase = self.phase.load(Ordering::Relaxed);
        Phase::ALL.get(usize::from(phase)).copied().unwrap_or(Phase::Reading)
    }

    /// How far the work has come, from 0 to 1, if anything is known of its size; once all rows are loaded,
    /// nothing is.
    pub fn fraction(&self) -> Option<f64> {
        if !matches!(self.phase(), Phase::Reading | Phase::Loading) {
            return None;
        }
        let part = |done: &AtomicU64, all: &AtomicU64| {
            let all = all.load(Ordering::Relaxed);
            (all > 0).then(|| (done.load(Ordering::Relaxed) as f64 / all as f64).min(1.0))
        };
        part(&self.bytes, &self.expected_bytes).or_else(|| part(&self.rows, &self.expected_rows))
    }
}
