"""What a database contains after an import, as a few words that are the same for the same rows."""

import hashlib
import sqlite3

# The cheap part is asked after every run, the payloads once.
IDS = """SELECT count(*), sum(hashtextextended(id::text, 0)::numeric) FROM chronicle_sessions
UNION ALL
SELECT count(*), sum(hashtextextended(concat_ws(',', id, session_id, event_type, timestamp, tool_name), 0)::numeric)
FROM chronicle_events"""
PAYLOADS = "SELECT count(*), sum(hashtextextended(metadata::text, 0)::numeric) FROM chronicle_events"


def of_sqlite(path):
    """The number of rows and a digest of keys, times and payloads, in the layout of Chronicle's hooks."""
    digest, rows = hashlib.sha256(), 0
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    for sql in ("SELECT id, start_time FROM sessions ORDER BY id",
                "SELECT id, session_id, timestamp, data FROM events ORDER BY id"):
        for row in database.execute(sql):
            digest.update(repr(row).encode())
            rows += 1
    indexes = database.execute("SELECT count(*) FROM sqlite_schema WHERE type = 'index'").fetchone()
    database.close()
    return f"{rows} rows, {indexes[0]} indexes, {digest.hexdigest()}"


def of_postgres(server, payloads):
    """The number of rows and a sum of hashes of all columns that carry information, with or without the payloads."""
    words = server.ask("bench", IDS)
    indexes = server.ask("bench", "SELECT count(*) FROM pg_indexes WHERE schemaname = 'public'")
    return words + f"|{indexes}" + (server.ask("bench", PAYLOADS) if payloads else "")
