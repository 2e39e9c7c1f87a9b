"""The shape of every engine result is checked: an engine in a bad state can give an array of an earlier call's size."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..bundle.graph import TensorInfo
from ..errors import EngineError

__all__ = ["check_shape", "expected_shape"]

Lengths = Sequence[int | None]


def check_shape(array: Any, wanted: Lengths, source: str) -> None:
    """Compare an array's shape with the lengths that are `wanted` (None: any length of at least 1). `source` names the
    graph, for the message.

    Raises:
        EngineError: another rank or another length.
    """
    shape = array.shape() if callable(array.shape) else array.shape  # a method of ONNX Runtime's values
    got = tuple(shape)
    if len(got) == len(wanted) and all(
        one == two or (two is None and one > 0) for one, two in zip(got, wanted, strict=True)
    ):
        return
    lengths = ", ".join("any" if length is None else str(length) for length in wanted)
    raise EngineError(
        f"{source}: the engine gave an array of shape {got}, wanted ({lengths}): its result is dropped; run the call "
        f"again, or open the bundle with another backend"
    )


def expected_shape(tensor: TensorInfo, sizes: Mapping[str, int]) -> tuple[int | None, ...]:
    """The lengths of a graph's output where the axes named in `sizes` have these lengths; None for other axes."""

    def length(axis: int | str) -> int | None:
        if isinstance(axis, int):
            return axis
        factor, _, name = axis.rpartition("*")
        return int(factor or 1) * sizes[name] if name in sizes else None

    return tuple(length(axis) for axis in tensor.shape)
