"""Hostile checkpoints: opens many damaged variants of one format, and prints the peak of memory in bytes.

    python fuzz_headers.py FORMAT CASES SMALL_FILE

FORMAT is safetensors, msgpack, torch or config. SMALL_FILE is the weights; for msgpack and config, a config.json lies
next to it. Ends with an error where one opens to something else than a checkpoint whose tensors
can be read or an error of ours, or takes longer than ten seconds. Hypothesis draws a number per case and finds the
smallest that fails; what a number stands for is drawn with it here, since a header of hundreds of entries, drawn piece
by piece by Hypothesis, takes twenty times as long as opening it.
"""

import json
import signal
import struct
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import msgpack
from fuzz_manifest import damaged
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from peak_memory import peak_bytes

from latentrt.export.checkpoints import SourceOptions, open_checkpoint
from latentrt.runtime.errors import LatentRTError

SECONDS = 10
NUMBERS = [0, 1, 2, 3, 4, 32, -1, 255, 2**31, 2**53, 2**62, 2**63, 2**64, 10**40, 10**4000, 1.5, float("nan"), True]
TEXTS = ["", "x", "config", "vae", "F32", "../x", "\0", "\ud800", "encoder.conv_in.weight", "é" * 500, "vae.a\nb"]
PIECES = [
    b"\xff" * 8,
    b"\0" * 8,
    b"\x7f",
    b"[" * 2000,
    b'{"a":' * 2000,
    b"\xdd\xff\xff\xff\xff",
    b"\xc9\x7f\xff\xff\xff",
]
KINDS = ["res_x", "compress_all", "compress_time", "compress_space", "compress_all_res", "attn", "", None, 7]
DTYPES: list[Any] = ["F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "I64", "BOOL", "F33", "", None, ["F32"], {}]


def anything(random: Random, depth: int = 0) -> Any:
    """A JSON value."""
    match random.randrange(6 if depth < 4 else 4):
        case 0:
            return random.choice(NUMBERS)
        case 1:
            return random.choice(TEXTS)
        case 2:
            return random.choice([None, True, False])
        case 3:
            return random.randrange(-(2 ** random.randrange(1, 70)), 2 ** random.randrange(1, 70))
        case 4:
            return [anything(random, depth + 1) for _ in range(random.randrange(4))]
    return {random.choice(TEXTS): anything(random, depth + 1) for _ in range(random.randrange(4))}


def mutated(random: Random, whole: bytes) -> bytes:
    """The file with a few pieces cut out, overwritten or put in, most of them near its beginning."""
    content = bytearray(whole)
    for _ in range(random.randint(1, 4)):
        last = min(random.choice([16, 200, 5000, len(content)]), len(content))
        at = random.randrange(last) if last else 0
        piece = random.choice([*PIECES, random.randbytes(random.randint(1, 9))])
        match random.randrange(4):
            case 0:
                del content[at:]
            case 1:
                content[at : at + len(piece)] = piece
            case 2:
                content[at:at] = piece
            case 3:
                del content[at : at + len(piece)]
    return bytes(content)


def safetensors_file(random: Random, whole: bytes) -> bytes:
    """The file with some of its header's entries changed, before the data that it was made for, more of it, or less."""
    end = 8 + struct.unpack("<Q", whole[:8])[0]
    header, data = json.loads(whole[8:end]), whole[end:]
    for _ in range(random.randint(1, 5)):
        name = random.choice([*header, *TEXTS])
        entry = header.setdefault(name, {})
        if not isinstance(entry, dict):
            continue
        match random.randrange(6):
            case 0:
                entry["dtype"] = random.choice(DTYPES)
            case 1:
                numbers = [random.choice(NUMBERS) for _ in range(random.randrange(7))]
                entry["shape"] = random.choice([numbers, [0] * 10_000, [10**300] * 2000, anything(random)])
            case 2:
                offsets = [random.randrange(len(data) + 9) for _ in range(random.randrange(4))]
                entry["data_offsets"] = random.choice([offsets, anything(random)])
            case 3:
                header[name] = anything(random)
            case 4:
                header["__metadata__"] = random.choice([{"config": anything(random)}, anything(random)])
            case 5:
                header["__metadata__"] = {"config": json.dumps({"vae": described(random, header)})}
    text = json.dumps(header).encode()
    length = random.choice([len(text)] * 8 + [len(text) - 1, len(text) + 1, 2**63, 2**64 - 1, 0])
    return struct.pack("<Q", length % 2**64) + text + random.choice([data, data, data, data[:-1], data + b"\0", b""])


def described(random: Random, header: dict[str, Any]) -> dict[str, Any]:
    """LTX-2's description of its VAE, with some fields changed."""
    try:
        vae = dict(json.loads(header["__metadata__"]["config"])["vae"])
    except (KeyError, TypeError, ValueError):
        vae = {}
    fields = ["latent_channels", "patch_size", "in_channels", "spatial_padding_mode", "timestep_conditioning", "dims"]
    for _ in range(random.randint(1, 3)):
        side = random.choice(["encoder_blocks", "decoder_blocks"])
        blocks = vae.get(side)
        if isinstance(blocks, list) and blocks and random.random() < 0.6:
            option = random.choice(["num_layers", "multiplier", "residual", "inject_noise"])
            at = random.randrange(len(blocks))
            blocks = list(blocks)
            blocks[at] = [random.choice(KINDS), {option: random.choice([*NUMBERS, anything(random)])}]
            vae = {**vae, side: blocks}
        else:
            vae = {**vae, random.choice([*fields, side]): anything(random)}
    return vae


def msgpack_file(random: Random, whole: bytes) -> bytes:
    """The file's tree with some of its values replaced by others, arrays of impossible shapes among them."""
    tree: Any = msgpack.unpackb(whole)
    for _ in range(random.randint(1, 3)):
        at = tree
        while isinstance(at, dict) and at:
            name = random.choice(list(at))
            if not isinstance(at[name], dict) or random.random() < 0.2:
                at[name] = packable(random)
                break
            at = at[name]
    return bytes(msgpack.packb(tree))


def packable(random: Random, depth: int = 0) -> Any:
    """A value that msgpack packs, most of them broken arrays."""
    if depth < 4 and random.random() < 0.3:
        return {
            random.choice(["a", "b", "\n", "conv_in"]): packable(random, depth + 1) for _ in range(random.randrange(4))
        }
    shape = [random.choice([0, 1, 2, 3, -1, 2**31, 2**62, "2", None]) for _ in range(random.randrange(10))]
    dtype = random.choice(["float32", "bfloat16", "float16", "int8", "object", ""])
    content = random.choice([[shape, dtype, random.randbytes(random.randrange(17))], shape, 7, {"x": shape}])
    data = random.choice([msgpack.packb(content), random.randbytes(9), b""])
    return random.choice([msgpack.ExtType(random.choice([1, 1, 1, 2, 3, 9]), data), data, shape, None, "x", 2**63])


def torch_file(random: Random, whole: bytes) -> bytes:
    """A file of torch with a few bytes of its pickle changed: steps, numbers and names."""
    content = bytearray(whole)
    start = max(content.find(b"\x80\x02}"), content.find(b"\x80\x02c"), 0)
    end = start + content[start:].rfind(b"u.") if b"u." in content[start:] else len(content)
    for _ in range(random.randint(1, 6)):
        at = random.randrange(start, max(end, start + 1))
        step = random.choice(
            [b"R", b"Q", b"(", b"t", b"s", b"u", b"b", b"q\0", b"h\1", b"0", b"2", b"l", b"a", b"e", b"."]
        )
        large = b"r" + random.randbytes(4)
        content[at : at + random.choice([0, 1, 1, 4])] = random.choice([step, large, random.randbytes(1), b"K\xff"])
    return bytes(content)


def config_file(random: Random, whole: bytes) -> bytes:
    """A config.json with some values replaced, left out or doubled."""
    return json.dumps(damaged(random, json.loads(whole))).encode()


def open_and_read(path: Path) -> None:
    """One case: what opens must be readable; everything else is an error of ours, in one sentence."""
    signal.alarm(SECONDS)
    try:
        for tensor in open_checkpoint(path, options=SourceOptions(allow_pickle=True)).tensors.values():
            tensor.read()
    except LatentRTError as error:
        if not str(error) or not str(error).isprintable():
            raise AssertionError("not one sentence") from error
    finally:
        signal.alarm(0)


def main(kind: str, cases: int, source: Path) -> None:
    whole = source.read_bytes()
    built = {"safetensors": safetensors_file, "msgpack": msgpack_file, "torch": torch_file, "config": config_file}[kind]
    if kind == "config":
        whole = source.with_name("config.json").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / source.name
        if kind == "config":
            path.write_bytes(source.read_bytes())
            path = path.with_name("config.json")
        if kind == "msgpack":
            path.with_name("config.json").write_bytes(source.with_name("config.json").read_bytes())

        @seed(0)
        @settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.integers(0, 2**64 - 1))
        def fuzz(case: int) -> None:
            random = Random(case)
            path.write_bytes((mutated if random.random() < 0.4 else built)(random, whole))
            open_and_read(path.parent if kind == "config" else path)

        fuzz()
    sys.stdout.write(f"{peak_bytes()}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
