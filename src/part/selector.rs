//! Which rows of the streams at hand are selected, decided as they come, parents first.
//!
//! Whether a session is selected may depend on its events, which come behind it. Then the rows are read twice: a first
//! pass tells the selector what it needs to know ([`Selector::learn`]), and in the second it decides
//! ([`Selector::keep`]).

use super::resolve::{Lifetime, Need, Parent, Rule};
use super::seen::Seen;
use crate::error::Result;
use crate::notice::{Notice, NoticeKind};
use crate::selection::{Bound, Clock, Narrowing, Test, all_accept};
use crate::source::{ORPHANS_NAMED, Orphans};
use chronicle_archive::time::ZoneRule;
use chronicle_archive::{Batch, Stream, Value, show, show_count};

// what is known of a row that others refer to
/// It exists.
const KNOWN: u8 = 1;
/// Its own values pass.
const PASSED: u8 = 2;
/// A selected row belongs to it.
const USED: u8 = 4;
/// A row belongs to it that is not before the first moment wanted.
const LASTS: u8 = 8;
/// It is selected.
const SELECTED: u8 = 16;

/// Decides which rows are selected.
pub struct Selector {
    streams: Vec<Stream>,
    rules: Vec<Rule>,
    zone: ZoneRule,
    notices: Vec<Notice>,
    seen: Seen,
    /// Which rows of the last batch are selected.
    kept: Vec<bool>,
    orphans: OrphanList,
    left_out: LeftOut,
}

/// Rows that the selection leaves out although their own values pass.
struct LeftOut {
    /// Orphans, of which nobody knows whether their session passes, by stream.
    orphans: Vec<u64>,
    /// Rows without a time that can be read, by stream.
    unreadable_times: Vec<u64>,
}

/// Orphans among the selected rows, by stream and reference.
#[derive(Default)]
struct OrphanList(Vec<(usize, usize, Orphans)>);

impl OrphanList {
    fn add(
        &mut self,
        (n, parent): (usize, usize),
        stream: &Stream,
        name: &str,
        row: [Value<'_>; 2],
    ) {
        let found = self.0.iter().position(|(s, p, _)| (*s, *p) == (n, parent));
        let at = found.unwrap_or_else(|| {
            let (stream, column) = (stream.name.clone(), name.to_owned());
            let none = Orphans { stream, column, rows: 0, samples: Vec::new() };
            self.0.push((n, parent, none));
            self.0.len() - 1
        });
        let orphans = &mut self.0[at].2;
        orphans.rows += 1;
        if orphans.samples.len() < ORPHANS_NAMED {
            let [key, refers] = row.map(show);
            orphans.samples.push((key, refers));
        }
    }
}

impl Selector {
    pub(super) fn new(
        streams: Vec<Stream>,
        rules: Vec<Rule>,
        zone: ZoneRule,
        notices: Vec<Notice>,
    ) -> Selector {
        let none = vec![0; streams.len()];
        Selector {
            left_out: LeftOut { orphans: none.clone(), unreadable_times: none },
            streams,
            rules,
            zone,
            notices,
            seen: Seen::default(),
            kept: Vec::new(),
            orphans: OrphanList::default(),
        }
    }

    /// What people should know before any row was read.
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// What a first pass has to read of each stream; None if one pass is enough. `wanted` says which streams' rows
    /// anybody wants to see.
    pub fn first_pass(&self, wanted: impl Fn(usize) -> bool) -> Option<Vec<Need>> {
        let mut needs = vec![Need::Nothing; self.streams.len()];
        let mut any = false;
        for (n, rule) in self.rules.iter().enumerate() {
            let is_session = rule.lifetime.as_ref().is_some_and(Lifetime::is_limited);
            let is_wanted = wanted(n) || self.is_followed(n, &wanted);
            if !is_session || !is_wanted {
                continue;
            }
            if !rule.conditions.is_empty() {
                needs[n] = self.need(n, None);
            }
            for (e, child) in self.rules.iter().enumerate().filter(|(_, child)| !child.follows) {
                if let Some(parent) = child.parents.iter().find(|p| p.stream == n) {
                    (any, needs[e]) = (true, self.need(e, Some(parent.column)));
                }
            }
        }
        any.then_some(needs)
    }

    /// Whether rows that follow those of a stream are wanted.
    fn is_followed(&self, n: usize, wanted: &impl Fn(usize) -> bool) -> bool {
        let follows = |(s, rule): (usize, &Rule)| {
            wanted(s) && rule.follows && rule.parents.iter().any(|p| p.stream == n)
        };
        self.rules.iter().enumerate().any(follows)
    }

