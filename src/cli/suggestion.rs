//! The import that settles what a check has found, as one command to paste into a shell.

use super::args::CheckArgs;
use super::loaded::place;
use super::policy_args::PlanArgs;
use crate::error::Result;
use crate::load::{Problem, REJECT};
use crate::location::Location;
use crate::policy::{
    AssumeZone, Conflicts, EventTypes, OnMissingColumn, OnOrphans, OnUnrepresentable, PlanOptions,
    Policy,
};

/// What stands for a zone that nothing speaks for.
const ZONE: &str = "ZONE";

/// The options that settle problems, each with its value.
#[derive(Debug, Default)]
pub(super) struct Settling(Vec<[String; 2]>);

/// What to say of problems that no option settles; None if there are none.
pub(super) fn unsettled(problems: &[Problem], settling: &Settling) -> Option<String> {
    let causes: Vec<&Problem> = problems.iter().filter(|p| p.follows.is_none()).collect();
    let left: Vec<&&Problem> = causes.iter().filter(|p| p.options.is_empty()).collect();
    let first = left.first()?;
    if !settling.0.is_empty() {
        let options =
            settling.0.iter().map(|option| option.join(" ")).collect::<Vec<_>>().join(" ");
        let (place, reason) = (place(first), &first.reason);
        return Some(format!("no option settles what stops it with {options}: {place}: {reason}"));
    }
    Some(match (left.len(), causes.len()) {
        (1, 1) => "no option settles this problem".to_owned(),
        (left, all) if left == all => "no option settles these problems".to_owned(),
        (left, all) => format!("no option settles {left} of these {all} problems"),
    })
}

impl Settling {
    /// Adds the options that settle more problems; whether there are any.
    pub(super) fn add(&mut self, plan: &PlanArgs, problems: &[Problem]) -> bool {
        let before = self.0.len();
        for problem in problems {
            if let [option, value] = problem.options.as_slice() {
                self.set(option, value);
            }
        }
        let fails = plan.options().is_ok_and(|o| o.on_unrepresentable == OnUnrepresentable::Fail);
        if fails && problems.iter().any(|p| p.options == REJECT) {
            // a row is left out only where the policy allows it
            self.set("--on-unrepresentable", OnUnrepresentable::Reject.word());
        }
        self.0.len() > before
    }

    fn set(&mut self, option: &str, value: &str) {
        if self.0.iter().all(|[known, _]| known != option) {
            self.0.push([option.to_owned(), value.to_owned()]);
        }
    }

    /// Whether a value has yet to be filled in.
    pub(super) fn is_incomplete(&self) -> bool {
        self.0.iter().any(|[_, value]| value == ZONE)
    }

    /// The choices with these options.
    ///
    /// # Errors
    /// If the time zone is not one, or a choice about conflicts.
    pub(super) fn apply(&self, mut to: PlanOptions) -> Result<PlanOptions> {
        for [option, value] in &self.0 {
            match option.as_str() {
                "--assume-tz" => to.assume_zone = AssumeZone::parse(value)?,
                "--on-conflict" => {
                    to.conflicts = Conflicts::parse("--on-conflict", std::slice::from_ref(value))?
                }
                "--orphans" => to.orphans = OnOrphans::from_word(value),
                "--map-event-types" => {
                    to.event_types = EventTypes::from_word(value).unwrap_or(to.event_types);
                }
                "--on-missing-column" => {
                    let policy = OnMissingColumn::from_word(value);
                    to.on_missing_column = policy.unwrap_or(to.on_missing_column);
                }
                "--on-unrepresentable" => {
                    let policy = OnUnrepresentable::from_word(value);
                    to.on_unrepresentable = policy.unwrap_or(to.on_unrepresentable);
                }
                _ => to.rejects = true,
            }
        }
        Ok(to)
    }
}

/// An import with the options that were given and those that settle problems, which replace them.
pub(super) fn import_command(
    args: &CheckArgs,
    source: Option<&Location>,
    target: &Location,
    Settling(settling): &Settling,
) -> String {
    let mut words: Vec<String> = Vec::new();
    let password = [source, Some(target)].into_iter().flatten().any(Location::shows_password);
    if password {
        words.push("PGPASSWORD=...".into());
    }
    let own = |words: &mut Vec<String>, option: &str, value: Option<String>| {
        if let Some(value) = value.filter(|_| settling.iter().all(|[known, _]| known != option)) {
            words.extend([option.to_owned(), quoted(&value)]);
        }
    };
    if let Some(source) = source {
        words.extend(["chronicle-dump".into(), "export".into(), quoted(&source.to_type())]);
        own(&mut words, "--layout", args.from_layout.clone());
        words.extend(login(args));
        words.push("|".into());
    }
    words.extend(["chronicle-dump".into(), "import".into()]);
    // stdin alone needs no name
    let archives = args.what.iter().filter(|what| source.is_none() && *what != "-");
    words.extend(archives.map(|what| quoted(what)));
    words.extend(["--to".into(), quoted(&target.to_type())]);
    match &args.target.create {
        Some(Some(layout)) => words.push(quoted(&format!("--create={layout}"))),
        Some(None) => words.push("--create".into()),
        None => {}
    }
    let (plan, values) = (&args.plan, &args.plan.values);
    own(&mut words, "--layout", args.target.layout.clone());
    let compression = args.load.toast_compression.map(|c| c.word().to_owned());
    own(&mut words, "--toast-compression", compression);
    words.extend(values.strict.then(|| "--strict".to_owned()));
    let unrepresentable = values.on_unrepresentable.map(|p| p.word().to_owned());
    own(&mut words, "--on-unrepresentable", unrepresentable);
    own(&mut words, "--on-missing-column", values.on_missing_column.map(|p| p.word().to_owned()));
    let conflicts = Some(plan.on_conflict.join(",")).filter(|choices| !choices.is_empty());
    own(&mut words, "--on-conflict", conflicts);
    let matches = Some(plan.matches.join(",")).filter(|choices| !choices.is_empty());
    own(&mut words, "--match", matches);
    own(&mut words, "--orphans", plan.references.orphans.map(|p| p.word().to_owned()));
    let types = Some(values.map_event_types).filter(|types| *types != EventTypes::Keep);
    own(&mut words, "--map-event-types", types.map(|p| p.word().to_owned()));
    own(&mut words, "--assume-tz", values.assume_tz.clone());
    words.extend(values.trust_zone.then(|| "--trust-zone".to_owned()));
    own(&mut words, "--instance", plan.references.instance.map(|id| id.to_string()));
    words.extend(login(args));
    for [option, value] in settling {
        words.extend([option.clone(), quoted(value)]);
    }
    words.join(" ")
}

/// How the servers are reached, as words.
fn login(args: &CheckArgs) -> impl Iterator<Item = String> {
    args.login.words().into_iter().flat_map(|[option, value]| [option, quoted(&value)])
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
