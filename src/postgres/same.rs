//! Whether two connection strings lead to one database, as far as that can be told without connecting.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::conninfo::{ConnInfo, Host};

/// How long names of hosts are looked up; without an answer nothing is known.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where a server listens.
#[derive(PartialEq)]
enum Address {
    Socket(PathBuf),
    Network(IpAddr, u16),
}

impl ConnInfo {
    /// Whether both name the same schema of the same database, on a server that both reach at one address. A name that
    /// is spelled differently is looked up; of other ways to one server nothing is known.
    pub async fn is_same(&self, other: &ConnInfo) -> bool {
        // Supabase's poolers have one address for all projects, which their users tell apart
        let is_told_by_user = self.hosts.iter().any(Host::is_supabase);
        if self.database != other.database
            || self.schema != other.schema
            || (is_told_by_user && self.user != other.user)
        {
            return false;
        }
        if self.hosts.iter().any(|host| other.hosts.contains(host)) {
            return true;
        }
        let both = async { (addresses(&self.hosts).await, addresses(&other.hosts).await) };
        let Ok((ours, theirs)) = tokio::time::timeout(PATIENCE, both).await else { return false };
        ours.iter().any(|address| theirs.contains(address))
    }
}

async fn addresses(hosts: &[Host]) -> Vec<Address> {
    let mut all = Vec::new();
    for host in hosts {
        match (host.socket(), host.addr) {
            (Some(socket), _) => all.push(Address::Socket(socket)),
            (None, Some(addr)) => all.push(Address::Network(addr, host.port)),
            (None, None) => {
                let found = tokio::net::lookup_host((host.name.as_str(), host.port)).await;
                let found = found.into_iter().flatten();
                all.extend(found.map(|a| Address::Network(a.ip(), a.port())));
            }
        }
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    async fn is_same(one: &str, other: &str) -> bool {
        let user = |name: &str| (name == "USER").then(|| "system".to_owned());
        let [one, other] = [one, other].map(|text| ConnInfo::parse(text, &user).unwrap());
        one.is_same(&other).await
    }

    #[tokio::test]
    async fn one_database_has_many_spellings() {
        for (one, other) in [
            ("postgres://u@127.0.0.1/d", "host=127.0.0.1 port=5432 user=v dbname=d"),
            ("postgres://u@localhost/d", "postgres://u@127.0.0.1:5432/d"),
            ("postgres://u@h/d?hostaddr=10.0.0.1", "host=10.0.0.1 dbname=d user=u"),
            ("host=/tmp dbname=d user=u", "host=/tmp dbname=d user=v"),
        ] {
            assert!(is_same(one, other).await, "{one} {other}");
        }
    }

    #[tokio::test]
    async fn other_databases_are_not_the_same() {
        let pooler = "aws-0-eu-central-1.pooler.supabase.com/postgres";
        for (one, other) in [
            ("postgres://u@127.0.0.1/d".to_owned(), "postgres://u@127.0.0.1/e".to_owned()),
            ("postgres://u@127.0.0.1/d".to_owned(), "postgres://u@127.0.0.1:5433/d".to_owned()),
            ("postgres://u@127.0.0.1/d".to_owned(), "postgres://u@127.0.0.1/d?schema=s".to_owned()),
            (
                format!("postgres://postgres.aaaa@{pooler}"),
                format!("postgres://postgres.bbbb@{pooler}"),
            ),
        ] {
            assert!(!is_same(&one, &other).await, "{one} {other}");
        }
    }
}
