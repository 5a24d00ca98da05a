//! Every choice that the user makes about values, columns and rows, with the words that name it on the
//! command line, in JSON and in messages.

use uuid::Uuid;

use crate::amendments::Amendments;
use crate::error::{Code, Error, Result};
use chronicle_archive::show_text;
use chronicle_archive::time::{ZoneRule, parse_zone};

/// A choice with a fixed set of words.
pub trait Policy: Copy + PartialEq + Send + Sync + 'static {
    /// Every choice with its word and what it does, in the order of the documentation.
    const WORDS: &'static [(Self, &'static str, &'static str)];

    /// The word of this choice.
    fn word(self) -> &'static str {
        Self::WORDS.iter().find(|(choice, ..)| *choice == self).map_or("", |(_, word, _)| word)
    }

    /// The choice of a word, if there is one.
    fn from_word(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(_, w, _)| *w == word).map(|(choice, ..)| *choice)
    }
}

/// How to handle values that the target cannot store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnUnrepresentable {
    /// Stop the import.
    Fail,
    /// Load the nearest value and count it.
    Adapt,
    /// Load the nearest value, count it, and store the original in the sidecar table.
    #[default]
    Preserve,
    /// Leave the row out and write it into an archive of its own.
    Reject,
}

impl Policy for OnUnrepresentable {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (
            Self::Preserve,
            "preserve",
            "Load the nearest value, and store the original in the sidecar table: an export of the \
             target restores it",
        ),
        (Self::Adapt, "adapt", "Load the nearest value that the target can store, and count it"),
        (Self::Fail, "fail", "Stop the import"),
        (Self::Reject, "reject", "Leave the row out and write it to --rejects FILE"),
    ];
}

impl OnUnrepresentable {
    /// Whether originals are stored.
    pub fn preserves(self) -> bool {
        self == OnUnrepresentable::Preserve
    }

    /// Whether another value is loaded in its place.
    pub fn adapts(self) -> bool {
        matches!(self, OnUnrepresentable::Adapt | OnUnrepresentable::Preserve)
    }
}

/// How to handle columns that the target lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnMissingColumn {
    /// Store the values in the sidecar table.
    #[default]
    Preserve,
    /// Stop the import, unless the column can be recomputed from the rest.
    Fail,
    /// Store the values under one key of the row's JSON column, or in the sidecar table.
    Fold,
    /// Lose the values, and count them.
    Drop,
    /// Add the column to the target.
    Add,
}

impl Policy for OnMissingColumn {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (
            Self::Preserve,
            "preserve",
            "Store the values in the sidecar table: an export of the target restores them",
        ),
        (Self::Fail, "fail", "Stop the import, unless the column can be recomputed"),
        (
            Self::Fold,
            "fold",
            "Store the values in the row's JSON: an export of the target restores them",
        ),
        (Self::Drop, "drop", "Lose the values, and count them"),
        (Self::Add, "add", "Add the columns to the target"),
    ];
}

/// How to handle the types of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventTypes {
    /// Copy them unchanged.
    #[default]
    Keep,
    /// Map old types to today's, by Chronicle's own rule.
    Upstream,
    /// Map all types to the four of Chronicle's migration tutorial.
    Tutorial,
}

impl Policy for EventTypes {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Keep, "keep", "Copy them unchanged"),
        (Self::Upstream, "upstream", "Map old types to the names that Chronicle gave them later"),
        (
            Self::Tutorial,
            "tutorial",
            "Map all types to the four that the tables of Chronicle's migration tutorial allow",
        ),
    ];
}

impl EventTypes {
    /// The types that the tables of Chronicle's migration tutorial allow.
    pub const TUTORIAL_TYPES: [&str; 4] = ["prompt", "tool_use", "session_start", "session_end"];
}

/// How to handle rows that refer to rows which do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnOrphans {
    /// Stop the import.
    Fail,
    /// Load and count them.
    Keep,
    /// Leave them out and count them.
    Skip,
    /// Load them, and create the row they refer to.
    Adopt,
}

impl Policy for OnOrphans {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Fail, "fail", "Stop the import"),
        (Self::Keep, "keep", "Load and count them"),
        (Self::Skip, "skip", "Leave them out and count them"),
        (Self::Adopt, "adopt", "Load them, and create a session for them"),
    ];
}

