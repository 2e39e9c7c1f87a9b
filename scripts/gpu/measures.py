"""What runs in a process of its own for each measurement. Every function gives plain values for JSON."""

import statistics
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .cases import Case, Contender

__all__ = [
    "build",
    "describe",
    "export",
    "extent_of",
    "first_frame_and_clip",
    "latents_of",
    "measure",
    "open_vae",
    "reference",
    "work_of",
]

_CALLS = 5
_LAYOUTS = {4: "channels_last", 5: "channels_last_3d"}


def latents_of(case: Case) -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal(case.latents, np.float32)


def extent_of(case: Case) -> Any:
    """The size of the case's sample."""
    from latentrt.export.engines.settings import Extent

    ratio = 32 if case.video else 8
    height, width = (size * ratio for size in case.latents[-2:])
    return Extent(case.latents[0], height, width, 8 * (case.latents[2] - 1) + 1 if case.video else 1)


def describe(dry: bool) -> dict[str, Any]:
    """The GPU, and what it multiplies a second in each precision (8192 square, the best of several)."""
    import torch

    if dry:
        return {
            "device": "cpu (dry run)",
            "torch": torch.__version__,
            "matrix_tflops": {"float32": _tflops("cpu", "float32", 512)},
        }
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": properties.name,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "tensorrt_rtx_takes": _rtx_capabilities(),
        "matrix_tflops": {dtype: _tflops("cuda", dtype, 8192) for dtype in ("float32", "float16", "bfloat16")},
    }


def _rtx_capabilities() -> list[str] | None:
    """The compute capabilities that the installed TensorRT-RTX compiles for: not those of data-centre GPUs."""
    try:
        import tensorrt_rtx
    except ImportError:
        return None
    names = [name[2:] for name in tensorrt_rtx.ComputeCapability.__members__ if name.startswith("SM")]
    return [f"{name[:-1]}.{name[-1]}" for name in names]


def _tflops(device: str, dtype: str, size: int) -> float:
    import torch

    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    seconds = []
    for _ in range(8):
        _synchronise(device)
        started = time.perf_counter()
        matrix @ matrix
        _synchronise(device)
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / min(seconds) / 1e12


def export(checkpoint: Path, bundle: Path) -> dict[str, Any]:
    """The decoder in every precision."""
    from latentrt.export.bundle import ExportSettings, export_bundle

    started = time.perf_counter()
    export_bundle(checkpoint, bundle, ExportSettings(("decoder",), ("float32", "float16", "bfloat16")))
    return {"seconds": time.perf_counter() - started}


def build(
    cases: Sequence[Case], bundle: Path, backend: str, dtype: str, capabilities: tuple[str, ...]
) -> dict[str, Any]:
    """One engine with a static profile for each case of a model."""
    from latentrt.export.engines.build import build_engines
    from latentrt.export.engines.settings import BuildSettings

    tiles = tuple(map(extent_of, cases))
    settings = BuildSettings(
        backend, (dtype,), ("decoder",), tiles=tiles, static=True, compute_capabilities=capabilities
    )
    record = build_engines(bundle, settings)[0].record
    return {
        "seconds": record.built["build_seconds"],
        "engine_bytes": record.bytes,
        "activation_bytes": record.activation_bytes,
    }


