//! What is true of every hint that is printed in any test: it names only options that its reader can type.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::OnceLock;

/// The commands, with the options of each as its help names them.
fn commands() -> &'static BTreeMap<String, BTreeSet<String>> {
    static COMMANDS: OnceLock<BTreeMap<String, BTreeSet<String>>> = OnceLock::new();
    COMMANDS.get_or_init(|| {
        let list = help(&[]);
        let listed = list.lines().skip_while(|line| *line != "Commands:").skip(1);
        let names = listed.map_while(|line| line.split_whitespace().next());
        let of = |name: &str| (name.to_owned(), options(&help(&[name])));
        names.filter(|name| *name != "help").map(of).collect()
    })
}

fn help(command: &[&str]) -> String {
    let run =
        Command::new(env!("CARGO_BIN_EXE_chronicle-dump")).args(command).arg("--help").output();
    String::from_utf8(run.expect("the help of a command").stdout).expect("help is text")
}

/// The long options that a text names.
fn options(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| !(c.is_ascii_lowercase() || c == '-');
    (text.split(|c: char| c.is_whitespace() || "\"'`(),;:=".contains(c)))
        .filter_map(|word| word.strip_prefix("--"))
        .map(|name| name.split(is_part).next().unwrap_or_default().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The options in hints that are neither those of the command that printed them nor those of a command that the hint names.
pub(super) fn unknown_options(command: &str, stderr: &str) -> Vec<String> {
    let hints = stderr.lines().filter_map(|line| line.trim_start().strip_prefix("hint: "));
    // what was typed itself is quoted
    let is_ours = |hint: &&str| hint.contains(" --") && !hint.contains(" as a value, use ");
    let named = hints.filter(is_ours).flat_map(|hint| {
        let is_named = |name: &str| {
            name == command || hint.split(|c: char| !(c.is_ascii_lowercase())).any(|w| w == name)
        };
        let known = commands().iter().filter(|(name, _)| is_named(name));
        let known: BTreeSet<&String> = known.flat_map(|(_, options)| options).collect();
        let unknown = options(hint).into_iter().filter(|o| o != "help" && !known.contains(o));
        unknown.map(|option| format!("--{option} in: {hint}")).collect::<Vec<_>>()
    });
    named.collect()
}
