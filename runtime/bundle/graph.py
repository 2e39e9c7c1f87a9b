"""The graphs of a bundle as values: their inputs, their outputs and their place in a stream or in a pass in strips."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from ...tiling.plain_text import shown
from .profiles import EngineKind
from .strip_stage import StripStage

__all__ = ["FileEntry", "Graph", "GraphAxis", "Stage", "TensorInfo"]

_LARGEST_FILE_BYTES = 1 << 50
_SHA256 = re.compile(r"[0-9a-f]{64}")
_LARGEST_NUMBER = 10_000  # The largest number of a streaming stage that is accepted; exported stages stay below 100.
GraphAxis = int | str
"""A length, the name of a dynamic axis, or a multiple of one, as in "32*height"."""


@dataclass(frozen=True)
class TensorInfo:
    """A graph's input or output.

    Attributes:
        name: the name in the ONNX file.
        dtype: such as "float32".
        shape: one `GraphAxis` per axis.
    """

    name: str
    dtype: str
    shape: tuple[GraphAxis, ...]

    def shape_for(self, sizes: Mapping[str, int]) -> tuple[int, ...]:
        """The shape if the named axes have these lengths."""
        return tuple(axis if isinstance(axis, int) else _length(axis, sizes) for axis in self.shape)


@dataclass(frozen=True)
class Stage:
    """The place of a streaming graph in its component. A state may be overwritten by the next state: no other node
    reads a state after the next state is made.

    Attributes:
        index: the graph's number in the order in which the stages run, from 0.
        lead: frames that the first chunk needs; it has fewer only if it is also the last chunk.
        multiple: later chunks have a multiple of this number of frames, and the first chunk one frame more.
        ratio: frames of the clip per frame that goes in.
    """

    index: int
    lead: int
    multiple: int
    ratio: int

    def __post_init__(self) -> None:
        numbers = (self.index, self.lead, self.multiple, self.ratio)
        whole = all(type(number) is int and 0 <= number <= _LARGEST_NUMBER for number in numbers)
        if not whole or 0 in (self.multiple, self.ratio):
            raise ValueError(f"{self} is no stage of a stream")


@dataclass(frozen=True)
class Graph:
    """One ONNX file.

    Attributes:
        component: "encoder" or "decoder".
        file: the name of the ONNX file in the bundle.
        weights: the name of the weights file that the graph reads.
        dtype: the precision of the computation.
        opset: the version of ONNX's operators.
        causal: whether a video model's graph looks at earlier frames only; None for image models.
        inputs, outputs: in the order of the ONNX file.
        stage: the place in a stream; None for a graph that does not stream.
        strip_stage: the place in a pass in strips; None for a graph that does not run in strips.
        cpu_file: the same graph in a form that ONNX Runtime runs faster on a CPU, or None.
        halo: of a stage of a stream: rows and columns around a piece that its results depend on, in units of the
            coarsest input or result. None: the stage depends on whole frames, or the bundle is of an earlier version.
    """

    component: str
    file: str
    weights: str
    dtype: str
    opset: int
    causal: bool | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    stage: Stage | None = None
    strip_stage: StripStage | None = None
    cpu_file: str | None = None
    halo: int | None = None

    def __post_init__(self) -> None:
        if self.halo is not None and not (type(self.halo) is int and 0 <= self.halo <= _LARGEST_NUMBER):
            raise ValueError(f"{self.halo!r} is no halo")

    @property
    def kind(self) -> EngineKind:
        """What the graph is for: a whole sample at once, a stream, or strips."""
        if self.stage is not None:
            return "stream"
        return "whole" if self.strip_stage is None else "exact"


@dataclass(frozen=True)
class FileEntry:
    """A file of the bundle, by its name relative to the folder."""

    name: str
    size_bytes: int
    sha256: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if a field is missing or of the wrong kind."""
        name, size, sha256 = values["name"], values["size_bytes"], values["sha256"]
        if not isinstance(name, str) or type(size) is not int or not 0 <= size < _LARGEST_FILE_BYTES:
            raise ValueError("name or size_bytes of a file is of the wrong kind")
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise ValueError(f"sha256 of {shown(name)} is no hash")
        return cls(name, size, sha256)


def _length(axis: str, sizes: Mapping[str, int]) -> int:
    factor, _, name = axis.rpartition("*")
    return int(factor or 1) * sizes[name]
