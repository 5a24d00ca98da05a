//! A part of the rows of an archive or a database: which rows a [`Selection`](crate::selection::Selection) means, decided
//! row by row, so that a part is the same wherever it is taken from.

mod keys;
mod resolve;
mod seen;
mod selected;
mod selector;

pub use keys::SelectedKeys;
pub use resolve::{Need, resolve};
pub use selected::Selected;
pub use selector::Selector;
