//! One throwaway PostgreSQL cluster per test process, and a database of its own for each test.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use super::certificates::Authority;

/// The password of every role; its characters all need escaping somewhere.
pub(crate) const PASSWORD: &str = "p@ss:w/rd#1";
/// The superuser, named as on Supabase. The program under test never connects as this one.
pub(crate) const ADMIN: &str = "supabase_admin";
/// The ordinary owner of the test databases: it may create databases and nothing else.
pub(crate) const OWNER: &str = "chronicle";
/// Stands for Supabase's `postgres`: as `OWNER`, but it may set `session_replication_role` (PostgreSQL 15 or later).
pub(crate) const SUPA: &str = "supa";

const HOW_TO_INSTALL: &str = "no PostgreSQL server programs (initdb, postgres, pg_ctl) were found\n\
    looked in: $PG_BIN, `pg_config --bindir`, /usr/lib/postgresql/*/bin, /usr/pgsql-*/bin, Homebrew, Postgres.app\n\
    install them: Debian, Ubuntu: apt-get install postgresql | Fedora: dnf install postgresql-server | \
    macOS: brew install postgresql@17\n\
    or name their folder: PG_BIN=/path/to/bin cargo test\n\
    tests/run does this on Debian and Ubuntu";

/// A running cluster. It lives until the process ends, in whatever way that happens.
pub(crate) struct Cluster {
    port: u16,
    version: u32,
    folder: PathBuf,
    /// Where the server's programs are.
    bin: PathBuf,
    runtime: Runtime,
    databases: AtomicU32,
    /// Stops the cluster and removes its folder as soon as its stdin closes, so also after SIGKILL.
    _watchdog: Child,
}

impl Cluster {
    /// The cluster of this process, started on first use.
    pub(crate) fn get() -> &'static Cluster {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(Cluster::start)
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// `server_version_num`: 150018 is 15.18.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// Where its data are.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Writes a file among its data, which the server alone reads.
    pub(crate) fn write_into_data(&self, name: &str, text: &str) {
        write_private(&User::for_servers(), &self.data().join(name), text);
    }

