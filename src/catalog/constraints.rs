//! CHECK constraints that can be foreseen: one column against a list of texts or a least number.

/// A CHECK constraint on one column whose effect can be foreseen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckConstraint {
    /// One of these texts.
    OneOf(Vec<String>),
    /// A number that is not below this one.
    AtLeast(i64),
}

impl CheckConstraint {
    /// Reads the condition of a CHECK constraint, with or without the word CHECK, if it is of a form that
    /// we can foresee: a column and a list of texts, or a column and its least value, as SQLite keeps
    /// them or PostgreSQL prints them.
    pub fn parse(condition: &str) -> Option<(String, CheckConstraint)> {
        let tokens = tokens(condition);
        match tokens.split_first() {
            Some((first, rest)) if first.is_word("check") => read(rest),
            _ => read(&tokens),
        }
    }

    /// Every CHECK constraint that we can foresee in the text of a CREATE TABLE.
    pub fn in_create_table(sql: &str) -> Vec<(String, CheckConstraint)> {
        let tokens = tokens(sql);
        let behind = |(n, token): (usize, &Token)| {
            let rest = token.is_word("check").then(|| &tokens[n + 1..])?;
            read(&rest[..=closing(rest)?])
        };
        tokens.iter().enumerate().filter_map(behind).collect()
    }
}

/// The CHECK constraints in the text of a CREATE TABLE that have a name, each with the words in its
/// condition.
pub fn named_checks(sql: &str) -> Vec<(String, Vec<String>)> {
    let tokens = tokens(sql);
    let word = |token: &Token| match token {
        Token::Word(word) | Token::Quoted(word) => Some(word.clone()),
        Token::Text(_) | Token::Number(_) | Token::Symbol(_) => None,
    };
    let named = |at: usize| {
        let [constraint, name, check, rest @ ..] = &tokens[at..] else { return None };
        (constraint.is_word("constraint") && check.is_word("check")).then_some(())?;
        let condition = &rest[..=closing(rest)?];
        Some((word(name)?, condition.iter().filter_map(word).collect()))
    };
    (0..tokens.len()).filter_map(named).collect()
}

/// A token of SQL. Comments are none.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// A keyword or a name without quotes.
    Word(String),
    /// A name in quotes.
    Quoted(String),
    /// A text.
    Text(String),
    /// A number without its sign.
    Number(String),
    /// An operator, a parenthesis or any other character.
    Symbol(String),
}

impl Token {
    fn is_word(&self, word: &str) -> bool {
        matches!(self, Token::Word(own) if own.eq_ignore_ascii_case(word))
    }

    fn is_symbol(&self, symbol: &str) -> bool {
        matches!(self, Token::Symbol(own) if own == symbol)
    }
}

/// The tokens of a text. What has no end reaches to the end of the text.
fn tokens(sql: &str) -> Vec<Token> {
    let (mut rest, mut tokens) = (sql.trim_start(), Vec::new());
    while let Some(first) = rest.chars().next() {
        let end = |found: Option<usize>, behind: usize| found.map_or(rest.len(), |n| n + behind);
        let next = if rest.starts_with("--") {
            end(rest.find('\n'), 1)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            end(comment.find("*/"), 4)
        } else if let Some(close) = closing_quote(first).filter(|_| !begins_array(rest, &tokens)) {
            let (text, next) = between_quotes(rest, first, close, false);
            tokens.push(if first == '\'' { Token::Text(text) } else { Token::Quoted(text) });
            next
        } else if rest.starts_with("E'") || rest.starts_with("e'") {
            let (text, next) = between_quotes(&rest[1..], '\'', '\'', true);
            tokens.push(Token::Text(text));
            next + 1
        } else if first.is_ascii_digit() {
            let next = end(rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '.')), 0);
            tokens.push(Token::Number(rest[..next].to_owned()));
            next
        } else if is_of_word(first) {
            let next = end(rest.find(|c: char| !is_of_word(c)), 0);
            tokens.push(Token::Word(rest[..next].to_owned()));
            next
        } else {
            let long = ["::", ">=", "<=", "<>", "!=", "==", "[]"];
            let long = long.iter().find(|symbol| rest.starts_with(**symbol));
            let next = long.map_or(first.len_utf8(), |symbol| symbol.len());
            tokens.push(Token::Symbol(rest[..next].to_owned()));
            next
        };
        rest = rest[next..].trim_start();
    }
    tokens
}

/// Whether a bracket is Postgres' for the elements of an array or for its type, and no quote of SQLite.
fn begins_array(rest: &str, before: &[Token]) -> bool {
    let array = before.last().is_some_and(|token| token.is_word("array"));
    rest.starts_with("[]") || (rest.starts_with('[') && array)
}

