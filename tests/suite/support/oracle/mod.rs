//! What a database held before and what another one holds after, seen from outside: rows read by the databases'
//! own clients, values compared by what they mean, archives read line by line.

mod judge;
mod lines;
mod same;
mod store;

pub(crate) use judge::*;
pub(crate) use lines::*;
pub(crate) use same::*;
pub(crate) use store::*;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use chronicle_archive::digest::RowDigest;
use chronicle_archive::{self as record, Batch, Kind, Stream, TimeText};
use chronicle_archive::{ArchiveReader, ArchiveWriter, Limits, WriterOptions};
use chronicle_dump::catalog::Backend;
use chronicle_dump::layout::{self, Choice, LayoutStream, Zoneless};
use rusqlite::Connection;
use rusqlite::types::ValueRef;
use serde::Deserialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use tempfile::TempDir;
use uuid::Uuid;

use super::cluster::{Cluster, Database};
use super::files::workdir;
use super::program::{Output, Program};