    /// A program of its version, else the one of this machine: some packages have the server alone.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        let own = self.bin.join(name);
        if own.is_file() { own } else { name.into() }
    }

    /// Runs SQL as a role; the rows come back as `psql -At` prints them.
    pub(crate) fn lines(&self, role: &str, database: &str, sql: &str) -> Result<String, String> {
        self.query(role, database, sql).map(|rows| as_lines(&rows))
    }

    /// A program run by the user who runs the server, since some refuse root.
    pub(crate) fn server_program(&self, program: &Path) -> Command {
        User::for_servers().command(program)
    }

    /// One of the client programs of the server's version, such as `pg_dump`.
    pub(crate) fn client_program(&self, name: &str) -> Command {
        Command::new(self.program(name))
    }

    /// What the server has logged so far.
    pub(crate) fn log(&self) -> String {
        read_log(&self.folder)
    }

    /// A fresh database owned by `OWNER`, dropped with the value.
    pub(crate) fn database(&'static self, test_name: &str) -> Database {
        self.database_of(OWNER, test_name)
    }

    /// A fresh database owned by `owner`, dropped with the value.
    pub(crate) fn database_of(&'static self, owner: &str, test_name: &str) -> Database {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = database_name(test_name, number);
        self.query(
            ADMIN,
            "postgres",
            &format!("CREATE DATABASE \"{name}\" OWNER \"{owner}\" TEMPLATE template0"),
        )
        .unwrap_or_else(|error| panic!("create database {name}: {error}"));
        Database { cluster: self, name, owner: owner.to_owned() }
    }

    /// The URL of a database as seen by a role.
    pub(crate) fn url(&self, role: &str, database: &str) -> String {
        let password = utf8_percent_encode(PASSWORD, NON_ALPHANUMERIC);
        format!("postgres://{role}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// A cluster of another version, started on first use: the newest that `tests/run` has fetched.
    pub(crate) fn of_another_version() -> &'static Cluster {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        CLUSTER.get_or_init(|| {
            let target = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
            let found = newest(target, "postgres-", "native").into_iter().next();
            let native = found.expect("another version of PostgreSQL, which tests/run fetches");
            // the server's user may not get to where it is
            let copy = tempfile::Builder::new().prefix("pg-").tempdir().expect("a folder").keep();
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).expect("its mode");
            let copied = Command::new("cp").arg("-r").args([&native, &copy]).status();
            assert!(copied.is_ok_and(|status| status.success()), "{}", native.display());
            let bin = copy.join("native/bin");
            Cluster::start_with(&Programs {
                initdb: bin.join("initdb"),
                pg_ctl: bin.join("pg_ctl"),
            })
        })
    }

    /// One more cluster.
    pub(crate) fn start() -> Cluster {
        Cluster::start_with(&Programs::find())
    }

    fn start_with(programs: &Programs) -> Cluster {
        let user = User::for_servers();
        let folder = tempfile::Builder::new()
            .prefix("chronicle-dump-pg-")
            .tempdir()
            .expect("a temporary folder")
            .keep();
        user.own(&folder);
        let watchdog = watchdog(programs, &user, &folder);
        let data = folder.join("data");
        let password_file = folder.join("password");
        fs::write(&password_file, PASSWORD).expect("write the password file");
        fs::set_permissions(&password_file, fs::Permissions::from_mode(0o600))
            .expect("restrict the password file");
        user.own(&password_file);
        let made = user
            .command(&programs.initdb)
            .arg("-D")
            .arg(&data)
            .arg("--pwfile")
            .arg(&password_file)
            .args(["-U", ADMIN, "-E", "UTF8", "--locale=C", "--no-sync"])
            .args(["--auth-local=scram-sha-256", "--auth-host=scram-sha-256"])
            .output()
            .expect("run initdb");
        assert!(made.status.success(), "initdb failed:\n{}", String::from_utf8_lossy(&made.stderr));
        let own = Authority::for_hosts("localhost", &["localhost", "127.0.0.1"]).as_server();
        write_private(&user, &data.join("server.crt"), &own.certificate);
        write_private(&user, &data.join("server.key"), &own.key);
        let port = start_server(programs, &user, &folder);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime for the harness");
        let mut cluster = Cluster {
            port,
            version: 0,
            folder,
            bin: programs.pg_ctl.parent().expect("a folder").to_owned(),
            runtime,
            databases: AtomicU32::new(0),
            _watchdog: watchdog,
        };
        cluster.make_roles();
        cluster
    }

    fn make_roles(&mut self) {
        let ask = |sql: &str| {
            self.query(ADMIN, "postgres", sql)
                .unwrap_or_else(|error| panic!("{sql}: {error}\n{}", self.log()))
        };
        let version: u32 =
            as_lines(&ask("SHOW server_version_num")).parse().expect("the server's version");
        for role in [OWNER, SUPA] {
            ask(&format!(
                "CREATE ROLE {role} LOGIN NOSUPERUSER CREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD '{PASSWORD}'"
            ));
        }
        if version >= 150_000 {
            ask(&format!("GRANT SET ON PARAMETER session_replication_role TO {SUPA}"));
        }
        self.version = version;
    }

    /// Runs SQL on a connection of its own and gives the rows of all its statements as text.
    fn query(&self, role: &str, database: &str, sql: &str) -> Result<Vec<Row>, String> {
        let url = self.url(role, database);
        self.wait_for(async move {
            let client = connect(&url).await?;
            let messages = client.simple_query(sql).await.map_err(|error| describe(&error))?;
            Ok(messages
                .into_iter()
                .filter_map(|message| match message {
                    SimpleQueryMessage::Row(row) => {
                        Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
                    }
                    _ => None,
                })
                .collect())
        })
    }

    /// Waits on a thread of its own, so that tests inside a runtime may call this too.
    fn wait_for<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| self.runtime.block_on(work))
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// A row as text; `None` is SQL's NULL.
pub(crate) type Row = Vec<Option<String>>;

/// A database that belongs to one test.
pub(crate) struct Database {
    cluster: &'static Cluster,
    name: String,
    owner: String,
}

impl Database {
    /// The database's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Another database of its server, which is there already and belongs to the same role.
    pub(crate) fn beside(&self, name: &str) -> Database {
        Database { cluster: self.cluster, name: name.to_owned(), owner: self.owner.clone() }
    }

