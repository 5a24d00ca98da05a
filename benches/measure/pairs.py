"""The paired table: what chronicle-dump does, the peers that do the same, and how they are run in turn."""

import os
from dataclasses import dataclass, field
from statistics import median
from typing import Callable

from . import fingerprint, process
from .process import found, quote, tell, zstd
from .workshop import HOOKS, PEERS, READY, ROOT, Size, modules


def nothing():
    """What is done before or asked after a run where there is nothing to do."""


@dataclass
class Side:
    """One way to do a piece of work."""

    name: str
    command: str
    # What it needs to run; without it, it is reported as not run.
    installed: bool = True
    # The most that ours may take of the time of this peer.
    goal: float | None = None
    runs: list[process.Run] = field(default_factory=list)
    # It was run and failed: that is reported, and it is not run again.
    failed: bool = False

    def missing(self):
        """Why there is nothing to compare with, if so."""
        return "not run: not installed" if not self.installed else "failed" if self.failed else ""

    def seconds(self):
        """The median of its times."""
        return median(run.seconds for run in self.runs)

    def peak(self):
        """The largest of its peaks in bytes."""
        return max(run.peak for run in self.runs)


@dataclass
class Work:
    """A piece of work, as chronicle-dump does it and as its peers do it."""

    what: str
    ours: Side
    peers: list[Side]
    # Ours with an option that is not the default, named by it: each is compared with every peer, too.
    variants: list[Side] = field(default_factory=list)
    # Brings everything into the state that every run finds.
    prepare: Callable[[], object] = nothing
    # What a run has left behind, the same words for the same rows; the number of the round is given.
    outcome: Callable[[int], object] | None = None
    # The most memory that ours may hold, in MiB.
    memory: int | None = None
    # How much is moved.
    size: Size | None = None

    def sides(self):
        """Everyone who can run."""
        return [self.ours, *self.variants] + [peer for peer in self.peers if not peer.missing()]


@dataclass(frozen=True)
class Ratio:
    """Ours to a peer, over the pairs."""

    middle: float
    least: float
    most: float


def ratio(ours, peer):
    """The ratio of every pair, and of these the median, the least and the most."""
    pairs = [a.seconds / b.seconds for a, b in zip(ours.runs, peer.runs, strict=True)]
    return Ratio(median(pairs), min(pairs), max(pairs))


def run_in_turn(work, pairs):
    """Runs everyone once, then everyone again: what changes on the machine meanwhile changes for all of them."""
    for number in range(pairs):
        expected = None
        for side in work.sides():
            tell(f"{work.what}: {side.name}, {number + 1} of {pairs}")
            work.prepare()
            try:
                side.runs.append(process.run(side.command))
            except process.Failed as error:
                if side not in work.peers:
                    raise
                tell(f"failed: {error}")
                side.failed = True
                continue
            if work.outcome is None:
                continue
            outcome = work.outcome(number)
            expected = expected or outcome
            if outcome != expected:
                raise SystemExit(f"benches/run: {side.name} has left other rows:\n{outcome}\nexpected:\n{expected}")


# --- the works


def goals(shop, name):
    """Every row of the table, over the database `name`. A generator: data are made when the rows before are done."""
    source, archive, lines = shop.path(name), shop.path("ours.zst"), shop.path("lines.ndjson")
    shop.archived(source, "ours.zst", "--reproducible")
    if found("zstd"):
        process.run(zstd("-d", archive, "-o", lines))
    yield export_sqlite(shop, source, lines)
    yield verify(shop, archive)
    shop.remove("lines.ndjson")
    yield import_sqlite(shop, source, archive)
    shop.remove("copy.db", "peer.zst", "dump.sql.zst")
    if shop.server is None:
        return
    shop.server.fresh()
    process.run(shop.import_postgres(archive))
    yield export_postgres(shop, archive)
    shop.remove("back.zst", "peer.zst")
    shop.ready_rows()
    yield import_postgres(shop, archive)
    yield copy_postgres(shop, source)
    yield import_in_groups(shop, archive)
    shop.remove("ready.db", "chronicle_sessions.bin", "chronicle_events.bin")


