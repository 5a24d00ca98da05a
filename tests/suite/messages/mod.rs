//! Every message of the program in its full words, as it is printed and as the source has it.
//!
//! `UPDATE_DOCS=1 tests/run messages::` rewrites the captured words in `fixtures/messages/`.

mod errors;
mod notices;
mod servers;
mod texts;

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::cluster::{Cluster, Database};
use crate::support::files::fixture;
use crate::support::migrate::Scratch;
use crate::support::program::{Output, Program};

/// How a line on stderr begins.
const STARTS: [&str; 4] = ["error: ", "warning: ", "note: ", "hint: "];

/// Compares a file of captured words with the real ones, or rewrites it.
pub(crate) fn same_as_file(name: &str, real: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/messages").join(name);
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, real).unwrap();
    }
    let kept = fs::read_to_string(&path).unwrap_or_default();
    let first = kept.lines().zip(real.lines()).find(|(kept, real)| kept != real);
    assert!(
        kept == real,
        "{}: {first:?}; UPDATE_DOCS=1 tests/run messages:: rewrites it",
        path.display()
    );
}

/// A folder in which commands run, and what they printed.
struct Stage {
    scratch: Scratch,
    /// What a `$NAME` in a command stands for, and what the captured words have in its place.
    names: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    /// Kept until the end.
    databases: Vec<Database>,
    captured: String,
}

