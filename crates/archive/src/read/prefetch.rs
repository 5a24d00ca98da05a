//! Reading ahead: one thread reads the pieces of an archive, several decompress and examine them,
//! and whoever asks gets them in their order.

use std::io::Read;
use std::sync::mpsc::{Receiver, RecvError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use crate::batch::Batch;
use crate::control::STATE_PREFIX;
use crate::error::{ArchiveError, ErrorKind, Result};
use crate::limits::{CHUNK_TARGET, CONTROL_LINE};
use crate::read::chunk::{ChunkDecoder, DecodedChunk};
use crate::read::frames::{Container, Packed, Unpacker};
use crate::write::frames::spawn;

/// The next piece is read only while those that nobody has taken yet hold fewer bytes than this for each examiner: so as
/// many pieces of the usual size are on their way, or one of any size.
const AHEAD: usize = CHUNK_TARGET - (512 << 10);
/// What a piece needed above this is not kept.
const KEPT: usize = 2 * CHUNK_TARGET;
/// The most examiners: each has a piece and what becomes of it in memory.
pub(crate) const DECODERS: usize = 3;

/// What was read: a piece, or nothing at a clean end between two pieces, or what went wrong.
type ImportStats<T> = Result<Option<T>>;

/// A piece on its way to an examiner.
struct Job {
    piece: Packed,
    batch: Batch,
    /// The bytes of the file up to its end.
    consumed: u64,
}

/// The threads that read ahead.
///
/// Piece n goes to examiner n modulo their number and is fetched from there again: that keeps the
/// order, and the first error in the archive is the first one that is seen. What is on its way is
/// bounded by its bytes, so the channels need no bound.
pub(crate) struct Prefetch<R> {
    examined: Vec<Receiver<ImportStats<(DecodedChunk, u64)>>>,
    next: usize,
    used: Sender<Used>,
    reader: JoinHandle<Container<R>>,
    consumed: u64,
}

/// A batch that may be filled anew, and the bytes of the piece that was taken in its place.
struct Used {
    batch: Batch,
    bytes: usize,
}

impl<R: Read + Send + 'static> Prefetch<R> {
    /// Starts to read ahead, with a thread for each of the examiners.
    pub(crate) fn start(
        container: Container<R>,
        examiners: Vec<ChunkDecoder>,
    ) -> Result<Prefetch<R>> {
        let consumed = container.consumed();
        let (used, to_reader) = channel();
        let (mut jobs, mut examined) = (Vec::new(), Vec::new());
        for examiner in examiners {
            let (to_examiner, from_reader) = channel();
            let (to_us, from_examiner) = channel();
            let unpacker = container.unpacker()?;
            spawn("examine", move || examine(examiner, unpacker, &from_reader, &to_us))?;
            jobs.push(to_examiner);
            examined.push(from_examiner);
        }
        let unpacker = container.unpacker()?;
        let reader = spawn("read", move || read(container, unpacker, &jobs, &to_reader))?;
        Ok(Prefetch { examined, next: 0, used, reader, consumed })
    }
}

impl<R> Prefetch<R> {
    /// The next piece, or None at a clean end between two pieces; `batch` is used again.
    ///
    /// # Errors
    /// Whatever kept the piece from being read.
    pub(crate) fn next(&mut self, batch: Batch) -> Result<Option<DecodedChunk>> {
        let examiner = &self.examined[self.next % self.examined.len()];
        self.next += 1;
        let Some((examined, consumed)) = examiner.recv().map_err(|RecvError| failed())?? else {
            return Ok(None);
        };
        self.consumed = consumed;
        // the thread may have ended: it has read the last piece
        let _ = self.used.send(Used { batch, bytes: examined.batch.adopted().len() });
        Ok(Some(examined))
    }

    /// The bytes of the file up to the end of the piece that was taken last.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// The container behind the last piece, once it was taken.
    pub(crate) fn into_container(self) -> Result<Container<R>> {
        drop(self.used);
        self.reader.join().map_err(|_| failed())
    }
}

/// The reading thread: gives the container back behind the tail or the first error, or when nobody
/// wants more.
fn read<R: Read>(
    mut container: Container<R>,
    mut unpacker: Unpacker,
    examiners: &[Sender<ImportStats<Job>>],
    used: &Receiver<Used>,
) -> Container<R> {
    let enough = AHEAD * examiners.len().max(2);
    let mut spares = Spares { ahead: 0, enough, batches: Vec::new() };
    for examiner in examiners.iter().cycle() {
        let Some(mut batch) = spares.next(used) else { break };
        let read = container.next_piece(batch.adopt(Vec::new())).and_then(|piece| match piece {
            // it may be the tail, whose end is to be seen here
            Some(piece) if piece.size() <= CONTROL_LINE => {
                unpacker.unpack(piece).map(|lines| Some(Packed::Lines(lines)))
            }
            other => Ok(other),
        });
        let last = match &read {
            // a piece without records is the tail: what follows it is no piece
            Ok(Some(Packed::Lines(lines))) => lines.starts_with(STATE_PREFIX.as_bytes()),
            Ok(Some(Packed::Frame(_))) => false,
            _ => true,
        };
        let consumed = container.consumed();
        let job = read.map(|piece| piece.map(|piece| Job { piece, batch, consumed }));
        if let Ok(Some(job)) = &job {
            spares.ahead += job.piece.size();
        }
        if examiner.send(job).is_err() || last {
            break;
        }
    }
    container
}

/// The batches that wait to be filled, and how much is on its way in others.
struct Spares {
    ahead: usize,
    /// The least of these bytes with which no piece is read.
    enough: usize,
    // none is let go that will be needed again: what is freed here and there stays with the process
    batches: Vec<Batch>,
}

impl Spares {
    /// A batch to fill; waits while too much is ahead. None if nobody wants more.
    fn next(&mut self, used: &Receiver<Used>) -> Option<Batch> {
        loop {
            let back = match used.try_recv() {
                Err(TryRecvError::Empty) if self.ahead < self.enough => {
                    return Some(self.batches.pop().unwrap_or_default());
                }
                Err(TryRecvError::Empty) => used.recv().ok()?,
                other => other.ok()?,
            };
            self.ahead -= back.bytes;
            // what an unusually large piece needed is given back
            if back.batch.adopted().len() < KEPT {
                self.batches.push(back.batch);
            }
        }
    }
}

/// An examining thread.
fn examine(
    mut examiner: ChunkDecoder,
    mut unpacker: Unpacker,
    jobs: &Receiver<ImportStats<Job>>,
    out: &Sender<ImportStats<(DecodedChunk, u64)>>,
) {
    for read in jobs {
        let examined = read.and_then(|job| {
            let Some(Job { piece, batch, consumed }) = job else { return Ok(None) };
            let lines = unpacker.unpack(piece)?;
            Ok(Some((examiner.examine(lines, batch), consumed)))
        });
        if out.send(examined).is_err() {
            return;
        }
    }
}

fn failed() -> ArchiveError {
    ArchiveError::new(ErrorKind::Internal, "a thread that reads the archive has failed")
}
