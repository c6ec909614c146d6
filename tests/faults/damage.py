"""Ways to damage or forge a file, by strata: bytes, text, JSON, signals."""

import json
import struct

import numpy as np

EXTREMES = (0, 1, -1, 2**15, 2**31 - 1, -(2**31), 2**32 - 1, 2**63 - 1)
WORDS = ("", "nan", "inf", "-inf", "1e309", "-1", "0", "1e-310", "99999999999999999999", "0x10",
         "../../x", "/etc/passwd", "=cmd()", "\x1b[31m", "\0", "é\u202e", "~", "%s%n", "a" * 5000,
         "null", "true", "[]", "{}", "!!python/object:os.system")  # fmt: skip


def damage_bytes(content, rng):
    """Damage bytes anywhere, half of the time in the first kilobyte, where headers are."""
    if not content:
        return b"\0"
    data, n = bytearray(content), len(content)
    start = int(rng.integers(0, min(n, 1024) if rng.random() < 0.5 else n))
    length = int(min(n - start, 2 ** rng.integers(0, 12)))
    way = rng.integers(0, 9)
    if way == 0:
        data[start] ^= 1 << int(rng.integers(0, 8))
    elif way == 1:
        data[start : start + length] = rng.bytes(length)
    elif way == 2:
        form = ("<i", "<q", ">i", ">q")[rng.integers(0, 4)]
        value = int(rng.choice(np.array(EXTREMES, object)))
        size = struct.calcsize(form)
        value = value % 2 ** (8 * size) - (
            2 ** (8 * size) if value % 2 ** (8 * size) >= 2 ** (8 * size - 1) else 0
        )
        data[start : start + size] = struct.pack(form, value)
    elif way == 3:
        del data[start : start + length]
    elif way == 4:
        data[start:start] = data[start : start + length]
    elif way == 5:
        del data[start:]
    elif way == 6:
        data += rng.bytes(length)
    elif way == 7:
        data[start : start + length] = bytes(length)
    else:
        other = int(rng.integers(0, n))
        data[start : start + length] = data[other : other + length]
    return bytes(data)


def damage_text(content, rng):
    """Damage words and lines of a text, or of what is text in a file."""
    lines = content.decode("latin1").split("\n")
    place = int(rng.integers(0, min(len(lines), 6) if rng.random() < 0.6 else len(lines)))
    way = rng.integers(0, 6)
    if way == 0:
        del lines[place]
    elif way == 1:
        lines.insert(place, lines[int(rng.integers(0, len(lines)))])
    elif way == 2:
        lines[place] = lines[place][: int(rng.integers(0, len(lines[place]) + 1))]
    elif way == 3:
        lines[place] = lines[place].replace(",", ";").replace(" ", "\t")
    else:
        mark = "," if "," in lines[place] else " "
        words = lines[place].split(mark)
        words[int(rng.integers(0, len(words)))] = str(rng.choice(WORDS))
        lines[place] = mark.join(words)
    return "\n".join(lines).encode("latin1", "replace")


def places_in(value, path=()):
    """Yield every place in a JSON value."""
    yield path
    parts = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, part in parts:
        yield from places_in(part, (*path, key))


def damage_json(content, rng):
    """Put something else at one place of a JSON value, or take it away."""
    value = json.loads(content)
    places = list(places_in(value))
    place = places[int(rng.integers(0, len(places)))]
    deep = "[" * 50_000
    new = (
        None,
        [],
        {},
        "",
        -1,
        0,
        True,
        1e308,
        2**70,
        "x" * 10_000,
        "../x",
        "\x1b[31m",
        [[1]],
        {"a": {}},
        float("nan"),
        "DEEP",
        "GONE",
        "TWIN",
    )[rng.integers(0, 18)]
    if not place:
        value = new
    else:
        inside = value
        for key in place[:-1]:
            inside = inside[key]
        if new == "GONE":
            del inside[place[-1]]
        elif new == "TWIN" and isinstance(inside, dict):
            inside[f"{place[-1]}2"] = inside[place[-1]]
        else:
            inside[place[-1]] = new
    return json.dumps(value).replace('"DEEP"', deep).encode()


def forge_signals(signals, rng):
    """Return signals, or a rate, that no recorder gives."""
    forged = dict(signals)
    name = str(rng.choice(["ppg", "ecg", "fs"], p=[0.5, 0.3, 0.2]))
    if name == "fs":
        forged["fs"] = float(rng.choice([0, -125, 1e-300, 1e300, 0.5, 19, 2001, 1e9]))
        return forged
    x = forged[name].copy()
    start, length = int(rng.integers(0, len(x))), int(2 ** rng.integers(0, 11))
    values = (np.nan, 1e30, -1e30, 1e300, 1e-310, 0.0, 3.5e38, 1e18)
    way = rng.integers(0, 6)
    if way <= 2:
        x[start : start + length] = rng.choice(values)
    elif way == 3:
        x = x * rng.choice([1e-320, 1e-300, 1e-40, 1e30, 1e200, 0])
    elif way == 4:
        x = np.full_like(x, rng.choice(values))
    else:
        x = forged["ecg" if name == "ppg" else "ppg"].copy()
    forged[name] = x
    return forged


def strata_of(path):
    """Return the ways that make sense for a file, by its name."""
    if path.suffix in (".json", ".sig"):
        return (damage_json, damage_json, damage_text, damage_bytes)
    if path.suffix in (".csv", ".txt", ".yaml", ".hea", ".pem"):
        return (damage_text, damage_text, damage_bytes)
    if path.suffix == ".edf":
        return (damage_text, damage_bytes, damage_bytes)
    return (damage_bytes,)


def damage_header(content, rng):
    """Damage one of the JSON texts in the header of a safetensors file, whose tensors stay."""
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    notes = header["__metadata__"]
    name = sorted(notes)[int(rng.integers(0, len(notes)))]
    way = (damage_json, damage_json, damage_text)[rng.integers(0, 3)]
    notes[name] = way(notes[name].encode(), rng).decode("latin1")
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    return len(written).to_bytes(8, "little") + written + content[end:]
