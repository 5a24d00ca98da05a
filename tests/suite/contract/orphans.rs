//! Archives of one import whose events refer to sessions of other archives, or to none: whatever their order, each event is
//! there once and refers to its session.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

both! {
    an_event_meets_its_session_in_any_order_of_archives
    sessions_under_many_ids_get_all_their_events
    an_event_without_a_session_anywhere_stays_an_orphan
    an_event_under_two_ids_of_its_session_is_one_event
    an_event_of_two_sessions_is_a_conflict_in_any_order
    a_check_believes_what_a_later_archive_tells
}

const KEEP: &str = "--orphans=keep";

/// A database that enforces no references, as Chronicle's own files.
fn loose(backend: Backend, test_name: &str) -> Store {
    let store = backend.make(test_name);
    if backend == Backend::Postgres {
        store.run("ALTER TABLE chronicle_events DROP CONSTRAINT chronicle_events_session_id_fkey");
    }
    store
}

#[track_caller]
fn import_in(store: &Store, archives: &[&PathBuf], options: &[&str]) -> Output {
    let url = store.url();
    let names = archives.iter().map(|path| path.to_str().expect("a path in UTF-8"));
    let start = ["import", "--strict"].into_iter().chain(names);
    Program::new(start.chain(["--to", &url, KEEP, "--json"]).chain(options.iter().copied())).run()
}

/// The events with the session that each refers to, by the name that Claude gives it.
fn events_of(store: &Store, backend: Backend) -> Vec<String> {
    let (sessions, events) = (backend.sessions(), backend.events());
    let all = if backend == Backend::Sqlite { "group_concat" } else { "string_agg" };
    let sql = format!(
        "SELECT coalesce({all}(right_of.event, ';'), '') FROM \
         (SELECT CAST(e.id AS text) || ' ' || coalesce(s.claude_session_id, CAST(e.session_id AS text)) AS event \
            FROM {events} e LEFT JOIN {sessions} s ON s.id = e.session_id) AS right_of"
    );
    let mut found: Vec<String> = store.one(&sql).split(';').map(str::to_owned).collect();
    found.sort();
    found
}

/// What an import says that must be the same of its dry run.
fn said(output: &Output) -> Value {
    let done = json_of(output);
    json!({"streams": done["streams"], "orphans": done["orphans"]})
}

/// All orders of so many things.
fn orders(count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(count - 1);
    let with_last = |order: &Vec<usize>| {
        (0..count).map(|at| [&order[..at], &[count - 1], &order[at..]].concat()).collect::<Vec<_>>()
    };
    shorter.iter().flat_map(with_last).collect()
}

/// Imports archives in all orders: each gives these events and sessions, as its dry run says, and is undone as a whole.
/// `orphans` is how many events remain without a session.
fn in_all_orders(
    backend: Backend,
    archives: &[PathBuf],
    events: &[String],
    (sessions, orphans): (usize, u64),
) -> Result<(), String> {
    let store = loose(backend, "orphans_in_all_orders");
    let before = store.dump();
    for order in orders(archives.len()) {
        let archives: Vec<&PathBuf> = order.iter().map(|n| &archives[*n]).collect();
        let dry = import_in(&store, &archives, &["--dry-run"]);
        if dry.code != Some(0) || before != store.dump() {
            return Err(format!("{order:?}: dry run: {}", dry.stderr));
        }
        let done = import_in(&store, &archives, &[]);
        if done.code != Some(0) {
            return Err(format!("{order:?}: {}", done.stderr));
        }
        if said(&dry) != said(&done) {
            return Err(format!("{order:?}: {} but {}", said(&dry), said(&done)));
        }
        let found = events_of(&store, backend);
        if found != events {
            return Err(format!("{order:?}: {found:#?} and not {events:#?}"));
        }
        let count = store.one(&format!("SELECT count(*) FROM {}", backend.sessions()));
        let left = json_of(&done)["orphans"].as_array().expect("orphans").clone();
        let left: u64 = left.iter().map(|o| o["rows"].as_u64().expect("rows")).sum();
        if (count.clone(), left) != (sessions.to_string(), orphans) {
            return Err(format!("{order:?}: {count} sessions, {left} orphans"));
        }
        store.rollback("last", &[]).success();
        if before != store.dump() {
            return Err(format!("{order:?}: not as before: {:#?}", store.dump()));
        }
    }
    Ok(())
}