/// How to handle rows that the target has already with other content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// Stop the import.
    #[default]
    Fail,
    /// Keep the target's row.
    Skip,
    /// Replace the target's row by the archive's.
    Update,
    /// Keep the row that was changed last.
    Newer,
}

impl Policy for OnConflict {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Fail, "fail", "Stop the import before anything is written"),
        (Self::Skip, "skip", "Keep the target's row"),
        (Self::Update, "update", "Replace the target's row by the archive's"),
        (Self::Newer, "newer", "Keep the row that was changed last, where the layout has its time"),
    ];
}

/// What makes a row of an archive and one of the target the same row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Match {
    /// Their key, or another unique value.
    #[default]
    Key,
    /// The same, or all else that they hold.
    Content,
}

impl Policy for Match {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Key, "key", "The same key, or another unique value"),
        (Self::Content, "content", "The same, or the same content under another key"),
    ];
}

/// A choice that may differ from stream to stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PerStream<P> {
    others: P,
    streams: Vec<(String, P)>,
}

/// The choice about conflicts for every stream.
pub type Conflicts = PerStream<OnConflict>;

/// The choice of what makes rows the same for every stream.
pub type Matches = PerStream<Match>;

impl<P: Policy + Default> PerStream<P> {
    /// The same with another choice for one stream.
    #[must_use]
    pub fn with(mut self, stream: &str, choice: P) -> PerStream<P> {
        self.streams.retain(|(name, _)| name != stream);
        self.streams.push((stream.to_owned(), choice));
        self
    }

    /// Reads what follows an option: words for all streams, or `STREAM=WORD` for one.
    ///
    /// # Errors
    /// If a text names no choice, or two are for the same.
    pub fn parse(option: &str, texts: &[String]) -> Result<PerStream<P>> {
        let (mut all, mut general) = (PerStream::default(), false);
        for text in texts {
            let (stream, word) = match text.split_once('=') {
                Some((stream, word)) => (Some(stream), word),
                None => (None, text.as_str()),
            };
            let choice = P::from_word(word).ok_or_else(|| {
                let words: Vec<&str> = P::WORDS.iter().map(|(_, word, _)| *word).collect();
                Error::new(Code::Usage, format!("{option}: \"{word}\" is not a choice")).hint(
                    format!("give one of {}, or STREAM=CHOICE for one stream", words.join(", ")),
                )
            })?;
            let twice = match stream {
                None => {
                    all.others = choice;
                    std::mem::replace(&mut general, true)
                }
                Some(stream) => {
                    let twice = all.streams.iter().any(|(name, _)| name == stream);
                    all.streams.push((stream.to_owned(), choice));
                    twice
                }
            };
            if twice {
                let what = stream.map_or("all streams".into(), show_text);
                let what = format!("{option}: two choices for {what}");
                return Err(
                    Error::new(Code::Usage, what).hint("give one, and STREAM=CHOICE for others")
                );
            }
        }
        Ok(all)
    }

    /// The choice for a stream.
    pub fn of(&self, stream: &str) -> P {
        let own = self.streams.iter().find(|(name, _)| name == stream);
        own.map_or(self.others, |(_, choice)| *choice)
    }

    /// Refuses choices for streams that the archive does not have.
    ///
    /// # Errors
    /// The first such stream, with those that it has.
    pub fn require_streams(&self, option: &str, names: &[&str]) -> Result<()> {
        let unknown = self.streams.iter().find(|(name, _)| !names.contains(&name.as_str()));
        unknown.map_or(Ok(()), |(name, _)| {
            let what = format!("{option}: the archive has no stream \"{}\"", show_text(name));
            Err(Error::new(Code::Usage, what).hint(format!("it has {}", names.join(", "))))
        })
    }
}

/// How Postgres compresses a large value in a row ("TOAST").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// LZ4, since PostgreSQL 14 where the server was built with it.
    Lz4,
    /// Its own method: smaller, and slow to write.
    Pglz,
    /// As the server's setting says.
    Server,
}

impl Policy for Compression {
    const WORDS: &'static [(Self, &'static str, &'static str)] = &[
        (Self::Lz4, "lz4", "LZ4: a quarter faster to load, a little larger"),
        (Self::Pglz, "pglz", "Postgres' own method"),
        (Self::Server, "server", "As the server's setting says"),
    ];
}

