"""The planner's predictions against what calls take: each pair of size and strategy in a process of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .cases import MODELS
from .exact_strips import prepare_both
from .streaming import QUARTER

__all__ = ["CASES", "PLANNER_MODELS", "Case", "measure_case", "prepare_models"]

_NARROW = QUARTER | {
    "latent_channels": 16,
    "block_out_channels": [16, 32, 64, 128],
    "decoder_block_out_channels": [16, 32, 64],
    "layers_per_block": [2, 1, 1, 1, 1],
    "decoder_layers_per_block": [1, 1, 1, 1],
}
PLANNER_MODELS: dict[str, dict[str, Any]] = {
    "ltx2-narrow": _NARROW,
    "ltx2-quarter": QUARTER,
    "sd-narrow": MODELS["sd"] | {"block_out_channels": [32, 64, 64, 64]},
    "sd": MODELS["sd"],
}


@dataclass(frozen=True)
class Case:
    """`size`: of the sample, (T,) H, W. `strategy`: "whole", "stream 16", "tiles 256", "tiles 256 5" (5 latent frames),
    "stream 16 tiles 256", or "strips 512MiB"."""

    model: str
    backend: str
    component: str
    size: tuple[int, ...]
    strategy: str


CASES: tuple[Case, ...] = (
    Case("ltx2-narrow", "onnxruntime", "decoder", (193, 512, 896), "whole"),
    Case("ltx2-narrow", "onnxruntime", "decoder", (97, 896, 1280), "stream 12"),
    Case("ltx2-narrow", "onnxruntime", "decoder", (65, 512, 768), "tiles 256 5"),
    Case("ltx2-narrow", "onnxruntime", "decoder", (65, 512, 768), "stream 8 tiles 256"),
    Case("ltx2-narrow", "openvino", "decoder", (153, 544, 992), "whole"),
    Case("ltx2-narrow", "openvino", "decoder", (161, 960, 1280), "stream 16"),
    Case("ltx2-narrow", "onnxruntime", "encoder", (97, 512, 704), "stream 24"),
    Case("ltx2-quarter", "onnxruntime", "decoder", (41, 288, 416), "whole"),
    Case("ltx2-quarter", "onnxruntime", "decoder", (57, 416, 512), "stream 8"),
    Case("ltx2-quarter", "openvino", "decoder", (33, 448, 576), "whole"),
    Case("ltx2-quarter", "openvino", "decoder", (57, 384, 512), "stream 16"),
    Case("ltx2-quarter", "openvino", "decoder", (57, 384, 512), "tiles 256 4"),
    Case("sd-narrow", "onnxruntime", "decoder", (1216, 1024), "whole"),
    Case("sd-narrow", "onnxruntime", "decoder", (1024, 1024), "whole"),
    Case("sd-narrow", "onnxruntime", "decoder", (896, 768), "tiles 384"),
    Case("sd-narrow", "onnxruntime", "decoder", (1024, 1280), "strips 192MiB"),
    Case("sd-narrow", "openvino", "decoder", (1344, 1216), "whole"),
    Case("sd-narrow", "openvino", "encoder", (768, 896), "tiles 512"),
    Case("sd", "onnxruntime", "decoder", (384, 320), "tiles 256"),
    Case("sd", "openvino", "decoder", (512, 448), "whole"),
)


def prepare_models(work: Path, names: Sequence[str]) -> dict[str, Path]:
    """Bundles of those models, with random weights, made where they are not there yet."""
    return {name: prepare_both(work, name, PLANNER_MODELS[name]) / "bundle" for name in names}


def measure_case(bundle: Path, case: Case, threads: int) -> dict[str, Any]:
    """What was predicted of a case and what it took."""
    from latentrt.runtime import open_bundle
    from latentrt.runtime.costs import Costs
    from latentrt.runtime.probe import EngineChoice, Probe, measure

    with open_bundle(bundle, backend=case.backend, threads=threads) as vae:
        _, calibration = vae.planner()
        strategy = _strategy(vae, case)
        cells = vae.grid.latent_size(case.size)
        work = vae.workload(case.component, 1, cells, "frames" if strategy.streaming else "float32")
        cost = Costs(vae._manifest, case.backend, calibration).of(work, strategy)
        used = calibration.holds(Probe(case.component, cells, strategy))
        engine = EngineChoice(vae._sessions.backend.name, vae._sessions.backend.provider or None, "float32", threads)
        point = measure(bundle, engine, Probe(case.component, cells, strategy))
    peak = max(point.peak_bytes, point.opening_bytes)
    ratio = cost.bytes / peak
    return {
        "model": case.model,
        "backend": case.backend,
        "component": case.component,
        "size": case.size,
        "strategy": case.strategy,
        "predicted_bytes": cost.bytes,
        "measured_bytes": peak,
        "ratio": ratio,
        "predicted_seconds": cost.seconds,
        "measured_seconds": point.seconds,
        "calibrations": calibration.measured,
        "used_for_calibration": used,
        "passed": not used and 0.95 <= ratio <= 1.15,
    }


def _strategy(vae: Any, case: Case) -> Any:
    from latentrt.runtime.budget import parse_memory
    from latentrt.runtime.candidates import strips_within
    from latentrt.runtime.strategy import Strategy, linear_tiles

    words = case.strategy.split()
    if words[0] == "strips":
        work = vae.workload(case.component, 1, vae.grid.latent_size(case.size))
        return strips_within(vae._manifest, work, parse_memory(words[1]))
    frames = int(words[1]) if words[0] == "stream" else None
    tiling = None
    if "tiles" in words:
        numbers = [int(word) for word in words[words.index("tiles") + 1 :]]
        side = numbers[0] // vae.grid.spatial
        length = numbers[1] if len(numbers) > 1 else 2
        time = ((length, max(length - 2, 1)),) if vae.video else ()
        tiling = linear_tiles((*time, *((side, side - max(side // 4, 1)),) * 2))
    return Strategy(tiling, frames is not None, frames)
