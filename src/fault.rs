//! Faults on purpose: the named points of a batch at which a test lets a development build fail. A release has none.

/// The points, in the order of a batch: `tests/suite/faults` proves that each one is reached, and what is true after it.
pub const POINTS: [&str; 33] = [
    "history: before the start",
    "history: in the start",
    "history: after the start",
    "load: before rows are cleared",
    "load: after rows are cleared",
    "load: before columns are added",
    "load: after columns are added",
    "load: before rows",
    "load: after rows",
    "load: between archives",
    "groups: between two",
    "load: before other rows go",
    "load: after other rows have gone",
    "load: before references are settled",
    "load: after references are settled",
    "load: before rows are read back",
    "load: after rows are read back",
    "rollback: before rows are found",
    "rollback: after rows are found",
    "rollback: before rows are deleted",
    "rollback: after rows are deleted",
    "rollback: before a table is restored",
    "rollback: after a table is restored",
    "rollback: before objects are undone",
    "rollback: after objects are undone",
    "receipts: before they are collected",
    "receipts: before they are stored",
    "receipts: before they are read back",
    "receipts: after they are read back",
    "history: before the end",
    "history: after the end",
    "commit: before",
    "commit: after",
];

/// Lets the batch go on, as every release does.
///
/// # Errors
/// None.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn point(_: &str) -> crate::error::Result<()> {
    Ok(())
}

#[cfg(debug_assertions)]
pub use on_purpose::point;

#[cfg(debug_assertions)]
mod on_purpose {
    use std::io::Write;
    use std::path::Path;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::POINTS;
    use crate::error::{Code, Error, Result};

    /// A file that gets the name of every point that is reached.
    const TRACE: &str = "CHRONICLE_DUMP_FAULT_TRACE";
    /// What happens where: `POINT=KIND`, and `POINT=KIND@N` at the Nth time. `error` and `full` give errors, `abort` ends
    /// the process, and `pause:FILE` makes a file and waits until somebody has removed it.
    const FAULT: &str = "CHRONICLE_DUMP_FAULT";

    static ASKED: LazyLock<(Option<String>, Option<String>)> =
        LazyLock::new(|| (std::env::var(TRACE).ok(), std::env::var(FAULT).ok()));
    static TIMES: AtomicU32 = AtomicU32::new(0);

    /// Fails at a point if a test asks for it.
    ///
    /// # Errors
    /// The one that the test wants.
    pub fn point(name: &str) -> Result<()> {
        let (trace, fault) = &*ASKED;
        if let Some(file) = trace {
            note(Path::new(file), name)?;
        }
        let Some((place, kind)) = fault.as_ref().and_then(|fault| fault.split_once('=')) else {
            return Ok(());
        };
        let (kind, wanted) = match kind.rsplit_once('@') {
            Some((kind, number)) => (kind, number.parse().unwrap_or(1)),
            None => (kind, 1),
        };
        match place == name && TIMES.fetch_add(1, Ordering::Relaxed) + 1 == wanted {
            true => happen(name, kind),
            false => Ok(()),
        }
    }

    fn note(file: &Path, name: &str) -> Result<()> {
        if !POINTS.contains(&name) {
            return Err(Error::new(Code::Internal, format!("{name} is in no list of points")));
        }
        let mut line = name.to_owned();
        line.push('\n');
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(file);
        opened.and_then(|mut file| file.write_all(line.as_bytes())).map_err(broken)
    }

    fn happen(name: &str, kind: &str) -> Result<()> {
        let error = || Error::new(Code::Target, format!("a fault on purpose ({name})"));
        match kind.split_once(':') {
            None if kind == "error" => Err(error()),
            None if kind == "full" => {
                Err(error().because(std::io::Error::from(std::io::ErrorKind::StorageFull)))
            }
            None if kind == "abort" => std::process::abort(),
            Some(("pause", file)) => {
                std::fs::write(file, name).map_err(broken)?;
                while Path::new(file).exists() {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Ok(())
            }
            _ => Err(Error::new(Code::Internal, format!("{kind} is no kind of fault"))),
        }
    }

    fn broken(e: std::io::Error) -> Error {
        Error::new(Code::Internal, "a fault on purpose cannot be played").because(e)
    }
}
