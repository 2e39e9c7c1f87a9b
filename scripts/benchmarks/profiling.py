"""Measures the time of each operator of a graph, by ONNX Runtime's profile."""

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from latentrt.runtime.extras import require

from .cases import SpeedCase
from .engines import random_input
from .worker import in_own_process

__all__ = ["measure_profile"]


def measure_profile(case: SpeedCase, bundle: Path, *, threads: int, repeats: int) -> dict[str, Any]:
    """Return milliseconds and calls of each operator per run, averaged over `repeats` runs after one warm-up."""
    rows = in_own_process(_profile, bundle / f"{case.component}.onnx", case, threads, repeats)
    return {"model": case.model, "component": case.component, "shape": case.shape, "operators": rows}


def _profile(graph: Path, case: SpeedCase, threads: int, repeats: int) -> list[dict[str, Any]]:
    onnxruntime = require("onnxruntime", extra="cpu")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        inputs = {session.get_inputs()[0].name: random_input(case.component, case.shape)}
        for _ in range(1 + repeats):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    starts = [event["ts"] for event in events if event["name"] == "model_run"]
    milliseconds: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= starts[1]:
            operator = event["args"]["op_name"]
            milliseconds[operator] += event["dur"] / 1000
            calls[operator] += 1
    total = sum(milliseconds.values())
    return [
        {
            "operator": operator,
            "calls": calls[operator] // repeats,
            "ms": spent / repeats,
            "percent": 100 * spent / total,
        }
        for operator, spent in milliseconds.most_common()
    ]
