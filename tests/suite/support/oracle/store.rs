//! Databases of one layout whose rows can be read cell by cell.

use super::*;

/// The streams that every layout has.
pub(crate) const STREAMS: [&str; 2] = ["sessions", "events"];
/// How far east of Greenwich times without a zone were written, in seconds.
pub(crate) const EAST: i128 = 7200;

/// A value as a database's own client shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    /// SQLite's storage class, or the type in Postgres.
    pub(crate) class: String,
    /// Its bytes, of a number its text; None is NULL.
    pub(crate) bytes: Option<Vec<u8>>,
}

impl Cell {
    pub(crate) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes.as_deref()?).ok()
    }
}

/// A row by the logical names of its columns.
pub(crate) type Row = BTreeMap<String, Cell>;

/// A column of a table.
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) physical: String,
    pub(crate) ty: String,
    pub(crate) not_null: bool,
}

/// A database of a layout.
pub(crate) struct Store {
    pub(crate) choice: Choice,
    pub(super) place: Place,
    pub(super) folder: TempDir,
    pub(super) columns: Mutex<BTreeMap<String, Arc<[Column]>>>,
}

pub(super) enum Place {
    File(PathBuf),
    Server(Database),
}

impl Store {
    /// Nothing yet: a layout is made there by an import.
    pub(crate) fn empty(name: &str) -> Store {
        let choice = layout::choices().unwrap().into_iter().find(|c| c.name == name).unwrap();
        let folder = workdir(name);
        let place = match choice.layout.backend {
            Backend::Sqlite => Place::File(folder.path().join("it.db")),
            Backend::Postgres => Place::Server(Cluster::get().database(name)),
        };
        Store { choice, place, folder, columns: Mutex::default() }
    }

