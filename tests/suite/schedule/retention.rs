//! Older archives go when a new one is complete: those that no rule keeps, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use chronicle_archive::{ArchiveReader, ArchiveWriter, Batch, Header, Limits, WriterOptions};
use chrono::{DateTime, Datelike, Days, Utc};
use serde_json::Value;

use crate::archive::frames;
use crate::support::files::{sqlite_from, workdir};
use crate::support::migrate::{event, fill, json_of, session};
use crate::support::program::{Output, Program};

/// A folder with a database of its own, and archives of it.
struct Nights {
    folder: tempfile::TempDir,
    /// The first line of its archives.
    header: Header,
}

impl Nights {
    fn new(name: &str) -> Nights {
        let folder = workdir(name);
        let database = folder.path().join("s.db");
        sqlite_from(&["sqlite-hooks.sql"], &database, "wal");
        fill(database.to_str().unwrap(), &(session(1) + &event(11, 1, "stop")));
        fs::create_dir(folder.path().join("kept")).unwrap();
        let sample = folder.path().join("sample.zst");
        Program::new(["export", "s.db", "-o", "sample.zst"])
            .current_dir(folder.path())
            .run()
            .success();
        let header = header(&sample);
        Nights { folder, header }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("kept").join(name)
    }

    /// A whole archive with another header.
    fn archive(&self, name: &str, change: impl FnOnce(&mut Header)) -> PathBuf {
        let sample = File::open(self.folder.path().join("sample.zst")).unwrap();
        let mut sample = ArchiveReader::open(sample, Limits::default()).unwrap();
        let mut header = self.header.clone();
        header.archive_id = uuid::Uuid::new_v4().to_string();
        change(&mut header);
        let options = WriterOptions::default();
        let streams = sample.streams().to_vec();
        let mut writer = ArchiveWriter::create(Vec::new(), &header, streams, options).unwrap();
        let mut rows = Batch::default();
        while sample.next_batch(&mut rows).unwrap() {
            writer.write(&rows).unwrap();
        }
        fs::write(self.path(name), writer.finish().unwrap().0).unwrap();
        self.path(name)
    }

    /// An archive of the database as it was exported at a moment, and its name.
    fn of(&self, created: DateTime<Utc>) -> String {
        let name = created.format("s-%Y-%m-%d-%H-%M-%S.zst").to_string();
        self.archive(&name, |header| header.created_at = Some(created.to_rfc3339()));
        name
    }

    /// Spoils a byte of the rows in an archive, whose ends stay as they are.
    fn spoil(&self, name: &str) {
        let mut bytes = fs::read(self.path(name)).unwrap();
        let rows = frames(&bytes)[1].clone();
        bytes[rows.start + (rows.end - rows.start) / 2] ^= 1;
        fs::write(self.path(name), bytes).unwrap();
        Program::new(["verify"]).arg(self.path(name)).run().fails_with(3);
        Program::new(["inspect"]).arg(self.path(name)).run().success();
    }

    fn export(&self, options: &[&str]) -> Output {
        let args = ["export", "s.db", "-o", "kept/{source}-{date}-{time}.zst"];
        Program::new(args.iter().chain(options)).current_dir(self.folder.path()).run()
    }

    fn names(&self) -> BTreeSet<String> {
        names(&self.path(""))
    }
}

