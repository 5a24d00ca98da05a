"""What a store that keeps equal frames once keeps of the next archive of a database that was used a little."""

import hashlib
import random
import shutil
import sqlite3
import struct
import uuid

# Of the sessions, this part was changed since the archive before; of the events, this part came after the others.
PART = 0.01
# What the store may keep of the second archive.
GOAL = 0.10


def sentence(shop):
    """The bytes that the store keeps of the second archive, as a sentence."""
    edited = shop.path("edited.db")
    shutil.copy(shop.path("source.db"), edited)
    edit(edited)
    first = shop.archived(shop.path("source.db"), "first.zst")
    second = shop.archived(edited, "second.zst")
    known, frames = set(frames_of(first)), frames_of(second)
    kept = sum(length for name, length in dict(frames).items() if (name, length) not in known)
    share = kept / second.stat().st_size
    shop.remove("edited.db", "first.zst", "second.zst")
    return (f"A store that keeps equal zstd frames once: after {PART:.0%} of the sessions were changed and {PART:.0%} of "
            f"the events appended, it keeps {kept:,} bytes of the next archive, {share:.3f} of it; "
            f"the goal is ≤ {GOAL:.2f}, {'met' if share <= GOAL else 'missed'}.\n")


def edit(path):
    """Changes random sessions, and appends events like the existing ones, each a second after the one before."""
    chosen = random.Random(1)
    database = sqlite3.connect(path)
    with database:
        sessions = [row[0] for row in database.execute("SELECT id FROM sessions ORDER BY id")]
        for session in chosen.sample(sessions, max(1, int(len(sessions) * PART))):
            database.execute("UPDATE sessions SET end_time = '2026-01-01T00:00:00' WHERE id = ?", (session,))
        events = [row[0] for row in database.execute("SELECT rowid FROM events ORDER BY rowid")]
        for second, event in enumerate(chosen.sample(events, max(1, int(len(events) * PART)))):
            database.execute(
                "INSERT INTO events SELECT ?, session_id, event_type, strftime('%Y-%m-%dT%H:%M:%S', '2026-01-01', ?), "
                "data, tool_name, duration_ms, created_at FROM events WHERE rowid = ?",
                (str(uuid.UUID(int=chosen.getrandbits(128), version=4)), f"+{second} seconds", event))
    database.close()


def frames_of(archive):
    """The SHA-256 and the length of every frame, as the seek table at the end of an archive places them."""
    data = archive.read_bytes()
    count, = struct.unpack("<I", data[-9:-5])
    entries = struct.iter_unpack("<3I", data[len(data) - 9 - 12 * count:-9])
    frames, start = [], 0
    for length, _, _ in entries:
        frames.append((hashlib.sha256(data[start:start + length]).hexdigest(), length))
        start += length
    return frames
