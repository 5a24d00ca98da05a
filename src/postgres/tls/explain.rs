//! What is wrong with an encrypted connection, in words for people. None of them leads to a connection without encryption.

use std::io;

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error as TlsError, PeerIncompatible};

use super::super::conninfo::{ConnInfo, Host, Roots};
use super::verify::{is_ca_as_server, is_other};
use crate::error::{Code, Error};
use crate::notice::{Notice, NoticeKind};
use chronicle_archive::{show_path, show_text};

/// Where the root certificate of a Supabase project is.
const SUPABASE_CA: &str = "download the project's root certificate in the dashboard (Database Settings, SSL Configuration) and \
                           name it: --sslrootcert FILE, PGSSLROOTCERT or ~/.postgresql/root.crt";

/// The error of TLS itself behind an error of the driver.
pub(in crate::postgres) fn reason(e: &tokio_postgres::Error) -> Option<&TlsError> {
    let cause = std::error::Error::source(e)?.downcast_ref::<io::Error>()?;
    cause.get_ref()?.downcast_ref::<TlsError>()
}

/// An error of TLS at a login, with what it means and what helps.
pub(in crate::postgres) fn explained(info: &ConnInfo, host: &Host, error: &TlsError) -> Error {
    let (what, then) = match error {
        TlsError::InvalidCertificate(problem) => certificate(info, host, problem, error),
        TlsError::AlertReceived(AlertDescription::ProtocolVersion)
        | TlsError::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => (
            "the server speaks no version of TLS that is wanted here".to_owned(),
            "TLS 1.2 and 1.3 are spoken: see ssl_min_protocol_version and ssl_max_protocol_version at the server, in the \
             connection string and in PGSSLMINPROTOCOLVERSION and PGSSLMAXPROTOCOLVERSION"
                .to_owned(),
        ),
        TlsError::AlertReceived(alert) => of_alert(info, *alert),
        TlsError::InvalidMessage(_) if info.tls.direct => (
            "the server does not begin with TLS at once".to_owned(),
            "sslnegotiation=direct needs PostgreSQL 17, without a pooler in between: leave it out".to_owned(),
        ),
        TlsError::InvalidMessage(_) => (
            "what answers does not speak TLS".to_owned(),
            "check host and port; a proxy in between may have changed what was sent".to_owned(),
        ),
        other => (
            format!("the encryption fails: {}", show_text(&other.to_string())),
            "check host and port; a proxy in between may have changed what was sent".to_owned(),
        ),
    };
    Error::new(Code::Connect, format!("{}: {what}", info.redacted())).hint(then)
}

/// What a server says that ends the handshake.
fn of_alert(info: &ConnInfo, alert: AlertDescription) -> (String, String) {
    let name = format!("{alert:?}");
    let about_certificate = [
        AlertDescription::BadCertificate,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateRequired,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateUnknown,
        AlertDescription::DecryptError,
        AlertDescription::UnknownCA,
        AlertDescription::UnsupportedCertificate,
    ];
    match &info.tls.certificate {
        Some(certificate) if about_certificate.contains(&alert) => (
            format!(
                "the server does not take the client certificate {} ({name})",
                show_path(certificate.path.display())
            ),
            "it has to be signed by a root in the server's ssl_ca_file, and not be expired: name another one by sslcert= and \
             sslkey="
                .to_owned(),
        ),
        None if about_certificate.contains(&alert) => (
            format!("the server wants a client certificate ({name})"),
            "name it and its key: sslcert=FILE sslkey=FILE in the connection string, or PGSSLCERT and PGSSLKEY"
                .to_owned(),
        ),
        _ => (
            format!("the server ends the encryption ({name})"),
            "the server's log says why".to_owned(),
        ),
    }
}

