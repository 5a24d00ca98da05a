//! The words of a command as each scheduler reads them.

/// Whether a word means itself everywhere.
fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    !word.is_empty() && word.chars().all(plain)
}

/// A command line of a systemd unit: systemd.service(5), "Command lines", and systemd.syntax(7).
pub(super) fn systemd(words: &[String]) -> String {
    let quoted = words.iter().enumerate().map(|(n, word)| {
        if is_plain(word) {
            return word.clone();
        }
        let mut text = String::from("\"");
        for c in word.chars() {
            match c {
                '"' | '\\' => text.extend(['\\', c]),
                '%' => text.push_str("%%"),
                // variables are not read in the name of the program
                '$' if n > 0 => text.push_str("$$"),
                _ => text.push(c),
            }
        }
        text + "\""
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A command line of a shell.
pub(super) fn shell(words: &[String]) -> String {
    let quoted = words.iter().map(|word| match is_plain(word) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A command line of a shell in a crontab, where a percent sign would end it: crontab(5).
pub(super) fn cron(command: &str) -> String {
    command.replace('%', "\\%")
}

/// A text of an XML element.
pub(super) fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_as_their_reader_unquotes_them() {
        let words = ["/opt/a b%$/x", "--to=/x", "it's", "a\\b\"c", "50%", "$HOME", "", ";"];
        let words = words.map(str::to_owned);
        assert_eq!(
            systemd(&words),
            r#""/opt/a b%%$/x" --to=/x "it's" "a\\b\"c" "50%%" "$$HOME" "" ";""#
        );
        assert_eq!(
            cron(&shell(&words)),
            r#"'/opt/a b\%$/x' --to=/x 'it'\''s' 'a\b"c' '50\%' '$HOME' '' ';'"#
        );
        assert_eq!(xml("a<b> & c"), "a&lt;b&gt; &amp; c");
    }
}
