//! Stopping early: one flag that everything which takes long looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::error::{Code, Error, Result};

/// A request to stop, shared by all threads and tasks of one command.
#[derive(Debug, Clone, Default)]
pub struct Cancel {
    state: Arc<(AtomicBool, Notify)>,
}

impl Cancel {
    /// Asks everyone to stop.
    pub fn stop(&self) {
        self.state.0.store(true, Ordering::SeqCst);
        self.state.1.notify_waiters();
    }

    /// Whether a stop was asked for.
    pub fn is_set(&self) -> bool {
        self.state.0.load(Ordering::SeqCst)
    }

    /// An error if a stop was asked for.
    pub fn check(&self) -> Result<()> {
        if self.is_set() { Err(cancelled()) } else { Ok(()) }
    }

    /// Waits until a stop is asked for.
    pub async fn stopped(&self) {
        let stopped = self.state.1.notified();
        tokio::pin!(stopped);
        // listen first, then look: else a stop between the two would be missed
        stopped.as_mut().enable();
        if !self.is_set() {
            stopped.await;
        }
    }

    /// Waits for `work`, or returns an error as soon as a stop is asked for.
    pub async fn or<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.check()?;
        tokio::select! {
            result = work => result,
            () = self.stopped() => Err(cancelled()),
        }
    }
}

/// The error of everything that was stopped.
pub fn cancelled() -> Error {
    Error::new(Code::Cancelled, "interrupted; nothing was changed")
}
