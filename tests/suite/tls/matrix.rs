//! Every mode with every kind of certificate, with and without the root: what comes of it, and whether `psql` agrees.

use std::process::Command;

use super::{HOST, log_in};
use crate::support::certificates::{Authority, Issued};
use crate::support::cluster::OWNER;
use crate::support::files::workdir;
use crate::support::tls_server::{TlsServer, private};

/// In this order; the first one is no mode at all.
const MODES: [&str; 7] = ["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What comes of a login.
#[derive(Clone, Copy)]
enum Comes {
    /// It is encrypted, and the certificate has proven what it has to.
    Verified,
    /// It is encrypted, and a note says that the certificate was not checked.
    Unverified,
    /// It is not encrypted, and a warning says so.
    Plain,
    /// It is refused with these words.
    Refused(&'static str),
}

use Comes::{Plain, Refused, Unverified, Verified};

/// A certificate, and the logins with every mode.
struct Case {
    name: &'static str,
    shown: Option<Issued>,
    roots: Option<String>,
    comes: [Comes; 7],
    /// Whether `psql` is to agree wherever a mode is named.
    like_psql: bool,
}

fn without_roots(name: &'static str, shown: Option<Issued>, encrypts: Comes) -> Case {
    let (prefer, encrypted) = match encrypts {
        Refused(_) => (Plain, encrypts),
        _ => (encrypts, encrypts),
    };
    let unknown = Refused("no root certificates are known");
    let comes = [encrypted, Plain, Plain, prefer, encrypted, unknown, unknown];
    Case { name, shown, roots: None, comes, like_psql: true }
}

/// With roots; what comes of it where the signature counts, and where the name counts, too.
fn with_roots(
    name: &'static str,
    shown: &Issued,
    roots: String,
    signature: Comes,
    and_name: Comes,
) -> Case {
    let nothing = Refused("sslmode=disable and root certificates");
    let comes = [and_name, nothing, Plain, signature, signature, signature, and_name];
    Case { name, shown: Some(shown.clone()), roots: Some(roots), comes, like_psql: true }
}

fn cases() -> Vec<Case> {
    let (root, other) = (Authority::new("Test Root 2021 CA"), Authority::new("Other CA"));
    let former = Authority::new("Test Root 2021 CA");
    let myself = Authority::for_hosts("itself", &[HOST]);
    let right = root.issue("server", &[HOST, "*.pooler.supabase.com"]);
    let elsewhere = root.issue("server", &["pg.example.org", "10.0.0.1"]);
    let expired = root.issue_expired("server", &[HOST]);
    let version_1 = root.issue_version_1(HOST);
    let nameless = root.issue(HOST, &[]);
    let unsigned = Refused("nobody whose root certificate is in");
    let late = Refused("expired at 2020-02-03 00:00:00 UTC");
    let old = Refused("is X.509 version 1");
    let is_root = Refused("shows a root certificate of its own, which is not in");
    let all = format!("{}{}{}", other.pem(), former.pem(), root.pem());
    let mut cases = vec![
        without_roots("right", Some(right.clone()), Unverified),
        without_roots("version 1", Some(version_1.clone()), Unverified),
        without_roots("none", None, Refused("the server has no TLS")),
        with_roots("right", &right, root.pem(), Verified, Verified),
        with_roots("right, two roots of one name", &right, all, Verified, Verified),
        with_roots(
            "for another name",
            &elsewhere,
            root.pem(),
            Verified,
            Refused("is for pg.example.org, 10.0.0.1, not for db."),
        ),
        with_roots("of another root", &right, other.pem(), unsigned, unsigned),
        with_roots("expired", &expired, root.pem(), late, late),
        with_roots("version 1", &version_1, root.pem(), old, old),
        with_roots(
            "a common name alone",
            &nameless,
            root.pem(),
            Verified,
            Refused("has no subjectAltName"),
        ),
        with_roots("the root itself", &myself.as_server(), myself.pem(), Verified, Verified),
        with_roots("another root itself", &myself.as_server(), root.pem(), is_root, is_root),
    ];
    for case in &mut cases {
        // psql takes these: nothing in them names a host in the way that is verified today
        case.like_psql = !["version 1", "a common name alone"].contains(&case.name);
    }
    cases
}

#[test]
fn each_mode_makes_the_same_of_a_certificate_as_libpq() {
    let (server, folder) = (TlsServer::get(), workdir("tls_matrix"));
    let psql = server.psql();
    for case in cases() {
        server.show(case.shown.as_ref());
        let roots = case.roots.as_ref().map(|pem| private(folder.path(), "roots.pem", pem));
        for (mode, comes) in MODES.into_iter().zip(case.comes) {
            let mut database = server.to(HOST, OWNER);
            if !mode.is_empty() {
                database.push_str(&format!(" sslmode={mode}"));
            }
            if let Some(roots) = &roots {
                database.push_str(&format!(" sslrootcert={roots}"));
            }
            let place = format!("certificate: {}, {database}", case.name);
            eprintln!("{place}");
            let run = log_in(&database);
            let enters = !matches!(comes, Refused(_));
            match comes {
                Verified => {
                    run.success().stderr_lacks("was not checked").stderr_lacks("is not encrypted")
                }
                Unverified => run
                    .success()
                    .stderr_has("is encrypted, but its certificate was not checked")
                    .stderr_has("download the project's root certificate"),
                Plain => run.success().stderr_has(&format!("to {HOST} is not encrypted")),
                Refused(words) => {
                    let code =
                        if words.contains("no root") || words.contains("disable") { 2 } else { 7 };
                    run.fails_with(code).stderr_has(words).stderr_has("hint: ")
                }
            };
            // where it would do less than was asked for, psql is not the model
            let does_less = matches!(comes, Refused("sslmode=disable and root certificates"))
                || (mode == "prefer" && !enters);
            if case.like_psql && !mode.is_empty() && !does_less {
                let asked = Command::new(&psql).arg(&database).args(["-c", "SELECT 1"]).output();
                let asked = asked.expect("run psql");
                let words = String::from_utf8_lossy(&asked.stderr);
                assert_eq!(asked.status.success(), enters, "psql, {place}: {words}");
            }
        }
    }
}
