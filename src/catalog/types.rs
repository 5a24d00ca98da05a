//! What a column of a database can hold.

/// What SQLite does with a value that is stored in a column (its "type affinity").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Affinity {
    /// Numbers become text.
    Text,
    /// As numeric; the column is declared to hold integers.
    Integer,
    /// Text that looks like a number becomes one, reals without a fraction become integers.
    Numeric,
    /// Text that looks like a number becomes one, integers become reals.
    Real,
    /// Everything stays what it is.
    Blob,
}

/// What a column can hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnType {
    /// A column of SQLite.
    Sqlite(Affinity),
    /// `uuid`.
    Uuid,
    /// `text` and its kin, with the most characters if limited.
    Text(Option<u32>),
    /// An integer of 2, 4 or 8 bytes.
    Int(u8),
    /// A float of 4 or 8 bytes.
    Float(u8),
    /// `boolean`.
    Bool,
    /// `timestamptz`.
    Timestamptz,
    /// `json`.
    Json,
    /// `jsonb`.
    Jsonb,
    /// `bytea`.
    Bytea,
    /// Any other type of Postgres, with its name: loaded as text and cast by the server.
    Cast(String),
}

impl ColumnType {
    /// Whether it holds integers and nothing else.
    pub fn is_integer(&self) -> bool {
        matches!(self, ColumnType::Int(_) | ColumnType::Sqlite(Affinity::Integer))
    }

    /// The type as people know it.
    pub fn name(&self) -> String {
        match self {
            ColumnType::Sqlite(Affinity::Text) => "SQLite text".into(),
            ColumnType::Sqlite(Affinity::Integer) => "SQLite integer".into(),
            ColumnType::Sqlite(Affinity::Numeric) => "SQLite numeric".into(),
            ColumnType::Sqlite(Affinity::Real) => "SQLite real".into(),
            ColumnType::Sqlite(Affinity::Blob) => "SQLite".into(),
            ColumnType::Uuid => "uuid".into(),
            ColumnType::Text(None) => "text".into(),
            ColumnType::Text(Some(n)) => format!("varchar({n})"),
            ColumnType::Int(bytes) => format!("int{bytes}"),
            ColumnType::Float(bytes) => format!("float{bytes}"),
            ColumnType::Bool => "boolean".into(),
            ColumnType::Timestamptz => "timestamptz".into(),
            ColumnType::Json => "json".into(),
            ColumnType::Jsonb => "jsonb".into(),
            ColumnType::Bytea => "bytea".into(),
            ColumnType::Cast(name) => name.clone(),
        }
    }
}
