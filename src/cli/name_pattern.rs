//! The names in braces that the name of a file may have: what stands for them, and which other files are called like it.

use std::path::Path;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};

use crate::error::{Code, Error, Result};

const DATE: &str = "%Y-%m-%d";
const TIME: &str = "%H-%M-%S";
/// The longest name of a source in the name of a file.
const LONGEST_SOURCE: usize = 64;

/// The last part of a path, in which the name of the source is filled in already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamePattern(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Date,
    Time,
}

impl NamePattern {
    /// Reads the last part of a path; None if it has none in UTF-8, since such a name holds no braces that could be found
    /// safely.
    ///
    /// # Errors
    /// If there is another name in braces.
    pub(super) fn of(path: &Path, option: &str, source: &str) -> Result<Option<NamePattern>> {
        let name = path.file_name().and_then(|name| name.to_str());
        name.map(|name| NamePattern::parse(name, option, source)).transpose()
    }

    fn parse(name: &str, option: &str, source: &str) -> Result<NamePattern> {
        let (mut parts, mut text, mut rest) = (Vec::new(), String::new(), name);
        while let Some((before, after)) = rest.split_once('{') {
            text.push_str(before);
            let is_word = |word: &&str| {
                !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            };
            let Some((word, behind)) = after.split_once('}').filter(|(word, _)| is_word(word))
            else {
                text.push('{');
                rest = after;
                continue;
            };
            match word {
                "date" => parts.extend([Part::Text(std::mem::take(&mut text)), Part::Date]),
                "time" => parts.extend([Part::Text(std::mem::take(&mut text)), Part::Time]),
                "source" => text.push_str(&safe_name(source)),
                _ => {
                    let what = format!("{option}: {{{word}}} is unknown");
                    return Err(Error::new(Code::Usage, what)
                        .hint("use {date}, {time} (both in UTC) or {source} in the name"));
                }
            }
            rest = behind;
        }
        text.push_str(rest);
        parts.push(Part::Text(text));
        Ok(NamePattern(parts))
    }

    /// The name at a moment.
    pub(super) fn filled(&self, now: DateTime<Utc>) -> String {
        let parts = self.0.iter().map(|part| match part {
            Part::Text(text) => text.clone(),
            Part::Date => now.format(DATE).to_string(),
            Part::Time => now.format(TIME).to_string(),
        });
        parts.collect()
    }

    /// Whether it is another name each day.
    pub(super) fn is_dated(&self) -> bool {
        self.0.contains(&Part::Date)
    }

    /// Whether a name could be this one at some moment.
    pub(super) fn fits(&self, name: &str) -> bool {
        let rest = self.0.iter().try_fold(name, |rest, part| match part {
            Part::Text(text) => rest.strip_prefix(text.as_str()),
            Part::Date => behind(rest, "2025-08-19".len(), |text| {
                let date = NaiveDate::parse_from_str(text, DATE).ok()?;
                Some(date.format(DATE).to_string())
            }),
            Part::Time => behind(rest, "14-25-30".len(), |text| {
                let time = NaiveTime::parse_from_str(text, TIME).ok()?;
                Some(time.format(TIME).to_string())
            }),
        });
        rest == Some("")
    }
}

/// What is behind a text of some length that is read and written again as itself.
fn behind(text: &str, length: usize, again: impl Fn(&str) -> Option<String>) -> Option<&str> {
    let (start, rest) = text.split_at_checked(length)?;
    (again(start).as_deref() == Some(start)).then_some(rest)
}

/// A text as part of a file's name: letters, digits and `-_.` only, and not hidden.
fn safe_name(text: &str) -> String {
    let safe = |c: char| if c.is_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let name: String = text.chars().take(LONGEST_SOURCE).map(safe).collect();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() { "database".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(name: &str, source: &str) -> Result<NamePattern> {
        NamePattern::parse(name, "-o", source)
    }

    fn filled(name: &str, source: &str) -> Result<String> {
        let now = DateTime::from_timestamp(1_755_613_530, 0).unwrap();
        pattern(name, source).map(|pattern| pattern.filled(now))
    }

    #[test]
    fn names_in_braces_are_filled_in() {
        for (name, expected) in [
            ("a-{date}.zst", "a-2025-08-19.zst"),
            ("{source}-{time}", "chronicle-14-25-30"),
            ("x{}y{A}{1}{", "x{}y{A}{1}{"),
            ("{{date}}", "{2025-08-19}"),
        ] {
            assert_eq!(filled(name, "chronicle").unwrap(), expected);
        }
        let error = filled("{dat}.zst", "x").unwrap_err();
        assert_eq!(
            (error.code(), error.to_string().as_str()),
            (Code::Usage, "-o: {dat} is unknown")
        );
    }

    #[test]
    fn a_name_fits_if_it_is_the_pattern_at_some_moment() {
        let dated = pattern("{source}-{date}.zst", "a{date}b").unwrap();
        for (name, fits) in [
            ("a_date_b-2025-08-19.zst", true),
            ("a_date_b-2024-02-29.zst", true),
            ("a_date_b-2025-02-29.zst", false),
            ("a_date_b-2025-8-019.zst", false),
            ("a_date_b-+025-08-19.zst", false),
            ("a_date_b-2025-08-19.zst.part", false),
            ("xa_date_b-2025-08-19.zst", false),
            ("a_date_b-2025-08-1", false),
            ("a_date_b-2025-08-1é.zst", false),
            ("other-2025-08-19.zst", false),
        ] {
            assert_eq!(dated.fits(name), fits, "{name}");
        }
        let timed = pattern("{date}-{time}", "x").unwrap();
        assert!(timed.fits("2025-08-19-23-59-59") && !timed.fits("2025-08-19-24-00-00"));
        assert!(timed.is_dated() && !pattern("{time}", "x").unwrap().is_dated());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        #[test]
        fn a_name_fits_its_own_pattern(
            name in "([-a-z.é]|\\{|\\}|\\{date\\}|\\{time\\}|\\{source\\}){0,8}",
            source in "\\PC{0,80}",
            seconds in 0..4_102_444_800_i64,
        ) {
            let Ok(pattern) = pattern(&name, &source) else { return Ok(()) };
            prop_assert!(pattern.fits(&pattern.filled(DateTime::from_timestamp(seconds, 0).unwrap())));
        }

        #[test]
        fn a_source_is_one_name_that_is_not_hidden(source in "\\PC{0,80}") {
            let name = filled("{source}", &source).unwrap();
            prop_assert!(!name.starts_with(['.', '-']) && name.chars().count() <= LONGEST_SOURCE);
            prop_assert_eq!(Path::new(&name).file_name(), Some(name.as_ref()));
        }
    }
}
