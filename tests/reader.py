#!/usr/bin/env python3
"""Verifies archives and prints what they hold: a second reader, which follows schemas/archive.md."""
import json, re, sys
from zstandard import decompress  # Debian: python3-zstandard; pip: zstandard
sys.dont_write_bytecode = True
from reader_values import FORMS, LINE, Object, fits, in_utc, matches, need, quote, sha256, shown, write

MIB, MAGIC, SKIPPABLE = 1 << 20, b"\x28\xb5\x2f\xfd", b"\x5e\x2a\x4d\x18"
STATE, SCHEMA = b'{"type":"STATE",', b'{"type":"SCHEMA",'
HEADER = STATE + b'"value":{"chronicle":{"kind":"header","version":'

def next_frame(file, limit, table, start=b""):  # sections 3 and 10
    parts = [start]
    def take(count):
        parts.append(file.read(count))
        need(len(parts[-1]) == count, "cut before the manifest")
        return int.from_bytes(parts[-1], "little")
    need((start or take(4) and parts[1]) == MAGIC, "not a frame of zstd")
    descriptor = take(1)
    single, length = descriptor >> 5 & 1, (descriptor >> 5 & 1, 2, 4, 8)[descriptor >> 6]
    window = 0 if single else take(1)
    dictionary, size = take((0, 1, 2, 4)[descriptor & 3]), take(length) + (256 if length == 2 else 0)
    window = size if single else 8 + (window & 7) << 7 + (window >> 3)
    need(length and descriptor & 4 and not dictionary, "a frame without size or checksum, or with a dictionary")
    need(size <= limit and window <= 8 * MIB, "a frame over its limit")
    block = 0
    while not block & 1:
        block = take(3)
        take(1 if block >> 1 & 3 == 1 else block >> 3)
    checksum, data = take(4), b"".join(parts)
    table += b"".join(number.to_bytes(4, "little") for number in (len(data), size, checksum))
    return decompress(data)
def next_lines(file, limit, table, piece=b""):
    lines = [piece]
    while not lines[-1].startswith(STATE):
        lines.append(file.readline(64 * MIB + 1))
        limit -= len(lines[-1])
        need(lines[-1].endswith(b"\n") and limit >= 0, "cut before the manifest, or over a limit")
        need(not piece or (piece + lines[1]).startswith(HEADER), "not a header")
    return b"".join(lines)
def members(line, *names):  # of a control line or a SCHEMA line (sections 4 to 6)
    outer = dict(LINE.decode(line.decode()))
    need(set(outer) == {"type", *names} and len(line) <= MIB, "another line than expected")
    return [json.loads(write(outer[name])) for name in names]
def control(line):
    value, = members(line, "value")
    need(line.startswith(STATE) and set(value) == {"chronicle", "bookmarks"}, "not a control line")
    return value["chronicle"]
def head(lines):  # steps 4 and 7
    header, *schemas = lines.splitlines(keepends=True)
    need(matches(re.escape(HEADER) + b"1,.*", header), "not a header of version 1")
    header, streams = control(header), {}
    need(header["requires"] == [] and header["chunk_target"] <= 64 * MIB, "an unknown feature, or over a limit")
    for line in schemas:
        name, schema, key, ours = members(line, "stream", "schema", "key_properties", "chronicle")
        columns, order = ours["columns"], ours["order"] + ours["instants"] + ours.get("utc", [])
        need(line.startswith(SCHEMA) and matches("[a-z][a-z0-9_]{0,62}", name), "not a SCHEMA line")
        need(list(columns) == list(schema["properties"]) and {*columns.values()} <= set(FORMS), "other columns")
        need(0 < len(columns) <= 1600 and max(len(name.encode()) for name in columns) <= 255, "columns over a limit")
        need(key and set(key + order + list(ours.get("names", {}))) <= set(columns), "a name of no column")
        nullable = {column: "null" in schema["properties"][column]["type"] for column in columns}
        streams[name] = {"columns": columns, "key": key, "nullable": nullable, "instants": ours["instants"],
                         "rows": 0, "chunks": 0, "bytes": 0, "digest": 0}
    need(header["streams"] == [*streams] and len(schemas) == len(streams) > 0, "SCHEMA lines of other streams")
    return streams
