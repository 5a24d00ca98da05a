//! The files of the user: root certificates, lists of revoked ones, the client's certificate and its key.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use super::super::conninfo::{NamedFile, Roots, TlsSettings};
use crate::error::{Code, Error, Result};
use chronicle_archive::show_path;

/// Larger than any bundle of certificates that is in use.
const LONGEST_FILE: u64 = 16 << 20;

/// Root certificates.
pub(super) struct KnownRoots {
    /// Where they are, for messages.
    pub(super) place: String,
    pub(super) certificates: Vec<CertificateDer<'static>>,
    /// Whether they are those of this machine.
    pub(super) are_systems: bool,
}

/// The certificate of the client, and its key.
pub(super) struct ClientIdentity {
    /// Where it is, for messages.
    pub(super) place: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
}

/// Reads the root certificates; of two with one subject both count.
pub(super) fn roots(roots: &Roots) -> Result<KnownRoots> {
    match roots {
        Roots::System => {
            let certificates = rustls_native_certs::load_native_certs().certs;
            if certificates.is_empty() {
                let what = "sslrootcert=system: this machine has no root certificates";
                return Err(Error::new(Code::NotFound, what)
                    .hint("install them (Debian, Ubuntu: ca-certificates), or name a file: --sslrootcert FILE"));
            }
            let place = "the root certificates of this machine".to_owned();
            Ok(KnownRoots { place, certificates, are_systems: true })
        }
        Roots::File(path) => {
            let place = show_path(path.display());
            let bytes = read(path, "root certificates", "--sslrootcert FILE")?;
            let certificates = certificates(&bytes, &place)?;
            Ok(KnownRoots { place, certificates, are_systems: false })
        }
    }
}

/// Reads a list of revoked certificates.
pub(super) fn revoked(file: &NamedFile) -> Result<Vec<CertificateRevocationListDer<'static>>> {
    let place = show_path(file.path.display());
    let bytes = read(&file.path, "revoked certificates", "sslcrl=FILE")?;
    let lists: std::result::Result<Vec<_>, _> =
        CertificateRevocationListDer::pem_slice_iter(&bytes).collect();
    let lists = lists.map_err(|e| not_pem(&place, "list of revoked certificates").because(e))?;
    match lists.is_empty() {
        true => Err(not_pem(&place, "list of revoked certificates")),
        false => Ok(lists),
    }
}

/// Reads the client's certificate and its key, if there is one.
pub(super) fn client(settings: &TlsSettings) -> Result<Option<ClientIdentity>> {
    let Some(certificate) = &settings.certificate else {
        return match settings.key.as_ref().filter(|key| key.is_named) {
            Some(_) => Err(Error::new(Code::Usage, "sslkey is given, and no certificate for it")
                .hint("name the certificate, too: sslcert=FILE or PGSSLCERT")),
            None => Ok(None),
        };
    };
    let Some(key) = &settings.key else {
        return Err(Error::new(Code::Usage, "sslcert is given, and no key for it")
            .hint("name the key, too: sslkey=FILE or PGSSLKEY"));
    };
    let place = show_path(certificate.path.display());
    let chain =
        certificates(&read(&certificate.path, "a client certificate", "sslcert=FILE")?, &place)?;
    Ok(Some(ClientIdentity { place, chain, key: private_key(&key.path)? }))
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let place = show_path(path.display());
    let bytes = read(path, "the client's key", "sslkey=FILE")?;
    refuse_readable_by_others(path, &place)?;
    if bytes.windows(9).any(|word| word == b"ENCRYPTED") {
        let what = format!("{place}: the key is encrypted");
        return Err(Error::new(Code::Usage, what).hint(
            "decrypt it into a file that only you can read: umask 077; openssl pkey -in KEY -out FILE",
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| not_pem(&place, "private key").because(e))
}

/// Refuses a key that others may read, by libpq's rule: root may lend its own to a group.
fn refuse_readable_by_others(path: &Path, place: &str) -> Result<()> {
    let found = fs::metadata(path)
        .map_err(|e| Error::new(Code::NotFound, format!("{place}: cannot be read")).because(e))?;
    let others = if found.uid() == 0 { 0o137 } else { 0o177 };
    match found.mode() & others {
        0 => Ok(()),
        _ => Err(Error::new(Code::Usage, format!("{place}: others may read this key"))
            .hint(format!("take that right away: chmod 600 {place}"))),
    }
}

fn certificates(bytes: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let certificates = read.map_err(|e| not_pem(place, "certificate").because(e))?;
    match certificates.is_empty() {
        true => Err(not_pem(place, "certificate")),
        false => Ok(certificates),
    }
}

fn not_pem(place: &str, what: &str) -> Error {
    Error::new(Code::Usage, format!("{place}: there is no {what} in PEM form"))
        .hint("a file in PEM form is text, and says BEGIN and END; `openssl x509 -inform DER -in FILE` converts a certificate")
}

fn read(path: &Path, what: &str, setting: &str) -> Result<Vec<u8>> {
    let place = show_path(path.display());
    let failed = |e: std::io::Error| {
        let why = match e.kind() {
            ErrorKind::NotFound => format!("{place}: there is no such file of {what}"),
            _ => format!("{place}: cannot read {what}"),
        };
        Error::new(Code::NotFound, why).because(e).hint(format!("name the right one: {setting}"))
    };
    let mut bytes = Vec::new();
    File::open(path).and_then(|f| f.take(LONGEST_FILE).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(bytes)
}
