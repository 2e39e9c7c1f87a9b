"""Measurements that do not depend on the size, on a small model: `latentrt verify`, overflow, and kinds of engines."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.checkpoints import write_checkpoint

from .cases import Case, Contender
from .distance import psnr_db
from .engines import build
from .log_messages import log_messages
from .processes import Measures, Unable

if TYPE_CHECKING:  # gpu_check imports this module before it makes latentrt importable
    from latentrt.runtime.arrays.kinds import Dtype
    from latentrt.runtime.backends.names import EngineBackendName

__all__ = ["BUILD_PARTS", "small_measures"]

_QUICK = 0  # optimisation level; engines are correct at every level
_TUNED = np.float32(0.9)  # factor on the weights that stands for a fine-tune
# Factor on the weights of `_LARGE`: float16 cannot hold the results, and a norm brings them back into range in float32.
_TOO_LARGE = np.float32(3e5)
_LARGE = {"sdxl": "decoder.mid_block.attentions.0.to_out.0.weight", "ltx2": "decoder.conv_in.conv.weight"}
_FLAGS = {
    "engine without weights": "strip_weights",
    "version-compatible engine": "version_compatible",
    "hardware-compatible engine": "hardware_compatible",
}
BUILD_PARTS = ("build again", "engine for other weights", *_FLAGS, "timing cache")
"""Measurements of a library. `small_measures` also has "verify" and "overflow", which are those of a backend."""


def small_measures(
    case: Case,
    contender: Contender,
    library: "EngineBackendName",
    capabilities: tuple[str, ...],
    folder: Path,
    device: str,
) -> Measures:
    model, by = _Small(case, contender, library, capabilities, folder, device), contender.name
    measures: dict[Any, Callable[[], dict[str, Any]]] = {
        ("verify", by): lambda: _verified(model),
        ("overflow", by): lambda: _overflowed(model),
        ("build again", library): lambda: _built_again(model),
        ("engine for other weights", library): lambda: _other_weights(model),
        ("timing cache", library): lambda: _timing_cache(model),
    }
    return measures | {(part, library): partial(_flagged, model, flag) for part, flag in _FLAGS.items()}


@dataclass(frozen=True)
class _Small:
    """A checkpoint with random weights, and bundles exported from it."""

    case: Case
    contender: Contender
    library: "EngineBackendName"
    capabilities: tuple[str, ...]
    folder: Path
    device: str

    @cached_property
    def checkpoint(self) -> Path:
        path = self.folder / "checkpoint"
        if not path.exists():
            write_checkpoint(path, self.case.config)
        return path

    @cached_property
    def exported(self) -> Path:
        """Bundle of both components in each compared precision, without engines."""
        return self.bundle_of(self.checkpoint, "exported", self.dtypes)

    @property
    def dtypes(self) -> "tuple[Dtype, ...]":
        """Precisions to compare. ONNX Runtime has no bfloat16 convolution for the CPU."""
        return ("float32", "float16", *(("bfloat16",) if self.contender.kind == self.library else ()))

    @cached_property
    def running(self) -> Path:
        """A copy of `exported`, with engines for all sizes that `verify` compares if the contender runs engines."""
        bundle = self.copied("running")
        if self.contender.kind == self.library:
            from latentrt.export.engines.settings import Extent

            tile = Extent(2, 128, 128, 17 if self.case.video else 1)
            self.built(bundle, dtypes=self.dtypes, components=("encoder", "decoder"), tiles=(tile,), static=False)
        return bundle

    def tuned(self, name: str, scale: np.float32, only: str | None = None) -> Path:
        """Export a bundle with all weights, or only the weight `only`, scaled."""
        from safetensors.numpy import load_file, save_file

        folder = Path(shutil.copytree(self.checkpoint, self.folder / f"{name} weights", dirs_exist_ok=True))
        weights = next(folder.glob("*.safetensors"))
        scaled = {key: values * scale if only in (None, key) else values for key, values in load_file(weights).items()}
        if only not in (None, *scaled):
            raise RuntimeError(f"the model has no {only}")
        save_file(scaled, weights)
        return self.bundle_of(folder, name)

    def bundle_of(self, checkpoint: Path, name: str, dtypes: "tuple[Dtype, ...]" = ("float32", "float16")) -> Path:
        from latentrt.export.bundle import ExportSettings, export_bundle

        bundle = self.folder / name
        if not bundle.exists():
            export_bundle(checkpoint, bundle, ExportSettings(dtypes=dtypes, stream=False, exact=False))
        return bundle

    def copied(self, name: str) -> Path:
        return Path(shutil.copytree(self.exported, self.folder / name, dirs_exist_ok=True))

    def built(self, bundle: Path, **options: Any) -> dict[str, Any]:
        """Build the float16 engine of the decoder for the case, at the fastest optimisation level."""
        usual: dict[str, Any] = {"dtypes": ("float16",), "components": ("decoder",), "static": True}
        usual |= {"tiles": (self.case.extent,), "optimization_level": _QUICK, "compute_capabilities": self.capabilities}
        return build(bundle, self.library, **usual | options)

    def ran(self, bundle: Path) -> dict[str, Any]:
        """Decode with the library, and compare the result with ONNX Runtime's in float32."""
        from latentrt.runtime import open_bundle

        latents = self.case.array("decoder")
        with open_bundle(bundle, backend="onnxruntime", provider="cpu") as vae:
            wanted = vae.decode(latents).sample
        started = time.perf_counter()
        with open_bundle(bundle, backend=self.library, dtype="float16") as vae:
            result = vae.decode(latents).sample
            seconds = time.perf_counter() - started
        return {
            "open_and_first_seconds": seconds,
            "psnr_db": psnr_db(result, wanted, self.device),
            "least": {"psnr_db": 45.0},
        }


