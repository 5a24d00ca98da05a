//! Chronicle databases out of a number: realistic ones of any size, and hostile ones. Same number, same database.

mod hostile;
mod payload;

#[allow(unused_imports, reason = "the example makes no hostile ones")]
pub(crate) use hostile::hostile_hooks_database;
use payload::{BRANCHES, Event, KINDS, Kind, PROJECTS, Style, TOOLS, Words};

use std::path::Path;

use rusqlite::{Connection, ToSql, params};

const HOOKS: &str = include_str!("../../../../fixtures/databases/sqlite-hooks.sql");
const SERVER: &str = include_str!("../../../../fixtures/databases/sqlite-server.sql");

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
        // The triggers of the server would count every event, and indexes are built faster when all rows exist.
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

/// Opens a new file: without syncing, for speed, and with foreign keys off, as in SQLite by default.
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

/// The size of the payload at `rank` (0 to 1) among all, by size.
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
