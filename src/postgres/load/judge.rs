//! The server's own view of values that only it can read: whether it takes a text, how it spells the value, and whether
//! anything of it is lost. Asked for many texts at once, and one by one only where the server refuses some of them.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{ToSql, Type};

use super::PgTarget;
use super::loading::PgLoading;
use super::spelling::{is_relative, loses};
use crate::catalog::ColumnType;
use crate::error::{Code, Error, Result};
use crate::load::Verdict;
use crate::plan::TablePlan;
use crate::postgres::catalog::PgColumn;
use crate::postgres::connection::server_words;
use crate::postgres::literal;
use chronicle_archive::{Value, hex};

/// Where the function stands that reads one text after the other.
const READER: &str = "pg_temp.chronicle_dump_read";
/// How many texts of a column are remembered with what the server said of them.
const REMEMBERED: usize = 4096;
/// The server knows no sign of its encoding for a character.
const NO_SIGN: &str = "22P05";

/// What the server has said of the texts of the stream that comes now, by column.
#[derive(Default)]
pub(super) struct Judgements {
    stream: usize,
    known: HashMap<(usize, Vec<u8>), Option<Verdict>>,
}

/// What the server says of one text.
enum Said {
    /// It takes it and spells it so; with how it would do so without the limits of the type, and the
    /// number that it is of a type that is spelled in the local way.
    Taken { text: String, unlimited: Option<String>, number: Option<String> },
    /// It refuses it with this code and in these words.
    Refused(String, String),
}

impl PgLoading {
    /// The columns of a stream whose values the server is asked about before they are loaded.
    pub(super) fn columns_to_judge(&self, stream: &TablePlan) -> Vec<usize> {
        let is_asked = |n: &usize| {
            let column = &stream.columns[*n];
            let found = self.db.column_of(stream, *n);
            // what is given to a new column is of the archive's own kind
            matches!(column.ty, ColumnType::Cast(_))
                || found.is_some_and(|c| c.is_limited())
                || (self.db.narrow_encoding && has_text(&column.ty))
        };
        (0..stream.columns.len()).filter(is_asked).collect()
    }

