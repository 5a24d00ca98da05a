//! What only Chronicle's users need: where its database lies, and what its rows say of its use.

pub mod days;
pub mod discover;
pub mod frequent;
pub mod statistics;
