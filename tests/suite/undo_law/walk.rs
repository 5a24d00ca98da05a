//! One random walk: imports, restores, rollbacks and edits by hand, and the laws that hold after every step.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use rusqlite::Connection;

use super::tables::Tables;
use crate::support::cluster::{Cluster, Database, OWNER};
use crate::support::everything::{everything_in_file, everything_on_server};
use crate::support::files::{fixture, sqlite_from};
use crate::support::generate::Random;
use crate::support::migrate::{Scratch, fill, json_of, words};
use crate::support::program::{Output, Program};

/// What a database holds, as lines.
type Dump = Rc<Vec<String>>;

/// A batch that was committed.
struct Past {
    id: String,
    /// The batch that it has undone.
    undoes: Option<usize>,
    before: Dump,
    after: Dump,
    step: usize,
}

/// A line that a hand has written.
struct ByHand {
    step: usize,
    line: String,
}

enum Place {
    File(String),
    Server(Database),
}

/// How often what was done, and how often it could be.
pub(super) type Counts = BTreeMap<&'static str, (u32, u32)>;

/// A walk over one database.
pub(super) struct Walk {
    seed: u64,
    random: Random,
    tables: &'static Tables,
    scratch: Scratch,
    place: Place,
    source: String,
    /// Whether the source has a column that the database lacked at first.
    extra: bool,
    archives: Vec<PathBuf>,
    snapshots: Vec<(PathBuf, Dump)>,
    past: Vec<Past>,
    hand: Vec<ByHand>,
    now: Dump,
    step: usize,
    log: Vec<String>,
    pub(super) counts: Counts,
}

impl Drop for Walk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (seed, name, step) = (self.seed, self.tables.name, self.step);
            println!("the undo law, {name}, seed {seed}, step {step}; the steps:");
            self.log.iter().for_each(|line| println!("  {line}"));
            println!("repeat it: UNDO_SEED={seed} cargo test --test suite undo_law");
        }
    }
}

impl Walk {
    pub(super) fn new(tables: &'static Tables, server: bool, seed: u64) -> Walk {
        let mut random = Random::new(seed.wrapping_mul(0x51_7c_c1) ^ u64::from(server));
        let scratch = Scratch::new("undo_law");
        for (n, backend) in ["sqlite", "postgres"].into_iter().enumerate() {
            let mut layout = format!("name = \"w\"\ntitle = \"w\"\nbackend = \"{backend}\"\n");
            for (name, role, key) in tables.streams {
                layout.push_str(&format!(
                    "[[stream]]\nname = \"{name}\"\nrole = \"{role}\"\ntable = \"{name}\"\n\
                     requires = {key:?}\nkey = {key:?}\norder = {key:?}\n"
                ));
            }
            std::fs::write(scratch.path(&format!("layout{n}.toml")), layout).expect("a layout");
        }
        let make = |name: &str, mode: &str| {
            let file = words(&scratch.path(name)).to_owned();
            let fixtures: &[&str] = if tables.ddl.is_none() { &["sqlite-hooks.sql"] } else { &[] };
            sqlite_from(fixtures, &scratch.path(name), mode);
            tables.ddl.iter().for_each(|ddl| fill(&file, ddl[0]));
            file
        };
        let source = make("source.db", "delete");
        let place = match server {
            false => Place::File(make("target.db", random.pick(&["delete", "wal"]))),
            true => {
                let database = Cluster::get().database_of(OWNER, "undo_law");
                match tables.ddl {
                    Some(ddl) => drop(database.psql(ddl[1])),
                    None => database.apply_file(fixture("postgres-upstream.sql")),
                }
                Place::Server(database)
            }
        };
        let extra = random.one_in(2);
        if extra {
            fill(&source, &format!("ALTER TABLE {} ADD COLUMN extra TEXT", tables.extra));
        }
        let mut walk = Walk {
            seed,
            random,
            tables,
            scratch,
            place,
            source,
            extra,
            archives: Vec::new(),
            snapshots: Vec::new(),
            past: Vec::new(),
            hand: Vec::new(),
            now: Rc::default(),
            step: 0,
            log: Vec::new(),
            counts: Counts::new(),
        };
        walk.now = walk.dump();
        walk
    }

