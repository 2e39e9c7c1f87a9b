"""The contenders of the comparison. Each opens one component in a process of its own, and returns the call to time."""

import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.engines import random_input
from benchmarks.timed_backend import timed_backend
from numpy.typing import NDArray

from latentrt.runtime.arrays.kinds import Dtype
from latentrt.runtime.extras import require

from .cases import PeerCase

__all__ = ["CONTENDERS", "OPTIMUM_PYTHON", "Contender", "Opened", "Unavailable", "contenders_of"]

OPTIMUM_PYTHON = "LATENTRT_OPTIMUM_PYTHON"
"""Environment variable with the path of a Python that has optimum-onnx."""

Array = NDArray[np.float32]
_PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}


class Unavailable(Exception):
    """A contender cannot take part here; the message is the reason."""


@dataclass
class Opened:
    """A contender that has opened its component.

    Attributes:
        run: the call to time.
        warm: warm-up to run before.
        engine_calls: start and end of each engine call, in seconds; None if they are unknown.
        peak_gib: returns the peak memory in GiB of the contender's own process; None if it has none.
    """

    run: Callable[[], Array]
    warm: Callable[[], Any]
    engine_calls: list[tuple[float, float]] | None = None
    peak_gib: Callable[[], float] | None = None

    @property
    def engine_seconds(self) -> float:
        """Seconds in which at least one engine was running. Engines may be opened during the calls of others."""
        covered, until = 0.0, float("-inf")
        for began, ended in sorted(self.engine_calls or ()):
            covered += max(ended - max(began, until), 0.0)
            until = max(until, ended)
        return covered


@dataclass(frozen=True)
class Contender:
    """An engine that is compared.

    Attributes:
        name: its name.
        open: opens a component: `open(case, checkpoint, bundle, threads, dtype, way)`.
        dtype: precision.
        way: how the contender runs; its meaning depends on `open`.
        once: True for a slow contender that runs in one round only.
        video: kind of cases: True for video, False for images, None for both.
        models: models that it takes; () for all.
    """

    name: str
    open: Callable[..., Opened]
    dtype: str
    way: str = "whole"
    once: bool = False
    video: bool | None = None
    models: tuple[str, ...] = ()

    def takes(self, case: PeerCase) -> bool:
        return self.video in (None, case.video) and (not self.models or case.model in self.models)


def diffusers(case: PeerCase, checkpoint: Path, bundle: Path, threads: int, dtype: str, way: str) -> Opened:
    """Open diffusers' class with its defaults. `way`: "whole", "tiled" (for video also framewise) or "compile"."""
    import diffusers
    import torch

    torch.set_num_threads(threads)
    diffusers.utils.logging.set_verbosity_error()
    kind = json.loads((checkpoint / "config.json").read_text())["_class_name"]
    model: Any = getattr(diffusers, kind).from_pretrained(checkpoint, torch_dtype=getattr(torch, dtype)).eval()
    setattr(model, "decoder" if case.component == "encoder" else "encoder", None)  # saves memory
    if way == "tiled":
        model.enable_tiling()
        if case.video:
            model.use_framewise_decoding = model.use_framewise_encoding = True
    part = torch.compile(getattr(model, case.component)) if way == "compile" else None
    if part is not None:
        setattr(model, case.component, part)

    def given(shape: tuple[int, ...]) -> Callable[[], Array]:
        tensor = torch.from_numpy(random_input(case.component, shape)).to(getattr(torch, dtype))

        def run() -> Array:
            with torch.inference_mode():
                if case.component == "encoder":
                    return np.asarray(model.encode(tensor).latent_dist.parameters.float())
                return np.asarray(model.decode(tensor).sample.float())

        return run

    # Eager PyTorch specialises nothing for a shape, so a few frames are enough for its warm-up.
    short = (*case.shape[:2], 2 if case.component == "decoder" else 9, *case.shape[3:])
    eager_video = case.video and part is None
    return Opened(given(case.shape), given(short if eager_video else case.shape))


