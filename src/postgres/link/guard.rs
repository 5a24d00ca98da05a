//! Who watches over a connection: ends it if it has gone silent, and keeps an idle transaction alive.

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio_postgres::Client;

use super::watched::Watch;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// After how long an open transaction that has nothing to do gets a question, so that nobody in between takes it for dead:
/// shorter than any time limit of servers and poolers that is known to be in use.
const ASK: Duration = Duration::from_secs(10);

/// What another connection tells about the silence of this one.
pub(in crate::postgres) enum Finding {
    /// The server is at work.
    Busy,
    /// It is not: with what it says instead.
    Lost(String),
}

/// Asks the server on another connection, within a time, what the session of this one does.
pub(in crate::postgres) type Inquiry = Box<dyn Fn(Duration) -> BoxFuture<'static, Finding> + Send>;

/// What a guard needs.
pub(in crate::postgres) struct Guard {
    pub(in crate::postgres) watch: Arc<Watch>,
    pub(in crate::postgres) client: Weak<Client>,
    /// How long the server may owe something in silence; `None` is for ever.
    pub(in crate::postgres) limit: Option<Duration>,
    pub(in crate::postgres) inquiry: Inquiry,
}

/// Watches until the connection is dropped.
pub(in crate::postgres) async fn guard(guard: Guard) {
    let Guard { watch, client, limit, inquiry } = guard;
    while watch.lost().is_none() && client.strong_count() > 0 {
        tokio::time::sleep(limit.map_or(LOOK, |limit| LOOK.min(limit / 4))).await;
        if let Some(limit) = limit {
            // the inquiry has to end within the limit, too
            let part = limit / 4;
            if watch.silence() >= limit - part {
                match inquiry(part).await {
                    Finding::Busy => watch.excuse(),
                    // something may have come meanwhile
                    Finding::Lost(why) if watch.silence() >= limit - part => watch.lose(why),
                    Finding::Lost(_) => {}
                }
            }
        }
        if watch.idle().is_some_and(|idle| idle >= ASK)
            && let Some(client) = client.upgrade()
        {
            // what comes back does not matter: the next statement will tell
            let _ = tokio::time::timeout(ASK, client.simple_query("SELECT 1")).await;
        }
    }
}
