//! `inspect --stats`: what was counted, as lines for a terminal and as JSON.

use rustix::termios::tcgetwinsize;
use serde_json::{Value, json};

use crate::chronicle::frequent::{Frequent, MOST_TEXTS};
use crate::chronicle::statistics::{Statistics, StreamDays};
use chronicle_archive::{show_count, show_text};

/// How many texts are listed of each kind, and with `-v` or as JSON.
const LISTED: usize = 10;
const LISTED_IN_FULL: usize = 100;
/// The width where there is no terminal.
const WIDTH: usize = 80;
/// What stands in front of bars and counts.
const INDENT: &str = "    ";
/// The heights of bars.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines for people.
pub(super) fn as_text(
    statistics: &Statistics,
    rows: &[(String, u64)],
    in_full: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    for (stream, (_, rows)) in statistics.streams.iter().zip(rows) {
        lines.extend(days(stream, *rows, width()));
    }
    let limit = if in_full { LISTED_IN_FULL } else { LISTED };
    for (what, none, counts) in [
        ("projects by sessions", ["sessions", "without a project"], &statistics.projects),
        ("tools by events", ["events", "without a tool"], &statistics.tools),
        ("event types", ["events", "without a type"], &statistics.event_types),
    ] {
        if let Some(counts) = counts {
            lines.extend(list(what, none, counts, limit));
        }
    }
    if let Some(counted) = statistics.open_sessions {
        let all = show_count(counted.sessions, "sessions");
        lines.push(format!("  open sessions: {} of {all} without an end", number(counted.open)));
    }
    lines
}

/// The columns of the terminal that shows the result.
fn width() -> usize {
    let named = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let terminal = || tcgetwinsize(std::io::stdout()).ok().map(|size| size.ws_col.into());
    named.or_else(terminal).filter(|width| *width > 0).unwrap_or(WIDTH)
}

/// The rows of a stream by day: a line about them, and one with a bar for each day, or for several.
fn days(stream: &StreamDays, rows: u64, width: usize) -> Vec<String> {
    let days = &stream.days;
    let (Some(column), true) = (&stream.column, rows > 0) else { return Vec::new() };
    let head = format!("  {} by day ({})", show_text(&stream.stream), show_text(column));
    let mut spans = days.spans();
    let Some((first, mut most_rows)) = spans.next() else {
        return vec![format!("{head}: no time can be read")];
    };
    let (mut last, mut busiest) = (first.clone(), first.clone());
    for (day, rows) in spans {
        if rows > most_rows {
            (busiest, most_rows) = (day.clone(), rows);
        }
        last = day;
    }
    let (bars, days_per_bar) = days.bars(width.saturating_sub(INDENT.len() + 1));
    let mut parts = vec![match first == last {
        true => first,
        false => format!("{first} to {last}"),
    }];
    if last != busiest || bars.len() > 1 {
        parts.push(format!("most on {busiest}: {}", show_count(most_rows, "rows")));
    }
    if days_per_bar > 1 {
        parts.push(format!("{days_per_bar} days in each bar"));
    }
    if days.without() > 0 {
        parts.push(format!("{} without a readable time", show_count(days.without(), "rows")));
    }
    vec![format!("{head}: {}", parts.join(", ")), format!("{INDENT}{}", bar_line(&bars))]
}

/// A bar for each number; none for 0.
fn bar_line(numbers: &[u64]) -> String {
    let most = numbers.iter().copied().max().unwrap_or(0);
    let heights = HEIGHTS.len() as u64;
    let bar = |number: &u64| match *number {
        0 => ' ',
        // in 128 bits: a count may be anything
        number => {
            let height = u128::from(number) * u128::from(heights) / u128::from(most.max(1));
            HEIGHTS[usize::try_from(height).unwrap_or(0).clamp(1, HEIGHTS.len()) - 1]
        }
    };
    numbers.iter().map(bar).collect()
}

