//! Undo: what a batch has changed in a database, kept so exactly that it can be taken back, and how it is.
//!
//! While a batch writes, its target notes the keys of the rows that it inserts and the former content of those that it
//! changes or deletes. Before the commit these *receipts* are written as an archive, in pieces, into a table of our
//! own. A rollback reads them, finds each row as the batch left it by its key and a fingerprint of its content, and
//! takes back what nobody has touched since.

mod apply;
mod collect;
mod columns;
mod database;
mod deleted;
mod described;
mod fingerprint;
mod later;
mod pack;
mod places;
mod receipts;
mod shape;
mod sql;
mod standing;
mod take_back;
mod taken;

pub use collect::{Noted, before_name, collect, inserted_name};
pub use columns::ColumnStanding;
pub use database::{HistoryDatabase, Undoing};
pub use deleted::{DeletedRows, DeletedWriter};
pub use fingerprint::{CHAIN, fingerprint};
pub use later::Met;
pub use receipts::{PIECE, Receipts, ReceiptsFiles, ReceiptsReader, ReceiptsWriter, verified};
pub use shape::{AddedColumn, Sequence, Shape, ShapeColumn, ShapeReference, ShapeTable};
pub use sql::{EachRow, NamesAndTypes, UndoSql, UniqueColumns, delete_sql, in_the_way};
pub use standing::{Group, Standing, TableStanding, Taken};
pub use take_back::{TakeBack, take_back};

use sql::{entries_of, quoted};

/// What stands for the fingerprint of a row that a batch has deleted.
pub const GONE: i64 = -1;
