//! Unique values that an archive moves from row to row: where an import leads is a legal state, and the way there does not
//! matter.

use super::*;

both! {
    an_update_moves_unique_values_from_row_to_row
    a_value_of_a_row_that_stays_is_a_conflict
}

/// Four sessions with an event each.
fn four(backend: Backend, test_name: &str) -> Store {
    let store = backend.make(test_name);
    let all: String =
        (1..5).map(|n| session(n, &format!("cs-{n}")) + &event(10 + n, n, "stop", "1")).collect();
    store.import(&store.archive(&all), &[]).success();
    store
}

/// An archive in which some sessions have other values.
fn moving(store: &Store, moves: &[(u32, &str)]) -> PathBuf {
    let sessions: String = moves.iter().map(|(number, claude)| session(*number, claude)).collect();
    store.archive(&sessions)
}

/// The values of all sessions, in the order of their ids.
fn values(store: &Store, backend: Backend) -> Vec<String> {
    let (sessions, events) = (backend.sessions(), backend.events());
    let value = |number: u32| {
        store.one(&format!(
            "SELECT claude_session_id || (SELECT ' ' || count(*) FROM {events} e WHERE e.session_id = s.id) \
               FROM {sessions} s WHERE id = '{}'",
            id(number)
        ))
    };
    (1..5).map(value).collect()
}

fn an_update_moves_unique_values_from_row_to_row(backend: Backend) {
    let store = four(backend, "moved");
    let before = store.everything();
    let moves: [&[(u32, &str)]; 6] = [
        &[(1, "cs-2"), (2, "cs-1")],
        &[(1, "cs-2"), (2, "cs-3"), (3, "cs-1")],
        // each takes the value of the next one, or of the one before, and the last one gets a new value
        &[(1, "cs-2"), (2, "cs-3"), (3, "cs-4"), (4, "new")],
        &[(1, "new"), (2, "cs-1"), (3, "cs-2"), (4, "cs-3")],
        &[(1, "cs-3"), (2, "cs-4"), (3, "cs-1"), (4, "cs-2")],
        &[(1, "cs-4"), (2, "cs-2"), (3, "new"), (4, "cs-3")],
    ];
    for moves in moves {
        let archive = moving(&store, moves);
        let mut expected: Vec<String> = (1..5).map(|n| format!("cs-{n} 1")).collect();
        for (number, claude) in moves {
            expected[*number as usize - 1] = format!("{claude} 1");
        }
        let changed = moves.iter().filter(|(n, claude)| *claude != format!("cs-{n}")).count();
        for dry in [true, false] {
            let mut options = vec!["--on-conflict=update", "--json"];
            options.extend(dry.then_some("--dry-run"));
            let done = json_of(&store.import(&archive, &options).success());
            let counts = ["inserted_rows", "updated_rows", "skipped_rows", "conflicting_rows"]
                .map(|key| done["streams"][0][key].clone());
            let same = moves.len() - changed;
            assert_eq!(counts, [json!(0), json!(changed), json!(same), json!(0)], "{moves:?}");
            if dry {
                assert_same_rows(&before, &store.everything());
            }
        }
        assert_eq!(values(&store, backend), expected, "{moves:?}");
        let batch = store.history().last().expect("a batch").clone();
        let table = &batch["tables"][0];
        let noted = ["inserted", "updated", "deleted"].map(|what| table[what].clone());
        assert_eq!(noted, [json!(0), json!(changed), json!(0)], "{batch}");
        let after = store.everything();
        store.rollback("last", &[]).success();
        assert_same_rows(&before, &store.everything());
        store.rollback(&store.newest(), &[]).success();
        assert_same_rows(&after, &store.everything());
        store.rollback(&store.newest(), &[]).success();
        assert_same_rows(&before, &store.everything());
    }
}

fn a_value_of_a_row_that_stays_is_a_conflict(backend: Backend) {
    let store = four(backend, "moved_not");
    let before = store.everything();
    // the archive lacks the third one, whose value is the end of a chain, or the first one gets the value of one that has it
    for (moves, taker, giver) in
        [(&[(1, "cs-2"), (2, "cs-3")][..], 2, 3), (&[(1, "cs-2"), (2, "cs-1"), (4, "cs-3")], 4, 3)]
    {
        let archive = moving(&store, moves);
        let words =
            format!("its claude_session_id is already used by the row with key {}", id(giver));
        let update = ["--on-conflict=update"];
        store.import(&archive, &update).fails_with(11).stderr_has(&id(taker)).stderr_has(&words);
        store.import(&archive, &["--on-conflict=update", "--dry-run"]).fails_with(11);
        assert_same_rows(&before, &store.everything());
        store.import(&archive, &["--on-conflict=skip"]).success();
        assert_same_rows(&before, &store.everything());
    }
}

#[test]
fn a_row_that_was_changed_later_keeps_its_unique_value() {
    let store = four(Backend::Sqlite, "moved_newer");
    let before = store.everything();
    let changed = |number: u32, time: &str| {
        format!("UPDATE sessions SET updated_at = '2025-08-{time}' WHERE id = '{}';", id(number))
    };
    let archive = |second: &str| {
        let swapped = session(1, "cs-2") + &session(2, "cs-1");
        store.archive(&(swapped + &changed(1, "20 10:00:00") + &changed(2, second)))
    };
    let newer = ["--on-conflict=newer"];
    let words = format!("already used by the row with key {}", id(2));
    store.import(&archive("18 10:00:00"), &newer).fails_with(11).stderr_has(&words);
    assert_same_rows(&before, &store.everything());
    store.import(&archive("20 10:00:00"), &newer).success();
    assert_eq!(values(&store, Backend::Sqlite)[..2], ["cs-2 1", "cs-1 1"]);
}
