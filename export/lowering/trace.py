"""Walks a PyTorch module and adds its operations to an ONNX graph.

torch.fx traces the module's `forward` symbolically: nothing is computed, sizes stay symbols, and weights may be on the
"meta" device. So a model of any size is traced in seconds, without memory for its weights. Each traced operation then
becomes ONNX nodes (`lower.py`).

`torch.onnx.export` is not used for three reasons: its shape inference took minutes on these models (442 s for a narrow
LTX-2 encoder), it needs the weights in memory, and it chooses the patterns of nodes that engines must recognise.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from torch import fx, nn

from .graph import GraphBuilder, TensorSpec
from .lower import LEAF_MODULES, LoweringError, lower_call, lower_module
from .sizes import ComputedSize, Value

__all__ = ["lower"]


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return isinstance(module, LEAF_MODULES)


def lower(
    module: nn.Module,
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    builder: GraphBuilder,
    *,
    prefix: str,
) -> None:
    """Add the `forward` of a module to a graph.

    Args:
        module: the module; its weights may be on the "meta" device.
        inputs: the positional inputs of `forward`. An int64 input is a whole number to it.
        outputs: the graph outputs that the results become.
        builder: the graph.
        prefix: prefix that is cut from the module's parameter names to get the names in the weights file ("model." for
            a wrapped model).

    Raises:
        LoweringError: `forward` uses an unsupported operation; the message names the layer.
    """
    remaining = [ComputedSize(spec.name) if spec.dtype == "int64" else Value(spec.name) for spec in inputs]
    env: dict[fx.Node, Any] = {}

    def resolve(argument: Any) -> Any:
        return fx.node.map_arg(argument, env.__getitem__)

    for node in _Tracer().trace(module).nodes:
        builder.scope = _scope(node, prefix)
        target = node.target
        try:
            if node.op == "placeholder" and target.startswith("*"):
                env[node] = tuple(remaining)
            elif node.op == "placeholder":
                env[node] = remaining.pop(0)
            elif node.op == "get_attr":
                env[node] = _attribute(builder, module, target, prefix)
            elif node.op == "call_module":
                layer, name = module.get_submodule(target), target.removeprefix(prefix)
                env[node] = lower_module(builder, layer, name, *resolve(node.args))
            elif node.op in ("call_function", "call_method"):
                env[node] = lower_call(builder, target, *resolve(node.args), **resolve(node.kwargs))
            else:
                results = resolve(node.args[0])
                for result, spec in zip(results if isinstance(results, tuple) else (results,), outputs, strict=True):
                    builder.rename_output(result.name, spec.name)
        except LoweringError as error:
            raise LoweringError(f"{builder.scope or node.name}: {error}") from None
    builder.scope = ""


def _attribute(builder: GraphBuilder, module: nn.Module, target: str, prefix: str) -> Value:
    """Return a parameter that `forward` reads directly, or a constant tensor that the trace created."""
    name = target.removeprefix(prefix)
    if builder.has_weight(name):
        return Value(builder.weight(name), weight=name)
    return Value(builder.constant(attrgetter(target)(module).numpy()))


def _scope(node: fx.Node, prefix: str) -> str:
    """Return the path of the layer to which a traced operation belongs."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(node.target) if node.op == "call_module" else str(next(reversed(stack), ""))
    return "" if path + "." == prefix else path.removeprefix(prefix)
