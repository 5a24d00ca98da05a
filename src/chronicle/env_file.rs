//! A file of variables as Chronicle's programs read it (`.env`): what it sets, and the same file with other values.
//!
//! The rules are those of python-dotenv, by which the hooks read theirs; the dashboard's reader agrees on all that is
//! written here.

use std::ops::Range;

/// More bytes than a variable of a process can have on Linux.
const LONGEST: usize = 128 << 10;

/// A line, or several if quotes are open at its end, that sets a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub key: String,
    /// Its value, without quotes.
    pub value: String,
    /// The number of the line, from 1.
    pub line: usize,
    /// Where the value is written in the file, with its quotes.
    written: Range<usize>,
}

/// The text of such a file.
#[derive(Debug, Clone)]
pub struct EnvFile {
    text: String,
    assignments: Vec<Assignment>,
    /// The lines that set nothing and are no comments, from 1.
    pub unreadable: Vec<usize>,
}

impl EnvFile {
    /// Reads the text of a file.
    pub fn parse(text: String) -> EnvFile {
        let (mut assignments, mut unreadable) = (Vec::new(), Vec::new());
        let (mut at, mut line) = (0, 1);
        while at < text.len() {
            let end = match assignment(&text, at, line) {
                Some((assignment, end)) => {
                    assignments.push(assignment);
                    end
                }
                None => {
                    let end = line_end(&text, at);
                    let words = text[at..end].trim();
                    if !words.is_empty() && !words.starts_with('#') {
                        unreadable.push(line);
                    }
                    end
                }
            };
            line += text[at..end].matches('\n').count() + 1;
            at = end + 1;
        }
        EnvFile { text, assignments, unreadable }
    }

    /// The whole text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything that is set, in its order; of a variable that is set twice the last one counts.
    pub fn assignments(&self) -> &[Assignment] {
        &self.assignments
    }

    /// What a variable is set to; `None` if it is not set.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.assignments.iter().rev().find(|a| a.key == key).map(|a| a.value.as_str())
    }

    /// The same file as its reader sees it: with the values of `${NAME}` and `${NAME:-DEFAULT}`, which are those of earlier
    /// lines, else of the variables `outside`.
    #[must_use]
    pub fn expanded(mut self, outside: &dyn Fn(&str) -> Option<String>) -> EnvFile {
        for n in 0..self.assignments.len() {
            let (earlier, rest) = self.assignments.split_at_mut(n);
            let value_of = |name: &str| {
                let set = earlier.iter().rev().find(|a| a.key == name).map(|a| a.value.clone());
                set.or_else(|| outside(name))
            };
            if let Some(value) = expand(&rest[0].value, value_of) {
                rest[0].value = value;
            }
        }
        self
    }

    /// The same file with another value of a variable: in its place, else at the end. Every other byte stays.
    #[must_use]
    pub fn with(&self, key: &str, value: &str) -> EnvFile {
        if self.get(key) == Some(value) {
            return self.clone();
        }
        let mut text = self.text.clone();
        match self.assignments.iter().rev().find(|a| a.key == key) {
            Some(last) => {
                // nothing at all would take a comment behind it for the value
                let value = if value.is_empty() { "''".to_owned() } else { written(value) };
                text.replace_range(last.written.clone(), &value);
            }
            None => {
                let end = if text.contains("\r\n") { "\r\n" } else { "\n" };
                if !text.is_empty() && !text.ends_with('\n') {
                    text.push_str(end);
                }
                text.push_str(&format!("{key}={}{end}", written(value)));
            }
        }
        EnvFile::parse(text)
    }
}

