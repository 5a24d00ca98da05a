//! Refusals of what is almost a connection string, and the advice that all refusals share.

use percent_encoding::percent_decode_str;

use crate::error::{Code, Error};

/// How to give a password without thinking about encoding.
pub(super) const KEEP_PASSWORD_OUT: &str = "leave the password out of the string and put it, \
                                            unencoded, into PGPASSWORD or a --password-file FILE";

/// The two forms of a connection string.
pub(super) const FORMS: &str = "write postgresql://USER@HOST:5432/DATABASE or \
                     \"host=HOST port=5432 dbname=DATABASE user=USER\"";

/// A refusal of what the user typed.
pub(super) fn usage(message: impl Into<String>) -> Error {
    Error::new(Code::Usage, message)
}

/// True if the text can be the scheme of a URL (`jdbc:postgresql` included).
pub(super) fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.:".contains(c))
}

/// True for `postgresql+psycopg2` and the like.
pub(super) fn is_driver_scheme(scheme: &str) -> bool {
    scheme.starts_with("postgres+") || scheme.starts_with("postgresql+")
}

/// True for any JDBC URL.
pub(super) fn is_jdbc(text: &str) -> bool {
    text.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("jdbc:"))
}

pub(super) fn jdbc() -> Error {
    usage("this is a JDBC URL, expected a PostgreSQL one").hint(
        "leave `jdbc:` out: postgresql://HOST:5432/DATABASE?user=USER, with the password in \
         PGPASSWORD or --password-file FILE",
    )
}

/// Why a URL with another scheme is refused; `rest` is what follows `://`.
pub(super) fn other_scheme(scheme: &str, rest: &str) -> Error {
    match scheme {
        "http" | "https" => web_address(rest),
        _ if scheme.starts_with("jdbc:postgres") => jdbc(),
        _ if is_driver_scheme(scheme) => {
            usage("this is an SQLAlchemy URL that names a driver, expected a PostgreSQL one")
                .hint("leave `+` and the driver out: postgresql://USER@HOST:5432/DATABASE")
        }
        "sqlite" | "sqlite3" | "file" => usage("this is the URL of a file, not of a server")
            .hint("give the path of the SQLite file itself"),
        "mysql" | "mariadb" => {
            usage("this is a MySQL URL; only PostgreSQL and SQLite are supported").hint(FORMS)
        }
        _ => usage("this is not a PostgreSQL URL").hint(FORMS),
    }
}

/// The refusal of a web address; for a Supabase project it says where its database is.
fn web_address(rest: &str) -> Error {
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let host = host.rsplit('@').next().unwrap_or("").to_ascii_lowercase();
    if !host.contains("supabase") {
        return usage("this is the address of a web page, not of a database").hint(FORMS);
    }
    // A project reference is public and easy to recognise; nothing else is repeated.
    let is_ref = |word: &&str| word.len() == 20 && word.bytes().all(|b| b.is_ascii_lowercase());
    let path = rest.split(['?', '#']).next().unwrap_or("");
    let reference = match host.split('.').find(is_ref) {
        Some(word) => word,
        None => path.split('/').skip(1).find(is_ref).unwrap_or("PROJECT"),
    };
    usage("this is the address of a Supabase project's API or dashboard, not of its database").hint(
        format!(
            "in the dashboard press Connect, choose \"Session pooler\" and paste that string: \
             postgresql://postgres.{reference}@aws-0-REGION.pooler.supabase.com:5432/postgres, \
             with the database password in PGPASSWORD or --password-file FILE; the service_role or \
             secret key is not the database password"
        ),
    )
}

/// True for `[YOUR-PASSWORD]`, `<password>` and the like.
pub(super) fn is_placeholder(password: &str) -> bool {
    // It may be encoded twice, or encoded where nothing is decoded.
    let decoded = percent_decode_str(password).decode_utf8_lossy();
    let inner = [('[', ']'), ('<', '>'), ('{', '}')]
        .iter()
        .find_map(|(open, close)| decoded.strip_prefix(*open)?.strip_suffix(*close));
    let words = [
        "PASSWORD",
        "YOUR_PASSWORD",
        "DB_PASSWORD",
        "YOUR_DB_PASSWORD",
        "DATABASE_PASSWORD",
        "YOUR_DATABASE_PASSWORD",
    ];
    inner.is_some_and(|inner| {
        let word = inner.to_ascii_uppercase().replace(['-', ' '], "_");
        words.contains(&word.as_str())
    })
}

/// The refusal of a placeholder found at `place`.
pub(super) fn placeholder(place: &str) -> Error {
    usage(format!("{place}: the password is still the placeholder of the example")).hint(
        "replace it with the database password (in Supabase's dashboard it is set and reset under \
         Project Settings, Database), or remove the placeholder and its ':' and put the password \
         into PGPASSWORD or a --password-file FILE, where nothing needs percent-encoding",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use crate::error::Code;
    use crate::postgres::conninfo::ConnInfo;
    use crate::postgres::conninfo::testing::{env, good, refusal};

    #[test]
    fn a_placeholder_is_refused_wherever_a_password_can_be() {
        for text in [
            "postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres",
            "postgresql://postgres:%5BYOUR-PASSWORD%5D@db.abc.supabase.co:5432/postgres",
            "postgresql://postgres:<password>@h/d",
            "postgresql://postgres:[PASSWORD]@h/d",
            "postgresql://postgres@h/d?password=[YOUR_PASSWORD]",
            "host=h user=u password=[YOUR-PASSWORD]",
        ] {
            let message = refusal(text);
            assert!(message.contains("placeholder") && message.contains("PGPASSWORD"), "{message}");
            assert!(message.contains("Project Settings, Database"), "{message}");
        }
        let mut info = good("postgres://u@h/d");
        let vars = env(&[("PGPASSWORD", "[your-password]")]);
        assert_eq!(info.find_password(None, &vars, None).unwrap_err().code(), Code::Usage);
        assert!(info.find_password(Some("<PASSWORD>".into()), &vars, None).is_err());
        assert!(
            refusal("postgres://postgres:x@db.[YOUR-PROJECT-REF].supabase.co/d")
                .contains("placeholder")
        );
        assert_eq!(good("postgres://u:[real]@h/d").password(), Some("[real]"));
    }

    #[test]
    fn near_misses_are_refused_with_the_right_form() {
        for (text, expected) in [
            ("https://abcdefghijklmnopqrst.supabase.co", "postgres.abcdefghijklmnopqrst@"),
            (
                "https://supabase.com/dashboard/project/abcdefghijklmnopqrst",
                "postgres.abcdefghijklmnopqrst@",
            ),
            ("HTTPS://x.supabase.co/rest/v1", "service_role"),
            ("jdbc:postgresql://h/d?user=u&password=Zq7", "leave `jdbc:` out"),
            ("postgresql+psycopg2://u:Zq7@h/d", "leave `+` and the driver out"),
            ("postgres+asyncpg://u:Zq7@h/d", "leave `+` and the driver out"),
            ("mysql://u:Zq7@h/d", "only PostgreSQL and SQLite"),
        ] {
            assert!(ConnInfo::looks_like(text), "{text}");
            let message = refusal(text);
            assert!(message.contains(expected) && !message.contains("Zq7"), "{message}");
        }
        assert!(refusal("https://example.com/x").contains("web page"));
        assert!(refusal("sqlite:///x.db").contains("path"));
        assert!(refusal("redis://x").contains("not a PostgreSQL URL"));
    }
}
