//! What every test uses: a PostgreSQL cluster, database files, the program itself, and data to move.

#![allow(dead_code, reason = "a test takes what it needs; none needs everything")]

pub(crate) mod certificates;
pub(crate) mod cluster;
pub(crate) mod everything;
pub(crate) mod files;
pub(crate) mod generate;
pub(crate) mod hints;
pub(crate) mod migrate;
pub(crate) mod oracle;
pub(crate) mod pooler;
pub(crate) mod program;
pub(crate) mod proxy;
pub(crate) mod speaker;
pub(crate) mod tls_server;
