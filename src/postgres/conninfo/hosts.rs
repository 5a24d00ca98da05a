//! Where the server is: host names, addresses, ports and socket directories.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::lookup::{Found, Lookup};
use super::near_miss::{FORMS, usage};
use super::text::encode;
use crate::error::Result;

/// PostgreSQL's default port.
pub const DEFAULT_PORT: u16 = 5432;

/// The directory of the server's socket on Debian, Red Hat and Supabase's images.
pub(super) const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// One address at which the server may be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// A DNS name, an IP address (without brackets) or the absolute path of a socket directory.
    pub name: String,
    /// The address to dial instead of resolving `name` (libpq's `hostaddr`).
    pub addr: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl Host {
    /// The path of the socket, if the name is a socket directory and no address overrides it.
    pub fn socket(&self) -> Option<PathBuf> {
        let is_socket = self.addr.is_none() && self.name.starts_with('/');
        is_socket.then(|| Path::new(&self.name).join(format!(".s.PGSQL.{}", self.port)))
    }

    /// True for a host of Supabase's platform, direct or pooled.
    pub fn is_supabase(&self) -> bool {
        let name = self.name.trim_end_matches('.').to_ascii_lowercase();
        name.ends_with(".supabase.co") || name.ends_with(".supabase.com")
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') && !self.name.starts_with('/') {
            // URLs encode the percent sign of a zone ("fe80::1%eth0").
            write!(f, "[{}]:{}", self.name.replace('%', "%25"), self.port)
        } else {
            write!(f, "{}:{}", encode(&self.name), self.port)
        }
    }
}

/// Pairs the lists of hosts, addresses and ports: equally many of each, or one port for all.
pub(super) fn find(lookup: &Lookup<'_>) -> Result<Vec<Host>> {
    let host = lookup.get("host", "PGHOST");
    let hostaddr = lookup.get("hostaddr", "PGHOSTADDR");
    let port = lookup.get("port", "PGPORT");
    let (names, ports) = (list(host.as_ref()), list(port.as_ref()));
    let addrs: Vec<IpAddr> = match &hostaddr {
        Some(found) => list(Some(found))
            .into_iter()
            .map(|text| text.parse().map_err(|_| found.refused("an IP address")))
            .collect::<Result<_>>()?,
        None => Vec::new(),
    };
    let count = names.len().max(addrs.len()).max(1);
    let fits = |len: usize| len == 0 || len == count;
    if !fits(names.len()) || !fits(addrs.len()) || !(fits(ports.len()) || ports.len() == 1) {
        return Err(usage(format!(
            "connection string: {} hosts, {} addresses and {} ports do not match",
            names.len(),
            addrs.len(),
            ports.len()
        ))
        .hint(
            "give as many hostaddrs and ports as hosts, or one port for all; PGHOST, PGHOSTADDR \
             and PGPORT count too",
        ));
    }
    let mut hosts = Vec::new();
    for at in 0..count {
        let place = port.as_ref().map_or("port", |found| found.place);
        let port = parse_port(ports.get(at).or(ports.first()).copied().unwrap_or(""), place)?;
        let addr = addrs.get(at).copied();
        let name = match (names.get(at), addr) {
            (Some(name), _) => checked_host(name)?,
            (None, Some(addr)) => addr.to_string(),
            (None, None) => default_host(port),
        };
        hosts.push(Host { name, addr, port });
    }
    Ok(hosts)
}

/// The elements of a comma-separated list; none if the setting is missing.
fn list(found: Option<&Found>) -> Vec<&str> {
    found.map(|found| found.value.split(',').map(str::trim).collect()).unwrap_or_default()
}

