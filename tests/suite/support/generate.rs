//! Chronicle databases out of a number: realistic ones of any size, and hostile ones. Same number, same database.

use std::fmt::Write;
use std::path::Path;

use rusqlite::{Connection, ToSql, params, params_from_iter};

const HOOKS: &str = include_str!("../../../fixtures/databases/sqlite-hooks.sql");
const SERVER: &str = include_str!("../../../fixtures/databases/sqlite-server.sql");

/// Makes a database as Chronicle's hooks write it. Payloads: 1 in 100 below 330 bytes, half below 680, 9 in 10 below
/// 4 KB, 99 in 100 below 19 KB, the largest near 380 KB, 1.9 KB on average; zstd -3 shrinks them to about a quarter.
pub(crate) fn hooks_database(
    path: &Path,
    sessions: u32,
    events: u32,
    seed: u64,
) -> rusqlite::Result<()> {
    Plan { layout: Layout::Hooks, sessions, events, seed }.write(path)
}

/// As `hooks_database`, but in the layout and the manner of Chronicle's local server.
pub(crate) fn server_database(
    path: &Path,
    sessions: u32,
    events: u32,
    seed: u64,
) -> rusqlite::Result<()> {
    Plan { layout: Layout::Server, sessions, events, seed }.write(path)
}

/// The splitmix64 generator: small, seedable, good enough for data.
pub(crate) struct Random(u64);

impl Random {
    /// A generator whose numbers depend on the seed alone.
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of the values.
    pub(crate) fn pick<T: Clone>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize].clone()
    }

    /// A number in [0, 1).
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A version 4 uuid in lower case.
    pub(crate) fn uuid(&mut self) -> String {
        let (a, b) = (self.next(), self.next());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            a >> 32,
            (a >> 16) & 0xffff,
            a & 0xfff,
            0x8000 | (b >> 48) & 0x3fff,
            b & 0xffff_ffff_ffff
        )
    }
}

/// A moment, counted from the beginning of 2025. It knows no leap years: it is for data, not for dates.
#[derive(Clone, Copy)]
struct Moment {
    micros: u64,
}

impl Moment {
    /// `2025-03-04<separator>05:06:07`
    fn seconds(self, separator: char) -> String {
        const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let seconds = self.micros / 1_000_000;
        let year = 2025 + seconds / 86_400 / 365;
        let mut day = seconds / 86_400 % 365;
        let mut month = 0;
        while day >= MONTHS[month] {
            day -= MONTHS[month];
            month += 1;
        }
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        format!(
            "{year}-{:02}-{:02}{separator}{hour:02}:{minute:02}:{second:02}",
            month + 1,
            day + 1
        )
    }

    /// As Python's `isoformat()`, which leaves microseconds out when they are 0.
    fn iso(self) -> String {
        let seconds = self.seconds('T');
        match self.micros % 1_000_000 {
            0 => seconds,
            micros => format!("{seconds}.{micros:06}"),
        }
    }

    fn plus(self, micros: u64) -> Moment {
        Moment { micros: self.micros + micros }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Hooks,
    Server,
}

/// What to generate.
struct Plan {
    layout: Layout,
    sessions: u32,
    events: u32,
    seed: u64,
}

struct Session {
    id: String,
    claude_id: String,
    project: &'static str,
    branch: &'static str,
    /// The time of its latest event, as far as written.
    now: Moment,
    ended: Option<Moment>,
    events: u32,
}

impl Plan {
    fn write(&self, path: &Path) -> rusqlite::Result<()> {
        let database = open(path)?;
        database.execute_batch(match self.layout {
            Layout::Hooks => HOOKS,
            Layout::Server => SERVER,
        })?;
        // The triggers of the server would count every event, and indexes are made faster when all is there.
        let later = set_aside(&database)?;
        database.execute_batch("BEGIN")?;
        let mut random = Random::new(self.seed);
        let mut sessions: Vec<Session> =
            (0..self.sessions.max(1)).map(|_| self.session(&mut random)).collect();
        self.write_events(&database, &mut sessions, &mut random)?;
        self.write_sessions(&database, &sessions)?;
        for sql in later {
            database.execute_batch(&sql)?;
        }
        database.execute_batch("COMMIT")?;
        if self.layout == Layout::Server {
            database.pragma_update(None, "journal_mode", "wal")?;
        }
        Ok(())
    }

