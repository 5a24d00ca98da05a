//! The plan in words, for people.

use super::fit::converts;
use super::{ColumnPlan, ColumnSource, Fate, IdRule, StreamPlan, TablePlan, Unmapped};
use crate::policy::EventTypes;
use chronicle_archive::show_count;

/// Why a row of a stream without a table has no place.
pub(super) const NO_TABLE: &str = "the target has no table for it";
/// Why a row of a stream that shares a table has no place.
const DUPLICATE: &str = "duplicates of rows that another stream loads into the same table";

impl StreamPlan {
    /// The plan of every column that is not copied unchanged, in words; one line counts the others.
    pub fn lines(&self) -> Vec<String> {
        match self {
            StreamPlan::Table(plan) => plan.lines(),
            StreamPlan::Unmapped(plan) => {
                let fate = match plan.policy {
                    Unmapped::Fail => "any row stops the import",
                    Unmapped::Drop => "its rows are lost",
                    Unmapped::Sidecar => "its rows are stored in the sidecar table",
                };
                vec![format!("{NO_TABLE}: {fate}")]
            }
        }
    }
}

impl TablePlan {
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.columns.iter().filter_map(ColumnPlan::line).collect();
        let direct = self.columns.len() - lines.len();
        lines.insert(0, format!("{} copied unchanged", show_count(direct as u64, "columns")));
        for column in &self.unplaced {
            let fate = match column.fate {
                Fate::Derived => "left out: it can be recomputed",
                Fate::Refused => {
                    "any value in it stops the import: the target has no column for it"
                }
                Fate::Dropped => "lost: the target has no column for it",
                Fate::Folded => "stored in the row's JSON: the target has no column for it",
                Fate::Preserved => "stored in the sidecar table: the target has no column for it",
                Fate::Sidecar => "stored in the sidecar table",
            };
            lines.push(format!("{}: {fate}", column.name));
        }
        lines.extend(self.added.iter().map(|a| format!("{}: new column in the target", a.name)));
        lines.extend(
            self.defaulted
                .iter()
                .map(|name| format!("{name}: not in the archive; the target's default is used")),
        );
        if let Some(duplicates) = &self.duplicates {
            let fate = match duplicates.policy {
                Unmapped::Fail => "left out if nothing is lost, else it stops the import",
                Unmapped::Drop => "lost",
                Unmapped::Sidecar => "stored in the sidecar table",
            };
            lines.push(format!("{DUPLICATE}: {fate}"));
        }
        lines
    }
}

impl ColumnPlan {
    /// How the column is filled, in words; None if its values are copied unchanged.
    fn line(&self) -> Option<String> {
        let how = match (&self.source, self.ids.as_ref().map(|ids| ids.rule)) {
            (ColumnSource::TextOf(_), _) => "copied from another column".into(),
            (ColumnSource::Text(text), _) => format!("always \"{text}\""),
            (ColumnSource::Batch, _) => "the id of this batch".into(),
            (ColumnSource::Column(_), Some(IdRule::Uuid)) => {
                format!("{} to uuid; other ids get a UUID derived from them", self.kind.word())
            }
            (ColumnSource::Column(_), Some(IdRule::Integer)) => {
                format!("{} to numbers", self.kind.word())
            }
            (ColumnSource::Column(_), Some(IdRule::Number)) => {
                "numbers of another database to those that its rows have here".into()
            }
            (ColumnSource::Column(_), _) if self.vocabulary == Some(EventTypes::Upstream) => {
                "old types mapped to their later names".into()
            }
            (ColumnSource::Column(_), _) if self.vocabulary == Some(EventTypes::Tutorial) => {
                "types mapped to the four of the tutorial".into()
            }
            (ColumnSource::Column(_), _) if converts(self.kind, &self.ty) => {
                format!("{} to {}", self.kind.word(), self.ty.name())
            }
            (ColumnSource::Column(_), _) => return None,
        };
        Some(format!("{}: {how}", self.name))
    }
}
