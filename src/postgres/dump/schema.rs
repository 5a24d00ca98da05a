//! The tables of a database as the statements of its dump define them.

use std::collections::BTreeMap;

use super::sql::{Statement, Token};
use super::types::TypeName;
use crate::error::{Code, Error, Result};
use crate::postgres::catalog::{PgColumn, PgTable};
use chronicle_archive::show_text;

/// The schema and the name of a table or type.
pub(super) type FullName = (String, String);

/// What is known of a database.
#[derive(Debug, Default)]
pub(super) struct Schema {
    tables: BTreeMap<FullName, DumpedTable>,
    types: BTreeMap<FullName, DumpedType>,
}

/// A table or view.
#[derive(Debug, Default)]
pub(super) struct DumpedTable {
    /// Its columns, also those that the server computes.
    pub(super) columns: Vec<DumpedColumn>,
    is_view: bool,
    /// Whether its rows are those of its partitions.
    is_partitioned: bool,
    /// The tables that its rows are rows of, too: it inherits from them, or is a partition.
    parents: Vec<FullName>,
}

/// A column of a table.
#[derive(Debug)]
pub(super) struct DumpedColumn {
    /// As the live catalog has it.
    pub(super) column: PgColumn,
    /// Its type as its statement names it.
    pub(super) ty: TypeName,
    is_computed: bool,
}

/// A type that the dump creates.
#[derive(Debug)]
pub(super) enum DumpedType {
    /// A domain over another type, and whether it refuses NULL.
    Domain(TypeName, bool),
    /// An enum with its words in their order.
    Enum(Vec<String>),
    /// A row or a range of other types.
    Composed,
}

/// Reads tokens one after the other.
pub(super) struct Tokens<'a>(pub(super) &'a [Token]);

impl<'a> Tokens<'a> {
    /// Goes past some words, if they come next.
    pub(super) fn eat(&mut self, words: &[&str]) -> bool {
        let is_next =
            |(n, word): (usize, &&str)| matches!(self.0.get(n), Some(Token::Word(w)) if w == word);
        let are_next = words.iter().enumerate().all(is_next);
        if are_next {
            self.0 = &self.0[words.len()..];
        }
        are_next
    }

    /// Goes past a sign, if it comes next.
    pub(super) fn sign(&mut self, sign: char) -> bool {
        let is_next = self.0.first() == Some(&Token::Sign(sign));
        if is_next {
            self.0 = &self.0[1..];
        }
        is_next
    }

    /// The name that comes next.
    pub(super) fn name(&mut self) -> Option<&'a str> {
        let (Token::Word(name) | Token::Name(name)) = self.0.first()? else { return None };
        self.0 = &self.0[1..];
        Some(name)
    }

    /// The full name that comes next; pg_dump writes no other.
    pub(super) fn full_name(&mut self) -> Option<FullName> {
        let schema = self.name()?.to_owned();
        self.sign('.').then_some(())?;
        Some((schema, self.name()?.to_owned()))
    }

    /// The parts between commas within the parentheses that come next.
    pub(super) fn list(&mut self) -> Option<Vec<&'a [Token]>> {
        self.sign('(').then_some(())?;
        let (mut depth, mut start, mut parts) = (0_usize, 0, Vec::new());
        for (n, token) in self.0.iter().enumerate() {
            match token {
                Token::Sign('(' | '[') => depth += 1,
                Token::Sign(')') if depth == 0 => {
                    parts.push(&self.0[start..n]);
                    self.0 = &self.0[n + 1..];
                    parts.retain(|part| !part.is_empty());
                    return Some(parts);
                }
                Token::Sign(')' | ']') => depth = depth.saturating_sub(1),
                Token::Sign(',') if depth == 0 => {
                    parts.push(&self.0[start..n]);
                    start = n + 1;
                }
                _ => {}
            }
        }
        None
    }

    /// The names within the parentheses that come next.
    pub(super) fn names(&mut self) -> Option<Vec<String>> {
        self.list()?.into_iter().map(|part| Tokens(part).name().map(str::to_owned)).collect()
    }
}

