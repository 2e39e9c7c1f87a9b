"""Compares the planner's predictions and budgets with the memory of calls, each in a process of its own."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentrt.runtime.backends.names import BackendName

from .cases import MODELS
from .exact_strips import prepare_both
from .streaming import QUARTER
from .worker import in_own_process

__all__ = [
    "BUDGETS",
    "CASES",
    "PLANNER_MODELS",
    "BudgetCase",
    "Case",
    "measure_budget",
    "measure_case",
    "prepare_models",
]

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
    """A call whose memory is predicted and measured.

    Attributes:
        model: name of the model in `PLANNER_MODELS`.
        backend: name of the backend.
        component: "encoder" or "decoder".
        size: size of the sample, (H, W) or (T, H, W).
        strategy: "whole", "stream 16", "tiles 256", "tiles 256 5" (5 latent frames), "stream 16 tiles 256", or
            "strips 512MiB".
    """

    model: str
    backend: BackendName
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
    Case("ltx2-quarter", "openvino", "decoder", (49, 448, 640), "whole"),
    Case("ltx2-quarter", "openvino", "decoder", (65, 448, 576), "stream 16"),
    Case("ltx2-quarter", "openvino", "decoder", (57, 384, 512), "tiles 256 4"),
    Case("sd-narrow", "onnxruntime", "decoder", (1216, 1024), "whole"),
    Case("sd-narrow", "onnxruntime", "decoder", (1024, 1024), "whole"),
    Case("sd-narrow", "onnxruntime", "decoder", (896, 768), "tiles 384"),
    Case("sd-narrow", "onnxruntime", "decoder", (1024, 1280), "strips 192MiB"),
    Case("sd-narrow", "openvino", "decoder", (1472, 1408), "whole"),
    Case("sd-narrow", "openvino", "encoder", (768, 896), "tiles 512"),
    Case("sd", "onnxruntime", "decoder", (384, 320), "tiles 256"),
    Case("sd", "openvino", "decoder", (512, 448), "whole"),
)


@dataclass(frozen=True)
class BudgetCase:
    """A call within a memory budget.

    Attributes:
        model: name of the model in `PLANNER_MODELS`.
        backend: name of the backend.
        component: "encoder" or "decoder".
        size: size of the sample, (H, W) or (T, H, W).
        share: the budget, as a share of the largest memory of a whole pass; None takes the least budget that the
            planner names when it refuses 1 MiB.
    """

    model: str
    backend: BackendName
    component: str
    size: tuple[int, ...]
    share: float | None


_SIZES: tuple[tuple[str, BackendName, str, tuple[int, ...]], ...] = (
    ("ltx2-narrow", "onnxruntime", "decoder", (193, 512, 896)),
    ("ltx2-narrow", "onnxruntime", "decoder", (97, 896, 1280)),
    ("ltx2-narrow", "onnxruntime", "encoder", (97, 512, 704)),
    ("ltx2-narrow", "openvino", "decoder", (153, 544, 992)),
    ("ltx2-quarter", "onnxruntime", "decoder", (57, 416, 512)),
    ("ltx2-quarter", "openvino", "decoder", (33, 448, 576)),
    ("sd-narrow", "onnxruntime", "decoder", (1216, 1024)),
    ("sd-narrow", "onnxruntime", "encoder", (1152, 1280)),
    ("sd-narrow", "openvino", "decoder", (1344, 1216)),
    ("sd", "onnxruntime", "decoder", (768, 768)),
    ("sd", "openvino", "decoder", (512, 448)),
)
BUDGETS = tuple(BudgetCase(*size, share) for size in _SIZES for share in (1.0, 0.5, None))


def prepare_models(work: Path, names: Sequence[str]) -> dict[str, Path]:
    """Return the bundles of models with random weights, made if they are missing."""
    return {name: prepare_both(work, name, PLANNER_MODELS[name]) / "bundle" for name in names}


def measure_case(bundle: Path, case: Case, threads: int) -> dict[str, Any]:
    """Predict and measure the memory of a case."""
    from latentrt.runtime import open_bundle
    from latentrt.runtime.backends.memory_model import MeasuredMemory
    from latentrt.runtime.calls.workload import Workload
    from latentrt.runtime.planner.bounds import Bounds
    from latentrt.runtime.planner.costs import Costs
    from latentrt.runtime.planner.probe import Probe, measure

    with open_bundle(bundle, backend=case.backend, threads=threads) as vae:
        _, calibration = vae.opened.planning.planner()
        memory = vae.opened.backend.memory
        assert isinstance(memory, MeasuredMemory)
        strategy = _strategy(vae, case)
        cells = vae.grid.latent_size(case.size)
        work = Workload(vae.config, vae.grid, case.component, 1, cells, "frames" if strategy.streaming else "float32")
        cost = Costs(vae.manifest, memory, calibration).of(work, strategy)
        cpu_graphs = vae.opened.backend.capabilities.cpu_graphs
        bound = Bounds(vae.manifest, memory, cpu_graphs=cpu_graphs).of(work, strategy)
        used = calibration.holds(Probe(case.component, cells, strategy))
        point = measure(bundle, memory.reopening, Probe(case.component, cells, strategy))
    peak = max(point.peak_bytes, point.opening_bytes)
    ratio = cost.bytes / peak
    promised = 0.95 <= ratio <= 1.15
    return {
        "model": case.model,
        "backend": case.backend,
        "component": case.component,
        "size": case.size,
        "strategy": case.strategy,
        "predicted_bytes": cost.bytes,
        "most_bytes": cost.most_bytes,
        "measured_bytes": peak,
        "bound_least_bytes": None if bound is None else bound.least_bytes,
        "bound_most_bytes": None if bound is None else bound.most_bytes,
        "ratio": ratio,
        "predicted_seconds": cost.seconds,
        "measured_seconds": point.seconds,
        "calibrations": calibration.measured,
        "used_for_calibration": used,
        "passed": not used
        and promised
        and peak <= cost.most_bytes
        and (bound is None or bound.least_bytes <= peak <= bound.most_bytes),
    }


def measure_budget(bundle: Path, case: BudgetCase, threads: int) -> dict[str, Any]:
    """Measure the memory of a call with a budget."""
    from latentrt.runtime import open_bundle
    from latentrt.runtime.calls.strategy import WHOLE
    from latentrt.runtime.calls.workload import Workload
    from latentrt.runtime.system.budget import parse_memory

    with open_bundle(bundle, backend=case.backend, threads=threads) as vae:
        planner, _ = vae.opened.planning.planner()
        work = Workload(vae.config, vae.grid, case.component, 1, vae.grid.latent_size(case.size))
        if case.share is None:
            refused = planner.measuring.decide(work, 1 << 20, WHOLE).reason
            budget = parse_memory(re.search(r", in ([0-9.]+ \w+);", refused)[1])  # type: ignore[index]
        else:
            whole = planner.measuring.decide(work, 1 << 50, WHOLE, complete=True).candidates[0]
            budget = int(case.share * whole.most_bytes)
        chosen = vae.opened.planning.decide(work, budget, WHOLE).chosen
    peak = None if chosen is None else in_own_process(_peak_within, bundle, case, budget, threads)
    return {
        "model": case.model,
        "backend": case.backend,
        "component": case.component,
        "size": case.size,
        "share": case.share,
        "budget_bytes": budget,
        "strategy": "refused" if chosen is None else chosen.label,
        "exact": chosen is not None and chosen.is_exact,
        "predicted_bytes": None if chosen is None or chosen.cost is None else chosen.cost.bytes,
        "measured_bytes": peak,
        "passed": case.share is not None if peak is None else peak <= budget,
    }


def _peak_within(bundle: Path, case: BudgetCase, budget: int, threads: int) -> int:
    """Run the call as a user does, and return the peak memory of this process above its present memory, in bytes."""
    from latentrt.runtime import open_bundle
    from latentrt.runtime.system.process_memory import forget_peak, peak_bytes, resident_bytes

    rng = np.random.default_rng(0)
    start = resident_bytes() or 0
    forget_peak()
    with open_bundle(bundle, backend=case.backend, threads=threads) as vae:
        decodes = case.component == "decoder"
        channels = vae.config.latent_channels if decodes else vae.config.in_channels
        array = rng.random((1, channels, *(vae.grid.latent_size(case.size) if decodes else case.size)), np.float32)
        array *= 2
        array -= 1
        if decodes:
            vae.decode(array, memory=budget)
        else:
            vae.encode(array, memory=budget)
    return (peak_bytes() or 0) - start


def _strategy(vae: Any, case: Case) -> Any:
    from latentrt.runtime.calls.strategy import Strategy, linear_tiles
    from latentrt.runtime.calls.workload import Workload
    from latentrt.runtime.planner.candidates import strips_within
    from latentrt.runtime.system.budget import parse_memory

    words = case.strategy.split()
    if words[0] == "strips":
        work = Workload(vae.config, vae.grid, case.component, 1, vae.grid.latent_size(case.size))
        return strips_within(vae.manifest, work, parse_memory(words[1]))
    frames = int(words[1]) if words[0] == "stream" else None
    tiling = None
    if "tiles" in words:
        numbers = [int(word) for word in words[words.index("tiles") + 1 :]]
        side = numbers[0] // vae.grid.spatial
        length = numbers[1] if len(numbers) > 1 else 2
        time = ((length, max(length - 2, 1)),) if vae.video else ()
        tiling = linear_tiles((*time, *((side, side - max(side // 4, 1)),) * 2))
    return Strategy(tiling, frames is not None, frames)