    fn session(&self, random: &mut Random) -> Session {
        let start = random.below(300 * 86_400_000_000);
        let claude_id = random.uuid();
        Session {
            id: random.uuid(),
            claude_id: if random.one_in(40) { claude_id.to_uppercase() } else { claude_id },
            project: random.pick(&PROJECTS),
            branch: random.pick(&BRANCHES),
            now: Moment { micros: start },
            ended: None,
            events: 0,
        }
    }

    fn write_events(
        &self,
        database: &Connection,
        sessions: &mut [Session],
        random: &mut Random,
    ) -> rusqlite::Result<()> {
        let mut insert = database.prepare(match self.layout {
            Layout::Hooks => {
                "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name, created_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            }
            Layout::Server => {
                "INSERT INTO chronicle_events (id, session_id, event_type, timestamp, metadata, tool_name, created_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?)"
            }
        })?;
        let words = Words::new(random);
        let mut text = String::new();
        let mut payload = String::new();
        // Sessions run one after the other, a few at a time, as they do in life.
        let length = u64::from(self.events).div_ceil(sessions.len() as u64);
        for number in 0..self.events {
            let around = u64::from(number) / length.max(1);
            let at = (around + random.below(3)).min(sessions.len() as u64 - 1) as usize;
            let session = &mut sessions[at];
            session.now = session.now.plus(1 + random.below(40_000_000));
            if random.one_in(5_000) {
                session.now.micros -= session.now.micros % 1_000_000;
            }
            let kind = if session.events == 0 { &KINDS[0] } else { Kind::any(random) };
            let size = payload_size(random.fraction());
            let compact = self.layout == Layout::Server || random.one_in(4);
            let style = if compact { Style::Compact } else { Style::Ascii };
            let tool = kind.has_tool.then(|| random.pick(&TOOLS));
            let event = Event { session, kind, tool, size, style };
            event.payload(&words, random, &mut text, &mut payload);
            session.events += 1;
            if kind.name == "stop" && session.ended.is_none() && self.layout == Layout::Server {
                session.ended = Some(session.now);
            }
            insert.execute(params![
                random.uuid(),
                session.id,
                kind.name,
                self.time(session.now),
                payload,
                tool,
                session.now.plus(14 * 3_600_000_000).seconds(' ')
            ])?;
        }
        Ok(())
    }

    fn write_sessions(&self, database: &Connection, sessions: &[Session]) -> rusqlite::Result<()> {
        let mut insert = database.prepare(match self.layout {
            Layout::Hooks => {
                "INSERT INTO sessions (id, claude_session_id, start_time, project_path, created_at, updated_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?5)"
            }
            Layout::Server => {
                "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, project_path, created_at, \
                 updated_at, end_time, git_branch, metadata, event_count) VALUES (?1, ?2, ?3, ?4, ?5, ?5, ?6, ?7, ?8, ?9)"
            }
        })?;
        for session in sessions {
            let created = session.now.plus(7 * 3_600_000_000).seconds(' ');
            let start = self.time(session.now);
            let mut values: Vec<&dyn ToSql> =
                vec![&session.id, &session.claude_id, &start, &session.project, &created];
            let ended = session.ended.map(|moment| self.time(moment));
            let metadata =
                format!("{{\"source\":\"startup\",\"git_commit\":\"{}\"}}", &session.id[..8]);
            if self.layout == Layout::Server {
                values.extend([&ended as &dyn ToSql, &session.branch, &metadata, &session.events]);
            }
            insert.execute(values.as_slice())?;
        }
        Ok(())
    }

    /// The hooks write wall time without a zone, the server UTC with one.
    fn time(&self, moment: Moment) -> String {
        match self.layout {
            Layout::Hooks => moment.iso(),
            Layout::Server => moment.iso() + "+00:00",
        }
    }
}

/// Opens a new file: without syncing, for speed, and with foreign keys off, as in SQLite unless compiled otherwise.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let database = Connection::open(path)?;
    database.pragma_update(None, "synchronous", "off")?;
    database.pragma_update(None, "foreign_keys", "off")?;
    Ok(database)
}

/// Drops triggers and indexes and gives the SQL that makes them again.
fn set_aside(database: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut statement = database.prepare(
        "SELECT type, name, sql FROM sqlite_master WHERE type IN ('index', 'trigger') AND sql IS NOT NULL ORDER BY rowid",
    )?;
    let found: Vec<(String, String, String)> = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<_, _>>()?;
    drop(statement);
    for (kind, name, _) in &found {
        database.execute_batch(&format!("DROP {kind} \"{name}\""))?;
    }
    Ok(found.into_iter().map(|(_, _, sql)| sql).collect())
}

/// The size of the payload that stands at `rank` (0 to 1) among all, by size.
fn payload_size(rank: f64) -> usize {
    const CURVE: [(f64, f64); 10] = [
        (0.0, 300.0),
        (0.01, 330.0),
        (0.5, 680.0),
        (0.75, 1_400.0),
        (0.9, 4_000.0),
        (0.95, 7_500.0),
        (0.99, 19_000.0),
        (0.999, 32_000.0),
        (0.9999, 100_000.0),
        (1.0, 380_000.0),
    ];
    let after = CURVE.iter().position(|(at, _)| rank < *at).unwrap_or(CURVE.len() - 1);
    let ((from, small), (to, large)) = (CURVE[after - 1], CURVE[after]);
    (small * (large / small).powf((rank - from) / (to - from))) as usize
}

/// How the JSON is written: as Python's `json.dumps`, or as a web server does.
#[derive(Clone, Copy, PartialEq)]
enum Style {
    Ascii,
    Compact,
}

struct Kind {
    name: &'static str,
    hook: &'static str,
    body: &'static str,
    has_tool: bool,
    /// How many of a thousand events are of this kind.
    share: u64,
}

const KINDS: [Kind; 9] = [
    Kind {
        name: "session_start",
        hook: "SessionStart",
        body: "git_status",
        has_tool: false,
        share: 20,
    },
    Kind {
        name: "user_prompt_submit",
        hook: "UserPromptSubmit",
        body: "prompt",
        has_tool: false,
        share: 70,
    },
    Kind {
        name: "pre_tool_use",
        hook: "PreToolUse",
        body: "tool_input",
        has_tool: true,
        share: 390,
    },
    Kind {
        name: "post_tool_use",
        hook: "PostToolUse",
        body: "tool_response",
        has_tool: true,
        share: 390,
    },
    Kind {
        name: "notification",
        hook: "Notification",
        body: "message",
        has_tool: false,
        share: 40,
    },
    Kind { name: "stop", hook: "Stop", body: "last_message", has_tool: false, share: 50 },
    Kind {
        name: "subagent_stop",
        hook: "SubagentStop",
        body: "result",
        has_tool: false,
        share: 20,
    },
    Kind {
        name: "pre_compact",
        hook: "PreCompact",
        body: "custom_instructions",
        has_tool: false,
        share: 10,
    },
    Kind { name: "error", hook: "PostToolUse", body: "error_message", has_tool: false, share: 10 },
];

impl Kind {
    fn any(random: &mut Random) -> &'static Kind {
        let mut rank = random.below(1_000);
        for kind in &KINDS {
            if rank < kind.share {
                return kind;
            }
            rank -= kind.share;
        }
        &KINDS[0]
    }
}

