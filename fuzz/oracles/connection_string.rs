//! What holds of connection strings for every input: nothing shows the password.

use super::conninfo::ConnInfo;

/// A password that nothing else contains by accident.
const PASSWORD: &str = "Xk7qZ0vW3jY9";

/// Panics if the password of a connection string with `input` in it is shown, or the string is read in two ways.
pub(crate) fn check(input: &[u8]) {
    let Ok(input) = std::str::from_utf8(input) else { return };
    check_text(input);
    // the fuzzer may have learnt it, and written it where no password is
    if input.contains(PASSWORD) {
        return;
    }
    for text in [
        format!("postgresql://user:{PASSWORD}{input}"),
        format!("postgres://user:{input}{PASSWORD}@host/db"),
        format!("postgresql://user@host/db?password={PASSWORD}{input}"),
        format!("host=host user=user password={PASSWORD}{input}"),
        format!("host=host user=user password='{PASSWORD}{input}"),
    ] {
        let shown = check_text(&text);
        assert!(!shown.contains(PASSWORD), "the password is shown");
    }
}

/// Reads a connection string; returns all that is ever shown of it.
fn check_text(text: &str) -> String {
    let env = |name: &str| (name == "USER").then(|| "somebody".to_owned());
    let parsed = match ConnInfo::parse(text, &env) {
        Ok(parsed) => parsed,
        Err(error) => return format!("{error}\n{error:?}\n{}", error.full()),
    };
    let notices: Vec<String> = parsed.notes.iter().map(ToString::to_string).collect();
    let shown = format!("{parsed}\n{parsed:?}\n{}", notices.join("\n"));
    assert!(!parsed.redacted().contains(char::is_control), "a control character is shown");
    check_redacted(&parsed);
    check_scrubbed(&parsed);
    shown
}

/// The text without the password names the same server, database and user.
fn check_redacted(parsed: &ConnInfo) {
    let again = ConnInfo::parse(&parsed.redacted(), &|_| None).expect("it can be parsed again");
    let places = |of: &ConnInfo| -> Vec<_> {
        of.hosts.iter().map(|host| (host.name.clone(), host.port)).collect()
    };
    assert_eq!(places(&again), places(parsed));
    assert_eq!((&again.user, &again.database), (&parsed.user, &parsed.database));
    assert_eq!(again.password(), None);
}

/// Messages of others lose the password, however it is written there.
fn check_scrubbed(parsed: &ConnInfo) {
    let Some(password) = parsed.password() else { return };
    let public = password == parsed.user
        || password == parsed.database
        || parsed.hosts.iter().any(|host| host.name == password);
    if public || password.contains('*') {
        return;
    }
    let encoded: String = password.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let escaped: String = password.chars().flat_map(|c| ['\\', c]).collect();
    for spelling in [password, &encoded, &escaped] {
        let message = parsed.scrub(&format!("<{spelling}>"));
        assert!(message.contains("***"), "the message keeps its password");
        assert!(!message.contains(spelling), "the message keeps a password");
    }
}

/// Connection strings as people have them.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let texts = [
        "postgresql://user:secret@localhost:5432/chronicle",
        "postgres://postgres.abcdefghijklmnopqrst:p%40ss@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true",
        "postgresql://user@[fe80::1%25eth0]:5433,host2/db?sslmode=verify-full&connect_timeout=10",
        "postgresql:///db?host=/var/run/postgresql&application_name=x&options=-c%20a%3Db",
        "host=localhost port=5432 dbname=chronicle user=me password='it\\'s me' sslmode=require",
        "hostaddr=127.0.0.1,::1 host=a,b port=1,2 keepalives=1 keepalives_idle=30 target_session_attrs=any",
        "jdbc:postgresql://localhost/db?user=me&ssl=true&currentSchema=x",
        "postgresql+psycopg2://me@h/d",
        "https://abcdefghijklmnopqrst.supabase.co/rest/v1",
        "@host/db?sslmode=disable",
        "@x/y?z#w@host:5432/db",
        "' host=h2",
        "&sslmode=no-verify&schema=public",
        " sslrootcert=system sslnegotiation=direct channel_binding=require load_balance_hosts=random",
        "[YOUR-PASSWORD]@host/db",
    ];
    texts.into_iter().map(|text| text.as_bytes().to_vec()).collect()
}