def _verified(model: _Small) -> dict[str, Any]:
    """`latentrt verify` of encoder and decoder, in every precision of the bundle, at three sizes each."""
    from latentrt.export import VerifySettings, verify_bundle

    contender, checkpoint = model.contender, model.checkpoint
    bundle = model.running
    started, reached, compared = time.perf_counter(), {}, 0
    for dtype in model.dtypes:
        settings = VerifySettings(**contender.options | {"dtype": dtype})
        report = verify_bundle(bundle, checkpoint, settings)
        reached[f"{dtype}_db"], compared = report.worst_psnr_db, compared + len(report.comparisons)
    least = {f"{dtype}_db": Contender(contender.kind, dtype).least_db() for dtype in model.dtypes}
    return {"seconds": time.perf_counter() - started, "comparisons": compared, **reached, "least": least}


def _overflowed(model: _Small) -> dict[str, Any]:
    """Decode with a model that overflows float16: calls that overflow must run again in float32."""
    from latentrt.runtime import open_bundle

    contender, latents = model.contender, model.case.array("decoder")
    bundle = model.tuned("overflowing", _TOO_LARGE, _LARGE[model.case.model])
    if contender.kind == model.library:
        model.built(bundle, dtypes=("float32", "float16"))
    options = contender.options
    with open_bundle(bundle, **options | {"dtype": "float32"}) as vae:
        wanted = vae.decode(latents).sample
    with log_messages() as messages, open_bundle(bundle, **options | {"dtype": "float16"}) as vae:
        result = vae.decode(latents).sample
    repeated = [line for line in messages if "run again in float32" in line]
    if not repeated:
        raise RuntimeError("no call was run again in float32: float16 did not overflow, or no overflow was detected")
    return {"psnr_db": psnr_db(result, wanted, model.device), "says": repeated[0], "least": {"psnr_db": 80.0}}


def _built_again(model: _Small) -> dict[str, Any]:
    """Build an engine twice: the second build must do nothing."""
    bundle = model.copied("again")
    first, second = model.built(bundle), model.built(bundle)
    if second["built"]:
        raise RuntimeError("an engine was built that was there already")
    return {"first_seconds": first["seconds"], "seconds": second["seconds"]}


def _flagged(model: _Small, flag: str) -> dict[str, Any]:
    bundle = model.copied(flag)
    built = model.built(bundle, **{flag: True})
    return {"build_seconds": built["seconds"], "engine_bytes": built["engine_bytes"], **model.ran(bundle)}


def _other_weights(model: _Small) -> dict[str, Any]:
    """Take an engine that was built for other weights into a bundle."""
    from latentrt.export.engines.build import build_engines
    from latentrt.export.engines.settings import BuildSettings

    first = model.copied("refit")
    built = model.built(first, strip_weights=True, refit=True)
    second = model.tuned("tuned", _TUNED)
    settings = BuildSettings(
        model.library,
        ("float16",),
        ("decoder",),
        tiles=(model.case.extent,),
        static=True,
        optimization_level=_QUICK,
        strip_weights=True,
    )
    (taken,) = build_engines(second, settings, source=first)
    if not taken.taken:
        raise RuntimeError("the other bundle did not take the engine")
    return {"build_seconds": built["seconds"], **model.ran(second)}


def _timing_cache(model: _Small) -> dict[str, Any]:
    """Build the same engine in two bundles: the second build uses the timings of the first."""
    if model.library == "tensorrt-rtx":
        raise Unable("tensorrt-rtx times nothing while it builds")
    first, second = (model.built(model.copied(f"timed-{n}"), optimization_level=None) for n in (1, 2))
    return {"first_seconds": first["seconds"], "seconds": second["seconds"]}
