//! What a database says of a value that only it can read.

/// What a database makes of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It holds the same value and spells it like this.
    Same(String),
    /// It holds less than the value says: this, which it spells like this.
    Less(String),
    /// It does not take the value, and says why in its own words.
    Refused(String),
}
