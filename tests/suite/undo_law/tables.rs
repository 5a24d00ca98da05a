//! The tables of the walks, in both kinds of database, and random rows for them.

use crate::support::generate::Random;

/// What a column holds.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// A whole number from 1 to this.
    Id(u64),
    /// A word of so many.
    Word(u64),
    /// A UUID of so many, of a family.
    Uuid(u8, u64),
    /// A name of so many.
    Name(u64),
    /// Anything.
    Odd,
    /// A text, or bytes in the form of a text.
    Text,
    Json,
    Real,
    Whole,
    Time,
    Event,
}

/// A column: its name in SQLite, its name in Postgres, and what it holds.
pub(super) type Column = (&'static str, &'static str, Kind);

/// A table: its name in SQLite and in Postgres, how many columns its key has, and its columns, the key first.
pub(super) struct Table {
    pub(super) file: &'static str,
    pub(super) server: &'static str,
    pub(super) key: usize,
    pub(super) columns: &'static [Column],
}

/// Tables that belong together.
pub(super) struct Tables {
    pub(super) name: &'static str,
    pub(super) all: &'static [Table],
    /// How the tables are made; of Chronicle's own they are fixtures.
    pub(super) ddl: Option<[&'static str; 2]>,
    /// The streams of the layout file, with their roles and keys.
    pub(super) streams: &'static [(&'static str, &'static str, &'static [&'static str])],
    /// The column that archives may have and the tables lack.
    pub(super) extra: &'static str,
}

use Kind::{Event, Id, Json, Name, Odd, Real, Text, Time, Uuid, Whole, Word};

/// Tables of Chronicle's layout.
pub(super) const CHRONICLE: Tables = Tables {
    name: "chronicle",
    all: &[
        Table {
            file: "sessions",
            server: "chronicle_sessions",
            key: 1,
            columns: &[
                ("id", "id", Uuid(1, 8)),
                ("claude_session_id", "claude_session_id", Name(10)),
                ("start_time", "start_time", Time),
                ("project_path", "project_path", Text),
                ("metadata", "metadata", Json),
            ],
        },
        Table {
            file: "events",
            server: "chronicle_events",
            key: 1,
            columns: &[
                ("id", "id", Uuid(2, 16)),
                ("session_id", "session_id", Uuid(1, 9)),
                ("event_type", "event_type", Event),
                ("timestamp", "timestamp", Time),
                ("data", "metadata", Json),
                ("tool_name", "tool_name", Text),
                ("duration_ms", "duration_ms", Whole),
            ],
        },
    ],
    ddl: None,
    streams: &[],
    extra: "events",
};

/// Tables of a layout file: keys of one, two and three columns, a child, a tree, numbers that the database gives, and
/// unique values that may be missing.
pub(super) const GENERAL: Tables = Tables {
    name: "general",
    all: &[
        Table {
            file: "two",
            server: "two",
            key: 2,
            columns: &[
                ("a", "a", Word(3)),
                ("b", "b", Id(3)),
                ("start_time", "start_time", Time),
                ("v", "v", Odd),
            ],
        },
        Table {
            file: "one",
            server: "one",
            key: 1,
            columns: &[("id", "id", Id(6)), ("v", "v", Odd), ("j", "j", Json), ("r", "r", Real)],
        },
        Table {
            file: "three",
            server: "three",
            key: 3,
            columns: &[("a", "a", Word(2)), ("b", "b", Id(2)), ("c", "c", Id(3)), ("v", "v", Text)],
        },
        Table {
            file: "child",
            server: "child",
            key: 1,
            columns: &[
                ("id", "id", Id(8)),
                ("a", "a", Word(3)),
                ("b", "b", Id(4)),
                ("v", "v", Text),
            ],
        },
        Table {
            file: "tree",
            server: "tree",
            key: 1,
            columns: &[("id", "id", Id(6)), ("up", "up", Id(7)), ("v", "v", Text)],
        },
        Table {
            file: "numbered",
            server: "numbered",
            key: 1,
            columns: &[("id", "id", Id(9)), ("u", "u", Name(9)), ("v", "v", Odd)],
        },
    ],
    ddl: Some([
        "CREATE TABLE two (a TEXT, b INTEGER, start_time TEXT, v, PRIMARY KEY (a, b)); \
         CREATE TABLE one (id INTEGER PRIMARY KEY, v, j, r REAL); \
         CREATE TABLE three (a TEXT, b INTEGER, c INTEGER, v TEXT, PRIMARY KEY (a, b, c)) WITHOUT ROWID; \
         CREATE TABLE child (id INTEGER PRIMARY KEY, a TEXT, b INTEGER, v TEXT, \
             FOREIGN KEY (a, b) REFERENCES two (a, b)); \
         CREATE TABLE tree (id INTEGER PRIMARY KEY, up INTEGER REFERENCES tree, v TEXT); \
         CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, u TEXT UNIQUE, v);",
        "CREATE TABLE two (a text, b bigint, start_time text, v text, PRIMARY KEY (a, b)); \
         CREATE TABLE one (id bigint PRIMARY KEY, v text, j jsonb, r double precision); \
         CREATE TABLE three (a text, b bigint, c bigint, v text, PRIMARY KEY (a, b, c)); \
         CREATE TABLE child (id bigint PRIMARY KEY, a text, b bigint, v text, \
             FOREIGN KEY (a, b) REFERENCES two (a, b)); \
         CREATE TABLE tree (id bigint PRIMARY KEY, up bigint REFERENCES tree, v text); \
         CREATE TABLE numbered (id bigserial PRIMARY KEY, u text UNIQUE, v text);",
    ]),
    streams: &[
        ("two", "sessions", &["a", "b"]),
        ("one", "side", &["id"]),
        ("three", "side", &["a", "b", "c"]),
        ("child", "side", &["id"]),
        ("tree", "side", &["id"]),
        ("numbered", "side", &["id"]),
    ],
    extra: "one",
};

/// A table whose key the database does not keep unique, one without any in the database, and one whose key may be missing.
pub(super) const KEYLESS: Tables = Tables {
    name: "keyless",
    all: &[
        Table {
            file: "loose",
            server: "loose",
            key: 0,
            columns: &[("n", "n", Id(4)), ("v", "v", Odd)],
        },
        Table {
            file: "again",
            server: "again",
            key: 0,
            columns: &[("n", "n", Id(2)), ("v", "v", Word(2))],
        },
        Table {
            file: "maybe",
            server: "maybe",
            key: 0,
            columns: &[("k", "k", Word(5)), ("v", "v", Text)],
        },
    ],
    ddl: Some([
        "CREATE TABLE loose (n INTEGER, v); CREATE INDEX loose_n ON loose (n); \
         CREATE TABLE again (n INTEGER, v TEXT); CREATE TABLE maybe (k TEXT UNIQUE, v TEXT);",
        "CREATE TABLE loose (n bigint, v text); CREATE INDEX loose_n ON loose (n); \
         CREATE TABLE again (n bigint, v text); CREATE TABLE maybe (k text UNIQUE, v text);",
    ]),
    streams: &[("loose", "side", &["n"]), ("again", "side", &["n"]), ("maybe", "side", &["k"])],
    extra: "loose",
};

impl Kind {
    /// A random value as SQL of a SQLite source.
    fn in_source(self, random: &mut Random) -> String {
        const ODD: [&str; 14] = [
            "NULL",
            "''",
            "x''",
            "x'00ff'",
            "'a' || char(0) || 'b'",
            "CAST(x'ff41c3' AS TEXT)",
            "9223372036854775807",
            "-9223372036854775808",
            "0.1",
            "-0.0",
            "9e999",
            "1e300",
            "'\u{1F375}'",
            "''''",
        ];
        const JSON: [&str; 6] = [
            "'{}'",
            "'{\"a\": 1}'",
            "'{\"nul\": \"\\u0000\"}'",
            "'[1e400, 10000000000000000000000.5]'",
            "'{\"a\":1, \"a\":2}'",
            "'not json'",
        ];
        match self {
            Id(most) => (1 + random.below(most)).to_string(),
            Word(most) => format!("'w{}'", random.below(most)),
            Uuid(family, most) => format!("'{}'", uuid(family, random.below(most))),
            Name(most) => format!("'n{}'", random.below(most)),
            Odd if random.one_in(2) => random.pick(&ODD).to_owned(),
            Odd | Text => format!("'t{}'", random.below(30)),
            Json => match random.one_in(3) {
                true => random.pick(&JSON).to_owned(),
                false => format!("'{{\"n\":{}}}'", random.below(20)),
            },
            Real => random.pick(&["0.1", "-0.0", "NULL", "1e-300", "2.5"]).to_owned(),
            Whole => random.pick(&["NULL", "0", "7", "2147483647"]).to_owned(),
            Time => format!("'2025-08-{:02}T10:00:00Z'", 1 + random.below(28)),
            Event => format!("'{}'", random.pick(&["stop", "notification", "session_start"])),
        }
    }

    /// A value as SQL of either kind of database: one that nothing else has, but for keys and references.
    pub(super) fn by_hand(self, random: &mut Random, number: u64) -> String {
        match self {
            Odd | Text => format!("'hand {number}'"),
            Json => format!("'{{\"hand\": {number}}}'"),
            Real => format!("{number}.5"),
            Whole => number.to_string(),
            Id(most) => (1 + random.below(most + 3)).to_string(),
            other => other.in_source(random),
        }
    }

    /// Whether a hand may give it a value of its own.
    pub(super) fn is_free(self) -> bool {
        matches!(self, Odd | Text | Json | Real | Whole)
    }
}

/// A UUID of a family.
fn uuid(family: u8, number: u64) -> String {
    format!("0000000{family}-0000-4000-8000-{number:012}")
}

impl Table {
    /// A row as SQL of the source, which takes the place of others; `extra` is for the column that only archives have.
    pub(super) fn row(&self, random: &mut Random, extra: bool) -> String {
        let mut names: Vec<&str> = self.columns.iter().map(|(name, ..)| *name).collect();
        let mut values: Vec<String> =
            self.columns.iter().map(|(.., kind)| kind.in_source(random)).collect();
        if self.file == "maybe" && random.one_in(3) {
            values[0] = "NULL".into();
        }
        if let Some(refers) = self.columns.iter().position(|(name, ..)| ["a", "up"].contains(name))
            && refers >= self.key
            && random.one_in(2)
        {
            values[refers] = "NULL".into();
        }
        if extra {
            names.push("extra");
            values.push(random.pick(&["NULL", "'x'", "'y'", "''"]).to_owned());
        }
        format!(
            "INSERT OR REPLACE INTO {} ({}) VALUES ({});",
            self.file,
            names.join(", "),
            values.join(", ")
        )
    }

    /// The name in the database of a walk.
    pub(super) fn name(&self, server: bool) -> &'static str {
        if server { self.server } else { self.file }
    }

    /// Something that a hand does to a row, as SQL.
    pub(super) fn by_hand(&self, random: &mut Random, server: bool, number: u64) -> String {
        let name = |column: &Column| if server { column.1 } else { column.0 };
        let (table, columns) = (self.name(server), self.columns);
        if random.one_in(3) {
            let names: Vec<&str> = columns.iter().map(name).collect();
            let values: Vec<String> =
                columns.iter().map(|(.., kind)| kind.by_hand(random, number)).collect();
            return format!(
                "INSERT INTO {table} ({}) VALUES ({})",
                names.join(", "),
                values.join(", ")
            );
        }
        let key: Vec<&str> = match self.key {
            0 => vec![if server { "ctid" } else { "rowid" }],
            key => columns[..key].iter().map(name).collect(),
        };
        let all: Vec<&str> = columns.iter().map(name).collect();
        let chosen = format!(
            "({key}) IN (SELECT {key} FROM {table} ORDER BY {} LIMIT 1 OFFSET {})",
            all[..self.key.max(2)].join(", "),
            random.below(6),
            key = key.join(", "),
        );
        let free: Vec<&Column> = columns.iter().filter(|(.., kind)| kind.is_free()).collect();
        match random.one_in(3) || free.is_empty() {
            true => format!("DELETE FROM {table} WHERE {chosen}"),
            false => {
                let column = random.pick(&free);
                let value = column.2.by_hand(random, number);
                format!("UPDATE {table} SET {} = {value} WHERE {chosen}", name(column))
            }
        }
    }
}
