//! An archive of which only some rows are wanted: read once, or twice where its first rows depend on later ones.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::archive_input::ArchiveInput;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::part::{Need, Selector, resolve};
use crate::progress::Progress;
use crate::selection::Selection;
use chronicle_archive::{Batch, Limits};

/// An archive that was opened, once: a pipe has only one way through it.
pub enum Input {
    /// A file, in which one can go back and forth.
    File(File),
    /// Anything else.
    Pipe(Box<dyn Read + Send>),
}

impl Input {
    /// Its bytes, to be read once.
    pub fn into_read(self) -> Box<dyn Read + Send> {
        match self {
            Input::File(file) => Box::new(file),
            Input::Pipe(pipe) => pipe,
        }
    }

    /// A file of its bytes: what comes out of a pipe is copied to a nameless temporary one.
    ///
    /// # Errors
    /// If the pipe cannot be read or the file not be written.
    pub fn into_file(self) -> Result<File> {
        let cannot = |e| Error::new(Code::Output, "cannot write a temporary archive").because(e);
        match self {
            Input::File(file) => Ok(file),
            Input::Pipe(mut pipe) => {
                let mut file = tempfile::tempfile().map_err(cannot)?;
                std::io::copy(&mut pipe, &mut file).map_err(cannot)?;
                file.seek(SeekFrom::Start(0)).map_err(cannot)?;
                Ok(file)
            }
        }
    }
}

/// A file that is read from its start, whoever else reads it.
struct FromStart {
    file: Arc<File>,
    at: u64,
}

impl Read for FromStart {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Opens an archive, called `name` in errors, of which the rows of a selection are wanted.
///
/// # Errors
/// As [`ArchiveInput::open`], or if the selection asks for what the archive does not have.
pub async fn open_part(
    name: String,
    input: Input,
    selection: &Selection,
    progress: &Progress,
    cancel: &Cancel,
) -> Result<ArchiveInput> {
    let limits = Limits::default();
    if selection.is_everything() {
        return ArchiveInput::open(name, input.into_read(), limits, progress, cancel).await;
    }
    if !selection.may_need_two_passes() {
        let read = input.into_read();
        let mut part = ArchiveInput::open(name.clone(), read, limits, progress, cancel).await?;
        if !selection.is_all_of(&part.header) {
            part.select(selector(&part, selection, &name)?);
        }
        return Ok(part);
    }
    let file = copied(input, &name, cancel).await?;
    let from_start = || Box::new(FromStart { file: Arc::clone(&file), at: 0 });
    let uncounted = Progress::default();
    let mut first =
        ArchiveInput::open(name.clone(), from_start(), limits.clone(), &uncounted, cancel).await?;
    let is_whole = selection.is_all_of(&first.header);
    let selector = match is_whole {
        true => None,
        false => Some(informed(&mut first, selection, &name, cancel).await?),
    };
    drop(first);
    let mut part = ArchiveInput::open(name, from_start(), limits, progress, cancel).await?;
    selector.into_iter().for_each(|selector| part.select(selector));
    Ok(part)
}

/// The file of an archive, of which a copy has to be made where it comes through a pipe.
async fn copied(input: Input, name: &str, cancel: &Cancel) -> Result<Arc<File>> {
    let copied = tokio::task::spawn_blocking(move || input.into_file());
    let failed = |e| Error::new(Code::Internal, "a thread has failed").because(e);
    let file = cancel.or(async { copied.await.map_err(failed)? }).await;
    Ok(Arc::new(file.map_err(|e| e.about(name))?))
}

fn selector(archive: &ArchiveInput, selection: &Selection, name: &str) -> Result<Selector> {
    let time_zone = archive.header.source.time_zone.as_deref();
    resolve(selection, &archive.streams, time_zone).map_err(|e| e.about(name))
}

/// The selector of an archive, which has read what it has to know.
async fn informed(
    archive: &mut ArchiveInput,
    selection: &Selection,
    name: &str,
    cancel: &Cancel,
) -> Result<Selector> {
    let mut selector = selector(archive, selection, name)?;
    let Some(needs) = selector.first_pass(|_| true) else { return Ok(selector) };
    let last = needs.iter().rposition(|need| *need != Need::Nothing);
    let mut batch = Batch::default();
    while cancel.or(archive.next(&mut batch)).await?.is_none() {
        if Some(batch.stream()) > last {
            break;
        }
        if needs[batch.stream()] != Need::Nothing {
            selector.learn(&batch)?;
        }
    }
    Ok(selector)
}
