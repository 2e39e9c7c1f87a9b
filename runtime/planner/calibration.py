"""The measurements of a bundle on this machine, kept in the cache folder: one file per bundle, engine and machine."""

import importlib.metadata
import json
import logging
import platform
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

from ..backends.choices import ENGINE_PACKAGES
from ..backends.memory_model import Reopening
from ..bundle.manifest import Manifest
from ..calls.strategy import Strategy
from ..errors import LatentRTError
from ..system.cache_folder import cache_folder, replace_file
from ..system.file_lock import locked
from ..system.interpreter import interpreter
from ..system.json_file import read_json
from ..system.processor import processor, usable_cores
from .estimated_points import estimated_point
from .probe import Point, Probe, checked_key, measure

__all__ = ["Calibration", "Points"]

_log = logging.getLogger(__name__)
_SCHEMA = 4
_MOST_BYTES = 8 << 20  # of a kept calibration; a hundred points have 40 KB


class Points(Protocol):
    """Gives measurements to the planner."""

    def point(self, probe: Probe) -> Point:
        """The probe's point, measured now if it never was."""
        ...


class Calibration:
    """The points of one bundle on one backend. A point that is missing is measured when it is asked for, and kept. A
    file that is damaged, or from another machine or version, is ignored.

    Args:
        manifest: the bundle.
        engine: how a measuring process opens the backend.
        check: called while a probe is measured. It may raise, to stop.

    Attributes:
        identity: what the points depend on, as JSON values.
        measured: how many points were measured by this object.
    """

    def __init__(self, manifest: Manifest, engine: Reopening, check: Callable[[], None] = lambda: None) -> None:
        self._manifest, self._engine, self._check = manifest, engine, check
        self.identity = _identity(manifest, engine)
        name = sha256(json.dumps(self.identity, sort_keys=True).encode()).hexdigest()[:32]
        self._name = f"{name}.json"
        self._points = self._read()
        self.measured = 0
        self._is_estimated = False

    def point(self, probe: Probe) -> Point:
        """The probe's point. A program that cannot start Python gets an estimate, which is not kept.

        Raises:
            EngineError: the probe had to be measured, and does not run.
        """
        found = self._points.get(probe.key)
        if found is None and interpreter() is None:
            if not self._is_estimated:
                _log.info(
                    "nothing is measured, since this program has no Python interpreter to start: memory is estimated"
                )
            self._is_estimated = True
            return estimated_point(self._manifest, probe)
        if found is None:
            _log.info("calibrating %s: %s", self._engine.backend, probe.label)
            found = measure(self._manifest.folder, self._engine, probe, self._check)
            self.measured += 1
            self._points[probe.key] = found
            self._write()
        return found

    def holds(self, probe: Probe) -> bool:
        """Whether the probe was measured."""
        return probe.key in self._points

    @property
    def count(self) -> int:
        return len(self._points)

    def to_json(self) -> list[dict[str, Any]]:
        """Every point, with its probe."""
        rows = []
        for key, point in sorted(self._points.items()):
            probe = json.loads(key)
            strategy = Strategy.from_json(probe["strategy"])
            rows.append(
                probe | {"strategy": strategy.kind, "frames_per_chunk": strategy.frames_per_chunk} | vars(point)
            )
        return rows

    @property
    def path(self) -> Path:
        return cache_folder("calibration") / self._name

    def _read(self) -> dict[str, Point]:
        try:
            values = read_json(self.path, _MOST_BYTES)
            if values["identity"] != self.identity:
                return {}
            return {checked_key(key): Point.from_json(point) for key, point in values["points"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, LatentRTError) as error:
            _log.info("calibrating anew: the kept calibration cannot be read (%s)", error)
            return {}

    def _write(self) -> None:
        try:
            with locked(self.path):
                points = {key: vars(point) for key, point in {**self._read(), **self._points}.items()}
                text = json.dumps({"identity": self.identity, "points": points}, indent=1)
                replace_file(self.path, text.encode("utf-8"), flush=True)  # measuring takes minutes
        except OSError as error:
            _log.warning("the calibration is not kept: %s (LATENTRT_CACHE chooses another folder)", error)


def _identity(manifest: Manifest, engine: Reopening) -> Mapping[str, Any]:
    content = sha256("".join(sorted(file.name + file.sha256 for file in manifest.files)).encode()).hexdigest()
    return {
        "schema": _SCHEMA,
        "bundle": content,
        "engine": vars(engine) | {},
        "machine": f"{platform.machine()} {processor().name} {usable_cores()} cores",
        "versions": {name: version for name in ("latentrt", *ENGINE_PACKAGES) if (version := _version(name))},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
