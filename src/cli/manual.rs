//! `man`: the manual page, made from the definition of the command line, and its installation.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use clap::{Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use serde_json::json;

use super::args::{Args, ManArgs};
use super::report::Report;
use super::{environment, examples};
use crate::chronicle::discover;
use crate::error::{Code, Error, Result};
use crate::sidecar::{COLUMNS, SIDECAR};
use chronicle_archive::show_path;

/// The file of the page, in the folder of its section.
const PAGE: &str = "chronicle-dump.1";

pub(super) fn run(args: &ManArgs, report: &Report) -> Result<()> {
    let page =
        page().map_err(|e| Error::new(Code::Internal, "cannot write the page").because(e))?;
    match &args.install {
        Some(folder) => install(folder, &page, report),
        None if report.is_json() => report.result_json(&json!({"command": "man", "page": page})),
        None => report.raw(page.as_bytes()),
    }
}

// ---- installation -----------------------------------------------------------------------------

/// Writes the page to where `man -M FOLDER` looks for it, and says how to read it.
fn install(folder: &Path, page: &str, report: &Report) -> Result<()> {
    let section = folder.join("man1");
    std::fs::create_dir_all(&section).map_err(|e| Error::writing(section.display(), e))?;
    let file = section.join(PAGE);
    write(&section, &file, page).map_err(|e| Error::writing(file.display(), e))?;
    if report.is_json() {
        let file = file.display().to_string();
        report.result_json(&json!({"command": "man", "file": file}))?;
    }
    report.result(&format!("wrote {}", show_path(file.display())))?;
    let typed = shell_word(&folder.display().to_string());
    let place = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let place = shell_word(&place.display().to_string());
    report.result(&format!("read it: man -M {typed} chronicle-dump"))?;
    report.result(&format!("for `man chronicle-dump` alone: export MANPATH={place}:"))
}

