"""What an ONNX file refers to, read from its bytes before a library opens the file.

A graph can name other files: a tensor's "external data" is a path, an offset and a length, and libraries follow it. Old
versions of ONNX Runtime and OpenVINO follow any path, and newer versions follow links. So this module walks the whole
file and accepts external data only if it is a byte range of the weights file that the manifest names. It also refuses
operators outside ONNX's own domain, because some of them name files or hold compiled code.

The reader knows the messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) and refuses
everything else: unknown fields, repeated fields that must be single, lengths beyond the end, deep nesting. The
runtime has no ONNX library, and a check must not depend on the version of one.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...tiling.plain_text import shown
from ..errors import BundleError

__all__ = ["ExternalTensor", "check_graph_file", "external_tensors"]

_MOST_BYTES = 16 << 20  # The largest exported graph has less than 2 MB.
_MOST_FIELDS = 2_000_000
_MOST_DEPTH = 48  # Subgraphs and functions take four levels each.
_MOST_DIMENSIONS = 16
_MOST_ELEMENTS = 1 << 40  # Along one dimension.
_PLAIN_TEXT = re.compile(rb"[\x20-\x7e]*")  # Libraries print names of nodes and tensors to the terminal.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NUMBER = re.compile(r"[0-9]{1,15}")

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}
_WIRE_TYPES = {"int": (_VARINT,), "float": (_FIXED32,), "double": (_FIXED64,)}
# The fields of each message: number and kind. A star marks a field that may be repeated. Messages and fields that are
# not listed here are refused. "data" stands for bytes that hold no name.
_FIELDS = {
    "model": "1 int, 2 text, 3 text, 4 text, 5 int, 6 text, 7 graph, 8 opset*, 14 entry*, 20 training*, 25 function*",
    "graph": "1 node*, 2 text, 5 tensor*, 10 text, 11 value*, 12 value*, 13 value*, 14 annotation*, 15 sparse*, "
    "16 entry*",
    "node": "1 text*, 2 text*, 3 text, 4 text, 5 attribute*, 6 text, 7 text, 8 text, 9 entry*",
    "attribute": "1 text, 2 float, 3 int, 4 text, 5 tensor, 6 graph, 7 float*, 8 int*, 9 text*, 10 tensor*, 11 graph*, "
    "13 text, 14 type, 15 type*, 20 int, 21 text, 22 sparse, 23 sparse*",
    "tensor": "1 int*, 2 int, 4 float*, 5 int*, 6 data*, 7 int*, 8 text, 9 data, 10 double*, 11 int*, 12 text, "
    "13 entry*, 14 int, 16 entry*",
    "sparse": "1 tensor, 2 tensor, 3 int*",
    "function": "1 text, 4 text*, 5 text*, 6 text*, 7 node*, 8 text, 9 opset*, 10 text, 11 attribute*, 12 value*, "
    "13 text, 14 entry*",
    "training": "1 graph, 2 graph, 3 entry*, 4 entry*",
    "opset": "1 text, 2 int",
    "entry": "1 text, 2 text",
    "annotation": "1 text, 2 entry*",
    "value": "1 text, 2 type, 3 text, 4 entry*",
    "type": "1 tensor_type, 4 of_type, 5 map_type, 6 text, 8 tensor_type, 9 of_type",
    "tensor_type": "1 int, 2 shape",
    "of_type": "1 type",
    "map_type": "1 int, 2 type",
    "shape": "1 dimension*",
    "dimension": "1 int, 2 text, 3 text",
}
# Field numbers of TensorProto, AttributeProto, NodeProto and ModelProto.
_DIMS, _DATA_TYPE, _NAME, _EXTERNAL_DATA, _DATA_LOCATION = 1, 2, 8, 13, 14
_OP_TYPE, _DOMAIN = 4, 7
_GRAPH, _INITIALIZER, _METADATA = 7, 5, 14
_KEY, _VALUE = 1, 2
_EXTERNAL = 1
_ITEM_BYTES = {
    1: 4,
    2: 1,
    3: 1,
    4: 2,
    5: 2,
    6: 4,
    7: 8,
    9: 1,
    10: 2,
    11: 8,
    12: 4,
    13: 8,
    16: 2,
}  # by TensorProto.DataType
_OWN_DOMAINS = ("", "ai.onnx")
# ONNX Runtime's operator that holds the compiled model of another provider, or names its file.
_COMPILED = "EPContext"
# Metadata from which ONNX Runtime takes session options if an environment variable asks for it.
_SESSION_OPTIONS = "ort_config"


@dataclass(frozen=True)
class ExternalTensor:
    """A tensor whose values lie in another file.

    Attributes:
        name: the tensor's name in the graph.
        location: the name of the other file.
        offset_bytes, length_bytes: the byte range in that file.
        shape: the tensor's shape.
        data_type: a number of TensorProto.DataType.
    """

    name: str
    location: str
    offset_bytes: int
    length_bytes: int
    shape: tuple[int, ...]
    data_type: int


class _Refused(Exception):
    """The reason for refusing a graph, as the end of a sentence."""


def check_graph_file(path: Path, weights: str, weights_bytes: int) -> None:
    """Refuse a graph that reads any other file than its weights file.

    Args:
        path: the graph file, which lies at the top of its bundle.
        weights: the name of its weights file, from the manifest.
        weights_bytes: the size of the weights file.

    Raises:
        BundleError: the graph refers to another file or to bytes outside its weights file, uses operators that can
            load code or files, is damaged, or is larger than any graph that export writes.
    """
    try:
        for name, ending in ((path.name, ".onnx"), (weights, ".safetensors")):
            # A library chooses how to read a file by its ending, and some locations have a meaning of their own.
            if not _PLAIN_NAME.fullmatch(name) or not name.endswith(ending):
                raise _Refused(f"{shown(name)} is no file name that export gives to {ending} files")
        for tensor in _read(path).external:
            if tensor.location != weights:
                raise _Refused(f"it reads {shown(tensor.location)}, and the manifest gives it {weights} alone")
            if tensor.offset_bytes + tensor.length_bytes > weights_bytes:
                raise _Refused(f"it reads bytes beyond the end of {weights}")
    except _Refused as error:
        raise BundleError(
            f"{path} is refused: {error}; the bundle is unsafe or damaged, so export it again or get it from a source "
            f"that you trust"
        ) from error


def external_tensors(path: Path) -> tuple[ExternalTensor, ...]:
    """The initializers of a graph's top level whose values lie in its weights file.

    Raises:
        BundleError: the file has not the form of an exported graph.
    """
    try:
        return _read(path).initializers
    except _Refused as error:
        raise BundleError(f"{path} is refused: {error}; export the bundle again") from error


def _read(path: Path) -> "_Reader":
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise _Refused(f"it cannot be read ({error.strerror or error})") from error
    if len(content) > _MOST_BYTES:
        raise _Refused(f"it has more than {_MOST_BYTES >> 20} MiB, and no graph that export writes has as much")
    return _Reader(content)


def _parsed(fields: str) -> dict[int, tuple[str, bool, tuple[int, ...]]]:
    """By field number: its kind, whether it may be repeated, and its wire types."""
    rules: dict[int, tuple[str, bool, tuple[int, ...]]] = {}
    for field in fields.split(", "):
        number, kind = field.split()
        repeated, kind = kind.endswith("*"), kind.rstrip("*")
        wires = _WIRE_TYPES.get(kind, (_BYTES,))
        rules[int(number)] = (kind, repeated, (*wires, _BYTES) if repeated else wires)
    return rules


_RULES = {message: _parsed(fields) for message, fields in _FIELDS.items()}
_KEPT = {"tensor", "node", "entry", "opset", "model", "graph"}  # Messages whose fields are used.


class _Reader:
    """Walks a serialised ModelProto.

    Attributes:
        external: the external tensors of all graphs and functions.
        initializers: the external tensors of the main graph.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._fields = 0
        self.external: list[ExternalTensor] = []
        if b"<net" in content[:4096]:  # OpenVINO recognises its own format by this word, under any file name
            raise _Refused("it is in OpenVINO's own format as well")
        model = self._message("model", 0, len(content), 0)
        graphs = model.get(_GRAPH, [])
        if len(graphs) != 1:
            raise _Refused("it holds no graph")
        for key, _ in model.get(_METADATA, []):
            if key == _SESSION_OPTIONS:
                raise _Refused("it brings session options of its own")
        self.initializers: tuple[ExternalTensor, ...] = tuple(filter(None, graphs[0].get(_INITIALIZER, [])))

    def _message(self, message: str, place: int, end: int, depth: int) -> Any:
        if depth > _MOST_DEPTH:
            raise _Refused(f"its messages are nested more than {_MOST_DEPTH} deep")
        content, rules, kept = self._content, _RULES[message], message in _KEPT
        found: dict[int, list[Any]] = {}
        while place < end:
            self._fields += 1
            if self._fields > _MOST_FIELDS:
                raise _Refused(f"it holds more than {_MOST_FIELDS:,} fields")
            tag = content[place]
            place += 1
            if tag & 0x80:
                tag, place = self._varint(place - 1, end)
            number, wire = tag >> 3, tag & 7
            rule = rules.get(number)
            if rule is None or wire not in rule[2]:
                raise _Refused(f"a {message} in it has a field ({number}) that is not known, or the file is damaged")
            kind, repeated, _ = rule
            value: Any = None
            if wire == _BYTES:
                length = content[place] if place < end else 0x80
                place += 1
                if length & 0x80:
                    length, place = self._varint(place - 1, end)
                stop = place + length
                if stop > end:
                    raise _Refused("it is cut short or damaged")
                if kind == "text":
                    if _PLAIN_TEXT.fullmatch(content, place, stop) is None:
                        raise _Refused(f"the text of a {message} in it holds characters that are not plain ASCII")
                    value = content[place:stop].decode() if kept else None
                elif kind in _RULES:
                    value = self._message(kind, place, stop, depth + 1)
                elif kind == "int" and message == "tensor" and number == _DIMS:
                    if length > 10 * _MOST_DIMENSIONS:
                        raise _Refused(f"a tensor in it has more than {_MOST_DIMENSIONS} dimensions")
                    value = list(self._varints(place, stop))
                place = stop
            elif wire == _VARINT:
                value, place = self._varint(place, end)
            else:
                place += _FIXED_BYTES[wire]
                if place > end:
                    raise _Refused("it is cut short or damaged")
            if number in found and not repeated:
                raise _Refused(f"a {message} in it has the field {number} twice")
            values = found.setdefault(number, [])
            if kept:
                values.append(value)
        return self._finished(message, found)

    def _finished(self, message: str, found: dict[int, list[Any]]) -> Any:
        """The part of a message that the message around it uses."""
        if message == "entry":
            return found.get(_KEY, [""])[0], found.get(_VALUE, [""])[0]
        if message == "tensor":
            return self._tensor(found)
        if message == "node":
            op_type, domain = found.get(_OP_TYPE, [""])[0], found.get(_DOMAIN, [""])[0]
            if domain not in _OWN_DOMAINS or op_type == _COMPILED:
                raise _Refused(f"it has an operator that is not ONNX's own ({shown(op_type)} of {shown(domain)})")
        return found if message in ("model", "graph") else None

    def _tensor(self, found: dict[int, list[Any]]) -> ExternalTensor | None:
        entries, location = found.get(_EXTERNAL_DATA, []), found.get(_DATA_LOCATION, [0])[0]
        if not entries and location == 0:
            return None
        name = found.get(_NAME, [""])[0]
        values = dict(entries)
        if location != _EXTERNAL or len(entries) != len(values) or values.keys() != {"location", "offset", "length"}:
            raise _Refused(f"tensor {shown(name)} in it does not say where its values lie as export says it")
        if not _NUMBER.fullmatch(values["offset"]) or not _NUMBER.fullmatch(values["length"]):
            raise _Refused(f"the byte range of tensor {shown(name)} in it is no pair of whole numbers")
        sizes = tuple(size for dims in found.get(_DIMS, []) for size in (dims if isinstance(dims, list) else [dims]))
        data_type = found.get(_DATA_TYPE, [0])[0]
        offset, length = int(values["offset"]), int(values["length"])
        tensor = ExternalTensor(name, values["location"], offset, length, sizes, data_type)
        item = _ITEM_BYTES.get(data_type, 0)
        if len(sizes) > _MOST_DIMENSIONS or any(size > _MOST_ELEMENTS for size in sizes):
            raise _Refused(f"the shape of tensor {shown(name)} in it is not one that export writes")
        if math.prod(sizes) * item != tensor.length_bytes or not item:
            raise _Refused(f"the byte range of tensor {shown(name)} in it is not as long as its shape and type say")
        self.external.append(tensor)
        return tensor

    def _varints(self, place: int, end: int) -> Iterator[int]:
        while place < end:
            value, place = self._varint(place, end)
            yield value

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        """A number, stored seven bits a byte with the lowest first, and the place of the next field."""
        value = 0
        for shift in range(0, 70, 7):
            if place >= end:
                break
            byte = self._content[place]
            place += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, place
        raise _Refused("it is cut short or damaged")
