//! What only Chronicle's users need: where its database lies, and what its rows say of its use.

pub mod days;
pub mod discover;
pub mod env_file;
pub mod frequent;
pub mod settings;
pub mod statistics;
