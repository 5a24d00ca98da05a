//! The options that say how to handle values, columns and rows, the same for every command that plans an import.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::args::{CONFLICTS, PERFORMANCE, TARGET, VALUES};
use crate::amendments::{Amendments, Constant, MovedPath};
use crate::error::Result;
use crate::history::BatchKind;
use crate::import::BatchOptions;
use crate::policy::{
    AssumeZone, Compression, Conflicts, EventTypes, Matches, OnMissingColumn, OnOrphans,
    OnUnrepresentable, OwnRows, PlanOptions, Policy,
};

/// How to handle values, columns, rows and ids, the same for every command that plans an import.
#[derive(Debug, Clone, clap::Args)]
pub struct PlanArgs {
    /// How to handle values and columns
    #[command(flatten)]
    pub values: ValueArgs,

    /// How to handle rows that the target has already with other content, for all streams or, as
    /// STREAM=POLICY, for one: `fail` stops before anything is written, `skip` keeps the target's
    /// rows, `update` takes the archive's, `newer` those that were changed last [default: fail]
    #[arg(long, value_name = "[STREAM=]POLICY", value_delimiter = ',', help_heading = CONFLICTS)]
    pub on_conflict: Vec<String>,

    /// What makes a row of the archive and one of the target the same row, for all streams or, as
    /// STREAM=CHOICE, for one: `key` or another unique value, or also equal `content` under another key
    /// [default: key]
    #[arg(long = "match", value_name = "[STREAM=]CHOICE", value_delimiter = ',')]
    #[arg(help_heading = CONFLICTS)]
    pub matches: Vec<String>,

    /// How to handle references and ids
    #[command(flatten)]
    pub references: ReferenceArgs,

    /// What to change on the way
    #[command(flatten)]
    pub amendments: AmendArgs,
}

/// What to change in the rows of the archive on their way.
#[derive(Debug, Clone, clap::Args)]
pub struct AmendArgs {
    /// Give a column of the target this value in all rows that have none, of every stream with the column or of one:
    /// user_id=ada, sessions.git_branch=main. With := also in rows that have another
    #[arg(long = "set", value_name = "[STREAM.]COLUMN=VALUE", help_heading = VALUES)]
    pub constants: Vec<String>,

    /// Replace the beginning of project paths, for another machine: /home/ada=/Users/ada
    #[arg(long = "map-path", value_name = "OLD=NEW", help_heading = VALUES)]
    pub paths: Vec<String>,

    /// Change the rows of a stream with a filter of jq, which gets each row as `cat` prints it. What it does not change
    /// keeps its bytes; a row for which it gives nothing is left out
    #[arg(long = "jq", num_args = 2, value_names = ["STREAM", "FILTER"], help_heading = VALUES)]
    pub filters: Vec<String>,

    /// Values that a configuration file has for columns which the target need not have: the key, the column and the value.
    #[arg(skip)]
    pub of_file: Vec<(String, String, String)>,
}

impl AmendArgs {
    /// What the user chose.
    ///
    /// # Errors
    /// If a value or a path is none.
    fn amendments(&self) -> Result<Amendments> {
        let constants = self.constants.iter().map(|text| Constant::parse(text));
        let paths = self.paths.iter().map(|text| MovedPath::parse(text));
        let pair = |pair: &[String]| match pair {
            [stream, filter] => Some((stream.clone(), filter.clone())),
            _ => None,
        };
        let mut constants = constants.collect::<Result<Vec<_>>>()?;
        for (key, column, value) in &self.of_file {
            if !constants.iter().any(|c| c.stream.is_none() && c.column == *column) {
                constants.push(Constant::if_possible(key, column, value));
            }
        }
        Ok(Amendments {
            constants,
            paths: paths.collect::<Result<_>>()?,
            filters: self.filters.chunks(2).filter_map(pair).collect(),
        })
    }
}

/// The same for a restore, in which no row of the target is in the way.
#[derive(Debug, Clone, clap::Args)]
pub struct RestorePlanArgs {
    /// How to handle values and columns
    #[command(flatten)]
    pub values: ValueArgs,

    /// How to handle references and ids
    #[command(flatten)]
    pub references: ReferenceArgs,
}

/// How to handle values and columns.
#[derive(Debug, Clone, clap::Args)]
pub struct ValueArgs {
    /// Refuse whatever the target cannot store exactly, values and columns: both options below are
    /// `fail` unless they say otherwise
    #[arg(long, help_heading = VALUES)]
    pub strict: bool,

    /// How to handle values that the target cannot store [default: preserve]
    #[arg(long, value_parser = words::<OnUnrepresentable>(), help_heading = VALUES)]
    pub on_unrepresentable: Option<OnUnrepresentable>,

    /// How to handle columns that the target lacks [default: preserve]
    #[arg(long, value_parser = words::<OnMissingColumn>(), help_heading = VALUES)]
    pub on_missing_column: Option<OnMissingColumn>,

    /// How to map the types of events
    #[arg(long, value_parser = words::<EventTypes>(), default_value = "keep")]
    #[arg(help_heading = VALUES)]
    pub map_event_types: EventTypes,

    /// The time zone of times that were written without one: Europe/Berlin, UTC, -05:00, or
    /// `archive` for the zone of the machine that exported
    #[arg(long, value_name = "ZONE", allow_hyphen_values = true, help_heading = VALUES)]
    pub assume_tz: Option<String>,