/// Parses a port. Errors do not show it: it may be the password of a URL without a host.
fn parse_port(text: &str, place: &str) -> Result<u16> {
    if text.is_empty() {
        return Ok(DEFAULT_PORT);
    }
    let port = text.parse().ok().filter(|port| *port != 0);
    port.ok_or_else(|| {
        usage(format!("{place}: the port is not a number from 1 to 65535"))
            .hint("the usual port is 5432: postgresql://USER@HOST:5432/DATABASE")
    })
}

/// A host name that can be shown and resolved; a bracketed IPv6 address loses its brackets.
fn checked_host(name: &str) -> Result<String> {
    let bare = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
    let valid = match bare {
        "" => return Err(usage("host: the list of hosts has an empty element").hint(FORMS)),
        _ if bare.starts_with('/') => !bare.contains('\0'),
        _ if bare.contains(':') => is_ipv6(bare),
        _ => bare.chars().all(is_host_char),
    };
    match valid {
        true => Ok(bare.to_owned()),
        false => Err(usage(
            "host: expected a DNS name, an IP address or the absolute path of a socket directory",
        )
        .hint(FORMS)),
    }
}

/// True if a host name may contain the character.
pub(super) fn is_host_char(c: char) -> bool {
    c.is_alphanumeric() || "-._~".contains(c)
}

/// True for an IPv6 address, possibly with a zone (`fe80::1%eth0`).
pub(super) fn is_ipv6(text: &str) -> bool {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    address.parse::<Ipv6Addr>().is_ok() && !zone.is_empty() && zone.chars().all(is_host_char)
}

/// The usual socket directory if it has a socket, else TCP, like libpq without a host.
fn default_host(port: u16) -> String {
    let socket = Path::new(SOCKET_DIRECTORY).join(format!(".s.PGSQL.{port}"));
    match cfg!(unix) && socket.exists() {
        true => SOCKET_DIRECTORY.to_owned(),
        false => "localhost".to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::testing::{assert_refused, good};

    #[test]
    fn hosts_addresses_and_sockets_are_given_as_in_libpq() {
        let info = good("POSTGRES://u@h1:1111,[::1]:2222,h3/db");
        let named: Vec<_> = info.hosts.iter().map(|h| (h.name.as_str(), h.port)).collect();
        assert_eq!(named, [("h1", 1111), ("::1", 2222), ("h3", 5432)]);
        for text in [
            "postgres://u@%2Ftmp%2Fpg:5433/db",
            "postgres://u@:5433/db?host=/tmp/pg",
            "host=/tmp/pg port=5433 user=u dbname=db",
        ] {
            let info = good(text);
            assert_eq!(info.hosts[0].socket(), Some(PathBuf::from("/tmp/pg/.s.PGSQL.5433")));
            assert_eq!(info.redacted(), "postgresql://u@%2Ftmp%2Fpg:5433/db");
        }
        let info = good("host=db.example.com,db2 hostaddr=127.0.0.1,::1 port=5433 user=u");
        assert_eq!(info.hosts[1].addr, Some("::1".parse().unwrap()));
        assert_eq!(info.hosts[1].port, 5433);
        assert_eq!(good("hostaddr=10.0.0.1").hosts[0].name, "10.0.0.1");
        let info = good("postgres://u@[fe80::1%25eth0]/db");
        assert_eq!(info.hosts[0].name, "fe80::1%eth0");
        assert_eq!(info.redacted(), "postgresql://u@[fe80::1%25eth0]:5432/db");
    }

    #[test]
    fn a_wrong_host_or_port_is_explained_but_not_repeated() {
        for (text, reason) in [
            ("postgres://u:Zq7@h:0/db", "1 to 65535"),
            ("postgres://u:Zq7@h:65536/db", "1 to 65535"),
            ("host=a,b port=1,2,3 password=Zq7", "do not match"),
            ("host=h password=Zq7 hostaddr=h", "IP address"),
            ("host=a@b user=u password=Zq7", "DNS name"),
            ("host=a,,b user=u password=Zq7", "empty element"),
        ] {
            assert_refused(text, reason);
        }
    }
}