/// Writes a file that everybody may read, at once: whoever reads it sees the old or the new page.
fn write(section: &Path, file: &Path, page: &str) -> std::io::Result<()> {
    let mut new = tempfile::Builder::new()
        .prefix(".chronicle-dump-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(section)?;
    new.write_all(page.as_bytes())?;
    new.persist(file)?;
    Ok(())
}

/// A text as one word of a shell.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,@%".contains(c);
    match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

// ---- the page ---------------------------------------------------------------------------------

/// The manual page: the program, then every command under a heading of its own, then what they share.
fn page() -> std::io::Result<String> {
    let mut program = Args::command();
    program.build();
    let is_shown = |c: &&Command| !c.is_hide_set() && c.get_name() != "help";
    let commands: Vec<&Command> = program.get_subcommands().filter(is_shown).collect();

    // every command has its own sections of options, the program has one
    let whole = Man::new(program.clone().mut_args(|arg| arg.help_heading(None::<&'static str>)));
    let mut page = Vec::new();
    whole.render_title(&mut page)?;
    whole.render_name_section(&mut page)?;
    whole.render_synopsis_section(&mut page)?;
    whole.render_description_section(&mut page)?;
    whole.render_options_section(&mut page)?;
    for part in [shared_options(), list(&commands)] {
        part.to_writer(&mut page)?;
    }
    for command in commands {
        page.extend_from_slice(of_command(command)?.as_bytes());
    }
    for part in [exit_status(), variables(), files(), all_examples(), see_also()] {
        part.to_writer(&mut page)?;
    }
    whole.render_version_section(&mut page)?;
    Ok(with_one_preamble(&String::from_utf8_lossy(&page)))
}

/// Every part of a page begins with the definition of the apostrophe: the first one is enough.
fn with_one_preamble(page: &str) -> String {
    let preamble = Roff::new().render();
    format!("{preamble}{}", page.replace(&preamble, ""))
}

fn shared_options() -> Roff {
    let mut part = Roff::new();
    part.control("PP", []);
    part.text([roman("Every command takes these options, too, except --version.")]);
    part
}

fn list(commands: &[&Command]) -> Roff {
    let mut part = section("COMMANDS");
    for command in commands {
        let about = command.get_about().map(ToString::to_string);
        item(&mut part, &[command.get_name()], &about.unwrap_or_default());
    }
    part
}

/// The section of a command: the sections of a page of its own, one level below.
fn of_command(command: &Command) -> std::io::Result<String> {
    // those that all commands share are described once
    let own = command.clone().mut_args(|arg| match arg.is_global_set() {
        true => arg.hide(true),
        false => arg,
    });
    let man = Man::new(own);
    let mut part = Vec::new();
    man.render_description_section(&mut part)?;
    if let Some(more) = command.get_after_help() {
        let mut paragraphs = Roff::new();
        for paragraph in more.to_string().split("\n\n") {
            paragraphs.control("PP", []);
            paragraphs.text([roman(paragraph)]);
        }
        paragraphs.to_writer(&mut part)?;
    }
    man.render_synopsis_section(&mut part)?;
    man.render_options_section(&mut part)?;
    let part = String::from_utf8_lossy(&part).replace(".SH ", ".SS ");
    Ok(format!(".SH {}\n{part}", command.get_name().to_uppercase()))
}

fn exit_status() -> Roff {
    let mut part = section("EXIT STATUS");
    for exit in Code::exits() {
        item(&mut part, &[&exit.to_string()], Code::meaning(exit));
    }
    part
}

fn variables() -> Roff {
    let mut part = section("ENVIRONMENT");
    for variables in environment::ALL {
        item(&mut part, variables.names, variables.meaning);
    }
    part
}

/// The files and tables that are read or written without being named.
fn files() -> Roff {
    let mut part = section("FILES");
    part.text([roman(
        "Without a database, export reads Chronicle's own file: it looks at the file that \
         CLAUDE_HOOKS_DB_PATH names and at these places, and takes the one that holds rows.",
    )]);
    for (path, why) in discover::places() {
        item(&mut part, &[&path], &why);
    }
    part.control("PP", []);
    part.text([roman("These are read or written, too:")]);
    item(&mut part, &["~/.pgpass"], "passwords of Postgres servers, as in libpq");
    item(
        &mut part,
        &["/etc/machine-id", "/var/lib/dbus/machine-id"],
        "read by an export of a SQLite file: the id of a database, in the header of its archive, is \
         derived from the machine and the path; not with --reproducible",
    );
    item(
        &mut part,
        &[".chronicle-dump-*.partial"],
        "the file that -o, --rejects or --backup names, in the same folder, until it is complete",
    );
    item(
        &mut part,
        &["FILE.chronicle-dump-partial"],
        "the SQLite file that `import --create` or --backup-db creates, until everything is in it",
    );
    item(
        &mut part,
        &["TMPDIR"],
        "the folder for the copy of a SQLite file that is not in WAL mode, while it is read, and \
         for what does not fit into memory; these files have no name",
    );
    item(
        &mut part,
        &["chronicle_dump.sidecar", "chronicle_dump.sidecar_columns"],
        "tables that an import creates in Postgres for values that the target's own tables cannot \
         store; an export reads them and restores the values",
    );
    item(
        &mut part,
        &[SIDECAR, COLUMNS],
        "the same in a SQLite file, and in Postgres beside the target's own tables where the role \
         may not create a schema",
    );
    item(
        &mut part,
        &["chronicle_dump.migration_history", "chronicle_dump.receipts"],
        "tables in Postgres of the imports, restores and rollbacks that `history` lists, and of what \
         `rollback` needs to undo them",
    );
    item(
        &mut part,
        &["chronicle_dump_migration_history", "chronicle_dump_receipts"],
        "the same in a SQLite file, and in Postgres beside the target's own tables where the role \
         may not create a schema",
    );
    item(
        &mut part,
        &["migration_history"],
        "a table of the user: if it exists, batches are written to it, too; its columns are never changed",
    );
    part
}

/// The examples of every command's help.
fn all_examples() -> Roff {
    let mut part = section("EXAMPLES");
    for (command, examples) in examples::all() {
        if let Some(command) = command {
            part.control("SS", [command]);
        }
        for (what, line) in examples {
            part.control("TP", []);
            part.text([roman(*what)]);
            part.control("nf", []);
            part.text([roman(*line)]);
            part.control("fi", []);
        }
    }
    part
}

fn see_also() -> Roff {
    let mut part = section("SEE ALSO");
    part.text([
        bold("zstd"),
        roman("(1), "),
        bold("jq"),
        roman("(1), "),
        bold("psql"),
        roman("(1)"),
    ]);
    part
}

fn section(name: &str) -> Roff {
    let mut part = Roff::new();
    part.control("SH", [name]);
    part
}

/// An entry of a list: its names in bold, and below them what they are.
fn item(part: &mut Roff, names: &[&str], what: &str) {
    let mut head = Vec::new();
    for (n, name) in names.iter().enumerate() {
        if n > 0 {
            head.push(roman(", "));
        }
        head.push(bold(*name));
    }
    part.control("TP", []);
    part.text(head);
    part.text([roman(what)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (text, word) in [
            ("/home/me/.local/share/man", "/home/me/.local/share/man"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
            ("~", "'~'"),
        ] {
            assert_eq!(shell_word(text), word);
        }
    }
}
