//! `cat`: an archive's rows on stdout.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::args::CatArgs;
use super::aside;
use super::export::rows_object;
use super::import::{Input, archive_name, open};
use super::report::Report;
use crate::cancel::Cancel;
use crate::cat::{CatOptions, Form, Printed, cat, open_at, parse_time};
use crate::error::{Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use chronicle_archive::escaped_json;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::show_count;
use chronicle_archive::{ArchiveReader, Limits};

pub(super) async fn run(args: &CatArgs, report: &Report, cancel: &Cancel) -> Result<u8> {
    let options = CatOptions {
        stream: args.stream.clone(),
        since: args.since.as_deref().map(parse_time).transpose()?,
        until: args.until.as_deref().map(parse_time).transpose()?,
        form: match args.singer {
            true => Form::Singer,
            false => Form::Json,
        },
        json_as_string: args.json_as_string,
    };
    let progress = Progress::default();
    let about = |e: Error| e.about(archive_name(&args.archive));
    let input = open(Some(&args.archive), &progress)?;
    let (asked, counted, stop) = (options.clone(), progress.clone(), cancel.clone());
    let printed =
        aside(cancel, move || print(input, &asked, &counted, &stop)).await.map_err(about)?;
    say(args, &options, &printed, report)?;
    Ok(0)
}

fn print(
    input: Input,
    options: &CatOptions,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Printed> {
    let stdout = std::io::stdout();
    let mut out: Box<dyn Write> = match stdout.is_terminal() {
        true => Box::new(Terminal(stdout.lock())),
        false => Box::new(stdout.lock()),
    };
    let out = out.as_mut();
    match (input, &options.stream) {
        (Input::File(file), Some(stream)) => {
            let (reader, partial) = open_at(file, stream)?;
            cat(reader, options, partial, out, progress, cancel)
        }
        (Input::File(file), None) => {
            let reader = ArchiveReader::open(file, Limits::default())?;
            cat(reader, options, false, out, progress, cancel)
        }
        (Input::Pipe(pipe), _) => {
            let reader = ArchiveReader::open(pipe, Limits::default())?;
            cat(reader, options, false, out, progress, cancel)
        }
    }
}

/// A terminal: the lines mean the same, and no character in them acts on it.
struct Terminal<W>(W);

impl<W: Write> Write for Terminal<W> {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        // lines come whole, and what is not UTF-8 is nothing that was verified
        for line in String::from_utf8_lossy(lines).split_inclusive('\n') {
            let text = line.strip_suffix('\n');
            self.0.write_all(escaped_json(text.unwrap_or(line)).as_bytes())?;
            self.0.write_all(if text.is_some() { b"\n" } else { b"" })?;
        }
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Prints on stderr what people should know about the rows on stdout.
fn say(args: &CatArgs, options: &CatOptions, printed: &Printed, report: &Report) -> Result<()> {
    let shown = archive_name(&args.archive);
    if printed.unreadable_times > 0 {
        let rows = show_count(printed.unreadable_times, "rows");
        let text = format!("{shown}: {rows} without a readable time left out");
        report.notice(&Notice::new(NoticeKind::UnreadableTimes, text));
    }
    if let (None, Some(stream)) = (&printed.digest, &options.stream) {
        let text = format!(
            "{shown}: only the chunks of {stream} were read and checked; `chronicle-dump verify` \
             checks the whole archive"
        );
        report.notice(&Notice::new(NoticeKind::PartOnly, text));
    }
    if report.is_json() {
        report.result_json(&json!({
            "command": "cat",
            "archive": args.archive.display().to_string(),
            "rows": rows_object(&printed.rows),
            "unreadable_time_rows": printed.unreadable_times,
            "digest": printed.digest.as_deref().map(shown_digest),
        }))?;
    }
    Ok(())
}
