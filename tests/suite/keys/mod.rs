//! Keys and references of any width, in each kind of database.

mod postgres;
mod sqlite;
