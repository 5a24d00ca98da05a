//! A real PgBouncer in front of the cluster, for one test: its sessions are shared, as those of a hosted pooler are.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::cluster::{Cluster, Database, PASSWORD, free_port};

/// How many sessions a pool has: an import needs two at the same time, one of them for its history.
const SESSIONS: usize = 3;

/// Runs a pooler until our end of stdin closes, in whatever way this process ends, and says when it has ended by itself.
const WATCHED: &str = r#"
    "$0" -q "$1" & pooler=$!
    ( while kill -0 $pooler; do sleep 0.1; done; touch "${1%.ini}.ended" ) &
    cat >/dev/null
    kill -9 $pooler
"#;

/// A running pooler. It ends with the value.
pub(crate) struct Pooler {
    child: Child,
    port: u16,
    role: String,
    database: String,
    _folder: TempDir,
}

impl Pooler {
    /// Starts one for a database and a role, which gives a session back after every transaction.
    pub(crate) fn by_transaction(database: &Database, role: &str) -> Pooler {
        Pooler::with(database, role, "")
    }

    /// The same, with more settings.
    pub(crate) fn with(database: &Database, role: &str, more: &str) -> Pooler {
        for _ in 0..8 {
            let (pooler, ended) = Pooler::start(database, role, more);
            if answers(pooler.port, &ended) {
                return pooler;
            }
        }
        panic!("no free port for PgBouncer in eight attempts");
    }

    /// Starts one on a port that may be taken by now; the file that is there once it has ended.
    fn start(database: &Database, role: &str, more: &str) -> (Pooler, PathBuf) {
        let folder = tempfile::Builder::new().prefix("pooler-").tempdir().expect("a folder");
        let (users, settings) = (folder.path().join("users"), folder.path().join("settings.ini"));
        fs::write(&users, format!("\"{role}\" \"{PASSWORD}\"\n")).expect("the users");
        let (cluster, port) = (Cluster::get(), free_port());
        let text = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server} dbname={name}\n[pgbouncer]\n\
             listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n\
             auth_file = {users}\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nmin_pool_size = {SESSIONS}\n\
             ignore_startup_parameters = extra_float_digits\nquery_wait_timeout = 20\n{more}",
            name = database.name(),
            server = cluster.port(),
            users = users.display(),
        );
        fs::write(&settings, text).expect("the settings");
        for path in [folder.path(), &users, &settings] {
            let mode = if path.is_dir() { 0o777 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
        }
        let mut shell = cluster.server_program(Path::new("/bin/sh"));
        shell.args(["-c", WATCHED, program()]).arg(&settings);
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = shell.spawn().expect("start pgbouncer");
        let (role, database) = (role.to_owned(), database.name().to_owned());
        let ended = settings.with_extension("ended");
        (Pooler { child, port, role, database, _folder: folder }, ended)
    }

    /// The URL of the database.
    pub(crate) fn url(&self) -> String {
        let password = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC);
        format!("postgres://{}:{password}@127.0.0.1:{}/{}", self.role, self.port, self.database)
    }

    /// Leaves prepared statements with these names in every session, as a client that was killed does.
    pub(crate) fn leave_statements(&self, names: &[&str]) {
        let sql: String = names.iter().map(|name| format!("PREPARE {name} AS SELECT 1;")).collect();
        self.in_every_session(&sql);
    }

    /// Removes these prepared statements from every session that has them.
    pub(crate) fn clear(&self, names: &[&str]) {
        for name in names {
            let sql = format!(
                "DO $$ BEGIN IF EXISTS (SELECT FROM pg_prepared_statements WHERE name = '{name}') \
                 THEN EXECUTE 'DEALLOCATE {name}'; END IF; END $$"
            );
            self.in_every_session(&sql);
        }
    }

    /// What is left in its sessions: prepared statements, temporary tables, locks and settings.
    pub(crate) fn left_behind(&self) -> Vec<String> {
        self.in_every_session(
            "SELECT 'statement ' || name FROM pg_prepared_statements \
             UNION ALL SELECT 'table ' || relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() \
             UNION ALL SELECT 'lock ' || locktype FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory' \
             UNION ALL SELECT 'setting ' || name || ' ' || setting FROM pg_settings \
              WHERE source = 'session' AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone', \
                    'standard_conforming_strings')",
        )
    }

    /// Runs SQL in every session of the pool at the same time; the first column of all rows.
    fn in_every_session(&self, sql: &str) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (mut clients, mut found) = (Vec::new(), Vec::new());
            for _ in 0..SESSIONS {
                let client = connect(&self.url()).await;
                client.batch_execute("BEGIN").await.expect("a session of its own");
                clients.push(client);
            }
            for client in &clients {
                for message in client.simple_query(sql).await.expect("the SQL runs") {
                    if let SimpleQueryMessage::Row(row) = message {
                        found.push(row.get(0).unwrap_or_default().to_owned());
                    }
                }
            }
            for client in &clients {
                client.batch_execute("COMMIT").await.expect("the session is given back");
            }
            found
        })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("a login");
    tokio::spawn(connection);
    client
}

fn program() -> &'static str {
    let places = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/opt/homebrew/bin/pgbouncer"];
    let found = places.into_iter().find(|place| Path::new(place).is_file());
    found.expect("PgBouncer is needed: apt-get install pgbouncer, or tests/run, which installs it on Debian and Ubuntu")
}

/// Whether it listens, which it does not if another process has taken the port.
fn answers(port: u16, ended: &Path) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(20) {
        if ended.exists() {
            return false;
        }
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("PgBouncer does not answer");
}
