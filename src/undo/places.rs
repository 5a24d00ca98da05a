//! The shape of a batch that was committed in groups, each with receipts of its own: where the tables and references of one
//! group are in the shape of all.

use super::{Shape, ShapeReference, ShapeTable};
use crate::error::{Code, Error, Result};
use chronicle_archive::{Batch, Value};

/// Where the tables and references of one group are in the shape of all.
pub(super) struct Places {
    /// Of each of its tables.
    pub(super) tables: Vec<usize>,
    /// Of the references to each of them.
    references: Vec<Vec<usize>>,
}

impl Places {
    /// Gives the references in a batch of receipts, which are those to one table, the numbers that they have in all.
    pub(super) fn number_references(&self, table: usize, batch: &mut Batch) -> Result<()> {
        let numbers = &self.references[table];
        if numbers.iter().enumerate().all(|(n, number)| n == *number) {
            return Ok(());
        }
        for row in 0..batch.rows() {
            let Value::Int(reference) = batch.value(row, 1) else { continue };
            let number = usize::try_from(reference).ok().and_then(|n| numbers.get(n));
            let number = number.and_then(|n| i64::try_from(*n).ok());
            let damaged = || Error::new(Code::ArchiveDamaged, "receipts of an unknown reference");
            batch.set(row, 1, Value::Int(number.ok_or_else(damaged)?));
        }
        Ok(())
    }
}

impl Shape {
    /// Adds what the next group of the batch has touched.
    ///
    /// # Errors
    /// If a table of both had other columns then: it cannot be undone any more.
    pub(super) fn join(&mut self, next: Shape) -> Result<Places> {
        let mut places = Places { tables: Vec::new(), references: Vec::new() };
        for table in next.tables {
            let known = self.table(table.schema.as_deref(), &table.name);
            match known.map(|n| (n, &mut self.tables[n])) {
                None => {
                    places.tables.push(self.tables.len());
                    places.references.push((0..table.referred.len()).collect());
                    self.tables.push(table);
                }
                Some((n, known)) => {
                    places.tables.push(n);
                    places.references.push(known.join(table)?);
                }
            }
        }
        for column in next.added_columns {
            if !self.added_columns.contains(&column) {
                self.added_columns.push(column);
            }
        }
        for sequence in next.sequences {
            match self.sequences.iter_mut().find(|known| known.name == sequence.name) {
                Some(known) => known.after = sequence.after,
                None => self.sequences.push(sequence),
            }
        }
        Ok(places)
    }
}

impl ShapeTable {
    /// Adds what the next group of the batch says of the table; the places of its references.
    fn join(&mut self, next: ShapeTable) -> Result<Vec<usize>> {
        if self.columns != next.columns || self.key != next.key {
            let what = format!(
                "{}: the table was changed between two groups of the batch; nothing was changed",
                self.name
            );
            return Err(Error::new(Code::Plan, what)
                .hint("restore a backup instead: chronicle-dump restore ARCHIVE --to DB"));
        }
        let mut place = |reference: ShapeReference| {
            let known = self.referred.iter().position(|known| *known == reference);
            known.unwrap_or_else(|| {
                self.referred.push(reference);
                self.referred.len() - 1
            })
        };
        Ok(next.referred.into_iter().map(&mut place).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::{Sequence, ShapeColumn};
    use super::*;

    fn table(name: &str, referred: &[&str]) -> ShapeTable {
        let reference = |table: &&str| ShapeReference {
            schema: None,
            table: (*table).to_owned(),
            columns: vec!["a".into()],
            to: vec!["id".into()],
        };
        ShapeTable {
            schema: None,
            name: name.into(),
            columns: vec![ShapeColumn { name: "id".into(), ty: "INTEGER".into(), rowid: false }],
            key: vec![0],
            referred: referred.iter().map(reference).collect(),
            entry_key: Vec::new(),
            own: false,
        }
    }

    fn shape(tables: Vec<ShapeTable>) -> Shape {
        Shape { tables, ..Shape::default() }
    }

    #[test]
    fn tables_and_references_find_their_places() {
        let mut all = Shape::default();
        all.join(shape(vec![table("sessions", &["events"])])).unwrap();
        let places =
            all.join(shape(vec![table("events", &[]), table("sessions", &["notes", "events"])]));
        let places = places.unwrap();
        assert_eq!(places.tables, [1, 0]);
        assert_eq!(places.references[1], [1, 0]);
        let mut batch = Batch::default();
        batch.start(0, 2, 1);
        batch.push(Value::Int(7));
        batch.push(Value::Int(1));
        places.number_references(1, &mut batch).unwrap();
        assert_eq!(batch.value(0, 1), Value::Int(0));
    }

    #[test]
    fn a_sequence_has_moved_from_the_first_to_the_last_group() {
        let moved = |before, after| Shape {
            sequences: vec![Sequence { name: "s".into(), before, after }],
            ..Shape::default()
        };
        let mut all = Shape::default();
        all.join(moved(None, Some(5))).unwrap();
        all.join(moved(Some(5), Some(9))).unwrap();
        assert_eq!(all.sequences, moved(None, Some(9)).sequences);
    }

    #[test]
    fn a_table_that_was_changed_meanwhile_is_refused() {
        let mut all = shape(vec![table("sessions", &[])]);
        let mut changed = table("sessions", &[]);
        changed.columns[0].ty = "TEXT".into();
        assert_eq!(all.join(shape(vec![changed])).err().unwrap().code(), Code::Plan);
    }
}