fn is_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// The quote that closes what `open` begins, if that is a quote.
fn closing_quote(open: char) -> Option<char> {
    match open {
        '\'' | '"' | '`' => Some(open),
        '[' => Some(']'),
        _ => None,
    }
}

/// The text between the quote at the start and the one that closes it, and where that ends.
fn between_quotes(text: &str, open: char, close: char, escapes: bool) -> (String, usize) {
    let (mut inner, mut chars) = (String::new(), text.char_indices().skip(1).peekable());
    while let Some((at, c)) = chars.next() {
        if c == close {
            // a doubled quote is one, but for brackets
            if open != '[' && chars.peek().is_some_and(|(_, next)| *next == close) {
                chars.next();
            } else {
                return (inner, at + c.len_utf8());
            }
        }
        match chars.peek() {
            Some((_, next)) if escapes && c == '\\' => {
                inner.push(*next);
                chars.next();
            }
            _ => inner.push(c),
        }
    }
    (inner, text.len())
}

/// The parenthesis that closes the one that tokens begin with.
fn closing(tokens: &[Token]) -> Option<usize> {
    tokens.first().filter(|first| first.is_symbol("("))?;
    let mut depth = 0_usize;
    tokens.iter().position(|token| {
        depth += usize::from(token.is_symbol("("));
        depth -= usize::from(token.is_symbol(")"));
        depth == 0
    })
}

/// Tokens without the parentheses that enclose all of them.
fn unwrapped(mut tokens: &[Token]) -> &[Token] {
    while let Some(end) = closing(tokens).filter(|end| end + 1 == tokens.len()) {
        tokens = &tokens[1..end];
    }
    tokens
}

/// Takes a value, perhaps in parentheses, and its casts from the front of tokens; the rest of them
/// follows. `None` if it is cast to a type whose values do not compare as texts or numbers do.
fn operand(tokens: &[Token]) -> Option<(&[Token], &[Token])> {
    let array = tokens.first().is_some_and(|token| token.is_word("array"));
    let last = match array {
        true => tokens.iter().position(|token| token.is_symbol("]")),
        false => closing(tokens),
    };
    let mut end = last.unwrap_or(0) + 1;
    let value = tokens.get(..end)?;
    while tokens.get(end).is_some_and(|token| token.is_symbol("::")) {
        end += 1;
        let words = tokens[end..].iter().take_while(|token| matches!(token, Token::Word(_)));
        let words: Vec<String> = words
            .map(|token| match token {
                Token::Word(word) => word.to_ascii_lowercase(),
                _ => String::new(),
            })
            .collect();
        let known = ["text", "character varying", "integer", "bigint", "numeric"];
        known.contains(&words.join(" ").as_str()).then_some(())?;
        end += words.len();
        end += tokens.get(end).and_then(|_| closing(&tokens[end..])).map_or(0, |close| close + 1);
        end += usize::from(tokens.get(end).is_some_and(|token| token.is_symbol("[]")));
    }
    Some((unwrapped(value), &tokens[end..]))
}

/// Reads the condition of a CHECK constraint.
fn read(tokens: &[Token]) -> Option<(String, CheckConstraint)> {
    let (column, rest) = operand(unwrapped(tokens))?;
    let column = match operand(column)? {
        ([Token::Word(name) | Token::Quoted(name)], []) => name.clone(),
        _ => return None,
    };
    let (operator, rest) = rest.split_first()?;
    if operator.is_symbol(">=") {
        return Some((column, CheckConstraint::AtLeast(least(rest)?)));
    }
    let list = match rest.split_first() {
        Some((any, list)) if operator.is_symbol("=") && any.is_word("any") => array(list)?,
        _ if operator.is_symbol("=") => vec![text(rest)?],
        _ if operator.is_word("in") && closing(rest)? + 1 == rest.len() => {
            texts(&rest[1..rest.len() - 1])?
        }
        _ => return None,
    };
    Some((column, CheckConstraint::OneOf(list)))
}

/// The texts of `(ARRAY['a', 'b'])`.
fn array(tokens: &[Token]) -> Option<Vec<String>> {
    let (value, rest) = operand(tokens)?;
    rest.is_empty().then_some(())?;
    match value {
        [word, open, list @ .., close]
            if word.is_word("array") && open.is_symbol("[") && close.is_symbol("]") =>
        {
            texts(list)
        }
        _ if value.len() < tokens.len() => array(value),
        _ => None,
    }
}

/// The texts of a list.
fn texts(tokens: &[Token]) -> Option<Vec<String>> {
    tokens.split(|token| token.is_symbol(",")).map(text).collect()
}