    /// The port of its server on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.cluster.port
    }

    /// The URL for its owner, password included and escaped.
    pub(crate) fn url(&self) -> String {
        self.url_as(&self.owner)
    }

    /// The URL for another role.
    pub(crate) fn url_as(&self, role: &str) -> String {
        self.cluster.url(role, &self.name)
    }

    /// The URL for the superuser.
    pub(crate) fn admin_url(&self) -> String {
        self.url_as(ADMIN)
    }

    /// What `pg_dump` writes of all rows and sequences, but those of these tables.
    #[track_caller]
    pub(crate) fn pg_dump(&self, without: &[&str]) -> String {
        let mut dump = self.cluster.client_program("pg_dump");
        dump.args(["--data-only", "--no-owner", "--dbname", &self.admin_url()]);
        dump.args(without.iter().map(|table| format!("--exclude-table-data={table}")));
        let done = dump.output().expect("run pg_dump");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Runs SQL as the owner; the rows come back as `psql -At` prints them: `|` between values, NULL is nothing.
    #[track_caller]
    pub(crate) fn psql(&self, sql: &str) -> String {
        as_lines(&self.rows(sql))
    }

    /// As `psql`, for another role.
    #[track_caller]
    pub(crate) fn psql_as(&self, role: &str, sql: &str) -> String {
        match self.try_psql_as(role, sql) {
            Ok(lines) => lines,
            Err(error) => panic!("{role} at {}: {error}\n{sql}", self.name),
        }
    }

    /// As `psql_as`, for SQL that may be refused: the error is `SQLSTATE message`.
    pub(crate) fn try_psql_as(&self, role: &str, sql: &str) -> Result<String, String> {
        self.cluster.query(role, &self.name, sql).map(|rows| as_lines(&rows))
    }

    /// Runs the SQL of a file as the owner, in one transaction.
    #[track_caller]
    pub(crate) fn apply_file(&self, path: impl AsRef<Path>) {
        self.apply_file_as(&self.owner, path);
    }

    /// Runs the SQL of a file as another role, in one transaction.
    #[track_caller]
    pub(crate) fn apply_file_as(&self, role: &str, path: impl AsRef<Path>) {
        let path = path.as_ref();
        let sql =
            fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        if let Err(error) = self.cluster.query(role, &self.name, &sql) {
            panic!("{} as {role}: {error}", path.display());
        }
    }

    /// The rows of a query, run as the owner.
    #[track_caller]
    pub(crate) fn rows(&self, query: &str) -> Vec<Row> {
        match self.cluster.query(&self.owner, &self.name, query) {
            Ok(rows) => rows,
            Err(error) => panic!("{} at {}: {error}\n{query}", self.owner, self.name),
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        // Nothing depends on it: the cluster takes what is left with it.
        let _ = self.cluster.query(
            ADMIN,
            "postgres",
            &format!("DROP DATABASE \"{}\" WITH (FORCE)", self.name),
        );
    }
}

async fn connect(url: &str) -> Result<Client, String> {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.map_err(|error| describe(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

fn describe(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("{} {}", error.code().code(), error.message()),
        None => format!("{error:?}"),
    }
}

fn as_lines(rows: &[Row]) -> String {
    let line = |row: &Row| {
        row.iter().map(|value| value.as_deref().unwrap_or_default()).collect::<Vec<_>>().join("|")
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// `t<number>_<test name>`, as far as it fits into the 63 bytes of a PostgreSQL name.
fn database_name(test_name: &str, number: u32) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    format!("t{number}_").chars().chain(test_name.chars().map(clean)).take(63).collect()
}

/// The server programs of one PostgreSQL installation.
struct Programs {
    initdb: PathBuf,
    pg_ctl: PathBuf,
}

impl Programs {
    fn find() -> Programs {
        let named = std::env::var_os("PG_BIN").map(PathBuf::from);
        if let Some(folder) = &named {
            assert!(
                has_server(folder),
                "PG_BIN={} holds no initdb, postgres and pg_ctl",
                folder.display()
            );
        }
        let bin = named
            .into_iter()
            .chain(configured())
            .chain(newest("/usr/lib/postgresql", "", "bin"))
            .chain(newest("/usr", "pgsql-", "bin"))
            .chain(newest("/opt/homebrew/opt", "postgresql@", "bin"))
            .chain(newest("/usr/local/opt", "postgresql@", "bin"))
            .chain(newest("/Applications/Postgres.app/Contents/Versions", "", "bin"))
            .find(|folder| has_server(folder))
            .unwrap_or_else(|| panic!("{HOW_TO_INSTALL}"));
        Programs { initdb: bin.join("initdb"), pg_ctl: bin.join("pg_ctl") }
    }
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_ctl"].iter().all(|program| folder.join(program).is_file())
}

fn configured() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim_end()))
}

/// The folders `<parent>/<prefix><version>/<rest>`, highest version first.
fn newest(parent: &str, prefix: &str, rest: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?.split('.').next()?.parse().ok()?;
            Some((version, entry.path().join(rest)))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, folder)| folder).collect()
}

