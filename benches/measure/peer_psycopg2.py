"""A peer: psycopg2's execute_values in batches of 100, as a script would. Run by the Python of target/peers."""

import sqlite3
import sys

import psycopg2
from psycopg2.extras import execute_values

file, database = sys.argv[1:]
source = sqlite3.connect(file)
target = psycopg2.connect(dbname=database)
with target, target.cursor() as cursor:
    for table in ("chronicle_sessions", "chronicle_events"):
        rows = source.execute(f"SELECT * FROM {table}")
        columns = ", ".join(column[0] for column in rows.description)
        sql = f"INSERT INTO {table} ({columns}) VALUES %s ON CONFLICT DO NOTHING"
        execute_values(cursor, sql, rows, page_size=100)
