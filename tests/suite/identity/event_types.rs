//! Old types of events, mapped or refused.

use super::*;

/// One event of every type that Chronicle ever wrote, with the hook it came from.
const TYPES: [(&str, &str, &str); 14] = [
    ("tool_use", "PreToolUse", "pre_tool_use"),
    ("tool_use", "PostToolUse", "post_tool_use"),
    ("tool_use", "", "post_tool_use"),
    ("prompt", "UserPromptSubmit", "user_prompt_submit"),
    ("session_end", "Stop", "stop"),
    ("notification", "PreCompact", "pre_compact"),
    ("notification", "SubagentStop", "subagent_stop"),
    ("notification", "PreToolUse", "pre_tool_use"),
    ("notification", "Notification", "notification"),
    ("subagent_termination", "SubagentStop", "subagent_stop"),
    ("pre_compaction", "PreCompact", "pre_compact"),
    ("session_start", "SessionStart", "session_start"),
    ("error", "", "error"),
    ("stop", "Stop", "stop"),
];

fn typed() -> String {
    let mut sql = session(1);
    for (n, (old, hook, _)) in TYPES.iter().enumerate() {
        let n = n as u32 + 10;
        let named = format!("{{\"hook_event_name\": \"{hook}\"}}");
        let data = if hook.is_empty() { "{}" } else { &named };
        sql += &event(n, 1, old).replace(&format!("{{\"n\": {n}}}"), data);
    }
    sql
}

#[test]
fn old_event_types_are_mapped_by_chronicles_own_rule() {
    let scratch = Scratch::new("event_types");
    let source = scratch.sqlite("source.db", HOOKS, &typed());
    let archive = scratch.export(&source);
    let server = postgres("postgres-upstream.sql", "event_types", "");
    import(&archive, &server.url(), &[])
        .fails_with(10)
        .stderr_has("event_type")
        .stderr_has("--map-event-types upstream");
    assert_eq!(postgres_dump(&server), Vec::<String>::new());
    import(
        &archive,
        &server.url(),
        &["--map-event-types=upstream", "--on-unrepresentable=preserve", "-v"],
    )
    .success()
    .stderr_has("tool_use is pre_tool_use today");
    let types = "SELECT event_type FROM chronicle_events ORDER BY id";
    assert_eq!(server.psql(types), TYPES.map(|(_, _, new)| new).join("\n"));
    // they were kept
    let back = scratch.sqlite("back.db", HOOKS, "");
    scratch.shift(&server.url(), &back, &[]).success();
    let types = "SELECT event_type FROM events ORDER BY id";
    assert_eq!(ask(&back, types), TYPES.map(|(old, ..)| old).join("\n"));

    // a file takes any type unchanged, and maps it on request
    let kept = scratch.sqlite("kept.db", HOOKS, "");
    import(&archive, &kept, &[]).success();
    assert_eq!(ask(&kept, types), TYPES.map(|(old, ..)| old).join("\n"));
    let mapped = scratch.sqlite("mapped.db", HOOKS, "");
    import(&archive, &mapped, &["--map-event-types=upstream"]).success();
    assert_eq!(ask(&mapped, types), TYPES.map(|(_, _, new)| new).join("\n"));
}

#[test]
fn a_refused_event_type_is_found_before_loading() {
    let scratch = Scratch::new("unknown_type");
    let sql = session(1) + &event(11, 1, "stop") + &event(12, 1, "dreamt");
    let source = scratch.sqlite("source.db", HOOKS, &sql);
    let archive = scratch.export(&source);
    let strict = "CREATE TABLE events_strict AS SELECT 1; DROP TABLE events; CREATE TABLE events (id TEXT PRIMARY KEY, \
        session_id TEXT, event_type TEXT NOT NULL CHECK (event_type IN ('stop', 'notification')), timestamp TEXT, data TEXT, \
        tool_name TEXT, duration_ms INTEGER, created_at TEXT)";
    let server = postgres("postgres-upstream.sql", "unknown_type", "");
    let file = scratch.sqlite("strict.db", HOOKS, strict);
    for to in [server.url(), file.clone()] {
        import(&archive, &to, &[])
            .fails_with(10)
            .stderr_has("\"dreamt\" is not allowed by the target's CHECK")
            .stderr_has(&id(12));
        Program::new(["check", "--strict", words(&archive), "--to", &to])
            .run()
            .fails_with(10)
            .stdout_has("dreamt");
        import(&archive, &to, &["--on-unrepresentable=preserve"]).success();
    }
    let types = "SELECT event_type FROM chronicle_events ORDER BY id";
    assert_eq!(server.psql(types), "stop\nnotification");
    for from in [server.url(), file] {
        let records = records(&scratch.export(&from), "events");
        let types: Vec<_> = records.iter().map(|r| &r["event_type"]).collect();
        assert_eq!(types, ["stop", "dreamt"], "{from}");
    }
}
