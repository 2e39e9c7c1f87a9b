"""One period of load on one bundle and backend, in rounds. What the process holds is measured between the rounds."""

import contextlib
import gc
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from latentrt.runtime import CancelToken
from latentrt.runtime.errors import Cancelled, LatentRTError

from .backends import SIZES, bundle_of_load
from .storms import latents_of, opened, samples_of
from .verdict import Verdict, fault

__all__ = ["Held", "growth", "run_case"]

_THREADS = 3
_ROUNDS = 12
_WARM_ROUNDS = 4  # rounds in which caches and pools fill
_MOST_NEW_THREADS = 24  # OpenVINO starts a few for each model of its own; they stay, and are used again
_MOST_NEW_FILES = 6
_MOST_NEW_BYTES = 200_000_000
_TOLERANCE = 1e-4  # of the largest value: engines that are made for a size differ in the last digits
_UNUSED_THREADS = 12  # that periods may add after one another
_UNUSED_BYTES = 600_000_000  # that periods may add after one another, when everything is closed


@dataclass(frozen=True)
class Held:
    """What the process holds: resident bytes, threads, open files."""

    rss: int
    threads: int
    files: int

    @classmethod
    def now(cls) -> "Held":
        gc.collect()
        process = psutil.Process()
        return cls(process.memory_info().rss, process.num_threads(), process.num_fds())


def growth(
    before: "list[Held]",
    after: "list[Held]",
    most_bytes: int = _MOST_NEW_BYTES,
    most_threads: int = _MOST_NEW_THREADS,
) -> str | None:
    """What grew more than it may between two groups of measurements, or None."""
    for name, most in (("threads", most_threads), ("files", _MOST_NEW_FILES), ("rss", most_bytes)):
        first, last = (statistics.median(getattr(held, name) for held in group) for group in (before, after))
        if last - first > most:
            return f"{name} grew from {first:g} to {last:g}"
    return None


_first: dict[str, Held] = {}  # what the process held after the first period of a group


def run_case(group: str, number: int, seed: int, work: str, seconds: float) -> Verdict:
    """One period."""
    bundle, kind, backend = bundle_of_load(group, work)
    load = _Load(bundle, kind, backend, Random(f"{seed} {group} {number}"))
    held = []
    with opened(bundle, backend=backend, threads=1, contexts=2) as vae:
        load.begin(vae)
        for _ in range(_ROUNDS):
            load.round(seconds / _ROUNDS)
            held.append(Held.now())
    if load.wrong:
        return fault("result", f"{len(load.wrong)} wrong of {load.count} operations; the first: {load.wrong[0]}")
    quarter = (_ROUNDS - _WARM_ROUNDS) // 2
    grown = growth(held[_WARM_ROUNDS : _WARM_ROUNDS + quarter], held[-quarter:])
    if grown is None:
        end = Held.now()
        grown = growth([_first.setdefault(group, end)], [end], _UNUSED_BYTES, _UNUSED_THREADS)
    if grown is not None:
        return fault("growth", f"{grown} in {load.count} operations of {load.counts}")
    return Verdict("right", detail=f"{load.count} operations")


@dataclass
class _Load:
    """Operations at random on one shared autoencoder and on others that are opened and closed."""

    bundle: Path
    kind: str
    backend: str
    chance: Random
    wrong: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    wanted: dict[tuple[str, tuple[int, ...]], NDArray[Any]] = field(default_factory=dict)
    vae: Any = None

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def begin(self, vae: Any) -> None:
        """Compute the right results."""
        self.vae = vae
        for size in SIZES[self.kind]:
            for name, run in self._computing().items():
                self.wanted[name, size] = run(vae, size, CancelToken())

    def round(self, seconds: float) -> None:
        """Let the threads work for some seconds, and wait for them."""
        deadline = time.monotonic() + seconds
        seeds = [self.chance.randrange(2**32) for _ in range(_THREADS)]
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda seed: self._work(Random(seed), deadline), seeds))

    def _work(self, chance: Random, deadline: float) -> None:
        names = [*self._computing()] * 4 + ["cancel"] * 4 + ["release", "reopen", "close", "warmup", "cancel_all"]
        while time.monotonic() < deadline:
            name, size = chance.choice(names), chance.choice(SIZES[self.kind])
            self.counts[name] = self.counts.get(name, 0) + 1
            try:
                self._operation(name, size, chance)
            except Cancelled:
                pass  # `cancel_all` of another thread stops every call
            except LatentRTError as error:
                self.wrong.append(f"{name} {size}: {type(error).__name__}: {error}")

    def _operation(self, name: str, size: tuple[int, ...], chance: Random) -> None:
        computing = self._computing()
        if name in computing:
            self._compare(name, size, computing[name](self.vae, size, CancelToken()))
        elif name == "cancel":
            chosen = chance.choice([*computing])
            token = CancelToken()
            timer = threading.Timer(chance.random() * 0.05, token.cancel)
            timer.start()
            try:
                self._compare(chosen, size, computing[chosen](self.vae, size, token))
            finally:
                timer.cancel()
        elif name == "cancel_all":
            self.vae.cancel()
        elif name == "release":
            self.vae.release()
        elif name == "warmup":
            self.vae.warmup([(1, self.vae.config.latent_channels, *size)])
        else:
            self._open_another(name, size, chance)

    def _open_another(self, name: str, size: tuple[int, ...], chance: Random) -> None:
        """Open an autoencoder, run it, and close it. A call that runs meanwhile may end with an error of ours."""
        with opened(self.bundle, backend=self.backend, threads=1) as vae:
            if name == "reopen":
                if self.kind == "image" and chance.random() < 0.5:
                    vae.enable_tiling(exact=True, strip=16)
                self._compare("decode", size, vae.decode(latents_of(vae, size)).sample)
                return
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(vae.decode, latents_of(vae, size))
                time.sleep(chance.random() * 0.05)
                vae.close()
                with contextlib.suppress(LatentRTError):
                    self._compare("decode", size, call.result().sample)

    def _computing(self) -> "dict[str, Callable[[Any, tuple[int, ...], CancelToken], NDArray[Any]]]":
        ways: dict[str, Callable[[Any, tuple[int, ...], CancelToken], NDArray[Any]]] = {
            "decode": lambda vae, size, token: vae.decode(latents_of(vae, size), cancel=token).sample,
            "encode": lambda vae, size, token: vae.encode(samples_of(vae, size), cancel=token).latent_dist.parameters,
            "tiles": lambda vae, size, token: vae.tiled_decode(latents_of(vae, size), cancel=token).sample,
        }
        if self.kind == "video":
            ways["stream"] = lambda vae, size, token: np.concatenate(
                list(vae.decode_stream(latents_of(vae, size), 8, cancel=token)), axis=2
            )
        return ways

    def _compare(self, name: str, size: tuple[int, ...], found: NDArray[Any]) -> None:
        right = self.wanted[name, size]
        if found.shape != right.shape:
            self.wrong.append(f"{name} {size}: shape {found.shape}, wanted {right.shape}")
        elif not np.abs(found - right).max() <= _TOLERANCE * np.abs(right).max():
            self.wrong.append(f"{name} {size}: off by {np.abs(found - right).max():.3g}")