    /// What the server makes of values; nothing of those that it holds as they are.
    pub(super) async fn judge_now(
        &mut self,
        number: usize,
        values: &[(usize, Value<'_>)],
    ) -> Result<Vec<Option<Verdict>>> {
        if self.judged.stream != number || self.judged.known.len() > REMEMBERED {
            self.judged = Judgements { stream: number, known: HashMap::new() };
        }
        let plan = Arc::clone(&self.plan);
        let stream = PgLoading::table_plan(&plan, number)?;
        let texts: Vec<Vec<u8>> = values.iter().map(|(_, value)| in_text(*value)).collect();
        let mut columns: Vec<usize> = values.iter().map(|(column, _)| *column).collect();
        columns.sort_unstable();
        columns.dedup();
        for column in columns {
            let of_column = values.iter().zip(&texts).filter(|((n, _), _)| *n == column);
            let mut fresh: Vec<Vec<u8>> = of_column
                .filter(|(_, text)| !self.judged.known.contains_key(&(column, (*text).clone())))
                .map(|(_, text)| text.clone())
                .collect();
            fresh.sort_unstable();
            fresh.dedup();
            if fresh.is_empty() {
                continue;
            }
            let judge = Judge::new(&self.db, stream, column);
            let verdicts = judge.verdicts(&fresh).await?;
            let known = fresh.into_iter().map(|text| (column, text)).zip(verdicts);
            self.judged.known.extend(known);
        }
        let known = values
            .iter()
            .zip(texts)
            .map(|((column, _), text)| self.judged.known.get(&(*column, text)).cloned().flatten());
        Ok(known.collect())
    }
}

/// Judges texts of one column.
struct Judge<'a> {
    db: &'a PgTarget,
    /// The column's type as SQL writes it, with its limits.
    ty: String,
    /// Without them, if it has any.
    unlimited: Option<String>,
    /// The name of the type, of a domain the base type's.
    base: String,
    /// Whether the server's spelling is what is loaded.
    spells: bool,
}

impl<'a> Judge<'a> {
    fn new(db: &'a PgTarget, stream: &TablePlan, n: usize) -> Judge<'a> {
        let column = &stream.columns[n];
        let found = db.column_of(stream, n);
        let ty = found.map_or_else(|| "text".to_owned(), |c| c.declared.clone());
        Judge {
            db,
            unlimited: found.and_then(|c| c.unlimited.clone()),
            base: found.map_or_else(|| "text".to_owned(), |c| c.type_name.clone()),
            ty,
            spells: matches!(column.ty, ColumnType::Cast(_) | ColumnType::Text(_)),
        }
    }

    /// What the server makes of texts.
    async fn verdicts(&self, texts: &[Vec<u8>]) -> Result<Vec<Option<Verdict>>> {
        let mut found = Vec::new();
        for (text, said) in texts.iter().zip(self.ask(texts).await?) {
            found.push(self.verdict(text, said));
        }
        for (text, verdict) in texts.iter().zip(&mut found) {
            if let Err(code) = verdict
                && code == NO_SIGN
            {
                let text = self.without_signs(text).await?;
                *verdict = Ok(Some(Verdict::Less(text)));
            }
        }
        Ok(found.into_iter().map(|v| v.unwrap_or(None)).collect())
    }

    /// What comes of an answer; the code if the server's encoding lacks a character.
    fn verdict(
        &self,
        text: &[u8],
        said: Option<Said>,
    ) -> std::result::Result<Option<Verdict>, String> {
        let given = String::from_utf8_lossy(text);
        match said {
            _ if is_relative(&self.base, &given) => Ok(Some(Verdict::Refused(
                "the word would become the time of the import".to_owned(),
            ))),
            None => Ok(None),
            Some(Said::Refused(code, _)) if code == NO_SIGN => Err(code),
            Some(Said::Refused(_, words)) => Ok(Some(Verdict::Refused(words))),
            Some(Said::Taken { text, unlimited, number }) => {
                let spelled = number.as_deref().unwrap_or(&text);
                match loses(&self.base, &given, spelled, unlimited.as_deref()) {
                    true => Ok(Some(Verdict::Less(text))),
                    false => Ok((self.spells && text != given).then_some(Verdict::Same(text))),
                }
            }
        }
    }

    /// What the server says of texts: nothing of those that it takes and spells as they are.
    async fn ask(&self, texts: &[Vec<u8>]) -> Result<Vec<Option<Said>>> {
        match self.ask_together(texts).await? {
            Ok(said) => Ok(said),
            Err(refused) if texts.len() == 1 => Ok(vec![Some(refused)]),
            Err(_) => self.ask_singly(texts).await,
        }
    }

    /// The same by one question, which the server refuses if it refuses one of the texts.
    async fn ask_together(
        &self,
        texts: &[Vec<u8>],
    ) -> Result<std::result::Result<Vec<Option<Said>>, Said>> {
        let read = "convert_from(u.b, 'UTF8')";
        let (text, unlimited, number) = self.spelled(read);
        let sql = format!(
            "SELECT q.n, q.t, q.w, q.m FROM (SELECT u.n, {read} AS g, {text} AS t, {unlimited} AS w, \
               {number} AS m FROM unnest($1::bytea[]) WITH ORDINALITY AS u(b, n) OFFSET 0) q \
              WHERE q.t IS DISTINCT FROM q.g"
        );
        self.db.run("cannot set a savepoint", "SAVEPOINT judge").await?;
        let rows = match self.query(&sql, texts).await {
            Ok(rows) => rows,
            Err(e) => {
                let Some(server) = e.as_db_error().filter(|s| concerns_a_value(s.code())) else {
                    return Err(self.failed(e));
                };
                let words = server_words(&self.db.info, server.message());
                let refused = Said::Refused(server.code().code().to_owned(), words);
                self.back().await?;
                return Ok(Err(refused));
            }
        };
        self.db.run("cannot release a savepoint", "RELEASE SAVEPOINT judge").await?;
        let mut said: Vec<Option<Said>> = texts.iter().map(|_| None).collect();
        for row in rows {
            let number: i64 = row.try_get(0).map_err(|_| unexpected())?;
            let at = usize::try_from(number - 1).ok().and_then(|n| said.get_mut(n));
            let text = field(&row, 1)?;
            let taken = |text| {
                let (unlimited, number) = (field(&row, 2)?, field(&row, 3)?);
                Ok::<_, Error>(Said::Taken { text, unlimited, number })
            };
            *at.ok_or_else(unexpected)? = text.map(taken).transpose()?;
        }
        Ok(Ok(said))
    }

    /// SQL for a text as the type spells it, without its limits, and as the number that it is.
    fn spelled(&self, text: &str) -> (String, String, String) {
        let value = format!("({text})::{}", self.ty);
        let unlimited = match &self.unlimited {
            Some(ty) => format!("(({text})::{ty})::text"),
            None => "NULL::text".to_owned(),
        };
        let number = match self.base.as_str() {
            "money" => format!("({value})::numeric::text"),
            _ => "NULL::text".to_owned(),
        };
        (format!("({value})::text"), unlimited, number)
    }

    /// Asks of one text after the other, in a function of the server where it has the language, so that all
    /// go there and back at once.
    async fn ask_singly(&self, texts: &[Vec<u8>]) -> Result<Vec<Option<Said>>> {
        let (text, unlimited, number) = self.spelled("t");
        let body = format!(
            "DECLARE t text; BEGIN t := convert_from(b, 'UTF8'); \
             RETURN ARRAY[{text}, {unlimited}, {number}]; \
             EXCEPTION WHEN OTHERS THEN RETURN ARRAY[NULL, SQLSTATE, SQLERRM]; END"
        );
        let sql = format!(
            "CREATE FUNCTION {READER}(b bytea) RETURNS text[] LANGUAGE plpgsql AS {}",
            literal(&body)
        );
        self.db.run("cannot set a savepoint", "SAVEPOINT judge").await?;
        if self.db.connection.client.batch_execute(&sql).await.is_err() {
            self.back().await?;
            return self.bisect(texts).await;
        }
        let sql = format!(
            "SELECT q.n, q.s[1], q.s[2], q.s[3] FROM (SELECT u.n, {READER}(u.b) AS s \
               FROM unnest($1::bytea[]) WITH ORDINALITY AS u(b, n) OFFSET 0) q ORDER BY q.n"
        );
        let rows = self.query(&sql, texts).await.map_err(|e| self.failed(e))?;
        // nothing stays in a session that others may get after us
        self.back().await?;
        let said = rows.iter().map(|row| {
            let (text, unlimited, number) = (field(row, 1)?, field(row, 2)?, field(row, 3)?);
            Ok(Some(match text {
                Some(text) => Said::Taken { text, unlimited, number },
                None => {
                    let words = server_words(&self.db.info, &number.unwrap_or_default());
                    Said::Refused(unlimited.unwrap_or_default(), words)
                }
            }))
        });
        said.collect()
    }

    /// The same without that language: half of the texts, and half of the half that is refused.
    async fn bisect(&self, texts: &[Vec<u8>]) -> Result<Vec<Option<Said>>> {
        let (mut said, mut open) = (Vec::new(), vec![texts]);
        while let Some(part) = open.pop() {
            match self.ask_together(part).await? {
                Ok(of_part) => said.extend(of_part),
                Err(refused) if part.len() == 1 => said.push(Some(refused)),
                Err(_) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    open.extend([second, first]);
                }
            }
        }
        Ok(said)
    }