/// How local times without a zone are read where the target needs instants.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum AssumeZone {
    /// They stop the import.
    #[default]
    Refuse,
    /// In the zone that the archive hints at.
    Archive,
    /// In this zone.
    Zone(ZoneRule),
}

impl AssumeZone {
    /// Reads what follows `--assume-tz`.
    ///
    /// # Errors
    /// If the text is not a time zone.
    pub fn parse(text: &str) -> Result<AssumeZone> {
        if text.eq_ignore_ascii_case("archive") {
            return Ok(AssumeZone::Archive);
        }
        parse_zone(text).map(AssumeZone::Zone).ok_or_else(|| {
            Error::new(Code::Usage, format!("--assume-tz: \"{text}\" is not a time zone")).hint(
                "give a zone such as Europe/Berlin, UTC or +02:00, or `archive` for the zone of \
                 the machine that exported",
            )
        })
    }
}

/// What becomes of rows that a target has in the tables of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OwnRows {
    /// They stay, unless a conflict is settled otherwise.
    #[default]
    Stay,
    /// They are deleted before rows come (`import --clear`).
    Cleared,
    /// Those that the archive lacks are deleted when all rows have come, those that differ become what it says, and
    /// equal ones are not touched (`restore`).
    Replaced,
}

/// What the user chose for an import.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Values that the target cannot store.
    pub on_unrepresentable: OnUnrepresentable,
    /// Columns that the target lacks.
    pub on_missing_column: OnMissingColumn,
    /// The types of events.
    pub event_types: EventTypes,
    /// Local times without a zone.
    pub assume_zone: AssumeZone,
    /// Rows that refer to missing rows; by default it depends on the target.
    pub orphans: Option<OnOrphans>,
    /// Whether the zone is taken even if the rows themselves contradict it.
    pub trust_zone: bool,
    /// Whether rows with a value that has no nearest one are left out and set aside.
    pub rejects: bool,
    /// What is changed in the rows of the archive.
    pub amendments: Amendments,
    /// Rows that the target has already with other content.
    pub conflicts: Conflicts,
    /// What makes a row of the archive and one of the target the same row.
    pub matches: Matches,
    /// The database that the ids belong to, if it is not the one in the archive's header.
    pub instance: Option<Uuid>,
    /// Rows that the target has.
    pub own_rows: OwnRows,
}

impl PlanOptions {
    /// The choices that lose and change nothing: what has no exact place in the target stops the import.
    pub fn strict() -> PlanOptions {
        PlanOptions {
            on_unrepresentable: OnUnrepresentable::Fail,
            on_missing_column: OnMissingColumn::Fail,
            ..PlanOptions::default()
        }
    }

    /// Whether a row may be left out because of its values.
    pub fn rejects_rows(&self) -> bool {
        self.rejects || self.on_unrepresentable == OnUnrepresentable::Reject
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_are_distinct<P: Policy>() {
        for (choice, word, help) in P::WORDS {
            assert!(P::from_word(word) == Some(*choice) && choice.word() == *word, "{word}");
            assert!(!help.is_empty(), "{word}");
        }
    }

    #[test]
    fn every_choice_is_found_by_its_word() {
        words_are_distinct::<OnUnrepresentable>();
        words_are_distinct::<OnMissingColumn>();
        words_are_distinct::<EventTypes>();
        words_are_distinct::<OnOrphans>();
        words_are_distinct::<OnConflict>();
        words_are_distinct::<Match>();
        words_are_distinct::<Compression>();
    }
    #[test]
    fn a_choice_about_conflicts_may_be_of_one_stream() {
        let parse = |texts: &[&str]| {
            Conflicts::parse(
                "--on-conflict",
                &texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>(),
            )
        };
        let all = parse(&["update", "events=newer"]).unwrap();
        assert_eq!((all.of("events"), all.of("sessions")), (OnConflict::Newer, OnConflict::Update));
        assert_eq!(parse(&[]).unwrap().of("events"), OnConflict::Fail);
        for twice in [&["skip", "update"][..], &["events=skip", "newer", "events=update"]] {
            assert!(parse(twice).unwrap_err().full().contains("two choices"));
        }
        assert!(parse(&["events=replace"]).unwrap_err().full().contains("\"replace\""));
    }
}