/// A value as it is written: in quotes only if it has to be.
pub fn written(value: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "_-./:@%+,~?&=<>(){}[]*!^|;".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    match value.contains(['\'', '\\']) {
        false => format!("'{value}'"),
        true => format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

/// A value with those of the variables in it; `None` if there is none, or it would be longer than any variable can be.
fn expand(value: &str, value_of: impl Fn(&str) -> Option<String>) -> Option<String> {
    let (mut expanded, mut rest) = (String::new(), value);
    while let Some((before, behind)) = rest.split_once("${") {
        let Some((name, behind)) = behind.split_once('}') else { break };
        let (name, default) = name.split_once(":-").unwrap_or((name, ""));
        expanded.push_str(before);
        expanded.push_str(&value_of(name).unwrap_or_else(|| default.to_owned()));
        rest = behind;
    }
    expanded.push_str(rest);
    (rest != value && expanded.len() < LONGEST).then_some(expanded)
}

/// The end of the line that begins at a place, before its line break.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end)
}

/// The assignment that begins at a place, and where the line of its end ends.
fn assignment(text: &str, at: usize, line: usize) -> Option<(Assignment, usize)> {
    let end = line_end(text, at);
    let blank = |from: usize, to: usize| {
        from + text[from..to].len()
            - text[from..to].trim_start_matches([' ', '\t', '\u{feff}']).len()
    };
    let mut start = blank(at, end);
    if let Some(rest) = text[start..end].strip_prefix("export")
        && rest.starts_with([' ', '\t'])
    {
        start = blank(start + "export".len(), end);
    }
    let equals = start + text[start..end].find('=')?;
    let key = text[start..equals].trim_end();
    let key = key.strip_prefix('\'').and_then(|key| key.strip_suffix('\'')).unwrap_or(key);
    if key.is_empty() || key.contains(|c: char| c.is_whitespace() || c == '#' || c == '\'') {
        return None;
    }
    let first = blank(equals + 1, end);
    let (value, written) = match text[first..].chars().next() {
        Some(quote @ ('\'' | '"')) => quoted(text, first, quote)?,
        _ => {
            let raw = &text[first..end];
            let comment =
                raw.char_indices().find(|(n, c)| *c == '#' && raw[..*n].ends_with([' ', '\t']));
            let value = comment.map_or(raw, |(n, _)| &raw[..n]).trim_end();
            (value.to_owned(), first..first + value.len())
        }
    };
    let end = line_end(text, written.end);
    let behind = text[written.end..end].trim();
    if !behind.is_empty() && !behind.starts_with('#') {
        return None;
    }
    Some((Assignment { key: key.to_owned(), value, line, written }, end))
}

/// A value in quotes, which may contain line breaks.
fn quoted(text: &str, first: usize, quote: char) -> Option<(String, Range<usize>)> {
    let mut value = String::new();
    let mut letters = text[first + 1..].char_indices();
    while let Some((n, letter)) = letters.next() {
        match letter {
            _ if letter == quote => return Some((value, first..first + 1 + n + 1)),
            '\\' => match (letters.next()?.1, quote) {
                ('n', '"') => value.push('\n'),
                ('r', '"') => value.push('\r'),
                ('t', '"') => value.push('\t'),
                (escaped @ ('\\' | '\''), _) | (escaped @ '"', '"') => value.push(escaped),
                (other, _) => value.extend(['\\', other]),
            },
            _ => value.push(letter),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let file = EnvFile::parse(text.to_owned());
        file.assignments().iter().map(|a| (a.key.clone(), a.value.clone())).collect()
    }

    #[test]
    fn values_are_read_as_python_dotenv_reads_them() {
        let text = "A=1\n# B=2\nexport C = 'x # y' # said\nD=\"a\\nb\"\r\nE=a#b # c\nF=\n\nnot a line\nG='two\nlines'\nA=3\n";
        let expected = [
            ("A", "1"),
            ("C", "x # y"),
            ("D", "a\nb"),
            ("E", "a#b"),
            ("F", ""),
            ("G", "two\nlines"),
            ("A", "3"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(values(text), expected);
        let file = EnvFile::parse(text.to_owned());
        assert_eq!((file.get("A"), file.get("B")), (Some("3"), None));
        assert_eq!(file.unreadable, [8]);
        assert_eq!(file.assignments()[6].line, 11);
    }

    #[test]
    fn variables_in_values_are_replaced_as_the_reader_does() {
        let text = "A=${HOME}/a\nB=${A}/b${NONE}\nC='${LATER:-d}e'\nLATER=x\nD=${open\n";
        let outside = |name: &str| (name == "HOME").then(|| "/h".to_owned());
        let file = EnvFile::parse(text.to_owned()).expanded(&outside);
        let values = ["A", "B", "C", "D"].map(|key| file.get(key).unwrap_or_default().to_owned());
        assert_eq!(values, ["/h/a", "/h/a/b", "de", "${open"]);
        let doubled: String =
            (0..100).map(|n| format!("V{}=${{V{n}}}${{V{n}}}\n", n + 1)).collect();
        let file = EnvFile::parse(format!("V0=xx\n{doubled}")).expanded(&outside);
        assert!(file.assignments().iter().all(|a| a.value.len() < LONGEST));
    }

    #[test]
    fn a_changed_file_keeps_every_other_byte() {
        let text = "# mine\r\nexport A = 'old' # why\r\nB=2";
        let file = EnvFile::parse(text.to_owned()).with("A", "new").with("C", "a b");
        assert_eq!(file.text(), "# mine\r\nexport A = new # why\r\nB=2\r\nC='a b'\r\n");
    }

    #[test]
    fn an_empty_value_is_no_comment_and_is_written_once() {
        let file = EnvFile::parse("A='x y' # c\n".to_owned()).with("A", "").with("B", "");
        assert_eq!(file.text(), "A='' # c\nB=\n");
        assert_eq!(file.with("A", "").with("B", "").text(), file.text());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_written_is_read_again(
            text in "([A-C]( )?=( )?('x y'|\"q\"|[a-z#]{0,3})( # c)?\r?\n|#[a-z =]{0,4}\n|[a-z]{0,3}\n){0,6}",
            key in "[A-D]",
            value in "[ -~\u{e4}\n]{0,12}",
        ) {
            let file = EnvFile::parse(text);
            let others = |file: &EnvFile| -> Vec<(String, String)> {
                let all = file.assignments().iter().filter(|a| a.key != key);
                all.map(|a| (a.key.clone(), a.value.clone())).collect()
            };
            let changed = file.with(&key, &value);
            prop_assert_eq!(changed.get(&key), Some(value.as_str()));
            prop_assert_eq!(others(&changed), others(&file));
            let again = changed.with(&key, &value);
            prop_assert_eq!(again.text(), changed.text());
        }
    }
}
