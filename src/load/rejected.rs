//! Rows that a target refuses, and why. The import writes the message.

use super::{CONFLICT_HINT, REJECT};
use crate::error::{Code, Error};
use chronicle_archive::show_text;

/// A row that the target refuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its number among the rows that were to be written.
    pub row: usize,
    /// Why.
    pub cause: Cause,
}

/// Why a target refuses a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It breaks a CHECK constraint.
    Check {
        /// The constraint's name.
        name: String,
        /// Its condition, as SQL.
        condition: String,
        /// The columns that it is about.
        columns: Vec<String>,
    },
    /// No partition of the table takes it.
    NoPartition {
        /// The columns that decide about the partition.
        columns: Vec<String>,
    },
    /// A column that the database computes has no value for it.
    Computed {
        /// That column.
        column: String,
        /// Why, in the database's own words.
        words: String,
        /// The columns that it is computed from.
        columns: Vec<String>,
    },
    /// It is too long for an index.
    TooLong {
        /// The index.
        index: String,
        /// Its columns.
        columns: Vec<String>,
    },
    /// The database refuses it, and says why in its own words.
    Database {
        /// These words.
        words: String,
        /// The columns that it is about, as far as they are known.
        columns: Vec<String>,
    },
    /// The key is not an integer, and the table has only integers.
    KeyIsNoInteger,
    /// A row with this key exists with another value in this column.
    Differs {
        /// The column.
        column: String,
    },
    /// A row exists whose key is equal to the database, but spelled differently in this column.
    SpelledDifferently {
        /// The column.
        column: String,
        /// What the target has.
        in_target: String,
        /// What the archive has.
        in_archive: String,
    },
    /// A row with this key exists, and another original of this column is stored for it.
    OriginalDiffers {
        /// The column.
        column: String,
    },
    /// The archive contains its key twice.
    Twice,
    /// Another row has one of its unique values.
    Taken {
        /// The unique columns; none if they are not known.
        columns: Vec<String>,
        /// The key of the other row, if it is known.
        by: Option<String>,
    },
}