    /// What `pg_dump` says of a server's rows and sequences, in no order: a second judge, which knows nothing of the
    /// first one. Of a file nothing.
    fn second_dump(&self) -> Vec<String> {
        let Place::Server(database) = &self.place else { return Vec::new() };
        let own = ["migration_history", "receipts"].map(|name| format!("chronicle_dump.{name}"));
        let dump = database.pg_dump(&[&own[0], &own[1]]);
        let is_said = |line: &&str| {
            // a table without rows has a head and an end alone
            let frame = [
                "COPY ",
                "\\.",
                "--",
                "SET ",
                "\\restrict",
                "\\unrestrict",
                "SELECT pg_catalog.set_config",
            ];
            !line.is_empty() && !frame.iter().any(|start| line.starts_with(start))
        };
        // every row with the table that it is in
        let mut table = "";
        let mut rows = Vec::new();
        for line in dump.lines() {
            match line.strip_prefix("COPY ") {
                Some(head) => table = head,
                None if is_said(&line) => rows.push(format!("{table} {line}")),
                None => {}
            }
        }
        rows.sort();
        rows
    }

    /// A batch and its rollback, judged by the second judge alone.
    pub(super) fn judge_twice(&mut self) {
        if !self.server() {
            return;
        }
        let (before, archive, url) = (self.second_dump(), self.archive(), self.url());
        let args = ["import", words(&archive), "--to", &url, "--clear", "--orphans=skip", "-q"];
        self.run(&args, true).success();
        self.run(&["rollback", "last", "--from", &url, "-q"], true).success();
        same(
            &before,
            &self.second_dump(),
            "pg_dump gives what it gave before a batch and its rollback",
        );
        self.now = self.dump();
    }

    fn server(&self) -> bool {
        matches!(self.place, Place::Server(_))
    }

    fn url(&self) -> String {
        match &self.place {
            Place::File(file) => file.clone(),
            Place::Server(database) => database.url(),
        }
    }

    /// Everything but the statements that make our own tables, which stay.
    fn dump(&self) -> Dump {
        let lines = match &self.place {
            Place::File(file) => everything_in_file(file.as_ref()),
            Place::Server(database) => everything_on_server(database),
        };
        let own = ["table chronicle_dump", "index chronicle_dump"];
        let own = |line: &String| own.iter().any(|start| line.starts_with(start));
        Rc::new(lines.into_iter().filter(|line| !own(line)).collect())
    }

    fn run(&self, args: &[&str], server: bool) -> Output {
        let layout = self.scratch.path(if server { "layout1.toml" } else { "layout0.toml" });
        let program = Program::new(args.iter().copied());
        match self.tables.ddl {
            Some(_) if !["rollback", "history"].contains(&args[0]) => {
                program.arg("--layout").arg(layout).run()
            }
            _ => program.run(),
        }
    }

    /// One step, and what is true after it.
    pub(super) fn step(&mut self) {
        self.step += 1;
        match self.random.below(100) {
            0..40 => self.import(),
            40..52 => self.restore(),
            52..68 => {
                let newest = (0..self.past.len()).rev().find(|n| self.is_live(*n));
                self.rollback(newest, "rollback of the newest");
            }
            68..76 => {
                let any = self.any(|_, _| true);
                self.rollback(any, "rollback of any");
            }
            76..86 => {
                let rollback = self.any(|walk, n| walk.past[n].undoes.is_some() && walk.is_live(n));
                self.rollback(rollback, "rollback of a rollback");
            }
            _ => self.edit(),
        }
    }

    fn any(&mut self, wanted: impl Fn(&Walk, usize) -> bool) -> Option<usize> {
        let found: Vec<usize> = (0..self.past.len()).filter(|n| wanted(self, *n)).collect();
        (!found.is_empty()).then(|| self.random.pick(&found))
    }

    /// Whether what a batch did is in the database: no batch that is has undone it.
    fn is_live(&self, n: usize) -> bool {
        !(n + 1..self.past.len()).any(|m| self.past[m].undoes == Some(n) && self.is_live(m))
    }

    fn count(&mut self, what: &'static str, done: bool) {
        let counts = self.counts.entry(what).or_default();
        counts.0 += 1;
        counts.1 += u32::from(done);
    }