def export_sqlite(shop, source, lines):
    """An export is right if its lines are those that the peer compresses."""
    ours, peer = shop.path("export.zst"), shop.path("peer.zst")

    def same_lines(number):
        if number == 0 and lines.exists() and ours.exists():
            process.run(f"{zstd('-dc', ours)} | {quote('cmp', '-', lines)}")
        return True

    return Work(
        "export from SQLite",
        Side("chronicle-dump", shop.export(source, ours, "--level", 3, "--reproducible")),
        [
            Side("`zstd -3 -T2` of the same lines, ready made", zstd("-3", "-T2", lines, "-o", peer),
                 found("zstd"), 1.10),
            Side("`sqlite3 .dump \\| zstd -3`",
                 f"{quote('sqlite3', source, '.dump')} | {zstd('-3', '-o', peer)}",
                 found("sqlite3") and found("zstd"), 0.65),
        ],
        prepare=lambda: shop.remove("export.zst", "peer.zst"),
        outcome=same_lines,
        memory=48,
    )


def verify(shop, archive):
    """Reading all of an archive."""
    return Work(
        "verify",
        Side("chronicle-dump", shop.verify(archive)),
        [
            Side("`zstd -t`", zstd("-t", archive), found("zstd"), 1.15),
            Side("`zstd -dc \\| sha256sum`", f"{zstd('-dc', archive)} | sha256sum",
                 found("zstd") and found("sha256sum"), 0.32),
        ],
        memory=48,
    )


def import_sqlite(shop, source, archive):
    """Into a new file with Chronicle's indexes. All must leave the same rows and as many indexes."""
    copy, dump, script = shop.path("copy.db"), shop.path("dump.sql.zst"), shop.path("select.sql")
    # the condition keeps SQLite from copying whole pages, which no import of rows can do; the cache is that of ours
    script.write_text(
        f"PRAGMA cache_size = -65536;\nATTACH '{source}' AS source;\nBEGIN;\n{HOOKS.read_text()}\n"
        "INSERT INTO main.sessions SELECT * FROM source.sessions WHERE rowid > 0;\n"
        "INSERT INTO main.events SELECT * FROM source.events WHERE rowid > 0;\nCOMMIT;\n"
    )
    if found("sqlite3") and found("zstd"):
        process.run(f"{quote('sqlite3', source, '.dump')} | {zstd('-3', '-o', dump)}")
    return Work(
        "import into a new SQLite file",
        Side("chronicle-dump", shop.import_sqlite(archive, copy, "--create")),
        [
            Side("`sqlite3`: INSERT … SELECT from an attached file", f"{quote('sqlite3', copy)} < {quote(script)}",
                 found("sqlite3"), 1.35),
            Side("`zstd -dc dump.sql.zst \\| sqlite3`", f"{zstd('-dc', dump)} | {quote('sqlite3', copy)}",
                 found("sqlite3") and found("zstd"), 0.35),
        ],
        prepare=lambda: shop.remove("copy.db"),
        outcome=lambda _: fingerprint.of_sqlite(copy),
        memory=100,
    )


def export_postgres(shop, archive):
    """Out of the database that an import has filled; as many rows as that import has read."""
    back, peer = shop.path("back.zst"), shop.path("peer.zst")
    copies = [
        quote("psql", "-qX", "-d", "bench", "-c", f"COPY {table} TO STDOUT (FORMAT binary)") + " > /dev/null"
        for table in ("chronicle_sessions", "chronicle_events")
    ]

    def prepare():
        shop.remove("back.zst", "peer.zst")
        shop.server.settle()

    def all_rows(number):
        if number == 0 and back.exists():
            work.size = shop.size(back)
            if work.size.rows != shop.size(archive).rows:
                raise SystemExit("benches/run: the export from Postgres has lost rows")
        return True

    work = Work(
        "export from Postgres",
        Side("chronicle-dump", shop.export(shop.server.url(), back)),
        [
            Side("`psql` COPY … TO STDOUT (FORMAT binary) > /dev/null", " && ".join(copies), goal=1.35),
            Side("`pg_dump \\| zstd -3 -T2`", f"{quote('pg_dump', 'bench')} | {zstd('-3', '-T2', '-o', peer)}",
                 found("zstd"), 0.90),
        ],
        prepare=prepare,
        outcome=all_rows,
        memory=48,
    )
    return work


