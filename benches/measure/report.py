"""The tables as Markdown, and what they were measured with."""

import os
import platform
import re
import subprocess

from .pairs import ratio
from .workshop import modules


def environment(shop, runs):
    """One paragraph: the machine, and the version of everyone who ran."""
    versions = [f"{name} {version_of(*words)}" for name, words in {
        "rustc": ("rustc", "--version"), "zstd": ("zstd", "--version"), "sqlite3": ("sqlite3", "--version"),
        "pgloader": ("pgloader", "--version"),
    }.items()]
    versions += [f"{name} {version}" for name, version in modules().items()]
    server = shop.server.version if shop.server else "not run"
    return (f"{os.cpu_count()} cores ({processor()}), {platform.system()} {platform.machine()}; "
            f"{version_of(shop.dump, '--version', whole=True)}; PostgreSQL {server} with its default settings; "
            f"{'; '.join(versions)}. {runs}.\n")


def version_of(*words, whole=False):
    """The first version number in a program's own output."""
    try:
        said = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "not installed"
    return said.strip() if whole else re.search(r"\d+\.\d[\d.]*", said)[0].rstrip(".")


def processor():
    """The name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "unknown")
    except OSError:
        return platform.processor() or "unknown"


def mib(count):
    """Bytes as MiB."""
    return f"{count / 2**20:.0f} MiB"


def verdict(value, goal):
    """A goal, and whether it is met."""
    if goal is None:
        return ""
    return f"≤ {goal:.2f}, {'met' if value <= goal else 'missed'}"


def pairs_table(works):
    """Ours against every peer, at one size."""
    lines = [f"| {works[0].size.events:,} events | chronicle-dump | peer | ratio | goal |", "|---|---:|---:|---:|---|"]
    for work in works:
        named = {work.what: work.ours} | {f"{work.what}, `{side.name}`": side for side in work.variants}
        for what, ours in named.items():
            lines += [pair_line(f"{what} : {peer.name}", ours, peer) for peer in work.peers]
    return "\n".join(lines) + "\n"


def pair_line(what, ours, peer):
    """One of ours against one peer."""
    if peer.missing():
        return f"| {what} | | {peer.missing()} | | |"
    r = ratio(ours, peer)
    return (f"| {what} | {ours.seconds():.2f} s | {peer.seconds():.2f} s "
            f"| {r.middle:.2f} ({r.least:.2f}–{r.most:.2f}) | {verdict(r.middle, peer.goal)} |")


def speed_table(works):
    """Ours alone: time, rows and bytes per second, and memory with how much it has grown since the smaller size."""
    lines = ["| what | events | time | rows/s | NDJSON | peak memory | goal |", "|---|---:|---:|---:|---:|---:|---|"]
    first, names = {}, [work.what for work in works]
    for work in sorted(works, key=lambda work: names.index(work.what)):
        size, seconds, peak = work.size, work.ours.seconds(), work.ours.peak()
        grown = f", {100 * (peak / first[work.what] - 1):+.0f} %" if work.what in first else ""
        first.setdefault(work.what, peak)
        lines.append(f"| {work.what} | {size.events:,} | {seconds:.2f} s | {size.rows / seconds:,.0f} "
                     f"| {size.bytes / seconds / 1e6:.0f} MB/s | {mib(peak)}{grown} "
                     f"| ≤ {work.memory} MiB, {'met' if peak <= work.memory * 2**20 else 'missed'} |")
    return "\n".join(lines) + "\n"


def plain_table(head, rows):
    """Any table; columns after the first are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"
