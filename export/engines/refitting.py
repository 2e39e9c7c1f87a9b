"""The builder's marks for weights that may be exchanged when an engine is loaded.

`--refit` marks each tensor of the weights file (REFIT_INDIVIDUAL) and not every constant (REFIT). All other constants,
of the graph, the parser or `output_layers.py`, are then folded as in any engine. The ONNX refitter needs a value for
every weight that can be exchanged, and finds each of them in the graph.

`--strip-weights` alone promises the library the same weights again (REFIT_IDENTICAL). The engine may then be as fast as
an engine that holds its weights, since the library folds computations on weights at build time. Other weights give
undefined results, so the record of such an engine names its weights.
"""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["mark_weights", "set_refit_flags"]


def mark_weights(network: Any, names: Iterable[str]) -> None:
    """Mark weights of a parsed network as exchangeable, by their names.

    Raises:
        RuntimeError: the library cannot exchange one of them.
    """
    for name in names:
        if not network.mark_weights_refittable(name):
            raise RuntimeError(f"the weights {name} cannot be exchanged: build without --refit")


def set_refit_flags(config: Any, library: Any, flags: Mapping[str, Any]) -> None:
    """Set the builder's flags for `--strip-weights` and `--refit`."""
    of = library.BuilderFlag
    if flags["strip_weights"]:
        config.set_flag(of.STRIP_PLAN)
    if flags["refit"]:
        config.set_flag(of.REFIT_INDIVIDUAL)
    elif flags["strip_weights"]:
        config.set_flag(of.REFIT_IDENTICAL)