def import_postgres(shop, archive):
    """Into upstream's empty tables with their keys, checks and indexes. All must leave the same rows."""
    server, ready = shop.server, shop.path("ready.db")
    copies = [
        word
        for table, columns in READY.items()
        for word in ("-c", f"\\copy {table} ({columns}) from '{shop.path(table + '.bin')}' (format binary)")
    ]
    versions, lz4 = modules(), "--toast-compression lz4"
    return Work(
        "import into Postgres",
        Side("chronicle-dump", shop.import_postgres(archive)),
        [
            Side("`psql` \\copy of the ready rows, binary", quote("psql", "-qX", "-1", "-d", "bench", *copies),
                 goal=1.00),
            Side("pgloader", pgloader(shop.path("pgloader.load"), ready), found("pgloader") and ready.exists(), 0.80),
            Side("DuckDB: INSERT … SELECT from SQLite", peer("peer_duckdb.py", ready),
                 "duckdb" in versions and ready.exists(), 0.90),
            Side("psycopg2: execute_values, batches of 100", peer("peer_psycopg2.py", ready),
                 "psycopg2" in versions and ready.exists(), 0.45),
        ],
        variants=[Side(lz4, shop.import_postgres(archive, *lz4.split()))],
        prepare=server.fresh,
        outcome=lambda number: fingerprint.of_postgres(server, payloads=number == 0),
        memory=48,
    )


def copy_postgres(shop, source):
    """From SQLite into upstream's empty tables, in one process and in two. Both must leave the same rows."""
    return Work(
        "copy from SQLite into Postgres",
        Side("chronicle-dump", shop.copy_postgres(source)),
        [Side("`export \\| import`", f"{quote(shop.dump, 'export', '-q', source)} | {shop.import_postgres('-')}",
              goal=1.02)],
        prepare=shop.server.fresh,
        outcome=lambda number: fingerprint.of_postgres(shop.server, payloads=number == 0),
        memory=96,
    )


def import_in_groups(shop, archive):
    """Into upstream's empty tables by two connections, by one that commits in groups, and in one transaction."""
    return Work(
        "import into Postgres, `--jobs 2`",
        Side("chronicle-dump", shop.import_postgres(archive, "--jobs", "2")),
        [Side("`--jobs 1`", shop.import_postgres(archive, "--jobs", "1")),
         Side("one transaction", shop.import_postgres(archive))],
        prepare=shop.server.fresh,
        outcome=lambda number: fingerprint.of_postgres(shop.server, payloads=number == 0),
        memory=96,
    )


def peer(script, ready):
    """A peer that is a Python script."""
    return quote(PEERS, ROOT / "benches/measure" / script, ready, "bench")


def pgloader(file, ready):
    """One table after the other: an event needs its session. With more rows at once its heap is too small."""
    url = "postgresql://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/bench?sslmode=disable".format(**os.environ)
    file.touch(mode=0o600)
    file.write_text("\n".join(
        f"LOAD DATABASE FROM sqlite://{ready} INTO {url} WITH data only, prefetch rows = 5000 "
        f"INCLUDING ONLY TABLE NAMES LIKE '{table}';" for table in READY))
    return quote("pgloader", "--quiet", "--on-error-stop", file)


def archive_size(shop, size):
    """The bytes of an archive compared with those of one frame of the same lines, as a sentence."""
    if not found("zstd"):
        return "Archive size: not run: zstd is not installed\n"
    one, lines = shop.path("one.zst"), zstd("-dc", shop.path("ours.zst"))
    process.run(f"{lines} | {zstd('-3', '--single-thread', '-o', one)}")
    quotient = size.compressed / one.stat().st_size
    shop.remove("one.zst")
    return (f"Archive size at level 3: {size.compressed:,} bytes, {quotient:.3f} × those of `zstd -3` in one frame; "
            f"the goal is ≤ 1.02.\n")