fn header(archive: &Path) -> Header {
    let file = File::open(archive).unwrap();
    ArchiveReader::open(file, Limits::default()).unwrap().header().clone()
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// The names in an array of paths.
fn names_in(paths: &Value) -> BTreeSet<String> {
    let name = |path: &Value| Path::new(path.as_str().unwrap()).file_name().unwrap().to_owned();
    paths.as_array().unwrap().iter().map(|path| name(path).into_string().unwrap()).collect()
}

/// The newest archives of the last periods, by what `strftime` calls a period.
fn newest_of(archives: &BTreeMap<DateTime<Utc>, String>, last: usize, period: &str) -> Vec<String> {
    let mut newest = BTreeMap::new();
    for (created, name) in archives {
        newest.insert(created.format(period).to_string(), name.clone());
    }
    newest.into_values().rev().take(last).collect()
}

#[test]
fn archives_stay_that_a_rule_keeps_and_no_others() {
    let nights = Nights::new("retention");
    let now = Utc::now();
    let mut archives = BTreeMap::new();
    for days in (1..50).chain((50..700).step_by(9)) {
        let created = now.checked_sub_days(Days::new(days)).unwrap();
        archives.insert(created, nights.of(created));
        if days % 5 == 0 {
            let earlier = created - chrono::TimeDelta::hours(3);
            archives.insert(earlier, nights.of(earlier));
        }
    }
    let keep = ["--keep-daily=7", "--keep-weekly=4", "--keep-monthly=12"];
    let done = nights.export(&[&keep[..], &["--json"]].concat()).success();
    let result = json_of(&done);
    let before: BTreeSet<String> = archives.values().cloned().collect();
    let new: Vec<String> = nights.names().difference(&before).cloned().collect();
    assert_eq!(new.len(), 1, "{new:?}");
    let created = header(&nights.path(&new[0])).created_at.unwrap().parse().unwrap();
    archives.insert(created, new[0].clone());
    let expected: BTreeSet<String> = [
        newest_of(&archives, 7, "%Y-%m-%d"),
        newest_of(&archives, 4, "%G-%V"),
        newest_of(&archives, 12, "%Y-%m"),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(expected.len() > 15 && expected.contains(&new[0]), "{expected:?}");
    assert_eq!(nights.names(), expected);
    assert_eq!(names_in(&result["kept"]), expected);
    assert_eq!(names_in(&result["removed"]), before.difference(&expected).cloned().collect());
    let verify = Program::new(["verify"]).arg(nights.path(&new[0])).run().success();
    assert!(verify.text().contains(result["digest"].as_str().unwrap()), "{}", verify.text());

    // the next one takes the place of the one before it, if that is of the same day
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let again = nights.export(&keep).success();
    let is_same_day = Utc::now().day() == created.day();
    if is_same_day {
        assert!(!nights.path(&new[0]).exists(), "{}", again.text());
        again.stdout_has(&format!("\nremoved 1 older archive, kept {} archives\n", expected.len()));
    }
}

#[test]
fn what_is_no_archive_of_the_source_is_never_removed() {
    let nights = Nights::new("retention_others");
    let old = "2025-03-01T02:30:00Z";
    let dated = |header: &mut Header| header.created_at = Some(old.to_owned());
    let removed = nights.archive("s-2025-03-01-02-30-00.zst", dated);
    let whole = fs::read(&removed).unwrap();
    let at = |n: u32| format!("s-2025-03-{n:02}-02-30-00.zst");
    // archives, but not of this source and selection, or of no time
    nights.archive(&at(2), |header| {
        dated(header);
        header.source.instance = Some(uuid::Uuid::new_v4().to_string());
    });
    nights.archive(&at(3), |header| {
        dated(header);
        header.source.instance = None;
    });
    nights.archive(&at(4), |header| {
        dated(header);
        header.filters = Some([("project".to_owned(), "*".to_owned())].into());
    });
    nights.archive(&at(5), |header| header.created_at = None);
    nights.archive(&at(6), |header| header.created_at = Some("yesterday".to_owned()));
    // no whole archives
    fs::write(nights.path(&at(7)), &whole[..whole.len() - 9]).unwrap();
    fs::write(nights.path(&at(8)), &whole[..whole.len() / 2]).unwrap();
    fs::write(nights.path(&at(9)), [&whole[..], b"more"].concat()).unwrap();
    fs::write(nights.path(&at(10)), b"a text").unwrap();
    fs::write(nights.path(&at(11)), b"").unwrap();
    // no plain files
    fs::write(nights.folder.path().join("elsewhere.zst"), &whole).unwrap();
    symlink("../elsewhere.zst", nights.path(&at(12))).unwrap();
    fs::create_dir(nights.path(&at(13))).unwrap();
    assert!(Command::new("mkfifo").arg(nights.path(&at(14))).status().unwrap().success());
    let alike = nights.names().len() - 1;
    // other names
    for name in ["s-2025-03-01.zst", "t-2025-03-01-02-30-00.zst", "s-2025-02-30-02-30-00.zst"] {
        fs::write(nights.path(name), &whole).unwrap();
    }
    let before = nights.names();
    let done = nights.export(&["--keep-monthly=1", "-v"]).success();
    let after = nights.names();
    let gone: Vec<&String> = before.difference(&after).collect();
    assert_eq!(gone, ["s-2025-03-01-02-30-00.zst"], "{}", done.text());
    let done = done.stderr_has(&format!("note: {alike} files with such a name left alone"));
    let done = done.stdout_has("removed kept/s-2025-03-01-02-30-00.zst\nkept kept/s-");
    done.stdout_has("\nremoved 1 older archive, kept 1 archive\n");
    assert_eq!(fs::read(nights.path("s-2025-03-01.zst")).unwrap(), whole);
}

#[test]
fn archives_of_a_part_make_way_for_each_other_alone() {
    let nights = Nights::new("retention_parts");
    let old = nights.of("2025-03-01T02:30:00Z".parse().unwrap());
    let part = |n: u32, project: &str| {
        let name = format!("s-2025-03-{n:02}-02-30-00.zst");
        nights.archive(&name, |header| {
            header.created_at = Some(format!("2025-03-{n:02}T02:30:00Z"));
            header.filters = Some([("project".to_owned(), project.to_owned())].into());
        });
        name
    };
    let (same, other) = (part(2, "/home/*"), part(3, "/tmp/*"));
    nights.export(&["--project=/home/*", "--keep-daily=1"]).success();
    let names = nights.names();
    assert!(!names.contains(&same) && names.contains(&other) && names.contains(&old), "{names:?}");
}

#[test]
fn a_new_archive_stays_although_another_looks_newer() {
    let nights = Nights::new("retention_clock");
    let ahead = nights.of(Utc::now().checked_add_days(Days::new(40)).unwrap());
    let old = nights.of("2025-03-01T02:30:00Z".parse().unwrap());
    let yesterday = nights.of(Utc::now().checked_sub_days(Days::new(1)).unwrap());
    let done = nights.export(&["--keep-daily=2"]).success();
    let names = nights.names();
    // it takes the place of none that has the right time
    assert!(names.contains(&ahead) && names.contains(&yesterday) && names.len() == 3, "{names:?}");
    assert!(!names.contains(&old));
    done.stderr_has("note: 1 archive with such a name left alone, since by their headers");
}

#[test]
fn an_archive_goes_only_if_whole_ones_stay_in_its_place() {
    let nights = Nights::new("retention_damaged");
    let now = Utc::now();
    let ago = |days| nights.of(now.checked_sub_days(Days::new(days)).unwrap());
    let names: Vec<String> = (1..=10).map(ago).collect();
    let (recent, old) = (&names[0], &names[7]);
    nights.spoil(recent);
    nights.spoil(old);
    // as long as nothing would go, nobody reads them
    let done = nights.export(&["--keep-daily=30", "--json"]).success();
    assert_eq!(json_of(&done)["damaged"], serde_json::json!([]));
    let first = nights.names();
    assert_eq!(first.len(), 11);

    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let done = nights.export(&["--keep-daily=3", "--json"]).success();
    let result = json_of(&done);
    let new: Vec<String> = nights.names().difference(&first).cloned().collect();
    let whole: Vec<&String> = names.iter().filter(|name| ![recent, old].contains(name)).collect();
    assert_eq!(names_in(&result["damaged"]), [recent, old].map(String::clone).into());
    let is_same_day = now.day() == Utc::now().day();
    if is_same_day {
        // today's, and the two days before that have one which is whole
        let kept = [&new[0], whole[0], whole[1]].map(String::clone);
        assert_eq!(names_in(&result["kept"]), kept.into());
    }
    for name in [recent, old] {
        let warning = format!("warning: kept/{name} is damaged; it was not removed");
        assert!(done.stderr.contains(&warning), "{}", done.stderr);
    }
    let expected = names_in(&result["kept"]);
    let expected: BTreeSet<String> =
        expected.union(&names_in(&result["damaged"])).cloned().collect();
    assert_eq!(nights.names(), expected);
}

#[test]
fn options_that_could_remove_nothing_are_refused() {
    let nights = Nights::new("retention_refused");
    let old = nights.of("2025-03-01T02:30:00Z".parse().unwrap());
    let run = |args: &[&str]| {
        let args = [&["export", "s.db"], args].concat();
        Program::new(args).current_dir(nights.path("")).run().fails_with(2)
    };
    fs::copy(nights.folder.path().join("s.db"), nights.path("s.db")).unwrap();
    let dated = ["-o", "s-{date}.zst"];
    run(&["--keep-daily", "7"]).stderr_has("--output");
    for place in ["-", "/dev/stdout", "s.zst", "s-{time}.zst", "/dev/null"] {
        run(&["--keep-daily", "7", "-o", place]).stderr_has("--keep-daily: each archive needs");
    }
    run(&[&dated[..], &["--keep-weekly=7", "--reproducible"]].concat())
        .stderr_has("--keep-weekly: a reproducible archive");
    run(&[&dated[..], &["--keep-monthly=7", "--since=7d"]].concat())
        .stderr_has("--since: a time that counts from now selects other rows each time");
    run(&[&dated[..], &["--keep-daily=0"]].concat());
    assert_eq!(nights.names(), [old, "s.db".to_owned()].into());
}

/// A library that lets `fsync` spoil a byte of the file, as a bad disk does; None where it cannot be built.
fn bad_disk(folder: &Path) -> Option<PathBuf> {
    let (source, library) = (folder.join("bad.c"), folder.join("bad.so"));
    let code = "#include <unistd.h>\n\
        int fsync(int file) {\n\
            char byte;\n\
            if (pread(file, &byte, 1, 200) == 1) { byte ^= 1; pwrite(file, &byte, 1, 200); }\n\
            return 0;\n\
        }\n";
    fs::write(&source, code).unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    let built = compiler.output().is_ok_and(|done| done.status.success());
    (built && cfg!(target_os = "linux")).then_some(library)
}

#[test]
fn a_new_archive_that_a_disk_spoils_removes_nothing() {
    let nights = Nights::new("retention_bad_disk");
    let Some(library) = bad_disk(nights.folder.path()) else {
        println!("no C compiler, or not Linux: not tried");
        return;
    };
    let old = nights.of("2025-03-01T02:30:00Z".parse().unwrap());
    let run = |args: &[&str]| {
        let program = Program::new(args.iter().copied()).current_dir(nights.folder.path());
        program.env("LD_PRELOAD", &library).run()
    };
    let export = run(&["export", "s.db", "-o", "kept/s-{date}-{time}.zst", "--keep-daily=1"]);
    let export = export.fails_with(13).stderr_has("the file is not what was written");
    export.stderr_has("hint: the older archives were not touched");
    assert!(nights.path(&old).exists());
    // a backup with a date in its name is read back as any other
    let archive = ["import", "sample.zst", "--to", "s.db", "--backup"];
    for name in ["before.zst", "before-{date}-{time}.zst"] {
        let import = run(&[&archive[..], &[name]].concat()).fails_with(13);
        import.stderr_has("--backup: ").stderr_has("the file is not what was written");
    }
}