    /// The tables of a layout, without rows and without triggers, which would change what is put in.
    pub(crate) fn made(name: &str) -> Store {
        let store = Store::empty(name);
        let ddl = store.choice.layout.ddl().unwrap();
        match &store.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                database.execute_batch(ddl).unwrap();
                let mut found = database
                    .prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'")
                    .unwrap();
                let triggers: Vec<String> =
                    found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
                for side in store.sides() {
                    database.execute_batch(&format!("DROP TABLE {side}")).unwrap();
                }
                for trigger in triggers {
                    database.execute_batch(&format!("DROP TRIGGER {trigger}")).unwrap();
                }
            }
            Place::Server(database) => {
                database.psql(ddl);
                for side in store.sides() {
                    database.psql(&format!("DROP TABLE {side}"));
                }
                for stream in STREAMS {
                    let table = &store.stream(stream).table;
                    database.psql(&format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
                }
            }
        }
        store
    }

    /// The tables that only a layout itself has, those first that refer to others.
    pub(super) fn sides(&self) -> Vec<&str> {
        let streams = self.choice.layout.streams.iter().rev();
        let sides = streams.filter(|s| {
            !STREAMS.contains(&s.name.as_str()) && s.name != "users" && s.name != "audit_log"
        });
        sides.map(|s| s.table.as_str()).collect()
    }

    /// Takes everything away again.
    pub(crate) fn clear(&self) {
        match &self.place {
            Place::File(path) => drop(fs::remove_file(path)),
            Place::Server(database) => {
                database.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
            }
        }
    }

    /// Forgets which columns it has: an import may have added some.
    pub(crate) fn forget(&self) {
        self.columns.lock().unwrap().clear();
    }

    /// What the command line calls it.
    pub(crate) fn url(&self) -> String {
        match &self.place {
            Place::File(path) => path.to_str().unwrap().to_owned(),
            Place::Server(database) => database.url(),
        }
    }

    pub(crate) fn backend(&self) -> Backend {
        self.choice.layout.backend
    }

    /// A file next to it.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A stream of its layout.
    pub(crate) fn stream(&self, name: &str) -> &LayoutStream {
        self.choice.layout.streams.iter().find(|s| s.name == name).unwrap()
    }

    /// Runs statements one by one, and leaves out those that the database refuses.
    pub(crate) fn try_each(&self, statements: &[String]) {
        match &self.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                database.pragma_update(None, "foreign_keys", "off").unwrap();
                database.execute_batch("BEGIN").unwrap();
                for sql in statements {
                    let _ = database.execute_batch(sql);
                }
                database.execute_batch("COMMIT").unwrap();
            }
            Place::Server(database) => {
                let mut all = String::new();
                for sql in statements {
                    writeln!(
                        all,
                        "DO $do$ BEGIN {sql}; EXCEPTION WHEN OTHERS THEN NULL; END $do$;"
                    )
                    .unwrap();
                }
                database.psql(&all);
            }
        }
    }

    /// The columns of a stream's table, as they were when it was first asked.
    pub(crate) fn columns(&self, stream: &str) -> Arc<[Column]> {
        let mut known = self.columns.lock().unwrap();
        Arc::clone(known.entry(stream.to_owned()).or_insert_with(|| self.find_columns(stream)))
    }

    pub(super) fn find_columns(&self, stream: &str) -> Arc<[Column]> {
        let said = self.stream(stream);
        let found: Vec<(String, String, bool)> = match &self.place {
            Place::File(path) => {
                let database = Connection::open(path).unwrap();
                let mut query = database
                    .prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)")
                    .unwrap();
                let rows = query
                    .query_map([&said.table], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
                    .unwrap();
                rows.map(Result::unwrap).collect()
            }
            Place::Server(database) => {
                let sql = format!(
                    "SELECT a.attname, t.typname, a.attnotnull FROM pg_attribute a \
                     JOIN pg_type t ON t.oid = a.atttypid \
                     WHERE a.attrelid = '{}'::regclass AND a.attnum > 0 ORDER BY a.attnum",
                    said.table
                );
                let text = |cell: &Option<String>| cell.clone().unwrap_or_default();
                let rows = database.rows(&sql).into_iter();
                rows.map(|r| (text(&r[0]), text(&r[1]), text(&r[2]) == "t")).collect()
            }
        };
        let named = |(physical, ty, not_null): (String, String, bool)| Column {
            name: said.logical(&physical),
            physical,
            ty,
            not_null,
        };
        found.into_iter().map(named).collect()
    }

    /// The rows of a stream's table. A `jsonb` object is also given without the reserved key, under the
    /// column's name with a `-`.
    pub(crate) fn rows(&self, stream: &str) -> Vec<Row> {
        let columns = self.columns(stream);
        let table = &self.stream(stream).table;
        match &self.place {
            Place::File(path) => {
                let names: Vec<String> =
                    columns.iter().map(|c| format!("\"{}\"", c.physical)).collect();
                let database = Connection::open(path).unwrap();
                let sql = format!("SELECT {} FROM {table}", names.join(", "));
                let mut query = database.prepare(&sql).unwrap();
                let mut found = query.query([]).unwrap();
                let mut rows = Vec::new();
                while let Some(row) = found.next().unwrap() {
                    let cell = |n: usize| of_sqlite(row.get_ref(n).unwrap());
                    rows.push(
                        columns
                            .iter()
                            .enumerate()
                            .map(|(n, c)| (c.name.clone(), cell(n)))
                            .collect(),
                    );
                }
                rows
            }
            Place::Server(database) => {
                let mut each = Vec::new();
                let mut names = Vec::new();
                for c in columns.iter() {
                    each.push(format!("\"{}\"::text", c.physical));
                    names.push((c.name.clone(), c.ty.clone()));
                    if c.ty == "jsonb" {
                        each.push(format!(
                            "CASE jsonb_typeof(\"{0}\") WHEN 'object' \
                             THEN \"{0}\" - 'chronicle_dump' ELSE \"{0}\" END::text",
                            c.physical
                        ));
                        names.push((format!("{}-", c.name), c.ty.clone()));
                    }
                }
                let sql = format!(
                    "SET TimeZone = 'UTC'; SET extra_float_digits = 3; SELECT {} FROM {table}",
                    each.join(", ")
                );
                let cell = |((name, ty), value): (&(String, String), Option<String>)| {
                    (name.clone(), Cell { class: ty.clone(), bytes: value.map(String::into_bytes) })
                };
                let rows = database.rows(&sql).into_iter();
                rows.map(|row| names.iter().zip(row).map(cell).collect()).collect()
            }
        }
    }
}

pub(super) fn of_sqlite(value: ValueRef<'_>) -> Cell {
    let (class, bytes) = match value {
        ValueRef::Null => ("null", None),
        ValueRef::Integer(v) => ("integer", Some(v.to_string().into_bytes())),
        ValueRef::Real(v) => ("real", Some(format!("{v:?}").into_bytes())),
        ValueRef::Text(bytes) => ("text", Some(bytes.to_vec())),
        ValueRef::Blob(bytes) => ("blob", Some(bytes.to_vec())),
    };
    Cell { class: class.into(), bytes }
}

/// What a time column's texts mean without a zone: by the layout that they come from.
pub(crate) fn zoneless(stream: &LayoutStream, column: &Column) -> Option<Zoneless> {
    stream.column(&column.physical).and_then(|said| said.instant)
}