struct Event<'a> {
    session: &'a Session,
    kind: &'static Kind,
    tool: Option<&'static str>,
    size: usize,
    style: Style,
}

impl Event<'_> {
    /// Writes the payload into `out`: its usual keys, and then text up to its size.
    fn payload(&self, words: &Words, random: &mut Random, text: &mut String, out: &mut String) {
        let (comma, colon) = match self.style {
            Style::Ascii => (", ", ": "),
            Style::Compact => (",", ":"),
        };
        let Session { claude_id, project, branch, .. } = self.session;
        let name = project.rsplit('/').next().unwrap_or_default();
        out.clear();
        let pair = |out: &mut String, key: &str, value: &str| {
            out.push_str(if out.is_empty() { "{" } else { comma });
            push_json(out, key, self.style);
            out.push_str(colon);
            push_json(out, value, self.style);
        };
        pair(out, "session_id", claude_id);
        pair(
            out,
            "transcript_path",
            &format!("/Users/robin/.claude/projects/{name}/{claude_id}.jsonl"),
        );
        pair(out, "cwd", project);
        pair(out, "hook_event_name", self.kind.hook);
        if self.kind.name == "session_start" {
            pair(out, "git_branch", branch);
        }
        if let Some(tool) = self.tool {
            pair(out, "tool_name", tool);
        }
        let key = |out: &mut String, key: &str| {
            out.push_str(comma);
            push_json(out, key, self.style);
            out.push_str(colon);
        };
        if self.kind.name == "post_tool_use" {
            key(out, "duration_ms");
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", 3 + random.below(9_000));
        }
        key(out, self.kind.body);
        let nested = self.tool.is_some();
        if nested {
            out.push('{');
            push_json(out, "file_path", self.style);
            out.push_str(colon);
            text.clear();
            text.push_str(project);
            text.push('/');
            words.push_path(random, text);
            push_json(out, text, self.style);
            key(out, "content");
        }
        text.clear();
        let room = self.size.saturating_sub(out.len() + 4);
        // An escape takes more room than its character; 1 in 20 is about what the text holds.
        let aim = room - room / 20;
        while text.len() < aim {
            words.push_line(random, text);
        }
        cut(text, aim);
        push_json(out, text, self.style);
        out.push_str(if nested { "}}" } else { "}" });
    }
}

