"""Random weights, bundles and engines for the measurements."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.checkpoints import write_checkpoint

from .cases import Case
from .processes import Measures

if TYPE_CHECKING:  # gpu_check imports this module before it makes latentrt importable
    from latentrt.runtime.arrays.kinds import Dtype
    from latentrt.runtime.backends.names import EngineBackendName

__all__ = ["CHUNK", "EngineJob", "build", "bundle_measures", "engine_measures"]

CHUNK = 8  # frames per chunk of a stream


def bundle_measures(
    case: Case, checkpoint: Path, bundle: Path, component: str, dtypes: "tuple[Dtype, ...]"
) -> Measures:
    """Return the measurements that write random weights and export a component in several precisions.

    Existing checkpoints and bundles are kept.
    """

    def weights() -> dict[str, Any]:
        started = time.perf_counter()
        if checkpoint.exists():
            return {"seconds": 0.0, "kept": True}
        return {"parameters": write_checkpoint(checkpoint, case.config), "seconds": time.perf_counter() - started}

    def export() -> dict[str, Any]:
        from latentrt.export.bundle import ExportSettings, export_bundle

        started = time.perf_counter()
        if bundle.exists():
            return {"seconds": 0.0, "kept": True}
        export_bundle(checkpoint, bundle, ExportSettings((component,), dtypes))
        return {"seconds": time.perf_counter() - started}

    return {("weights", "random"): weights, ("export", component): export}


@dataclass(frozen=True)
class EngineJob:
    """One or several engines to build.

    Attributes:
        part: name in the report.
        case: the case.
        bundle: the bundle.
        backend: name of the library.
        dtype: precision.
        capabilities: compute capabilities.
        component: "encoder" or "decoder".
        kind: "whole" for a static profile for the case; "parts" for the streaming graphs of a video model, or the
            strip graphs of an image model.
        tile: True adds a profile for a tile to kind "whole".
        options: further arguments of `BuildSettings`.
    """

    part: str
    case: Case
    bundle: Path
    backend: "EngineBackendName"
    dtype: "Dtype"
    capabilities: tuple[str, ...]
    component: str = "decoder"
    kind: str = "whole"
    tile: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def by(self) -> str:
        return f"{self.backend} {self.dtype}"


def engine_measures(job: EngineJob) -> Measures:
    def measured() -> dict[str, Any]:
        case = job.case
        options: dict[str, Any] = dict(job.options)
        if job.kind == "whole":
            options |= {"tiles": (case.extent, case.tile) if job.tile else (case.extent,), "static": True}
        elif case.video:
            options |= {"tiles": (case.extent,), "stream": True, "chunk": CHUNK, "whole": False}
        else:
            picture = (case.extent.height, case.extent.width)
            options |= {"tiles": (case.tile,), "exact": True, "picture": picture, "whole": False}
        options |= {"dtypes": (job.dtype,), "components": (job.component,)}
        return build(job.bundle, job.backend, compute_capabilities=job.capabilities, **options)

    return {(job.part, job.by): measured}


def build(bundle: Path, backend: "EngineBackendName", **options: Any) -> dict[str, Any]:
    """Build engines. Return their total seconds and bytes, the largest activation memory, and how many are new."""
    from latentrt.export.engines.build import build_engines
    from latentrt.export.engines.settings import BuildSettings

    started = time.perf_counter()
    engines = build_engines(bundle, BuildSettings(backend, **options))
    return {
        "seconds": time.perf_counter() - started,
        "engine_bytes": sum(one.record.bytes for one in engines),
        "activation_bytes": max((one.record.activation_bytes or 0 for one in engines), default=0),
        "built": sum(one.fresh for one in engines),
    }
