//! The end of `check` of a database: how its Chronicle stands.

use crate::chronicle::status::Status;
use crate::source::Orphans;
use chronicle_archive::{show_count, show_number, show_text};

/// The lines for people.
pub(super) fn lines(status: &Status, database: &str, orphans: &[Orphans]) -> Vec<String> {
    let server = status.server.as_deref().map_or_else(String::new, |server| format!(" ({server})"));
    let open = show_count(status.open_sessions, "open");
    let last = status.last_event.as_deref().map_or_else(
        || "none with a time that can be read".to_owned(),
        |last| format!("the last at {}", show_text(last)),
    );
    let orphans: u64 = orphans.iter().map(|orphans| orphans.rows).sum();
    let mut lines = vec![
        format!("  connection  {database}{server}"),
        format!("  sessions    {}, {open}", show_number(status.sessions)),
        format!("  events      {}, {last}", show_number(status.events)),
        format!("  orphans     {}", show_number(orphans)),
    ];
    for (n, session) in status.latest_sessions.iter().enumerate() {
        let head = if n == 0 { "  latest      " } else { "              " };
        let end = session.end.as_deref().map_or_else(|| "open".to_owned(), show_text);
        let project = session.project.as_deref().unwrap_or("no project");
        let (start, project, id) =
            (show_text(&session.start), show_text(project), show_text(&session.id));
        lines.push(format!("{head}{start} to {end}  {project}  {id}"));
    }
    lines
}