    /// A text with a question mark for every character that the server's encoding lacks.
    async fn without_signs(&self, text: &[u8]) -> Result<String> {
        let text = String::from_utf8_lossy(text);
        let mut signs: Vec<char> = text.chars().filter(|c| !c.is_ascii()).collect();
        signs.sort_unstable();
        signs.dedup();
        let given: Vec<Vec<u8>> = signs.iter().map(|c| c.to_string().into_bytes()).collect();
        let text_type = || "text".to_owned();
        let plain = Judge {
            db: self.db,
            ty: text_type(),
            unlimited: None,
            base: text_type(),
            spells: true,
        };
        // of single characters, so that this cannot go on
        let said = Box::pin(plain.ask(&given)).await?;
        let lacks = |c: &char| {
            let at = signs.iter().position(|s| s == c);
            at.and_then(|n| said.get(n)).is_some_and(|said| matches!(said, Some(Said::Refused(..))))
        };
        Ok(text.chars().map(|c| if lacks(&c) { '?' } else { c }).collect())
    }

    async fn query(
        &self,
        sql: &str,
        texts: &[Vec<u8>],
    ) -> std::result::Result<Vec<Row>, tokio_postgres::Error> {
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let given: &(dyn ToSql + Sync) = &texts;
        self.db.connection.client.query_typed(sql, &[(given, Type::BYTEA_ARRAY)]).await
    }

