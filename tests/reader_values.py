"""The values of an archive, of which reader.py makes use: sections 4, 8, 9 and 16 of schemas/archive.md."""
import base64, hashlib, json, math, re
from datetime import date, datetime, timedelta

FORMS = {"int": r"0|-?[1-9]\d*", "real": r"-?\d[\d.e-]*", "numeric": r"-?\d+(\.\d+)?", "date": r"\d{4}-\d\d-\d\d",
         "time": r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{6}Z", "text": r"[^\0]*", "other": r"[^\0]*",
         "uuid": r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "bytes": r"[\w+/]*={0,2}",
         "bool": "", "json": "", "jsonb": ""}
PGTEXT = r"-?infinity|(\d{4}|[1-9]\d{4,5})-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{0,5}[1-9])?\+00( BC)?"
INSTANT = (r"(\d{4}-\d\d-\d\d)[Tt ]([01]\d|2[0-4]):([0-5]\d)(?::([0-5]\d|60)(?:[.,](\d{1,6})0*)?)?"
           r"(?: ?[Zz]| UTC| ?([+-])(0\d|1[0-5])(?::?([0-5]\d)(?:(?<=:..):([0-5]\d))?)?)?")
def need(condition, message):
    if not condition:
        raise ValueError(message)
def matches(form, text): return re.fullmatch(form, text, re.ASCII | re.DOTALL)
def sha256(data): return hashlib.sha256(data).hexdigest()
def quote(text): return json.dumps(text, ensure_ascii=False)  # the fewest escapes (section 4)

class Number(str): """A number token as it is written."""
class Object(list): """The members of an object, all of them."""
def no_number(text): need(False, f"{text} is not JSON")
def distinct(members):
    need(len(dict(members)) == len(members), "a key stands twice")
    return Object(members)
TOKENS = {"parse_int": Number, "parse_float": Number, "parse_constant": no_number}
LINE, SOURCE = (json.JSONDecoder(object_pairs_hook=hook, **TOKENS) for hook in (distinct, Object))
def write(value, canonical=False):  # as in section 4, or as in section 16
    if isinstance(value, Object):
        members = sorted(dict(value).items(), key=lambda member: member[0].encode()) if canonical else value
        return "{" + ",".join(quote(name) + ":" + write(member, canonical) for name, member in members) + "}"
    if isinstance(value, list):
        return "[" + ",".join(write(member, canonical) for member in value) + "]"
    if not isinstance(value, Number) or not canonical:
        return value if isinstance(value, Number) else quote(value)
    sign, whole, fraction, exponent = re.fullmatch(r"(-?)(\d+)\.?(\d*)[eE]?(.*)", value).groups()
    digits = (whole + fraction).lstrip("0")
    exponent = int(exponent or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    return sign + digits.rstrip("0") + (f"e{exponent}" if exponent else "") if digits else "0"
def project(value, depth=100):  # section 9: P9 and steps 2 to 6
    need(depth or not isinstance(value, list), "nested too deep")
    if isinstance(value, Object):
        return Object({project(name): project(member, depth - 1) for name, member in value}.items())
    if isinstance(value, Number):
        exponent = int(re.split("[eE]", value + "e0")[1])
        return value if len(value) <= 400 and abs(exponent) <= 308 and math.isfinite(float(value)) else str(value)
    if isinstance(value, list):
        return [project(member, depth - 1) for member in value]
    return re.sub("[\0\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else value
def projection(text):  # and the text itself without blanks; None if P1, P2 or P9 do not allow it
    try:
        value = SOURCE.decode(text)
        return (write(project(value)), write(value)) if isinstance(value, Object) else ("null", None)
    except (ValueError, RecursionError):
        return "null", None
def real(number):  # the shortest digits, with an exponent only below 1e-5 and from 1e16 on
    tiny = matches(r"(-?)(\d)\.?(\d*)e-05", repr(number))
    return f"{tiny[1]}0.0000{tiny[2]}{tiny[3]}" if tiny else repr(number).replace("e+", "e").replace("e-0", "e-")
def fits(kind, raw, value):  # whether a record value is as its kind demands (section 8)
    if kind in ("json", "jsonb"):
        shown, text = projection(raw)
        return shown == text and raw[0] == "{" and raw[-1] == "}" and not re.search("[\r\n]", raw)
    if kind == "bool" or not isinstance(value, str):
        return kind == "bool" and isinstance(value, bool)
    is_number = isinstance(value, Number)
    return (matches(FORMS[kind], value) and is_number == (kind in ("int", "real")) and write(value) == raw
            and (kind != "int" or -1 << 63 <= int(value) < 1 << 63) and (kind != "real" or real(float(value)) == value)
            and (kind != "bytes" or base64.b64encode(base64.b64decode(value)).decode() == value)
            and (kind not in ("date", "time") or date.fromisoformat(value[:10])))
def shown(kind, in_key, tag, text):  # the record value of an exact value (section 8)
    need(tag == kind or tag in ("int", "real", "text", "text64", "blob"), f"the tag {tag} in a column of kind {kind}")
    form = {"int": "int", "real": "real", "text64": "bytes", "blob": "bytes"}.get(tag)
    value = Number(text) if form in ("int", "real") else text
    named = tag == "real" and text in ("NaN", "Infinity", "-Infinity") or tag == "time" and matches(PGTEXT, text)
    need(named or tag != "time" and (not form or fits(form, write(value), value)), f"no value of tag {tag}")
    if kind in ("text", "other", "json", "jsonb") and tag in ("text", "text64", "json", "jsonb"):
        data = base64.b64decode(text) if tag == "text64" else text.encode()
        text = data.decode(errors="replace")
        if kind in ("text", "other"):
            return quote(text.replace("\0", "\ufffd"))
        return projection(text)[0] if text.encode() == data else "null"
    own = {"int": "int", "real": "real", "bytes": "blob", "numeric": "numeric", "date": "text"}.get(kind) == tag
    if own and fits(kind, write(value), value):
        return write(value)
    return quote(text) if kind == "text" and in_key else "null"
def in_utc(raw):  # the instant that a text reads as, or the text (section 16)
    parts = matches(INSTANT, LINE.decode(raw)) if raw != "null" else None
    try:
        day, hours, minutes, seconds, fraction, sign, *offset = parts.groups()
        need(hours < "24" or int(minutes) + int(seconds or 0) + int(fraction or 0) == 0, "beyond the day")
        clock = [int(hours), int(minutes), int(seconds or 0), int((fraction or "").ljust(6, "0"))]
        east = [int((sign or "+") + (part or "0")) for part in offset] + [0]
        hours, minutes, seconds, micros = (a - b for a, b in zip(clock, east))
        delta = timedelta(hours=hours, minutes=minutes, seconds=seconds, microseconds=micros)
        return quote((datetime.fromisoformat(day) + delta).isoformat(timespec="microseconds") + "Z")
    except (AttributeError, ValueError, OverflowError):
        return raw