def optimum(case: PeerCase, checkpoint: Path, bundle: Path, threads: int, dtype: str, way: str) -> Opened:
    """Open optimum-onnx's session of a VAE, in an environment of its own."""
    if case.video:
        raise Unavailable("optimum-onnx exports AutoencoderKL only")
    python = os.environ.get(OPTIMUM_PYTHON)
    if not python:
        raise Unavailable(
            "optimum-onnx 0.1.0 wants transformers before 4.58 and huggingface_hub before 1.0, and ours are newer: "
            "give --optimum-python an environment that has it"
        )
    folder = Path(tempfile.mkdtemp(prefix="latentrt-optimum-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    np.save(folder / "input.npy", random_input(case.component, case.shape))
    script = Path(__file__).with_name("optimum_vae.py")
    command = [python, str(script), str(checkpoint), case.component, str(threads), str(folder / "input.npy")]
    quiet = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=quiet
        )
    atexit.register(child.kill)
    requests, answers = child.stdin, child.stdout
    assert requests is not None
    assert answers is not None
    while (line := answers.readline()) != "ready\n":  # the exporter prints lines too
        if not line:
            last = (folder / "log").read_text(errors="replace").strip().splitlines()[-1:]
            raise RuntimeError(f"optimum-onnx ended with {child.wait()}: {' '.join(last)}")
    peak = 0.0

    def run() -> Array:
        nonlocal peak
        print(folder / "output.npy", file=requests, flush=True)
        peak = float(answers.readline())
        return np.load(folder / "output.npy")  # type: ignore[no-any-return]

    return Opened(run, run, peak_gib=lambda: peak)


def raw_onnxruntime(case: PeerCase, checkpoint: Path, bundle: Path, threads: int, dtype: str, way: str) -> Opened:
    """Open our whole graph in a plain ONNX Runtime session."""
    onnxruntime = require("onnxruntime", extra="cpu")

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    graph = bundle / f"{case.component}.onnx"
    return _session(onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"]), case)


def _session(session: Any, case: PeerCase) -> Opened:
    inputs = {session.get_inputs()[0].name: random_input(case.component, case.shape)}

    def run() -> Array:
        return np.asarray(session.run(None, inputs)[0])

    return Opened(run, run)


def raw_openvino(case: PeerCase, checkpoint: Path, bundle: Path, threads: int, dtype: str, way: str) -> Opened:
    """Open our whole graph in OpenVINO, with its fastest settings: fixed sizes, one stream, and no pinned threads."""
    openvino = require("openvino", extra="openvino")

    core = openvino.Core()
    model = core.read_model(str(bundle / f"{case.component}.onnx"))
    model.reshape(list(case.shape))
    settings = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    array = random_input(case.component, case.shape)
    tensor = openvino.Tensor(array, shared_memory=True)
    request.set_input_tensor(tensor)

    def run(held: Array = array) -> Array:  # OpenVINO does not keep the array whose memory it shares
        request.infer()
        return np.asarray(request.get_output_tensor(0).data)

    return Opened(run, run)


def latentrt(case: PeerCase, checkpoint: Path, bundle: Path, threads: int, dtype: Dtype, way: str) -> Opened:
    """Open a bundle as a user does. `way`: name of an engine (whole), "stream", "tiled" or "exact" (in strips)."""
    from latentrt.runtime import open_bundle

    backend = {"onnxruntime": "onnxruntime", "exact": "onnxruntime"}.get(way, "openvino")
    # Opening an engine counts too: exact strips open theirs one by one.
    timed = timed_backend(bundle, opening=True, backend=backend, dtype=dtype, threads=threads)
    vae: Any = open_bundle(bundle, backend=timed, dtype=dtype)
    spent = timed.spans
    array = random_input(case.component, case.shape)
    if way == "stream":
        vae.enable_streaming()
    elif way == "tiled":
        vae.enable_tiling()
    elif way == "exact":
        vae.enable_tiling(exact=True)

    def run() -> Array:
        spent.clear()
        if case.component == "encoder":
            return vae.encode(array).latent_dist.parameters  # type: ignore[no-any-return]
        return vae.decode(array).sample  # type: ignore[no-any-return]

    if way == "exact":
        return Opened(run, lambda: None, spent)

    def warm() -> None:
        vae.warmup([array.shape], [case.component])

    return Opened(run, warm, spent)


CONTENDERS = (
    Contender("diffusers float32", diffusers, "float32"),
    Contender("diffusers bfloat16", diffusers, "bfloat16"),
    Contender("diffusers tiled float32", diffusers, "float32", "tiled", once=True),
    Contender("torch.compile float32", diffusers, "float32", "compile", once=True, models=("quarter", "sd")),
    Contender("optimum-onnx float32", optimum, "float32"),
    Contender("onnxruntime float32", raw_onnxruntime, "float32"),
    Contender("LatentRT onnxruntime float32", latentrt, "float32", "onnxruntime"),
    Contender("openvino float32", raw_openvino, "float32"),
    Contender("LatentRT openvino float32", latentrt, "float32", "openvino"),
    Contender("openvino bfloat16", raw_openvino, "bfloat16"),
    Contender("LatentRT openvino bfloat16", latentrt, "bfloat16", "openvino"),
    Contender("LatentRT stream float32", latentrt, "float32", "stream", video=True),
    Contender("LatentRT stream bfloat16", latentrt, "bfloat16", "stream", video=True),
    Contender("LatentRT tiled float32", latentrt, "float32", "tiled", once=True),
    Contender("LatentRT exact float32", latentrt, "float32", "exact", once=True, video=False),
)
"""The contenders in the order of their turns. An engine called directly precedes LatentRT on that engine."""


def contenders_of(case: PeerCase) -> tuple[Contender, ...]:
    """Return the contenders of a case, the reference first."""
    return tuple(contender for contender in CONTENDERS if contender.takes(case))