    /// An archive with new, equal and edited rows.
    fn archive(&mut self) -> PathBuf {
        if self.archives.len() > 2 && self.random.one_in(2) {
            return self.random.pick(&self.archives);
        }
        let mut sql = String::new();
        for _ in 0..2 + self.random.below(7) {
            let table = &self.tables.all[self.random.below(self.tables.all.len() as u64) as usize];
            let extra = self.extra && table.file == self.tables.extra;
            sql.push_str(&table.row(&mut self.random, extra));
            if self.random.one_in(3) {
                let column = table.columns[0].0;
                sql.push_str(&format!(
                    "DELETE FROM {0} WHERE rowid IN (SELECT rowid FROM {0} ORDER BY {column} LIMIT 1);",
                    if table.file == "three" { "one" } else { table.file }
                ).replace(column, if table.file == "three" { "id" } else { column }));
            }
        }
        fill(&self.source, &sql);
        let archive = self.scratch.path(&format!("archive{}.zst", self.step));
        let (source, out) = (self.source.clone(), words(&archive).to_owned());
        self.run(&["export", &source, "-o", &out, "--force", "-q"], false).success();
        self.log.push(format!("{}: archive of {sql}", self.step));
        self.archives.push(archive.clone());
        archive
    }

    fn import(&mut self) {
        let mut files = vec![self.archive()];
        let keyless = self.tables.name == "keyless";
        if !keyless && self.random.one_in(4) {
            files.push(self.archive());
        }
        let url = self.url();
        let mut args = vec!["import"];
        args.extend(files.iter().map(|file| words(file)));
        args.extend(["--to", &url, "--json"]);
        let names: Vec<&str> = match self.tables.streams {
            [] => vec!["sessions", "events"],
            streams => streams.iter().map(|(name, ..)| *name).collect(),
        };
        let conflict = match self.random.below(5) {
            0 => "--on-conflict=fail".to_owned(),
            1 => "--on-conflict=skip".into(),
            2 => format!(
                "--on-conflict=update,{}={}",
                self.random.pick(&names),
                self.random.pick(&["skip", "fail"])
            ),
            _ => "--on-conflict=update".into(),
        };
        args.push(&conflict);
        let orphans = ["--orphans=keep", "--orphans=skip", "--orphans=adopt", "--trust-zone"];
        args.push(self.random.pick(&orphans));
        let columns = ["--on-missing-column=add", "--on-missing-column=preserve", "--trust-zone"];
        args.extend(Some(self.random.pick(&columns)).filter(|o| !args.contains(o)));
        if self.random.one_in(if keyless { 1 } else { 6 }) {
            args.push("--clear");
        }
        if self.step.is_multiple_of(3) {
            args.push("--match=content");
        }
        let in_groups = files.len() == 1 && self.random.one_in(3);
        if in_groups {
            args.extend(["--resumable", "--commit-every=1"]);
        }
        let done = self.run(&args, self.server());
        if in_groups && done.code != Some(0) {
            self.undo_half();
        }
        self.finish(&args.join(" "), "import", &done, None);
    }

    /// Rolls back what an import that failed has committed.
    fn undo_half(&mut self) {
        let url = self.url();
        let history = json_of(&self.run(&["history", &url, "--json"], self.server()).success());
        let newest = history["batches"].as_array().and_then(|all| all.last().cloned());
        let half = newest.filter(|batch| batch.get("resume").is_some());
        let id = half.and_then(|batch| batch["batch_id"].as_str().map(str::to_owned));
        self.count("rollback of half an import", id.is_some());
        if let Some(id) = id {
            self.run(&["rollback", &id, "--from", &url, "-q"], self.server()).success();
        }
    }

    fn restore(&mut self) {
        if self.snapshots.is_empty() || self.random.one_in(4) {
            let (url, file) =
                (self.url(), self.scratch.path(&format!("snapshot{}.zst", self.step)));
            let done = self.run(&["export", &url, "-o", words(&file), "-q"], self.server());
            done.success();
            self.snapshots.push((file, Rc::clone(&self.now)));
            self.log.push(format!("{}: snapshot", self.step));
        }
        let (file, then) = match self.random.one_in(4) && !self.archives.is_empty() {
            true => (self.random.pick(&self.archives), None),
            false => {
                let n = self.random.below(self.snapshots.len() as u64) as usize;
                (self.snapshots[n].0.clone(), Some(Rc::clone(&self.snapshots[n].1)))
            }
        };
        let url = self.url();
        let args = ["restore", words(&file), "--to", &url, "--json"];
        let done = self.run(&args, self.server());
        let what = if then.is_some() { "restore" } else { "restore of another archive" };
        if !self.finish(&args.join(" "), what, &done, None) {
            return;
        }
        let diff = self.run(&["diff", words(&file), &url], self.server());
        assert!(diff.code == Some(0), "after a restore a difference remains:\n{}", diff.text());
        // with stored originals a table may hold other values than its export
        let plain = |dump: &Dump| !dump.iter().any(|line| line.starts_with("chronicle_dump"));
        let alike = |then: &Dump| plain(then) && schema(then) == schema(&self.now);
        if let Some(then) = then.filter(alike) {
            let wanted = |line: &&String| self.is_data(line);
            let rows = |dump: &Dump| sorted(dump.iter().filter(wanted).map(|l| without_rowid(l)));
            same(&rows(&then), &rows(&self.now), "the rows after a restore are the snapshot's");
        }
    }

