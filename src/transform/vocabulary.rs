//! The types of events: Chronicle's own rule from the old ones to those of today, and the nearest
//! one that a target allows.

/// The key of a payload, or the column, with the hook that an event came from.
pub const HOOK: &str = "hook_event_name";
/// The columns with payloads.
pub const PAYLOADS: [&str; 2] = ["data", "metadata"];
/// The option that maps old types.
pub const FLAG: &str = "--map-event-types upstream";
/// What that option does.
pub const HINT: &str =
    "--map-event-types upstream gives old types the names that Chronicle gave them later";

/// What an old type is called today, by the rule of Chronicle's own migration; `hook` is the event's
/// `hook_event_name`. None if the type stays.
///
/// The rule is that of Chronicle's migration 20241202_120000, with the two types of its hooks that it
/// forgot: `subagent_termination` and `pre_compaction`.
pub fn upstream(event_type: &str, hook: Option<&str>) -> Option<&'static str> {
    Some(match (event_type, hook) {
        ("tool_use", Some("PreToolUse")) => "pre_tool_use",
        ("tool_use", _) => "post_tool_use",
        ("prompt", _) => "user_prompt_submit",
        ("session_end", _) => "stop",
        ("notification", Some("PreCompact")) => "pre_compact",
        ("notification", Some("SubagentStop")) => "subagent_stop",
        ("notification", Some("PreToolUse")) => "pre_tool_use",
        ("subagent_termination", _) => "subagent_stop",
        ("pre_compaction", _) => "pre_compact",
        _ => return None,
    })
}

/// What a type is called where only the four of Chronicle's migration tutorial are allowed. None if the
/// type is one of them or unknown.
///
/// The tutorial says nothing of the others. Those of tools and of the end of a session have their
/// counterparts there; the rest become `tool_use`, which neither begins nor ends anything.
pub fn tutorial(event_type: &str) -> Option<&'static str> {
    Some(match event_type {
        "user_prompt_submit" => "prompt",
        "stop" | "subagent_stop" | "subagent_termination" => "session_end",
        "pre_tool_use" | "post_tool_use" | "notification" | "error" | "pre_compact"
        | "pre_compaction" => "tool_use",
        _ => return None,
    })
}

/// Whether the rule asks for the hook of an event of this type.
pub fn asks_for_hook(event_type: &[u8]) -> bool {
    matches!(event_type, b"tool_use" | b"notification")
}

/// The nearest type that a target allows: today's name, then the old one, then `notification`, as
/// which Chronicle's hooks send every type that they do not know.
pub fn nearest(event_type: &str, hook: Option<&str>, allowed: &[String]) -> Option<&'static str> {
    let older = match event_type {
        "pre_tool_use" | "post_tool_use" => Some("tool_use"),
        "user_prompt_submit" => Some("prompt"),
        "stop" => Some("session_end"),
        _ => None,
    };
    let is_allowed = |name: &&str| allowed.iter().any(|a| a == name);
    let mut candidates =
        [upstream(event_type, hook), older, Some("notification")].into_iter().flatten();
    candidates.find(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_types_become_todays_by_the_hook_they_came_from() {
        for (old, hook, new) in [
            ("tool_use", Some("PreToolUse"), Some("pre_tool_use")),
            ("tool_use", Some("PostToolUse"), Some("post_tool_use")),
            ("tool_use", None, Some("post_tool_use")),
            ("prompt", None, Some("user_prompt_submit")),
            ("session_end", Some("Stop"), Some("stop")),
            ("notification", Some("PreCompact"), Some("pre_compact")),
            ("notification", Some("SubagentStop"), Some("subagent_stop")),
            ("notification", Some("PreToolUse"), Some("pre_tool_use")),
            ("notification", Some("Notification"), None),
            ("subagent_termination", None, Some("subagent_stop")),
            ("pre_compaction", None, Some("pre_compact")),
            ("stop", None, None),
            ("unheard_of", None, None),
        ] {
            assert_eq!(upstream(old, hook), new, "{old} {hook:?}");
        }
    }

    #[test]
    fn every_type_of_today_has_one_in_the_tutorial() {
        let four = ["prompt", "tool_use", "session_start", "session_end"];
        for event_type in [
            "notification",
            "error",
            "pre_tool_use",
            "post_tool_use",
            "user_prompt_submit",
            "stop",
            "subagent_stop",
            "pre_compact",
        ] {
            assert!(tutorial(event_type).is_some_and(|t| four.contains(&t)), "{event_type}");
        }
        assert!(four.iter().all(|t| tutorial(t).is_none()));
        assert_eq!(tutorial("unheard_of"), None);
    }

    #[test]
    fn the_nearest_type_is_one_that_the_target_allows() {
        let allowed = |types: &[&str]| types.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let four = allowed(&["prompt", "tool_use", "session_start", "session_end"]);
        assert_eq!(nearest("stop", None, &four), Some("session_end"));
        assert_eq!(nearest("pre_compact", None, &four), None);
        let today = allowed(&["notification", "stop", "pre_tool_use"]);
        assert_eq!(nearest("tool_use", Some("PreToolUse"), &today), Some("pre_tool_use"));
        assert_eq!(nearest("unheard_of", None, &today), Some("notification"));
    }
}