/// Who runs the server: PostgreSQL refuses root.
enum User {
    Myself,
    Other { name: String, uid: u32, gid: u32, switch: Vec<String> },
}

impl User {
    fn for_servers() -> User {
        let id = Command::new("id").arg("-u").output().expect("run id");
        if id.stdout.trim_ascii() != b"0" {
            return User::Myself;
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let (name, uid, gid) = ["postgres", "nobody"]
            .iter()
            .find_map(|name| account(&accounts, name))
            .expect("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it as");
        let ways: [&[&str]; 3] = [
            &["runuser", "-u", &name, "--"],
            &["setpriv", "--reuid", &name, "--regid", &gid.to_string(), "--clear-groups", "--"],
            &["su", "-s", "/bin/sh", &name, "-c", "exec \"$0\" \"$@\"", "--"],
        ];
        let works = |way: &&&[&str]| {
            let mut command = Command::new(way[0]);
            command
                .args(&way[1..])
                .arg("/usr/bin/env")
                .current_dir("/")
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let way = ways
            .iter()
            .find(works)
            .expect("one of runuser, setpriv and su, to run PostgreSQL as a user");
        let switch = way.iter().map(|&word| word.to_owned()).collect();
        User::Other { name, uid, gid, switch }
    }

    fn own(&self, path: &Path) {
        if let User::Other { name, uid, gid, .. } = self {
            chown(path, Some(*uid), Some(*gid))
                .unwrap_or_else(|error| panic!("give {} to {name}: {error}", path.display()));
        }
    }

    /// The words to put in front of a program, to run it as this user.
    fn switch(&self) -> &[String] {
        match self {
            User::Myself => &[],
            User::Other { switch, .. } => switch,
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = match self.switch() {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        command.current_dir("/").stdin(Stdio::null());
        for (key, _) in std::env::vars_os() {
            if key.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(key);
            }
        }
        command
    }
}

fn account(accounts: &str, name: &str) -> Option<(String, u32, u32)> {
    let line = accounts.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((name.to_owned(), fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Waits for its stdin to close, which happens when this process ends; then nothing of the cluster stays.
fn watchdog(programs: &Programs, user: &User, folder: &Path) -> Child {
    const SCRIPT: &str = r#"
        trap '' INT TERM HUP
        folder=$1; shift
        cat >/dev/null
        for attempt in 1 2 3; do
            "$@" stop -s -m immediate -w -D "$folder/data"
            rm -rf "$folder"
            # A server that was just starting makes its folder again.
            sleep 0.5
            [ -e "$folder" ] || exit 0
        done
    "#;
    Command::new("/bin/sh")
        .args(["-c", SCRIPT, "watchdog"])
        .arg(folder)
        .args(user.switch())
        .arg(&programs.pg_ctl)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the watchdog")
}

/// Writes a file that the server alone reads.
fn write_private(user: &User, path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("restrict a file");
    user.own(path);
}

/// Starts the server on a free port; another process may take the port first, so it tries a few.
fn start_server(programs: &Programs, user: &User, folder: &Path) -> u16 {
    let data = folder.join("data");
    for _ in 0..8 {
        let port = free_port();
        let mut settings = fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))
            .expect("settings");
        write!(
            settings,
            "\nlisten_addresses = '127.0.0.1'\nport = {port}\nunix_socket_directories = ''\nssl = on\n\
             wal_level = logical\nmax_connections = 60\nshared_buffers = 32MB\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n\
             fsync = off\nfull_page_writes = off\nsynchronous_commit = off\nlogging_collector = off\n\
             log_line_prefix = '%m [%p] %q%u@%d '\n"
        )
        .expect("write the settings");
        drop(settings);
        let started = user
            .command(&programs.pg_ctl)
            .args(["start", "-s", "-w", "-t", "60", "-D"])
            .arg(&data)
            .arg("-l")
            .arg(data.join("server.log"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("run pg_ctl");
        if started.success() {
            return port;
        }
        let log = read_log(folder);
        assert!(log.contains("could not bind"), "the server does not start:\n{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("no free port for PostgreSQL in eight attempts:\n{}", read_log(folder));
}

/// A port on which nothing listens now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port on 127.0.0.1");
    listener.local_addr().expect("its address").port()
}

fn read_log(folder: &Path) -> String {
    fs::read_to_string(folder.join("data/server.log")).unwrap_or_default()
}
