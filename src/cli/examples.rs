//! The end of every command's long help: examples, the variables that it reads, and the exit codes.

use super::args::CAT;
use super::environment;
use crate::error::Code;

/// What an example does, and its command line; a test gives each of them to the program's own parser.
pub(super) type Example = (&'static str, &'static str);

/// Examples of the program as a whole.
const PROGRAM: &[Example] = &[
    ("Take a snapshot of Chronicle's own database", "chronicle-dump export -o backup.ndjson.zst"),
    (
        "Load it into a new SQLite file",
        "chronicle-dump import backup.ndjson.zst --to restored.db --create",
    ),
    (
        "Copy the database of another machine",
        "ssh laptop chronicle-dump export \\\n    \
         | chronicle-dump import --to from-laptop.db --create",
    ),
];

/// The commands in the order of the help, each with its examples.
const COMMANDS: [(&str, &[Example]); 16] = [
    (
        "export",
        &[
            (
                "Chronicle's own database, wherever Chronicle keeps it",
                "chronicle-dump export -o backup.ndjson.zst",
            ),
            (
                "A file, into an archive that is named after it and the time",
                "chronicle-dump export chronicle.db -o '{source}-{date}-{time}.ndjson.zst'",
            ),
            (
                "A Supabase project, with the password in a file",
                "chronicle-dump export \"$DATABASE_URL\" --password-file ~/.supabase-password \\\n    \
                 -o supabase.ndjson.zst",
            ),
        ],
    ),
    (
        "import",
        &[
            (
                "Into a new SQLite file",
                "chronicle-dump import backup.ndjson.zst --to restored.db --create",
            ),
            (
                "See what an import into Supabase would do, without doing it",
                "chronicle-dump import backup.ndjson.zst --to \"$DATABASE_URL\" \\\n    \
                 --assume-tz America/Los_Angeles --dry-run",
            ),
            (
                "Two archives into one database; where they differ, the first",
                "chronicle-dump import laptop.ndjson.zst desktop.ndjson.zst \\\n    \
                 --to both.db --create --on-conflict skip",
            ),
        ],
    ),
    (
        "copy",
        &[
            (
                "Chronicle's own database into a Supabase project",
                "chronicle-dump copy --to \"$DATABASE_URL\" --assume-tz America/Los_Angeles",
            ),
            (
                "A Supabase project into a new SQLite file, with the archive kept",
                "chronicle-dump copy --from \"$DATABASE_URL\" --to local.db --create \\\n    \
                 --tee 'supabase-{date}.ndjson.zst'",
            ),
            (
                "What a configuration file of Chronicle's migration tutorial asks for",
                "chronicle-dump copy --config migration-config.json \\\n    \
                 --to-db-url \"$DATABASE_URL\"",
            ),
        ],
    ),
    (
        "check",
        &[
            ("Whether all of an archive can be read", "chronicle-dump check backup.ndjson.zst"),
            (
                "What would stop or change an import into Supabase",
                "chronicle-dump check backup.ndjson.zst --to \"$DATABASE_URL\" \\\n    \
                 --assume-tz America/Los_Angeles",
            ),
            (
                "The same for a database that is not exported yet",
                "chronicle-dump check --from chronicle.db --to copy.db --strict",
            ),
        ],
    ),
    (
        "verify",
        &[
            ("Every byte of an archive", "chronicle-dump verify backup.ndjson.zst"),
            (
                "Whether a database holds every row of an archive",
                "chronicle-dump verify backup.ndjson.zst --against restored.db",
            ),
            (
                "Whether two archives hold the same rows, in any order",
                "chronicle-dump verify --row-digests before.ndjson.zst after.ndjson.zst",
            ),
        ],
    ),
    (
        "inspect",
        &[
            ("What an archive contains", "chronicle-dump inspect backup.ndjson.zst"),
            (
                "Also its busiest days, projects and tools",
                "chronicle-dump inspect --stats backup.ndjson.zst",
            ),
            (
                "A database, as JSON for a script",
                "chronicle-dump export chronicle.db | chronicle-dump inspect --json --stats -",
            ),
        ],
    ),
    (
        "cat",
        &[
            (
                "The events of one day",
                "chronicle-dump cat backup.ndjson.zst --stream events \\\n    \
                 --since 2025-08-19 --until 2025-08-20",
            ),
            (
                "The projects of all sessions",
                "chronicle-dump cat backup.ndjson.zst --stream sessions | jq -r .project_path",
            ),
            (
                "A stream for a Singer target",
                "chronicle-dump cat --singer backup.ndjson.zst > singer.ndjson",
            ),
        ],
    ),
    (
        "diff",
        &[
            ("An archive and a database", "chronicle-dump diff backup.ndjson.zst restored.db"),
            (
                "Only how many rows differ",
                "chronicle-dump diff --summary before.ndjson.zst after.ndjson.zst",
            ),
            (
                "Local times without a zone, and the instants that Supabase made of them",
                "chronicle-dump diff backup.ndjson.zst \"$DATABASE_URL\" \\\n    \
                 --assume-tz America/Los_Angeles",
            ),
        ],
    ),
    (
        "restore",
        &[
            (
                "Take a database back to a snapshot",
                "chronicle-dump restore backup.ndjson.zst --to chronicle.db",
            ),
            (
                "What that would change",
                "chronicle-dump restore backup.ndjson.zst --to chronicle.db --dry-run",
            ),
            (
                "A Supabase project, which is saved first",
                "chronicle-dump restore backup.ndjson.zst --to \"$DATABASE_URL\" \\\n    \
                 --backup 'before-{date}-{time}.ndjson.zst'",
            ),
        ],
    ),
    (
        "history",
        &[
            ("What was done to a database, and when", "chronicle-dump history chronicle.db"),
            (
                "Whether everything that a rollback needs is whole",
                "chronicle-dump history \"$DATABASE_URL\" --verify",
            ),
            (
                "Remove what is needed only to undo old imports",
                "chronicle-dump history chronicle.db --prune --older-than 30d",
            ),
        ],
    ),
    (
        "rollback",
        &[
            ("Undo the last import", "chronicle-dump rollback last --from chronicle.db"),
            ("What that would do", "chronicle-dump rollback last --from chronicle.db --dry-run"),
            (
                "Undo one batch that `history` lists, except rows that were edited since",
                "chronicle-dump rollback 019b2f10 --from \"$DATABASE_URL\" --force",
            ),
        ],
    ),
    (
        "schema",
        &[
            ("The names of all layouts", "chronicle-dump schema"),
            (
                "An empty database as Chronicle's hooks create it",
                "chronicle-dump schema hooks | sqlite3 empty.db",
            ),
        ],
    ),
    (
        "env",
        &[
            (
                "Have the hooks write to a Supabase project",
                "chronicle-dump env hooks --backend supabase \\\n    \
                 --supabase-url https://PROJECT.supabase.co --anon-key \"$ANON_KEY\" \\\n    \
                 --write ~/.claude/hooks/chronicle/.env",
            ),
            (
                "Where the hooks write now, and what is wrong with their settings",
                "chronicle-dump env --check ~/.claude/hooks/chronicle/.env",
            ),
        ],
    ),
    (
        "service",
        &[
            (
                "An archive every night, for cron",
                "chronicle-dump service print cron \\\n    \
                 --archive-to 'archives/{source}-{date}-{time}.ndjson.zst' \\\n    \
                 --keep-daily 7 --keep-weekly 4 --keep-monthly 12",
            ),
            (
                "A copy into a Supabase project every night, for systemd",
                "chronicle-dump service print systemd --sync-to \"$DATABASE_URL\" \\\n    \
                 --password-file ~/.supabase-password --assume-tz America/Los_Angeles",
            ),
        ],
    ),
    (
        "completions",
        &[
            (
                "For bash",
                "chronicle-dump completions bash \\\n    \
                 > ~/.local/share/bash-completion/completions/chronicle-dump",
            ),
            (
                "For zsh, into a folder that $fpath names",
                "chronicle-dump completions zsh > ~/.zfunc/_chronicle-dump",
            ),
            (
                "For fish",
                "chronicle-dump completions fish \\\n    \
                 > ~/.config/fish/completions/chronicle-dump.fish",
            ),
        ],
    ),
    (
        "man",
        &[
            ("Read it without installing it", "chronicle-dump man | man -l -"),
            ("Install it for this user", "chronicle-dump man --install ~/.local/share/man"),
        ],
    ),
];

