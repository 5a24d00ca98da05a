//! Archives of one import whose events refer to sessions of other archives, or to none: whatever their order, each event is
//! there once and refers to its session.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

both! {
    an_event_meets_its_session_in_any_order_of_archives
    sessions_under_many_ids_get_all_their_events
    an_event_without_a_session_anywhere_stays_an_orphan
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

/// An archive: under which ids it has the sessions, if it has them, and which of the events.
type Held = (Vec<Option<u32>>, Vec<bool>);

const SESSIONS: u32 = 3;
const IDS: u32 = 3;
const EVENTS: usize = 6;

/// One of the ids that a session has.
fn known_id(session: u32, which: u32) -> u32 {
    100 + session * 10 + which
}

/// For each event its session and under which id it refers to it, and up to four archives.
fn worlds() -> impl Strategy<Value = (Vec<(u32, u32)>, Vec<Held>)> {
    let event = (0..SESSIONS, 0..IDS);
    let id_of = prop_oneof![1 => Just(None), 2 => (0..IDS).prop_map(Some)];
    let held = (
        proptest::collection::vec(id_of, SESSIONS as usize),
        proptest::collection::vec(any::<bool>(), EVENTS),
    );
    (proptest::collection::vec(event, EVENTS), proptest::collection::vec(held, 2..4))
}

fn sessions_under_many_ids_get_all_their_events(backend: Backend) {
    let config =
        Config { cases: 6, failure_persistence: None, max_shrink_iters: 20, ..Config::default() };
    let result = TestRunner::new(config).run(&worlds(), |(events, archives)| {
        spread(backend, &events, &archives).map_err(TestCaseError::fail)
    });
    result.unwrap_or_else(|error| panic!("{error}"));
}

fn spread(backend: Backend, events: &[(u32, u32)], archives: &[Held]) -> Result<(), String> {
    let store = loose(backend, "orphans_spread");
    let event_id = |n: usize| 20 + u32::try_from(n).expect("a small number");
    let sql = |(sessions, held): &Held| {
        let mut sql: String = (0..SESSIONS)
            .filter_map(|s| Some(session(known_id(s, sessions[s as usize]?), &format!("cs-{s}"))))
            .collect();
        for (n, (of, which)) in events.iter().enumerate().filter(|(n, _)| held[*n]) {
            sql += &event(event_id(n), known_id(*of, *which), "stop", "1");
        }
        sql
    };
    let files: Vec<PathBuf> = archives.iter().map(|held| store.archive(&sql(held))).collect();
    let is_known =
        |of: u32, which: u32| archives.iter().any(|(s, _)| s[of as usize] == Some(which));
    let (mut expected, mut orphans) = (Vec::new(), 0);
    for (n, (of, which)) in events.iter().enumerate() {
        let copies = archives.iter().filter(|(_, held)| held[n]).count();
        let refers = match is_known(*of, *which) {
            true => format!("cs-{of}"),
            false => id(known_id(*of, *which)),
        };
        if copies > 0 {
            expected.push(format!("{} {refers}", id(event_id(n))));
            orphans += u64::from(!is_known(*of, *which));
        }
    }
    if expected.is_empty() {
        expected.push(String::new());
    }
    let sessions = (0..SESSIONS as usize)
        .filter(|s| archives.iter().any(|(ids, _)| ids[*s].is_some()))
        .count();
    in_all_orders(backend, &files, &expected, (sessions, orphans))
}
