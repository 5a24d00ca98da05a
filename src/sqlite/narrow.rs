//! Rows that SQLite leaves out itself: the tests of a selection as a function of a connection.

use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

use super::{from_sqlite, quoted};
use crate::selection::{Condition, Narrowing, Test};
use chronicle_archive::{Kind, Stream};

/// The function: whether a value passes the test of this number.
const PASSES: &str = "chronicle_dump_passes";

/// The tests of the statements to come.
#[derive(Default)]
pub(super) struct Tests(Vec<(Kind, Test)>);

impl Tests {
    /// A narrowing as SQL for rows `t` of a stream.
    pub(super) fn condition(
        &mut self,
        narrowing: &Narrowing,
        n: usize,
        streams: &[Stream],
    ) -> String {
        let mut all = self.all(&narrowing.conditions, "t", &streams[n]);
        if let Some((parent, column, conditions)) = &narrowing.parent {
            let of = &streams[*parent];
            let refers = format!("t.{}", quoted(&streams[n].columns[*column].physical));
            let key = of.key.first().map(|key| quoted(&of.columns[*key].physical));
            let passes = self.all(conditions, "p", of).join(" AND ");
            // an orphan stays: it is counted
            all.extend(key.map(|key| {
                let table = quoted(&of.table);
                format!(
                    "NOT EXISTS (SELECT 1 FROM {table} AS p WHERE p.{key} = +{refers} AND NOT ({passes}))"
                )
            }));
        }
        all.iter().map(|condition| format!(" AND {condition}")).collect()
    }

    fn all(&mut self, conditions: &[Condition], of: &str, stream: &Stream) -> Vec<String> {
        let one = |condition: &Condition| {
            let any = condition.any.iter().map(|(column, kind, test)| {
                self.0.push((*kind, test.clone()));
                let column = quoted(&stream.columns[*column].physical);
                format!("{PASSES}({}, {of}.{column})", self.0.len() - 1)
            });
            format!("({})", any.collect::<Vec<_>>().join(" OR "))
        };
        conditions.iter().map(one).collect()
    }

    /// Gives a connection the function.
    pub(super) fn install(self, connection: &Connection) -> rusqlite::Result<()> {
        let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
        connection.create_scalar_function(PASSES, 2, flags, move |context| {
            let number: usize = context.get::<u32>(0)?.try_into().unwrap_or(usize::MAX);
            let value = from_sqlite(context.get_raw(1));
            let passes =
                self.0.get(number).and_then(|(kind, test)| test.accepts(*kind, value, None));
            // what cannot be read is counted
            Ok(passes.unwrap_or(true))
        })
    }
}