    /// Use the time zone of --assume-tz even if the rows' own times contradict it
    #[arg(long, help_heading = VALUES)]
    pub trust_zone: bool,
}

/// How to handle references and ids.
#[derive(Debug, Clone, clap::Args)]
pub struct ReferenceArgs {
    /// How to handle rows that refer to missing rows [default: fail where the target enforces
    /// the reference, else keep]
    #[arg(long, value_parser = words::<OnOrphans>(), help_heading = CONFLICTS)]
    pub orphans: Option<OnOrphans>,

    /// The database that the archive's ids belong to, as a UUID; ids that are not UUIDs get a UUID
    /// derived from both [default: the one in the archive's header]
    #[arg(long, value_name = "UUID", help_heading = CONFLICTS)]
    pub instance: Option<uuid::Uuid>,
}

/// Reads the words of a policy, with their help.
pub(super) fn words<P: Policy>() -> impl TypedValueParser<Value = P> {
    let possible =
        |(_, word, help): &(P, &'static str, &'static str)| PossibleValue::new(*word).help(*help);
    PossibleValuesParser::new(P::WORDS.iter().map(possible))
        .try_map(|word| P::from_word(&word).ok_or("no such choice"))
}

impl PlanArgs {
    /// What the user chose.
    ///
    /// # Errors
    /// If the time zone is not one, or a choice about conflicts.
    pub fn options(&self) -> Result<PlanOptions> {
        let conflicts = Conflicts::parse("--on-conflict", &self.on_conflict)?;
        let matches = Matches::parse("--match", &self.matches)?;
        let amendments = self.amendments.amendments()?;
        Ok(PlanOptions { conflicts, matches, amendments, ..self.values.options(&self.references)? })
    }

    /// Whether nothing was asked for.
    pub fn is_default(&self) -> bool {
        let ValueArgs { strict, trust_zone, .. } = self.values;
        self.references.orphans.is_none()
            && self.values.assume_tz.is_none()
            && self.references.instance.is_none()
            && !strict
            && !trust_zone
            && self.amendments.constants.is_empty()
            && self.amendments.paths.is_empty()
            && self.amendments.filters.is_empty()
            && self.on_conflict.is_empty()
            && self.matches.is_empty()
            && self.values.on_unrepresentable.is_none()
            && self.values.on_missing_column.is_none()
            && self.values.map_event_types == EventTypes::Keep
    }
}

impl ValueArgs {
    /// What the user chose, but for rows that the target has with other content.
    ///
    /// # Errors
    /// If the time zone is not one.
    pub fn options(&self, references: &ReferenceArgs) -> Result<PlanOptions> {
        let assume_zone = self.assume_tz.as_deref().map(AssumeZone::parse).transpose()?;
        let unsaid = if self.strict { PlanOptions::strict() } else { PlanOptions::default() };
        Ok(PlanOptions {
            on_unrepresentable: self.on_unrepresentable.unwrap_or(unsaid.on_unrepresentable),
            on_missing_column: self.on_missing_column.unwrap_or(unsaid.on_missing_column),
            event_types: self.map_event_types,
            orphans: references.orphans,
            assume_zone: assume_zone.unwrap_or_default(),
            trust_zone: self.trust_zone,
            rejects: false,
            amendments: Amendments::default(),
            conflicts: Conflicts::default(),
            matches: Matches::default(),
            instance: references.instance,
            own_rows: OwnRows::Stay,
        })
    }
}

/// The layout that a target has or gets.
#[derive(Debug, Clone, clap::Args)]
pub struct TargetArgs {
    /// Create a new SQLite file in the hooks' layout, or Chronicle's own tables in Postgres; or
    /// another layout that `schema` lists
    #[arg(long, value_name = "LAYOUT", num_args = 0..=1, require_equals = true)]
    #[arg(help_heading = TARGET)]
    pub create: Option<Option<String>>,

    /// The layout of the target's tables, instead of recognising it: a layout file, or the name of
    /// a known layout
    #[arg(long, value_name = "FILE", help_heading = TARGET)]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    pub layout: Option<String>,
}

/// How rows are loaded.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadArgs {
    /// How Postgres compresses the large values of the rows that are loaded, in columns without a
    /// method of their own [default: lz4 where the server has it]
    #[arg(long, value_name = "METHOD", value_parser = words::<Compression>())]
    #[arg(help_heading = PERFORMANCE)]
    pub toast_compression: Option<Compression>,
}

/// How a batch is recorded in the target.
#[derive(Debug, Clone, clap::Args)]
pub struct BatchArgs {
    /// Leave out the receipts that a rollback needs: a little faster, but it cannot be undone
    #[arg(long, help_heading = TARGET)]
    pub no_undo: bool,

    /// How long to wait for another import, restore or rollback in the same target [default: 10]
    #[arg(long, value_name = "SECONDS", help_heading = TARGET)]
    pub wait: Option<u32>,

    /// First write an archive of the target's tables, and verify it; the history names it. {date},
    /// {time} and {source} in the name are filled in
    #[arg(long, value_name = "FILE", help_heading = TARGET)]
    pub backup: Option<PathBuf>,

    /// First copy the whole target, a SQLite file, to FILE
    #[arg(long, value_name = "FILE", help_heading = TARGET)]
    pub backup_db: Option<PathBuf>,
}

impl BatchArgs {
    /// How a batch is recorded.
    pub fn options(&self, kind: BatchKind, backup: Option<String>) -> BatchOptions {
        BatchOptions { kind, receipts: !self.no_undo, backup }
    }
}
