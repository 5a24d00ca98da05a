//! The socket under a connection, and who watches over it.
//!
//! `frames` follows the messages that go over it, `watched` knows what they say about whose turn it is, `socket` opens it,
//! and `guard` ends a connection that has gone silent and keeps an idle transaction alive.

mod frames;
mod guard;
mod socket;
mod watched;

pub(super) use guard::{Finding, Guard, guard};
pub(super) use socket::{Socket, may_begin_tls, open};
pub(super) use watched::{Watch, Watched, WatchedTls};