fn an_event_meets_its_session_in_any_order_of_archives(backend: Backend) {
    let store = loose(backend, "orphans_three");
    let archives = [
        session(1, "cs-1") + &event(11, 1, "stop", "1"),
        session(2, "cs-1") + &event(11, 2, "stop", "1") + &event(12, 2, "stop", "1"),
        event(12, 2, "stop", "1") + &event(13, 1, "stop", "1"),
    ]
    .map(|sql| store.archive(&sql));
    let events = [11, 12, 13].map(|number| format!("{} cs-1", id(number)));
    in_all_orders(backend, &archives, &events, (1, 0)).expect("the same content");
    // the session keeps the id that the first archive with it has
    for (order, kept) in [([0, 2, 1], 1), ([2, 1, 0], 2)] {
        let store = loose(backend, "orphans_first");
        let archives: Vec<&PathBuf> = order.iter().map(|n| &archives[*n]).collect();
        import_in(&store, &archives, &[]).success();
        assert_eq!(store.one(&format!("SELECT id FROM {}", backend.sessions())), id(kept));
    }
}

fn an_event_without_a_session_anywhere_stays_an_orphan(backend: Backend) {
    let store = loose(backend, "orphans_nowhere");
    let archives = [
        session(1, "cs-1") + &event(11, 1, "stop", "1"),
        session(2, "cs-1") + &event(12, 7, "stop", "1"),
        event(13, 2, "stop", "1") + &event(14, 8, "stop", "1"),
    ]
    .map(|sql| store.archive(&sql));
    let events = [
        format!("{} cs-1", id(11)),
        format!("{} {}", id(12), id(7)),
        format!("{} cs-1", id(13)),
        format!("{} {}", id(14), id(8)),
    ];
    in_all_orders(backend, &archives, &events, (1, 2)).expect("the same content");
}

fn an_event_under_two_ids_of_its_session_is_one_event(backend: Backend) {
    let store = loose(backend, "orphans_disputed");
    let archives = [
        session(1, "cs-1"),
        session(2, "cs-1") + &event(12, 2, "stop", "1") + &event(13, 2, "stop", "1"),
        event(12, 1, "stop", "1") + &event(13, 3, "stop", "1"),
        session(3, "cs-1"),
    ]
    .map(|sql| store.archive(&sql));
    let events = [12, 13].map(|number| format!("{} cs-1", id(number)));
    in_all_orders(backend, &archives, &events, (1, 0)).expect("the same content");
}

fn an_event_of_two_sessions_is_a_conflict_in_any_order(backend: Backend) {
    let store = loose(backend, "orphans_two_sessions");
    let own = session(1, "cs-1") + &event(12, 1, "stop", "1");
    for (other, more) in [
        (session(2, "cs-2"), event(12, 2, "stop", "1")),
        (session(1, "cs-1"), event(12, 2, "stop", "1")),
        (session(1, "cs-1"), event(12, 2, "pre_tool_use", "1") + &session(2, "cs-2")),
    ] {
        let archives = [own.clone(), other, more].map(|sql| store.archive(&sql));
        for order in orders(3) {
            let archives: Vec<&PathBuf> = order.iter().map(|n| &archives[*n]).collect();
            for mode in [&[][..], &["--dry-run"]] {
                import_in(&store, &archives, mode).fails_with(11).stderr_has(&id(12));
            }
            let words = archives.iter().map(|path| path.to_str().expect("a path in UTF-8"));
            let (url, check) = (store.url(), ["check", "--strict", KEEP].into_iter());
            Program::new(check.chain(words).chain(["--to", &url])).run().fails_with(11);
            assert_eq!(store.dump(), Vec::<String>::new());
        }
    }
}

fn a_check_believes_what_a_later_archive_tells(backend: Backend) {
    let store = loose(backend, "orphans_checked");
    let archives = [
        event(12, 1, "stop", "1"),
        session(2, "cs-1") + &event(12, 2, "stop", "1"),
        session(1, "cs-1"),
    ]
    .map(|sql| store.archive(&sql));
    for order in orders(3) {
        let words = order.iter().map(|n| archives[*n].to_str().expect("a path in UTF-8"));
        let (url, check) = (store.url(), ["check", "--strict", KEEP].into_iter());
        Program::new(check.chain(words).chain(["--to", &url])).run().success();
    }
}

