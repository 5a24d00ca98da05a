//! Databases with every odd value that the layout of the hooks does not refuse.

use std::path::Path;

use rusqlite::{Connection, params_from_iter};

use super::payload::{Kind, PROJECTS};
use super::{HOOKS, Moment, Random, open};

/// A value of any of SQLite's storage classes; texts are bytes, valid or not.
#[derive(Clone)]
enum Value {
    Null,
    Integer(i64),
    Real(f64),
    Text(Vec<u8>),
    Blob(Vec<u8>),
}

/// A column of the hooks layout, as far as it limits what may be in it.
struct Column {
    name: &'static str,
    not_null: bool,
    not_negative: bool,
}

const fn column(name: &'static str) -> Column {
    Column { name, not_null: false, not_negative: false }
}

const SESSION_COLUMNS: [Column; 9] = [
    column("id"),
    column("claude_session_id"),
    column("start_time"),
    column("end_time"),
    column("project_path"),
    column("git_branch"),
    column("metadata"),
    column("created_at"),
    column("updated_at"),
];
const EVENT_COLUMNS: [Column; 8] = [
    column("id"),
    Column { not_null: true, ..column("session_id") },
    Column { not_null: true, ..column("event_type") },
    Column { not_null: true, ..column("timestamp") },
    Column { not_null: true, ..column("data") },
    column("tool_name"),
    Column { not_negative: true, ..column("duration_ms") },
    column("created_at"),
];

/// Makes a hooks database of `rows` events and a quarter as many sessions (at least one of each), with everything in
/// it that the layout does not refuse. From about 1,300 rows on, each odd value is in each column of events at least
/// once.
pub(crate) fn hostile_hooks_database(path: &Path, rows: u32, seed: u64) -> rusqlite::Result<()> {
    let database = open(path)?;
    database.execute_batch(HOOKS)?;
    database.execute_batch("BEGIN")?;
    let mut random = Random::new(seed);
    let odd = odd_values();
    let sessions = (rows / 4).max(1);
    hostile_table(&database, "sessions", &SESSION_COLUMNS, sessions, &odd, &[], &mut random)?;
    let ids = stored_ids(&database)?;
    hostile_table(&database, "events", &EVENT_COLUMNS, rows.max(1), &odd, &ids, &mut random)?;
    database.execute_batch("COMMIT")
}

/// Inserts `rows` rows. Each forces one odd value into one column, in turn; the other columns are odd or plain by chance.
fn hostile_table(
    database: &Connection,
    table: &str,
    columns: &[Column],
    rows: u32,
    odd: &[Value],
    session_ids: &[Value],
    random: &mut Random,
) -> rusqlite::Result<()> {
    // A text goes in as its bytes and is made a text there: rusqlite's own texts are always valid.
    let slots: Vec<String> = (0..columns.len())
        .map(|at| {
            format!("CASE WHEN ?{0} THEN CAST(?{1} AS TEXT) ELSE ?{1} END", 2 * at + 1, 2 * at + 2)
        })
        .collect();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    let sql = format!(
        "INSERT OR IGNORE INTO {table} ({}) VALUES ({})",
        names.join(", "),
        slots.join(", ")
    );
    let mut insert = database.prepare(&sql)?;
    let mut turn = random.below((columns.len() * odd.len()) as u64) as usize;
    let mut done = 0;
    while done < rows {
        turn += 1;
        let forced = (turn % columns.len(), turn / columns.len() % odd.len());
        let mut values = Vec::with_capacity(2 * columns.len());
        for (at, column) in columns.iter().enumerate() {
            let value = if forced.0 == at {
                odd[forced.1].clone()
            } else if random.one_in(4) {
                random.pick(&odd[..odd.len() - HUGE])
            } else if column.name == "session_id" && !session_ids.is_empty() && !random.one_in(5) {
                random.pick(session_ids)
            } else {
                plain_value(column.name, random)
            };
            let value =
                if column.accepts(&value) { value } else { plain_value(column.name, random) };
            let (is_text, value) = value.bound();
            values.push(rusqlite::types::Value::Integer(is_text.into()));
            values.push(value);
        }
        // An id or natural key that exists already is ignored; the next row has others.
        done += insert.execute(params_from_iter(values))? as u32;
    }
    Ok(())
}

