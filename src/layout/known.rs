//! The layouts that are known: those compiled in from `schemas/layouts/`, and the files of users.

use std::borrow::Cow;
use std::path::Path;
use std::sync::LazyLock;

use super::{Backend, Layout, LayoutStream};
use crate::error::{Code, Error, Result};
use chronicle_archive::show_path;

/// Files of a folder of `schemas/`, with their texts.
macro_rules! files {
    ($folder:literal, [$($name:literal),* $(,)?]) => {
        &[$(($name, include_str!(concat!("../../schemas/", $folder, "/", $name)))),*]
    };
}

/// The layouts; the first of each kind of database is the one that `--create` creates.
const LAYOUTS: &[(&str, &str)] = files!(
    "layouts",
    [
        "sqlite-hooks.toml",
        "sqlite-server.toml",
        "sqlite-both.toml",
        "sqlite-strict.toml",
        "sqlite-metadata.toml",
        "sqlite-uv.toml",
        "sqlite-uv-manager.toml",
        "sqlite-models.toml",
        "sqlite-seed.toml",
        "sqlite-stub.toml",
        "postgres-upstream.toml",
        "postgres-migrated.toml",
        "postgres-team.toml",
        "postgres-seed.toml",
        "postgres-guide.toml",
        "postgres-first.toml",
        "postgres-first-prefixed.toml",
        "postgres-setup.toml",
        "postgres-supabase-guide.toml",
        "postgres-dashboard.toml",
    ]
);

/// The files that create them.
const DDL: &[(&str, &str)] = files!(
    "ddl",
    [
        "postgres-dashboard.sql",
        "postgres-first-prefixed.sql",
        "postgres-first.sql",
        "postgres-guide.sql",
        "postgres-migrated.sql",
        "postgres-seed.sql",
        "postgres-setup.sql",
        "postgres-supabase-guide.sql",
        "postgres-team.sql",
        "postgres-upstream.sql",
        "sqlite-both.sql",
        "sqlite-consolidated.sql",
        "sqlite-hooks.sql",
        "sqlite-metadata.sql",
        "sqlite-models.sql",
        "sqlite-seed.sql",
        "sqlite-server.sql",
        "sqlite-strict-nine.sql",
        "sqlite-strict-six.sql",
        "sqlite-strict.sql",
        "sqlite-stub-first.sql",
        "sqlite-stub.sql",
        "sqlite-uv-least.sql",
        "sqlite-uv-manager.sql",
        "sqlite-uv-stop.sql",
        "sqlite-uv-tools.sql",
        "sqlite-uv.sql",
    ]
);

fn ddl_of(file: &str) -> Option<Cow<'static, str>> {
    DDL.iter().find(|(name, _)| *name == file).map(|(_, sql)| Cow::Borrowed(*sql))
}

/// Every compiled-in layout, parsed once; the message of the parser if one is not a layout.
static KNOWN: LazyLock<std::result::Result<Vec<Layout>, String>> = LazyLock::new(|| {
    let parse = |(file, text): &(&str, &str)| {
        let mut layout: Layout =
            toml::from_str(text).map_err(|e| format!("schemas/layouts/{file}: {e}"))?;
        layout.sql = layout.ddl.as_deref().and_then(ddl_of);
        Ok(layout)
    };
    LAYOUTS.iter().map(parse).collect()
});

/// The first stream of this name in any layout.
pub fn known_stream(name: &str) -> Option<&'static LayoutStream> {
    known_streams().find(|stream| stream.name == name)
}

/// The streams of all layouts, SQLite's first.
pub fn known_streams() -> impl Iterator<Item = &'static LayoutStream> {
    [Backend::Sqlite, Backend::Postgres]
        .into_iter()
        .flat_map(|backend| all(backend).unwrap_or_default())
        .flat_map(|layout| &layout.streams)
}

/// Every compiled-in layout for a kind of database, first the one that `--create` creates.
///
/// # Errors
/// If a compiled-in file is not a layout, which a test forbids.
pub fn all(backend: Backend) -> Result<Vec<&'static Layout>> {
    match &*KNOWN {
        Ok(layouts) => Ok(layouts.iter().filter(|l| l.backend == backend).collect()),
        Err(message) => Err(Error::new(Code::Internal, message.as_str())),
    }
}