    /// The columns that decide about rows, and one that refers.
    fn need(&self, n: usize, refers: Option<usize>) -> Need {
        let rule = &self.rules[n];
        let mut columns = vec![false; self.streams[n].columns.len()];
        let tested = rule.conditions.iter().flat_map(|c| c.any.iter().map(|(column, ..)| *column));
        tested.chain(rule.key).chain(refers).for_each(|column| columns[column] = true);
        Need::Columns(columns)
    }

    /// Whether rows of a stream can be decided about without those of any other, but for what a first pass tells.
    pub fn decides_alone(&self, stream: &str) -> bool {
        let n = self.streams.iter().position(|s| s.name == stream);
        n.is_some_and(|n| self.rules[n].parents.iter().all(|p| !self.is_limited_by(n, p.stream)))
    }

    /// Whether a row of stream `n` depends on the row of another that it refers to.
    fn is_limited_by(&self, n: usize, parent: usize) -> bool {
        match self.rules[n].follows {
            true => self.rules[parent].is_limited,
            false => !self.rules[parent].conditions.is_empty(),
        }
    }

    /// What a database may leave out of a stream in the second pass; None if it may leave out nothing.
    pub fn narrowing(&self, n: usize) -> Option<Narrowing> {
        let rule = &self.rules[n];
        // rows that others refer to are counted, and known, whether selected or not
        if rule.is_parent || rule.follows || !rule.is_limited {
            return None;
        }
        let conditions = rule.conditions.clone();
        let limits = |p: &&Parent| self.is_limited_by(n, p.stream);
        let parent = rule.parents.iter().find(limits).map(|parent| {
            (parent.stream, parent.column, self.rules[parent.stream].conditions.clone())
        });
        Some(Narrowing { conditions, parent, zone: self.zone })
    }

    /// Whether no row of a stream is selected.
    pub fn leaves_out(&self, n: usize) -> bool {
        self.rules[n].is_left_out
    }

    /// Takes rows of the first pass in.
    ///
    /// # Errors
    /// If the temporary disk is full.
    pub fn learn(&mut self, batch: &Batch) -> Result<()> {
        let Selector { rules, seen, .. } = self;
        let n = batch.stream();
        let rule = &rules[n];
        for row in 0..batch.rows() {
            let passes = all_accept(&rule.conditions, batch, row) == Some(true);
            if rule.lifetime.is_some() {
                if let (Some(key), true) = (rule.key, passes) {
                    seen.mark(n, batch.value(row, key), PASSED)?;
                }
                continue;
            }
            for parent in &rule.parents {
                let of = &rules[parent.stream];
                let Some(lifetime) = &of.lifetime else { continue };
                let refers = batch.value(row, parent.column);
                if refers == Value::Null {
                    continue;
                }
                let mut marks = if lasts(rule, lifetime, batch, row) { LASTS } else { 0 };
                if passes
                    && (of.conditions.is_empty()
                        || seen.marks(parent.stream, refers)? & PASSED != 0)
                {
                    marks |= USED;
                }
                seen.mark(parent.stream, refers, marks)?;
            }
        }
        Ok(())
    }

    /// Forgets what was counted, since the same rows come once more.
    pub fn begin_again(&mut self) {
        self.orphans = OrphanList::default();
        self.left_out.orphans.fill(0);
        self.left_out.unreadable_times.fill(0);
    }

    /// Which rows of a batch are selected.
    ///
    /// # Errors
    /// If the temporary disk is full.
    pub fn keep(&mut self, batch: &Batch) -> Result<&[bool]> {
        let n = batch.stream();
        self.kept.clear();
        for row in 0..batch.rows() {
            let is_kept = self.keeps(n, batch, row)?;
            if let (Some(key), true) = (self.rules[n].key, self.rules[n].is_parent) {
                let marks = if is_kept { KNOWN | SELECTED } else { KNOWN };
                self.seen.mark(n, batch.value(row, key), marks)?;
            }
            self.kept.push(is_kept);
        }
        Ok(&self.kept)
    }

    fn keeps(&mut self, n: usize, batch: &Batch, row: usize) -> Result<bool> {
        if self.rules[n].is_left_out {
            return Ok(false);
        }
        match all_accept(&self.rules[n].conditions, batch, row) {
            Some(false) => return Ok(false),
            None => {
                self.left_out.unreadable_times[n] += 1;
                return Ok(false);
            }
            Some(true) => {}
        }
        if self.rules[n].lifetime.is_none() {
            return self.keeps_by_parents(n, batch, row);
        }
        if let Some(key) = self.rules[n].key.filter(|_| self.rules[n].is_parent) {
            self.seen.mark(n, batch.value(row, key), PASSED)?;
        }
        self.keeps_by_lifetime(n, batch, row)
    }

