"""A bundle's graph in the form that OpenVINO's CPU plugin runs faster: the same numbers except for rounding."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...extras import require
from ..doubling import PHASE_TAPS

__all__ = ["Name", "constant_bytes", "fix_shapes", "name_of", "rewrite_for_cpu"]

_CHANNELS = 1
Name = tuple[str, int]


def constant_bytes(model: Any) -> int:
    """The bytes of the constants of an `openvino.Model`, which are its weights but for a few."""
    return sum(node.get_byte_size() for node in model.get_ops() if node.get_type_name() == "Constant")


def rewrite_for_cpu(model: Any) -> int:
    """Rewrite the pixel norms of an `openvino.Model`, and its convolutions after doubling, in place.

    For x / sqrt(mean(x * x) + eps) over the channels OpenVINO writes x * x out and reads it again. With the length of x
    in place of its mean square it sums squares as it reads. Narrow models are bound by memory there
    (benchmarks/profile.md).

    A 3x3 convolution of a doubled picture is four 2x2 convolutions of the small picture, with 4/9 of the
    multiplications. (export/lowering/phases.py does the same for ONNX Runtime, and joins the four results in another
    way.)

    Returns:
        How many were rewritten.
    """
    found = 0
    for node in list(model.get_ordered_ops()):
        if node.get_type_name() == "ReduceMean":
            found += _rewrite_norm(node)
        elif node.get_type_name() == "Convolution":
            found += _rewrite_doubling(node)
    if found:
        model.validate_nodes_and_infer_types()
    return found


def fix_shapes(model: Any, *, shapes: Mapping[str, Sequence[int]], values: Mapping[str, Sequence[int]]) -> None:
    """Fix the shapes of the inputs of an `openvino.Model`. Inputs whose values are known become constants, and are no
    inputs any more."""
    ops = require("openvino.opset13", extra="openvino")
    for parameter in model.get_parameters():
        known = values.get(parameter.output(0).any_name)
        if known is not None:
            constant = ops.constant(np.array(known, np.int64)).output(0)
            for target in parameter.output(0).get_target_inputs():
                target.replace_source_output(constant)
            model.remove_parameter(parameter)
    model.reshape({name: list(shape) for name, shape in shapes.items()})


def _rewrite_norm(mean: Any) -> bool:
    """Rewrite the norm around a ReduceMean, if the node belongs to one."""
    square, axes = (mean.input_value(index).get_node() for index in (0, 1))
    plus, _, quotient = _followed_by(mean, "Add", "Sqrt", "Divide")
    if quotient is None or square.get_type_name() != "Multiply" or not mean.get_attributes()["keep_dims"]:
        return False
    hidden, eps = square.input_value(0), plus.input_value(1).get_node()
    if {name_of(square.input_value(1)), name_of(quotient.input_value(0))} != {name_of(hidden)}:
        return False
    if any(node.get_type_name() != "Constant" for node in (axes, eps)) or axes.data.tolist() != [_CHANNELS]:
        return False
    channels = hidden.get_partial_shape()[_CHANNELS]
    if channels.is_dynamic or eps.data.size != 1:
        return False
    ops = require("openvino.opset13", extra="openvino")
    length = ops.reduce_l2(hidden, np.array([_CHANNELS], np.int64), True)
    share = np.float32(1 / channels.get_length())
    mean_square = ops.multiply(ops.multiply(length, length), share)
    norm = ops.divide(hidden, ops.sqrt(ops.add(mean_square, np.float32(eps.data.item()))))
    for target in list(quotient.output(0).get_target_inputs()):
        target.replace_source_output(norm.output(0))
    return True


def _rewrite_doubling(convolution: Any) -> bool:
    """Rewrite a convolution, if its picture is doubled."""
    double, kernel = (convolution.input_value(index).get_node() for index in (0, 1))
    wanted = {"strides": [1, 1], "dilations": [1, 1], "pads_begin": [1, 1], "pads_end": [1, 1]}
    if kernel.get_type_name() != "Constant" or kernel.data.shape[2:] != (3, 3) or not _doubles(double):
        return False
    if any(convolution.get_attributes()[name] != value for name, value in wanted.items()):
        return False
    ops = require("openvino.opset13", extra="openvino")
    phases = []
    for down, across in np.ndindex(2, 2):
        weights = np.einsum("pk,ockl,ql->ocpq", PHASE_TAPS[down], kernel.data, PHASE_TAPS[across])
        pads = [1 - down, 1 - across], [down, across]
        phases.append(ops.convolution(double.input_value(0), weights.astype(np.float32), [1, 1], *pads, [1, 1]))
    result = ops.depth_to_space(ops.concat(phases, 1), "blocks_first", 2)
    for target in list(convolution.output(0).get_target_inputs()):
        target.replace_source_output(result.output(0))
    return True


def _doubles(node: Any) -> bool:
    """Whether a node repeats every row and column of (B, C, H, W)."""
    if node.get_type_name() != "Interpolate" or node.get_input_size() != 2:
        return False
    wanted = {"mode": "nearest", "shape_calculation_mode": "scales", "nearest_mode": "floor"}
    scales = node.input_value(1).get_node()
    return (
        all(node.get_attributes()[name] == value for name, value in wanted.items())
        and node.get_attributes()["coordinate_transformation_mode"] == "asymmetric"
        and scales.get_type_name() == "Constant"
        and scales.data.tolist() == [1, 1, 2, 2]
    )


def name_of(output: Any) -> Name:
    """A name for an output of a node, unique in its model."""
    return output.get_node().get_name(), output.get_index()


def _followed_by(node: Any, *kinds: str) -> list[Any]:
    """The nodes of these kinds that follow one another after `node`, each the only reader of the node before. Nones if
    there are other readers or other kinds."""
    chain: list[Any] = []
    for kind in kinds:
        readers = list(node.output(0).get_target_inputs())
        if len(readers) != 1 or readers[0].get_node().get_type_name() != kind:
            return [None] * len(kinds)
        node = readers[0].get_node()
        chain.append(node)
    return chain
