//! The progress of long work: one line that is drawn again and again on a terminal, else a line now and then.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanDuration};

use crate::progress::Progress;
use chronicle_archive::show_count;

/// How often progress is printed where there is no terminal to draw on.
const PRINTED_EVERY: Duration = Duration::from_secs(10);
/// How often it is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(200);
/// Work that takes less is not worth a line.
const DRAWN_AFTER: Duration = Duration::from_millis(400);
/// The columns of a terminal that does not say how many it has.
const COLUMNS: usize = 80;
/// The cells of a bar: fewer say nothing, more say no more.
const CELLS: std::ops::RangeInclusive<usize> = 8..=30;
/// Empties the line that the cursor is in.
pub(super) const CLEARED: &str = "\r\x1b[K";

/// Whether a line is drawn now.
static DRAWN: AtomicBool = AtomicBool::new(false);

/// Shows progress until it is dropped.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Shows nothing.
    pub(super) fn nothing() -> Watch {
        Watch { stop: Arc::default(), thread: None }
    }

    /// Shows the progress of a command. Of two commands in a pipe only the one that reads draws a line.
    pub(super) fn start(command: &'static str, in_pipe: bool, progress: &Progress) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let (seen, ended) = (progress.clone(), Arc::clone(&stop));
        let terminal = std::io::stderr().is_terminal();
        let draws = terminal && !(in_pipe && command == "export");
        let thread = std::thread::Builder::new().name("progress".into()).spawn(move || {
            match draws {
                true => draw(in_pipe.then_some(command), &seen, &ended),
                // where the other command draws, this line takes the place of its own
                false => print(command, if terminal { CLEARED } else { "" }, &seen, &ended),
            }
        });
        Watch { stop, thread: thread.ok() }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Whether a line is drawn now.
pub(super) fn is_drawn() -> bool {
    DRAWN.load(Ordering::Relaxed)
}

/// Removes the line that is drawn, if there is one.
pub(super) fn clear() {
    if DRAWN.swap(false, Ordering::Relaxed) {
        let _ = write!(std::io::stderr().lock(), "{CLEARED}");
    }
}

fn draw(command: Option<&str>, progress: &Progress, ended: &AtomicBool) {
    let started = Instant::now();
    std::thread::park_timeout(DRAWN_AFTER);
    while !ended.load(Ordering::Relaxed) {
        // the last column stays free: some terminals break the line there
        let text = line(command, &Seen::of(progress, started), columns().saturating_sub(1));
        let mut stderr = std::io::stderr().lock();
        DRAWN.store(true, Ordering::Relaxed);
        let _ = write!(stderr, "\r{text}\x1b[K").and_then(|()| stderr.flush());
        drop(stderr);
        std::thread::park_timeout(DRAWN_EVERY);
    }
    clear();
}

fn print(command: &str, before: &str, progress: &Progress, ended: &AtomicBool) {
    let started = Instant::now();
    let mut printed = started;
    while !ended.load(Ordering::Relaxed) {
        std::thread::park_timeout(PRINTED_EVERY.saturating_sub(printed.elapsed()));
        if printed.elapsed() >= PRINTED_EVERY {
            printed = Instant::now();
            let parts = Seen::of(progress, started).parts().join(", ");
            let phase = progress.phase().word();
            let _ = writeln!(std::io::stderr().lock(), "{before}{command}: {phase}: {parts}");
        }
    }
}

/// The columns of the terminal that stderr is.
fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr());
    size.ok().map(|size| usize::from(size.ws_col)).filter(|n| *n > 0).unwrap_or(COLUMNS)
}

/// What is known of the work at one moment.
struct Seen {
    phase: &'static str,
    rows: u64,
    bytes: u64,
    done: Option<f64>,
    elapsed: Duration,
}

impl Seen {
    fn of(progress: &Progress, started: Instant) -> Seen {
        Seen {
            phase: progress.phase().word(),
            rows: progress.rows.load(Ordering::Relaxed),
            bytes: progress.bytes.load(Ordering::Relaxed),
            done: progress.fraction(),
            elapsed: started.elapsed(),
        }
    }

    /// What there is to say, the most important things first.
    fn parts(&self) -> Vec<String> {
        let seconds = self.elapsed.as_secs_f64().max(0.001);
        let mut parts = Vec::new();
        if let Some(done) = self.done {
            parts.push(format!("{:.0} %", done * 100.0));
        }
        parts.push(show_count(self.rows, "rows"));
        if let Some(done) = self.done.filter(|done| *done > 0.01 && *done < 1.0) {
            let left = Duration::from_secs_f64(seconds * (1.0 - done) / done);
            parts.push(format!("{} left", HumanDuration(left)));
        }
        parts.push(format!("{}/s", show_count((self.rows as f64 / seconds) as u64, "rows")));
        if self.bytes > 0 {
            parts.push(HumanBytes(self.bytes).to_string());
        }
        parts
    }
}

/// The line in at most `width` columns: as many parts as fit, and a bar in what is left.
fn line(command: Option<&str>, seen: &Seen, width: usize) -> String {
    let command = command.map_or_else(String::new, |name| format!("{name}: "));
    let head = format!("{command}{}", seen.phase);
    let mut tail = String::new();
    for part in seen.parts() {
        let between = if tail.is_empty() { "" } else { ", " };
        if head.len() + 1 + tail.len() + between.len() + part.len() > width {
            break;
        }
        tail.push_str(between);
        tail.push_str(&part);
    }
    let free = width.saturating_sub(head.len() + tail.len() + 4).min(*CELLS.end());
    let bar = match seen.done {
        Some(done) if free >= *CELLS.start() => {
            let full = (done * free as f64) as usize;
            format!(" [{}{}]", "#".repeat(full), "-".repeat(free - full))
        }
        _ => String::new(),
    };
    let mut text = format!("{head}{bar} {tail}");
    text.truncate(width);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(done: Option<f64>) -> Seen {
        let elapsed = Duration::from_secs(60);
        Seen { phase: "building indexes", rows: 1_234_567, bytes: 98_765_432, done, elapsed }
    }

    #[test]
    fn the_line_fits_every_terminal() {
        for width in 0..200 {
            for done in [None, Some(0.0), Some(0.5), Some(1.0)] {
                for command in [None, Some("import")] {
                    let text = line(command, &seen(done), width);
                    assert!(text.len() <= width, "{width}: {text:?}");
                }
            }
        }
    }

    #[test]
    fn a_narrow_line_has_the_phase_and_how_far_it_is() {
        let text = line(Some("import"), &seen(Some(0.5)), 39);
        assert_eq!(text, "import: building indexes 50 %");
    }

    #[test]
    fn a_wide_line_has_everything() {
        let text = line(None, &seen(Some(0.5)), 119);
        let expected = "building indexes [###############---------------] 50 %, 1,234,567 rows, \
                        60 seconds left, 20,576 rows/s, 94.19 MiB";
        assert_eq!(text, expected);
    }
}
