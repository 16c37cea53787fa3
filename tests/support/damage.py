"""Files after an accident: bits, bytes, fields and values that are lost, repeated or replaced."""

import copy
import json
import math
import pickle
import random
from pathlib import Path
from typing import Any

FIELDS = (
    "",
    "nan",
    "-1",
    "1e400",
    "9" * 400,
    "\x00",
    "é",
    '"',
    "mug,",
    "train",
    "0.5",
    "a\nb",
    "360",
    "../x",
)
ODD = (None, True, math.nan, math.inf, -1, 0, 1, 10**30, 1.5, "é", "", [], {}, [1, 2], [1, 2, 3, 4], "2")


def changed(values: Any, rng: random.Random) -> Any:
    """Parsed values after one change of their structure."""
    values = copy.deepcopy(values)
    places: list[tuple[Any, Any]] = []
    waiting = [values]
    while waiting:
        parent = waiting.pop()
        for key, value in parent.items() if isinstance(parent, dict) else enumerate(parent):
            places.append((parent, key))
            waiting += [value] if isinstance(value, dict | list) else []
    parent, key = rng.choice(places)
    kind = rng.randrange(4)
    if kind == 0:
        del parent[key]
    elif kind == 1 and isinstance(parent[key], int | float):
        parent[key] += rng.choice((-1, 1)) * 10 ** rng.randrange(5)
    elif kind == 2 and isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    else:
        parent[key] = rng.choice(ODD)
    return values


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a file after one accident."""
    at = rng.randrange(len(content))
    return (
        content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :],
        content[:at] + b"%d" % rng.randrange(10) + content[at + 1 :],
        content[:at] + bytes([rng.randrange(256)]) + content[at:],
        content[:at] + content[at + rng.randrange(1, 9) :],
        content[:at],
        content[:at] + content[rng.randrange(len(content)) :],
        content.decode("latin-1").encode(rng.choice(("utf-16", "utf-8-sig"))),
    )[rng.randrange(7)]


def in_table(content: bytes, rng: random.Random) -> bytes:
    """The bytes of a CSV table after a line was lost or repeated, or a field replaced."""
    lines = content.decode().split("\r\n")
    number = rng.randrange(len(lines))
    if rng.random() < 0.5:
        lines[number : number + 1] = [lines[number]] * rng.choice([0, 2])
    else:
        fields = lines[number].split(",")
        fields[rng.randrange(len(fields))] = rng.choice(FIELDS)
        lines[number] = ",".join(fields)
    return "\r\n".join(lines).encode()


def mutant(path: Path, content: bytes, rng: random.Random) -> bytes:
    """Other content for a file, by its suffix."""
    if rng.random() < 0.6:
        if path.suffix == ".json":
            return json.dumps(changed(json.loads(content), rng)).encode()
        if path.suffix == ".pickle":
            return pickle.dumps(changed(pickle.loads(content), rng), rng.choice((2, 3, 4)))
        if path.suffix == ".csv":
            return in_table(content, rng)
    return damaged(content, rng)
