//! Settings of libpq that are not met here: refused, unless their value asks for what is done anyway.

use super::lookup::Lookup;
use super::near_miss::usage;
use crate::error::Result;

/// A setting, its variable (empty if it has none), the values that ask for nothing, and what to do instead.
struct Unmet {
    key: &'static str,
    variable: &'static str,
    harmless: &'static [&'static str],
    instead: &'static str,
}

const fn unmet(
    key: &'static str,
    variable: &'static str,
    harmless: &'static [&'static str],
    instead: &'static str,
) -> Unmet {
    Unmet { key, variable, harmless, instead }
}

const SPOKEN: &[&str] = &["3.0", "3.2", "latest"];
const PASSWORD: &str = "log in by a password or a client certificate";

const ALL: &[Unmet] = &[
    unmet(
        "gssencmode",
        "PGGSSENCMODE",
        &["disable", "prefer"],
        "encrypt by TLS: sslmode=verify-full or sslmode=require",
    ),
    unmet(
        "sslcrldir",
        "PGSSLCRLDIR",
        &[],
        "put the lists of its folder into one file, and name that: sslcrl=FILE",
    ),
    unmet(
        "sslpassword",
        "",
        &[],
        "decrypt the key into a file that only you can read: openssl pkey -in KEY -out FILE",
    ),
    unmet("sslkeylogfile", "", &[], "no keys are ever written to a file"),
    unmet(
        "require_auth",
        "PGREQUIREAUTH",
        &["none,password,md5,gss,sspi,scram-sha-256,oauth"],
        "use channel_binding=require, which only SCRAM can meet",
    ),
    unmet(
        "requirepeer",
        "PGREQUIREPEER",
        &[],
        "use a socket folder that only the server's user can write to",
    ),
    unmet(
        "replication",
        "",
        &["false", "off", "no", "0"],
        "leave it out: replication is not what this is for",
    ),
    unmet(
        "min_protocol_version",
        "PGMINPROTOCOLVERSION",
        &["3.0"],
        "use 3.0: nothing of later versions is needed",
    ),
    unmet("max_protocol_version", "PGMAXPROTOCOLVERSION", SPOKEN, "use 3.0"),
    unmet("scram_client_key", "", &[], "use the password"),
    unmet("scram_server_key", "", &[], "use the password"),
    unmet("oauth_client_id", "", &[], PASSWORD),
    unmet("oauth_client_secret", "", &[], PASSWORD),
    unmet("oauth_issuer", "", &[], PASSWORD),
    unmet("oauth_scope", "", &[], PASSWORD),
];

/// The names of the settings.
pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|setting| setting.key)
}

/// Refuses a setting that would have to be ignored. Its value is not shown: it may be secret.
pub(super) fn refuse(lookup: &Lookup<'_>) -> Result<()> {
    for Unmet { key, variable, harmless, instead } in ALL {
        let Some(found) = lookup.get(key, variable) else { continue };
        if !harmless.contains(&found.value.as_str()) {
            let what = format!("{}: this setting is not supported with this value", found.place);
            return Err(usage(what).hint(format!("leave it out; {instead}")));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::postgres::conninfo::ConnInfo;
    use crate::postgres::conninfo::testing::{assert_refused, env, good, words};

    #[test]
    fn a_setting_that_is_not_obeyed_is_refused() {
        for key in keys() {
            assert_refused(&format!("host=h {key}=Zq7"), key);
        }
        for Unmet { key, variable, harmless, .. } in ALL {
            for value in *harmless {
                good(&format!("host=h {key}={value}"));
            }
            if !variable.is_empty() {
                let vars = env(&[(variable, "Zq7")]);
                let refused = words(&ConnInfo::parse("host=h", &vars).unwrap_err());
                assert!(refused.contains(variable) && !refused.contains("Zq7"), "{refused}");
            }
        }
    }
}
