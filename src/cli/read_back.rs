//! An archive that was just written, read back from its file.

use std::fs::File;
use std::path::Path;

use super::aside;
use crate::cancel::Cancel;
use crate::error::{Code, Error, Result};
use crate::progress::Progress;
use crate::verify::{Verified, verify};
use chronicle_archive::{Limits, show_path};

/// Reads a file from its first to its last byte, and checks that it is the archive with this digest.
///
/// # Errors
/// If it is anything else, or a stop.
pub(super) async fn read_back(path: &Path, digest: &str, cancel: &Cancel) -> Result<Verified> {
    let shown = show_path(path.display());
    let differs = || Error::new(Code::Output, format!("{shown}: the file is not what was written"));
    let file = File::open(path).map_err(|e| differs().because(e))?;
    let stop = cancel.clone();
    let all = move || verify(file, Limits::default(), false, &Progress::default(), &stop);
    let verified = aside(cancel, all).await.map_err(|e| match e.code() {
        Code::Cancelled => e,
        _ => differs().because(e),
    })?;
    if verified.sealed.digest != digest {
        return Err(differs());
    }
    Ok(verified)
}
