"""Sharing a GPU: memory that is released and reloaded, limited, or owned by the caller; and concurrent calls."""

import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np

from .clock import MemoryWatch, median_seconds, seconds_of, synchronise
from .distance import psnr_db
from .log_messages import log_messages
from .processes import Measures
from .subject import Subject

__all__ = ["RELOAD_SECONDS", "residency_measures", "without_graphs"]

RELOAD_SECONDS = 0.2
"""Longest time that release and reload of an engine may take together."""
_SAME_DB = 100.0  # least PSNR of results that must be equal up to the order of additions
_ROUNDS = 3


def residency_measures(subject: Subject) -> Measures:
    by = subject.contender.name
    return {
        ("release and reload", by): lambda: _reloaded(subject),
        ("replayed call", by): lambda: _replayed(subject),
        ("memory cap", by): lambda: _capped(subject),
        ("caller's workspace", by): lambda: _own_workspace(subject),
        ("two contexts", by): lambda: _two_contexts(subject),
        ("no build within a call", by): lambda: _no_build(subject),
    }


def _reloaded(subject: Subject) -> dict[str, Any]:
    """Measure `release()`, the extra time of the next call, and their sum, in seconds; medians."""
    call, vae = subject.on_host, subject.vae
    call()
    normal = median_seconds(call, subject.device)
    released, longer = [], []
    for _ in range(_ROUNDS):
        released.append(seconds_of(vae.release, subject.device))
        longer.append(max(seconds_of(call, subject.device) - normal, 0.0))
    both = [sum(pair) for pair in zip(released, longer, strict=True)]
    promised = {"reload_seconds": RELOAD_SECONDS} if subject.contender.kind.startswith("tensorrt") else {}
    return {
        "release_seconds": statistics.median(released),
        "first_call_longer_seconds": statistics.median(longer),
        "reload_seconds": statistics.median(both),
        "seconds": normal,
        "most": promised,
    }


def _replayed(subject: Subject) -> dict[str, Any]:
    """Compare the third call of a size, which replays a CUDA graph, with the first and with calls without graphs."""
    vae, call = subject.vae, subject.on_host
    vae.release()
    with log_messages() as messages:
        first, _, third = call(), call(), call()
    seconds = median_seconds(call, subject.device)
    vae.release()
    with without_graphs():
        plain = call()
        plain_seconds = median_seconds(call, subject.device)
        vae.release()
    same = {"to_first_db": psnr_db(third, first, subject.device), "to_plain_db": psnr_db(third, plain, subject.device)}
    least = {"psnr_db": subject.contender.least_db(), **dict.fromkeys(same, _SAME_DB)}
    notes = [line for line in messages if "one kernel after the other" in line]
    values = {"seconds": seconds, "plain_seconds": plain_seconds, "psnr_db": subject.psnr_db(third), **same}
    return values | {"least": least} | ({"says": notes[0]} if notes else {})


@contextmanager
def without_graphs() -> Iterator[None]:
    """Let engines that are opened in the body run without CUDA graphs, ours and those of TensorRT-RTX."""
    from latentrt.runtime.backends.tensorrt.component import TensorRTComponent

    with mock.patch.object(TensorRTComponent, "_is_captured", return_value=False):
        try:
            import tensorrt_rtx
        except ImportError:
            yield
            return
        of = tensorrt_rtx.CudaGraphStrategy
        with mock.patch.object(of, "WHOLE_GRAPH_CAPTURE", of.DISABLED):
            yield


def _capped(subject: Subject) -> dict[str, Any]:
    """Run a call under a cap of exactly its memory, and under a smaller cap, which must refuse it with our error."""
    subject.need_engines("device_memory_bytes")
    weights, rest = _needs(subject)
    cap = weights + rest
    with MemoryWatch(subject.device) as memory, subject.opened(session_options={"device_memory_bytes": cap}) as vae:
        result = subject.run(vae, subject.array)
        synchronise(subject.device)
    small = weights + rest // 3
    with subject.opened(session_options={"device_memory_bytes": small}) as vae:
        refusal = _refused(lambda: subject.run(vae, subject.array), "device_memory_bytes")
    return {
        "cap_bytes": cap,
        "peak_bytes": memory.peak_bytes,
        "refused_bytes": small,
        "says": refusal,
        "psnr_db": subject.psnr_db(result),
        "least": {"psnr_db": subject.contender.least_db()},
    }


