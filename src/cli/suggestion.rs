//! The import that settles what a check has found, as one command to paste into a shell.

use super::args::CheckArgs;
use crate::load::{Problem, REJECT};
use crate::location::Location;
use crate::policy::{EventTypes, OnUnrepresentable, Policy};

/// What a check suggests to type next, if it has found problems.
///
/// # Errors
/// How many problems no option settles.
pub(super) fn suggestion(
    args: &CheckArgs,
    source: Option<&Location>,
    target: &Location,
    problems: &[Problem],
) -> Result<String, usize> {
    let causes = || problems.iter().filter(|p| p.follows.is_none());
    match causes().filter(|p| p.options.is_empty()).count() {
        0 => Ok(import(args, source, target, &settling(args, problems))),
        left => Err(left),
    }
}

/// The options that settle problems, each with its value.
fn settling(args: &CheckArgs, problems: &[Problem]) -> Vec<[String; 2]> {
    let mut options: Vec<[String; 2]> = Vec::new();
    let mut add = |option: &str, value: &str| {
        if options.iter().all(|[known, _]| known != option) {
            options.push([option.to_owned(), value.to_owned()]);
        }
    };
    for problem in problems {
        if let [option, value] = problem.options.as_slice() {
            add(option, value);
        }
    }
    let rejects = problems.iter().any(|p| p.options == REJECT);
    let fails = args.plan.options().is_ok_and(|o| o.on_unrepresentable == OnUnrepresentable::Fail);
    if rejects && fails {
        // a row is left out only where the policy allows it
        add("--on-unrepresentable", OnUnrepresentable::Reject.word());
    }
    options
}

/// The command with the options that were given and those that settle problems, which go before them.
fn import(
    args: &CheckArgs,
    source: Option<&Location>,
    target: &Location,
    settling: &[[String; 2]],
) -> String {
    let mut words: Vec<String> = Vec::new();
    let password = [source, Some(target)].into_iter().flatten().any(Location::shows_password);
    if password {
        words.push("PGPASSWORD=...".into());
    }
    let file = args.password_file.as_ref().map(|path| path.display().to_string());
    let own = |words: &mut Vec<String>, option: &str, value: Option<String>| {
        if let Some(value) = value.filter(|_| settling.iter().all(|[known, _]| known != option)) {
            words.extend([option.to_owned(), quoted(&value)]);
        }
    };
    if let Some(source) = source {
        words.extend(["chronicle-dump".into(), "export".into(), quoted(&source.to_type())]);
        own(&mut words, "--layout", args.from_layout.clone());
        own(&mut words, "--password-file", file.clone());
        words.push("|".into());
    }
    words.extend(["chronicle-dump".into(), "import".into()]);
    let archive = args.what.as_deref().filter(|what| source.is_none() && *what != "-");
    words.extend(archive.map(quoted));
    words.extend(["--to".into(), quoted(&target.to_type())]);
    match &args.target.create {
        Some(Some(layout)) => words.push(quoted(&format!("--create={layout}"))),
        Some(None) => words.push("--create".into()),
        None => {}
    }
    let plan = &args.plan;
    own(&mut words, "--layout", args.target.layout.clone());
    let compression = args.target.toast_compression.map(|c| c.word().to_owned());
    own(&mut words, "--toast-compression", compression);
    words.extend(plan.strict.then(|| "--strict".to_owned()));
    let unrepresentable = plan.on_unrepresentable.map(|p| p.word().to_owned());
    own(&mut words, "--on-unrepresentable", unrepresentable);
    own(&mut words, "--on-missing-column", plan.on_missing_column.map(|p| p.word().to_owned()));
    own(&mut words, "--orphans", plan.orphans.map(|p| p.word().to_owned()));
    let types = Some(plan.map_event_types).filter(|types| *types != EventTypes::Keep);
    own(&mut words, "--map-event-types", types.map(|p| p.word().to_owned()));
    own(&mut words, "--assume-tz", plan.assume_tz.clone());
    words.extend(plan.trust_zone.then(|| "--trust-zone".to_owned()));
    own(&mut words, "--instance", plan.instance.map(|id| id.to_string()));
    own(&mut words, "--password-file", file);
    for [option, value] in settling {
        words.extend([option.clone(), quoted(value)]);
    }
    words.join(" ")
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        for word in
            ["a.zst", "my file", "it's", "$HOME", "a;b", "", "ü", "*", "postgresql://u@h/d?s=1"]
        {
            let mut shell = std::process::Command::new("sh");
            let run = shell.args(["-c", &format!("printf %s {}", quoted(word))]).output().unwrap();
            assert_eq!(String::from_utf8(run.stdout).unwrap(), word);
        }
        assert_eq!(quoted("a-b_c/d.zst"), "a-b_c/d.zst");
    }
}
