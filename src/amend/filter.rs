//! A filter of jq that changes the rows of a stream: it gets each row as `cat` prints it.

use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, unwrap_valr};
use jaq_json::{Val, read};

use crate::error::{Code, Error, Result};
use crate::plan::key_of;
use chronicle_archive::codec::{Decoder, Encoder};
use chronicle_archive::json::write_string;
use chronicle_archive::{Batch, Column, Stream, show_text};

/// A compiled filter.
pub(super) struct Filter {
    program: jaq_core::compile::Filter<jaq_core::Native<JustLut<Val>>>,
    stream: Stream,
    encoder: Encoder,
    /// For each column, what reads its value alone.
    decoders: Vec<Decoder>,
    line: Vec<u8>,
    /// The rows that are other ones now.
    pub(super) changed_rows: u64,
    /// The rows for which the filter gave nothing.
    pub(super) left_out_rows: u64,
}

impl Filter {
    /// Compiles a filter for the rows of a stream.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn compile(stream: &Stream, text: &str) -> Result<Filter> {
        let option = format!("--jq {} {}", show_text(&stream.name), show_text(text));
        let wrong = |at: String| {
            let what = format!("{option}: not a filter of jq: {at}");
            Error::new(Code::Usage, what).hint(
                "give a filter that makes one row of another, such as '.git_branch //= \"main\"'",
            )
        };
        let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
        let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
        let arena = Arena::default();
        let modules =
            Loader::new(defs).load(&arena, File { code: text, path: () }).map_err(|errors| {
                wrong(errors.first().map_or_else(String::new, |(_, error)| explained(error)))
            })?;
        let program = Compiler::default().with_funs(funs).compile(modules).map_err(|errors| {
            let first = errors.into_iter().flat_map(|(_, all)| all).next();
            wrong(first.map_or_else(String::new, |(name, what)| {
                format!("the {} {} is not defined", what.as_str(), show_text(name))
            }))
        })?;
        let alone = |column: &Column| Stream {
            columns: vec![Column { nullable: true, ..column.clone() }],
            key: Vec::new(),
            order: Vec::new(),
            ..stream.clone()
        };
        Ok(Filter {
            program,
            encoder: Encoder::new(stream),
            decoders: stream.columns.iter().map(|column| Decoder::new(&alone(column))).collect(),
            stream: stream.clone(),
            line: Vec::new(),
            changed_rows: 0,
            left_out_rows: 0,
        })
    }

    /// Gives the rows of a batch to the filter. What it does not change stays as it is, byte for byte.
    ///
    /// # Errors
    /// If it fails for a row, or makes of it what no row is.
    pub(super) fn apply(&mut self, batch: &mut Batch) -> Result<()> {
        let (mut keep, mut any_goes) = (Vec::with_capacity(batch.rows()), false);
        for row in 0..batch.rows() {
            let is_kept = self.filter(batch, row).map_err(|e| {
                let row = key_of(&self.stream, batch, row);
                e.about(format!("--jq {}: row {}", self.stream.name, show_text(&row)))
            })?;
            any_goes |= !is_kept;
            keep.push(is_kept);
        }
        if any_goes {
            batch.retain(&keep);
        }
        Ok(())
    }

    /// Gives one row to the filter; whether anything of it is left.
    fn filter(&mut self, batch: &mut Batch, row: usize) -> Result<bool> {
        let input = self.input(batch, row)?;
        let context = Ctx::<JustLut<Val>>::new(&self.program.lut, Vars::new([]));
        let mut all = self.program.id.run((context, input.clone())).map(unwrap_valr);
        let output = match all.next() {
            None => {
                self.left_out_rows += 1;
                return Ok(false);
            }
            Some(output) => output.map_err(|e| failed(&format!("the filter fails: {e}")))?,
        };
        if all.next().is_some() {
            return Err(failed("the filter makes several rows of it"));
        }
        drop(all);
        if output == input {
            return Ok(true);
        }
        if self.change(batch, row, &input, &output)? {
            self.changed_rows += 1;
        }
        Ok(true)
    }

    /// A row as `cat` prints it.
    fn input(&mut self, batch: &Batch, row: usize) -> Result<Val> {
        self.line.clear();
        self.encoder.write(batch, row, "", &mut self.line);
        let mut record = b"{".to_vec();
        for (n, column) in self.stream.columns.iter().enumerate() {
            if n > 0 {
                record.push(b',');
            }
            write_string(&mut record, &column.name);
            record.push(b':');
            let (from, to) = self.encoder.span(n);
            record.extend_from_slice(&self.line[from..to]);
        }
        record.push(b'}');
        read::parse_single(&record).map_err(|e| failed(&format!("not read as JSON: {e}")))
    }

    /// Gives a row the values that are others now; whether there are any.
    fn change(&mut self, batch: &mut Batch, row: usize, input: &Val, output: &Val) -> Result<bool> {
        let (Val::Obj(before), Val::Obj(after)) = (input, output) else {
            return Err(failed("the filter does not make an object of it"));
        };
        let is_new = |name: &&Val| !before.contains_key(*name);
        if let Some(name) = after.keys().find(is_new) {
            let name = name.to_string();
            let name: String = serde_json::from_str(&name).unwrap_or(name);
            return Err(failed(&format!("the stream has no column {}", show_text(&name))));
        }
        let mut any = false;
        for (n, column) in self.stream.columns.iter().enumerate() {
            let name = Val::from(column.name.clone());
            let value = after.get(&name).cloned().unwrap_or_default();
            if before.get(&name) == Some(&value) {
                continue;
            }
            let mut alone = Batch::default();
            self.line.clear();
            let mut text = Vec::new();
            write_string(&mut text, &column.name);
            let start =
                format!("{{\"type\":\"RECORD\",\"stream\":\"{}\",\"record\":{{", self.stream.name);
            self.line.extend_from_slice(start.as_bytes());
            self.line.extend_from_slice(&text);
            self.line.push(b':');
            self.line.extend_from_slice(value.to_string().as_bytes());
            self.line.extend_from_slice(b"}}");
            alone.start(0, 1, 1);
            let end = self.line.len();
            alone.adopt(std::mem::take(&mut self.line));
            let read = self.decoders[n].read(&mut alone, 0, end);
            read.map_err(|e| {
                failed(&format!("the filter makes of it what the column cannot hold: {e}"))
            })?;
            batch.set(row, n, alone.value(0, 0));
            any = true;
        }
        Ok(any)
    }
}

/// What is wrong with a filter, and where.
fn explained(error: &load::Error<&str>) -> String {
    let (expected, at) = match error {
        load::Error::Io(files) => {
            return files.first().map_or_else(String::new, |(file, _)| format!("no file {file}"));
        }
        load::Error::Lex(all) => match all.first() {
            Some((expected, at)) => (expected.as_str(), *at),
            None => return String::new(),
        },
        load::Error::Parse(all) => match all.first() {
            Some((expected, at)) => (expected.as_str(), *at),
            None => return String::new(),
        },
    };
    match at {
        "" => format!("expected {expected} at its end"),
        at => format!("expected {expected} at \"{}\"", show_text(at)),
    }
}

fn failed(what: &str) -> Error {
    Error::new(Code::Value, what)
        .hint("change the filter, or the rows that it gets with a selection")
}
