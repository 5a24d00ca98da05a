"""Verifies archives and prints what they hold: a second reader, from schemas/archive.md and `pip install zstandard`."""
import base64, datetime, decimal, hashlib, json, math, pathlib, re, struct, sys, types, uuid, zstandard
MIB, MAGIC, SKIPPABLE, STATE = 1 << 20, b"\x28\xb5\x2f\xfd", b"\x5e\x2a\x4d\x18", '{"type":"STATE",'
PGTEXT = r"-?infinity|(\d{4}|[1-9]\d{4,5})-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{0,5}[1-9])?\+00( BC)?"
INSTANT = (r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d|60)(?:[.,](\d{1,6})0*)?)?"
           r"(?: ?[Zz]| UTC| ?([+-])(0\d|1[0-5])(?::?([0-5]\d)(?:(?<=:..):([0-5]\d))?)?)?")
def need(condition, message):
    if not condition: raise ValueError(message)
def matches(form, text): return re.fullmatch(form, text, re.ASCII)
def sha256(data): return hashlib.sha256(data).hexdigest()
# Sections 4 and 9: JSON. Here int refuses NaN and Infinity, which are no JSON.
class Object(list): """The members of an object, those of equal names too."""
class Number(str): """A number in its spelling."""
SOURCE = json.JSONDecoder(object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=int)
def distinct(members): return dict(members) if len(dict(members)) == len(members) else need(False, "a key stands twice")
def read_line(line, start, limit=MIB):
    need(line.startswith(start.encode()) and len(line) <= limit, f"a long line, or one that starts without {start}")
    return json.loads(line.decode(), object_pairs_hook=distinct, parse_constant=int)
def write(value, number=str, text=str, order=list, depth=100):
    def inner(part): return write(part, number, text, order, depth - 1)
    need(depth or not isinstance(value, list), "nested too deep")
    if isinstance(value, Object): return "{" + ",".join(f"{inner(a)}:{inner(b)}" for a, b in order(value)) + "}"
    if isinstance(value, list): return "[" + ",".join(map(inner, value)) + "]"
    if isinstance(value, Number): return number(value)
    return json.dumps(text(value) if isinstance(value, str) else value, ensure_ascii=False)
def tame(number):  # rule P8 and step 4
    good = len(number) <= 400 and abs(int(re.split("[eE]", number + "e0")[1])) <= 308
    return number if good and math.isfinite(float(number)) else json.dumps(number)
def clean(text): return re.sub("[\0\ud800-\udfff]", "\ufffd", text)  # step 3
def once(members): return {clean(name): value for name, value in members}.items()  # step 5
def sanitized(source):  # of a portable text the text itself
    try:
        value = SOURCE.decode(source.decode())
        plain, projected = write(value), write(value, tame, clean, once)
        need(isinstance(value, Object), "P2")
    except (ValueError, RecursionError): return "null"
    return source.decode() if plain == projected and re.fullmatch(rb"\{[^\r\n]*\}", source) else projected
# Sections 8 and 16: values. A text is one of a tag, or of a kind, if the function of that name gives it back.
def exactly(number):  # in row bytes
    sign, digits, exponent = decimal.Decimal(number).normalize(decimal.Context(400)).as_tuple()
    return "-" * sign + "".join(map(str, digits)) + f"e{exponent}" * (exponent != 0) if any(digits) else "0"
def in_utc(text):  # the instant that a text reads as, or the text
    try:
        day, hour, minute, second, micros, sign, *zone = matches(INSTANT, text).groups("0")
        need(hour < "24" or int(minute + second + micros) == 0, "beyond the day")
        hours, minutes, seconds = (int(a) - int(sign.strip("0") + b) for a, b in zip((hour, minute, second), zone))
        delta = datetime.timedelta(0, seconds, int(micros.ljust(6, "0")), 0, minutes, hours)
        return (datetime.datetime.fromisoformat(day) + delta).isoformat(timespec="microseconds") + "Z"
    except (AttributeError, ValueError, OverflowError): return text
