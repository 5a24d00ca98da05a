"""Runs a shell command once, and measures how long it took and how much memory it held."""

import os
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """One run of a command."""

    seconds: float
    # Bytes: what the system counts for the largest process of the command, as /usr/bin/time reports it.
    # This program's own small size is the least that can be seen.
    peak: int


def tell(words):
    """Says on stderr what is being done; stdout is for the tables."""
    print(f"benches/run: {words}", file=sys.stderr, flush=True)


def quote(*words):
    """The words as a command of the shell."""
    return shlex.join(str(word) for word in words)


def zstd(*words):
    """A quiet call of zstd."""
    return quote("zstd", "-q", "-f", *words)


class Failed(Exception):
    """A command has not succeeded."""


def run(command):
    """Runs a shell command, which must succeed; what it prints is thrown away."""
    os.sync()  # what earlier runs have written must not be waited for by this one
    read, write = os.pipe()
    start = time.perf_counter()
    child = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=write,
    )
    os.close(write)
    with os.fdopen(read, errors="replace") as stream:
        said = stream.read()[-2000:]
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)  # or Popen would wait for it again
    if child.returncode != 0:
        raise Failed(f"{command}\n{said}")
    return Run(seconds, usage.ru_maxrss * 1024)


def output(*words):
    """What a command prints; it must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{quote(*words)}\n{done.stderr[-2000:]}")
    return done.stdout


def found(name):
    """Whether a program is installed."""
    return any(os.access(Path(folder) / name, os.X_OK) for folder in os.get_exec_path())
