//! What is asked of the encryption, and what follows from that for each host; nothing here reads a certificate.
//!
//! The settings, their variables, files and words are libpq's (chapter "SSL Support" of PostgreSQL's manual). Where
//! nothing is said, more is asked for than by libpq: a host that is not this machine is never spoken to in the clear, and
//! its certificate has to name it as soon as root certificates are known.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ConnInfo;
use super::hosts::Host;
use super::lookup::{Found, Lookup};
use super::near_miss::usage;
use crate::error::Result;
use crate::notice::{Notice, NoticeKind};

/// The word for the root certificates that this machine trusts, in the place of a file.
pub const SYSTEM: &str = "system";

/// How much TLS is asked for, in the order of strictness; the words are libpq's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server insists.
    Allow,
    /// TLS if the server offers it.
    Prefer,
    /// TLS; the certificate is checked only if a root certificate is known.
    Require,
    /// TLS with a certificate that chains to a known root.
    VerifyCa,
    /// The same, and the certificate must name the host.
    VerifyFull,
}

impl SslMode {
    /// Every mode, in the order of strictness.
    pub const ALL: [SslMode; 6] = [
        SslMode::Disable,
        SslMode::Allow,
        SslMode::Prefer,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ];

    /// libpq's word for the mode.
    pub fn word(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// The versions of TLS that are spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// Where root certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// In this machine's own store.
    System,
    /// In a file, as PEM.
    File(PathBuf),
}

/// Who named the root certificates; the later, the more it was meant for this very connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Named {
    /// Nobody: the file has libpq's place for it, in the user's home.
    ByHome,
    /// A variable.
    ByVariable,
    /// The connection string, or an option.
    Here,
}

/// A file of libpq, and whether somebody named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFile {
    /// The file.
    pub path: PathBuf,
    /// Whether the string or a variable names it; one that has libpq's place for it may be missing.
    pub is_named: bool,
}

/// What the certificate of a server has to prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: the connection is encrypted, whoever answers.
    Nothing,
    /// A known root has signed it.
    Root,
    /// A known root has signed it for this host.
    RootAndName,
}

/// Whether a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// It is.
    Tls,
    /// It is not.
    Plain,
}

/// What is asked of the encryption.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// The mode; `None` leaves it to the host.
    pub mode: Option<SslMode>,
    roots: Option<(Roots, Named)>,
    /// The client's certificate.
    pub certificate: Option<NamedFile>,
    /// The key of the client's certificate.
    pub key: Option<NamedFile>,
    /// Whether the client has a certificate to show at all (`sslcertmode`).
    shows_certificate: bool,
    /// The list of certificates that are not valid any more.
    pub revoked: Option<NamedFile>,
    /// Whether TLS begins at once (`sslnegotiation=direct`), as servers since version 17 can.
    pub direct: bool,
    /// The oldest version of TLS.
    pub oldest: TlsVersion,
    /// The newest version of TLS.
    pub newest: TlsVersion,
    /// Whether the name of the host is sent before the encryption begins (`sslsni`).
    pub sends_name: bool,
    /// `disable`, `prefer` or `require`: whether the login is tied to this encryption.
    pub channel_binding: Option<String>,
}

impl TlsSettings {
    /// Reads the settings.
    pub(super) fn find(lookup: &Lookup<'_>, notes: &mut Vec<Notice>) -> Result<TlsSettings> {
        let file = |key, variable| {
            let found = lookup.text(key, variable);
            found.map(|path| NamedFile { path: path.into(), is_named: true })
        };
        let certmode = lookup.word("sslcertmode", "PGSSLCERTMODE", &["disable", "allow"])?;
        let negotiation =
            lookup.word("sslnegotiation", "PGSSLNEGOTIATION", &["postgres", "direct"])?;
        let sni = lookup.word("sslsni", "PGSSLSNI", &["0", "1"])?;
        let binding = ["disable", "prefer", "require"];
        let settings = TlsSettings {
            mode: find_mode(lookup, notes)?,
            roots: find_roots(lookup),
            certificate: file("sslcert", "PGSSLCERT"),
            key: file("sslkey", "PGSSLKEY"),
            shows_certificate: certmode.as_deref() != Some("disable"),
            revoked: file("sslcrl", "PGSSLCRL"),
            direct: negotiation.as_deref() == Some("direct"),
            oldest: find_version(lookup, "ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION")?
                .unwrap_or(TlsVersion::V12),
            newest: find_newest(lookup)?,
            sends_name: sni.as_deref() != Some("0"),
            channel_binding: lookup.word("channel_binding", "PGCHANNELBINDING", &binding)?,
        };
        settings.refuse_contradictions()?;
        Ok(settings)
    }