fn stored_ids(database: &Connection) -> rusqlite::Result<Vec<Value>> {
    use rusqlite::types::ValueRef;
    let mut statement =
        database.prepare("SELECT id FROM sessions WHERE id IS NOT NULL ORDER BY rowid")?;
    let ids = statement.query_map([], |row| {
        Ok(match row.get_ref(0)? {
            ValueRef::Text(bytes) => Value::Text(bytes.to_vec()),
            ValueRef::Blob(bytes) => Value::Blob(bytes.to_vec()),
            ValueRef::Integer(value) => Value::Integer(value),
            ValueRef::Real(value) => Value::Real(value),
            ValueRef::Null => Value::Null,
        })
    })?;
    ids.collect()
}

impl Column {
    /// Whether the layout lets the value in.
    fn accepts(&self, value: &Value) -> bool {
        match value {
            Value::Null => !self.not_null,
            Value::Integer(value) => !self.not_negative || *value >= 0,
            Value::Real(value) => !self.not_negative || *value >= 0.0,
            // What looks like a number becomes one in a column of numbers.
            Value::Text(text) => !self.not_negative || !text.trim_ascii().starts_with(b"-"),
            Value::Blob(_) => true,
        }
    }
}

impl Value {
    /// Whether it is a text, and what to bind.
    fn bound(self) -> (bool, rusqlite::types::Value) {
        use rusqlite::types::Value as Bound;
        match self {
            Value::Null => (false, Bound::Null),
            Value::Integer(value) => (false, Bound::Integer(value)),
            Value::Real(value) => (false, Bound::Real(value)),
            Value::Text(bytes) => (true, Bound::Blob(bytes)),
            Value::Blob(bytes) => (false, Bound::Blob(bytes)),
        }
    }
}

/// What Chronicle itself would put there.
fn plain_value(column: &str, random: &mut Random) -> Value {
    let moment = Moment { micros: random.below(300 * 86_400_000_000) };
    let text = match column {
        "id" | "claude_session_id" | "session_id" => random.uuid(),
        "start_time" | "end_time" | "timestamp" => moment.iso(),
        "created_at" | "updated_at" => moment.seconds(' '),
        "event_type" => Kind::any(random).name.to_owned(),
        "data" => format!("{{\"hook_event_name\": \"Stop\", \"number\": {}}}", random.below(1_000)),
        "project_path" => random.pick(&PROJECTS).to_owned(),
        "duration_ms" => {
            return if random.one_in(2) {
                Value::Null
            } else {
                Value::Integer(random.below(9_000) as i64)
            };
        }
        _ => return Value::Null,
    };
    Value::Text(text.into_bytes())
}

/// How many of the odd values, the last ones, are so long that they occur only in their turn.
const HUGE: usize = 2;

