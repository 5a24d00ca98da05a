"""A throwaway PostgreSQL with the server's default settings, and databases in it that are created for every run."""

import os
import random
import secrets
import shutil
import subprocess
from glob import glob
from pathlib import Path

from .process import output, tell

PLACES = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
)
NEEDED = ("initdb", "pg_ctl", "createdb", "dropdb", "psql", "pg_dump")
# The empty tables that every database of a run is a copy of.
TEMPLATE = "bench_empty"


class Server:
    """A running server; every program of PostgreSQL finds it through the environment."""

    def __init__(self, folder):
        self.programs = find_programs()
        self.home = folder / "server"
        self.home.mkdir()
        self.as_user = other_user(self.home)
        self.data = self.home / "data"
        password = secrets.token_hex(16)
        file = self.home / "password"
        file.touch(mode=0o600)
        file.write_text(password)
        shutil.chown(file, self.home.owner())
        self.control("initdb", "-D", self.data, "-U", "bench", "--pwfile", file, "-E", "UTF8",
                     "--locale=C", "--auth=scram-sha-256")
        os.environ.update(PGHOST="127.0.0.1", PGUSER="bench", PGPASSWORD=password, PGTZ="UTC",
                          PATH=f"{self.programs}:{os.environ['PATH']}")
        self.version = output("psql", "--version").split()[2]

    def make_template(self, ddl):
        """Makes the empty tables."""
        output("createdb", TEMPLATE)
        output("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", TEMPLATE, "-f", ddl)
        # chronicle-dump fires no triggers: then no peer is to be slowed down by them
        self.ask(TEMPLATE, "ALTER TABLE chronicle_events DISABLE TRIGGER USER")

    def control(self, program, *words):
        """Runs a program of the server as the server's user, from a folder that this user may enter."""
        done = subprocess.run([*self.as_user, self.programs / program, *words], cwd="/", check=False,
                              stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise OSError(f"{program}: {done.stderr.strip()}")

    def start(self):
        """Starts it on a port that is free."""
        for _ in range(5):
            port = random.randrange(20000, 40000)
            options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories="
            try:
                self.control("pg_ctl", "start", "-s", "-w", "-D", self.data, "-l", self.home / "log",
                             "-o", options)
            except OSError as error:
                tell(f"port {port}: {error}")
                continue
            os.environ["PGPORT"] = str(port)
            return
        raise OSError("the server does not start")

    def stop(self):
        """Stops it at once: nothing of it is kept."""
        self.control("pg_ctl", "stop", "-s", "-m", "immediate", "-w", "-D", self.data)

    def ask(self, database, sql):
        """What psql answers, without headings."""
        return output("psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql).strip()

    def fresh(self, database="bench", template=TEMPLATE):
        """Creates a database again and lets the server write everything to the disk."""
        output("dropdb", "--if-exists", "--force", database)
        output("createdb", "-T", template, database)
        self.settle()

    def settle(self):
        """Nothing of what was done before is left to be written by the next run."""
        self.ask("postgres", "CHECKPOINT")

    @staticmethod
    def url(database="bench"):
        """How chronicle-dump calls a database; the rest comes from the environment."""
        return f"postgresql:///{database}?host=127.0.0.1&sslmode=disable"


def find_programs():
    """The folder of the server's programs: $PG_BIN, pg_config's, or one of the usual places."""
    candidates = [os.environ.get("PG_BIN", "")]
    if shutil.which("pg_config"):
        candidates.append(output("pg_config", "--bindir").strip())
    for place in PLACES:
        candidates += sorted(glob(place), reverse=True)
    for folder in filter(None, candidates):
        if all(os.access(Path(folder) / name, os.X_OK) for name in NEEDED):
            return Path(folder)
    raise OSError("the programs of a PostgreSQL server were not found")


def other_user(home):
    """PostgreSQL refuses to run as root: the command that makes it run as somebody else, who then owns its folder."""
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        try:
            shutil.chown(home, name)
        except LookupError:
            continue
        return ["runuser", "-u", name, "--"]
    raise OSError("there is no user to run the server as")
