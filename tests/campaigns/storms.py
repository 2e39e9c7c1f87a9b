"""Storms of calls: many calls from several threads, half of which are cancelled at a random moment."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentrt.runtime import CancelToken, open_bundle
from latentrt.runtime.errors import Cancelled

__all__ = ["Call", "Storm", "calls_of", "latents_of", "opened", "samples_of"]

Call = Callable[[CancelToken], NDArray[Any]]
_THREADS = 4


@dataclass
class Storm:
    """How calls of a storm ended."""

    right: int = 0
    cancelled: int = 0

    def run(self, vae: Any, calls: Sequence[Call], seed: int, count: int) -> None:
        """Make calls one after the other; half of them are cancelled at a random moment.

        Raises:
            AssertionError: a call gave another result, or was cancelled without a reason.
        """
        wanted = [call(CancelToken()) for call in calls]
        seconds = [self._seconds(call) for call in calls]
        lock = threading.Lock()

        def one(number: int) -> None:
            chance = random.Random(seed * 1_000_003 + number)
            which = chance.randrange(len(calls))
            token = CancelToken()
            to_be_cancelled = chance.random() < 0.5
            timer = threading.Timer(chance.random() * 2 * seconds[which], token.cancel)
            if to_be_cancelled:
                timer.start()
            try:
                result = calls[which](token)
            except Cancelled:
                assert to_be_cancelled, "a call was cancelled without a reason"
                with lock:
                    self.cancelled += 1
                return
            finally:
                timer.cancel()
            assert result.shape == wanted[which].shape
            np.testing.assert_allclose(result, wanted[which], rtol=0, atol=1e-4 * np.abs(wanted[which]).max())
            with lock:
                self.right += 1

        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(one, range(count)))

    @staticmethod
    def _seconds(call: Call) -> float:
        started = time.perf_counter()
        call(CancelToken())
        return time.perf_counter() - started


def opened(bundle: Path, **options: Any) -> Any:
    """The bundle's autoencoder; its methods are its family's."""
    return open_bundle(bundle, **options)


def latents_of(vae: Any, size: tuple[int, ...]) -> NDArray[np.float32]:
    """Latents of a size in cells, the same at each call."""
    return np.random.default_rng(len(size)).standard_normal((1, vae.config.latent_channels, *size), np.float32)


def samples_of(vae: Any, size: tuple[int, ...]) -> NDArray[np.float32]:
    """A sample whose latents have this size in cells, the same at each call."""
    x = np.zeros((1, vae.config.in_channels, *vae.grid.sample_size(size)), np.float32)
    return x + np.linspace(-1, 1, x.shape[-1], dtype=np.float32)


def calls_of(vae: Any, sizes: Sequence[tuple[int, ...]]) -> list[Call]:
    """Decodes, encodes and, of video, streams, of several sizes."""

    def decode(z: Any) -> Call:
        return lambda token: vae.decode(z, cancel=token).sample

    def encode(x: Any) -> Call:
        return lambda token: vae.encode(x, cancel=token).latent_dist.parameters

    def stream(z: Any) -> Call:
        return lambda token: np.concatenate(list(vae.decode_stream(z, 8, cancel=token)), axis=2)

    made: list[Call] = []
    for size in sizes:
        z = latents_of(vae, size)
        made += [decode(z), encode(samples_of(vae, size))]
        if vae.video:
            made.append(stream(z))
    return made
