"""A peer: DuckDB copies ready rows out of a SQLite file into Postgres. Run by the Python of target/peers."""

import sys

import duckdb

file, database = sys.argv[1:]
connection = duckdb.connect()
connection.execute("LOAD sqlite_scanner; LOAD postgres_scanner")
connection.execute(f"ATTACH '{file}' AS ready (TYPE sqlite, READ_ONLY)")
connection.execute(f"ATTACH 'dbname={database}' AS target (TYPE postgres)")
connection.execute("BEGIN")
for table in ("chronicle_sessions", "chronicle_events"):
    columns = [row[0] for row in connection.execute(f"DESCRIBE ready.{table}").fetchall()]
    connection.execute(
        f"INSERT INTO target.public.{table} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM ready.{table}"
    )
connection.execute("COMMIT")
