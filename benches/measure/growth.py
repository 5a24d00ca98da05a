"""How the cost grows with the work: one thing changes, and the time per row or per byte should not.

Every figure is the median of runs in a row: unlike the pairs, they are compared with each other across minutes.
"""

import sqlite3
from dataclasses import dataclass
from statistics import median

from . import process
from .process import quote, tell
from .report import plain_table

ROUNDS = 3
# The payloads of one size all together, so that a row of the table is as much work as the next one.
PAYLOAD_BYTES = 100_000_000


@dataclass
class Case:
    """One database, and what it is called in the table."""

    name: str
    database: str

    def file(self, ending):
        """A file that belongs to this case."""
        return f"{self.database}.{ending}"


def tables(shop, base):
    """All tables, one after the other; `base` is the smallest number of events."""
    sections = [
        ("Rows, time of a row in µs", rows(shop, base), per_row),
        ("Size of a payload, MB/s of NDJSON", payloads(shop, base), per_byte),
        ("Events of a session, time of a row in µs", sessions(shop, base), per_row),
    ]
    told = [section(shop, *s) for s in sections]
    told.append(conflicts(shop, base))
    told.append(large_table(shop, base))
    return "\n".join(told)


# --- whole ways, as the database changes


def rows(shop, base):
    """The same kind of rows, more of them."""
    for factor in (1, 5, 25):
        name = f"rows-{factor}.db"
        shop.generated(name, base * factor // 100, base * factor)
        yield Case(f"{base * factor:,} events (×{factor})", name)


def payloads(shop, base):
    """The same bytes in fewer, larger rows."""
    for size in (300, 3_000, 30_000, 300_000, 1_000_000):
        name = f"payload-{size}.db"
        shop.generated(name, 100, 1_000)
        resize(shop.path(name), size, min(PAYLOAD_BYTES, base * 2_500) // size)
        yield Case(f"{size:,} bytes", name)


def resize(path, size, count):
    """Leaves `count` events with payloads of `size` bytes, which hold words of the payloads that were there."""
    database = sqlite3.connect(path)
    text = "".join(row[0] for row in database.execute("SELECT data FROM events LIMIT 900"))
    text = "".join(c for c in text if c.isalnum() or c == " ")
    kept = database.execute("SELECT session_id, event_type, timestamp FROM events").fetchall()
    database.execute("DELETE FROM events")
    for number in range(count):
        session, kind, at = kept[number % len(kept)]
        start = number * 997 % len(text)
        piece = (text[start:] + text * (size // len(text) + 1))[: size - 12]
        database.execute(
            "INSERT INTO events (id, session_id, event_type, timestamp, data, tool_name) "
            "VALUES (?, ?, ?, ?, ?, 'Read')",
            (f"00000000-0000-4000-8000-{number:012x}", session, kind, at, f'{{"text": "{piece}"}}'),
        )
    database.commit()
    database.close()


def sessions(shop, base):
    """As many events, in more and more sessions."""
    for events in (base, 1_000, 100, 10, 1):
        name = f"sessions-{events}.db"
        shop.generated(name, max(1, base // events), base)
        yield Case(f"{events:,} to 1", name)


def section(shop, title, cases, unit):
    """Runs every way with every case, and returns the figures in the unit."""
    found, ways = [], []
    for case in cases:
        tell(f"{title}: {case.name}")
        shop.archived(shop.path(case.database), case.file("zst"))
        size = shop.size(shop.path(case.file("zst")))
        ways = ways_of(shop, case)
        seconds = [median(way(prepare, command) for _ in range(ROUNDS)) for _, prepare, command in ways]
        found.append([case.name] + [unit(size, s) for s in seconds])
        shop.remove(case.database, "copy.db", "back.zst")
    return f"**{title}**\n\n" + plain_table(["", *(name for name, _, _ in ways)], found)


def way(prepare, command):
    """The seconds of one run."""
    prepare()
    return process.run(command).seconds


def ways_of(shop, case):
    """Everything that can be done with a database: the name, what comes before, the command."""
    source, archive = shop.path(case.database), shop.path(case.file("zst"))
    copy, back = shop.path("copy.db"), shop.path("back.zst")
    ways = [
        ("export from SQLite", lambda: None, shop.export(source, back)),
        ("verify", lambda: None, shop.verify(archive)),
        ("import into SQLite", lambda: shop.remove("copy.db"), shop.import_sqlite(archive, copy, "--create")),
    ]
    if shop.server is not None:
        ways += [
            ("import into Postgres", shop.server.fresh, shop.import_postgres(archive)),
            ("export from Postgres", shop.server.settle, shop.export(shop.server.url(), back)),
        ]
    return ways


def per_row(size, seconds):
    """Microseconds for one row."""
    return f"{seconds / size.rows * 1e6:.1f}"


def per_byte(size, seconds):
    """Megabytes of NDJSON in a second."""
    return f"{size.bytes / seconds / 1e6:.0f}"


# --- imports, as the target changes


def conflicts(shop, base):
    """The same import into a target that has none, a tenth or all of its rows already."""
    shop.generated("source.db", base // 100, base)
    archive = shop.archived(shop.path("source.db"), "source.zst")
    targets = {f"{percent} %": Target(archive, f"rowid % 100 >= {percent}",
                                     f"abs(hashtext(id::text)::bigint) % 100 >= {percent}")
               for percent in (0, 10, 100)}
    return targets_table(shop, "Existing rows, time of a row in µs", archive, targets)


def large_table(shop, base):
    """The same import into an empty table, and into one that holds ten times as many other rows."""
    shop.generated("large.db", base // 10, base * 10, seed=2)
    large = shop.archived(shop.path("large.db"), "large.zst")
    archive = shop.path("source.zst")
    targets = {"empty": None, "ten times as many": Target(large, "false", "false")}
    return targets_table(shop, "Rows of others in the table, time of a row in µs", archive, targets)


@dataclass(frozen=True)
class Target:
    """What a target holds before the import: the rows of an archive without some, told in each SQL."""

    archive: object
    gone_in_sqlite: str
    gone_in_postgres: str


def targets_table(shop, title, archive, targets):
    """Imports the archive into every target, SQLite and Postgres."""
    size, found = shop.size(archive), []
    for name, target in targets.items():
        tell(f"{title}: {name}")
        row = [name, per_row(size, into_sqlite(shop, archive, target))]
        if shop.server is not None:
            row.append(per_row(size, into_postgres(shop, archive, target)))
        found.append(row)
    head = ["", "import into SQLite"] + (["import into Postgres"] if shop.server is not None else [])
    return f"**{title}**\n\n" + plain_table(head, found)


def into_sqlite(shop, archive, target):
    """The seconds of an import into a file that is made once and copied for every run."""
    model, copy = shop.path("model.db"), shop.path("copy.db")
    shop.remove("model.db")
    process.run(shop.import_sqlite(target.archive if target else archive, model, "--create"))
    database = sqlite3.connect(model)
    database.execute(f"DELETE FROM events WHERE {target.gone_in_sqlite if target else 'true'}")
    if not target:
        database.execute("DELETE FROM sessions")
    database.commit()
    database.close()

    def prepare():
        shop.remove("copy.db")
        process.run(quote("cp", model, copy))

    return median(way(prepare, shop.import_sqlite(archive, copy)) for _ in range(ROUNDS))


def into_postgres(shop, archive, target):
    """The seconds of an import into a database that is made once and copied for every run."""
    server = shop.server
    server.fresh("bench_model")
    if target:
        process.run(shop.import_postgres(target.archive, database="bench_model"))
        server.ask("bench_model", f"DELETE FROM chronicle_events WHERE {target.gone_in_postgres}")
        server.ask("bench_model", "VACUUM ANALYZE")

    def prepare():
        server.fresh(template="bench_model")

    return median(way(prepare, shop.import_postgres(archive)) for _ in range(ROUNDS))
