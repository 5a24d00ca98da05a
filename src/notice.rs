//! What people should know beside a result: its kind, which decides how it is printed, and its text.

use std::fmt;

/// How much a notice matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Something is lost, changed for good, or visible to others.
    Warning,
    /// Something to know.
    Note,
    /// Something to know that nobody has to act on: printed only with `-v`.
    Detail,
}

/// Declares the kinds: their weight, and words that every text of the kind has.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident: $weight:ident, $words:literal;)*) => {
        /// What a notice is about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum NoticeKind {
            $($(#[$doc])* $kind,)*
        }

        impl NoticeKind {
            /// Every kind.
            pub const ALL: &[NoticeKind] = &[$(NoticeKind::$kind,)*];

            /// How much it matters.
            pub fn weight(self) -> Weight {
                match self {
                    $(NoticeKind::$kind => Weight::$weight,)*
                }
            }

            /// Words that every text of the kind has.
            pub fn words(self) -> &'static str {
                match self {
                    $(NoticeKind::$kind => $words,)*
                }
            }
        }
    };
}

kinds! {
    // ---- the database that was named
    /// The database that nobody named and that was found.
    Found: Note, "using ";
    /// A password on the command line.
    VisiblePassword: Warning, "is visible to every user of this machine";
    /// One of two passwords was used.
    PasswordChosen: Note, "password from --password-file was used";
    /// A password with special characters that are not encoded.
    UnencodedPassword: Warning, "password in the URL is not encoded";
    /// A setting, a variable or a file that has no effect.
    Ignored: Note, "ignored";
    /// A setting of another client that has an equivalent.
    ReadAs: Note, "read as";
    /// A connection string within other text.
    Unwrapped: Note, "the connection string was taken out of the text around it";
    /// A connection to another machine that anybody on the way can read.
    Unencrypted: Warning, "is not encrypted";
    /// A server on another machine that has not proven to be the one that was meant.
    Unverified: Note, "its certificate was not checked";

    // ---- a source
    /// The file was copied first.
    TemporaryCopy: Detail, "reading from a temporary copy";
    /// A table that belongs to no stream.
    TableNotExported: Note, "is not exported";
    /// A column that the database computes.
    ComputedColumn: Detail, "computes it";
    /// A sidecar table that cannot be read.
    HiddenOriginals: Warning, "originals stored there are not restored";
    /// Rows that refer to rows which do not exist.
    Orphans: Note, "orphan";
    /// Orphans that a selection leaves out.
    OrphansLeftOut: Note, "left out: orphans";
    /// A table that a selection says nothing of.
    StreamLeftOut: Note, "is left out: its rows belong to no";
    /// The zone in which a selection reads times without one.
    AssumedZone: Note, "read in ";

    // ---- the files of an export
    /// An older archive that should be gone.
    NotRemoved: Warning, "could not be removed";
    /// An older archive that does not count.
    DamagedArchive: Warning, "is damaged; it was not removed";
    /// Files that are called like archives of the source.
    LeftAlone: Note, "left alone";

    // ---- an import or a check
    /// What was made of the target first.
    Saved: Note, "the target was saved in ";
    /// How a stream or a column is loaded.
    Plan: Note, "plan: ";
    /// Columns that the target gets.
    ColumnsAdded: Note, "new columns in ";
    /// Columns that the archive lacks.
    Defaults: Note, "the target's defaults";
    /// Columns that the target lacks and anyone can compute.
    Recomputed: Detail, "can be recomputed";
    /// Rows that were left out.
    RowsLeftOut: Warning, "left out";
    /// Values that were replaced for good.
    Adapted: Warning, "changed to the nearest value:";
    /// Values whose originals are stored.
    Preserved: Note, "changed to the nearest value, originals in the sidecar table";
    /// Values with another word of a vocabulary.
    Mapped: Note, " mapped:";
    /// Ids that became others.
    Remapped: Note, " remapped:";
    /// Integer ids of another database.
    Renumbered: Note, "the archive's numbers are those of another database";
    /// Values that the user has changed on their way.
    Amended: Note, " changed by --";
    /// Values that the archive lacks.
    Filled: Note, "filled in";
    /// Values that the target spells in its own way.
    Respelled: Note, " respelled:";
    /// Values without a column.
    Stored: Note, "stored in the sidecar table:";
    /// Values without a column.
    Folded: Note, "stored in the row's JSON:";
    /// Values without a column.
    Lost: Warning, " lost:";
    /// What is not shown.
    More: Note, "more notes";
    /// Triggers of the target.
    Triggers: Note, "not fire";
    /// Others who get every row that is loaded.
    Listeners: Warning, "also goes to who reads";
    /// What belongs to the tables of the source, and not to those of the target.
    TargetLacks: Note, "the target lacks";
    /// How much room a target takes up.
    Room: Detail, "takes up";
    /// Policies of the target that this role is not subject to.
    RowSecurity: Detail, "row level security does not apply";
    /// What a check cannot foresee.
    NotChecked: Note, "not checked: ";
    /// How Postgres compresses large values.
    Compression: Detail, "compressed with LZ4";
    /// New tables that others can use.
    OpenTables: Warning, "anyone with the project's anon key";
    /// Times that an old version of SQLite has shifted.
    ShiftedTimes: Note, "shifted twice by SQLite";
    /// Times that another zone fits better than the one they were read in.
    OtherZone: Warning, "do not fit --assume-tz";
    /// An import that should go on, and begins.
    Begun: Note, "this one begins";
    /// Groups that cannot be committed by themselves.
    OneTransaction: Note, "loaded in one transaction";
    /// Several connections that were asked for and could not load.
    OneConnection: Note, "loaded by one connection";
    /// Rows that others have changed since their group was committed.
    EditedMeanwhile: Warning, "since they were loaded";
    /// The id of the batch.
    Batch: Detail, "this is batch ";
    /// An archive without a usable seek table.
    SeekTable: Warning, "its seek table is";
    /// A table of the user that does not take the batches.
    NotMirrored: Note, "is not recorded in migration_history";
    /// What cannot be entered into our own tables, since this role may not create them.
    NotRecorded: Note, "not recorded: ";
    /// What is committed and could not be reported.
    Unreported: Warning, "the result could not be printed";
    /// Values that a plain reader does not see exactly.
    Nonportable: Note, "plain JSON cannot express";

    // ---- a rollback
    /// What can be undone and what not.
    Standing: Note, "since";

    // ---- reading and comparing
    /// Rows without a time that can be read.
    UnreadableTimes: Note, "without a readable time";
    /// An archive of a selection.
    PartOfDatabase: Note, "is a part of its database";
    /// A part of an archive was read.
    PartOnly: Note, "`chronicle-dump verify` checks the whole archive";
    /// A stream that only one side has.
    OneSidedStream: Note, "has no such stream";
    /// Columns that only one side has.
    OneSidedColumns: Note, "not compared";
    /// Times that were compared without their zone.
    LocalTimes: Note, "local times without a zone";
}

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// What it is about.
    pub kind: NoticeKind,
    /// The text, on one line.
    pub text: String,
}

impl Notice {
    /// A notice of a kind; the text has the words of its kind.
    pub fn new(kind: NoticeKind, text: impl Into<String>) -> Notice {
        let text = text.into();
        debug_assert!(text.contains(kind.words()), "{kind:?}: {text}");
        Notice { kind, text }
    }

    /// The same notice with `place` and a colon in front.
    #[must_use]
    pub fn at(self, place: impl fmt::Display) -> Notice {
        Notice { text: format!("{place}: {}", self.text), ..self }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Notice {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}
