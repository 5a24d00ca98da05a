//! The environment variables that the program and its libraries read, as the help and the manual name them.

/// Variables with one purpose.
pub(super) struct Variables {
    pub(super) names: &'static [&'static str],
    /// What they are for.
    pub(super) meaning: &'static str,
    /// The commands whose help names them; none if every command reads them.
    commands: &'static [&'static str],
}

/// The commands that open databases.
const DATABASES: &[&str] =
    &["export", "import", "copy", "check", "verify", "diff", "restore", "history", "rollback"];

/// All of them; a test finds those that the code asks for.
pub(super) const ALL: &[Variables] = &[
    Variables {
        names: &["CLAUDE_HOOKS_DB_PATH"],
        meaning: "Chronicle's own file, which `export` and `copy` without a database read",
        commands: &["export", "copy"],
    },
    Variables {
        names: &["PGHOST", "PGHOSTADDR", "PGPORT", "PGUSER", "PGDATABASE"],
        meaning: "the server, the user and the database, where a connection string does not name them",
        commands: DATABASES,
    },
    Variables {
        names: &["PGPASSWORD", "SUPABASE_DB_PASSWORD", "PGPASSFILE"],
        meaning: "the password, the second one for Supabase's hosts only; the file in place of ~/.pgpass",
        commands: DATABASES,
    },
    Variables {
        names: &[
            "PGSSLMODE",
            "PGSSLROOTCERT",
            "PGSSLCRL",
            "PGSSLCERT",
            "PGSSLKEY",
            "PGCHANNELBINDING",
        ],
        meaning: "how the connection is encrypted, and what the server has to prove, as in libpq",
        commands: DATABASES,
    },
    Variables {
        names: &[
            "PGSSLNEGOTIATION",
            "PGSSLSNI",
            "PGSSLCERTMODE",
            "PGSSLMINPROTOCOLVERSION",
            "PGSSLMAXPROTOCOLVERSION",
        ],
        meaning: "details of the encryption, as in libpq",
        commands: DATABASES,
    },
    Variables {
        names: &["PGGSSENCMODE", "PGREQUIREAUTH", "PGREQUIREPEER", "PGSSLCRLDIR"],
        meaning: "refused, unless their values ask for what is done anyway: they are not supported",
        commands: DATABASES,
    },
    Variables {
        names: &["PGMINPROTOCOLVERSION", "PGMAXPROTOCOLVERSION"],
        meaning: "refused, unless they allow version 3.0 of the protocol",
        commands: DATABASES,
    },
    Variables {
        names: &["PGCONNECT_TIMEOUT", "PGTARGETSESSIONATTRS", "PGLOADBALANCEHOSTS"],
        meaning: "which of several servers to use and how long to wait for each, as in libpq",
        commands: DATABASES,
    },
    Variables {
        names: &["PGAPPNAME", "PGOPTIONS"],
        meaning: "the name of the connection and settings of its session, as in libpq",
        commands: DATABASES,
    },
    Variables {
        names: &["PGSERVICE", "PGSERVICEFILE", "PGSYSCONFDIR"],
        meaning: "a section of a service file, and where that is, as in libpq",
        commands: DATABASES,
    },
    Variables {
        names: &["TMPDIR", "SQLITE_TMPDIR"],
        meaning: "the folder for temporary files, and another one for those that SQLite itself creates",
        commands: DATABASES,
    },
    Variables {
        names: &["TZ"],
        meaning: "the time zone that an export of a SQLite file records for `--assume-tz archive`",
        commands: DATABASES,
    },
    Variables {
        names: &["HOME", "USER", "LOGNAME", "USERNAME"],
        meaning: "the home directory; the user of Postgres if nothing else names one",
        commands: &[],
    },
    Variables {
        names: &["CHRONICLE_DUMP_LOG"],
        meaning: "the file that `--log` would name",
        commands: &[],
    },
    Variables {
        names: &["COLUMNS"],
        meaning: "the width of help and of the bars of `inspect --stats`",
        commands: &["inspect"],
    },
    Variables {
        names: &["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "TERM"],
        meaning: "whether help and progress use colours",
        commands: &[],
    },
];

/// The names of those that the help of a command lists.
pub(super) fn read_by(command: &str) -> Vec<&'static str> {
    let read = ALL.iter().filter(|variables| variables.commands.contains(&command));
    read.flat_map(|variables| variables.names).copied().collect()
}
