"""What each thread of an export has to do, with more and more threads that compress.

On a machine with few processors more threads cannot be faster. What they can do elsewhere follows from the processor time
of each: with enough processors an export takes as long as its busiest thread, and the time before the first row.
"""

import os
import subprocess
import time
from pathlib import Path
from statistics import median

from .process import Failed, tell
from .report import plain_table

COUNTS = (1, 2, 4, 8)
# How often the threads are looked at, in seconds: what they do after the last look is not seen.
LOOK = 0.005


def table(shop, rounds):
    """One row for each number of threads."""
    rows = []
    for count in COUNTS:
        tell(f"export with {count} threads")
        runs = [times(shop, count) for _ in range(rounds)]
        wall, reading, encoding, all_of_them, busiest = (median(column) for column in zip(*runs, strict=True))
        rows.append((f"`--threads {count}`", *(f"{s:.2f} s" for s in (wall, reading, encoding, all_of_them, busiest))))
    head = ("export from SQLite", "time", "thread that reads", "thread that writes lines", "all that compress",
            "busiest of them")
    return plain_table(head, rows)


def times(shop, count):
    """The seconds of one export: by the clock, and of processors by its threads."""
    os.sync()
    start = time.perf_counter()
    with open(shop.path("export.zst"), "wb") as out:
        child = subprocess.Popen([shop.dump, "export", "-q", "--threads", str(count), shop.path("source.db")],
                                 stdin=subprocess.DEVNULL, stdout=out)
        seen = {}
        while child.poll() is None:
            look(child.pid, seen)
            time.sleep(LOOK)
    if child.returncode != 0:
        raise Failed(f"export with {count} threads ended by {child.returncode}")
    wall = time.perf_counter() - start
    shop.remove("export.zst")
    of = {name: [s for (other, _), s in seen.items() if other == name] for name in ("sqlite", "archive", "compress")}
    return wall, sum(of["sqlite"]), sum(of["archive"]), sum(of["compress"]), max(of["compress"], default=0)


def look(pid, seen):
    """Notes the processor time of every thread so far, by its name and number."""
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            name, stat = (task / "comm").read_text().strip(), (task / "schedstat").read_text()
        except OSError:
            continue
        seen[name, task.name] = int(stat.split()[0]) / 1e9