def reference(case: Case, checkpoint: Path, output: Path, device: str) -> dict[str, Any]:
    """What the PyTorch model decodes in float32, without TF32, into a .npy file."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    run = _torch_decoder(case, checkpoint, Contender("torch", "float32"), device)
    np.save(output, run().float().cpu().numpy())
    return {}


def measure(
    case: Case, contender: Contender, checkpoint: Path, bundle: Path, wanted: Path, device: str
) -> dict[str, Any]:
    """Seconds to open, of the first call and of a call (median), the most device memory, and the distance to the
    reference. Results come back to the host as float32 in every contender but torch, whose stay on the device."""
    from latentrt.export.quality import psnr

    with _MemoryWatch(device) as memory:
        started = time.perf_counter()
        run = _decoder(case, contender, checkpoint, bundle, device)
        opened = time.perf_counter()
        result = run()
        _synchronise(device)
        first = time.perf_counter()
        seconds = [_timed(run, device) for _ in range(_CALLS)]
    array = np.asarray(result if isinstance(result, np.ndarray) else result.float().cpu().numpy())
    return {
        "open_seconds": opened - started,
        "first_seconds": first - opened,
        "seconds": statistics.median(seconds),
        "peak_bytes": memory.peak_bytes,
        "psnr_db": psnr(array, np.load(wanted, mmap_mode="r")),
    }


def first_frame_and_clip(case: Case, contender: Contender, bundle: Path, folder: Path, device: str) -> dict[str, Any]:
    """From latents (on the GPU, where the backend takes them there) to the first uint8 frame and to a whole MP4."""
    from latentrt.runtime.clip_writer import write_clip

    vae = open_vae(contender, bundle)
    latents: Any = latents_of(case)
    if device == "cuda":
        import torch

        latents = torch.from_numpy(latents).cuda()
    vae.warmup([case.latents])
    started = time.perf_counter()
    first = None
    path = folder / "clip.mp4"
    with write_clip(path, 24, overwrite=True) as clip:
        for frames in vae.decode_frames(latents, output="uint8"):
            first = first or time.perf_counter() - started
            clip.write(frames[0])
    return {
        "first_frame_seconds": first,
        "clip_seconds": time.perf_counter() - started,
        "clip_bytes": path.stat().st_size,
    }


def work_of(case: Case) -> float:
    """The floating-point operations of one decode, counted on a model without memory."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from latentrt.export.components import meta_model
    from latentrt.runtime.config import config_from_dict

    model: Any = meta_model(config_from_dict(case.config))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        _decode(model, torch.empty(case.latents, device="meta"), case)
    return float(counter.get_total_flops())


def _decode(model: Any, latents: Any, case: Case) -> Any:
    return model.decode(latents, False) if case.video else model.decode(latents)


def open_vae(contender: Contender, bundle: Path) -> Any:
    from latentrt.runtime import open_bundle

    return open_bundle(bundle, backend=contender.kind, provider=contender.detail or None, dtype=contender.dtype)


def _decoder(case: Case, contender: Contender, checkpoint: Path, bundle: Path, device: str) -> Callable[[], Any]:
    if contender.kind.startswith("torch"):
        return _torch_decoder(case, checkpoint, contender, device)
    vae = open_vae(contender, bundle)
    latents = latents_of(case)
    return lambda: vae.decode(latents).sample


def _torch_decoder(case: Case, checkpoint: Path, contender: Contender, device: str) -> Callable[[], Any]:
    import torch

    from latentrt.export.checkpoints import open_checkpoint
    from latentrt.export.models import model_from_config

    source = open_checkpoint(checkpoint)
    model: Any = model_from_config(source.config)
    state = {name: torch.from_numpy(tensor.read()) for name, tensor in source.tensors.items()}
    model.load_state_dict(state, assign=True)
    del state
    model.encoder = None
    dtype = getattr(torch, contender.dtype)
    model.to(device, dtype)
    latents = torch.from_numpy(latents_of(case)).to(device, dtype)
    if contender.detail == "channels_last":
        layout = getattr(torch, _LAYOUTS[latents.ndim])
        model.to(memory_format=layout)
        latents = latents.to(memory_format=layout)

    def run() -> Any:
        with torch.inference_mode():
            return _decode(model, latents, case)

    return torch.compile(run) if contender.kind == "torch.compile" else run  # type: ignore[no-any-return]


def _timed(run: Callable[[], Any], device: str) -> float:
    _synchronise(device)
    started = time.perf_counter()
    run()
    _synchronise(device)
    return time.perf_counter() - started


def _synchronise(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


class _MemoryWatch:
    """The most device memory in use beside what was in use at the start; None without a GPU."""

    def __init__(self, device: str) -> None:
        self.peak_bytes: int | None = None
        self._watched = device == "cuda"
        self._stop = threading.Event()

    def __enter__(self) -> "_MemoryWatch":
        if self._watched:
            self._start = self._used()
            self.peak_bytes = 0
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._watched:
            self._stop.set()
            self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak_bytes = max(self.peak_bytes or 0, self._used() - self._start)

    @staticmethod
    def _used() -> int:
        import torch

        free, total = torch.cuda.mem_get_info()
        return int(total - free)