impl Schema {
    /// Learns what a statement says.
    ///
    /// # Errors
    /// If it creates a table and cannot be understood.
    pub(super) fn learn(&mut self, statement: &Statement) -> Result<()> {
        let mut tokens = Tokens(&statement.tokens);
        if tokens.eat(&["alter", "table"]) {
            self.alter_table(tokens);
            return Ok(());
        }
        if !tokens.eat(&["create"]) {
            return Ok(());
        }
        tokens.eat(&["or", "replace"]);
        let temporary = tokens.eat(&["temporary"]) || tokens.eat(&["temp"]);
        if tokens.eat(&["unlogged", "table"]) || tokens.eat(&["table"]) {
            let understood = self.create_table(tokens).filter(|()| !statement.is_cut);
            return understood.filter(|()| !temporary).ok_or_else(|| {
                let what =
                    format!("line {}: a table whose statement is not understood", statement.line);
                Error::new(Code::Source, what).hint("dump it again with pg_dump, as plain SQL")
            });
        }
        if tokens.eat(&["domain"]) {
            self.create_domain(tokens);
        } else if tokens.eat(&["type"]) {
            self.create_type(tokens);
        } else if (tokens.eat(&["view"]) || tokens.eat(&["materialized", "view"]))
            && let Some(name) = tokens.full_name()
        {
            self.tables.insert(name, DumpedTable { is_view: true, ..DumpedTable::default() });
        }
        Ok(())
    }

    fn create_table(&mut self, mut tokens: Tokens<'_>) -> Option<()> {
        tokens.eat(&["if", "not", "exists"]);
        let name = tokens.full_name()?;
        let mut table = DumpedTable::default();
        let mut not_null = Vec::new();
        for part in tokens.list()? {
            let mut part = Tokens(part);
            if part.eat(&["constraint"]) {
                part.name();
                if part.eat(&["not", "null"]) {
                    not_null.extend(part.name().map(str::to_owned));
                } else if part.eat(&["primary", "key"]) {
                    not_null.extend(part.names()?);
                }
            } else if !matches!(part.0.first(), Some(Token::Word(w)) if is_constraint(w)) {
                table.columns.push(self.column(part)?);
            }
        }
        if tokens.eat(&["inherits"]) {
            for parent in tokens.list()? {
                table.parents.push(Tokens(parent).full_name()?);
            }
        }
        table.is_partitioned = tokens.eat(&["partition", "by"]);
        table.require(&not_null);
        self.tables.insert(name, table);
        Some(())
    }

