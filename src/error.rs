//! The one error of the program: a stable code, a message for people, the next step, and the cause.

use std::fmt;

use chronicle_archive::{ArchiveError, ErrorKind};

/// What went wrong, as a stable word and an exit code that scripts can rely on.
///
/// The words never change their meaning between versions; new ones may be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// The command line asks for something that cannot be.
    Usage,
    /// The bytes are not an archive of this format.
    NotAnArchive,
    /// A checksum, the chain, a limit or a rule of the format is violated.
    ArchiveDamaged,
    /// The archive ends before its manifest.
    ArchiveTruncated,
    /// A version or feature that this program does not know.
    ArchiveUnsupported,
    /// The archive is whole, but not the one that was expected.
    DigestMismatch,
    /// The data are whole; only the seek table is missing or wrong.
    IndexDamaged,
    /// No such database or file, or none could be found.
    NotFound,
    /// The server or file cannot be opened.
    Connect,
    /// Reading the source failed.
    Source,
    /// Writing the target failed.
    Target,
    /// The tables are of no known layout.
    Layout,
    /// The archive cannot be brought into this target's columns.
    Plan,
    /// A value that the target cannot hold.
    Value,
    /// A row exists already with other content.
    Conflict,
    /// A row refers to a row that is neither in the archive nor in the target.
    Orphan,
    /// The target does not hold what was loaded into it.
    Readback,
    /// Everything was done but for rows that were set aside.
    Rejected,
    /// The archive or a result could not be written.
    Output,
    /// Two things that were compared hold different rows: a result, not a failure.
    Different,
    /// Stopped by a signal.
    Cancelled,
    /// The reader of our output has gone.
    BrokenPipe,
    /// A bug of this program.
    Internal,
}

impl Code {
    /// Every code, in the order of the documentation.
    pub const ALL: [Code; 23] = [
        Code::Usage,
        Code::NotAnArchive,
        Code::ArchiveDamaged,
        Code::ArchiveTruncated,
        Code::ArchiveUnsupported,
        Code::DigestMismatch,
        Code::IndexDamaged,
        Code::NotFound,
        Code::Connect,
        Code::Source,
        Code::Target,
        Code::Layout,
        Code::Plan,
        Code::Value,
        Code::Conflict,
        Code::Orphan,
        Code::Readback,
        Code::Rejected,
        Code::Output,
        Code::Different,
        Code::Cancelled,
        Code::BrokenPipe,
        Code::Internal,
    ];

    /// The stable word, as `--json` prints it.
    pub fn word(self) -> &'static str {
        match self {
            Code::Usage => "usage",
            Code::NotAnArchive => "archive.not_an_archive",
            Code::ArchiveDamaged => "archive.damaged",
            Code::ArchiveTruncated => "archive.truncated",
            Code::ArchiveUnsupported => "archive.unsupported",
            Code::DigestMismatch => "archive.digest",
            Code::IndexDamaged => "archive.index",
            Code::NotFound => "location.not_found",
            Code::Connect => "location.connect",
            Code::Source => "source.failed",
            Code::Target => "target.failed",
            Code::Layout => "layout.unknown",
            Code::Plan => "plan.refused",
            Code::Value => "value.refused",
            Code::Conflict => "row.conflict",
            Code::Orphan => "row.orphan",
            Code::Readback => "target.readback",
            Code::Rejected => "row.rejected",
            Code::Output => "output.failed",
            Code::Different => "diff.different",
            Code::Cancelled => "cancelled",
            Code::BrokenPipe => "output.closed",
            Code::Internal => "internal",
        }
    }

    /// The exit code of the process.
    pub fn exit(self) -> u8 {
        match self {
            Code::Internal => 1,
            Code::Usage => 2,
            Code::NotAnArchive | Code::ArchiveDamaged | Code::ArchiveUnsupported => 3,
            Code::ArchiveTruncated => 4,
            Code::DigestMismatch => 5,
            Code::IndexDamaged => 6,
            Code::NotFound | Code::Connect => 7,
            Code::Source | Code::Target | Code::Readback => 8,
            Code::Layout | Code::Plan => 9,
            Code::Value => 10,
            Code::Conflict => 11,
            Code::Orphan => 12,
            Code::Output => 13,
            Code::Rejected => 14,
            Code::Different => 15,
            Code::Cancelled => 130,
            Code::BrokenPipe => 141,
        }
    }

    /// Every exit code once, success included, in their order.
    pub fn exits() -> Vec<u8> {
        let exits = Code::ALL.into_iter().map(Code::exit).chain([0]);
        exits.collect::<std::collections::BTreeSet<u8>>().into_iter().collect()
    }

    /// What an exit code means, for `--help` and the manual.
    pub fn meaning(exit: u8) -> &'static str {
        match exit {
            0 => "done",
            1 => "a bug of this program",
            2 => "the command line cannot be understood",
            3 => "not an archive, a damaged one, or one of a newer version",
            4 => "the archive ends before its manifest",
            5 => "the archive is complete but not the expected one",
            6 => "the archive is complete; only its seek table is damaged or missing",
            7 => "a database or file was not found or could not be opened",
            8 => "reading the source or writing the target failed",
            9 => "the tables are of no known layout, or the archive does not fit them",
            10 => "a value that the target cannot hold",
            11 => "a row exists already with other content",
            12 => "a row refers to a row that does not exist",
            13 => "the output could not be written",
            14 => "done, but some rows were left out and set aside",
            15 => "what was compared is not equal, or a file that was checked has problems",
            130 => "stopped by a signal, nothing changed but for groups that were committed",
            141 => "the reader of our output has gone",
            _ => "unknown",
        }
    }
}

