//! Asking a server about a session that has gone silent: on another connection, since the session itself cannot tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::{Client, Config};

use super::conninfo::ConnInfo;
use super::link::Finding;
use super::login::{self, Failure};
use super::tls::Encryption;

/// What it takes to ask.
#[derive(Clone)]
pub(super) struct Inquirer {
    pub(super) info: ConnInfo,
    pub(super) config: Config,
    pub(super) encryption: Encryption,
    /// The process of the session at the server, which behind a pooler is another one in each transaction; 0 outside of
    /// them.
    pub(super) process: Arc<AtomicI32>,
}

impl Inquirer {
    /// Asks, for so long.
    pub(super) async fn ask(self, limit: Duration) -> Finding {
        let silent =
            || Finding::Lost("it does not answer on another connection, either".to_owned());
        timeout(limit, self.find()).await.unwrap_or_else(|_| silent())
    }

    async fn find(&self) -> Finding {
        let client = match login::log_in(&self.info, &self.config, &self.encryption).await {
            Ok(logged_in) => logged_in.client,
            // it lives, and has no place for one more question
            Err(Failure::Said(_, e)) if e.as_db_error().is_some() => return Finding::Busy,
            Err(_) => return Finding::Lost("it cannot be reached again".to_owned()),
        };
        self.state(&client).await
    }

    async fn state(&self, client: &Client) -> Finding {
        let process = self.process.load(Ordering::Relaxed);
        let sql = format!(
            "SELECT state, wait_event_type FROM pg_catalog.pg_stat_activity WHERE pid = {process}"
        );
        let Ok(rows) = client.query_typed(&sql, &[]).await else { return Finding::Busy };
        let Some(row) = rows.first() else {
            return Finding::Lost("it has ended the session".to_owned());
        };
        let text = |column| row.try_get::<_, Option<String>>(column).ok().flatten();
        match (text(0).as_deref(), text(1).as_deref()) {
            // what the role may not see
            (None, _) => Finding::Busy,
            (Some("active"), Some("Client")) => {
                Finding::Lost("it waits for this side, and nothing passes".to_owned())
            }
            (Some("active"), _) => Finding::Busy,
            (Some(_), _) => Finding::Lost("it has answered, and nothing has arrived".to_owned()),
        }
    }
}