def _own_workspace(subject: Subject) -> dict[str, Any]:
    """Run a call with activations in the caller's memory, and with too little of it, which must be refused."""
    subject.need_engines("workspace")
    size = _needs(subject)[1]
    memory = subject.empty_bytes(size)
    with subject.opened(session_options={"workspace": memory}) as vae:
        result = subject.run(vae, subject.array)
    with subject.opened(session_options={"workspace": memory[: 1 << 12]}) as vae:
        refusal = _refused(lambda: subject.run(vae, subject.array), "the workspace has")
    least = {"psnr_db": subject.contender.least_db()}
    return {"workspace_bytes": size, "says": refusal, "psnr_db": subject.psnr_db(result), "least": least}


def _needs(subject: Subject) -> tuple[int, int]:
    """Return the bytes of the engine's weights, and of the other GPU memory that a call holds by our own count."""
    from latentrt.runtime.bundle.manifest import Manifest

    backend = subject.backend()
    with subject.opened_on(backend) as vae:
        subject.run(vae, subject.array)
        held = int(backend.shared().gpu.ledger.taken)
    shapes = {("sample" if subject.component == "encoder" else "latents"): subject.array.shape}
    wanted = subject.component, subject.contender.kind, subject.contender.dtype, "whole"
    for record in reversed(Manifest.open(subject.bundle).engines):
        of = record.component, record.backend, record.dtype, record.kind
        if of == wanted and any(profile.holds(shapes) for profile in record.profiles):
            weights = record.bytes + record.stripped_bytes
            return weights, held - weights
    raise RuntimeError(f"{subject.bundle} has no engine for {subject.case.name}")


def _refused(call: Callable[[], Any], words: str) -> str:
    """Return the message of our error. A missing error, or one without `words` in its message, is a RuntimeError."""
    from latentrt.runtime.errors import DeviceMemoryError

    try:
        call()
    except DeviceMemoryError as error:
        if words not in str(error):
            raise RuntimeError(f"the refusal does not say {words!r}: {error}") from error
        return str(error)
    raise RuntimeError("a call ran that needs more memory than it was given")


def _two_contexts(subject: Subject) -> dict[str, Any]:
    """Run two threads with a context and an array each: seconds per call, and PSNR of the results to those alone."""
    subject.vae.release()
    arrays = [subject.array, np.ascontiguousarray(0.5 * subject.array[..., ::-1])]
    with subject.opened(contexts=2) as vae, ThreadPoolExecutor(2) as threads:

        def repeated(array: Any) -> Any:
            for _ in range(_ROUNDS - 1):
                subject.run(vae, array)
            return subject.run(vae, array)

        alone = [subject.run(vae, array) for array in arrays]
        alone_seconds = median_seconds(lambda: subject.run(vae, arrays[0]), subject.device)
        list(threads.map(repeated, arrays))  # both contexts have run
        started = time.perf_counter()
        together = list(threads.map(repeated, arrays))
        seconds = (time.perf_counter() - started) / (_ROUNDS * len(arrays))
    same = min(psnr_db(ours, theirs, subject.device) for ours, theirs in zip(together, alone, strict=True))
    return {
        "seconds": seconds,
        "alone_seconds": alone_seconds,
        "to_alone_db": same,
        "psnr_db": subject.psnr_db(together[0]),
        "least": {"psnr_db": subject.contender.least_db(), "to_alone_db": _SAME_DB},
    }


def _no_build(subject: Subject) -> dict[str, Any]:
    """Run a size that has run before with `allow_build=False`, which forbids compiling during a call."""
    subject.vae.release()
    with subject.opened(allow_build=False) as vae:
        started = time.perf_counter()
        result = subject.run(vae, subject.array)
        seconds = time.perf_counter() - started
    return {
        "first_seconds": seconds,
        "psnr_db": subject.psnr_db(result),
        "least": {"psnr_db": subject.contender.least_db()},
    }