/// An error with its code, its message, a hint, and the cause beneath it.
///
/// The message names the place, what was found and what was expected; the hint says what to
/// type next. Neither ever holds a secret or a payload.
#[derive(Debug, thiserror::Error)]
pub struct Error {
    code: Code,
    message: String,
    details: Vec<String>,
    hint: Option<String>,
    #[source]
    cause: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of everything that can fail.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `code` with a message.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error { code, message: message.into(), details: Vec::new(), hint: None, cause: None }
    }

    /// The same error with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.hint = Some(hint.into());
        self
    }

    /// The same error with lines below its message: what it is about, one by one.
    #[must_use]
    pub fn with_details(mut self, details: Vec<String>) -> Error {
        self.details = details;
        self
    }

    /// The same error with what caused it; the cause is printed behind the message.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.cause = Some(cause.into());
        self
    }

    /// The same error with `place` and a colon in front of its message.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Error {
        self.message = format!("{place}: {}", self.message);
        self
    }

    /// The same error with `subject` in front of its message, unless the message names it already.
    #[must_use]
    pub fn about(self, subject: impl fmt::Display) -> Error {
        let subject = chronicle_archive::show_path(subject);
        if self.message.contains(&subject) { self } else { self.at(subject) }
    }

    /// The same error with another subject at the start of its message; the error itself if it has
    /// not this one.
    ///
    /// # Errors
    /// The error, unchanged.
    pub fn renamed(mut self, from: &str, to: &str) -> std::result::Result<Error, Error> {
        match self.message.strip_prefix(from) {
            Some(rest) => {
                self.message = format!("{to}{rest}");
                Ok(self)
            }
            None => Err(self),
        }
    }

    /// The same error where groups of a batch are in the target all the same: how many rows of the archive, and the batch.
    /// The hint is what is true then: which command goes on, and what has to be done before.
    #[must_use]
    pub fn leaving_half(mut self, rows: &str, batch: impl fmt::Display) -> Error {
        self.message = self.message.replace("; nothing was changed", "");
        let hint = self.hint.take().map(|hint| {
            hint.replace("nothing was changed; ", "").replace("; nothing was changed", "")
        });
        // a new export is another archive, and no way out here
        let hint = hint.filter(|hint| !FETCH.contains(&hint.as_str()));
        let back = format!(
            "chronicle-dump rollback {batch} --from DB takes back the {rows} of the archive that are in the target"
        );
        let next = match self.code {
            Code::ArchiveDamaged | Code::ArchiveTruncated | Code::NotAnArchive => format!(
                "fetch the same archive again, then the same command with --resume goes on; to begin with another one, \
                 as a new export is, {back}"
            ),
            Code::DigestMismatch => format!("to begin with another one, {back}"),
            Code::Usage | Code::Layout | Code::Plan => {
                other_options(&back, "change what does not fit")
            }
            Code::Value => other_options(&back, "change what refuses the value"),
            Code::Conflict => other_options(&back, "edit the rows"),
            Code::Orphan => other_options(&back, "add the missing rows"),
            _ => format!("the same command with --resume goes on; {back}"),
        };
        self.hint = Some(hint.into_iter().chain([next]).collect::<Vec<_>>().join("; "));
        self
    }

    /// Whether it is an error of writing for want of room.
    pub fn is_full(&self) -> bool {
        let cause = self.cause.as_ref().and_then(|cause| cause.downcast_ref::<std::io::Error>());
        cause.is_some_and(is_full)
    }

    /// An error of writing: a closed pipe has a code of its own.
    pub fn writing(what: impl fmt::Display, cause: std::io::Error) -> Error {
        let what = chronicle_archive::show_path(what);
        match cause.kind() {
            std::io::ErrorKind::BrokenPipe => {
                Error::new(Code::BrokenPipe, format!("{what}: the reader closed the pipe"))
            }
            _ if is_full(&cause) => {
                Error::new(Code::Output, format!("{what}: the disk is full")).because(cause)
            }
            _ => Error::new(Code::Output, format!("{what}: cannot write")).because(cause),
        }
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// What to do next, if anything is known to help.
    pub fn next_step(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The lines below the message.
    pub fn details(&self) -> &[String] {
        &self.details
    }

    /// The message with every cause behind it, each once, and the lines below it.
    pub fn full(&self) -> String {
        let lines = std::iter::once(self.line()).chain(self.details.iter().cloned());
        lines.collect::<Vec<_>>().join("\n  ")
    }

    /// The message with every cause behind it, each said once.
    pub fn line(&self) -> String {
        let mut text = self.message.clone();
        let mut cause = std::error::Error::source(self);
        while let Some(c) = cause {
            let message = c.to_string();
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            cause = c.source();
        }
        text
    }
}

/// What to do about rows that another run with the same options would stop at again.
fn other_options(back: &str, mend: &str) -> String {
    format!(
        "--resume takes the options that it began with and no others: to begin with others, {back}; to go on with the \
         same ones, {mend} in the target first"
    )
}

/// Whether writing failed for want of room: the disk, a quota or the largest allowed file.
pub fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

impl From<ArchiveError> for Error {
    /// Adds the exit code and the next step to an error of the archive.
    fn from(error: ArchiveError) -> Error {
        let (kind, message, cause) = error.into_parts();
        let cause = match cause.map(|cause| cause.downcast::<std::io::Error>()) {
            Some(Ok(io)) => match io.downcast::<Error>() {
                // an input passes on what its own sender has failed for
                Ok(own) => return own,
                Err(io) if kind == ErrorKind::Write => return Error::writing("the archive", io),
                Err(io) => Some(io.into()),
            },
            Some(Err(other)) => Some(other),
            None => None,
        };
        let error = Error { cause, ..Error::new(code_of(kind), message) };
        match hint_of(kind) {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }
}

fn code_of(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Empty | ErrorKind::NotAnArchive => Code::NotAnArchive,
        ErrorKind::Damaged | ErrorKind::Recompressed | ErrorKind::TrailingData => {
            Code::ArchiveDamaged
        }
        ErrorKind::Truncated => Code::ArchiveTruncated,
        ErrorKind::Unsupported => Code::ArchiveUnsupported,
        ErrorKind::Unwritable | ErrorKind::Read => Code::Source,
        ErrorKind::Write => Code::Output,
        _ => Code::Internal,
    }
}

/// What to do with a file that is not as it was written.
const FETCH: [&str; 2] = [
    "the archive is not what its export wrote; fetch it again or use another copy",
    "it was cut in transit or is still being written; fetch or export it again",
];

fn hint_of(kind: ErrorKind) -> Option<&'static str> {
    Some(match kind {
        ErrorKind::Empty => "if it comes through a pipe, see the error of the sending command",
        ErrorKind::NotAnArchive => {
            "give the file that `chronicle-dump export` wrote; a .db file is exported first"
        }
        ErrorKind::Damaged => FETCH[0],
        ErrorKind::Recompressed => {
            "if another program compressed the archive again, decompress it on the way: \
             zstd -dc FILE | chronicle-dump verify -"
        }
        ErrorKind::TrailingData => {
            "two archives in one file are not one archive: import them one after the other"
        }
        ErrorKind::Truncated => FETCH[1],
        ErrorKind::Unsupported => "install a newer chronicle-dump",
        _ => return None,
    })
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_word_and_a_documented_exit_code() {
        let words: std::collections::HashSet<_> = Code::ALL.iter().map(|c| c.word()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_ne!(Code::meaning(code.exit()), "unknown", "{code:?}");
        }
    }

    #[test]
    fn a_cause_is_printed_once() {
        let inner = std::io::Error::other("disk on fire");
        let error = Error::new(Code::Output, "cannot write").because(inner);
        assert_eq!(error.full(), "cannot write: disk on fire");
    }

    #[test]
    fn what_is_said_of_a_half_batch_can_be_done() {
        let of = |code: Code, hint: &str| {
            let error = Error::new(code, "it failed; nothing was changed").hint(hint);
            let error = error.leaving_half("7 rows", "ID");
            assert_eq!(error.full(), "it failed");
            error.hint.unwrap_or_default()
        };
        let goes_on = "the same command with --resume goes on";
        for code in Code::ALL {
            let hint = of(code, "do this");
            assert!(hint.starts_with("do this; "), "{hint}");
            let back = "chronicle-dump rollback ID --from DB takes back the 7 rows of the archive";
            assert!(hint.contains(back), "{hint}");
            // with the same options it would fail again, and other rows are refused
            let fails_again = matches!(code.exit(), 2 | 9 | 10 | 11 | 12);
            assert_eq!(hint.contains("to begin with others, "), fails_again, "{code:?}: {hint}");
            assert_eq!(hint.contains(goes_on), !fails_again && code.exit() != 5, "{hint}");
        }
        for (code, fetch) in [(Code::ArchiveDamaged, FETCH[0]), (Code::ArchiveTruncated, FETCH[1])]
        {
            let hint = of(code, fetch);
            assert!(hint.starts_with("fetch the same archive again, then "), "{hint}");
        }
    }

    #[test]
    fn a_closed_pipe_is_not_an_error_of_the_disk() {
        let pipe = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        assert_eq!(Error::writing("stdout", pipe).code(), Code::BrokenPipe);
    }
}