/// Everything that has ever broken a program that moves databases.
fn odd_values() -> Vec<Value> {
    const UUID: &str = "6f1c0b52-9d3e-4a7b-8c15-2e4f60718293";
    let mut values = vec![Value::Null];
    values.extend(
        [
            0,
            1,
            -1,
            2025,
            20_250_102,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            1 << 31,
            (1 << 31) - 1,
            (1 << 53) + 1,
        ]
        .map(Value::Integer),
    );
    values.extend(
        [
            1.5,
            0.1,
            -0.0,
            1e22,
            -1e22,
            5e-324,
            f64::MIN_POSITIVE,
            f64::MAX,
            f64::MIN,
            1e15,
            1e16,
            9.007_199_254_740_993e15,
        ]
        .map(Value::Real),
    );
    values.extend(
        [f64::INFINITY, f64::NEG_INFINITY, 1.0 / 3.0, 1_735_689_600.123_456].map(Value::Real),
    );
    values.extend(
        [&b""[..], b"\0", b"abc", b"\xff\xfe\x00", b"{\"a\": 1}", UUID.as_bytes(), &[0x6f; 16]]
            .map(|bytes| Value::Blob(bytes.to_vec())),
    );
    values.extend(
        [
            // Not UTF-8, or only nearly; NUL; what a terminal or a line-wise reader trips over.
            &b"\xff"[..],
            b"caf\xe9",
            b"\xc3",
            b"\xed\xa0\x80",
            b"\xf4\x90\x80\x80",
            b"\xc0\xaf",
            b"a\0b",
            b"\0",
            b"{\"a\": \"\xe9\"}",
            b"{\"a\": 1}\0",
        ]
        .map(|bytes| Value::Text(bytes.to_vec())),
    );
    let texts = [
        // Blanks, line ends, direction marks, the end of Unicode.
        "",
        " ",
        "\n",
        "\r\n",
        "a\u{2028}b\u{2029}c",
        "\u{feff}",
        "\u{202e}abc",
        "\u{10ffff}",
        "\u{fffd}",
        "e\u{301}",
        "é",
        "\u{1b}[31mred",
        "\\N",
        "\\.",
        "NULL",
        "null",
        "None",
        "'; DROP TABLE events; --",
        "tab\tquote\"backslash\\",
        // What looks like a number, and what does not quite.
        "123",
        "1.5",
        "1e3",
        "1e400",
        "-0",
        " 7 ",
        "0x1F",
        "9223372036854775808",
        "Infinity",
        "nan",
        "٣",
        // Ids that look alike.
        UUID,
        "6F1C0B52-9D3E-4A7B-8C15-2E4F60718293",
        "6f1c0b529d3e4a7b8c152e4f60718293",
        "{6f1c0b52-9d3e-4a7b-8c15-2e4f60718293}",
        "urn:uuid:6f1c0b52-9d3e-4a7b-8c15-2e4f60718293",
        " 6f1c0b52-9d3e-4a7b-8c15-2e4f60718293",
        "6f1c0b52-9d3e-4a7b-8c15-2e4f6071829",
        "00000000-0000-0000-0000-000000000000",
        // Times.
        "2025-01-02T03:04:05",
        "2025-01-02T03:04:05.9999999",
        "2025-01-02T03:04:60",
        "2025-01-02T24:00:00",
        "2025-02-30T00:00:00",
        "2025-03-30T02:30:00",
        "2025-10-26T02:30:00",
        "2025-01-02 03:04:05Z",
        "2025-01-02T03:04:05+05:45",
        "2025-01-02T03:04:05-25:00",
        "0000-01-01T00:00:00",
        "-0044-03-15T00:00:00",
        "294277-01-01T00:00:00Z",
        "now",
        "infinity",
        "epoch",
        "1735689600",
        "20250102",
        // Event types of other times, and of none.
        "tool_use",
        "subagent_termination",
        "STOP",
        "stop ",
        // JSON, and what is nearly JSON.
        "{}",
        "[]",
        "0",
        "-0.0",
        "true",
        "\"text\"",
        "{\"a\": NaN, \"b\": [Infinity, -Infinity]}",
        "{\"a\": \"\\u0000\"}",
        "{\"a\": \"\\ud800\"}",
        "{\"a\": \"\\udc00\\ud800\"}",
        "{\"\\ud83c\\udf75\": \"\\ud83c\\udf75 🍵\"}",
        "{\"a\": 1, \"a\": 2, \"b\": {\"c\": 1, \"c\": [1]}}",
        "{\"a\": 1e400, \"b\": -1e400, \"c\": 1e-400}",
        "{\"a\": 1E5, \"b\": 1.10, \"c\": -0.0, \"d\": 123456789012345678901234567890}",
        "{\"a\": 9007199254740993, \"b\": 0.1000000000000000055511151231257827}",
        "{\n    \"pretty\": {\n        \"printed\": [\n            1,\n            2\n        ]\n    }\n}\n",
        "\u{feff}{\"a\": 1}",
        "{\"a\": \"raw\ttab and\nline\"}",
        "{\"a\": 1,}",
        "{'a': 1}",
        "{\"a\": 1} {\"b\": 2}",
        "{\"a\": 1} // why",
        "{\"\": {\"\": \"\"}, \"__proto__\": 1, \"$.a\": 2}",
        "{\"a\": \"\\/\\b\\f\\u00e9\\u00E9é\\\\u0000\"}",
        "{\"a\"",
        "{\"session_termination\": 1}",
    ];
    values.extend(texts.map(|text| Value::Text(text.into())));
    for depth in [150, 2_000] {
        values.push(Value::Text(("[".repeat(depth) + &"]".repeat(depth)).into()));
        values.push(Value::Text(("{\"a\":".repeat(depth) + "1" + &"}".repeat(depth)).into()));
    }
    // Once as JSON, once as neither JSON nor UTF-8.
    let huge = "line of a long output, é and 🍵\\n".repeat(9_000);
    values.push(Value::Text(format!("{{\"huge\": \"{huge}\"}}").into()));
    values.push(Value::Text(b"\xe9\0 long".repeat(40_000)));
    values
}
