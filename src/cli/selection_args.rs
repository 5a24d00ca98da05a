//! The options that say which rows are wanted, the same for every command that reads rows.

use std::time::{SystemTime, UNIX_EPOCH};

use super::args::SELECTION;
use crate::error::{Code, Error, Result};
use crate::selection::{Bound, ColumnValue, Selection};

/// Which rows are wanted. An option that is given several times means any of its values.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct SelectionArgs {
    /// Only sessions of projects with this path, and their events; `*` is any text, `?` one character, `[ab]` one of
    /// these
    #[arg(long, value_name = "GLOB", help_heading = SELECTION)]
    pub project: Vec<String>,

    /// Only this session, by its id or Claude's
    #[arg(long, value_name = "ID", help_heading = SELECTION)]
    pub session: Vec<String>,

    /// Only sessions of this user; where sessions have no user, events of this user
    #[arg(long, value_name = "ID", help_heading = SELECTION)]
    pub user: Vec<String>,

    /// Only sessions of this team, likewise
    #[arg(long, value_name = "ID", help_heading = SELECTION)]
    pub team: Vec<String>,

    /// Only events of this type, and their sessions
    #[arg(long, value_name = "TYPE", help_heading = SELECTION)]
    pub event_type: Vec<String>,

    /// Only events of TIME or later, their sessions, and sessions that lasted until then: a date, a date and time, or
    /// how long ago, such as 7d or 12h
    #[arg(long, value_name = "TIME", help_heading = SELECTION)]
    pub since: Option<String>,

    /// Only events before TIME, their sessions, and sessions that began before it
    #[arg(long, value_name = "TIME", help_heading = SELECTION)]
    pub until: Option<String>,

    /// Only rows of STREAM with this value, as `cat` prints it; the quotes of a text may be omitted: null is no value,
    /// "null" the text
    #[arg(long = "where", value_name = "STREAM.COLUMN=VALUE", help_heading = SELECTION)]
    pub columns: Vec<String>,
}

impl SelectionArgs {
    /// What was asked for; `zone` is that of times without one.
    ///
    /// # Errors
    /// If a time or a condition is none.
    pub fn selection(&self, zone: Option<&str>) -> Result<Selection> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let bound = |option: &str, text: &Option<String>| {
            text.as_deref().map(|text| Bound::parse(option, text, now)).transpose()
        };
        let (since, until) = (bound("--since", &self.since)?, bound("--until", &self.until)?);
        if let (Some(since), Some(until)) = (&since, &until)
            && since.is_not_before(until)
        {
            let what = format!("--until {} is not after --since {}", until.text, since.text);
            return Err(Error::new(Code::Usage, what).hint("swap them: nothing is between the two"));
        }
        Ok(Selection {
            projects: self.project.clone(),
            sessions: self.session.clone(),
            users: self.user.clone(),
            teams: self.team.clone(),
            event_types: self.event_type.clone(),
            since,
            until,
            columns: self
                .columns
                .iter()
                .map(|text| ColumnValue::parse(text))
                .collect::<Result<_>>()?,
            zone: zone.map(str::to_owned),
        })
    }
}

/// Refuses times that are another moment with every run.
pub(super) fn require_absolute(selection: &Selection, why: &str) -> Result<()> {
    let bounds = [("--since", &selection.since), ("--until", &selection.until)];
    let relative = bounds.iter().find(|(_, b)| b.as_ref().is_some_and(|bound| bound.is_relative));
    match relative {
        None => Ok(()),
        Some((option, _)) => {
            Err(Error::new(Code::Usage, format!("{option}: a time that counts from now {why}"))
                .hint("give a date, or a date and time"))
        }
    }
}
