//! `cat`: an archive's rows on stdout.

use std::io::{IsTerminal, Write};

use serde_json::json;

use super::args::CatArgs;
use super::aside;
use super::export::rows_object;
use super::import::{archive_name, open};
use super::report::Report;
use crate::archive_part::Input;
use crate::cancel::Cancel;
use crate::cat::{CatOptions, Form, Printed, cat, cat_file, selector};
use crate::error::{Error, Result};
use crate::notice::{Notice, NoticeKind};
use crate::progress::Progress;
use crate::selection::Selection;
use chronicle_archive::escaped_json;
use chronicle_archive::read::reader::shown_digest;
use chronicle_archive::{ArchiveReader, Limits};

pub(super) async fn run(args: &CatArgs, report: &Report, cancel: &Cancel) -> Result<u8> {
    let options = CatOptions {
        stream: args.stream.clone(),
        form: match args.singer {
            true => Form::Singer,
            false => Form::Json,
        },
        json_as_string: args.json_as_string,
    };
    let selection = args.selection.selection(args.assume_tz.as_deref())?;
    let progress = Progress::default();
    let about = |e: Error| e.about(archive_name(&args.archive));
    let input = open(Some(&args.archive), &progress)?;
    let (asked, counted, stop) = (options.clone(), progress.clone(), cancel.clone());
    let printed = aside(cancel, move || print(input, (&asked, &selection), &counted, &stop))
        .await
        .map_err(about)?;
    say(args, &options, &printed, report)?;
    Ok(0)
}

fn print(
    input: Input,
    (options, selection): (&CatOptions, &Selection),
    progress: &Progress,
    cancel: &Cancel,
) -> Result<Printed> {
    let stdout = std::io::stdout();
    let mut out: Box<dyn Write> = match stdout.is_terminal() {
        true => Box::new(Terminal(stdout.lock())),
        false => Box::new(stdout.lock()),
    };
    let out = out.as_mut();
    let pipe = match input {
        Input::File(file) => return cat_file(file, options, selection, out, progress, cancel),
        Input::Pipe(_) if selection.may_need_two_passes() => {
            return cat_file(input.into_file()?, options, selection, out, progress, cancel);
        }
        Input::Pipe(pipe) => pipe,
    };
    let reader = ArchiveReader::open(pipe, Limits::default())?;
    let selector = selector(&reader, selection)?;
    cat(reader, options, (selector, false), out, progress, cancel)
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
    printed.left_out.iter().for_each(|notice| report.notice(&notice.clone().at(&shown)));
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
