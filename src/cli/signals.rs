//! Signals: each asks everyone to stop, and the second one is not waited for.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::bar;
use crate::cancel::{Cancel, cancelled};
use crate::error::{Code, Result};
use crate::temporary;

/// The signals that ask everyone to stop, from now on: Ctrl-C, a plain kill and a terminal that closes.
pub(super) struct Signals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hangup: Option<Signal>,
}

impl Signals {
    /// Starts to listen, in a runtime.
    pub(super) fn listen() -> Signals {
        // nohup has said that the work goes on
        let hangup = (!is_ignored(SignalKind::hangup())).then(SignalKind::hangup);
        let on = |kind| signal(kind).ok();
        Signals {
            interrupt: on(SignalKind::interrupt()),
            terminate: on(SignalKind::terminate()),
            hangup: hangup.and_then(on),
        }
    }
}

/// Stops everyone at a signal; after a second one only what is private is removed.
pub(super) async fn stop_on_signal(mut signals: Signals, cancel: Cancel) {
    loop {
        tokio::select! {
            () = received(signals.interrupt.as_mut()) => {}
            () = received(signals.terminate.as_mut()) => {}
            () = received(signals.hangup.as_mut()) => {}
        }
        if cancel.is_set() {
            temporary::remove_all();
            bar::clear();
            std::process::exit(i32::from(Code::Cancelled.exit()));
        }
        cancel.stop();
    }
}

/// A result, or that of a signal which explains it.
///
/// Ctrl-C stops all commands of a pipe, and this one may see that its neighbour has gone before it sees its own signal.
pub(super) async fn or_interrupted<T>(result: Result<T>, cancel: &Cancel) -> Result<T> {
    const GONE: [Code; 3] = [Code::NotAnArchive, Code::ArchiveTruncated, Code::BrokenPipe];
    match result {
        Err(error) if GONE.contains(&error.code()) => {
            let waited = tokio::time::timeout(Duration::from_millis(100), cancel.stopped()).await;
            Err(waited.map_or(error, |()| cancelled()))
        }
        result => result,
    }
}

/// Waits for a signal; for ever if nobody listens for it.
async fn received(signal: Option<&mut Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether whoever started the process had it ignore a signal, as far as the system tells.
fn is_ignored(kind: SignalKind) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (kind.as_raw_value() - 1) & 1 == 1)
}
