//! What only Chronicle's users need: where its database lies.

pub mod discover;