def int64(text): return str(int(text)) if -1 << 63 <= int(text) < 1 << 63 else None
def real(text):  # the shortest digits, with an exponent only below 1e-5 and from 1e16 on
    short = json.dumps(float(text))
    return f"{decimal.Decimal(short):f}" if "e-05" in short else short.replace("e+", "e").replace("e-0", "e-")
def binary(text): return base64.b64encode(base64.b64decode(text)).decode()
TAGS = {"int": int64, "real": real, "text": str, "text64": binary, "blob": binary,  # these five in every column
        "json": str, "jsonb": str, "numeric": str, "time": lambda text: matches(PGTEXT, text) and text}
KINDS = {"real": lambda text: math.isfinite(float(text)) and text, "bool": lambda text: json.dumps(text == "true"),
         "numeric": lambda text: matches(r"-?\d+(\.\d+)?", text) and text, "uuid": lambda text: str(uuid.UUID(text)),
         "date": lambda d: in_utc(d+" 00:00").split("T")[0], "time": lambda t: "T" in t and in_utc(t.replace("T", " ")),
         **dict.fromkeys(("text", "other", "json", "jsonb", "int", "bytes"), str)}
OWN = {"bytes": "blob", "date": "text", "other": "text", "bool": None, "time": None, "uuid": None}  # others: the kind
def shown(kind, in_key, tag, text):  # the record value of an exact value, or of one that needs none
    need(tag is None or (tag == kind or tag in [*TAGS][:5]) and TAGS[tag](text) == text, f"no text of tag {tag}")
    if kind in ("text", "other", "json", "jsonb") and tag in ("text", "text64", "json", "jsonb"):
        data = base64.b64decode(text) if tag == "text64" else text.encode()
        return write(clean(data.decode(errors="replace"))) if kind in ("text", "other") else sanitized(data)
    if tag == OWN.get(kind, kind) and KINDS[kind](text) == text:
        return text if kind in ("int", "real", "bool") else write(text)
    return write(text) if kind == "text" and in_key else "null"
# Sections 5 to 7: lines
def control(line, start=STATE):
    said = read_line(line, start)
    need({*said, *said["value"]} == {"type", "value", "chronicle", "bookmarks"}, "not a control line")
    return said["value"]["chronicle"]
def head(first, *schemas):
    header, streams = control(first, STATE + '"value":{"chronicle":{"kind":"header","version":1,'), {}
    need(header["requires"] == [] and header["chunk_target"] <= 64 * MIB, "an unknown feature, or over a limit")
    for line in schemas:
        _, name, schema, key, ours = read_line(line, '{"type":"SCHEMA",').values()
        columns, instants, shape = ours["columns"], ours["instants"], schema["properties"]
        need(matches("[a-z][a-z0-9_]{0,62}", name) and len(columns) <= 1600, "a stream's name or columns over a limit")
        need(all(len(column.encode()) <= 255 for column in columns) and [*columns] == [*shape], "other or long columns")
        need(key and {*key, *ours["order"], *instants} <= {*columns} and {*columns.values()} <= {*KINDS}, "other names")
        streams[name] = types.SimpleNamespace(columns=columns, shape=shape, key=key, instants=instants, rows=0, sum=0)
    need(schemas and header["streams"] == [*streams] and len(schemas) == len(streams), "SCHEMA lines of other streams")
    return streams
def read_record(line, name, stream):  # a line is what its values are written as
    text, row = '{"type":"RECORD","stream":"%s","record":{' % name, []
    exact, line = read_line(line, text, 64 * MIB).get("chronicle", {}).get("exact", {}), line.decode()
    need([column for column in stream.columns if column in exact] == [*exact.keys()], "exact values of other columns")
    for column, kind in stream.columns.items():
        text += write(column) + ":"
        value, end = SOURCE.raw_decode(line, len(text))
        need(value is not None or "null" in stream.shape[column]["type"], f"null in column {column}")
        own = {OWN.get(kind, kind): str(value) if isinstance(value, str) else line[len(text):end]}
        (tag, full), = exact.get(column, own).items()
        text += "null," if value is None and column not in exact else shown(kind, column in stream.key, tag, full) + ","
        is_instant = value is not None and kind == "text" and column in stream.instants
        row.append(write(column) + ":" + write(in_utc(value) if is_instant else value, exactly, order=sorted))
    side = [',"chronicle":' + write(value) for name, value in SOURCE.decode(line) if name == "chronicle"]
    need(line == text[:-1] + "}" + "".join(side) + "}\n", "a line that says something else than its values")
    stream.sum, stream.rows = stream.sum + int(sha256(("{" + ",".join(row) + "}").encode()), 16), stream.rows + 1
