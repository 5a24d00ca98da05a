//! One setting at a time: from the connection string, else from libpq's variable.

use std::collections::BTreeMap;
use std::time::Duration;

use super::near_miss::usage;
use crate::error::{Error, Result};

/// Looks up an environment variable; tests pass their own function instead of the process's.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The value of a variable that is set and not empty.
pub(super) fn variable(env: Env<'_>, name: &str) -> Option<String> {
    env(name).filter(|value| !value.is_empty())
}

/// The settings of the string, with the environment behind them.
pub(super) struct Lookup<'a> {
    pub(super) values: BTreeMap<&'static str, String>,
    pub(super) env: Env<'a>,
}

impl Lookup<'_> {
    /// The setting `key`, else the variable `name`; as with libpq, an empty string is no value.
    pub(super) fn get(&self, key: &'static str, name: &'static str) -> Option<Found> {
        match self.values.get(key).filter(|value| !value.is_empty()) {
            Some(value) => Some(Found { value: value.clone(), place: key }),
            None if name.is_empty() => None,
            None => variable(self.env, name).map(|value| Found { value, place: name }),
        }
    }

    /// The value alone.
    pub(super) fn text(&self, key: &'static str, name: &'static str) -> Option<String> {
        self.get(key, name).map(|found| found.value)
    }

    /// A value that must be one of the words `of`.
    pub(super) fn word(
        &self,
        key: &'static str,
        name: &'static str,
        of: &[&str],
    ) -> Result<Option<String>> {
        self.get(key, name).map(|found| found.one_of(of)).transpose()
    }

    /// A positive number of seconds; zero or less means the default.
    pub(super) fn seconds(&self, key: &'static str) -> Result<Option<Duration>> {
        Ok(self.get(key, "").map(|found| found.span(Duration::from_secs)).transpose()?.flatten())
    }
}

/// A value and where it was found, for messages.
pub(super) struct Found {
    pub(super) value: String,
    pub(super) place: &'static str,
}

impl Found {
    /// The refusal of the value, which is shown only if it is short and plain.
    pub(super) fn refused(&self, expected: &str) -> Error {
        let plain = |c: char| c.is_ascii_alphanumeric() || "_-.:".contains(c);
        let shown = match self.value.len() <= 40 && self.value.chars().all(plain) {
            true => format!("{:?}", self.value),
            false => "this value".to_owned(),
        };
        usage(format!("{}: {shown} is not understood, expected {expected}", self.place))
            .hint(format!("correct {} or leave it out", self.place))
    }

    /// The value if it is one of the words.
    fn one_of(self, words: &[&str]) -> Result<String> {
        match words.contains(&self.value.as_str()) {
            true => Ok(self.value),
            false => Err(self.refused(&words.join(", "))),
        }
    }

    /// The value as a whole number.
    pub(super) fn number(&self) -> Result<i32> {
        self.value.trim().parse().map_err(|_| self.refused("a whole number"))
    }

    /// The value as a number of units; zero or less means the default.
    pub(super) fn span(&self, unit: fn(u64) -> Duration) -> Result<Option<Duration>> {
        let number = self.number()?;
        Ok(u64::try_from(number).ok().filter(|n| *n > 0).map(unit))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::postgres::conninfo::ConnInfo;
    use crate::postgres::conninfo::testing::{assert_refused, env, words};

    #[test]
    fn a_wrong_value_is_refused_with_what_is_expected() {
        for (text, reason) in [
            ("host=h password=Zq7 sslmode=on-fire", "\"on-fire\""),
            ("host=h password=Zq7 connect_timeout=soon", "whole number"),
            ("host=h password=Zq7 channel_binding=maybe", "disable, prefer, require"),
            ("host=h password=Zq7 load_balance_hosts='Zq7 Xk9'", "this value"),
        ] {
            assert_refused(text, reason);
        }
    }

    #[test]
    fn a_wrong_value_in_a_variable_names_the_variable() {
        let vars = env(&[("PGCONNECT_TIMEOUT", "soon")]);
        let message = words(&ConnInfo::parse("host=h", &vars).map(|_| ()).unwrap_err());
        assert!(message.contains("PGCONNECT_TIMEOUT: \"soon\""), "{message}");
        let info = ConnInfo::parse("host=h connect_timeout=3", &vars).unwrap();
        assert_eq!(info.connect_timeout.map(|limit| limit.as_secs()), Some(3));
    }
}
