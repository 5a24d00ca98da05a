//! The types of a dump's columns: how its statements write them, and what the server calls them.

use super::sql::Token;

/// The type of a column, as a statement names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TypeName {
    /// Its schema, unless it is one of the server's own.
    pub(super) schema: Option<String>,
    /// Its name in the words of SQL, without limits.
    pub(super) name: String,
    /// Its limits, such as `10,2`.
    pub(super) limits: Option<String>,
    /// Whether it is an array.
    pub(super) array: bool,
}

/// The names of types in SQL, where the server has another one.
const NAMES: [(&str, &str); 16] = [
    ("smallint", "int2"),
    ("integer", "int4"),
    ("bigint", "int8"),
    ("real", "float4"),
    ("double precision", "float8"),
    ("boolean", "bool"),
    ("character varying", "varchar"),
    ("character", "bpchar"),
    ("timestamp with time zone", "timestamptz"),
    ("timestamp without time zone", "timestamp"),
    ("time with time zone", "timetz"),
    ("time without time zone", "time"),
    ("bit varying", "varbit"),
    ("decimal", "numeric"),
    ("int", "int4"),
    ("float", "float8"),
];

/// Words that may follow the first one of a type.
const FOLLOWING: [&str; 13] = [
    "precision",
    "varying",
    "with",
    "without",
    "time",
    "zone",
    "year",
    "month",
    "day",
    "hour",
    "minute",
    "second",
    "to",
];

impl TypeName {
    /// Reads a type at the start of some tokens; gives how many it has.
    pub(super) fn read(tokens: &[Token]) -> Option<(TypeName, usize)> {
        let name_at = |n: usize| match tokens.get(n) {
            Some(Token::Word(name) | Token::Name(name)) => Some(name.clone()),
            _ => None,
        };
        let is_sign = |n: usize, sign: char| tokens.get(n) == Some(&Token::Sign(sign));
        let (mut schema, mut at) = (None, 0);
        if is_sign(1, '.') {
            schema = name_at(0).filter(|schema| schema != "pg_catalog");
            at = 2;
        }
        let is_quoted = matches!(tokens.get(at), Some(Token::Name(_)));
        let mut name = name_at(at)?;
        // "char" is another type than char
        if is_quoted && schema.is_none() && name == "char" {
            "\"char\"".clone_into(&mut name);
        }
        at += 1;
        let (mut limits, mut array) = (None, false);
        loop {
            match tokens.get(at) {
                Some(Token::Word(word))
                    if schema.is_none() && FOLLOWING.contains(&word.as_str()) =>
                {
                    name = format!("{name} {word}");
                    at += 1;
                }
                Some(Token::Sign('(')) if limits.is_none() => {
                    let end = tokens[at..].iter().position(|t| *t == Token::Sign(')'))?;
                    let text = tokens[at + 1..at + end].iter().map(text_of);
                    limits = Some(text.collect());
                    at += end + 1;
                }
                Some(Token::Sign('[')) => {
                    array = true;
                    at += tokens[at..].iter().position(|t| *t == Token::Sign(']'))? + 1;
                }
                _ => break,
            }
        }
        Some((TypeName { schema, name, limits, array }, at))
    }

    /// The server's name for it, of an array that of its elements.
    pub(super) fn element(&self) -> &str {
        if self.schema.is_some() {
            return &self.name;
        }
        // the fields of an interval may follow
        if self.name.starts_with("interval ") {
            return "interval";
        }
        let known = NAMES.iter().find(|(sql, _)| *sql == self.name);
        known.map_or(self.name.as_str(), |(_, server)| server)
    }

    /// The server's name for it.
    pub(super) fn server_name(&self) -> String {
        if self.array { format!("_{}", self.element()) } else { self.element().to_owned() }
    }

    /// The type as SQL writes it.
    pub(super) fn sql(&self) -> String {
        let mut sql = match &self.schema {
            Some(schema) => format!("{}.{}", super::quoted(schema), super::quoted(&self.name)),
            None => self.name.clone(),
        };
        if let Some(limits) = &self.limits {
            // behind the first word: timestamp(3) with time zone
            let at = sql.find(" with").unwrap_or(sql.len());
            sql.insert_str(at, &format!("({limits})"));
        }
        if self.array { sql + "[]" } else { sql }
    }

    /// The same type without limits.
    pub(super) fn unlimited(&self) -> TypeName {
        TypeName { limits: None, ..self.clone() }
    }
}

fn text_of(token: &Token) -> String {
    match token {
        Token::Word(text) | Token::Name(text) | Token::Text(text) => text.clone(),
        Token::Sign(sign) => sign.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use super::super::sql::{Piece, Script};
    use super::*;

    /// The tokens of a statement.
    pub(in super::super) fn tokens(sql: &str) -> Vec<Token> {
        let text = format!("{sql};").into_bytes();
        match Script::new(Box::new(std::io::Cursor::new(text))).next().unwrap() {
            Some(Piece::Statement(statement)) => statement.tokens,
            other => panic!("{sql}: {other:?}"),
        }
    }

    #[test]
    fn types_are_read_as_a_dump_writes_them() {
        for (sql, server, written, rest) in [
            ("uuid DEFAULT x", "uuid", "uuid", 2),
            ("\"uuid\" NOT NULL", "uuid", "uuid", 2),
            ("timestamp(3) with time zone", "timestamptz", "timestamp(3) with time zone", 0),
            ("timestamp without time zone NOT NULL", "timestamp", "timestamp without time zone", 2),
            ("character varying(20)", "varchar", "character varying(20)", 0),
            ("numeric(10,2)[]", "_numeric", "numeric(10,2)[]", 0),
            ("double precision", "float8", "double precision", 0),
            ("interval day to second(3)", "interval", "interval day to second(3)", 0),
            ("\"char\"", "\"char\"", "\"char\"", 0),
            ("character(1)", "bpchar", "character(1)", 0),
            ("public.\"my mood\" COLLATE x", "my mood", "\"public\".\"my mood\"", 2),
            ("\"public\".\"mood\"[]", "_mood", "\"public\".\"mood\"[]", 0),
        ] {
            let tokens = tokens(sql);
            let (ty, read) = TypeName::read(&tokens).unwrap();
            assert_eq!((ty.server_name().as_str(), ty.sql().as_str()), (server, written), "{sql}");
            assert_eq!(tokens.len() - read, rest, "{sql}");
        }
    }
}
