//! Payloads as Chronicle writes them: the usual keys, and text up to their size.

use std::fmt::Write as _;

use super::{Random, Session};

/// How the JSON is written: as Python's `json.dumps`, or as a web server does.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Style {
    Ascii,
    Compact,
}

pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) hook: &'static str,
    pub(super) body: &'static str,
    pub(super) has_tool: bool,
    /// How many of a thousand events are of this kind.
    pub(super) share: u64,
}

pub(super) const KINDS: [Kind; 9] = [
    Kind {
        name: "session_start",
        hook: "SessionStart",
        body: "git_status",
        has_tool: false,
        share: 20,
    },
    Kind {
        name: "user_prompt_submit",
        hook: "UserPromptSubmit",
        body: "prompt",
        has_tool: false,
        share: 70,
    },
    Kind {
        name: "pre_tool_use",
        hook: "PreToolUse",
        body: "tool_input",
        has_tool: true,
        share: 390,
    },
    Kind {
        name: "post_tool_use",
        hook: "PostToolUse",
        body: "tool_response",
        has_tool: true,
        share: 390,
    },
    Kind {
        name: "notification",
        hook: "Notification",
        body: "message",
        has_tool: false,
        share: 40,
    },
    Kind { name: "stop", hook: "Stop", body: "last_message", has_tool: false, share: 50 },
    Kind {
        name: "subagent_stop",
        hook: "SubagentStop",
        body: "result",
        has_tool: false,
        share: 20,
    },
    Kind {
        name: "pre_compact",
        hook: "PreCompact",
        body: "custom_instructions",
        has_tool: false,
        share: 10,
    },
    Kind { name: "error", hook: "PostToolUse", body: "error_message", has_tool: false, share: 10 },
];

impl Kind {
    pub(super) fn any(random: &mut Random) -> &'static Kind {
        let mut rank = random.below(1_000);
        for kind in &KINDS {
            if rank < kind.share {
                return kind;
            }
            rank -= kind.share;
        }
        &KINDS[0]
    }
}

pub(super) struct Event<'a> {
    pub(super) session: &'a Session,
    pub(super) kind: &'static Kind,
    pub(super) tool: Option<&'static str>,
    pub(super) size: usize,
    pub(super) style: Style,
}

impl Event<'_> {
    /// Writes the payload into `out`: its usual keys, and then text up to its size.
    pub(super) fn payload(
        &self,
        words: &Words,
        random: &mut Random,
        text: &mut String,
        out: &mut String,
    ) {
        let (comma, colon) = match self.style {
            Style::Ascii => (", ", ": "),
            Style::Compact => (",", ":"),
        };
        let Session { claude_id, project, branch, .. } = self.session;
        let name = project.rsplit('/').next().unwrap_or_default();
        out.clear();
        let pair = |out: &mut String, key: &str, value: &str| {
            out.push_str(if out.is_empty() { "{" } else { comma });
            push_json(out, key, self.style);
            out.push_str(colon);
            push_json(out, value, self.style);
        };
        pair(out, "session_id", claude_id);
        pair(
            out,
            "transcript_path",
            &format!("/Users/robin/.claude/projects/{name}/{claude_id}.jsonl"),
        );
        pair(out, "cwd", project);
        pair(out, "hook_event_name", self.kind.hook);
        if self.kind.name == "session_start" {
            pair(out, "git_branch", branch);
        }
        if let Some(tool) = self.tool {
            pair(out, "tool_name", tool);
        }
        let key = |out: &mut String, key: &str| {
            out.push_str(comma);
            push_json(out, key, self.style);
            out.push_str(colon);
        };
        if self.kind.name == "post_tool_use" {
            key(out, "duration_ms");
            // Writing to a string cannot fail.
            let _ = write!(out, "{}", 3 + random.below(9_000));
        }
        key(out, self.kind.body);
        let nested = self.tool.is_some();
        if nested {
            out.push('{');
            push_json(out, "file_path", self.style);
            out.push_str(colon);
            text.clear();
            text.push_str(project);
            text.push('/');
            words.push_path(random, text);
            push_json(out, text, self.style);
            key(out, "content");
        }
        text.clear();
        let room = self.size.saturating_sub(out.len() + 4);
        // An escape takes more room than its character; 1 in 20 is about what the text holds.
        let aim = room - room / 20;
        while text.len() < aim {
            words.push_line(random, text);
        }
        cut(text, aim);
        push_json(out, text, self.style);
        out.push_str(if nested { "}}" } else { "}" });
    }
}

