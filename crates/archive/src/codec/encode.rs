//! Writes rows as RECORD lines.

use super::portable::write_portable;
use super::record_prefix;
use crate::batch::Batch;
use crate::json::{self, Scanner};
use crate::model::{Kind, Stream};
use crate::time::offset_text;

/// Writes the rows of one stream as RECORD lines.
pub struct Encoder {
    prefix: Vec<u8>,
    columns: Vec<EncodedColumn>,
    scanner: Scanner,
    /// The object `exact` of the line so far, without its end; empty if there is none.
    exact: Vec<u8>,
    /// The object `offsets` of the line so far, without its end.
    offsets: Vec<u8>,
    /// Where each record value starts and ends in the line.
    spans: Vec<(usize, usize)>,
    written: usize,
}

struct EncodedColumn {
    /// The name as JSON, with a colon.
    name: Vec<u8>,
    kind: Kind,
    key: bool,
}

impl Encoder {
    /// An encoder for rows of `stream`.
    pub fn new(stream: &Stream) -> Encoder {
        let columns = (stream.columns.iter().enumerate())
            .map(|(n, column)| {
                let mut name = Vec::new();
                json::write_string(&mut name, &column.name);
                name.push(b':');
                EncodedColumn { name, kind: column.kind, key: stream.key.contains(&n) }
            })
            .collect();
        Encoder {
            prefix: record_prefix(&stream.name),
            columns,
            scanner: Scanner::default(),
            exact: Vec::new(),
            offsets: Vec::new(),
            spans: Vec::new(),
            written: 0,
        }
    }

    /// Appends the RECORD line of a row, with its LF; `more` are further members, as JSON, of the
    /// object `chronicle` behind the record.
    pub fn write(&mut self, batch: &Batch, row: usize, more: &str, out: &mut Vec<u8>) {
        self.exact.clear();
        self.offsets.clear();
        self.spans.clear();
        let line = out.len();
        out.extend_from_slice(&self.prefix);
        for (n, column) in self.columns.iter().enumerate() {
            if n > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&column.name);
            let start = out.len();
            let value = batch.value(row, n);
            if let Some(exact) =
                write_portable(&mut self.scanner, column.kind, column.key, value, out)
            {
                begin_member(&mut self.exact, &column.name);
                self.exact.extend_from_slice(b"{\"");
                self.exact.extend_from_slice(exact.tag.as_bytes());
                self.exact.extend_from_slice(b"\":");
                json::write_string(&mut self.exact, &exact.text);
                self.exact.push(b'}');
            }
            if let Some(offset) = batch.offset(row, n) {
                begin_member(&mut self.offsets, &column.name);
                json::write_string(&mut self.offsets, &offset_text(offset));
            }
            self.spans.push((start - line, out.len() - line));
        }
        out.push(b'}');
        self.write_side(batch.keyless(row), more, out);
        out.extend_from_slice(b"}\n");
        self.written = out.len() - line;
    }

    /// Appends the object `chronicle` behind the record, if it has members.
    fn write_side(&self, keyless: bool, more: &str, out: &mut Vec<u8>) {
        let mut before: &[u8] = b",\"chronicle\":{";
        let objects = [(&b"\"exact\":"[..], &self.exact), (b"\"offsets\":", &self.offsets)];
        for (name, object) in objects.into_iter().filter(|(_, object)| !object.is_empty()) {
            [before, name, object, b"}"].into_iter().for_each(|part| out.extend_from_slice(part));
            before = b",";
        }
        let keyless: &[u8] = if keyless { b"\"keyless\":true" } else { b"" };
        for member in [keyless, more.as_bytes()].into_iter().filter(|m| !m.is_empty()) {
            [before, member].into_iter().for_each(|part| out.extend_from_slice(part));
            before = b",";
        }
        if before == b"," {
            out.push(b'}');
        }
    }

    /// The length in bytes of the line written last.
    pub fn written(&self) -> usize {
        self.written
    }

    /// Where the record value of `column` starts and ends in the line written last.
    pub fn span(&self, column: usize) -> (usize, usize) {
        self.spans.get(column).copied().unwrap_or((0, 0))
    }
}

/// Begins a member of an object that is written member by member.
fn begin_member(object: &mut Vec<u8>, name: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    object.extend_from_slice(name);
}