/// What is wrong with the certificate of the server.
fn certificate(
    info: &ConnInfo,
    host: &Host,
    problem: &CertificateError,
    error: &TlsError,
) -> (String, String) {
    let roots = match info.tls.roots() {
        Some(Roots::File(path)) => show_path(path.display()),
        _ => "the root certificates of this machine".to_owned(),
    };
    match problem {
        CertificateError::UnknownIssuer => (
            format!("nobody whose root certificate is in {roots} has signed the server's certificate"),
            where_roots_are(host),
        ),
        CertificateError::NotValidForNameContext { presented, .. } => {
            for_another_name(host, presented)
        }
        CertificateError::ExpiredContext { not_after, .. } => (
            format!("the server's certificate expired at {}", moment(*not_after)),
            "have it renewed; if that moment is still to come, this machine's clock is wrong; at Supabase, the pooler (Connect, \
             Session pooler) has a certificate of its own"
                .to_owned(),
        ),
        CertificateError::NotValidYetContext { not_before, .. } => (
            format!("the server's certificate is not valid before {}", moment(*not_before)),
            "if that moment has passed, this machine's clock is wrong".to_owned(),
        ),
        CertificateError::Revoked => (
            "the server's certificate was revoked".to_owned(),
            "its key may be in other hands: do not go on, and ask who runs the server".to_owned(),
        ),
        CertificateError::UnknownRevocationStatus => (
            "no list in sslcrl says whether the server's certificate was revoked".to_owned(),
            "the file needs a list of every authority between the certificate and its root".to_owned(),
        ),
        CertificateError::ExpiredRevocationListContext { next_update, .. } => (
            format!("the list of revoked certificates was to be replaced at {}", moment(*next_update)),
            "fetch the present one, and name it: sslcrl=FILE".to_owned(),
        ),
        _ if is_other(error, "UnsupportedCertVersion") => (
            "the server's certificate is X.509 version 1, which can no longer be verified".to_owned(),
            "have it renewed as version 3, with a subjectAltName; sslmode=require, without root certificates, encrypts without \
             verifying it"
                .to_owned(),
        ),
        _ if is_ca_as_server(error) => (
            format!("the server shows a root certificate of its own, which is not in {roots}"),
            where_roots_are(host),
        ),
        other => (
            format!("the server's certificate cannot be used: {}", show_text(&format!("{other:?}"))),
            "have it renewed".to_owned(),
        ),
    }
}

fn where_roots_are(host: &Host) -> String {
    match host.is_supabase() {
        true => SUPABASE_CA.to_owned(),
        false => "ask who runs the server for the root certificate, and name it: --sslrootcert FILE, PGSSLROOTCERT or \
                  ~/.postgresql/root.crt; `system` means those that this machine trusts"
            .to_owned(),
    }
}

/// A certificate for other names, of which the reader gives a list as it found them.
fn for_another_name(host: &Host, presented: &[String]) -> (String, String) {
    let name = show_text(&host.name);
    let names: Vec<_> = presented.iter().map(|entry| show_text(&inner(entry))).collect();
    match names.is_empty() {
        true => (
            format!("the server's certificate has no subjectAltName, so that it does not prove to be {name}"),
            "have it renewed with one; sslmode=verify-ca verifies only who has signed it".to_owned(),
        ),
        false => (
            format!("the server's certificate is for {}, not for {name}", names.join(", ")),
            "connect by a name that it has: host=NAME hostaddr=ADDRESS says how to get there; sslmode=verify-ca verifies only \
             who has signed it"
                .to_owned(),
        ),
    }
}

/// The name in `DnsName("name")` or `IpAddress(1.2.3.4)`.
fn inner(entry: &str) -> String {
    let inside = entry.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(entry).trim_matches('"').to_owned()
}

fn moment(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let moment = chrono::DateTime::from_timestamp(seconds, 0);
    moment.map_or_else(|| "a time out of range".to_owned(), |m| m.format("%F %T UTC").to_string())
}

/// What a report says of an encrypted connection to another machine that has proven nothing.
pub(in crate::postgres) fn unverified(host: &Host) -> Notice {
    let name = show_text(&host.name);
    let text = match host.is_supabase() {
        true => format!(
            "the connection to {name} is encrypted, but its certificate was not checked, so that another server could have \
             answered; to check it, {SUPABASE_CA}"
        ),
        false => format!(
            "the connection to {name} is encrypted, but its certificate was not checked, so that another server could have \
             answered; --sslrootcert FILE checks it (or `system`, the roots that this machine trusts)"
        ),
    };
    Notice::new(NoticeKind::Unverified, text)
}
