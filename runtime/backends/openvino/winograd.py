"""A graph whose 3x3 and 3x3x3 convolutions have fewer multiplications, for OpenVINO's CPU plugin.

Winograd's filtering (`backends/winograd.py`) is applied along the height alone. Four rows of a result together cost six
convolutions with one row of taps instead of twelve, and two rows cost four instead of six. Their sums and differences
need rows by their remainder: (0, 4, 8, ...), (1, 5, 9, ...) and so on. To cut these rows out of a picture and to join
them again around every convolution would cost what is gained. So the rows of one remainder stay a tensor of their own
through all nodes that do not mix rows, and are joined only for a node that needs the whole picture.

Sizes have to be known. A height is divided by four, or else by two.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...extras import require
from ..winograd import TAPS, filtering
from .graph import Name, name_of

__all__ = ["apply_winograd"]

_LEAST_WORK = {4: 700, 2: 800}
"""The least multiplications per value of input and result for which it pays, by the number of rows at once. (With 400
for four rows, convolutions of 32 channels in three dimensions would be included: they are no faster over 121 frames,
and take half as much memory again.)"""
_MOST_CHANNELS = 512
"""The most input channels. Transformed weights are twice as many, and the widest layers hold most of a model's weights
and do little of its work."""
_SAME_FOR_EVERY_ROW = ("Sigmoid", "Swish", "Mish", "Relu", "Sqrt", "Add", "Subtract", "Multiply", "Divide", "Power")
_ALONG_AXES = {"ReduceL2": "reduce_l2", "ReduceMean": "reduce_mean", "ReduceSum": "reduce_sum"}


def apply_winograd(model: Any) -> int:
    """Rewrite an `openvino.Model` of known sizes in place. Returns how many convolutions were rewritten."""
    rewriting = _Rewriting()
    for node in list(model.get_ordered_ops()):
        rewriting.visit(node)
    if rewriting.convolutions:
        model.validate_nodes_and_infer_types()
    return rewriting.convolutions


class _Rewriting:
    """Visits the nodes of a graph in order. `_apart` holds the tensors (B, C, ..., H, W) that are computed by the
    remainder of their rows from now on: m tensors (B, C, ..., H / m, W) for each."""

    def __init__(self) -> None:
        self.convolutions = 0
        self._ops = require("openvino.opset13", extra="openvino")
        self._constant = require("openvino.op", extra="openvino").Constant
        self._apart: dict[Name, list[Any]] = {}
        self._cut: dict[tuple[Name, int], list[Any]] = {}
        self._together: dict[Name, Any] = {}

    def visit(self, node: Any) -> None:
        kind, values = node.get_type_name(), node.input_values()
        known = not any(value.get_partial_shape().is_dynamic for value in (*values, *node.outputs()))
        if known and kind == "Convolution" and self._convolution(node):
            self.convolutions += 1
        elif known and kind == "Pad":
            pass  # the convolutions that read it rewrite it
        elif not (known and self._row_by_row(node, kind)):
            for reader in (node, *(value.get_node() for value in values if value.get_node().get_type_name() == "Pad")):
                self._give_joined(reader)

    def _row_by_row(self, node: Any, kind: str) -> bool:
        """Let a node compute its result by the remainder of rows, if it reads such rows and mixes none."""
        count = max((len(self._apart.get(name_of(value), ())) for value in node.input_values()), default=0)
        if not count or not self._mixes_no_rows(node, kind):
            return False
        sources = [self._parts_for(node, value, count) for value in node.input_values()]
        made = [self._again(node, kind, inputs) for inputs in zip(*sources, strict=True)]
        self._apart[name_of(node.output(0))] = made
        return True

    def _give_joined(self, node: Any) -> None:
        for index, value in enumerate(node.input_values()):
            if name_of(value) in self._apart:
                node.input(index).replace_source_output(self._joined(value))

    def _mixes_no_rows(self, node: Any, kind: str) -> bool:
        rank = len(node.output(0).shape)
        if kind == "Concat":
            return bool(node.get_attributes()["axis"] % rank != rank - 2)
        if kind in _ALONG_AXES or kind == "Slice":
            axes = node.input_value(node.get_input_size() - 1).get_node()
            keeps = kind == "Slice" or node.get_attributes()["keep_dims"]
            known = axes.get_type_name() == "Constant" and (kind != "Slice" or node.get_input_size() == 5)
            return keeps and known and rank - 2 not in np.atleast_1d(axes.data) % rank
        return kind in _SAME_FOR_EVERY_ROW

    def _parts_for(self, node: Any, value: Any, count: int) -> list[Any]:
        """The `count` inputs in the place of one: the parts of a picture, or the same value if it has no rows."""
        rows = node.output(0).shape[-2]
        has_rows = len(value.shape) >= 2 and value.shape[-2] == rows and rows > 1
        return self._parts(value, count) if has_rows else [value] * count

    def _again(self, node: Any, kind: str, inputs: Sequence[Any]) -> Any:
        if kind == "Concat":
            return self._ops.concat(list(inputs), node.get_attributes()["axis"]).output(0)
        if kind in _ALONG_AXES:
            return getattr(self._ops, _ALONG_AXES[kind])(*inputs, True).output(0)
        return getattr(self._ops, kind.lower())(*inputs).output(0)

    def _convolution(self, node: Any) -> bool:
        """Rewrite a convolution, if it has three rows of taps and is large enough to gain by it."""
        source, kernel, settings = node.input_value(0), node.input_value(1).get_node(), node.get_attributes()
        rows = node.output(0).shape[-2]
        count = len(self._apart.get(name_of(source), ())) or next((count for count in (4, 2) if rows % count == 0), 0)
        if not count or kernel.get_type_name() != "Constant" or settings["auto_pad"] != "explicit":
            return False
        shape = kernel.output(0).shape
        steps = {*settings["strides"], *settings["dilations"]}
        if shape[-2] != TAPS or steps != {1} or shape[1] > _MOST_CHANNELS or _work(shape) < _LEAST_WORK[count]:
            return False
        seen = self._seen_rows(source, settings, count)
        if seen is None:
            return False
        how = filtering(count)
        begin, end = ([*settings[name]] for name in ("pads_begin", "pads_end"))
        begin[-2] = end[-2] = 0
        inputs = self._at_points(seen, how.before)
        products = [
            self._ops.convolution(source, self._held(weights), [1] * len(end), begin, end, [1] * len(end)).output(0)
            for source, weights in zip(inputs, _transformed(kernel.data, how.of_taps), strict=True)
        ]
        results = self._from_points(products, how.after)
        self._apart[name_of(node.output(0))] = results
        return True

    def _seen_rows(self, source: Any, settings: Any, count: int) -> list[Any] | None:
        """The rows that `count` rows of the result see, as `count` + 2 tensors: for four, rows 4 i - 1, 4 i, ... 4 i +
        4 for all i. None if the height is not padded by one."""
        pad = source.get_node()
        padding = settings["pads_begin"][-2], settings["pads_end"][-2]
        if padding == (1, 1):
            parts = self._parts(source, count)
            shape = [*parts[0].shape]
            shape[-2] = 1
            above = below = self._ops.constant(np.zeros(shape, np.float32)).output(0)
        elif padding == (0, 0) and pad.get_type_name() == "Pad" and pad.get_attributes()["pad_mode"] == "reflect":
            amounts = [pad.input_value(index).get_node() for index in (1, 2)]
            if any(node.get_type_name() != "Constant" for node in amounts):
                return None
            begin, end = (node.data.tolist() for node in amounts)
            if (begin[-2], end[-2]) != (1, 1) or any(begin[:-2]) or any(end[:-2]):
                return None
            begin[-2] = end[-2] = 0
            inner = self._parts(pad.input_value(0), count)
            parts = [self._ops.pad(part, np.array(begin), np.array(end), "reflect").output(0) for part in inner]
            above = self._rows(parts[1], 0, 1)
            below = self._rows(parts[-2], parts[-2].shape[-2] - 1, parts[-2].shape[-2])
        else:
            return None
        length, axis = parts[0].shape[-2], len(parts[0].shape) - 2
        if length > 1:
            above = self._ops.concat([above, self._rows(parts[-1], 0, length - 1)], axis).output(0)
            below = self._ops.concat([self._rows(parts[0], 1, length), below], axis).output(0)
        return [above, *parts, below]

    def _parts(self, value: Any, count: int) -> list[Any]:
        """The rows of a tensor by their remainder."""
        apart = self._apart.get(name_of(value))
        if apart is not None:
            return apart
        key = name_of(value), count
        if key not in self._cut:
            self._cut[key] = [self._rows(value, first, value.shape[-2], count) for first in range(count)]
        return self._cut[key]

    def _rows(self, value: Any, begin: int, end: int, step: int = 1) -> Any:
        axis = len(value.shape) - 2  # a negative one would cost OpenVINO the layout that convolutions have
        return self._ops.slice(value, *(np.array([number]) for number in (begin, end, step, axis))).output(0)

    def _joined(self, value: Any) -> Any:
        """The parts of a tensor as one tensor: parts next to each other, read in rows, are the rows in their order."""
        name = name_of(value)
        if name not in self._together:
            side_by_side = self._ops.concat(self._apart[name], len(value.shape) - 1)
            joined = self._ops.reshape(side_by_side, np.array(value.shape), False).output(0)
            joined.set_names(value.get_names())
            self._together[name] = joined
        return self._together[name]

    def _held(self, weights: Any) -> Any:
        """A constant over the array itself. (OpenVINO's other ways to make a constant go through a list of numbers.)"""
        return self._constant(weights, shared_memory=True).output(0)

    def _at_points(self, values: Sequence[Any], shares: NDArray[np.float64]) -> list[Any]:
        """`shares @ values`, (n, n) by n tensors. Points of opposite sign share the sum of even powers, and the sum of
        odd powers except for its sign."""
        results = [self._sum(values, row) for row in (shares[0], shares[-1])]
        for one, other in zip(shares[1:-1:2], shares[2:-1:2], strict=True):
            even, odd = (self._sum(values, (one + sign * other) / 2) for sign in (1, -1))
            results[-1:-1] = [self._ops.add(even, odd).output(0), self._ops.subtract(even, odd).output(0)]
        return results

    def _from_points(self, values: Sequence[Any], shares: NDArray[np.float64]) -> list[Any]:
        """`shares @ values`, (m, n) by n tensors, by the sums and differences of points of opposite sign."""
        terms, columns = [values[0], values[-1]], [shares[:, 0], shares[:, -1]]
        for index in range(1, len(values) - 1, 2):
            pair, one, other = values[index : index + 2], shares[:, index], shares[:, index + 1]
            terms += [self._ops.add(*pair).output(0), self._ops.subtract(*pair).output(0)]
            columns += [(one + other) / 2, (one - other) / 2]
        return [self._sum(terms, row) for row in np.stack(columns, 1)]

    def _sum(self, values: Sequence[Any], shares: Any) -> Any:
        total = None
        for value, share in zip(values, shares, strict=True):
            if share == 0:
                continue
            if total is not None and abs(share) == 1:
                total = (self._ops.add if share == 1 else self._ops.subtract)(total, value).output(0)
                continue
            term = value if share == 1 else self._ops.multiply(value, np.float32(share)).output(0)
            total = term if total is None else self._ops.add(total, term).output(0)
        return total


def _work(shape: Sequence[int]) -> float:
    """Multiplications of a convolution with these weights, per value of its input and its result."""
    results, sources, *taps = shape
    return results * sources / (results + sources) * float(np.prod(taps))


def _transformed(weights: Any, of_taps: Any) -> list[Any]:
    """Weights (O, I, ..., 3, kW) as those of each product, (O, I, ..., 1, kW) float32."""
    rows_first = np.ascontiguousarray(np.moveaxis(weights, -2, 0), np.float64)
    products = (of_taps @ rows_first.reshape(TAPS, -1)).astype(np.float32)
    return [np.expand_dims(product.reshape(rows_first.shape[1:]), -2) for product in products]
