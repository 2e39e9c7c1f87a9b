"""Damaged manifests: a bundle with one is refused with an error of ours, or gives the pixels that it gave before.

    python fuzz_manifest.py BUNDLE CASES SEED [BACKEND]

Copies the bundle, and opens and runs it CASES times, each time with a manifest that was damaged in one to three places.
Prints one line per failure, and the peak of memory in bytes at the end. Ends with 1 if a case failed.
"""

import copy
import json
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from peak_memory import peak_bytes

from latentrt.runtime import open_bundle
from latentrt.runtime.errors import LatentRTError

__all__ = ["damaged", "failures", "results"]

SECONDS = 5
CLOSE = 1e-4  # Two forms of one graph differ by rounding.
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2, 3, 7, 255, 2**31, 2**62, 2**64, 10**30, -(2**63), 0.5, 1e300, -1.0,
    "", "x", "\0", "a\nb", "../x", "/etc/passwd", "float16", "bfloat16",
    "decoder", "encoder", "é" * 300, "\ud800", "9" * 400, [], {}, [[]],
    [None], [0], ["x"], {"x": None}, {"": {}}, [[[[[[[[]]]]]]]], list(range(300)), {"a": {"b": {"c": []}}},
]  # fmt: skip


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    if place:
        yield place
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*place, key))


def at(value: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        value = value[key]
    return value


def damaged(random: Random, whole: dict[str, Any]) -> dict[str, Any]:
    """A copy of a manifest that is damaged in one to three places."""
    values: dict[str, Any] = copy.deepcopy(whole)
    for _ in range(random.choice([1, 1, 1, 2, 3])):
        if not values:
            break
        # The parts of a manifest have very different sizes, and each part gets its share.
        top = random.choice(list(values))
        place = random.choice([(top,), *((top, *rest) for rest in places(values[top]))])
        holder, key = at(values, place[:-1]), place[-1]
        old = holder[key]
        match random.randrange(8):
            case 0:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 1:
                holder.pop(key)
            case 2:
                holder[key] = changed(random, old)
            case 3:  # what stands elsewhere
                elsewhere = random.choice(list(places(values)))
                holder[key] = copy.deepcopy(at(values, elsewhere))
            case 4:  # two neighbours change places
                other = random.choice(list(holder) if isinstance(holder, dict) else range(len(holder)))
                holder[key], holder[other] = holder[other], holder[key]
            case 5:
                if isinstance(holder, list):
                    holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(old))
                else:
                    holder[random.choice(["x", "", "\0", "file", "stage", "decoder"])] = copy.deepcopy(old)
            case 6:  # the same key of another object of the same kind
                alike = [one for one in places(values) if one[-1] == key and len(one) == len(place) and one != place]
                if alike:
                    other_place = random.choice(alike)
                    other_holder = at(values, other_place[:-1])
                    holder[key], other_holder[key] = other_holder[key], holder[key]
            case 7:
                nested: Any = old
                for _ in range(random.choice([1, 2, 80])):
                    nested = [nested]
                holder[key] = nested
    return values


