//! Keys and references of any width, in each kind of database.

mod moved;
mod postgres;
mod sqlite;