# Sections 2, 3, 10, 12 and 13: frames and chunks
def next_frame(data, at, limit):
    if data[:4] != MAGIC:
        end = re.compile(rb'^{"type":"STATE",.*\n', re.M).search(data, at or data.find(b"\n"), at + limit).end()
        return data[at:end], end
    content, frame = b"", zstandard.ZstdDecompressor().decompressobj()
    header = zstandard.get_frame_parameters(data[at:at + 18])
    need(header.has_checksum and not header.dict_id and header.window_size <= 8 * MIB, "a frame of another form")
    while not frame.eof:
        part = data[at:at + 4096]
        need(part and len(content) <= header.content_size <= limit, "cut before the manifest, or a frame over a limit")
        content, at = content + frame.decompress(part), at + len(part) - len(frame.unused_data)
    return content, at
def verify(data):
    end, prev, size, seen, streams, table = 0, None, 0, [], {}, b""
    while True:
        body = last = b""
        while not last.startswith(STATE.encode()):  # a checkpoint is in the frame behind its records, or in theirs
            at, (content, end) = end, next_frame(data, end, 128 * MIB if seen else 8 * MIB)
            table += struct.pack("<2I", end - at, len(content)) + data[end - 4:end]
            body, last = body + content, content.splitlines(keepends=True)[-1]
            fits = content in (body, last) and last.startswith(STATE.encode()) or seen and content == body
            need(fits and content.endswith(b"\n") and b"\r" not in content, "no checkpoint or line end, or a CR")
        said, (*lines, _), body = control(last), body.splitlines(keepends=True), body[:-len(last)]
        if said["kind"] == "manifest": break
        wanted = {"kind": "checkpoint", "chunk": len(seen), "prev": prev, "bytes": len(body), "sha256": sha256(body)}
        need({**said, **wanted, "rows": len(lines) * bool(seen)} == said and lines, f"chunk {len(seen)} is another")
        streams = streams or head(*lines)
        for line in lines if seen else []: read_record(line, said["stream"], streams[said["stream"]])
        seen, prev, size = seen + [said["stream"]], sha256(last), size + len(body + last)
    rows = {name: stream.rows for name, stream in streams.items()}
    digests = {name: f"lrd1:{stream.sum % 2**256:064x}" for name, stream in streams.items()}
    wanted = {"version": 1, "prev": prev, "chunks": len(seen), "bytes": size, "rows": rows}
    need({**said, **wanted} == said and [*said["rows"]] == [*rows] and not lines, "the manifest does not agree")
    need(seen == [None, *sorted(seen[1:], key=[*streams].index)], "streams out of order")
    need({n: "lrd1:" + d for n, d in said.get("digests", {}).get("lrd1", {}).items()} in ({}, digests), "row digests")
    rest, sizes = data[end:], struct.pack("<2I", len(table) + 9, len(table) // 12)
    table = SKIPPABLE + sizes[:4] + table + sizes[4:] + b"\x80\xb1\xea\x92\x8f" if data[:4] == MAGIC else b""
    like_table = SKIPPABLE.startswith(rest[:4]) or len(rest) == len(table) and rest[:4] != MAGIC
    need(len(rest) <= len(table) and like_table, "data after the manifest")
    index = ("good" if rest == table else "damaged") if rest else "missing" if table and said["seek_table"] else "none"
    return {"digest": "sha256:" + sha256(last), "rows": rows, "row_digests": digests, "seek_table": index}
ended = 0
for path in sys.argv[1:]:
    try: found = verify(pathlib.Path(path).read_bytes())
    except Exception as error: found, ended = {"error": f"{type(error).__name__}: {error}"}, 1  # of a damaged file
    print(json.dumps({"archive": path, **found}))
sys.exit(ended)
