//! The one error of this crate: what kind it is, where in the archive, what was found, and the cause beneath it.

use std::fmt;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The input holds no byte.
    Empty,
    /// The bytes are not an archive of this format.
    NotAnArchive,
    /// A checksum, the chain, a limit or a rule of the format is violated.
    Damaged,
    /// A zstd frame does not come from a writer of archives: another program compressed it.
    Recompressed,
    /// The archive ends before its manifest.
    Truncated,
    /// Something follows the archive in the same input, for example a second archive.
    TrailingData,
    /// A version or a feature that this version of the crate does not know.
    Unsupported,
    /// What was to be written is over a limit of the format, or against one of its rules.
    Unwritable,
    /// The input could not be read.
    Read,
    /// The output could not be written.
    Write,
    /// A bug, or the system refused a thread or memory.
    Internal,
}

/// An error of reading or writing an archive.
///
/// Its text never holds a payload: keys, names and numbers only.
#[derive(Debug)]
pub struct ArchiveError {
    kind: ErrorKind,
    at: Option<String>,
    message: String,
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, ArchiveError>;

impl ArchiveError {
    /// An error of `kind` with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> ArchiveError {
        ArchiveError { kind, at: None, message: message.into(), cause: None }
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn because(
        mut self,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> ArchiveError {
        self.cause = Some(cause.into());
        self
    }

    /// The same error with `place` in front of where it happened.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> ArchiveError {
        self.at = Some(match self.at {
            Some(inner) => format!("{place}: {inner}"),
            None => place.to_string(),
        });
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where in the archive, for example `chunk 7`, if it is known.
    pub fn place(&self) -> Option<&str> {
        self.at.as_deref()
    }

    /// The parts for another error type: kind, message with its place, and cause.
    pub fn into_parts(
        self,
    ) -> (ErrorKind, String, Option<Box<dyn std::error::Error + Send + Sync>>) {
        let message = self.to_string();
        (self.kind, message, self.cause)
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_named_from_the_outside_in() {
        let error = ArchiveError::new(ErrorKind::Damaged, "no checksum").at("line 3").at("chunk 7");
        assert_eq!(error.to_string(), "chunk 7: line 3: no checksum");
        assert_eq!(error.place(), Some("chunk 7: line 3"));
    }
}