/// A name that `schema` and `--create` understand.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The name.
    pub name: String,
    /// What it is, for people.
    pub title: String,
    /// The layout, with the DDL of this name.
    pub layout: Layout,
}

/// Every layout and every variant, SQLite's first.
///
/// # Errors
/// As [`all`].
pub fn choices() -> Result<Vec<Choice>> {
    let mut choices = Vec::new();
    for backend in [Backend::Sqlite, Backend::Postgres] {
        for layout in all(backend)? {
            let (name, title) = (layout.name.clone(), layout.title.clone());
            choices.push(Choice { name, title, layout: layout.clone() });
            for variant in &layout.variants {
                let (name, title) = (variant.name.clone(), variant.title.clone());
                let layout = Layout { sql: ddl_of(&variant.ddl), ..layout.clone() };
                choices.push(Choice { name, title, layout });
            }
        }
    }
    Ok(choices)
}

/// The layout or variant of a name; with a backend, only one for that kind of database.
///
/// # Errors
/// If there is none: the hint lists the names.
pub fn named(name: &str, backend: Option<Backend>) -> Result<Choice> {
    let choices = choices()?;
    let fits = |layout: &Layout| backend.is_none_or(|b| b == layout.backend);
    let found = choices.iter().find(|c| c.name == name);
    if let Some(found) = found.filter(|c| fits(&c.layout)) {
        return Ok(found.clone());
    }
    let what = match (found, backend) {
        (Some(found), _) => {
            format!(
                "the layout {name} is for {}, not for this database",
                found.layout.backend.title()
            )
        }
        (None, _) => format!("there is no layout \"{name}\""),
    };
    let names = choices.iter().filter(|c| fits(&c.layout)).map(|c| c.name.as_str());
    let names: Vec<&str> = names.collect();
    let of = backend.map_or_else(String::new, |b| format!(" for {}", b.title()));
    Err(Error::new(Code::Usage, what).hint(format!("layouts{of}: {}", names.join(", "))))
}

/// The layout that `--create` creates: the one of this name, else the usual one.
///
/// # Errors
/// If there is none of that name for this kind of database.
pub fn created(name: Option<&str>, backend: Backend) -> Result<Layout> {
    if let Some(name) = name {
        return named(name, Some(backend)).map(|c| c.layout).map_err(|e| e.about("--create"));
    }
    let first = all(backend)?.into_iter().next();
    first.cloned().ok_or_else(|| Error::new(Code::Internal, "no layout to create"))
}

/// What `--layout` means: the name of a known layout, else a file.
///
/// # Errors
/// If it is neither, or a layout for the other kind of database.
pub fn pick(text: &str, backend: Backend) -> Result<Layout> {
    if choices()?.iter().any(|c| c.name == text) || !Path::new(text).exists() {
        let picked = named(text, Some(backend)).map(|c| c.layout);
        return picked.map_err(|e| {
            let names = e.next_step().unwrap_or_default().to_owned();
            e.about("--layout").hint(format!("name a file, or one of the {names}"))
        });
    }
    let layout = read(Path::new(text))?;
    if layout.backend != backend {
        return Err(Error::new(
            Code::Usage,
            format!("--layout: {text} is a layout for {}", layout.backend.title()),
        )
        .hint(format!("this database is {}: change its `backend`", backend.title())));
    }
    Ok(layout)
}

/// Reads the layout file of a user, and the DDL that it names.
fn read(path: &Path) -> Result<Layout> {
    let shown = show_path(path.display());
    let text = text_of(path)?;
    let mut layout: Layout = toml::from_str(&text).map_err(|e| {
        Error::new(Code::Layout, format!("--layout: {shown} is not a layout"))
            .because(e)
            .hint("schemas/layouts/README.md describes these files, with an example")
    })?;
    check(&layout).map_err(|what| {
        Error::new(Code::Layout, format!("--layout: {shown}: {what}"))
            .hint("schemas/layouts/README.md describes these files, with an example")
    })?;
    if let Some(ddl) = &layout.ddl {
        layout.sql = Some(text_of(&path.with_file_name(ddl))?.into());
    }
    Ok(layout)
}

