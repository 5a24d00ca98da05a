//! The one pass over a dump: which database has Chronicle's tables, their rows, and whether nothing is missing at its end.

use super::found::Found;
use super::input::{self, Bytes};
use super::schema::{FullName, Schema, Tokens};
use super::sql::{Piece, Script, Statement, Token};
use super::values::CopyLine;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::layout::Layout;
use crate::postgres::catalog::{layout_tables, may_be_ours};
use crate::postgres::own_tables::SCHEMA;
use chronicle_archive::show_text;

/// What is wanted of a dump.
pub(super) struct Wanted {
    /// The database, if it is named.
    pub(super) database: Option<String>,
    /// The schema, if it is named.
    pub(super) schema: Option<String>,
    /// The layout, if it is not to be recognised.
    pub(super) layout: Option<Layout>,
    /// Whether rows are sorted.
    pub(super) sorted: bool,
    /// The names of the tables of all layouts.
    pub(super) names: Vec<String>,
}

impl Wanted {
    pub(super) fn new(
        database: Option<&str>,
        schema: Option<&str>,
        layout: Option<&Layout>,
        sorted: bool,
    ) -> Result<Wanted> {
        Ok(Wanted {
            database: database.map(str::to_owned),
            schema: schema.map(str::to_owned),
            layout: layout.cloned(),
            sorted,
            names: layout_tables(layout)?,
        })
    }

    fn may_be_ours(&self, (schema, table): &FullName) -> bool {
        may_be_ours(schema, table, &self.names)
    }
}

/// What a dump holds of Chronicle.
pub(super) struct Content {
    /// The tables of its database.
    pub(super) schema: Schema,
    /// Chronicle's tables and their rows.
    pub(super) found: Found,
    /// The version of the server, as the dump says it.
    pub(super) server: Option<String>,
    /// The names of the tables of all layouts.
    pub(super) names: Vec<String>,
}

/// One of the databases of a dump.
#[derive(Default)]
struct Dumped {
    /// Its name, if the dump says it.
    name: Option<String>,
    schema: Schema,
    /// Chronicle's tables in it, once they were looked for.
    found: Option<Result<Found>>,
    /// A table that may be Chronicle's whose rows come without its definition.
    undefined: Option<FullName>,
}

/// What has been seen of the lines that begin and end dumps.
#[derive(Default)]
struct Ends {
    is_open: bool,
    is_cluster_open: bool,
    /// Whether a dump has ended, and nothing but settings has followed.
    is_complete: bool,
}

const PG_DUMP: &str = "dump the database with pg_dump";

const BEGIN: &str = "-- PostgreSQL database dump";
const END: &str = "-- PostgreSQL database dump complete";
const CLUSTER_BEGIN: &str = "-- PostgreSQL database cluster dump";
const CLUSTER_END: &str = "-- PostgreSQL database cluster dump complete";
const SERVER: &str = "-- Dumped from database version ";

struct Walk<'a> {
    script: Script,
    wanted: &'a Wanted,
    cancel: &'a Cancel,
    databases: Vec<Dumped>,
    current: Dumped,
    server: Option<String>,
    ends: Ends,
    settings: Settings,
}

/// What a dump says of the rows that follow.
#[derive(Default)]
struct Settings {
    encoding: Option<String>,
    /// Whether rows may be missing that the role was not allowed to see.
    row_security: bool,
}

impl Settings {
    /// Requires that rows can be read exactly, and are all there.
    fn require_whole(&self, table: &FullName) -> Result<()> {
        let (what, hint) = match self.encoding.as_deref() {
            Some("utf8" | "utf-8") if self.row_security => (
                "may not be all: the dump was made with --enable-row-security".to_owned(),
                "dump it again without that option, as a role that may read all rows",
            ),
            Some("utf8" | "utf-8") => return Ok(()),
            Some(other) => (
                format!("are in the encoding {}", show_text(other)),
                "dump the database in UTF-8: pg_dump -E UTF8",
            ),
            None => ("come before any client_encoding".to_owned(), PG_DUMP),
        };
        let what = format!("the rows of {} {what}", Schema::shown(table));
        Err(Error::new(Code::Source, what).hint(hint))
    }
}

/// Reads a dump to its end.
pub(super) fn read(input: Bytes, wanted: &Wanted, cancel: &Cancel) -> Result<Content> {
    let mut walk = Walk {
        script: Script::new(input::open(input)?),
        wanted,
        cancel,
        databases: Vec::new(),
        current: Dumped::default(),
        server: None,
        ends: Ends::default(),
        settings: Settings::default(),
    };
    while let Some(piece) = walk.script.next()? {
        cancel.check()?;
        match piece {
            Piece::Comment(comment) => walk.comment(&comment)?,
            Piece::Command(command) => walk.command(&command)?,
            Piece::Statement(statement) => walk.statement(&statement)?,
        }
    }
    walk.require_end()?;
    walk.finish()
}

