//! The time limit of a login, which is around all of it, and for each host.

use std::time::Duration;

use crate::support::cluster::Cluster;
use crate::support::files::fixture;
use crate::support::program::{Output, Program};
use crate::support::speaker::{Says, Speaker};

/// An export from these ports of this machine, which is not let in.
#[track_caller]
fn export(ports: &[u16], settings: &str) -> Output {
    let hosts = vec!["127.0.0.1"; ports.len()].join(",");
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    let string = format!("host={hosts} port={} user=u dbname=d {settings}", ports.join(","));
    Program::new(["export"]).arg(string).patience(Duration::from_secs(20)).run().fails_with(7)
}

#[test]
fn a_silent_server_ends_a_login_in_time() {
    let silent = Speaker::new(Says::Nothing).port();
    let run = export(&[silent], "connect_timeout=1");
    let run =
        run.stderr_has("cannot connect: no answer within 1 s\n").stderr_has("PGCONNECT_TIMEOUT");
    assert!((1..3).contains(&run.time.as_secs()), "{run:?}");
    let url = format!("postgres://u@127.0.0.1:{silent}/d");
    let run = Program::new(["check"]).arg(url).env("PGCONNECT_TIMEOUT", "2").run().fails_with(7);
    let run = run.stderr_has("no answer within 2 s");
    assert!((2..4).contains(&run.time.as_secs()), "{run:?}");
}

#[test]
fn a_login_without_any_answer_behind_it_ends_in_time() {
    let run = export(&[Speaker::new(Says::WelcomeOnly).port()], "connect_timeout=1");
    let run =
        run.stderr_has("no answer within 1 s").stderr_has("a pooler may have no connection left");
    assert!((1..3).contains(&run.time.as_secs()), "{run:?}");
}

#[test]
fn each_of_several_hosts_has_the_limit() {
    let silent = [Speaker::new(Says::Nothing), Speaker::new(Says::Nothing)];
    let run = export(&[silent[0].port(), silent[1].port()], "connect_timeout=1");
    let run = run.stderr_has("no answer within 1 s of each host");
    assert!((2..4).contains(&run.time.as_secs()), "{run:?}");
    assert_eq!(silent.map(|s| s.met()), [1, 1]);
}

#[test]
fn a_silent_or_starting_host_is_passed_over() {
    let database = Cluster::get().database("passed_over");
    database.apply_file(fixture("postgres-upstream.sql"));
    let starting =
        Says::Fatal { state: "57P03".into(), words: "the database system is starting up".into() };
    for says in [Says::Nothing, starting] {
        let first = Speaker::new(says);
        let url = database.url().replace("@", &format!("@127.0.0.1:{},", first.port()));
        Program::new(["export"]).arg(url).env("PGCONNECT_TIMEOUT", "1").run().success();
        assert_eq!(first.met(), 1);
    }
}

#[test]
fn nothing_is_tried_again_after_a_refusal() {
    for (state, words) in [
        ("28P01", "password authentication failed for user \"u\""),
        ("XX000", "(ENOTFOUND) tenant/user u not found"),
        ("53300", "sorry, too many clients already"),
    ] {
        let says = Says::Fatal { state: state.to_owned(), words: words.to_owned() };
        let (first, second) = (Speaker::new(says.clone()), Speaker::new(says));
        export(&[first.port(), second.port()], "password=wrong").stderr_has(words);
        assert_eq!((first.met(), second.met()), (1, 0), "{words}");
    }
}