def read_record(line, name, stream):  # steps 8 and 9
    start, values, row = '{"type":"RECORD","stream":"%s","record":' % name, {}, []
    need(line.startswith(start), "not a RECORD line of the stream")
    at, between = len(start), "{"
    for column, kind in stream["columns"].items():
        need(line.startswith(between + quote(column) + ":", at), f"not the column {column}")
        value, end = LINE.raw_decode(line, at := at + len(between + quote(column)) + 1)
        values[column], at, between = line[at:end], end, ","
        good = stream["nullable"][column] if value is None else fits(kind, values[column], value)
        need(good, f"no {kind} in column {column}")
        raw = in_utc(values[column]) if kind == "text" and column in stream["instants"] else write(value, True)
        row.append(quote(column) + ":" + raw)
    if line[at:] != "}}":
        need(line.startswith('},"chronicle":', at), "not the end of the record")
        side, end = LINE.raw_decode(line, at + 14)
        need(line[at + 14:] == write(side) + "}", "not the end of the line")
        exact = dict(side).get("exact", Object())
        need(isinstance(side, Object) and isinstance(exact, Object), "no object of exact values")
        need([name for name in values if name in dict(exact)] == [*dict(exact)], "exact values of other columns")
        for column, ((tag, text),) in exact:
            need(type(text) is str, "an exact value that is no text")
            other = shown(stream["columns"][column], column in stream["key"], tag, text) != values[column]
            need(not other, f"column {column} shows something else than the exact value")
    stream["digest"] += int(sha256(("{" + ",".join(row) + "}").encode()), 16)
def verify(file):
    start, table, chunk, prev, size, streams, place = file.read(4), bytearray(), 0, None, 0, {}, 0
    read = next_frame if start == MAGIC else next_lines
    need(start == MAGIC or start[:1] == b"{", "not an archive")
    while True:
        piece = read(file, 128 * MIB if chunk else 8 * MIB, table, b"" if chunk else start)
        need(piece.endswith(b"\n") and b"\r" not in piece, "no line end, or a carriage return")
        cut = piece.rfind(b"\n", 0, -1) + 1
        lines, last = piece[:cut], control(piece[cut:])
        if last["kind"] == "manifest":
            break
        wanted = {"kind": "checkpoint", "chunk": chunk, "prev": prev, "bytes": cut, "sha256": sha256(lines),
                  "rows": lines.count(b"\n") if chunk else 0}
        need(all(last[name] == value for name, value in wanted.items()), f"chunk {chunk}: another checkpoint")
        if chunk == 0:
            streams = head(lines)
            need(last["stream"] is None, "a stream in the head")
        else:
            name, lines = last["stream"], lines.decode().split("\n")[:-1]
            need(name in [*streams][place:] and lines, "no rows, or a stream that is unknown or out of order")
            place, stream = [*streams].index(name), streams[name]
            for line in lines:
                read_record(line, name, stream)
            for field, more in (("rows", len(lines)), ("chunks", 1), ("bytes", cut)):
                stream[field] += more
        chunk, prev, size = chunk + 1, sha256(piece[cut:]), size + len(piece)
    rows = {name: stream["rows"] for name, stream in streams.items()}
    digests = {name: f"{stream['digest'] % 2**256:064x}" for name, stream in streams.items()}
    need(not lines and chunk, "the manifest does not stand alone")
    need([*last["rows"].items()] == [*rows.items()], "the manifest counts other rows")
    wanted = {"version": 1, "prev": prev, "chunks": chunk, "bytes": size}
    need(all(last[name] == value for name, value in wanted.items()), "the manifest does not agree")
    need(last.get("digests", {}).get("lrd1", digests) == digests, "the manifest has other row digests")
    for name, extent in last.get("extents", {}).items():
        need(all(extent[field] == streams[name][field] for field in ("chunks", "bytes")), f"another extent of {name}")
    if table:
        size, frames = (number.to_bytes(4, "little") for number in (len(table) + 9, len(table) // 12))
        table = SKIPPABLE + size + table + frames + b"\x80\xb1\xea\x92\x8f"
    rest = file.read(len(table) + 1)
    like_table = SKIPPABLE.startswith(rest[:4]) or len(rest) == len(table) and rest[:4] != MAGIC
    need(len(rest) <= len(table) and like_table, "data follow the manifest")
    missing = "missing" if table and last["seek_table"] else "none"
    index = missing if not rest else "good" if rest == table else "damaged"
    digests = {name: "lrd1:" + digest for name, digest in digests.items()}
    return {"digest": "sha256:" + sha256(piece), "rows": rows, "row_digests": digests, "seek_table": index}
def main(paths):
    ended = 0
    for path in paths:
        try:
            with open(0 if path == "-" else path, "rb") as file:
                print(json.dumps({"archive": path, **verify(file)}))
        except Exception as error:  # whatever a damaged file brings about
            print(json.dumps({"archive": path, "error": f"{type(error).__name__}: {error}"}))
            ended = 1
    return ended
sys.exit(main(sys.argv[1:]))