/// A text, perhaps with a cast behind it.
fn text(tokens: &[Token]) -> Option<String> {
    match operand(tokens)? {
        ([Token::Text(text)], []) => Some(text.clone()),
        (value, []) if value.len() < tokens.len() => text(value),
        _ => None,
    }
}

/// A whole number; Postgres prints one with a sign as a text that is cast.
fn least(tokens: &[Token]) -> Option<i64> {
    let digits = |number: &str| number.parse::<i64>().ok();
    match tokens {
        [minus, Token::Number(number)] if minus.is_symbol("-") => digits(&format!("-{number}")),
        _ => match operand(tokens)? {
            ([Token::Number(number)], []) => digits(number),
            ([Token::Text(number)], []) if tokens.len() > 1 => digits(number),
            (value, []) if value.len() < tokens.len() => least(value),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> CheckConstraint {
        CheckConstraint::OneOf(texts.iter().map(|t| (*t).into()).collect())
    }

    #[test]
    fn checks_are_read_as_both_databases_write_them() {
        let least = CheckConstraint::AtLeast;
        for (condition, expected) in [
            (
                "CHECK ((event_type = ANY (ARRAY['stop'::text, 'error'::text])))",
                Some(("event_type", list(&["stop", "error"]))),
            ),
            (
                "(((status)::text = ANY ((ARRAY['a'::character varying, 'b]'::character varying])::text[])))",
                Some(("status", list(&["a", "b]"]))),
            ),
            (
                "((s)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))",
                Some(("s", list(&["a", "b"]))),
            ),
            ("(kind = 'only'::text)", Some(("kind", list(&["only"])))),
            (r"(path = E'a\\b\'c'::text)", Some(("path", list(&[r"a\b'c"])))),
            ("event_type IN ('stop', 'it''s')", Some(("event_type", list(&["stop", "it's"])))),
            ("( \"the type\" in ('a,b', '(c)') )", Some(("the type", list(&["a,b", "(c)"])))),
            ("check(/* why */ [a b] IN ('x') -- no more\n)", Some(("a b", list(&["x"])))),
            ("(duration_ms >= 0)", Some(("duration_ms", least(0)))),
            ("CHECK ((n >= '-5'::integer))", Some(("n", least(-5)))),
            ("n >= -5", Some(("n", least(-5)))),
            ("((n)::numeric >= (0)::numeric)", Some(("n", least(0)))),
        ] {
            let expected = expected.map(|(column, check)| (column.to_owned(), check));
            assert_eq!(CheckConstraint::parse(condition), expected, "{condition}");
        }
    }

    #[test]
    fn conditions_that_only_the_server_can_check_are_left_to_it() {
        for condition in [
            "a > 1 OR b IN ('x')",
            "a >= 1 AND b >= 2",
            "(a IN ('x')) OR (b IN ('y'))",
            "event_type IN ('stop', upper('x'))",
            "(c = ANY (ARRAY['a'::citext, 'b'::citext]))",
            "(c = 'a'::bpchar)",
            "a NOT IN ('x')",
            "a IN ('x') COLLATE NOCASE",
            "a IN (x'00')",
            "lower(a) IN ('x')",
            "n >= 1.5",
            "n >= other",
            "a IN ('x'",
            "",
        ] {
            assert_eq!(CheckConstraint::parse(condition), None, "{condition}");
        }
    }

    #[test]
    fn a_named_check_is_known_with_its_words() {
        let sql = "CREATE TABLE t (a INTEGER, CONSTRAINT \"my check\" CHECK (length(a) > b), CHECK (c > 1))";
        let words = ["length", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(named_checks(sql), [("my check".to_owned(), words)]);
    }

    #[test]
    fn only_the_keyword_begins_a_check_of_a_table() {
        let sql = "CREATE TABLE \"CHECK (a >= 1)\" ( -- CHECK (a >= 2)\n\
             a INTEGER DEFAULT 7 check (a >= 3), \
             b TEXT DEFAULT 'CHECK (b IN (''no''))' /* CHECK (b IN ('no')) */, \
             [CHECK (c >= 4)] INTEGER, recheck INTEGER, `check` INTEGER, \
             CONSTRAINT named CHECK(b IN ('x', 'it''s')), CHECK (a > 1 OR b IN ('y')), \
             CHECK (recheck >= 5))";
        let least = |column: &str, n| (column.to_owned(), CheckConstraint::AtLeast(n));
        assert_eq!(
            CheckConstraint::in_create_table(sql),
            [least("a", 3), ("b".to_owned(), list(&["x", "it's"])), least("recheck", 5)]
        );
    }
}
