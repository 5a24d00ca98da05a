//! Where an archive may be cut when it is loaded in groups: what comes later must find in the tables whatever it refers to.

use crate::plan::{Plan, TablePlan};
use crate::transform::worker::LoadBatch;
use chronicle_archive::Value;

/// Where an archive may be cut: what comes later must find in the tables whatever it refers to.
pub(super) struct Cuts {
    /// Of each stream, the last one that fills a table to which it refers.
    refers_to: Vec<Option<usize>>,
    /// Whether others refer to its rows.
    pub(super) is_parent: Vec<bool>,
    /// The tables of such streams.
    pub(super) parents: Vec<usize>,
    /// Whether it may be cut itself: its rows have keys, and nobody refers to them.
    divisible: Vec<bool>,
}

impl Cuts {
    pub(super) fn of(plan: &Plan) -> Cuts {
        let fills = |table: usize| plan.tables().filter(move |(_, s)| s.table == table);
        let refers_to = plan.streams.iter().map(|stream| {
            let references = stream.table().into_iter().flat_map(|table| &table.references);
            references.flat_map(|r| fills(r.table).map(|(n, _)| n)).max()
        });
        let is_referred = |table: usize| {
            let mut references = plan.tables().flat_map(|(_, stream)| &stream.references);
            references.any(|reference| reference.table == table)
        };
        let is_parent = |table: Option<&TablePlan>| table.is_some_and(|t| is_referred(t.table));
        let divisible = |table: Option<&TablePlan>| {
            let divides = |t: &TablePlan| !t.key.is_empty() && t.content.is_empty();
            table.is_some_and(|t| divides(t) && !is_referred(t.table))
        };
        let mut parents: Vec<usize> = plan.tables().map(|(_, stream)| stream.table).collect();
        parents.retain(|table| is_referred(*table));
        Cuts {
            refers_to: refers_to.collect(),
            is_parent: plan.streams.iter().map(|s| is_parent(s.table())).collect(),
            parents,
            divisible: plan.streams.iter().map(|s| divisible(s.table())).collect(),
        }
    }

    /// Whether the rows of a stream, and of all behind it, may come in any order.
    pub(super) fn are_apart_from(&self, stream: usize) -> bool {
        let mut refers_to = self.refers_to[stream..].iter().flatten();
        let stands = stream == 0 || self.between(stream - 1, stream);
        stands
            && refers_to.all(|parent| *parent < stream)
            && self.divisible[stream..].iter().all(|d| *d)
    }

    /// Whether a group may end behind rows of the stream `last`, before rows of `next`.
    pub(super) fn between(&self, last: usize, next: usize) -> bool {
        let before = self.refers_to[..=last].iter().enumerate();
        let mut parents = before.filter_map(|(n, refers_to)| Some((n, (*refers_to)?)));
        // what waits for later rows meets those of the target only when the group ends: too late for what refers to it
        let stands =
            |(n, parent): (usize, usize)| parent < next && (parent < n || !self.is_parent[n]);
        parents.all(stands) && (last != next || self.divisible[last])
    }
}

/// Whether any of the rows has no key, or only part of one.
pub(super) fn lacks_keys(table: &TablePlan, rows: &LoadBatch) -> bool {
    let rows = &rows.target.rows;
    (0..rows.rows()).any(|row| table.key.iter().any(|k| rows.value(row, *k) == Value::Null))
}