    fn is_data(&self, line: &str) -> bool {
        let table = |t: &&str| line.starts_with(t) && line[t.len()..].starts_with(' ');
        let names: Vec<String> = (self.tables.all.iter())
            .map(|t| match self.server() {
                true => format!("public.{}", t.server),
                false => t.file.to_owned(),
            })
            .collect();
        !is_sequence(line) && names.iter().any(|name| table(&name.as_str()))
    }

    fn rollback(&mut self, wanted: Option<usize>, what: &'static str) {
        let Some(n) = wanted else { return self.edit() };
        let (url, id) = (self.url(), self.past[n].id.clone());
        let mut args = vec!["rollback", &id, "--from", &url, "--json"];
        let force = self.random.one_in(4);
        if force {
            args.push("--force");
        }
        let (live, before) = (self.is_live(n), Rc::clone(&self.now));
        let done = self.run(&args, self.server());
        let shown = format!("{} (of step {}, {what})", args.join(" "), self.past[n].step);
        let committed = self.finish(&shown, what, &done, Some(n));
        assert!(live || done.code == Some(2), "it was undone already: {}", done.stderr);
        let past = &self.past[n];
        if before == past.after && live && !self.needs_its_column(n, &done) {
            assert!(committed, "nothing was done since, but: {}", done.stderr);
            same(&past.before, &self.now, "a rollback gives back what was before");
        }
        if !committed {
            return;
        }
        self.hand_is_kept(n, &before);
        if !force
            && [&past.before, &past.after, &before].iter().all(|d| schema(d) == schema(&self.now))
        {
            let mut expected = counted(&before);
            for (dump, by) in [(&past.after, -1), (&past.before, 1)] {
                for (line, count) in counted(dump) {
                    *expected.entry(line).or_default() += by * count;
                }
            }
            let now = counted(&self.now);
            let is_import = |m: usize| self.past[m].undoes.is_none() && self.is_live(m);
            if (n + 1..self.past.len()).any(is_import) {
                // what the columns of archives were is still said of tables with rows of later ones
                let said =
                    |line: &str| line.starts_with("chronicle_dump") && line.contains("columns");
                let stays =
                    |(line, count): &(String, i64)| said(line) && now.get(line) == Some(count);
                expected.extend(counted(&before).into_iter().filter(stays));
            }
            expected.retain(|_, count| *count != 0);
            let lines = |all: &BTreeMap<String, i64>| -> Vec<String> {
                all.iter().map(|(line, count)| format!("{line} ({count} times)")).collect()
            };
            same(&lines(&expected), &lines(&now), "a rollback changes what its batch changed");
        }
    }

    /// Whether a batch, or with --force its column, was kept because a later one, which is there, has loaded rows with a column
    /// that it has added: such rows may be the same ones, so that nothing seems to have been done since.
    fn needs_its_column(&self, n: usize, done: &Output) -> bool {
        let is_import = |m: usize| self.past[m].undoes.is_none() && self.is_live(m);
        let is_kept = match done.code {
            Some(0) => {
                let columns = json_of(done)["columns"].as_array().cloned().unwrap_or_default();
                columns.iter().any(|c| c["is_needed"] == true && c["dropped"] == false)
            }
            code => {
                let why = "a later batch has loaded rows with the columns of this one";
                code == Some(11) && done.stderr.contains(why)
            }
        };
        is_kept
            && schema(&self.past[n].before) != schema(&self.past[n].after)
            && (n + 1..self.past.len()).any(is_import)
    }

    /// What a hand has written since a batch is there after its rollback, as far as it was before.
    fn hand_is_kept(&self, n: usize, before: &Dump) {
        let (was, is) = (counted(before), counted(&self.now));
        let mut by_hand: BTreeMap<&str, i64> = BTreeMap::new();
        for hand in self.hand.iter().filter(|hand| hand.step > self.past[n].step) {
            *by_hand.entry(&hand.line).or_default() += 1;
        }
        for (line, count) in by_hand {
            let kept = count.min(was.get(line).copied().unwrap_or(0));
            let now = is.get(line).copied().unwrap_or(0);
            assert!(now >= kept, "a rollback has changed what was written by hand: {line}");
        }
    }