def changed(random: Random, old: Any) -> Any:
    """A value of the same kind."""
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return random.choice([old + 1, old - 1, -old, old * 2, old // 2, 0, 1, 2**31, 10**25])
    if isinstance(old, float):
        return random.choice([old * 2, -old, 0.0, 1e300])
    if isinstance(old, str):
        return random.choice([old + "x", old[:-1], old.upper(), "", "\0" + old, "./" + old, "a/../" + old, old * 50])
    if isinstance(old, list):
        return random.choice([old[:-1], old[::-1], old * 2, [], old[1:]])
    if isinstance(old, dict):
        return random.choice([dict(list(old.items())[:-1]), dict(list(old.items())[1:]), {}])
    return random.choice(VALUES)


def results(folder: Path, backend: str) -> dict[str, Any]:
    """What a bundle computes: a decode, an encode, and a stream or strips."""
    found: dict[str, Any] = {}
    options: Any = {"backend": backend, "threads": 1}
    opened: Any = open_bundle(folder, **options)
    with opened as vae:
        random = np.random.default_rng(0)
        ratio, channels, video = vae.config.spatial_ratio, vae.config.latent_channels, vae.video
        if channels > 4096 or ratio > 256 or vae.config.in_channels > 4096:
            vae.decode(np.zeros((1, 4, 4, 4), np.float32))  # refused, or at least small
            return {}
        z = random.standard_normal((1, channels, *(2,) * video, 4, 4), np.float32)
        x = random.uniform(-1, 1, (1, vae.config.in_channels, *(1,) * video, 4 * ratio, 4 * ratio)).astype(np.float32)
        found["latents_mean"] = vae.scale_latents(z)
        found["decode"] = vae.decode(z, **conditions(vae)).sample
        found["encode"] = vae.encode(x).latent_dist.parameters
        vae.release()
        if video:
            found["stream"] = np.concatenate(list(vae.decode_stream(np.repeat(z, 2, 2), 8, **conditions(vae))), 2)
        else:
            vae.enable_tiling(exact=True)
            found["strips"] = vae.decode(np.tile(z, (1, 1, 4, 4))).sample
    return found


def conditions(vae: Any) -> dict[str, Any]:
    given: dict[str, Any] = {}
    if vae.config.timestep_conditioning:
        given["temb"] = np.full(1, 0.05, np.float32)
    if vae.config.noise_stacks:
        given["rng"] = 0
    return given


@contextmanager
def at_most(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def failure(folder: Path, backend: str, wanted: dict[str, Any], seconds: int) -> str | None:
    """Open and run the bundle: None, or what is wrong."""
    try:
        with at_most(seconds):
            found = results(folder, backend)
    except LatentRTError as error:
        return None if str(error) and str(error).isprintable() else f"no sentence: {error!r}"
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"
    for name, array in found.items():
        expected = wanted[name]
        if array.shape != expected.shape or not np.allclose(array, expected, rtol=0, atol=CLOSE):
            return f"other pixels: {name}"
    return None


def failures(bundle: Path, cases: int, seed: int, backend: str = "onnxruntime", seconds: int = SECONDS) -> list[str]:
    """Run damaged manifests, and describe the cases that failed, each with its number and its damage."""
    found: list[str] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(shutil.copytree(bundle, Path(place) / "bundle"))
        whole = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        results(folder, backend)  # the first run also fills caches
        started = time.monotonic()
        wanted = results(folder, backend)
        seconds += round(5 * (time.monotonic() - started))  # what an undamaged bundle takes is no hang
        for case in range(seed, seed + cases):
            values = damaged(Random(case), whole)
            (folder / "manifest.json").write_text(json.dumps(values))
            wrong = failure(folder, backend, wanted, seconds)
            if wrong is not None:
                found.append(f"case {case}: {wrong}; {difference(whole, values)}")
    return found


def difference(whole: Any, values: Any, place: str = "") -> str:
    """The places where two JSON values differ, for reports."""
    if isinstance(whole, dict) and isinstance(values, dict):
        keys = [key for key in {**whole, **values} if whole.get(key, ...) != values.get(key, ...)]
        return ", ".join(difference(whole.get(key, ...), values.get(key, ...), f"{place}.{key}") for key in keys[:4])
    if isinstance(whole, list) and isinstance(values, list) and len(whole) == len(values):
        indices = [index for index, (one, other) in enumerate(zip(whole, values, strict=True)) if one != other]
        return ", ".join(difference(whole[index], values[index], f"{place}[{index}]") for index in indices[:4])
    return f"{place}: {str(whole)[:80]} -> {str(values)[:80]}"


if __name__ == "__main__":
    wrong = failures(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), (*sys.argv[4:], "onnxruntime")[0])
    sys.stdout.write("".join(f"{line!r}\n" for line in wrong) + f"{peak_bytes()}\n")
    sys.exit(1 if wrong else 0)
