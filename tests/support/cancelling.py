"""A call that is cancelled while the engine runs."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from latentrt.runtime.errors import Cancelled


def a_cancelled_decode_stops_early(vae: Any, z: np.ndarray, *, tries: int = 5) -> bool:
    """Whether a decode of `z`, cancelled after a tenth of a whole one's time, raises before 0.7 of that time: it
    stopped between two layers, not at the end. Once in a few tries is enough, since a busy machine stretches any of
    them."""
    return any(_stops_early(vae, z) for _ in range(tries))


def _stops_early(vae: Any, z: np.ndarray) -> bool:
    started = time.perf_counter()
    vae.decode(z)
    whole = time.perf_counter() - started
    with ThreadPoolExecutor(1) as pool:
        started = time.perf_counter()
        call = pool.submit(vae.decode, z)
        time.sleep(whole / 10)
        vae.cancel()
        with pytest.raises(Cancelled, match="the call was cancelled; the autoencoder can be used again"):
            call.result(60)
        return time.perf_counter() - started < 0.7 * whole
