//! What a user wants changed in the rows of an archive on their way into a target.

use crate::error::{Code, Error, Result};
use chronicle_archive::show_text;

/// Values that rows get on their way.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Amendments {
    /// Constants for columns.
    pub constants: Vec<Constant>,
    /// Beginnings of paths.
    pub paths: Vec<MovedPath>,
    /// Filters of jq, each with the stream whose rows it gets.
    pub filters: Vec<(String, String)>,
}

/// A value for a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Constant {
    /// The only stream that gets it, if not all with this column do.
    pub stream: Option<String>,
    /// The logical name of the column.
    pub column: String,
    /// The value.
    pub value: String,
    /// Whether rows with a value of their own get it, too.
    pub always: bool,
    /// The key of a configuration file that it is from: then nothing is wrong if the target has no such column.
    pub key: Option<String>,
}

/// A path that is another one where the rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedPath {
    /// What it begins with.
    pub from: String,
    /// What it begins with then.
    pub to: String,
}

impl Amendments {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Amendments::default()
    }
}

impl Constant {
    /// A value for a column that the target need not have, from a key of a configuration file.
    pub fn if_possible(key: &str, column: &str, value: &str) -> Constant {
        let (column, value) = (column.to_owned(), value.to_owned());
        Constant { stream: None, column, value, always: false, key: Some(key.to_owned()) }
    }

    /// What messages call it: the key that it is from, or the option.
    pub fn origin(&self) -> String {
        self.key.clone().unwrap_or_else(|| format!("--set {self}"))
    }

    /// Reads `COLUMN=VALUE` or `STREAM.COLUMN=VALUE`, with `:=` for a value that replaces others.
    ///
    /// # Errors
    /// If the text is neither.
    pub fn parse(text: &str) -> Result<Constant> {
        let named = text.split_once('=').map(|(name, value)| {
            let (name, always) = name.strip_suffix(':').map_or((name, false), |name| (name, true));
            let (stream, column) = match name.split_once('.') {
                Some((stream, column)) => (Some(stream), column),
                None => (None, name),
            };
            let (stream, column) = (stream.map(str::to_owned), column.to_owned());
            Constant { stream, column, value: value.to_owned(), always, key: None }
        });
        let whole = |c: &Constant| !c.column.is_empty() && c.stream.as_deref() != Some("");
        named.filter(whole).ok_or_else(|| {
            Error::new(Code::Usage, format!("--set {}: not a value for a column", show_text(text)))
                .hint("give COLUMN=VALUE or STREAM.COLUMN=VALUE; := replaces values that are there")
        })
    }
}

impl std::fmt::Display for Constant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stream = self.stream.iter().map(|name| format!("{}.", show_text(name)));
        write!(f, "{}{}", stream.collect::<String>(), show_text(&self.column))
    }
}

impl MovedPath {
    /// Reads `OLD=NEW`.
    ///
    /// # Errors
    /// If the text is anything else.
    pub fn parse(text: &str) -> Result<MovedPath> {
        let parts = text.split_once('=').filter(|(from, to)| !from.is_empty() && !to.is_empty());
        let plain = |path: &str| match path.trim_end_matches('/') {
            "" => "/".to_owned(),
            path => path.to_owned(),
        };
        parts.map(|(from, to)| MovedPath { from: plain(from), to: plain(to) }).ok_or_else(|| {
            Error::new(Code::Usage, format!("--map-path {}: not two paths", show_text(text)))
                .hint("give OLD=NEW, such as --map-path /home/ada=/Users/ada")
        })
    }

    /// The new path of one that begins with the old: a whole folder name of it.
    pub fn moved(&self, path: &[u8]) -> Option<Vec<u8>> {
        let rest = path.strip_prefix(self.from.as_bytes())?;
        let is_whole = rest.is_empty() || rest.starts_with(b"/") || self.from.ends_with('/');
        let between: &[u8] = match (self.from.ends_with('/'), self.to.ends_with('/')) {
            (true, false) => b"/",
            _ => b"",
        };
        let rest =
            if self.to.ends_with('/') { rest.strip_prefix(b"/").unwrap_or(rest) } else { rest };
        is_whole.then(|| [self.to.as_bytes(), between, rest].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_names_its_column() {
        let read = |text: &str| Constant::parse(text).unwrap();
        let shown = |c: &Constant| (c.to_string(), c.value.clone(), c.always);
        assert_eq!(shown(&read("user_id=ada")), ("user_id".into(), "ada".into(), false));
        assert_eq!(shown(&read("events.a:=b=c")), ("events.a".into(), "b=c".into(), true));
        assert_eq!(shown(&read("a=")), ("a".into(), String::new(), false));
        for wrong in ["a", "=b", ".a=b", "events.=b", ":=x", ""] {
            let error = Constant::parse(wrong).unwrap_err();
            assert!(error.full().contains("not a value for a column"), "{wrong}");
        }
    }

    #[test]
    fn a_path_moves_by_whole_names() {
        for (option, path, expected) in [
            ("/home/ada=/Users/ada", "/home/ada/app", Some("/Users/ada/app")),
            ("/home/ada/=/Users/ada/", "/home/ada/app", Some("/Users/ada/app")),
            ("/home/ada=/Users/ada", "/home/ada", Some("/Users/ada")),
            ("/home/ada=/Users/ada", "/home/adam", None),
            ("/home/ada=/Users/ada", "/x/home/ada", None),
            ("/=/mnt", "/home/ada", Some("/mnt/home/ada")),
            ("/mnt=/", "/mnt/home", Some("/home")),
            ("C:\\code=/code", "C:\\code/app", Some("/code/app")),
        ] {
            let moved = MovedPath::parse(option).unwrap().moved(path.as_bytes());
            assert_eq!(moved.as_deref(), expected.map(str::as_bytes), "{option} {path}");
        }
        for wrong in ["/home", "=/home", "/home=", ""] {
            assert!(MovedPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
