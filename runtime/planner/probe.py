"""One call measured in a process of its own: what calibration is made of."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..calls.strategy import Strategy
from ..errors import EngineError
from ..system.subprocess_call import call_in_subprocess

__all__ = ["EngineChoice", "Point", "Probe", "measure"]


@dataclass(frozen=True)
class EngineChoice:
    """What `open_bundle` is told. Of `session_options` enumerations go by the names of their members."""

    backend: str
    provider: str | None
    dtype: str
    threads: int | None
    session_options: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        named = {name: getattr(value, "name", value) for name, value in (self.session_options or {}).items()}
        object.__setattr__(self, "session_options", named or None)


@dataclass(frozen=True)
class Probe:
    """What is measured: a call of one component on latents of `cells`, (T,) H, W, of a batch, by a strategy."""

    component: str
    cells: tuple[int, ...]
    strategy: Strategy
    batch: int = 1

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"strategy": self.strategy.to_json(), "cells": list(self.cells)}

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.component}, {'x'.join(map(str, self.cells))} latents, {self.strategy.kind}"

    @property
    def key(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)


@dataclass(frozen=True)
class Point:
    """What came out, in bytes above what the process held before the bundle was opened. `peak_bytes`: the most that it
    held during the call: the engine's library, the engine, input, activations and result. `loaded_bytes`: with the
    engine open, and nothing run yet; `opening_bytes`: the most until then. (Where the system cannot tell these apart,
    the peak is that of everything.) `seconds`: of a call that is not the first, unless the first was slow.
    `work_seconds`: the processor's time of that call over the cores, which other processes do not stretch."""

    peak_bytes: int
    loaded_bytes: int
    seconds: float
    work_seconds: float = 0.0
    opening_bytes: int = 0

    @property
    def call_bytes(self) -> int:
        """What the call added to the open engine: what an engine takes to open differs from one time to the next."""
        return self.peak_bytes - self.loaded_bytes

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Point":
        return cls(
            int(values["peak_bytes"]),
            int(values["loaded_bytes"]),
            float(values["seconds"]),
            float(values["work_seconds"]),
            int(values["opening_bytes"]),
        )


def measure(bundle: Path, engine: EngineChoice, probe: Probe, check: Callable[[], None] = lambda: None) -> Point:
    """Run a probe in a fresh interpreter. `check` is called meanwhile and may raise, to stop. On an exception,
    KeyboardInterrupt too, the process is ended first.

    Raises:
        EngineError: it does not run, whatever the reason, or this system does not tell how much memory it took.
    """
    order = {"bundle": str(bundle), "engine": asdict(engine), "probe": probe.to_json()}
    result = call_in_subprocess("latentrt.runtime.autoencoders.calibration_worker", order, check)
    answer = result.answer or {"error": result.failure}
    if "error" in answer:
        raise EngineError(f"calibration of {probe.label} failed: {answer['error']}")
    return Point.from_json(answer)