impl Walk<'_> {
    fn comment(&mut self, comment: &str) -> Result<()> {
        match comment {
            BEGIN if self.ends.is_open => {
                return Err(self.script.cut("where another dump begins"));
            }
            BEGIN => self.ends.is_open = true,
            CLUSTER_BEGIN => self.ends.is_cluster_open = true,
            END => (self.ends.is_open, self.ends.is_complete) = (false, true),
            CLUSTER_END => (self.ends.is_cluster_open, self.ends.is_complete) = (false, true),
            _ => {
                let version = comment.strip_prefix(SERVER);
                let number = version.and_then(|text| text.split_whitespace().next());
                self.server = number.map(str::to_owned).or(self.server.take());
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &str) -> Result<()> {
        let (word, rest) = command.split_once(' ').unwrap_or((command, ""));
        match word {
            "restrict" | "unrestrict" => Ok(()),
            // in front of names of databases, whose encoding nobody knows
            "encoding" => {
                self.settings.encoding = Some(rest.trim().to_ascii_lowercase());
                Ok(())
            }
            "connect" | "c" => {
                self.settings = Settings::default();
                let next = Dumped { name: database_name(rest), ..Dumped::default() };
                self.databases.push(std::mem::replace(&mut self.current, next));
                Ok(())
            }
            _ => {
                let (line, shown) = (self.script.line() - 1, show_text(word));
                let what = format!("line {line}: \\{shown} is no command that pg_dump writes");
                Err(Error::new(Code::Source, what).hint(PG_DUMP))
            }
        }
    }

    fn statement(&mut self, statement: &Statement) -> Result<()> {
        let mut tokens = Tokens(&statement.tokens);
        if tokens.eat(&["set"]) {
            return self.set(tokens);
        }
        if tokens.eat(&["reset"]) {
            return Ok(());
        }
        self.ends.is_complete = false;
        if tokens.eat(&["copy"]) {
            return self.copy(tokens);
        }
        if tokens.eat(&["insert", "into"])
            && let Some(name) = tokens.full_name()
            && self.is_wanted()
            && (self.wanted.may_be_ours(&name) || name.0 == SCHEMA)
        {
            let table = Schema::shown(&name);
            let what = format!(
                "line {}: the rows of {table} are INSERT statements, as pg_dump --inserts writes \
                 them, and supabase db dump without --use-copy",
                statement.line
            );
            return Err(Error::new(Code::Source, what).hint("dump them with COPY"));
        }
        self.current.schema.learn(statement)
    }

    /// Whether the database that is read now may be the one that is wanted.
    fn is_wanted(&self) -> bool {
        self.wanted.database.is_none() || self.wanted.database == self.current.name
    }

    fn set(&mut self, mut tokens: Tokens<'_>) -> Result<()> {
        let Some(name) = tokens.name() else { return Ok(()) };
        if !tokens.sign('=') {
            tokens.eat(&["to"]);
        }
        let value = match tokens.0 {
            [Token::Word(value) | Token::Text(value)] => value.to_ascii_lowercase(),
            _ => return Ok(()),
        };
        match (name, value.as_str()) {
            ("client_encoding", encoding) => self.settings.encoding = Some(encoding.to_owned()),
            ("standard_conforming_strings", value) => self.script.standard_strings = value != "off",
            ("row_security", value) => self.settings.row_security = value == "on",
            _ => {}
        }
        Ok(())
    }

    /// The rows behind a COPY.
    fn copy(&mut self, mut tokens: Tokens<'_>) -> Result<()> {
        let (begins, name) = (self.script.line(), tokens.full_name());
        let columns = tokens.names().unwrap_or_default();
        if !tokens.eat(&["from", "stdin"]) {
            return Ok(());
        }
        let name = name.unwrap_or_default();
        let may_be_ours = self.wanted.may_be_ours(&name);
        if self.is_wanted() && may_be_ours {
            let at = |e: Error| e.at(format!("line {begins}"));
            self.settings.require_whole(&name).map_err(at)?;
            if !tokens.0.is_empty() {
                let what =
                    format!("the COPY of {} is not as pg_dump writes it", Schema::shown(&name));
                return Err(at(Error::new(Code::Source, what)).hint(PG_DUMP));
            }
        }
        let mut takers = Vec::new();
        if self.is_wanted() {
            let Dumped { schema, found, undefined, .. } = &mut self.current;
            if may_be_ours && schema.table(&name).is_none() {
                undefined.get_or_insert(name.clone());
            }
            // when the first rows come, all tables are known
            let found = found.get_or_insert_with(|| Found::choose(schema, self.wanted));
            if let Ok(found) = found {
                takers = found.takers(schema, &name, &columns)?;
            }
        }
        self.script.begin_rows()?;
        let (mut row, mut line) = (Vec::new(), CopyLine::default());
        while self.script.row(&mut row)? {
            self.cancel.check()?;
            let Some(Ok(found)) = self.current.found.as_mut().filter(|_| !takers.is_empty()) else {
                continue;
            };
            let number = self.script.line() - 1;
            let at = |e: Error| e.at(format!("line {number}"));
            let damaged = |what: &str| {
                let table = Schema::shown(&name);
                at(Error::new(Code::Source, format!("a row of {table} is {what}"))).hint(super::CUT)
            };
            line.read(&row).map_err(damaged)?;
            if line.len() != columns.len() {
                let what = format!("one with {} values in place of {}", line.len(), columns.len());
                return Err(damaged(&what));
            }
            for taker in &takers {
                found.take(taker, &line).map_err(at)?;
            }
        }
        Ok(())
    }

    fn require_end(&self) -> Result<()> {
        let Ends { is_open, is_cluster_open, is_complete } = self.ends;
        if is_complete && !is_open && !is_cluster_open {
            return Ok(());
        }
        let last = if is_cluster_open { CLUSTER_END } else { END };
        Err(self.script.cut(&format!("without the line \"{last}\"")))
    }

    /// Chronicle's tables and their rows, of the one database that has them.
    fn finish(mut self) -> Result<Content> {
        let wanted = self.wanted;
        self.databases.push(self.current);
        self.databases
            .retain(|d| d.name.is_some() || !d.schema.is_empty() || d.undefined.is_some());
        let names: Vec<String> = self.databases.iter().filter_map(|d| d.name.clone()).collect();
        if let Some(wanted) = &wanted.database {
            self.databases.retain(|database| database.name.as_ref() == Some(wanted));
            if self.databases.is_empty() {
                let wanted = show_text(wanted);
                let has = match names.is_empty() {
                    true => "does not name its database: leave --dump-database out".to_owned(),
                    false => format!("has {}", show_text(&names.join(", "))),
                };
                let what = format!("--dump-database {wanted}: the dump {has}");
                return Err(Error::new(Code::NotFound, what));
            }
        }
        let (mut fitting, mut refused, mut undefined) = (Vec::new(), None, None);
        for mut database in self.databases {
            undefined = undefined.or(database.undefined.take());
            let found = database.found.take();
            match found.unwrap_or_else(|| Found::choose(&database.schema, wanted)) {
                Ok(found) => fitting.push((database, found)),
                // what is said of the one with tables says more
                Err(error) if !database.schema.is_empty() || refused.is_none() => {
                    refused = Some(error);
                }
                Err(_) => {}
            }
        }
        if fitting.len() > 1 {
            let names = fitting.iter().map(|(d, _)| d.name.as_deref().unwrap_or("(no name)"));
            let names = names.collect::<Vec<_>>().join(", ");
            let what = format!("several databases hold Chronicle's tables: {}", show_text(&names));
            return Err(Error::new(Code::Layout, what).hint("name one: --dump-database NAME"));
        }
        if let Some(table) = undefined {
            let table = Schema::shown(&table);
            let what = format!("the dump has the rows of {table}, but not the table");
            return Err(Error::new(Code::Source, what).hint(
                "rows alone do not say what their values are: read the schema first, then the rows: \
                 cat schema.sql data.sql | chronicle-dump export --from-dump -",
            ));
        }
        let Some((Dumped { schema, .. }, found)) = fitting.pop() else {
            let none = || Error::new(Code::Layout, "the dump has no tables");
            return Err(refused.unwrap_or_else(none));
        };
        found.require_rows(&schema)?;
        Ok(Content { schema, found, server: self.server, names: wanted.names.clone() })
    }
}

/// The database that `\connect` names.
fn database_name(text: &str) -> Option<String> {
    let text = text.trim();
    let inside = text.strip_prefix("-reuse-previous=on ");
    let text = inside.unwrap_or(text);
    let unquoted = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    let name = unquoted.map_or_else(|| text.to_owned(), |text| text.replace("\"\"", "\""));
    if inside.is_none() {
        return Some(name).filter(|name| !name.is_empty());
    }
    let value = name.strip_prefix("dbname='")?.strip_suffix('\'')?;
    let mut name = String::new();
    let mut characters = value.chars();
    while let Some(c) = characters.next() {
        name.extend(if c == '\\' { characters.next() } else { Some(c) });
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_have_the_names_that_pg_dumpall_writes() {
        for (text, name) in [
            ("postgres", Some("postgres")),
            ("\"Upper\"", Some("Upper")),
            ("-reuse-previous=on \"dbname='my db'\"", Some("my db")),
            ("-reuse-previous=on \"dbname='it\\'s \"\"x\"\" \\\\'\"", Some("it's \"x\" \\")),
            ("", None),
        ] {
            assert_eq!(database_name(text).as_deref(), name, "{text}");
        }
    }
}
