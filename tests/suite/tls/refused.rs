//! What is said of certificates that prove too little, in full words: never a way to do without encryption.

use super::{HOST, log_in};
use crate::support::certificates::Authority;
use crate::support::cluster::OWNER;
use crate::support::files::workdir;
use crate::support::tls_server::{TlsServer, private};

/// The lines of a refusal, without the places of this run.
fn said(server: &TlsServer, database: &str, roots: &str) -> Vec<String> {
    let run = log_in(database).fails_with(7);
    let port = format!(":{}/", server.port());
    let text = run.stderr.replace(roots, "ROOTS").replace(&port, ":PORT/");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_certificate_that_proves_too_little_is_explained() {
    let (server, folder) = (TlsServer::get(), workdir("tls_words"));
    let (root, other) = (Authority::new("Root"), Authority::new("Other"));
    let roots = private(folder.path(), "roots.pem", &root.pem());
    let full =
        |host: &str| format!("{} sslmode=verify-full sslrootcert={roots}", server.to(host, OWNER));
    let mut all = Vec::new();
    for (host, shown) in [
        (HOST, Some(other.issue("server", &[HOST]))),
        ("pg.example", Some(other.issue("server", &["pg.example"]))),
        (HOST, Some(root.issue("server", &["pg.example"]))),
        (HOST, Some(root.issue(HOST, &[]))),
        (HOST, Some(root.issue_expired("server", &[HOST]))),
        (HOST, Some(root.issue_version_1(HOST))),
        ("pg.example", Some(other.as_server())),
        ("pg.example", None),
    ] {
        server.show(shown.as_ref());
        all.extend(said(&server, &full(host), &roots));
    }
    crate::messages::same_as_file("tls.txt", &all.join("\n"));
    for word in ["sslmode=disable", "sslmode=prefer", "sslmode=allow", "plaintext"] {
        assert!(!all.iter().any(|line| line.contains(word)), "{word}: {all:#?}");
    }
}