/// Shortens a text to at most `size` bytes.
pub(super) fn cut(text: &mut String, size: usize) {
    let end = (0..=size.min(text.len())).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    text.truncate(end);
}

/// Appends a JSON string.
pub(super) fn push_json(out: &mut String, text: &str, style: Style) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii() || style == Style::Compact => out.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

pub(super) const PROJECTS: [&str; 6] = [
    "/Users/robin/code/greenhouse",
    "/Users/robin/code/recipe-box",
    "/Users/robin/code/tide-tables",
    "/Users/robin/code/chess-clock",
    "/home/robin/src/café-menu",
    "/home/robin/src/weather-station/firmware",
];
pub(super) const BRANCHES: [&str; 4] = ["main", "feature/dry-run", "fix/rounding", "release/1.4"];
pub(super) const TOOLS: [&str; 8] =
    ["Read", "Edit", "Bash", "Grep", "Write", "Glob", "Task", "mcp__notes__search"];

/// A vocabulary, from which text, code and logs are made.
pub(super) struct Words {
    pub(super) words: Vec<String>,
}

impl Words {
    pub(super) fn new(random: &mut Random) -> Words {
        const SYLLABLES: [&str; 40] = [
            "ta", "re", "con", "mi", "so", "ver", "lo", "pa", "ni", "tion", "er", "ing", "al",
            "ment", "de", "un", "in", "pro", "ble", "ma", "se", "ca", "ro", "ist", "ex", "per",
            "of", "the", "an", "or", "st", "ec", "ib", "ul", "qu", "fe", "gra", "ph", "wa", "key",
        ];
        let mut words: Vec<String> = (0..1_200)
            .map(|_| (0..2 + random.below(2)).map(|_| random.pick(&SYLLABLES)).collect())
            .collect();
        // Some that are not ASCII, one in sixty.
        for word in ["café", "naïve", "größe", "señal", "→", "✓", "豆腐", "тест", "🍵", "€"]
        {
            words.extend(std::iter::repeat_n(word.to_owned(), 4));
        }
        Words { words }
    }

    /// A word; some are far more frequent than others, as in any language.
    pub(super) fn word(&self, random: &mut Random) -> &str {
        let rank = random.fraction();
        &self.words[(rank * rank * rank * self.words.len() as f64) as usize]
    }

    pub(super) fn push_path(&self, random: &mut Random, out: &mut String) {
        const ENDINGS: [&str; 6] = ["py", "ts", "rs", "md", "json", "tsx"];
        let _ = write!(
            out,
            "src/{}/{}.{}",
            self.word(random),
            self.word(random),
            random.pick(&ENDINGS)
        );
    }

    pub(super) fn push_line(&self, random: &mut Random, out: &mut String) {
        let mut word = || self.word(random).to_owned();
        let (a, b, c, d) = (word(), word(), word(), word());
        let number = random.below(1_000);
        // Writing to a string cannot fail.
        let _ = match random.below(12) {
            0 => writeln!(out, "    if {a}.{b} is None:\n        return {c}(self.{d})"),
            1 => writeln!(out, "export function {a}({b}: string, {c}: number): Promise<{d}> {{"),
            2 => writeln!(
                out,
                "    let {a} = self.{b}.iter().filter(|{c}| {c}.{d} > {number}).count();"
            ),
            3 => writeln!(
                out,
                "2025-03-{:02} 10:{:02}:11 INFO {a}.{b}: {c} {d} took {number} ms",
                number % 28 + 1,
                number % 60
            ),
            4 => writeln!(out, "        \"{a}\": \"{b} {c}\","),
            5 => writeln!(out, "commit {:010x}\n    {a} {b} {c}", random.next() >> 24),
            6 => writeln!(out, "src/{a}/{b}.py:{number}: error: {c} has no attribute \"{d}\""),
            7 => writeln!(out, "}}\n"),
            8 => writeln!(out, "\treturn fmt.Errorf(\"{a} {b}: %w\", err)"),
            _ => writeln!(
                out,
                "{a} {b} {c} {d} {} {} {}.",
                self.word(random),
                self.word(random),
                self.word(random)
            ),
        };
    }
}
