"""Which tensors of an ONNX graph lie in its weights file: what differs between a model and its fine-tunes.

Read from the graph file's protobuf fields themselves, since the machine that builds engines has no ONNX library.
"""

from collections.abc import Iterator
from pathlib import Path

__all__ = ["stored_weights"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
# Field numbers of onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_EXTERNAL = 7, 5, 8, 13
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def stored_weights(graph: Path) -> dict[str, int]:
    """The bytes of each initializer of a bundle's graph whose values lie in the weights file, by its name."""
    found = {}
    for model in _fields(memoryview(graph.read_bytes()), _MODEL_GRAPH):
        for tensor in _fields(model, _GRAPH_INITIALIZER):
            entries = {
                _text(entry, _ENTRY_KEY): _text(entry, _ENTRY_VALUE) for entry in _fields(tensor, _TENSOR_EXTERNAL)
            }
            if entries:
                found[_text(tensor, _TENSOR_NAME)] = int(entries["length"])
    return found


def _text(message: memoryview, number: int) -> str:
    return bytes(next(_fields(message, number))).decode()


def _fields(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The contents of a message's fields of that number, which hold bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            _, place = _varint(message, place)
        elif wire == _BYTES:
            length, place = _varint(message, place)
            if number == wanted:
                yield message[place : place + length]
            place += length
        else:
            place += {_FIXED64: 8, _FIXED32: 4}[wire]


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """A number, seven bits a byte with the lowest first, and where the next one begins."""
    value = shift = 0
    while message[place] & 0x80:
        value |= (message[place] & 0x7F) << shift
        place, shift = place + 1, shift + 7
    return value | message[place] << shift, place + 1
