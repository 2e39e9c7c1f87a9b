"""A low-precision graph as a GPU computes it: each operation in float32, its result rounded to the graph's own type.

ONNX Runtime's CPU has few float16 kernels: it computes most operations of such a graph in float32 and drops the
roundings in between, so what it gives is better than what a GPU gives. This graph has every rounding written out.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LOW = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def run_rounded(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The output of the graph at `path`, rounded after every operation."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(rounded_model(path).SerializeToString(), options)
    return np.asarray(session.run(None, inputs)[0])


def rounded_model(path: Path) -> onnx.ModelProto:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    graph = model.graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type in LOW:
            wide = numpy_helper.to_array(tensor).astype(np.float32)
            graph.initializer[index].CopyFrom(numpy_helper.from_array(wide, tensor.name))
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "Cast":
            kind = next(attribute.i for attribute in node.attribute if attribute.name == "to")
            if kind in LOW:  # to its precision, and back to be computed with
                nodes += rounding(node.input[0], node.output[0], kind)
            else:
                nodes.append(helper.make_node("Identity", list(node.input), list(node.output)))
            continue
        copy = type(node)()
        copy.CopyFrom(node)
        nodes.append(copy)
        for position, name in enumerate(node.output):
            if kinds.get(name) in LOW:
                copy.output[position] = f"{name}:exact"
                nodes += rounding(f"{name}:exact", name, kinds[name])
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return model


def rounding(source: str, target: str, kind: int) -> list[Any]:
    return [
        helper.make_node("Cast", [source], [f"{target}:narrow"], to=kind),
        helper.make_node("Cast", [f"{target}:narrow"], [target], to=TensorProto.FLOAT),
    ]