fn text_of(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| {
        let shown = show_path(path.display());
        Error::new(Code::NotFound, format!("--layout: {shown} cannot be read")).because(e)
    })
}

/// What the form of a file cannot say: names that archives admit, one of each, parents first.
fn check(layout: &Layout) -> std::result::Result<(), String> {
    if layout.streams.iter().all(|s| s.optional) {
        return Err("every layout has a stream that is not optional".into());
    }
    for (n, stream) in layout.streams.iter().enumerate() {
        let (name, before) = (&stream.name, &layout.streams[..n]);
        if !chronicle_archive::is_stream_name(name) {
            return Err(format!("\"{name}\" cannot be the name of a stream"));
        }
        if before.iter().any(|s| s.name == *name || s.table == stream.table) {
            return Err(format!("the stream {name} or its table occurs twice"));
        }
        if stream.key.is_empty() || stream.order.is_empty() {
            return Err(format!("the stream {name} needs a key and an order"));
        }
        let is_there = |parent: &String| before.iter().any(|s| s.name == *parent);
        if let Some(parent) = stream.references.values().find(|parent| !is_there(parent)) {
            return Err(format!("{name} refers to {parent}, which is not an earlier stream"));
        }
        check_columns(stream)?;
    }
    Ok(())
}

/// Descriptions of columns must be of columns that the file lists, and occur once.
fn check_columns(stream: &LayoutStream) -> std::result::Result<(), String> {
    let name = &stream.name;
    for (n, column) in stream.columns.iter().enumerate() {
        for other in &stream.columns[..n] {
            if other.name == column.name {
                return Err(format!("{name}: two columns have the name \"{}\"", column.name));
            }
            if other.physical().eq_ignore_ascii_case(column.physical()) {
                return Err(format!(
                    "{name}: \"{}\" and \"{}\" are both the column \"{}\" of the table",
                    other.name,
                    column.name,
                    column.physical()
                ));
            }
        }
    }
    let named = (stream.key.iter().map(|c| ("key", c)))
        .chain(stream.order.iter().map(|c| ("order", c)))
        .chain(stream.references.keys().map(|c| ("references", c)))
        .chain(stream.origin.iter().map(|c| ("origin", c)))
        .chain(stream.batch.iter().map(|c| ("batch", c)))
        .chain(stream.fold.iter().map(|c| ("fold", c)))
        .chain(
            stream.columns.iter().filter_map(|c| Some(("default_from", c.default_from.as_ref()?))),
        );
    let is_there = |column: &String| {
        stream.columns.iter().any(|c| c.name == *column)
            || stream.requires.iter().any(|physical| stream.logical(physical) == *column)
    };
    match named.into_iter().find(|(_, column)| !is_there(column)) {
        None => Ok(()),
        Some((word, column)) => Err(format!(
            "{name}: {word} names the column \"{column}\", which neither `columns` nor `requires` \
             lists"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_is_sound_and_every_file_belongs_to_one() {
        let choices = choices().unwrap();
        let mut used = Vec::new();
        for choice in &choices {
            assert_eq!(choices.iter().filter(|c| c.name == choice.name).count(), 1);
            assert_eq!(check(&choice.layout), Ok(()), "{}", choice.name);
            assert!(!choice.layout.written_by.is_empty(), "{}", choice.name);
            used.push(choice.layout.ddl().expect("its DDL"));
        }
        for (file, sql) in DDL {
            assert!(used.contains(sql), "{file} belongs to no layout");
        }
        assert_eq!(choices.len(), DDL.len());
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = named("upstream", Some(Backend::Sqlite)).unwrap_err();
        assert!(error.full().contains("is for Postgres"), "{}", error.full());
        assert!(error.next_step().unwrap().contains("hooks, server"), "{error}");
    }
}
