"""A reader that knows FORMAT.md and nothing else; it shares no code with the library."""

import hashlib
import json
import os
import pathlib

SPELLED = ". _o _i _j _q _n _t _h _k _l _r _s _p _m __".split()  # noqa: SIM905 - as the table reads
PLAIN = dict(zip('/.[]":@#,{} %+_', SPELLED, strict=True))
SELF = set("abcdefghijklmnopqrstuvwxyz0123456789-")
RESERVED = {"con", "prn", "aux", "nul"} | {p + str(n) for p in ("com", "lpt") for n in range(10)}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def guarded(key):  # section 2.1, names that Windows reserves
    return f"_{ord(key[0]):02x}{key[1:]}" if key.partition(".")[0] in RESERVED else key


def key_form(text):  # section 2.1
    key = ""
    for at, char in enumerate(text):
        if char == "/" and (at in (0, len(text) - 1) or text[at - 1] == "/"):
            key += "_g"
        elif char.isascii() and char.lower() in SELF:
            key += char if char in SELF else "_u" + char.lower()
        else:
            key += PLAIN.get(char) or "".join(f"_{byte:02x}" for byte in char.encode())
    short = guarded(key) or "_v"
    if len(short) <= 100:
        return short
    return (guarded(short[:58].rstrip("._")) or "_v") + ".." + sha256(text.encode())[:40]


def unframe(data):  # section 3
    body = data[86:-1]
    if data != b'{"sha256":"' + sha256(body).encode() + b'","record":' + body + b"}":
        return None
    record = json.loads(body)
    return record if record["format"] == "runstore/1" else None


def unpack(body, record):  # section 8
    at = len(body) - 2 - sum(record["lengths"]) - max(len(record["lengths"]) - 1, 0)
    for length in record["lengths"]:
        yield body[at : at + length]
        at += length + 1


def read_run(folder):
    damaged, adopted, named, logs, starts, ends = [], {}, set(), set(), {}, {}

    def take(data, name, into=None):
        record = unframe(data)
        if record is None or (into is None and record["run_nonce"] != run["nonce"]):
            return damaged.append(name)  # or of another run
        kept = {"start": starts, "end": ends}.get(record["kind"]) if into is None else into
        if kept is not None:
            blobs = [*record.get("large", {}).values(), *record.get("artifacts", {}).values()]
            named.update(blob["sha256"] for blob in [*blobs, record.get("log")] if blob)
            where = record["path"], record["attempt"] if into is None else 0
            if kept.setdefault(where, (data, record))[0] != data:
                damaged.append(name)  # two that differ
        return record

    run = unframe(pathlib.Path(folder, "run.json").read_bytes())
    assert os.path.basename(folder) == key_form(run["run_id"])
    origin = (run.get("origin") or {}).get("pack")
    for where, _, names in os.walk(os.path.join(folder, run["nonce"])):
        for name in [name for name in names if not name.startswith(".")]:
            data = pathlib.Path(where, name).read_bytes()
            is_blob = "blobs" in os.path.relpath(where, folder).split(os.sep)
            damaged += [name] if is_blob and sha256(data) != name else []
            record = None if is_blob else take(data, name)
            if record and record["kind"] == "pack":
                logs.update(record.get("logs", {}))
                damaged += [name] if name != sha256(data[86:-1]) + ".json" else []
                for framed in unpack(data[86:-1], record):
                    take(framed, name, adopted if name == f"{origin}.json" else None)
            elif record and record["kind"] in ("start", "end"):
                made = f"{key_form(record['path'])}.{record['attempt']:06}.{record['kind']}.json"
                damaged += [name] if made != name else []
    for (path, number), (_, end) in ends.items():  # an end names its start
        data, start = starts.get((path, number), (b"", {}))
        if start and (end.get("start"), end["nonce"]) != (data[11:75].decode(), start["nonce"]):
            damaged += [f"{key_form(path)}.{number:06}.end.json"] if end.get("start") else []
    known, latest = adopted | starts | ends, {}  # an end says more than its start
    for (path, number), (_, one) in sorted(known.items(), key=lambda each: each[0][1]):
        latest[path] = (number, one.get("outcome", "in progress"), one.get("outputs") or {})
    return {"run": run, "latest": latest, "damaged": sorted(damaged), "named": named - logs}


def read(root):
    runs = [read_run(entry.path) for entry in os.scandir(os.path.join(root, "runs"))]
    return {run["run"]["run_id"]: run for run in runs}
