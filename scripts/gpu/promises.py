"""The promises of issue 4 for GPUs, and the parts of the report that measure them, so that none is forgotten."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["PROMISES", "Promise"]

_BOTH = ("sdxl", "ltx2")


@dataclass(frozen=True)
class Promise:
    """A promise, and the rows that measure it.

    Attributes:
        text: the promise.
        parts: parts of the rows.
        models: models for each of which each part is measured; () for a measurement of the machine.
        by: regular expression that the contender's name contains.
    """

    text: str
    parts: tuple[str, ...]
    models: tuple[str, ...] = _BOTH
    by: str = ""

    @property
    def wanted(self) -> list[tuple[str, str]]:
        """All (part, model) that must be measured."""
        return [(part, model) for part in self.parts for model in self.models or ("machine",)]

    def found(self, rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
        """Return the rows of each (part, model)."""
        mine = [row for row in rows if row["part"] in self.parts and re.search(self.by, row["by"])]
        return {
            (part, model): [row for row in mine if (row["part"], row["case"].split()[0]) == (part, model)]
            for part, model in self.wanted
        }


_OURS = r"^(?!torch)"
_ENGINES = ("engine", "engine of the encoder")
_OUTPUTS = ("on the device", "on the host", "uint8")
_DECODES = tuple(f"decode, {output}" for output in _OUTPUTS)
_ENCODES = ("encode, on the device", "encode, on the host")

PROMISES = (
    Promise("The machine, and the chip's measured matrix rate", ("machine",), ()),
    *(
        Promise(f"{label}, selectable, or what is missing", ("backend",), (), rf"^{label}$")
        for label in ("tensorrt", "tensorrt-rtx", "onnxruntime:cuda", "onnxruntime:tensorrt")
    ),
    Promise("Engines are built with static profiles, several in one engine", _ENGINES),
    *(
        Promise(
            f"Parity, latency, memory and share of the matrix rate in {dtype}", _DECODES[:2], by=f"{_OURS}.*{dtype}$"
        )
        for dtype in ("float16", "float32", "bfloat16")
    ),
    Promise("Pixels are made on the device", ("decode, uint8",), by=_OURS),
    *(
        Promise(f"torch eager in {dtype} as a peer, its results left where ours are", _DECODES, by=f"^torch {dtype}$")
        for dtype in ("float32", "float16", "bfloat16")
    ),
    *(
        Promise(f"torch in channels_last(_3d), {dtype}", _DECODES, by=rf"^torch channels_last\S* {dtype}$")
        for dtype in ("float16", "bfloat16")
    ),
    Promise("torch.compile as a peer", _DECODES[:2], by=r"^torch\.compile channels_last\S* (float16|bfloat16)$"),
    Promise("torch.compile with a search for kernels", _DECODES[:1], by="max-autotune-no-cudagraphs"),
    Promise("Encoder: parity and latency", _ENCODES, by=_OURS),
    Promise("Encoder: torch as a peer", _ENCODES, by="^torch "),
    Promise("Latents on the GPU to an MP4", ("clip",), ("ltx2",), _OURS),
    Promise("Latents on the GPU to an MP4, by torch", ("clip",), ("ltx2",), "^torch "),
    Promise("Time to the first frame, and streams", ("stream", "stream to a clip"), ("ltx2",), "float16$"),
    Promise("Streams in float32", ("stream",), ("ltx2",), "float32$"),
    Promise("Exact strips", ("exact strips",), ("sdxl",), "float16$"),
    Promise("Exact strips in float32", ("exact strips",), ("sdxl",), "float32$"),
    Promise("Engines of streams and of strips", ("engines of parts",)),
    Promise("Host overhead", tuple(f"host overhead, {way}" for way in ("on the host", "uint8", "tiles"))),
    Promise("Copies overlapped with compute across tiles", ("tiles, overlapped", "tiles, one by one")),
    Promise("Device arrays in and out, in the caller's stream", ("caller's stream",)),
    Promise("CUDA graph replay", ("replayed call",)),
    Promise("release() and reload in under 200 ms", ("release and reload",)),
    Promise("A hard cap on device memory, and our error with what would fit", ("memory cap",)),
    Promise("A workspace that the caller owns", ("caller's workspace",)),
    Promise("contexts=2 from two threads", ("two contexts",)),
    Promise("allow_build=False", ("no build within a call",)),
    Promise("A second process starts warm", ("warm start",)),
    Promise("latentrt verify covers engines", ("verify",)),
    Promise("A float16 overflow is detected and run again in float32", ("overflow",)),
    Promise("Building twice does nothing", ("build again",)),
    Promise("The timing cache", ("timing cache",)),
    Promise("--strip-weights with identical refit", ("engine without weights", "engine that is refitted", "refitted")),
    Promise("One engine for many fine-tunes", ("engine for other weights",)),
    Promise("Version- and hardware-compatible", ("version-compatible engine", "hardware-compatible engine")),
)
