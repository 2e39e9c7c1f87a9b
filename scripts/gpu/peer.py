"""torch as a peer and as the reference: our PyTorch models on the GPU, in several precisions and layouts."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .calls import clip_written, verb
from .cases import Case, Contender
from .clock import MemoryWatch, median_seconds, synchronise
from .distance import psnr_to
from .processes import Measures

__all__ = ["peer_measures", "to_pixels"]

_OTHERS = {"encoder": ("decoder.", "post_quant_conv."), "decoder": ("encoder.", "quant_conv.")}


def peer_measures(
    case: Case,
    component: str,
    contenders: tuple[Contender, ...],
    checkpoint: Path,
    wanted: Path,
    folder: Path,
    device: str,
) -> Measures:
    """Return the measurements of each contender, which are the same as those of our backends.

    Results stay on the device, or come to the host as float32 or as pixels; a clip is also written to a file. The
    measurement ("reference", "torch float32") writes the float32 result, without TF32, to `wanted` (.npy).
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    peer = _Peer(case, component, checkpoint, device)
    measures: dict[Any, Callable[[], dict[str, Any]]] = {
        ("reference", "torch float32"): partial(_reference, peer, wanted),
    }
    does = verb(component)
    for one in contenders:
        measures |= {
            (f"{does}, on the device", one.name): partial(_first_of_all, peer, one, wanted),
            (f"{does}, on the host", one.name): partial(_plain, peer, one, wanted, _to_host),
            (f"{does}, uint8", one.name): partial(_plain, peer, one, wanted, to_pixels),
            ("clip", one.name): partial(_clip, peer, one, folder),
        }
    return measures


class _Peer:
    """One component of the model and its input, on the device."""

    def __init__(self, case: Case, component: str, checkpoint: Path, device: str) -> None:
        self.device = device
        self._case, self._component, self._checkpoint = case, component, checkpoint
        self._contender: Contender | None = None
        self._run: Callable[[], Any] = lambda: None

    def of(self, contender: Contender) -> Callable[[], Any]:
        """Return the call of a contender, which returns a tensor on the device. The previous contender is released."""
        if contender != self._contender:
            self.release()
            self._run, self._contender = self._opened(contender), contender
        return self._run

    def release(self) -> None:
        """Give all memory back to the device."""
        import torch

        self._contender, self._run = None, lambda: None
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def _opened(self, contender: Contender) -> Callable[[], Any]:
        import torch

        # cuDNN searches for the fastest convolutions, as TensorRT does. For the float32 reference that takes too long.
        torch.backends.cudnn.benchmark = contender.dtype != "float32"
        dtype = getattr(torch, contender.dtype)
        model = self._model().to(self.device, dtype)
        array = torch.from_numpy(self._case.array(self._component)).to(self.device, dtype)
        if contender.detail:
            layout = getattr(torch, contender.detail)
            model.to(memory_format=layout)
            array = array.to(memory_format=layout)
        function = model.encode if self._component == "encoder" else model.decode

        def run() -> Any:
            with torch.inference_mode():
                return function(array)

        return torch.compile(run, mode=contender.mode or None) if contender.kind == "torch.compile" else run

    def _model(self) -> Any:
        import torch

        from latentrt.export.checkpoints import open_checkpoint
        from latentrt.export.models.reference_model import model_from_config

        source = open_checkpoint(self._checkpoint)
        with torch.device("meta"):  # drawing weights takes longer than reading them
            model: Any = model_from_config(source.config)
        others = _OTHERS[self._component]
        state = {
            name: torch.from_numpy(tensor.read())
            for name, tensor in source.tensors.items()
            if not name.startswith(others)
        }
        setattr(model, "encoder" if self._component == "decoder" else "decoder", None)
        model.load_state_dict(state, strict=False, assign=True)
        for name in others:
            if getattr(model, name.rstrip("."), None) is not None:
                setattr(model, name.rstrip("."), None)
        left = [name for name, tensor in model.state_dict().items() if tensor.is_meta]
        if left:
            raise RuntimeError(f"{self._checkpoint} has no {', '.join(left)}")
        return model


def _reference(peer: _Peer, wanted: Path) -> dict[str, Any]:
    started = time.perf_counter()
    if wanted.exists():
        return {"seconds": 0.0, "kept": True}
    np.save(wanted, _to_host(peer.of(Contender("torch", "float32"))()))
    return {"seconds": time.perf_counter() - started}


def _first_of_all(peer: _Peer, contender: Contender, wanted: Path) -> dict[str, Any]:
    """Measure seconds to open, of the first call and of later calls, and peak GPU memory, as for our backends."""
    peer.release()
    with MemoryWatch(peer.device) as memory:
        started = time.perf_counter()
        run = peer.of(contender)
        synchronise(peer.device)
        opened = time.perf_counter()
        result = run()
        synchronise(peer.device)
        first = time.perf_counter()
    return {
        "open_seconds": opened - started,
        "first_seconds": first - opened,
        "seconds": median_seconds(run, peer.device),
        "peak_bytes": memory.peak_bytes,
        "psnr_db": psnr_to(wanted, result.float(), peer.device),
        "least": {"psnr_db": 0},
    }


def _plain(peer: _Peer, contender: Contender, wanted: Path, bring: Callable[[Any], Any]) -> dict[str, Any]:
    run = peer.of(contender)
    result = bring(run())
    seconds = median_seconds(lambda: bring(run()), peer.device)
    return {"seconds": seconds, "psnr_db": psnr_to(wanted, result, peer.device), "least": {"psnr_db": 0}}


def _clip(peer: _Peer, contender: Contender, folder: Path) -> dict[str, Any]:
    run = peer.of(contender)
    frames = (to_pixels(run()) for _ in range(1))
    return clip_written(frames, folder / f"{contender.name}.mp4")


def _to_host(result: Any) -> Any:
    """Copy a result to a float32 array on the host."""
    return result.float().cpu().numpy()


def to_pixels(result: Any) -> Any:
    """Convert a sample (B, C, ...) to uint8, channels last, on the device as our backends do; copy it to the host."""
    import torch

    pixels = ((result.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.movedim(1, -1).contiguous().cpu().numpy()