    async fn back(&self) -> Result<()> {
        self.db.run("cannot go back to a savepoint", "ROLLBACK TO SAVEPOINT judge").await
    }

    fn failed(&self, e: tokio_postgres::Error) -> Error {
        let what = format!("cannot ask the server about values of {}", self.ty);
        self.db.connection.failed(Code::Target, what, e)
    }
}

impl PgTarget {
    /// A column that is written, as the server describes it; `None` if it is still to be added.
    pub(super) fn column_of(&self, stream: &TablePlan, n: usize) -> Option<&PgColumn> {
        let table = &self.catalog.tables[stream.table];
        let physical = &table.columns[stream.columns[n].target].physical;
        let found = self.found.tables.iter().find(|t| t.name == table.name)?;
        found.columns.iter().find(|c| c.name == *physical)
    }
}

fn has_text(ty: &ColumnType) -> bool {
    matches!(ty, ColumnType::Text(_) | ColumnType::Json | ColumnType::Jsonb | ColumnType::Cast(_))
}

/// Whether an error of the server is about what it was given, not about the connection, its rights or its
/// health.
pub(super) fn concerns_a_value(state: &SqlState) -> bool {
    const OTHERS: [&str; 10] = ["08", "25", "28", "40", "53", "55", "57", "58", "F0", "XX"];
    !OTHERS.iter().any(|class| state.code().starts_with(class))
        && *state != SqlState::INSUFFICIENT_PRIVILEGE
}

/// A value as a text that the server reads as the same value of any type.
pub(super) fn in_text(value: Value<'_>) -> Vec<u8> {
    match value {
        Value::Text(text) => text.to_vec(),
        Value::Blob(bytes) => format!("\\x{}", hex(bytes)).into_bytes(),
        Value::Time(instant) => {
            let mut text = Vec::new();
            instant.write_postgres(&mut text);
            text
        }
        Value::Real(v) => chronicle_archive::codec::real_text(v).into_bytes(),
        Value::Uuid(bytes) => uuid::Uuid::from_bytes(bytes).to_string().into_bytes(),
        Value::Int(v) => v.to_string().into_bytes(),
        Value::Bool(v) => v.to_string().into_bytes(),
        Value::Null => Vec::new(),
    }
}

fn field(row: &Row, n: usize) -> Result<Option<String>> {
    row.try_get(n).map_err(|_| unexpected())
}

pub(super) fn unexpected() -> Error {
    Error::new(Code::Internal, "the server's answer about values is not as expected")
}
