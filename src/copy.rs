//! Copy: exports that flow into a reader of the same process, byte for byte as through a pipe between two processes.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::export::{ExportOptions, Exported, export};
use crate::progress::Progress;
use crate::source::Source;

/// The exports of one command, each of which feeds a reader.
#[derive(Default)]
pub struct Exports(Mutex<Vec<JoinHandle<Option<Fed>>>>);

/// A file that keeps an archive on its way.
pub struct Tee {
    /// The file.
    pub file: File,
    /// Names it in an error of writing.
    pub about: Box<dyn Fn(Error) -> Error + Send + Sync>,
}

/// What an export has given to its reader.
#[derive(Debug)]
pub struct Fed {
    /// What was exported.
    pub exported: Exported,
    /// The file that has kept it, durable and still without its name.
    pub tee: Option<File>,
}

impl Exports {
    /// Starts an export; must be called in the runtime. Its bytes come out of the reader that it gives.
    ///
    /// # Errors
    /// If the system has no pipe left.
    pub fn start(
        &self,
        source: Box<dyn Source>,
        tee: Option<Tee>,
        options: ExportOptions,
        cancel: &Cancel,
    ) -> Result<ExportReader> {
        let (bytes, pipe) = io::pipe()
            .map_err(|e| Error::new(Code::Internal, "cannot create a pipe").because(e))?;
        let (end, ended) = oneshot::channel();
        let cancel = cancel.clone();
        let task = tokio::spawn(async move {
            let fed = feed(source, pipe, tee, options, &cancel).await;
            let (end_of_it, fed) = match fed {
                Ok(fed) => (Ok(()), Some(fed)),
                Err(error) => (Err(error), None),
            };
            // a reader that has gone has an error of its own
            let _ = end.send(end_of_it);
            fed
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        Ok(ExportReader { bytes, ended: Some(ended) })
    }

    /// Waits for the exports and gives what they have done, in the order of their start. Those that nobody reads any
    /// more are stopped first: their sources are closed when this returns.
    pub async fn end(self, is_read: bool) -> Vec<Fed> {
        let tasks = self.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::new();
        for task in tasks {
            if !is_read {
                task.abort();
            }
            all.extend(task.await.ok().flatten());
        }
        all
    }
}

/// Exports a source into a pipe and, if it is to be kept, into a file, which is durable before the reader learns that
/// everything went well.
async fn feed(
    source: Box<dyn Source>,
    pipe: PipeWriter,
    tee: Option<Tee>,
    options: ExportOptions,
    cancel: &Cancel,
) -> Result<Fed> {
    let (file, about) = match tee {
        Some(tee) => (Some(tee.file), Some(tee.about)),
        None => (None, None),
    };
    let about = |error| match &about {
        Some(about) => about(error),
        None => error,
    };
    let out = Branch { pipe, file };
    let exported = export(source, out, options, &Progress::default(), cancel).await;
    let (Branch { pipe, file }, exported) = exported.map_err(about)?;
    drop(pipe);
    let tee = match file {
        Some(file) => Some(durable(file).await.map_err(about)?),
        None => None,
    };
    Ok(Fed { exported, tee })
}

/// Makes a file durable without keeping the runtime waiting; pipes and devices have nothing to keep.
async fn durable(file: File) -> Result<File> {
    let sync = move || -> io::Result<File> {
        if file.metadata()?.is_file() {
            file.sync_all()?;
        }
        Ok(file)
    };
    let synced = tokio::task::spawn_blocking(sync).await;
    let failed = |e| Error::new(Code::Internal, "a thread has failed").because(e);
    synced.map_err(failed)?.map_err(|e| Error::writing("the archive", e))
}

/// Writes into a pipe and into the file that keeps the same bytes.
struct Branch {
    pipe: PipeWriter,
    file: Option<File>,
}

impl Write for Branch {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // first the file: nothing is read that could not be kept
        if let Some(file) = &mut self.file {
            file.write_all(bytes)?;
        }
        self.pipe.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.flush()?;
        }
        self.pipe.flush()
    }
}

/// The bytes of an export. They end only once the export has ended without an error; an error of the export is that of
/// the read. It must not be read in the runtime itself.
#[derive(Debug)]
pub struct ExportReader {
    bytes: PipeReader,
    ended: Option<oneshot::Receiver<Result<()>>>,
}

impl Read for ExportReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        if read > 0 || buffer.is_empty() {
            return Ok(read);
        }
        match self.ended.take().map(oneshot::Receiver::blocking_recv) {
            None | Some(Ok(Ok(()))) => Ok(0),
            Some(Ok(Err(error))) => Err(io::Error::other(error)),
            // stopped, or a bug
            Some(Err(_)) => {
                Err(io::Error::other(Error::new(Code::Internal, "the export has failed")))
            }
        }
    }
}
