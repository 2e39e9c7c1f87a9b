"""Damage to files, drawn at random: of bytes, of texts, and of JSON values."""

import copy
import json
import math
import struct
import sys
from collections.abc import Callable
from random import Random
from typing import Any

__all__ = [
    "Mutator",
    "anything",
    "json_text",
    "mixed",
    "mutated_bytes",
    "mutated_json",
    "mutated_safetensors",
    "mutated_text",
]

Mutator = Callable[[Random, bytes], bytes]
"""Gives an altered copy of a valid file."""

_NUMBERS: list[Any] = [
    0,
    1,
    -1,
    2,
    3,
    7,
    255,
    256,
    65535,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64,
    10**40,
    10**5000,
]
_FLOATS: list[Any] = [0.5, -0.0, 1e308, 5e-324, 1e400, float("nan"), float("inf")]
_TEXTS = [
    *("", " ", "x", "0", "1.5", "float32", "decoder", "encoder", "../x", "/etc/passwd", "a\nb", "\0", "\ud800"),
    *("é" * 300, "1" * 5000, "NaN", "{}", "C:\\x", "manifest.json", "\u202e", "%s%n"),
]
_WORDS = [b"\0", b"\xff", b"\0" * 4, b"\xff" * 4, b"\xff" * 8, b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\x01"]
_PIECES = [*_WORDS, b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"\xef\xbb\xbf", b"\r\n", b"'", b"(" * 2000, b"-" * 500]
_CHARACTERS = "0123456789.xX,:/eE+-_ \t\n\0%#()[]GgMmKkiIbB٣½²é\u202e\U0001f600naNinf"
_DEPTH = 4


def mutated_bytes(random: Random, whole: bytes) -> bytes:
    """The file with one to four changes: bits, pieces that are cut out, repeated, moved, put in or overwritten."""
    content = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        near = min(random.choice([16, 256, 4096, len(content), len(content)]), len(content))
        at = random.randrange(near) if near else 0
        length = random.choice([1, 2, 4, 8, 64, 1024])
        piece = random.choice([*_PIECES, random.randbytes(random.randint(1, 9))])
        match random.randrange(9):
            case 0 | 1 if content:
                content[at % len(content)] ^= 1 << random.randrange(8)
            case 2:
                del content[random.randrange(len(content) + 1) :]
            case 3:
                content[at : at + len(piece)] = piece
            case 4:
                content[at:at] = piece
            case 5:
                del content[at : at + length]
            case 6:
                content[at:at] = content[at : at + length] * random.choice([1, 2, 50])
            case 7:
                other = random.randrange(len(content) + 1)
                content[at : at + length] = content[other : other + length]
            case _:
                number = random.choice([0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, len(content)])
                form = random.choice(["<H", ">H", "<I", ">I"])
                packed = struct.pack(form, number & (0xFFFF if form[1] == "H" else 0xFFFFFFFF))
                content[at : at + len(packed)] = packed
    return bytes(content)


def mutated_text(random: Random, whole: bytes) -> bytes:
    """A short text with characters that are changed, put in, left out or repeated, or another text."""
    if random.random() < 0.1:
        return random.choice(_TEXTS).encode("utf-8", "surrogatepass")
    text = list(whole.decode("utf-8", "replace"))
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(text) + 1)
        match random.randrange(4):
            case 0:
                text[at : at + 1] = random.choice(_CHARACTERS)
            case 1:
                text[at:at] = random.choice(_CHARACTERS) * random.choice([1, 1, 1, 2, 20, 400])
            case 2:
                del text[at : at + random.randint(1, 3)]
            case _:
                text[at:at] = text * random.choice([1, 2])
    return "".join(text).encode("utf-8", "surrogatepass")


def mutated_json(random: Random, whole: bytes) -> bytes:
    """JSON text with one to three values changed, left out, added, exchanged or repeated; sometimes damaged bytes."""
    if random.random() < 0.1:
        return mutated_bytes(random, whole)
    document: Any = [json.loads(whole)]
    for _ in range(random.randint(1, 3)):
        holder, key = random.choice(_places(document))
        value = holder[key]
        match random.randrange(8):
            case 0 if holder is not document:
                del holder[key]
            case 1:
                other, name = random.choice(_places(document))
                holder[key] = copy.deepcopy(other[name])
            case 2 if isinstance(value, list) and value:
                value.append(copy.deepcopy(random.choice(value)))
            case 3 if isinstance(value, dict):
                value[random.choice(_TEXTS)] = anything(random)
            case 4 | 5:
                holder[key] = _like(random, value)
            case _:
                holder[key] = anything(random)
        if not document:
            document.append(None)
    text = json_text(document[0])
    if random.random() < 0.05:
        text = random.choice(["\ufeff" + text, text + text, text[:-1], "/*x*/" + text, text.replace(",", ",,", 1)])
    return text.encode("utf-8", "surrogatepass")


def json_text(value: Any) -> str:
    """The JSON text of a value whose numbers may have more digits than Python writes by default."""
    most = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value)
    finally:
        sys.set_int_max_str_digits(most)  # what is under test runs with Python's own limit


def mutated_safetensors(random: Random, whole: bytes) -> bytes:
    """A safetensors file with a changed header before its data, more of it, or less."""
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    if random.random() < 0.2:
        return mutated_bytes(random, whole)
    header = mutated_json(random, whole[8:end])
    length = random.choice([len(header)] * 12 + [len(header) - 1, len(header) + 1, 0, 2**63, 2**64 - 1])
    data = whole[end:]
    return struct.pack("<Q", length % 2**64) + header + random.choice([data] * 6 + [data[:-1], data + b"\0", b""])


def mixed(*mutators: Mutator) -> Mutator:
    """One of the mutators, drawn for each case."""

    def mutate(random: Random, whole: bytes) -> bytes:
        return random.choice(mutators)(random, whole)

    return mutate


def anything(random: Random, depth: int = 0) -> Any:
    """A JSON value of any kind."""
    match random.randrange(7 if depth < _DEPTH else 5):
        case 0:
            return random.choice(_NUMBERS)
        case 1:
            return random.choice(_TEXTS)
        case 2:
            return random.choice([None, True, False])
        case 3:
            return random.choice(_FLOATS)
        case 4:
            return random.randrange(-(2 ** random.randrange(1, 70)), 2 ** random.randrange(1, 70))
        case 5:
            return [anything(random, depth + 1) for _ in range(random.randrange(4))]
    return {random.choice(_TEXTS): anything(random, depth + 1) for _ in range(random.randrange(4))}


def _like(random: Random, value: Any) -> Any:
    """Another value of the same kind, which may pass for the real one."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        as_float = float(value) if abs(value) < 2**1000 else float("inf")
        return random.choice([value + 1, value - 1, -value, value * 2, value * 10**6, f"{value:x}", as_float])
    if isinstance(value, float):
        return random.choice([-value, value * 2, 0.0, int(value) if math.isfinite(value) else 0, str(value)])
    if isinstance(value, str):
        return mutated_text(random, value.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")
    if isinstance(value, list):
        return random.choice([value[:-1], value[::-1], [], value * 2, [value]])
    return random.choice([{}, [value], None, list(value or ())])


def _places(document: Any) -> list[tuple[Any, Any]]:
    """Every place of a value, as (holder, key or index)."""
    found: list[tuple[Any, Any]] = []
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        pairs = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
        for key, value in pairs:
            found.append((holder, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    return found
