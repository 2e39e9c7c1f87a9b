"""The header of a safetensors file whose bytes are the same each time."""

import json
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

__all__ = ["safetensors_header"]

_ALIGNMENT = 8  # bytes that the values are aligned to


def safetensors_header(tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str]) -> bytes:
    """Return the first bytes of a file whose tensors follow in the order of `tensors`, little-endian.

    The metadata is sorted by key. The safetensors library writes it in another order each time, so one picture would
    give files of different bytes.

    Args:
        tensors: arrays of floating-point numbers, by name.
        metadata: the texts that the file holds.
    """
    values: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    place = 0
    for name, tensor in tensors.items():
        values[name] = {
            "dtype": f"F{8 * tensor.itemsize}",
            "shape": list(tensor.shape),
            "data_offsets": [place, place + tensor.nbytes],
        }
        place += tensor.nbytes
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
