//! Keeping a target's own triggers from acting while a batch writes.

use super::catalog::{Trigger, triggers};
use super::connection::Connection;
use super::quoted;
use crate::error::{Code, Result};
use chronicle_archive::show_text;

/// A table whose triggers must not fire.
pub(super) struct Quiet {
    /// Its object id.
    pub(super) oid: u32,
    /// Its full name as SQL writes it.
    pub(super) full: String,
}

/// The triggers that do not fire until the transaction ends or they are restored.
#[derive(Default)]
pub(super) struct Silenced {
    /// How many there are.
    pub(super) triggers: usize,
    /// Whether this session is a replica's: the server then checks no references, either.
    pub(super) as_replica: bool,
    /// Those that had to be disabled, with their tables.
    disabled: Vec<(String, Trigger)>,
}

/// Keeps the triggers of tables from firing, in this transaction.
pub(super) async fn silence(connection: &Connection, tables: &[Quiet]) -> Result<Silenced> {
    let oids: Vec<u32> = tables.iter().map(|t| t.oid).collect();
    let found = triggers(connection, &oids).await?;
    let as_replica = try_run(connection, "SET LOCAL session_replication_role = replica").await?;
    let triggers = found.len();
    // a replica's session still fires those that are meant for it
    let firing = found.into_iter().filter(|t| !as_replica || t.fires != 'O');
    let mut disabled = Vec::new();
    for trigger in firing {
        let Some(table) = tables.iter().find(|t| t.oid == trigger.oid) else { continue };
        let sql = format!("ALTER TABLE {} DISABLE TRIGGER {}", table.full, quoted(&trigger.name));
        let what = format!(
            "the trigger {} of {} would change what is loaded and cannot be disabled",
            show_text(&trigger.name),
            trigger.table
        );
        connection.run(Code::Target, &what, &sql).await?;
        disabled.push((table.full.clone(), trigger));
    }
    Ok(Silenced { triggers, as_replica, disabled })
}

impl Silenced {
    /// Whether any of them had to be disabled.
    pub(super) fn any_disabled(&self) -> bool {
        !self.disabled.is_empty()
    }

    /// Gives every trigger its state back, inside the same transaction.
    pub(super) async fn restore(&mut self, connection: &Connection) -> Result<()> {
        for (full, trigger) in std::mem::take(&mut self.disabled) {
            let how = match trigger.fires {
                'A' => "ENABLE ALWAYS",
                'R' => "ENABLE REPLICA",
                _ => "ENABLE",
            };
            let sql = format!("ALTER TABLE {full} {how} TRIGGER {}", quoted(&trigger.name));
            connection.run(Code::Target, "cannot enable a trigger again", &sql).await?;
        }
        Ok(())
    }
}

/// Lets the server check every constraint with the statement that could violate it: a table with a check that waits
/// for the commit cannot be altered, and violations would come too late for us to say which row it is.
pub(super) async fn check_at_once(connection: &Connection) -> Result<()> {
    let sql = "SET CONSTRAINTS ALL IMMEDIATE";
    connection.run(Code::Target, "cannot set constraints immediate", sql).await
}

/// Runs a statement that may be refused; the transaction lives on. True if it went well.
pub(super) async fn try_run(connection: &Connection, sql: &str) -> Result<bool> {
    let run = |what: &'static str, sql: &'static str| connection.run(Code::Target, what, sql);
    run("cannot set a savepoint", "SAVEPOINT attempt").await?;
    if connection.client.batch_execute(sql).await.is_ok() {
        run("cannot release a savepoint", "RELEASE SAVEPOINT attempt").await?;
        return Ok(true);
    }
    // what follows is no part of it: rows are known by the number of their transaction
    let back = "ROLLBACK TO SAVEPOINT attempt; RELEASE SAVEPOINT attempt";
    run("cannot go back to a savepoint", back).await?;
    Ok(false)
}