impl Cause {
    /// Whether another row is in the way: that row stays, and no policy for values applies.
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Cause::Differs { .. }
                | Cause::SpelledDifferently { .. }
                | Cause::OriginalDiffers { .. }
                | Cause::Twice
                | Cause::Taken { .. }
        )
    }

    /// Whether it is the same, whichever row it is about.
    pub fn is_like(&self, other: &Cause) -> bool {
        match (self, other) {
            (Cause::Taken { columns, .. }, Cause::Taken { columns: others, .. }) => {
                columns == others
            }
            (
                Cause::SpelledDifferently { column, .. },
                Cause::SpelledDifferently { column: other, .. },
            ) => column == other,
            _ => self == other,
        }
    }

    /// The column whose value is the cause, if it is one alone.
    pub fn column(&self) -> Option<&str> {
        match self.columns() {
            [column] => Some(column),
            _ => None,
        }
    }

    /// The columns whose values are the cause.
    pub fn columns(&self) -> &[String] {
        match self {
            Cause::Check { columns, .. }
            | Cause::NoPartition { columns }
            | Cause::Computed { columns, .. }
            | Cause::TooLong { columns, .. }
            | Cause::Database { columns, .. } => columns,
            Cause::KeyIsNoInteger
            | Cause::Differs { .. }
            | Cause::SpelledDifferently { .. }
            | Cause::OriginalDiffers { .. }
            | Cause::Twice
            | Cause::Taken { .. } => &[],
        }
    }

    /// The code of the error.
    pub fn code(&self) -> Code {
        if self.is_conflict() { Code::Conflict } else { Code::Value }
    }

    /// Why, in words.
    pub fn reason(&self) -> String {
        match self {
            Cause::Check { name, condition, .. } => format!(
                "not allowed by the target's CHECK {}: {}",
                show_text(name),
                show_text(condition)
            ),
            Cause::NoPartition { columns } => {
                format!("no partition of the target for its {}", columns.join(", "))
            }
            Cause::Computed { column, .. } => {
                format!("the target cannot compute its \"{}\" from it", show_text(column))
            }
            Cause::TooLong { index, columns } => format!(
                "its {} is too long for the index {} of the target",
                columns.join(", "),
                show_text(index)
            ),
            Cause::Database { words, .. } => format!("refused by the target: {words}"),
            Cause::KeyIsNoInteger => "the key is not an integer".into(),
            Cause::Differs { column } => {
                format!("another value in \"{}\" in the target", show_text(column))
            }
            Cause::SpelledDifferently { column, in_target, in_archive } => format!(
                "the same key, spelled differently: \"{}\" is \"{in_target}\" in the target and \
                 \"{in_archive}\" in the archive",
                show_text(column)
            ),
            Cause::OriginalDiffers { column } => format!(
                "another original of \"{}\" in the target's sidecar table",
                show_text(column)
            ),
            Cause::Twice => "the archive contains the key twice".into(),
            Cause::Taken { columns, by: Some(key) } => format!(
                "its {} is already used by the row with key {}",
                columns.join(", "),
                show_text(key)
            ),
            Cause::Taken { .. } => "one of its unique values is already used by another row".into(),
        }
    }

    /// What to type or do next.
    pub fn hint(&self) -> &'static str {
        match self {
            Cause::Check { .. }
            | Cause::NoPartition { .. }
            | Cause::Computed { .. }
            | Cause::TooLong { .. } => {
                "--on-unrepresentable reject --rejects FILE leaves such rows out"
            }
            Cause::Database { .. } | Cause::KeyIsNoInteger => {
                "--on-unrepresentable reject --rejects FILE leaves such rows out; or correct the \
                 source and export it again"
            }
            Cause::Differs { .. }
            | Cause::SpelledDifferently { .. }
            | Cause::OriginalDiffers { .. } => CONFLICT_HINT,
            Cause::Twice | Cause::Taken { .. } => {
                "compare the two rows with `chronicle-dump diff`, or import into an empty database"
            }
        }
    }

    /// The option that settles it without losing anything of the target, with its value; none if no option
    /// does.
    pub fn options(&self) -> Vec<String> {
        let words: &[&str] = match self {
            Cause::Differs { .. }
            | Cause::SpelledDifferently { .. }
            | Cause::OriginalDiffers { .. } => &["--on-conflict", "skip"],
            Cause::Twice | Cause::Taken { .. } => &[],
            _ => &REJECT,
        };
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    /// The error of a row at a place.
    pub fn error(&self, place: &str) -> Error {
        let column =
            self.column().map_or_else(String::new, |c| format!(", column \"{}\"", show_text(c)));
        // what is different for every value stands in no reason, or each would be a problem of its own
        let detail = match self {
            Cause::Computed { words, .. } => format!(": {}", show_text(words)),
            _ => String::new(),
        };
        let message = format!("{place}{column}: {}{detail}", self.reason());
        Error::new(self.code(), message).hint(self.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_names_its_place_and_what_to_do() {
        let check =
            Cause::Check { name: "positive".into(), condition: "(n > 0)".into(), columns: vec![] };
        let error = check.error("notes: row 3 (key 7)");
        let expected = "notes: row 3 (key 7): not allowed by the target's CHECK positive: (n > 0)";
        assert_eq!((error.code(), error.full().as_str()), (Code::Value, expected));
        assert!(error.next_step().unwrap().contains("reject"));
    }

    #[test]
    fn a_row_in_the_way_is_a_conflict() {
        let taken = Cause::Taken { columns: vec!["name".into()], by: Some("9".into()) };
        assert_eq!(taken.error("notes").code(), Code::Conflict);
        assert_eq!(taken.reason(), "its name is already used by the row with key 9");
        assert!(!Cause::KeyIsNoInteger.is_conflict());
    }
}