    /// A column, its type and what is said of it.
    fn column(&self, mut tokens: Tokens<'_>) -> Option<DumpedColumn> {
        let name = tokens.name()?.to_owned();
        let (ty, read) = TypeName::read(tokens.0)?;
        tokens.0 = &tokens.0[read..];
        let (mut not_null, mut has_default, mut is_computed) = (false, false, false);
        let mut depth = 0_usize;
        while let Some(token) = tokens.0.first() {
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                _ if depth > 0 => {}
                _ if tokens.eat(&["not", "null"]) => {
                    not_null = true;
                    continue;
                }
                _ if tokens.eat(&["primary", "key"]) => {
                    not_null = true;
                    continue;
                }
                Token::Word(word) if word == "default" => has_default = true,
                Token::Word(word) if word == "generated" => {
                    let is_identity = |t: &Token| *t == Token::Word("identity".into());
                    let identity = tokens.0.iter().take(5).any(is_identity);
                    (has_default, is_computed) = (true, !identity);
                }
                _ => {}
            }
            tokens.0 = &tokens.0[1..];
        }
        let domain = self.domain(&ty);
        let base = domain.map_or(&ty, |(base, _)| base);
        let is_limited = domain.is_some() || ty.limits.is_some();
        let most = base.limits.as_ref().filter(|_| domain.is_none() && ty.element() == "varchar");
        let column = PgColumn {
            name,
            type_name: base.server_name(),
            full_type: base.sql(),
            declared: ty.sql(),
            unlimited: is_limited.then(|| base.unlimited().sql()),
            domain: domain.is_some(),
            most: most.and_then(|limit| limit.parse().ok()),
            not_null: not_null || domain.is_some_and(|(_, not_null)| not_null),
            has_default,
            collation: None,
        };
        Some(DumpedColumn { column, ty, is_computed })
    }

    fn alter_table(&mut self, mut tokens: Tokens<'_>) -> Option<()> {
        tokens.eat(&["if", "exists"]);
        tokens.eat(&["only"]);
        let name = tokens.full_name()?;
        if tokens.eat(&["attach", "partition"]) {
            let partition = self.tables.get_mut(&tokens.full_name()?)?;
            partition.parents.push(name);
        } else if tokens.eat(&["inherit"]) {
            let parent = tokens.full_name()?;
            self.tables.get_mut(&name)?.parents.push(parent);
        } else if tokens.eat(&["alter", "column"]) {
            let column = tokens.name()?;
            let is_default = tokens.eat(&["set", "default"]) || tokens.eat(&["add", "generated"]);
            let columns = &mut self.tables.get_mut(&name)?.columns;
            let altered = columns.iter_mut().find(|c| c.column.name == column)?;
            altered.column.has_default |= is_default;
            altered.column.not_null |= tokens.eat(&["set", "not", "null"]);
        } else if tokens.eat(&["add", "constraint"]) {
            tokens.name()?;
            let is_key = tokens.eat(&["primary", "key"]);
            let key = is_key.then(|| tokens.names()).flatten()?;
            self.tables.get_mut(&name)?.require(&key);
        }
        Some(())
    }

    fn create_domain(&mut self, mut tokens: Tokens<'_>) -> Option<()> {
        let name = tokens.full_name()?;
        tokens.eat(&["as"]);
        let (base, read) = TypeName::read(tokens.0)?;
        let null = [Token::Word("not".into()), Token::Word("null".into())];
        // in a CHECK it is part of a condition, in parentheses
        let (mut depth, mut not_null) = (0_usize, false);
        for pair in tokens.0[read..].windows(2) {
            match &pair[0] {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                _ => not_null |= depth == 0 && *pair == null,
            }
        }
        self.types.insert(name, DumpedType::Domain(base, not_null));
        Some(())
    }

    fn create_type(&mut self, mut tokens: Tokens<'_>) -> Option<()> {
        let name = tokens.full_name()?;
        let ty = match tokens.eat(&["as", "enum"]) {
            true => {
                let word = |part: &[Token]| match part {
                    [Token::Text(word)] => Some(word.clone()),
                    _ => None,
                };
                DumpedType::Enum(tokens.list()?.into_iter().map(word).collect::<Option<_>>()?)
            }
            false => DumpedType::Composed,
        };
        self.types.insert(name, ty);
        Some(())
    }

    /// What the dump says of a type, if it creates it.
    pub(super) fn type_of(&self, ty: &TypeName) -> Option<&DumpedType> {
        self.types.get(&(ty.schema.clone()?, ty.name.clone()))
    }

    /// The type that a domain is over, and whether the domain refuses NULL.
    pub(super) fn domain(&self, ty: &TypeName) -> Option<(&TypeName, bool)> {
        match self.type_of(ty)? {
            DumpedType::Domain(base, not_null) if !ty.array => Some((base, *not_null)),
            _ => None,
        }
    }

    /// A table.
    pub(super) fn table(&self, name: &FullName) -> Option<&DumpedTable> {
        self.tables.get(name)
    }

    /// Whether there are no tables at all.
    pub(super) fn is_empty(&self) -> bool {
        self.tables.is_empty()
    }

    /// Some of the tables and views, in the order of their names, by schema, as the live catalog has them.
    pub(super) fn tables(
        &self,
        is_wanted: impl Fn(&FullName) -> bool,
    ) -> Vec<(String, Vec<PgTable>)> {
        let mut schemas: BTreeMap<String, Vec<PgTable>> = BTreeMap::new();
        for (n, (name, table)) in self.tables.iter().enumerate() {
            // a partition is a part of its table, which is looked at
            let is_partition = table.parents.iter().any(|p| self.is_partitioned(p));
            if is_wanted(name) && !is_partition {
                let oid = u32::try_from(n).unwrap_or(u32::MAX);
                schemas.entry(name.0.clone()).or_default().push(table.as_table(&name.1, oid));
            }
        }
        schemas.into_iter().collect()
    }

    /// Whether the rows of a table are those of its partitions.
    pub(super) fn is_partitioned(&self, name: &FullName) -> bool {
        self.tables.get(name).is_some_and(|table| table.is_partitioned)
    }

    /// The table and those that its rows are rows of, too.
    pub(super) fn with_parents(&self, name: &FullName) -> Vec<FullName> {
        let mut all = vec![name.clone()];
        let mut at = 0;
        while let Some(next) = all.get(at) {
            let parents = self.tables.get(next).map_or(&[][..], |table| &table.parents);
            let new = parents.iter().filter(|parent| !all.contains(parent)).cloned();
            all.extend(new.collect::<Vec<_>>());
            at += 1;
        }
        all
    }

    /// The tables whose rows are those of a table.
    pub(super) fn parts(&self, name: &FullName) -> Vec<FullName> {
        let of = |part: &&FullName| self.with_parents(part).contains(name);
        let parts = self.tables.keys().filter(of);
        parts.filter(|part| !self.is_partitioned(part)).cloned().collect()
    }

    /// The tables by whose names the rows of a table may come: its own, and those that it is a partition of.
    pub(super) fn ways_in(&self, name: &FullName) -> Vec<FullName> {
        let all = self.with_parents(name).into_iter();
        all.filter(|way| way == name || self.is_partitioned(way)).collect()
    }

    /// A table's name for messages.
    pub(super) fn shown(name: &FullName) -> String {
        show_text(&format!("{}.{}", name.0, name.1))
    }
}