/// Shortens a text to at most `size` bytes.
fn cut(text: &mut String, size: usize) {
    let end = (0..=size.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
}

/// Appends a JSON string.
fn push_json(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() || style == Style::Compact => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

const PROJECTS: [&str; 6] = [
    "/Users/robin/code/greenhouse",
    "/Users/robin/code/recipe-box",
    "/Users/robin/code/tide-tables",
    "/Users/robin/code/chess-clock",
    "/home/robin/src/café-menu",
    "/home/robin/src/weather-station/firmware",
];
const BRANCHES: [&str; 4] = ["main", "feature/dry-run", "fix/rounding", "release/1.4"];
const TOOLS: [&str; 8] =
    ["Read", "Edit", "Bash", "Grep", "Write", "Glob", "Task", "mcp__notes__search"];

/// A vocabulary, from which text, code and logs are made.
struct Words {
    words: Vec<String>,
}

impl Words {
    fn new(random: &mut Random) -> Words {
        const SYLLABLES: [&str; 40] = [
            "ta", "re", "con", "mi", "so", "ver", "lo", "pa", "ni", "tion", "er", "ing", "al",
            "ment", "de", "un", "in", "pro", "ble", "ma", "se", "ca", "ro", "ist", "ex", "per",
            "of", "the", "an", "or", "st", "ec", "ib", "ul", "qu", "fe", "gra", "ph", "wa", "key",
        ];
        let mut words: Vec<String> = (0..1_200)
            .map(|_| (0..2 + random.below(2)).map(|_| random.pick(&SYLLABLES)).collect())
            .collect();
        // Some that are not ASCII, one in sixty.
        for word in ["café", "naïve", "größe", "señal", "→", "✓", "豆腐", "тест", "🍵", "€"]
        {
            words.extend(std::iter::repeat_n(word.to_owned(), 4));
        }
        Words { words }
    }

    /// A word; some are far more frequent than others, as in any language.
    fn word(&self, random: &mut Random) -> &str {
        let rank = random.fraction();
        &self.words[(rank * rank * rank * self.words.len() as f64) as usize]
    }

    fn push_path(&self, random: &mut Random, out: &mut String) {
        const ENDINGS: [&str; 6] = ["py", "ts", "rs", "md", "json", "tsx"];
        let _ = write!(
            out,
            "src/{}/{}.{}",
            self.word(random),
            self.word(random),
            random.pick(&ENDINGS)
        );
    }

    fn push_line(&self, random: &mut Random, out: &mut String) {
        let mut word = || self.word(random).to_owned();
        let (a, b, c, d) = (word(), word(), word(), word());
        let number = random.below(1_000);
        // Writing to a string cannot fail.
        let _ = match random.below(12) {
            0 => writeln!(out, "    if {a}.{b} is None:\n        return {c}(self.{d})"),
            1 => writeln!(out, "export function {a}({b}: string, {c}: number): Promise<{d}> {{"),
            2 => writeln!(
                out,
                "    let {a} = self.{b}.iter().filter(|{c}| {c}.{d} > {number}).count();"
            ),
            3 => writeln!(
                out,
                "2025-03-{:02} 10:{:02}:11 INFO {a}.{b}: {c} {d} took {number} ms",
                number % 28 + 1,
                number % 60
            ),
            4 => writeln!(out, "        \"{a}\": \"{b} {c}\","),
            5 => writeln!(out, "commit {:010x}\n    {a} {b} {c}", random.next() >> 24),
            6 => writeln!(out, "src/{a}/{b}.py:{number}: error: {c} has no attribute \"{d}\""),
            7 => writeln!(out, "}}\n"),
            8 => writeln!(out, "\treturn fmt.Errorf(\"{a} {b}: %w\", err)"),
            _ => writeln!(
                out,
                "{a} {b} {c} {d} {} {} {}.",
                self.word(random),
                self.word(random),
                self.word(random)
            ),
        };
    }
}

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
/// it that the layout does not refuse. From about 1,300 rows on, each odd value stands in each column of events at least once.
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
        // An id or natural key that is there already is ignored; the next row has others.
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

/// How many of the odd values, the last ones, are so long that they stand only where their turn is.
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