    /// Edits a few rows by hand.
    fn edit(&mut self) {
        let before = Rc::clone(&self.now);
        for _ in 0..1 + self.random.below(3) {
            let table = &self.tables.all[self.random.below(self.tables.all.len() as u64) as usize];
            let number = 1_000 * self.step as u64 + self.random.below(1_000);
            let server = self.server();
            let sql = table.by_hand(&mut self.random, server, number);
            let refused = match &self.place {
                Place::File(file) => {
                    let database = Connection::open(file).expect("the file");
                    database.pragma_update(None, "foreign_keys", "off").expect("a pragma");
                    database.execute_batch(&sql).err().map(|e| e.to_string())
                }
                Place::Server(database) => database.try_psql_as(OWNER, &sql).err(),
            };
            let refused = refused.map_or_else(String::new, |e| format!(" ({e})"));
            self.log.push(format!("{}: by hand: {sql}{refused}", self.step));
        }
        self.now = self.dump();
        self.count("edit", self.now != before);
        self.remember(&before, true);
    }

    /// Notes which lines are a hand's.
    fn remember(&mut self, before: &Dump, by_hand: bool) {
        let (was, is) = (counted(before), counted(&self.now));
        self.hand.retain(|hand| {
            is.get(&hand.line).copied().unwrap_or(0) >= was.get(&hand.line).copied().unwrap_or(0)
        });
        if by_hand {
            for (line, count) in &is {
                for _ in was.get(line).copied().unwrap_or(0)..*count {
                    self.hand.push(ByHand { step: self.step, line: line.clone() });
                }
            }
        }
    }

    /// Judges a command that was to change the database; whether it did.
    fn finish(
        &mut self,
        shown: &str,
        what: &'static str,
        done: &Output,
        undoes: Option<usize>,
    ) -> bool {
        let code = done.code.unwrap_or(-1);
        let first = done.stderr.lines().next().unwrap_or_default().to_owned();
        self.log.push(format!("{}: {shown} -> {code} {first}", self.step));
        let (committed, before) = (code == 0, Rc::clone(&self.now));
        // rows of a table without a key cannot be restored among others
        match code == 9 && done.stderr.contains("is not a unique key in this database") {
            true => self.count("refusal of rows without a key", true),
            false => self.count(what, committed),
        }
        self.now = self.dump();
        if !committed {
            let known = [2, 9, 10, 11, 12].contains(&code);
            assert!(known, "code {code}: {}", done.stderr);
            same(&before, &self.now, "a step that fails leaves everything as it was");
            return false;
        }
        let id = json_of(done)["batch_id"].as_str().expect("a batch").to_owned();
        let (after, step) = (Rc::clone(&self.now), self.step);
        self.past.push(Past { id, undoes, before: Rc::clone(&before), after, step });
        self.remember(&before, false);
        true
    }
}

/// The lines that describe tables.
fn schema(dump: &Dump) -> Vec<&String> {
    let is_schema = |l: &&String| {
        ["table ", "index ", "trigger ", "view "].iter().any(|start| l.starts_with(start))
    };
    dump.iter().filter(is_schema).collect()
}

/// Whether a line is the number that a table gave last.
fn is_sequence(line: &str) -> bool {
    line.starts_with("sequence ") || line.split(' ').count() == 2
}

/// How often each row is there, whatever its number; sequences are not among them.
fn counted(dump: &Dump) -> BTreeMap<String, i64> {
    let mut all = BTreeMap::new();
    for line in dump.iter().filter(|line| !is_sequence(line)) {
        *all.entry(without_rowid(line)).or_default() += 1;
    }
    all
}

fn without_rowid(line: &str) -> String {
    match line.split_once(' ').and_then(|(table, rest)| Some((table, rest.split_once(": ")?))) {
        Some((table, (number, row))) if number.bytes().all(|b| b.is_ascii_digit() || b == b'-') => {
            format!("{table} {row}")
        }
        _ => line.to_owned(),
    }
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

/// Panics with the lines that only one of two dumps has.
#[track_caller]
fn same(expected: &[String], found: &[String], law: &str) {
    if expected == found {
        return;
    }
    let only = |a: &[String], b: &[String]| -> Vec<String> {
        let lines = a.iter().filter(|line| !b.contains(line)).take(8);
        lines.map(|line| line.chars().take(400).collect()).collect()
    };
    panic!(
        "{law}\nexpected, but not there:\n  {}\nthere, but not expected:\n  {}\n",
        only(expected, found).join("\n  "),
        only(found, expected).join("\n  ")
    );
}
