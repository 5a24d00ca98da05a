"""The folder, the programs and the data that everything is measured with, and the commands of chronicle-dump."""

import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from . import process
from .process import found, output, quote, tell
from .server import Server

ROOT = Path(__file__).resolve().parents[2]
HOOKS = ROOT / "fixtures/databases/sqlite-hooks.sql"
UPSTREAM = ROOT / "fixtures/databases/postgres-upstream.sql"
PEERS = ROOT / "target/peers/bin/python"
# A folder of its own, so that a program that can leave checks out is never confused with the other one.
WITH_SWITCHES = ROOT / "target/bench"
# The ready rows, as text that Postgres takes, for the peers that read a SQLite file.
READY = {
    "chronicle_sessions": "id, claude_session_id, project_path, git_branch, start_time, end_time, metadata, created_at",
    "chronicle_events": "id, session_id, event_type, timestamp, metadata, tool_name, duration_ms, created_at",
}


@dataclass(frozen=True)
class Size:
    """How much an archive holds: rows, those of them that are events, decompressed bytes, bytes of the file."""

    rows: int
    events: int
    bytes: int
    compressed: int


class Workshop:
    """Owns a temporary folder and a server; both vanish with it."""

    def __init__(self, build=True):
        if build:
            build_all()
        release = ROOT / "target/release"
        self.dump, self.generate = release / "chronicle-dump", release / "examples/generate"
        # an import by it can leave steps out
        self.dump_with_switches = WITH_SWITCHES / "release/chronicle-dump"
        self.folder = Path(tempfile.mkdtemp(prefix="chronicle-dump-bench-"))
        self.folder.chmod(0o711)  # the server's user must get through to its own folder
        self.server = None

    def __enter__(self):
        try:
            server = Server(self.folder)
            server.start()
            self.server = server
            server.make_template(UPSTREAM)
        except OSError as error:
            tell(f"without Postgres: {error}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            if self.server is not None:
                self.server.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    def path(self, name):
        """A file of the folder."""
        return self.folder / name

    def remove(self, *names):
        """Removes files of the folder, with the journals of databases."""
        for name in names:
            for file in self.folder.glob(name + "*"):
                file.unlink()

    # --- the commands of chronicle-dump

    def export(self, source, to, *options):
        """To a file that nobody waits for: neither do the peers wait until the disk has theirs."""
        return f"{quote(self.dump, 'export', '-q', *options, source)} > {quote(to)}"

    def verify(self, archive, *options):
        """Reads and checks a whole archive."""
        return quote(self.dump, "verify", "-q", *options, archive)

    def import_sqlite(self, archive, to, *options, program=None):
        """Into a SQLite file; `--create` makes it."""
        return quote(program or self.dump, "import", "-q", archive, "--to", to, *options)

    def import_postgres(self, archive, *options, program=None, database="bench"):
        """Into a database with upstream's tables."""
        return quote(program or self.dump, "import", "-q", archive, *self.into_postgres(database), *options)

    def copy_postgres(self, source):
        """The same from a database."""
        return quote(self.dump, "copy", "-q", "--from", source, *self.into_postgres("bench"))

    @staticmethod
    def into_postgres(database):
        """Options of whatever loads into a database on the server; the generator's times have no zone."""
        return "--to", Server.url(database), "--assume-tz=-07:00", "--on-unrepresentable", "adapt"

    # --- the data

    def generated(self, name, sessions, events, seed=1):
        """A new SQLite database in the layout of Chronicle's hooks."""
        self.remove(name)
        tell(f"generating {sessions} sessions, {events} events")
        output(self.generate, self.path(name), "--sessions", sessions, "--events", events, "--seed", seed)
        return self.path(name)

    def archived(self, database, name, *options):
        """The archive of a database."""
        process.run(self.export(database, self.path(name), *options))
        return self.path(name)

    def size(self, archive):
        """How much an archive holds."""
        told = json.loads(output(self.dump, "verify", "--json", archive))
        return Size(sum(told["rows"].values()), told["rows"].get("events", 0), told["bytes"], told["compressed_bytes"])

    def ready_rows(self):
        """What an import has left in `bench`, once more as binary files of psql and, by sqlite3, as a SQLite file."""
        self.remove("ready.db")
        for table, columns in READY.items():
            rows = f"\\copy (SELECT {columns} FROM {table}) TO"
            self.server.ask("bench", f"{rows} '{self.path(table + '.bin')}' (FORMAT binary)")
            if found("sqlite3"):
                text = self.path(f"{table}.csv")
                self.server.ask("bench", f"{rows} '{text}' (FORMAT csv)")
                self.ready_table(table, columns, text)
                text.unlink()

    def ready_table(self, table, columns, text):
        """A table of the SQLite file: an empty field is NULL, and every value is text."""
        values = columns.replace(", ", ", ''), nullif(")
        output("sqlite3", self.path("ready.db"), f"CREATE TABLE raw ({columns})", f".import --csv {text} raw",
               f"CREATE TABLE {table} ({columns.replace(',', ' TEXT,')} TEXT)",
               f"INSERT INTO {table} SELECT nullif({values}, '') FROM raw", "DROP TABLE raw")


def modules():
    """The peers that are modules of Python, with their versions; those that are not installed have none."""
    versions = {}
    for name, package in (("duckdb", "duckdb"), ("psycopg2", "psycopg2-binary")):
        asked = f"import {name}; from importlib.metadata import version; print(version('{package}'))"
        try:
            done = subprocess.run([PEERS, "-c", asked], capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            continue
        versions[name] = done.stdout.strip()
    return versions


def build_all():
    """The released program, the generator, and the program for measuring what the checks cost."""
    tell("building")
    os.chdir(ROOT)
    cargo = ("cargo", "build", "--release", "--locked", "--quiet", "--bin", "chronicle-dump")
    output(*cargo, "--example", "generate")
    output(*cargo, "--features", "bench", "--target-dir", WITH_SWITCHES)