/// The examples of a command.
fn of(command: &str) -> &'static [Example] {
    let found = COMMANDS.iter().find(|(name, _)| *name == command);
    found.map_or(&[], |(_, examples)| *examples)
}

/// Every example: the program's own, then those of each command under its name.
pub(super) fn all() -> impl Iterator<Item = (Option<&'static str>, &'static [Example])> {
    let commands = COMMANDS.iter().map(|(name, examples)| (Some(*name), *examples));
    std::iter::once((None, PROGRAM)).chain(commands)
}

/// What the long help of a command ends with.
pub(super) fn long_help(command: &str) -> String {
    let mut parts = vec![examples(of(command))];
    if command == "cat" {
        parts.insert(0, CAT.to_owned());
    }
    let variables = environment::read_by(command);
    if !variables.is_empty() {
        parts.push(format!(
            "Environment variables:\n  {}; `chronicle-dump --help` says what they are for",
            variables.join(", ")
        ));
    }
    parts.join("\n\n")
}

/// What the long help of the program ends with.
pub(super) fn program_help() -> String {
    [examples(PROGRAM), variables(), exit_codes()].join("\n\n")
}

fn examples(examples: &[Example]) -> String {
    let mut text = "Examples:".to_owned();
    for (what, line) in examples {
        text.push_str(&format!("\n  {what}:\n    {}", line.replace('\n', "\n    ")));
    }
    text
}

fn variables() -> String {
    let mut text = "Environment variables:".to_owned();
    for variables in environment::ALL {
        text.push_str(&format!("\n  {}\n    {}", variables.names.join(", "), variables.meaning));
    }
    text
}

/// The exit codes with their meanings.
fn exit_codes() -> String {
    let lines =
        Code::exits().into_iter().map(|exit| format!("\n  {exit:<4} {}", Code::meaning(exit)));
    format!("Exit codes:{}", lines.collect::<String>())
}
