//! A PostgreSQL server whose certificate a test chooses, one test at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::certificates::Issued;
use super::cluster::{ADMIN, Cluster, OWNER, PASSWORD};
use super::files::fixture;
use super::program::wait_until;

/// The server, for as long as nobody else may change it.
pub(crate) struct TlsServer {
    cluster: &'static Cluster,
    _alone: MutexGuard<'static, ()>,
}

impl TlsServer {
    /// Waits until no other test has it.
    pub(crate) fn get() -> TlsServer {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let cluster = CLUSTER.get_or_init(|| {
            let cluster = Cluster::start();
            let tables = fs::read_to_string(fixture("postgres-upstream.sql")).expect("the tables");
            let (owner, admin) =
                (format!("SET ROLE {OWNER}; {tables}"), "GRANT ALL ON SCHEMA public TO PUBLIC");
            cluster.lines(ADMIN, "postgres", admin).expect("the right to create tables");
            cluster.lines(ADMIN, "postgres", &owner).expect("Chronicle's tables");
            cluster
        });
        TlsServer { cluster, _alone: alone }
    }

    pub(crate) fn port(&self) -> u16 {
        self.cluster.port()
    }

    /// `psql` of the server's own version.
    pub(crate) fn psql(&self) -> PathBuf {
        self.cluster.program("psql")
    }

    /// The settings of a connection string that lead to the server, under another name, as a role.
    pub(crate) fn to(&self, host: &str, role: &str) -> String {
        let port = self.port();
        format!(
            "host={host} hostaddr=127.0.0.1 port={port} user={role} password='{PASSWORD}' dbname=postgres"
        )
    }

    /// Shows this certificate from now on; none turns TLS off.
    pub(crate) fn show(&self, issued: Option<&Issued>) {
        if let Some(Issued { certificate, key }) = issued {
            self.cluster.write_into_data("shown.crt", certificate);
            self.cluster.write_into_data("shown.key", key);
        }
        let on = if issued.is_some() { "on" } else { "off" };
        self.set(&[("ssl_cert_file", "shown.crt"), ("ssl_key_file", "shown.key"), ("ssl", on)]);
    }

    /// Wants certificates of clients that this root has signed, from a role that has no password.
    pub(crate) fn want_certificates(&self, root: &str, role: &str) {
        self.cluster.write_into_data("clients.crt", root);
        let place = self.cluster.data().join("pg_hba.conf");
        let rules = fs::read_to_string(&place).expect("the rules");
        let rule = format!("hostssl all {role} 127.0.0.1/32 cert\n");
        if !rules.contains(&rule) {
            self.cluster.write_into_data("pg_hba.conf", &format!("{rule}{rules}"));
            self.admin(&format!("CREATE ROLE {role} LOGIN"));
        }
        self.set(&[("ssl_ca_file", "clients.crt")]);
    }

    /// Changes settings, and waits until new connections have them.
    pub(crate) fn set(&self, settings: &[(&str, &str)]) {
        for (name, value) in settings {
            self.admin(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        }
        let loaded = || self.admin("SELECT pg_conf_load_time()");
        let before = loaded();
        self.admin("SELECT pg_reload_conf()");
        wait_until("the settings are loaded", || loaded() != before);
        for (name, value) in settings {
            assert_eq!(self.admin(&format!("SHOW {name}")), *value, "{}", self.cluster.log());
        }
    }

    /// Runs SQL as the superuser, without encryption.
    pub(crate) fn admin(&self, sql: &str) -> String {
        let lines = self.cluster.lines(ADMIN, "postgres", sql);
        lines.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
}

/// A file in a folder, readable by its owner alone; its name as an option takes it.
pub(crate) fn private(folder: &Path, name: &str, text: &str) -> String {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join(name);
    fs::write(&path, text).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    path.display().to_string()
}
