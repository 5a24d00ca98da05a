"""What the checks cost: the same work with a step and without it, run in turn."""

from . import fingerprint, pairs, report
from .pairs import Side, Work, ratio

# The variable of a program that was built for this; any other program refuses to run with it.
SWITCH = "CHRONICLE_DUMP_BENCH_SKIPS"
STEPS = {
    "reading back": "readback",
    "looking for existing rows": "conflicts",
    "looking for orphans": "references",
    "all three": "readback,conflicts,references",
}
# What all steps together may cost.
GOAL = 1.25


def table(shop, runs):
    """One row for every step of every work."""
    works = [row_digests(shop), verified_digests(shop), *imports(shop)]
    rows = []
    for work in works:
        pairs.run_in_turn(work, runs)
        for side in work.sides()[1:]:
            r = ratio(work.ours, side)
            rows.append((f"{work.what} : {side.name}", f"{work.ours.seconds():.2f} s", f"{side.seconds():.2f} s",
                         f"{r.middle:.2f} ({r.least:.2f}–{r.most:.2f})", report.verdict(r.middle, side.goal)))
    return report.plain_table(("what a step costs", "with it", "without it", "ratio", "goal"), rows)


def row_digests(shop):
    """The digest of the rows in the manifest, which is made only if it is asked for."""
    source, to = shop.path("source.db"), shop.path("export.zst")
    return Work("export from SQLite", Side("with", shop.export(source, to, "--row-digests")),
                [Side("`--row-digests`", shop.export(source, to))])


def verified_digests(shop):
    """The same, compared by a verification."""
    archive = shop.path("ours.zst")
    return Work("verify", Side("with", shop.verify(archive, "--row-digests")),
                [Side("`--row-digests`", shop.verify(archive))])


def imports(shop):
    """An import into each database, by the program that can leave steps out."""
    archive, copy, program = shop.path("ours.zst"), shop.path("copy.db"), shop.dump_with_switches
    command = shop.import_sqlite(archive, copy, "--create", program=program)
    yield Work("import into a new SQLite file", Side("with", command), without(command),
               prepare=lambda: shop.remove("copy.db"), outcome=lambda _: fingerprint.of_sqlite(copy))
    shop.remove("copy.db")
    if shop.server is None:
        return
    command = shop.import_postgres(archive, program=program)
    what = "import into Postgres"
    yield Work(what, Side("with", command), without(command), prepare=shop.server.fresh,
               outcome=lambda _: fingerprint.of_postgres(shop.server, payloads=False))


def without(command):
    """The command without each of the steps, and without all of them."""
    sides = [Side(name, f"{SWITCH}={words} {command}") for name, words in STEPS.items()]
    sides[-1].goal = GOAL
    return sides