    /// Whether a session whose own values pass is selected.
    fn keeps_by_lifetime(&mut self, n: usize, batch: &Batch, row: usize) -> Result<bool> {
        let rule = &self.rules[n];
        let Some(lifetime) = rule.lifetime.as_ref().filter(|l| l.is_limited()) else {
            return Ok(true);
        };
        let key = rule.key.map(|key| batch.value(row, key));
        let marks = key.map_or(Ok(0), |key| self.seen.marks(n, key))?;
        if marks & USED != 0 || lifetime.only_used {
            return Ok(marks & USED != 0);
        }
        Ok(match overlaps(lifetime, batch, row, marks & LASTS != 0) {
            Some(overlaps) => overlaps,
            None => {
                self.left_out.unreadable_times[n] += 1;
                false
            }
        })
    }

    /// Whether a row whose own values pass is selected, by the rows that it refers to.
    fn keeps_by_parents(&mut self, n: usize, batch: &Batch, row: usize) -> Result<bool> {
        let rule = &self.rules[n];
        let mark = if rule.follows { SELECTED } else { PASSED };
        let key = || rule.key.map_or(Value::Null, |key| batch.value(row, key));
        let (mut refers_to_any, mut is_limited, mut orphan_of) = (false, false, None);
        for (p, parent) in rule.parents.iter().enumerate() {
            let limits = self.is_limited_by(n, parent.stream);
            is_limited |= limits;
            let refers = batch.value(row, parent.column);
            if refers == Value::Null {
                continue;
            }
            refers_to_any = true;
            let marks = self.seen.marks(parent.stream, refers)?;
            if marks & KNOWN == 0 {
                orphan_of = Some((p, refers));
            } else if limits && marks & mark == 0 {
                return Ok(false);
            }
        }
        if is_limited && (orphan_of.is_some() || !refers_to_any) {
            self.left_out.orphans[n] += 1;
            return Ok(false);
        }
        if let Some((p, refers)) = orphan_of {
            let name = &rule.parents[p].name;
            self.orphans.add((n, p), &self.streams[n], name, [key(), refers]);
        }
        Ok(true)
    }

    /// Orphans among the selected rows.
    pub fn orphans(&self) -> Vec<Orphans> {
        self.orphans.0.iter().map(|(_, _, orphans)| orphans.clone()).collect()
    }

    /// The rows that were left out because their time cannot be read.
    pub fn unreadable_times(&self) -> u64 {
        self.left_out.unreadable_times.iter().sum()
    }

    /// What people should know of the rows that were left out.
    pub fn left_out(&self) -> Vec<Notice> {
        let mut notices = Vec::new();
        let LeftOut { orphans, unreadable_times } = &self.left_out;
        for (n, stream) in self.streams.iter().enumerate() {
            if orphans[n] > 0 {
                let text = format!(
                    "{} left out: orphans, nobody knows whether their session is asked for",
                    show_count(orphans[n], &stream.name)
                );
                notices.push(Notice::new(NoticeKind::OrphansLeftOut, text));
            }
            if unreadable_times[n] > 0 {
                let rows = show_count(unreadable_times[n], &stream.name);
                let text = format!("{rows} without a readable time left out");
                notices.push(Notice::new(NoticeKind::UnreadableTimes, text));
            }
        }
        notices
    }
}

/// Whether a row is not before the first moment wanted.
fn lasts(rule: &Rule, lifetime: &Lifetime, batch: &Batch, row: usize) -> bool {
    let Some(since) = &lifetime.span.since else { return false };
    let tests = rule.conditions.iter().flat_map(|condition| &condition.any);
    let mut times = tests.filter_map(|(column, _, test)| match test {
        Test::Within(_, clock) => Some((*column, *clock)),
        _ => None,
    });
    times.any(|(column, clock)| {
        let (value, offset) = (batch.value(row, column), batch.offset(row, column));
        clock.is_reached(since, value, offset) == Some(true)
    })
}

/// Whether a session and the span have a moment in common; None if its start cannot be read.
fn overlaps(lifetime: &Lifetime, batch: &Batch, row: usize, lasts: bool) -> Option<bool> {
    let reached = |bound: &Option<Bound>, (column, clock): (usize, Clock)| {
        let (value, offset) = (batch.value(row, column), batch.offset(row, column));
        bound.as_ref().map(|bound| clock.is_reached(bound, value, offset))
    };
    let begins_late = reached(&lifetime.span.until, lifetime.start).unwrap_or(Some(false))?;
    if begins_late {
        return Some(false);
    }
    let Some(begins_in) = reached(&lifetime.span.since, lifetime.start) else { return Some(true) };
    if begins_in? {
        return Some(true);
    }
    let end = lifetime.end.and_then(|end| reached(&lifetime.span.since, end)).flatten();
    // without an end it lasts until the last of its rows
    Some(end.unwrap_or(lasts))
}
