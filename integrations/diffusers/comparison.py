"""A bundle compared with the VAE that it would replace: the time and the memory of one small decode on this machine."""

import hashlib
import json
import logging
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import torch

from ...runtime.extras import installed_version
from ...runtime.system.cache_folder import replace_file
from ...runtime.system.json_file import read_json
from ...runtime.system.process_memory import forget_peak, peak_bytes, resident_bytes
from ...runtime.system.processor import processor, usable_cores
from .autoencoder import LatentRTAutoencoder

__all__ = ["Comparison", "compared"]

_log = logging.getLogger(__name__)
_PICTURE_SIZES = (2, 4, 8, 16, 32)  # cells of height and width; the last is 256x256 for most models
_CLIP_SIZES = (2, 4, 8)  # of a clip; the last is 256x256 for LTX-2
_LATENT_FRAMES = 2  # 9 frames of LTX-2
_SLOW_SECONDS = 0.5  # no larger decode is compared; float16 on a CPU would take minutes
_ROUNDS = 2  # after the first call of each; the fastest counts
_LEAST_BYTES = 192 << 20  # ONNX Runtime and OpenVINO take 40 to 120 MB before they run anything
_MOST_BYTES = 1 << 16  # of a kept comparison
_LIBRARIES = ("latentrt", "onnxruntime", "onnxruntime-gpu", "openvino", "tensorrt", "tensorrt-rtx-cu13")


@dataclass(frozen=True)
class Comparison:
    """One decode by the bundle and by the VAE.

    Attributes:
        bundle_seconds: the fastest decode of the bundle.
        own_seconds: the fastest decode of the VAE.
        bundle_bytes: what the bundle's engine and its decode take, or None if the system does not report memory.
        own_bytes: what the VAE's decoder weights and its decode take, or None.
    """

    bundle_seconds: float
    own_seconds: float
    bundle_bytes: int | None = None
    own_bytes: int | None = None

    @property
    def time_ratio(self) -> float:
        """The bundle's time in relation to the VAE's."""
        return self.bundle_seconds / max(self.own_seconds, 1e-9)

    @property
    def memory_ratio(self) -> float | None:
        """The bundle's memory in relation to the VAE's. None if it is not known, or if both take so little that the
        code of the engine's library decides."""
        if self.bundle_bytes is None or self.own_bytes is None:
            return None
        if max(self.bundle_bytes, self.own_bytes) < _LEAST_BYTES:
            return None
        return self.bundle_bytes / max(self.own_bytes, 1)

    @property
    def pays(self) -> bool:
        """Whether the bundle is faster and not larger."""
        return self.time_ratio < 1 and (self.memory_ratio is None or self.memory_ratio <= 1)

    def __str__(self) -> str:
        memory = "" if self.memory_ratio is None else f" and {self.memory_ratio:.2f} of the memory"
        return f"{self.time_ratio:.2f} of the time{memory}"

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """Read what `asdict` gave.

        Raises:
            TypeError, KeyError, ValueError: it is something else.
        """
        ours, own = (None if (one := values[name]) is None else int(one) for name in ("bundle_bytes", "own_bytes"))
        return cls(float(values["bundle_seconds"]), float(values["own_seconds"]), ours, own)


def compared(vae: torch.nn.Module, adapter: LatentRTAutoencoder, bundle: Path) -> Comparison:
    """Compare a bundle with the VAE that it was exported from. The result is kept next to the bundle, for this machine
    and these versions.

    Raises:
        EngineError: the bundle does not run here.
    """
    kept = bundle.with_name(f"{bundle.name}.{_machine(vae, adapter)}.json")
    try:
        return Comparison.from_json(read_json(kept, _MOST_BYTES))
    except (OSError, ValueError, TypeError, KeyError):
        pass
    made = _measured(vae, adapter)
    try:
        replace_file(kept, json.dumps(asdict(made)).encode())
    except OSError as error:
        _log.info("%s: the comparison is not kept (%s)", kept, error)
    return made


def _measured(vae: Any, adapter: LatentRTAutoencoder) -> Comparison:
    place = next(vae.parameters())
    device = place.device
    with torch.no_grad():
        for size in _CLIP_SIZES if adapter.video else _PICTURE_SIZES:
            decode = _Decode(vae, adapter, place, size)
            if _seconds(decode.own, device) > _SLOW_SECONDS:  # the next one takes four times as long
                break
        own_bytes, bundle_bytes = _bytes_of(decode.own, device), _bytes_of(decode.bundle, device)
        own, ours = [], []
        for _ in range(_ROUNDS):
            own.append(_seconds(decode.own, device))
            ours.append(_seconds(decode.bundle, device))
    weights = sum(one.numel() * one.element_size() for one in vae.decoder.parameters())
    return Comparison(min(ours), min(own), bundle_bytes, None if own_bytes is None else own_bytes + weights)


class _Decode:
    """One decode of zeros by the VAE and by the bundle.

    Args:
        place: a parameter of the VAE, for dtype and device.
        size: cells of height and width of the latents.
    """

    def __init__(self, vae: Any, adapter: LatentRTAutoencoder, place: torch.Tensor, size: int) -> None:
        config = adapter.runtime.config
        shape = (1, config.latent_channels, *((_LATENT_FRAMES,) if adapter.video else ()), size, size)
        given: dict[str, Any] = {"z": torch.zeros(shape, device=place.device, dtype=place.dtype)}
        if config.timestep_conditioning:
            given["temb"] = torch.zeros(1, device=place.device, dtype=place.dtype)
        self.own: Callable[[], Any] = lambda: vae.decode(**given)
        self.bundle: Callable[[], Any] = lambda: adapter.decode(**given)


def _seconds(call: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    return time.perf_counter() - started


def _bytes_of(call: Callable[[], Any], device: torch.device) -> int | None:
    """How far a first call raises the memory, on the GPU or else of this process."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.mem_get_info(device)[0]
        call()
        _wait(device)
        return max(int(before - torch.cuda.mem_get_info(device)[0]), 0)  # allocators keep what the call took
    resident = resident_bytes()
    forget_peak()
    call()
    peak = peak_bytes()
    return None if resident is None or peak is None else max(peak - resident, 0)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _machine(vae: torch.nn.Module, adapter: LatentRTAutoencoder) -> str:
    """A name for what a comparison depends on."""
    place = next(vae.parameters())
    gpu = torch.cuda.get_device_name(place.device) if place.device.type == "cuda" else ""
    facts = [
        *(platform.machine(), processor().name, usable_cores(), torch.get_num_threads(), gpu),
        *(str(place.device.type), str(place.dtype), torch.__version__),
        *(adapter.runtime.backend, adapter.runtime.dtype),
        *(installed_version(name) for name in _LIBRARIES),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
