//! Which steps of an import a benchmark leaves out, to measure their cost: none, unless the program was built for it.

use crate::error::{Code, Error, Result};

/// The environment variable that names the steps, separated by commas.
pub const VARIABLE: &str = "CHRONICLE_DUMP_BENCH_SKIPS";

/// A step that guards the rows and costs time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading back what was loaded.
    Readback,
    /// Looking for rows that exist already.
    Conflicts,
    /// Looking for rows that refer to nothing.
    References,
}

impl Step {
    const ALL: [Step; 3] = [Step::Readback, Step::Conflicts, Step::References];

    const fn word(self) -> &'static str {
        match self {
            Step::Readback => "readback",
            Step::Conflicts => "conflicts",
            Step::References => "references",
        }
    }
}

/// Whether a step is left out: never in the released program.
#[cfg(not(feature = "bench"))]
pub const fn skips(_: Step) -> bool {
    false
}

/// Whether a step is left out, in a program that was built for a bench.
#[cfg(feature = "bench")]
pub fn skips(step: Step) -> bool {
    static ASKED: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var(VARIABLE).unwrap_or_default());
    ASKED.split(',').any(|word| word == step.word())
}

/// Refuses what [`VARIABLE`] asks for, unless the program can do it.
///
/// # Errors
/// If it asks for anything and the program was not built for a bench, or for a step that does not exist.
pub fn check(steps: Option<&str>) -> Result<()> {
    let Some(steps) = steps.filter(|steps| !steps.is_empty()) else { return Ok(()) };
    let known = |word: &str| Step::ALL.iter().any(|step| step.word() == word);
    if cfg!(feature = "bench") && steps.split(',').all(known) {
        return Ok(());
    }
    let found = match cfg!(feature = "bench") {
        true => "names a step that cannot be left out",
        false => "is set, but this program leaves no check out",
    };
    Err(Error::new(Code::Usage, format!("the environment variable {VARIABLE} {found}"))
        .hint(format!("unset {VARIABLE}; it is for measuring alone")))
}