/// The most frequent texts, a line each, and how many others there are.
fn list(what: &str, [rows, without]: [&str; 2], counts: &Frequent, limit: usize) -> Vec<String> {
    let top = counts.top(limit);
    let mut head = match counts.different() {
        Some(0) => format!("  {what}: none"),
        Some(different) if different > top.len() => {
            format!("  {what}: the first {} of {different}", top.len())
        }
        Some(_) => format!("  {what}:"),
        None => format!(
            "  {what}: more than {}; counted in bounded memory, each may be too low by {} at most",
            number(MOST_TEXTS as u64),
            number(counts.undercount())
        ),
    };
    if counts.without() > 0 {
        let separator = if head.ends_with(':') { "" } else { "," };
        head.push_str(&format!("{separator} {} {without}", show_count(counts.without(), rows)));
    }
    let grouped: Vec<String> = top.iter().map(|(_, rows)| number(*rows)).collect();
    let digits = grouped.iter().map(String::len).max().unwrap_or(0);
    let line = |((text, _), rows): (&(String, u64), &String)| {
        let text = if text.is_empty() { "(empty)".to_owned() } else { show_text(text) };
        format!("{INDENT}{rows:>digits$}  {text}")
    };
    std::iter::once(head).chain(top.iter().zip(&grouped).map(line)).collect()
}

/// A number with its thousands apart.
fn number(number: u64) -> String {
    show_count(number, "").trim_end().to_owned()
}

/// The same as JSON.
pub(super) fn as_json(statistics: &Statistics) -> Value {
    let streams: Vec<Value> = statistics.streams.iter().map(days_json).collect();
    json!({
        "streams": streams,
        "projects": statistics.projects.as_ref().map(counts_json),
        "tools": statistics.tools.as_ref().map(counts_json),
        "event_types": statistics.event_types.as_ref().map(counts_json),
        "sessions": statistics.open_sessions.map(|counted| counted.sessions),
        "open_sessions": statistics.open_sessions.map(|counted| counted.open),
    })
}

fn days_json(stream: &StreamDays) -> Value {
    let days: Vec<Value> =
        stream.days.spans().map(|(day, rows)| json!({"day": day, "rows": rows})).collect();
    json!({
        "stream": stream.stream,
        "column": stream.column,
        "days_per_entry": stream.days.days_per_span(),
        "days": days,
        "unreadable_time_rows": stream.days.without(),
    })
}

fn counts_json(counts: &Frequent) -> Value {
    let top: Vec<Value> = (counts.top(LISTED_IN_FULL).into_iter())
        .map(|(text, rows)| json!({"text": text, "rows": rows}))
        .collect();
    json!({
        "different": counts.different(),
        "undercount": counts.undercount(),
        "without": counts.without(),
        "top": top,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_grow_with_their_numbers() {
        assert_eq!(bar_line(&[0, 1, 4, 8, 0, 2]), " ▁▄█ ▂");
        assert_eq!(bar_line(&[1]), "█");
        assert_eq!(bar_line(&[1, 1_000_000, u64::MAX]), "▁▁█");
        assert_eq!(bar_line(&[0, 0]), "  ");
    }

    #[test]
    fn a_list_says_what_it_leaves_out() {
        let mut counts = Frequent::default();
        for n in 0..12_u64 {
            (0..=n * 100).for_each(|_| counts.add(format!("tool {n}").as_bytes()));
        }
        counts.add(b"");
        counts.add_none();
        let lines = list("tools", ["events", "without a tool"], &counts, 2);
        assert_eq!(
            lines,
            [
                "  tools: the first 2 of 13, 1 event without a tool",
                "    1,101  tool 11",
                "    1,001  tool 10",
            ]
        );
        let all = list("tools", ["events", "without a tool"], &counts, 20);
        assert_eq!(all.first().map(String::as_str), Some("  tools: 1 event without a tool"));
        assert_eq!(all.last().map(String::as_str), Some("        1  tool 0"));
    }
}
