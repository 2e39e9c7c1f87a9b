"""One call measured in a process of its own: what calibration is made of."""

import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .errors import EngineError
from .strategy import Strategy

__all__ = ["EngineChoice", "Point", "Probe", "measure"]


@dataclass(frozen=True)
class EngineChoice:
    """What `open_bundle` is told."""

    backend: str
    provider: str | None
    dtype: str
    threads: int | None
    session_options: Mapping[str, Any] | None = None


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
    def key(self) -> str:
        return json.dumps(self.to_json(), sort_keys=True)


@dataclass(frozen=True)
class Point:
    """What came out. `peak_bytes`: the most memory that the process held above what it held before the bundle was
    opened: the engine's library, the engine, input, activations and result. `loaded_bytes`: with the engine open, and
    nothing run yet. `seconds`: of a call that is not the first, unless the first was slow. `work_seconds`: the
    processor's time of that call over the cores, which other processes do not stretch."""

    peak_bytes: int
    loaded_bytes: int
    seconds: float
    work_seconds: float = 0.0

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Point":
        return cls(
            int(values["peak_bytes"]),
            int(values["loaded_bytes"]),
            float(values["seconds"]),
            float(values["work_seconds"]),
        )


def measure(bundle: Path, engine: EngineChoice, probe: Probe) -> Point:
    """Run a probe in a fresh interpreter. On an exception, KeyboardInterrupt too, the process is ended first.

    Raises:
        EngineError: it does not run, whatever the reason, or this system does not tell how much memory it took.
    """
    # -P: a json.py in the user's folder is none of our business.
    command = [sys.executable, "-P", "-m", "latentrt.runtime.probe_worker"]
    order = {"bundle": str(bundle), "engine": asdict(engine), "probe": probe.to_json()}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
            text = process.stdout.readline()
        except BaseException:
            process.kill()
            raise
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            process.stdout.close()
            process.wait()
        log.seek(0)
        said = log.read().decode(errors="replace").strip().splitlines()
    answer = json.loads(text) if text else {"error": f"its process ended with {process.returncode}: {said[-1:]}"}
    if "error" in answer:
        raise EngineError(f"calibration of {probe.component} at {probe.cells} failed: {answer['error']}")
    return Point.from_json(answer)