/// An archive: under which ids it has the sessions, and under which of them the events that it has refer to theirs.
type Held = (Vec<Option<u32>>, Vec<Option<u32>>);

const SESSIONS: usize = 3;
const IDS: u32 = 3;
const EVENTS: usize = 5;

/// The session of an event.
fn session_of_event(event: usize) -> usize {
    event % SESSIONS
}

/// One of the ids that a session has.
fn known_id(session: usize, which: u32) -> u32 {
    100 + 10 * u32::try_from(session).expect("a small number") + which
}

/// A few archives.
fn worlds() -> impl Strategy<Value = Vec<Held>> {
    let id_of = || prop_oneof![1 => Just(None), 2 => (0..IDS).prop_map(Some)];
    let held =
        (proptest::collection::vec(id_of(), SESSIONS), proptest::collection::vec(id_of(), EVENTS));
    proptest::collection::vec(held, 2..5)
}

fn sessions_under_many_ids_get_all_their_events(backend: Backend) {
    let config =
        Config { cases: 6, failure_persistence: None, max_shrink_iters: 20, ..Config::default() };
    let result = TestRunner::new(config)
        .run(&worlds(), |archives| spread(backend, &archives).map_err(TestCaseError::fail));
    result.unwrap_or_else(|error| panic!("{error}"));
}

/// What the events of archives are in the end, with the session of each or the id that nobody knows; an error if it is not
/// the same everywhere. And how many of them nobody knows the session of.
fn expected(archives: &[Held]) -> Result<(Vec<String>, u64), String> {
    let (mut all, mut orphans) = (Vec::new(), 0);
    for event in 0..EVENTS {
        let of = session_of_event(event);
        let is_known = |which: u32| archives.iter().any(|(ids, _)| ids[of] == Some(which));
        let means = |which: u32| match is_known(which) {
            true => format!("cs-{of}"),
            false => id(known_id(of, which)),
        };
        let copies = archives.iter().filter_map(|(_, events)| events[event]);
        let mut meant: Vec<String> = copies.map(means).collect();
        meant.sort();
        meant.dedup();
        if meant.len() > 1 {
            return Err(format!("event {event} is of {meant:?}"));
        }
        orphans += u64::from(meant.iter().any(|means| !means.starts_with("cs-")));
        all.extend(meant.iter().map(|means| format!("{} {means}", id(event_id(event)))));
    }
    if all.is_empty() {
        all.push(String::new());
    }
    Ok((all, orphans))
}

fn event_id(event: usize) -> u32 {
    20 + u32::try_from(event).expect("a small number")
}

fn spread(backend: Backend, archives: &[Held]) -> Result<(), String> {
    let store = loose(backend, "orphans_spread");
    let sql = |(sessions, events): &Held| {
        let known = |s: usize| Some(session(known_id(s, sessions[s]?), &format!("cs-{s}")));
        let refers = |e: usize| {
            let of = known_id(session_of_event(e), events[e]?);
            Some(event(event_id(e), of, "stop", "1"))
        };
        let sessions = (0..SESSIONS).filter_map(known);
        sessions.chain((0..EVENTS).filter_map(refers)).collect::<String>()
    };
    let files: Vec<PathBuf> = archives.iter().map(|held| store.archive(&sql(held))).collect();
    let has = |s: &usize| archives.iter().any(|(ids, _)| ids[*s].is_some());
    let sessions = (0..SESSIONS).filter(has).count();
    match expected(archives) {
        Ok((events, orphans)) => in_all_orders(backend, &files, &events, (sessions, orphans)),
        Err(why) => {
            for order in orders(files.len()) {
                let files: Vec<&PathBuf> = order.iter().map(|n| &files[*n]).collect();
                let code = import_in(&store, &files, &[]).code;
                if code != Some(11) {
                    return Err(format!("{order:?}: {code:?}, although {why}"));
                }
            }
            Ok(())
        }
    }
}
