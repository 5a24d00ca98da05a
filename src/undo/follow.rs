//! A file that is read while it is written: its reader waits for what is not there yet.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

/// How much is written, and whether that is all.
#[derive(Debug, Default)]
struct State {
    written: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
    }
}

/// The writing end. If it is dropped, the file ends where it is.
#[derive(Debug)]
pub(super) struct Followed {
    file: File,
    shared: Arc<Shared>,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Follower {
    file: File,
    at: u64,
    shared: Arc<Shared>,
}

/// The two ends of an empty file.
///
/// # Errors
/// If the system has no handle left for the second one.
pub(super) fn follow(file: File) -> io::Result<(Followed, Follower)> {
    let shared = Arc::new(Shared::default());
    let follower = Follower { file: file.try_clone()?, at: 0, shared: Arc::clone(&shared) };
    Ok((Followed { file, shared }, follower))
}

impl Followed {
    /// Ends the file; the file itself.
    ///
    /// # Errors
    /// As [`follow`].
    pub(super) fn end(self) -> io::Result<File> {
        self.file.try_clone()
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        self.shared.change(|state| state.ended = true);
    }
}

impl Write for Followed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.shared.change(|state| state.written += written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Read for Follower {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = |state: &mut State| state.written == self.at && !state.ended;
        let state = self.shared.changed.wait_while(state, waits);
        let there = state.unwrap_or_else(PoisonError::into_inner).written - self.at;
        let most = into.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut into[..most], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_gets_all_that_is_written_behind_it() {
        let (mut writer, mut reader) = follow(tempfile::tempfile().unwrap()).unwrap();
        let all = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).map(|_| all)
        });
        let mut expected = Vec::new();
        for n in 0..200_u8 {
            let piece = vec![n; usize::from(n) * 7];
            writer.write_all(&piece).unwrap();
            expected.extend(piece);
            if n % 50 == 0 {
                std::thread::yield_now();
            }
        }
        drop(writer.end().unwrap());
        assert_eq!(all.join().unwrap().unwrap(), expected);
    }

    #[test]
    fn a_writer_that_gives_up_ends_the_file() {
        let (mut writer, mut reader) = follow(tempfile::tempfile().unwrap()).unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"half");
    }
}