impl Stage {
    fn new(test_name: &str) -> Stage {
        let scratch = Scratch::new(test_name);
        let folder = scratch.path("").display().to_string();
        let folder = folder.trim_end_matches('/').to_owned();
        let names = vec![("$FOLDER".to_owned(), folder)];
        Stage {
            scratch,
            names,
            environment: Vec::new(),
            databases: Vec::new(),
            captured: String::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    /// Lets a name stand for a value; the longer ones of overlapping values come first.
    fn name(&mut self, name: &str, value: &str) {
        self.names.push((format!("${name}"), value.to_owned()));
        self.names.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
    }

    /// Lets a name stand for a URL, with its password and without it.
    fn name_url(&mut self, name: &str, url: &str) {
        let (scheme, rest) = url.split_once("://").unwrap();
        let (login, place) = rest.rsplit_once('@').unwrap();
        let user = login.split_once(':').map_or(login, |(user, _)| user);
        assert!(scheme.starts_with("postgres"), "{url}");
        self.name(name, url);
        self.name(name, &format!("postgresql://{user}@{place}"));
    }

    /// A database with the server's tables and what the SQL does, under a name for its URL.
    #[track_caller]
    fn database(&mut self, name: &str, sql: &str) -> &Database {
        let database = self.empty_database(name);
        database.apply_file(fixture("postgres-upstream.sql"));
        database.psql(sql);
        database
    }

    /// A database without tables, under a name for its URL.
    #[track_caller]
    fn empty_database(&mut self, name: &str) -> &Database {
        let database = Cluster::get().database(&format!("messages_{}", name.to_lowercase()));
        self.name_url(name, &database.url());
        self.databases.push(database);
        self.databases.last().unwrap()
    }

    /// Runs a command that waits, and stops it.
    #[track_caller]
    fn interrupted(&self, command: &str) -> Output {
        let mut running = self.program(command).stdin_by_hand().spawn();
        let stdin = running.take_stdin();
        std::thread::sleep(std::time::Duration::from_millis(700));
        assert!(running.is_running(), "{command}");
        running.signal("INT");
        let output = running.wait();
        drop(stdin);
        output
    }

    /// Runs a command whose result nobody reads.
    #[track_caller]
    fn unread(&self, command: &str) -> Output {
        let mut running = self.program(command).stdout_by_hand().spawn();
        drop(running.take_stdout());
        running.wait()
    }

    /// Sets a variable for the commands to come.
    fn set(&mut self, variable: &str, value: &str) {
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    fn unset(&mut self) {
        self.environment.clear();
    }

    fn program(&self, command: &str) -> Program {
        let words = command.split_whitespace().map(|word| {
            let named = |word: String, (name, value): &(String, String)| word.replace(name, value);
            self.names.iter().fold(word.replace("''", ""), named)
        });
        let program = Program::new(words).current_dir(self.path(""));
        self.environment.iter().fold(program, |program, (key, value)| program.env(key, value))
    }

    /// Runs a command without capturing what it prints.
    #[track_caller]
    fn prepare(&self, command: &str) -> Output {
        self.program(command).run()
    }

    /// Runs a command and captures its words under a heading.
    #[track_caller]
    fn capture(&mut self, heading: &str, command: &str) -> Output {
        let output = self.program(command).run();
        self.note(heading, command, &output);
        output
    }

    /// Captures the words of a run.
    #[track_caller]
    fn note(&mut self, heading: &str, command: &str, output: &Output) {
        let is_known = |line: &str| STARTS.iter().any(|start| line.starts_with(start));
        assert!(output.stderr.lines().all(is_known), "{output:?}");
        let prints_rows = command.starts_with("cat ") || output.stdout.starts_with(&[0x28]);
        let stdout = if prints_rows { "" } else { output.text() };
        let words = self.normal(&format!("{}{stdout}", output.stderr));
        self.captured.push_str(&format!("[{heading}]\n$ chronicle-dump {command}\n{words}\n"));
    }

    /// The words without what differs between two runs or two machines.
    fn normal(&self, words: &str) -> String {
        let mut text = words.to_owned();
        for (name, value) in &self.names {
            text = text.replace(value, name);
        }
        let mut lines = String::new();
        for line in text.lines() {
            let mut words: Vec<String> = line.split(' ').map(normal_word).collect();
            for n in 1..words.len() {
                let is_unit = ["KiB", "MiB", "B", "ms", "bytes"]
                    .iter()
                    .any(|unit| words[n].trim_matches(['(', ')', ',', ';']) == *unit);
                if is_unit && words[n - 1].trim_start_matches('(').parse::<f64>().is_ok() {
                    let open = if words[n - 1].starts_with('(') { "(" } else { "" };
                    words[n - 1] = format!("{open}N");
                    words[n] = words[n].replace("KiB", "B").replace("MiB", "B");
                }
            }
            lines.push_str(&words.join(" "));
            lines.push('\n');
        }
        lines
    }
}

/// The shapes of an id, and of a moment with its microseconds.
const UUID: &str = "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh";
const MOMENT: &str = "hhhh-hh-hhThh:hh:hh.hhhhhhZ";

/// A word with an h for every hexadecimal digit.
fn shape(word: &str) -> String {
    word.chars().map(|c| if c.is_ascii_hexdigit() { 'h' } else { c }).collect()
}

/// The shape of a date and a time in the name of a file.
const DATED: &str = "hhhh-hh-hh-hh-hh-hh";

/// A word without the date and the time in a name of a file.
fn undated(word: &str) -> String {
    let shape = shape(word);
    match shape.find(DATED).filter(|_| shape.len() == word.len()) {
        Some(at) => format!("{}DATE-TIME{}", &word[..at], &word[at + DATED.len()..]),
        None => word.to_owned(),
    }
}

/// A word without the digits of a digest, and without what a batch has of its own: its id and its time.
fn normal_word(word: &str) -> String {
    let (core, end) = word.split_at(word.trim_end_matches([':', ',', ';']).len());
    let is_batch = core.len() == 36 && core.as_bytes()[14] == b'7' && shape(core) == UUID;
    let is_moment = shape(core) == MOMENT;
    if is_batch || is_moment {
        return format!("{}{end}", if is_batch { "BATCH" } else { "TIME" });
    }
    match word.split_once("sha256:") {
        Some((before, digest)) if digest.len() >= 64 => {
            format!("{before}sha256:…{}", &digest[64..])
        }
        _ => undated(word),
    }
}

/// The words that docs/style.md retires: in quotes behind "Retired:".
fn retired() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/style.md");
    let text = fs::read_to_string(path).unwrap();
    let list = text.split_once("Retired:").expect("the retired words").1;
    let list = list.split_once("\n\n").map_or(list, |(list, _)| list);
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The retired words in a text.
fn retired_in(text: &str) -> Vec<String> {
    let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let occurs = |word: &String| {
        text.match_indices(word.as_str()).any(|(at, _)| {
            !is_part(text[..at].chars().next_back())
                && !is_part(text[at + word.len()..].chars().next())
        })
    };
    retired().into_iter().filter(occurs).collect()
}

#[test]
fn no_message_that_is_printed_has_a_retired_word() {
    assert!(retired().len() > 8, "{:?}", retired());
    assert_eq!(retired_in("it is made anew, whoever said so"), ["anew", "whoever", "said"]);
    for name in ["errors.txt", "notices.txt"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/messages").join(name);
        for line in fs::read_to_string(path).unwrap().lines() {
            assert_eq!(retired_in(line), Vec::<String>::new(), "{name}: {line}");
        }
    }
}
