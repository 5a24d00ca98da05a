"""How long a hook that writes an event waits while a batch runs: an import into its database, and the rollback."""

import sqlite3
import subprocess
import threading
import time
import uuid
from statistics import median

from . import process
from .process import Failed, quote, tell
from .report import plain_table
from .workshop import HOOKS

# Hooks write one event after the other, with this much time in between.
PAUSE = 0.02
# They wait longer than any batch takes: it is the wait that is measured.
PATIENCE = 600
SESSION = str(uuid.UUID(int=1))


def table(shop):
    """One row for every kind of database."""
    kinds = [FileHook(shop, "delete"), FileHook(shop, "wal")] + ([ServerHook(shop)] if shop.server else [])
    rows = []
    for kind in kinds:
        tell(f"hooks that write into {kind.name}")
        kind.prepare()
        for what, command in (("import", kind.load), ("rollback", kind.back)):
            run, waits = while_it_runs(kind, command)
            rows.append((f"{what}, {kind.name}", f"{run:.2f} s", f"{len(waits):,}", f"{median(waits) * 1000:.1f} ms",
                         f"{max(waits):.2f} s"))
        kind.remove()
    return plain_table(("while a batch runs", "it takes", "events of hooks", "wait, median", "wait, longest"), rows)


def while_it_runs(kind, command):
    """The time of a command, and how long each event of a hook waited meanwhile; all of them must be there."""
    waits, failures, ended = [], [], threading.Event()
    before = kind.count()

    def write():
        try:
            with kind.opened() as hook:
                while not ended.is_set():
                    start = time.perf_counter()
                    hook.write()
                    waits.append(time.perf_counter() - start)
                    time.sleep(PAUSE)
        except (sqlite3.Error, OSError) as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seconds = process.run(command).seconds
    finally:
        ended.set()
        writer.join()
    if failures or kind.count() != before + len(waits):
        raise Failed(f"{kind.name}: {before} events, {len(waits)} more, now {kind.count()}: {failures}")
    return seconds, waits


class FileHook:
    """A hook that writes into a SQLite file, in one of the journal modes."""

    def __init__(self, shop, journal):
        self.shop, self.journal, self.name = shop, journal, f"SQLite, journal `{journal}`"
        self.file = shop.path("hooked.db")
        self.load = shop.import_sqlite(shop.path("ours.zst"), self.file)
        self.back = quote(shop.dump, "rollback", "-q", "last", "--from", self.file)

    def prepare(self):
        """A file with the tables, one session and nothing else."""
        self.shop.remove("hooked.db")
        with sqlite3.connect(self.file) as database:
            database.executescript(HOOKS.read_text())
            database.execute(f"PRAGMA journal_mode = {self.journal}")
            database.execute("INSERT INTO sessions (id, claude_session_id, start_time) VALUES (?, 'hook', '2025-01-01')",
                             [SESSION])
        database.close()

    def opened(self):
        """An open hook."""
        return FileWriter(self.file)

    def count(self):
        """How many events of hooks there are."""
        with sqlite3.connect(self.file, timeout=PATIENCE) as database:
            return database.execute("SELECT count(*) FROM events WHERE session_id = ?", [SESSION]).fetchone()[0]

    def remove(self):
        """Leaves nothing behind."""
        self.shop.remove("hooked.db")


class FileWriter:
    """A connection that writes one event in each transaction."""

    def __init__(self, file):
        self.database = sqlite3.connect(file, timeout=PATIENCE, isolation_level=None)

    def write(self):
        """Writes one event."""
        self.database.execute("INSERT INTO events (id, session_id, event_type, timestamp, data) "
                              "VALUES (?, ?, 'stop', '2025-01-01T00:00:00', '{}')", [str(uuid.uuid4()), SESSION])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.database.close()


class ServerHook:
    """A hook that writes into Postgres."""

    name = "Postgres"

    def __init__(self, shop):
        self.shop, self.server = shop, shop.server
        self.load = shop.import_postgres(shop.path("ours.zst"), database="hooked")
        self.back = quote(shop.dump, "rollback", "-q", "last", "--from", self.server.url("hooked"))

    def prepare(self):
        """A database with the tables and one session."""
        self.server.fresh("hooked")
        self.server.ask("hooked", "INSERT INTO chronicle_sessions (id, claude_session_id, start_time, project_path) "
                                  f"VALUES ('{SESSION}', 'hook', '2025-01-01', '/')")

    def opened(self):
        """An open hook."""
        return ServerWriter()

    def count(self):
        """How many events of hooks there are."""
        return int(self.server.ask("hooked", f"SELECT count(*) FROM chronicle_events WHERE session_id = '{SESSION}'"))

    def remove(self):
        """Leaves nothing behind."""
        process.output("dropdb", "--if-exists", "--force", "hooked")


class ServerWriter:
    """A session of psql that writes one event in each transaction."""

    def __init__(self):
        self.psql = subprocess.Popen(["psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", "hooked"], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True)

    def write(self):
        """Writes one event, and waits until psql says so."""
        self.psql.stdin.write("INSERT INTO chronicle_events (session_id, event_type, timestamp) "
                              f"VALUES ('{SESSION}', 'stop', '2025-01-01') RETURNING 1;\n")
        self.psql.stdin.flush()
        if self.psql.stdout.readline().strip() != "1":
            raise OSError("psql has written no event")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.psql.stdin.close()
        self.psql.wait()