    /// Adds what an option says, and the files that have their places in the user's home.
    ///
    /// # Errors
    /// If the settings then contradict each other, or name no root certificates where they are needed.
    pub fn complete(&mut self, sslrootcert: Option<&str>, home: Option<&Path>) -> Result<()> {
        if let Some(text) = sslrootcert.filter(|text| !text.is_empty()) {
            self.roots = Some((Roots::named(text), Named::Here));
        }
        if let Some(folder) = home.map(|home| home.join(".postgresql")) {
            let file = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
            let at_home = |name: &str| file(name).map(|path| NamedFile { path, is_named: false });
            if self.roots.is_none() {
                self.roots = file("root.crt").map(|path| (Roots::File(path), Named::ByHome));
            }
            self.certificate = self.certificate.take().or_else(|| at_home("postgresql.crt"));
            self.key = self.key.take().or_else(|| at_home("postgresql.key"));
            self.revoked = self.revoked.take().or_else(|| at_home("root.crl"));
        }
        if !self.shows_certificate {
            (self.certificate, self.key) = (None, None);
        }
        self.refuse_contradictions()?;
        match (self.mode, &self.roots) {
            (Some(mode @ (SslMode::VerifyCa | SslMode::VerifyFull)), None) => {
                Err(usage(format!("sslmode={}: no root certificates are known", mode.word())).hint(
                    "name their file: --sslrootcert FILE, sslrootcert= in the connection string, PGSSLROOTCERT, or \
                     ~/.postgresql/root.crt; `system` means those that this machine trusts",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Where root certificates are, if any are known.
    pub fn roots(&self) -> Option<&Roots> {
        self.roots.as_ref().map(|(roots, _)| roots)
    }

    fn refuse_contradictions(&self) -> Result<()> {
        let refused = |what: String, then: &str| Err(usage(what).hint(then));
        let Some(mode) = self.mode else { return Ok(()) };
        let word = mode.word();
        if self.roots() == Some(&Roots::System) && mode < SslMode::VerifyFull {
            let what =
                format!("sslmode={word} and sslrootcert=system: half of the world has those roots");
            return refused(what, "use sslmode=verify-full, or leave sslmode out");
        }
        let is_named_here = matches!(self.roots, Some((_, Named::Here)));
        if mode == SslMode::Disable && is_named_here {
            let what =
                "sslmode=disable and root certificates: nothing would be verified".to_owned();
            return refused(what, "use sslmode=verify-full, or leave sslmode out");
        }
        if mode < SslMode::Require && self.direct {
            let what = format!("sslmode={word} and sslnegotiation=direct: that is TLS in any case");
            return refused(what, "use sslmode=require or verify-full");
        }
        if mode == SslMode::Disable && self.needs_binding() {
            let what = "sslmode=disable and channel_binding=require: there is nothing to bind to"
                .to_owned();
            return refused(what, "use sslmode=require or verify-full");
        }
        Ok(())
    }

    fn needs_binding(&self) -> bool {
        self.channel_binding.as_deref() == Some("require")
    }
}

impl Roots {
    fn named(text: &str) -> Roots {
        match text {
            SYSTEM => Roots::System,
            path => Roots::File(path.into()),
        }
    }
}

impl ConnInfo {
    /// How a host is spoken to: the ways in the order in which they are tried, and what its certificate has to prove.
    ///
    /// A certificate that proves too little ends the login: it never leads to a connection without encryption.
    pub fn tls_at(&self, host: &Host) -> (&'static [Wire], Proof) {
        if host.socket().is_some() {
            return (&[Wire::Plain], Proof::Nothing);
        }
        let roots = self.tls.roots.as_ref();
        let known = |at_least: Named, proof: Proof| match roots {
            Some((_, named)) if *named >= at_least => proof,
            _ => Proof::Nothing,
        };
        let (ways, proof): (&[Wire], Proof) = match self.tls.mode {
            None if roots.is_some_and(|(roots, _)| *roots == Roots::System) => {
                (&[Wire::Tls], Proof::RootAndName)
            }
            None if host.is_this_machine() => match known(Named::Here, Proof::RootAndName) {
                Proof::Nothing => (&[Wire::Tls, Wire::Plain], Proof::Nothing),
                proof => (&[Wire::Tls], proof),
            },
            None => (&[Wire::Tls], known(Named::ByHome, Proof::RootAndName)),
            Some(SslMode::Disable) => (&[Wire::Plain], Proof::Nothing),
            Some(SslMode::Allow) => {
                (&[Wire::Plain, Wire::Tls], known(Named::ByVariable, Proof::Root))
            }
            Some(SslMode::Prefer) => {
                (&[Wire::Tls, Wire::Plain], known(Named::ByVariable, Proof::Root))
            }
            Some(SslMode::Require) => (&[Wire::Tls], known(Named::ByHome, Proof::Root)),
            Some(SslMode::VerifyCa) => (&[Wire::Tls], Proof::Root),
            Some(SslMode::VerifyFull) => (&[Wire::Tls], Proof::RootAndName),
        };
        match self.tls.direct || self.tls.needs_binding() {
            true => (&[Wire::Tls], proof),
            false => (ways, proof),
        }
    }
}

impl Host {
    /// Whether nothing that is sent to the host leaves this machine.
    pub fn is_this_machine(&self) -> bool {
        let is_local = |address: IpAddr| address.is_loopback();
        let by_name = match self.name.parse::<IpAddr>() {
            Ok(address) => is_local(address),
            Err(_) => {
                self.name.eq_ignore_ascii_case("localhost")
                    || self.name.ends_with(".localhost")
                    || self.name.starts_with('/')
            }
        };
        by_name && self.addr.is_none_or(is_local)
    }
}

fn find_mode(lookup: &Lookup<'_>, notes: &mut Vec<Notice>) -> Result<Option<SslMode>> {
    let Some(found) = lookup.get("sslmode", "PGSSLMODE") else { return Ok(None) };
    if found.value == "no-verify" {
        notes.push(Notice::new(NoticeKind::ReadAs, "sslmode=no-verify read as require"));
        return Ok(Some(SslMode::Require));
    }
    let mode = SslMode::ALL.into_iter().find(|mode| mode.word() == found.value);
    mode.map(Some).ok_or_else(|| found.refused(&SslMode::ALL.map(SslMode::word).join(", ")))
}

fn find_roots(lookup: &Lookup<'_>) -> Option<(Roots, Named)> {
    let here = lookup.text("sslrootcert", "");
    let by_variable = || lookup.text("sslrootcert", "PGSSLROOTCERT");
    match here {
        Some(text) => Some((Roots::named(&text), Named::Here)),
        None => by_variable().map(|text| (Roots::named(&text), Named::ByVariable)),
    }
}

/// A version of TLS; those before 1.2 ask for less than is spoken here.
fn find_version(
    lookup: &Lookup<'_>,
    key: &'static str,
    variable: &'static str,
) -> Result<Option<TlsVersion>> {
    let version = |found: Found| match found.value.to_ascii_lowercase().as_str() {
        "tlsv1" | "tlsv1.1" | "tlsv1.2" => Ok(TlsVersion::V12),
        "tlsv1.3" => Ok(TlsVersion::V13),
        _ => Err(found.refused("TLSv1.2 or TLSv1.3")),
    };
    lookup.get(key, variable).map(version).transpose()
}

fn find_newest(lookup: &Lookup<'_>) -> Result<TlsVersion> {
    let (key, variable) = ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION");
    let old = |found: &Found| ["tlsv1", "tlsv1.1"].contains(&&*found.value.to_ascii_lowercase());
    match lookup.get(key, variable).filter(old) {
        Some(found) => Err(found.refused("TLSv1.2 or TLSv1.3")),
        None => Ok(find_version(lookup, key, variable)?.unwrap_or(TlsVersion::V13)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::testing::{assert_refused, env, good, words};

    const TLS: &[Wire] = &[Wire::Tls];
    const EITHER: &[Wire] = &[Wire::Tls, Wire::Plain];

    /// What is asked of the first host of a string, with these variables and, if wanted, a root.crt at home.
    fn asked(
        text: &str,
        vars: &[(&str, &str)],
        has_root_at_home: bool,
    ) -> Result<(&'static [Wire], Proof)> {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        std::fs::create_dir(&folder).unwrap();
        if has_root_at_home {
            std::fs::write(folder.join("root.crt"), "").unwrap();
        }
        let mut info = ConnInfo::parse(text, &env(vars))?;
        info.tls.complete(None, Some(home.path()))?;
        Ok(info.tls_at(&info.hosts[0]))
    }

    #[test]
    fn without_a_mode_the_host_decides() {
        let root = [("PGSSLROOTCERT", "/ca.pem")];
        for (host, vars, at_home, expected) in [
            ("h", &[][..], false, (TLS, Proof::Nothing)),
            ("db.x.supabase.co", &[], false, (TLS, Proof::Nothing)),
            ("h", &root, false, (TLS, Proof::RootAndName)),
            ("h", &[], true, (TLS, Proof::RootAndName)),
            ("localhost", &[], true, (EITHER, Proof::Nothing)),
            ("127.0.0.1", &root, false, (EITHER, Proof::Nothing)),
            ("[::1]", &[], false, (EITHER, Proof::Nothing)),
            ("10.0.0.1", &[], false, (TLS, Proof::Nothing)),
            ("%2Ftmp", &root, true, (&[Wire::Plain], Proof::Nothing)),
        ] {
            let found = asked(&format!("postgres://u@{host}/d"), vars, at_home).unwrap();
            assert_eq!(found, expected, "{host} {vars:?} {at_home}");
        }
        let typed = asked("postgres://u@localhost/d?sslrootcert=/ca.pem", &[], false).unwrap();
        assert_eq!(typed, (TLS, Proof::RootAndName));
        let system = [("PGSSLROOTCERT", "system")];
        let found = asked("postgres://u@localhost/d", &system, false).unwrap();
        assert_eq!(found, (TLS, Proof::RootAndName));
        // an address elsewhere, whatever its name is
        let away = asked("host=localhost hostaddr=10.0.0.1", &[], false).unwrap();
        assert_eq!(away, (TLS, Proof::Nothing));
    }

    #[test]
    fn a_mode_means_what_it_means_to_libpq() {
        const PLAIN: &[Wire] = &[Wire::Plain];
        const PLAIN_FIRST: &[Wire] = &[Wire::Plain, Wire::Tls];
        for (mode, ways, without, with) in [
            ("disable", PLAIN, Proof::Nothing, Proof::Nothing),
            ("allow", PLAIN_FIRST, Proof::Nothing, Proof::Nothing),
            ("prefer", EITHER, Proof::Nothing, Proof::Nothing),
            ("require", TLS, Proof::Nothing, Proof::Root),
            ("verify-ca", TLS, Proof::Root, Proof::Root),
            ("verify-full", TLS, Proof::RootAndName, Proof::RootAndName),
        ] {
            for host in ["h", "localhost"] {
                let text = format!("postgres://u@{host}/d?sslmode={mode}");
                assert_eq!(asked(&text, &[], true).unwrap(), (ways, with), "{text}");
                match mode.starts_with("verify") {
                    true => {
                        let refused = words(&asked(&text, &[], false).unwrap_err());
                        assert!(refused.contains("no root certificates are known"), "{refused}");
                    }
                    false => assert_eq!(asked(&text, &[], false).unwrap(), (ways, without)),
                }
            }
        }
        let prefer = "postgres://u@h/d?sslmode=prefer&sslrootcert=/ca.pem";
        assert_eq!(asked(prefer, &[], false).unwrap(), (EITHER, Proof::Root));
    }

    #[test]
    fn what_needs_encryption_never_goes_without() {
        for setting in ["sslnegotiation=direct", "channel_binding=require"] {
            let text = format!("postgres://u@localhost/d?{setting}");
            assert_eq!(asked(&text, &[], false).unwrap(), (TLS, Proof::Nothing), "{text}");
        }
        let prefer = "postgres://u@localhost/d?sslmode=prefer&channel_binding=require";
        assert_eq!(asked(prefer, &[], false).unwrap().0, TLS);
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        for (text, reason) in [
            ("host=h password=Zq7 sslmode=require sslrootcert=system", "sslrootcert=system"),
            ("host=h password=Zq7 sslmode=disable sslrootcert=/ca.pem", "root certificates"),
            ("host=h password=Zq7 sslmode=prefer sslnegotiation=direct", "sslnegotiation=direct"),
            ("host=h password=Zq7 sslmode=disable channel_binding=require", "channel_binding"),
            ("host=h password=Zq7 sslcertmode=require", "sslcertmode"),
            ("host=h password=Zq7 ssl_max_protocol_version=TLSv1.1", "ssl_max_protocol_version"),
        ] {
            assert_refused(text, reason);
        }
        let mut info = good("host=h sslmode=disable");
        assert!(info.tls.complete(Some("/ca.pem"), None).is_err(), "--sslrootcert, too");
        // a variable is not meant for every connection
        let vars = env(&[("PGSSLROOTCERT", "/ca.pem")]);
        assert!(ConnInfo::parse("host=h sslmode=disable", &vars).is_ok());
    }

    #[test]
    fn versions_of_tls_are_libpqs_words() {
        let info = good("host=h ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=tlsv1.2");
        assert_eq!((info.tls.oldest, info.tls.newest), (TlsVersion::V12, TlsVersion::V12));
        let vars = env(&[("PGSSLMINPROTOCOLVERSION", "TLSv1.3")]);
        let info = ConnInfo::parse("host=h", &vars).unwrap();
        assert_eq!((info.tls.oldest, info.tls.newest), (TlsVersion::V13, TlsVersion::V13));
    }
}