impl DumpedTable {
    fn require(&mut self, columns: &[String]) {
        for column in self.columns.iter_mut().map(|c| &mut c.column) {
            column.not_null |= columns.contains(&column.name);
        }
    }

    fn as_table(&self, name: &str, oid: u32) -> PgTable {
        let (computed, columns): (Vec<_>, Vec<_>) =
            self.columns.iter().partition(|column| column.is_computed);
        PgTable {
            name: name.to_owned(),
            oid,
            columns: columns.into_iter().map(|c| c.column.clone()).collect(),
            computed: computed.into_iter().map(|c| c.column.name.clone()).collect(),
            rows: 0,
            view: self.is_view,
        }
    }
}

/// Whether a part of a table that begins with such a word is no column.
fn is_constraint(word: &str) -> bool {
    matches!(word, "primary" | "unique" | "check" | "foreign" | "like")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::types::tests::tokens;
    use super::*;

    fn learned(statements: &[&str]) -> Schema {
        let mut schema = Schema::default();
        for sql in statements {
            schema.learn(&Statement { line: 1, tokens: tokens(sql), is_cut: false }).unwrap();
        }
        schema
    }

    fn only(schema: &Schema, name: &str) -> PgTable {
        let mut schemas = schema.tables(|(_, table)| table == name);
        assert_eq!(schemas.len(), 1);
        schemas.remove(0).1.remove(0)
    }

    #[test]
    fn a_table_is_read_with_its_columns() {
        let schema = learned(&[
            "CREATE DOMAIN public.word AS text DEFAULT 'x' NOT NULL CONSTRAINT c CHECK ((VALUE IS NOT NULL))",
            "CREATE DOMAIN public.maybe AS text CONSTRAINT c CHECK ((VALUE IS NOT NULL))",
            "CREATE TABLE IF NOT EXISTS public.\"odd, table\" (\n\
                 id uuid DEFAULT gen_random_uuid() NOT NULL,\n\
                 n integer CONSTRAINT named NOT NULL,\n\
                 \"check\" character varying(20) DEFAULT 'not null, (x'::character varying,\n\
                 exclude public.word,\n\
                 may public.maybe COLLATE pg_catalog.\"C\",\n\
                 total integer GENERATED ALWAYS AS ((n + 1)) STORED,\n\
                 number bigint,\n\
                 at timestamp(3) with time zone DEFAULT now(),\n\
                 CONSTRAINT two CHECK (((n IS NOT NULL) AND (n = ANY (ARRAY[1, 2])))),\n\
                 CONSTRAINT three NOT NULL at\n)",
            "ALTER TABLE public.\"odd, table\" ALTER COLUMN number ADD GENERATED BY DEFAULT AS IDENTITY (START WITH 1)",
            "ALTER TABLE ONLY public.\"odd, table\" ADD CONSTRAINT k PRIMARY KEY (number)",
        ]);
        let table = only(&schema, "odd, table");
        assert_eq!(table.computed, ["total"]);
        let shown: Vec<String> = (table.columns.iter())
            .map(|c| format!("{} {} {} {}", c.name, c.type_name, c.not_null, c.has_default))
            .collect();
        assert_eq!(
            shown,
            [
                "id uuid true true",
                "n int4 true false",
                "check varchar false true",
                "exclude text true false",
                "may text false false",
                "number int8 true true",
                "at timestamptz true true",
            ]
        );
        assert_eq!((table.columns[2].most, table.columns[3].domain), (Some(20), true));
    }

    #[test]
    fn rows_of_partitions_are_rows_of_their_table() {
        let schema = learned(&[
            "CREATE TABLE public.p (id uuid NOT NULL) PARTITION BY RANGE (id)",
            "CREATE TABLE public.a (id uuid NOT NULL)",
            "ALTER TABLE ONLY public.p ATTACH PARTITION public.a FOR VALUES FROM ('x') TO ('y')",
            "CREATE TABLE public.b (id uuid NOT NULL)",
            "CREATE TABLE public.c (more text) INHERITS (public.b)",
            "CREATE VIEW public.v AS SELECT 1",
        ]);
        let name = |table: &str| ("public".to_owned(), table.to_owned());
        assert_eq!(schema.parts(&name("p")), [name("a")]);
        assert_eq!(schema.parts(&name("b")), [name("b"), name("c")]);
        assert_eq!(schema.with_parents(&name("a")), [name("a"), name("p")]);
        let all = schema.tables(|_| true).remove(0).1;
        let shown: Vec<_> = all.iter().map(|table| (table.name.as_str(), table.view)).collect();
        assert_eq!(shown, [("b", false), ("c", false), ("p", false), ("v", true)]);
    }
}
