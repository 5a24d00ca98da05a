//! What only Chronicle's users need: where its database lies, what its configuration files say, and what its rows say of
//! its use.

pub mod config;
pub mod days;
pub mod discover;
pub mod env_file;
pub mod frequent;
pub mod settings;
pub mod statistics;
pub mod status;
