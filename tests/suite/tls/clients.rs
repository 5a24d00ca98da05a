//! What the client has to show, and what else is said of the encryption: keys, lists, versions, the binding of the login.

use super::{HOST, log_in};
use crate::support::certificates::{Authority, Issued, NUMBER};
use crate::support::cluster::{Cluster, OWNER};
use crate::support::files::{fixture, workdir};
use crate::support::pooler::Pooler;
use crate::support::program::{Program, mode};
use crate::support::tls_server::{TlsServer, private};

#[test]
fn a_client_certificate_is_shown_with_its_key() {
    let (server, folder) = (TlsServer::get(), workdir("client_certificate"));
    let (root, other) = (Authority::new("Root"), Authority::new("Other"));
    server.show(Some(&root.issue("server", &[HOST])));
    server.want_certificates(&root.pem(), "certified");
    let roots = private(folder.path(), "roots.pem", &root.pem());
    let database = format!("{} sslrootcert={roots}", server.to(HOST, "certified"));
    let with = |name: &str, Issued { certificate, key }: &Issued| {
        let certificate = private(folder.path(), &format!("{name}.crt"), certificate);
        let key = private(folder.path(), &format!("{name}.key"), key);
        format!("{database} sslcert={certificate} sslkey={key}")
    };
    let right = root.issue("certified", &[]);
    log_in(&with("right", &right)).success().stderr_lacks("was not checked");
    log_in(&database).fails_with(7).stderr_has("the server wants a certificate of this client");
    log_in(&with("stranger", &root.issue("stranger", &[])))
        .fails_with(7)
        .stderr_has("the client certificate is for another user");
    log_in(&with("other", &other.issue("certified", &[])))
        .fails_with(7)
        .stderr_has("the server does not take the client certificate")
        .stderr_has("UnknownCA");
    let mixed = Issued { key: right.key.clone(), ..root.issue("certified", &[]) };
    log_in(&with("mixed", &mixed)).fails_with(2).stderr_has("the key does not fit it");
    // it may be forbidden to show one
    let hidden = format!("{} sslcertmode=disable", with("right", &right));
    log_in(&hidden).fails_with(7).stderr_has("the server wants a certificate of this client");
    // readable by others
    let open = with("right", &right);
    mode(&folder.path().join("right.key"), 0o644);
    log_in(&open).fails_with(2).stderr_has("others may read this key").stderr_has("chmod 600");
    let locked = Issued { key: right.key.replace("PRIVATE", "ENCRYPTED PRIVATE"), ..right.clone() };
    log_in(&with("locked", &locked)).fails_with(2).stderr_has("the key is encrypted");
    log_in(&format!("{database} sslcert={roots}")).fails_with(2).stderr_has("no key for it");
    log_in(&format!("{database} sslkey={roots}")).fails_with(2).stderr_has("no certificate for it");
}

#[test]
fn files_at_libpqs_places_are_used_without_a_word() {
    let (server, folder) = (TlsServer::get(), workdir("home_files"));
    let root = Authority::new("Root");
    server.show(Some(&root.issue("server", &[HOST])));
    server.want_certificates(&root.pem(), "certified");
    let home = folder.path().join(".postgresql");
    std::fs::create_dir(&home).expect("a folder");
    let client = root.issue("certified", &[]);
    private(&home, "root.crt", &root.pem());
    private(&home, "postgresql.crt", &client.certificate);
    private(&home, "postgresql.key", &client.key);
    let log_in = || {
        let run = Program::new(["history".to_owned(), server.to(HOST, "certified")]);
        run.env("HOME", folder.path()).run()
    };
    log_in().success().stderr_lacks("was not checked");
    // a certificate in the list has no power any more
    private(&home, "root.crl", &root.revoke(Some(NUMBER)));
    log_in().fails_with(7).stderr_has("the server's certificate was revoked");
    private(&home, "root.crl", &root.revoke(None));
    log_in().success();
}

#[test]
fn the_option_and_the_variables_name_roots_too() {
    let (server, folder) = (TlsServer::get(), workdir("named_roots"));
    let (root, other) = (Authority::new("Root"), Authority::new("Other"));
    server.show(Some(&root.issue("server", &[HOST])));
    let right = private(folder.path(), "right.pem", &root.pem());
    let wrong = private(folder.path(), "wrong.pem", &other.pem());
    let database = server.to(HOST, OWNER);
    let run = |args: &[&str], vars: &[(&str, &str)]| {
        let program = Program::new(["history", &database]);
        let program = args.iter().fold(program, |program, arg| program.arg(*arg));
        vars.iter().fold(program, |program, (name, value)| program.env(*name, *value)).run()
    };
    run(&["--sslrootcert", &right], &[]).success().stderr_lacks("was not checked");
    run(&[], &[("PGSSLROOTCERT", &right)]).success().stderr_lacks("was not checked");
    run(&["--sslrootcert", &right], &[("PGSSLROOTCERT", &wrong)]).success();
    run(&[], &[("PGSSLROOTCERT", &wrong)]).fails_with(7).stderr_has("nobody whose root");
    run(&["--sslrootcert", "system"], &[("SSL_CERT_FILE", &right)]).success();
    run(&["--sslrootcert", "system"], &[("SSL_CERT_FILE", &wrong)])
        .fails_with(7)
        .stderr_has("the root certificates of this machine");
    // a file that is not there is no reason to go on without it
    run(&["--sslrootcert", "nowhere.pem"], &[])
        .fails_with(7)
        .stderr_has("nowhere.pem: there is no such file of root certificates");
    let empty = private(folder.path(), "empty.pem", "no certificate");
    run(&["--sslrootcert", &empty], &[]).fails_with(2).stderr_has("no certificate in PEM form");
}

#[test]
fn versions_that_do_not_meet_are_explained() {
    let server = TlsServer::get();
    let root = Authority::new("Root");
    server.show(Some(&root.issue("server", &[HOST])));
    server.set(&[("ssl_max_protocol_version", "TLSv1.2")]);
    let database = server.to(HOST, OWNER);
    log_in(&format!("{database} ssl_min_protocol_version=TLSv1.3"))
        .fails_with(7)
        .stderr_has("the server speaks no version of TLS that is wanted here");
    log_in(&format!("{database} ssl_max_protocol_version=TLSv1.2")).success();
    server.set(&[("ssl_max_protocol_version", "TLSv1.3")]);
    log_in(&format!("{database} ssl_min_protocol_version=TLSv1.3 sslsni=0")).success();
}

#[test]
fn a_login_is_tied_to_its_encryption_where_that_is_wanted() {
    let database = Cluster::get().database("channel_binding");
    database.apply_file(fixture("postgres-upstream.sql"));
    for binding in ["require", "prefer", "disable"] {
        log_in(&format!("{}?channel_binding={binding}", database.url())).success();
    }
    // a pooler cannot: it does not have the server's certificate
    let pooler = Pooler::by_transaction(&database, OWNER);
    log_in(&pooler.url()).success();
    log_in(&format!("{}?channel_binding=require&sslmode=prefer", pooler.url()))
        .fails_with(7)
        .stderr_has("the server has no TLS");
}

#[test]
fn a_server_before_17_has_no_tls_at_once() {
    let server = TlsServer::get();
    server.show(Some(&Authority::new("Root").issue("server", &[HOST])));
    let run = log_in(&format!("{} sslnegotiation=direct", server.to(HOST, OWNER)));
    match Cluster::get().version() {
        170_000.. => run.success(),
        _ => run.fails_with(7).stderr_has("hint: "),
    };
}
