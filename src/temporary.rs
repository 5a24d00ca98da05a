//! Files that exist only while the program works: where they are, what if there is no room for
//! them, and that none of them stays when a signal ends the process at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Code, Error};
use chronicle_archive::show_path;

/// The paths that [`remove_all`] removes.
static REGISTERED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A path that is removed if the process ends early, for as long as the value lives.
#[derive(Debug)]
pub struct Registered(PathBuf);

impl Registered {
    /// Registers a file or folder that its owner removes in any other case.
    pub fn new(path: &Path) -> Registered {
        // what is removed must not depend on the working directory
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        registered().insert(path.clone());
        Registered(path)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        registered().remove(&self.0);
    }
}

fn registered() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    // the set is whole after every step, whatever its user did
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes everything that is registered: for a process that ends without unwinding.
pub fn remove_all() {
    for path in registered().iter() {
        let _ = match path.is_dir() {
            true => std::fs::remove_dir_all(path),
            false => std::fs::remove_file(path),
        };
    }
}

/// The folder of temporary files: `TMPDIR`, or what the system has for it.
pub fn folder() -> PathBuf {
    std::env::temp_dir()
}

/// The folder in which SQLite makes its own temporary files
/// (<https://www.sqlite.org/tempfiles.html>, 5).
pub fn sqlite_folder() -> PathBuf {
    let named = ["SQLITE_TMPDIR", "TMPDIR"].into_iter().filter_map(std::env::var_os);
    let known = ["/var/tmp", "/usr/tmp", "/tmp"].map(PathBuf::from);
    named.map(PathBuf::from).chain(known).find(|path| path.is_dir()).unwrap_or_else(|| ".".into())
}

/// The bytes that are free in a folder for whoever is not root, if the system says so.
pub fn free_bytes(folder: &Path) -> Option<u64> {
    let system = rustix::fs::statvfs(folder).ok()?;
    system.f_bavail.checked_mul(system.f_frsize)
}

/// The error of a temporary file that does not fit into its folder; the bytes that it needs, if
/// they are known.
pub fn no_room(folder: &Path, needed: Option<u64>) -> Error {
    let shown = show_path(folder.display());
    let room = needed.map_or_else(String::new, |bytes| format!(" of {}", mebibytes(bytes)));
    let free = free_bytes(folder);
    let free = free.map_or_else(String::new, |bytes| format!(", {} are free", mebibytes(bytes)));
    let size = needed.map_or_else(|| "enough room".to_owned(), mebibytes);
    Error::new(Code::Output, format!("no room for a temporary file{room} in {shown}{free}"))
        .hint(format!("free space there, or name a folder that has {size}: TMPDIR=FOLDER"))
}

/// A size for people, never rounded down to nothing.
fn mebibytes(bytes: u64) -> String {
    match bytes {
        0..=9_999_999 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_registered_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let paths = ["kept", "gone", "gone-folder"].map(|name| folder.path().join(name));
        std::fs::write(&paths[0], "").unwrap();
        std::fs::write(&paths[1], "").unwrap();
        std::fs::create_dir(&paths[2]).unwrap();
        std::fs::write(paths[2].join("file"), "").unwrap();
        drop(Registered::new(&paths[0]));
        let _held = [Registered::new(&paths[1]), Registered::new(&paths[2])];
        remove_all();
        assert_eq!(paths.map(|path| path.exists()), [true, false, false]);
    }
}
