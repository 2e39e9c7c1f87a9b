"""Measures one contender in the present process, and returns plain values for JSON."""

import time
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.exporting import peak_gib

from latentrt.runtime.extras import require

from .cases import CONFIGS, PeerCase
from .contenders import Contender, Unavailable

__all__ = ["matrix_rates", "measure", "measure_turns", "prepare", "work_of"]

_ENOUGH_SECONDS = 3.0  # of timed calls, after which no further call is timed
_MAX_CALLS = 5
_MATRIX = 2048  # height and width of the matrices


def prepare(folder: Path, model: str) -> None:
    """Write a checkpoint with random weights and export its bundle."""
    from benchmarks.checkpoints import write_checkpoint

    from latentrt.export.bundle import export_bundle

    if not (folder / "checkpoint" / "diffusion_pytorch_model.safetensors").exists():
        write_checkpoint(folder / "checkpoint", CONFIGS[model])
    export_bundle(folder / "checkpoint", folder / "bundle")


def measure(
    case: PeerCase, contender: Contender, folder: Path, threads: int, reference: Path, keep: bool
) -> dict[str, Any]:
    """Measure one contender.

    The row has the seconds of a call (the median of up to five), the seconds to open and warm up, the peak memory of
    the process, and the PSNR to the reference. With `keep`, the result becomes the reference.
    """
    from latentrt.export.verify.quality import psnr

    try:
        started = time.perf_counter()
        opened = contender.open(case, folder / "checkpoint", folder / "bundle", threads, contender.dtype, contender.way)
        opened.warm()
        ready = time.perf_counter()
        seconds: list[float] = []
        shares: list[float] = []
        while not seconds or (sum(seconds) < _ENOUGH_SECONDS and len(seconds) < _MAX_CALLS):
            called = time.perf_counter()
            result = opened.run()
            seconds.append(time.perf_counter() - called)
            if opened.engine_calls is not None:
                shares.append(1 - opened.engine_seconds / seconds[-1])
    except Exception as error:  # an exception of a peer becomes its row, and the others go on
        return _absent(error)
    row = {
        "status": "ok",
        "seconds": float(np.median(seconds)),
        "calls": len(seconds),
        "ready_seconds": ready - started,
        "peak_gib": (opened.peak_gib or peak_gib)(),
        "host_share": float(np.median(shares)) if shares else None,
    }
    if keep:
        np.save(reference, result)
    row["psnr_db"] = psnr(np.asarray(result), np.load(reference, mmap_mode="r"))
    row["reference_range"] = float(np.ptp(np.load(reference, mmap_mode="r")))
    return row


def measure_turns(
    case: PeerCase, left: Contender, right: Contender, folder: Path, threads: int, turns: int
) -> dict[str, Any]:
    """Run two contenders in one process, in turns, and measure the left one's seconds over the right one's.

    Each of them is first in every other turn. So both see the same slow and fast phases of the machine.
    """
    try:
        opened = [
            one.open(case, folder / "checkpoint", folder / "bundle", threads, one.dtype, one.way)
            for one in (left, right)
        ]
        for one in opened:
            one.warm()
            one.run()
        ratios = []
        for turn in range(turns):
            seconds = [0.0, 0.0]
            for place in (0, 1) if turn % 2 else (1, 0):
                called = time.perf_counter()
                opened[place].run()
                seconds[place] = time.perf_counter() - called
            ratios.append(seconds[0] / seconds[1])
    except Exception as error:
        return _absent(error)
    return {"status": "ok", "ratios": ratios}


def _absent(error: Exception) -> dict[str, Any]:
    """Return the row of a contender that did not run."""
    if isinstance(error, Unavailable):
        return {"status": "skipped", "reason": str(error)}
    return {"status": "failed", "reason": f"{type(error).__name__}: {[*str(error).splitlines(), ''][0]}"}


def work_of(case: PeerCase) -> float:
    """Count the floating-point operations of one call (two for a multiply-add), on a model without memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from latentrt.export.graphs.components import meta_model
    from latentrt.runtime.config.families import config_from_dict

    model: Any = meta_model(config_from_dict(CONFIGS[case.model]))
    array = torch.empty(case.shape, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        (model.encode if case.component == "encoder" else model.decode)(array)
    return float(counter.get_total_flops())


def matrix_rates(threads: int, least_seconds: float) -> dict[str, float]:
    """Measure the rate of a product of two square matrices, in floating-point operations per second.

    OpenVINO's convolutions run in the same library as its products (oneDNN). The rates are medians over at least
    `least_seconds`, by library and precision.
    """
    import torch

    torch.set_num_threads(threads)
    rates = {}
    for dtype in ("float32", "bfloat16"):
        matrix = torch.randn(_MATRIX, _MATRIX, dtype=getattr(torch, dtype))
        rates[f"torch {dtype}"] = _rate(lambda matrix=matrix: matrix @ matrix, least_seconds)
        rates[f"openvino {dtype}"] = _rate(_openvino_product(dtype, threads), least_seconds)
    return rates


def _rate(run: Any, least_seconds: float) -> float:
    seconds: list[float] = []
    run()
    while sum(seconds) < least_seconds:
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return 2 * _MATRIX**3 / float(np.median(seconds))


def _openvino_product(dtype: str, threads: int) -> Any:
    openvino = require("openvino", extra="openvino")
    ops = require("openvino.opset13", extra="openvino")
    kind = openvino.Type.f32 if dtype == "float32" else openvino.Type.bf16
    left = ops.parameter([_MATRIX, _MATRIX], kind)
    weights = np.random.default_rng(0).standard_normal((_MATRIX, _MATRIX), np.float32)
    right = ops.convert(ops.constant(weights), "bf16") if dtype == "bfloat16" else ops.constant(weights)
    model = openvino.Model([ops.matmul(left, right, False, True)], [left])
    settings = {
        "INFERENCE_PRECISION_HINT": "f32" if dtype == "float32" else "bf16",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    return request.infer
