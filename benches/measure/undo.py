"""What it costs that a batch can be undone: imports with receipts and without, rollbacks, and the size of receipts."""

import json
import shutil
import sqlite3
from statistics import median

from . import pairs, process, report
from .pairs import Side, Work, ratio
from .process import output, quote, tell

# Ours with receipts to the same without: new rows, and rows that all get other values.
GOAL_NEW, GOAL_UPDATES = 1.15, 1.5
# A rollback to its import.
GOAL_BACK = 1.0
# Receipts to the archive: of new rows, and of rows that were changed, to the archive of what they were.
GOAL_SIZE_NEW, GOAL_SIZE_UPDATES = 0.05, 1.1


def table(shop, runs):
    """One row for every measure of each kind of database."""
    edited(shop)
    rows = []
    for target in [File(shop)] + ([Server(shop)] if shop.server else []):
        for what, archive, prepare, options, goal in (
            ("new rows", "ours.zst", target.empty, (), GOAL_NEW),
            ("100 % updates", "edited.zst", target.filled, ("--on-conflict", "update"), GOAL_UPDATES),
        ):
            command = target.load(shop.path(archive), *options)
            work = Work(f"import into {target.name}, {what}", Side("with receipts", command),
                        [Side("`--no-undo`", f"{command} --no-undo", goal=goal)], prepare=prepare)
            pairs.run_in_turn(work, runs)
            r = ratio(work.ours, work.peers[0])
            rows.append(line(f"{work.what} : `--no-undo`", f"{work.ours.seconds():.2f} s",
                             f"{work.peers[0].seconds():.2f} s", r.middle, goal))
            rows += undone(shop, target, what, archive, prepare, command, runs)
        target.remove()
    shop.remove("edited.db", "edited.zst")
    return report.plain_table(("what can be undone costs", "ours", "to", "ratio", "goal"), rows)


def undone(shop, target, what, archive, prepare, command, runs):
    """The rollback of an import, to the import, and the size of its receipts."""
    imports, rollbacks = [], []
    for number in range(runs):
        tell(f"rollback in {target.name}, {what}, {number + 1} of {runs}")
        prepare()
        imports.append(process.run(command).seconds)
        rollbacks.append(process.run(quote(shop.dump, "rollback", "-q", "last", "--from", target.url)).seconds)
    share = median(back / there for back, there in zip(rollbacks, imports, strict=True))
    yield line(f"rollback in {target.name}, {what} : its import", f"{median(rollbacks):.2f} s",
               f"{median(imports):.2f} s", share, GOAL_BACK)
    batches = json.loads(output(shop.dump, "history", "--json", target.url))["batches"]
    receipts = [b["receipts"]["bytes"] for b in batches if b["migration_type"] == "import" and "receipts" in b][-1]
    whole = shop.path("ours.zst").stat().st_size
    goal = GOAL_SIZE_NEW if what == "new rows" else GOAL_SIZE_UPDATES
    yield line(f"receipts in {target.name}, {what} : archive", f"{receipts:,} bytes", f"{whole:,} bytes",
               receipts / whole, goal)


def line(what, ours, other, share, goal):
    """A row of the table."""
    return (what, ours, other, f"{share:.3f}", report.verdict(share, goal))


def edited(shop):
    """The archive of the same rows, of which every one has another value."""
    copy = shop.path("edited.db")
    shutil.copy(shop.path("source.db"), copy)
    with sqlite3.connect(copy) as database:
        database.execute("UPDATE events SET duration_ms = coalesce(duration_ms, 0) + 1")
        database.execute("UPDATE sessions SET git_branch = coalesce(git_branch, '') || '-edited'")
    database.close()
    shop.archived(copy, "edited.zst")


class File:
    """A SQLite file as a target."""

    name = "SQLite"

    def __init__(self, shop):
        self.shop, self.url = shop, shop.path("undo.db")
        process.run(shop.import_sqlite(shop.path("ours.zst"), shop.path("filled.db"), "--create", "--no-undo"))
        output(shop.dump, "import", "-q", "--create", "--no-undo", self.none(), "--to", shop.path("empty.db"))

    def none(self):
        """An archive without rows."""
        path = self.shop.path("none.db")
        shutil.copy(self.shop.path("filled.db"), path)
        with sqlite3.connect(path) as database:
            database.execute("DELETE FROM events")
            database.execute("DELETE FROM sessions")
        database.close()
        return self.shop.archived(path, "none.zst")

    def empty(self):
        """The tables without a row."""
        shutil.copy(self.shop.path("empty.db"), self.url)

    def filled(self):
        """All rows as they are in the source."""
        shutil.copy(self.shop.path("filled.db"), self.url)

    def load(self, archive, *options):
        """An import into it."""
        return self.shop.import_sqlite(archive, self.url, *options)

    def remove(self):
        """Leaves nothing behind."""
        self.shop.remove("undo.db", "filled.db", "empty.db", "none.db", "none.zst")


class Server:
    """A Postgres database as a target."""

    name = "Postgres"

    def __init__(self, shop):
        self.shop, self.url = shop, shop.server.url()
        shop.server.fresh("filled")
        process.run(shop.import_postgres(shop.path("ours.zst"), "--no-undo", database="filled"))

    def empty(self):
        """The tables without a row."""
        self.shop.server.fresh()

    def filled(self):
        """All rows as they are in the source."""
        self.shop.server.fresh(template="filled")

    def load(self, archive, *options):
        """An import into it."""
        return self.shop.import_postgres(archive, *options)

    def remove(self):
        """Leaves nothing behind."""
        output("dropdb", "--if-exists", "--force", "filled")
