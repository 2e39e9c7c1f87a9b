"""One call, measured in a process of its own."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...tiling.plain_text import shown
from ..arrays.size_text import size_text
from ..backends.memory_model import Reopening
from ..calls.strategy import Strategy
from ..errors import EngineError
from ..system.json_file import json_value
from ..system.subprocess_call import call_in_subprocess

__all__ = ["Point", "Probe", "checked_key", "measure"]

_MOST_NUMBER = 1 << 60  # of bytes or seconds


@dataclass(frozen=True)
class Probe:
    """A call to measure.

    Attributes:
        component: "encoder" or "decoder".
        cells: the size of the latents, (T,) H, W.
        strategy: how the call runs.
        batch: the batch size.
    """

    component: str
    cells: tuple[int, ...]
    strategy: Strategy
    batch: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"strategy": self.strategy.to_json(), "cells": list(self.cells)}

    @property
    def label(self) -> str:
        """The probe in words, for the log."""
        return f"{self.component}, latents of {size_text(self.cells)}, {self.strategy.kind}"

    @property
    def key(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)


@dataclass(frozen=True)
class Point:
    """A measured call. Bytes are those that the process holds in addition to what it held before the bundle was opened.

    Attributes:
        peak_bytes: the most during the call: the engine's library, the engine, input, activations and result.
        loaded_bytes: with the engine open, before the call.
        seconds: the time of the second call, or of the first if that was slow.
        work_seconds: the processor time of that call divided by the cores. Other processes do not stretch it.
        opening_bytes: the most while the engine was opened. (On systems that do not tell these apart, the peaks are
            those of everything.)
    """

    peak_bytes: int
    loaded_bytes: int
    seconds: float
    work_seconds: float = 0.0
    opening_bytes: int = 0

    @property
    def call_bytes(self) -> int:
        """What the call added to the open engine. (Opening takes another amount in each process.)"""
        return self.peak_bytes - self.loaded_bytes

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Point":
        """A point from its JSON form.

        Raises:
            KeyError, TypeError, ValueError: a value is missing, of the wrong kind, or impossible.
        """
        names = ("peak_bytes", "loaded_bytes", "seconds", "work_seconds", "opening_bytes")
        peak, loaded, seconds, work, opening = (_number(values[name]) for name in names)
        return cls(int(peak), int(loaded), float(seconds), float(work), int(opening))


def checked_key(key: str) -> str:
    """The key of a probe from a file.

    Raises:
        KeyError, TypeError, ValueError, LatentRTError: it is not the key of a probe.
    """
    values = json_value(key)
    Strategy.from_json(values["strategy"])
    cells, batch = values["cells"], values["batch"]
    if values["component"] not in ("encoder", "decoder") or not all(type(size) is int for size in (*cells, batch)):
        raise ValueError("it holds a call of another kind")
    return key


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST_NUMBER:
        raise ValueError(f"{shown(value)} is no measurement")
    return value


def measure(bundle: Path, engine: Reopening, probe: Probe, check: Callable[[], None] = lambda: None) -> Point:
    """Run a probe in a fresh interpreter. `check` is called meanwhile and may raise, to stop. On an exception, also on
    KeyboardInterrupt, the process is ended first.

    Raises:
        EngineError: the probe does not run, or this system does not say how much memory a process takes.
    """
    order = {"bundle": str(bundle), "engine": asdict(engine), "probe": probe.to_json()}
    result = call_in_subprocess("latentrt.runtime.autoencoders.calibration_worker", order, check)
    answer = result.answer or {"error": result.failure}
    if "error" in answer:
        raise EngineError(f"calibration of {probe.label} failed: {answer['error']}")
    return Point.from_json(answer)
