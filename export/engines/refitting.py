"""How the builder is told which weights of an engine may be exchanged when it is loaded.

`--refit` marks the tensors of the weights file one by one (REFIT_INDIVIDUAL) and not everything (REFIT): whatever else
is constant, of the graph, of the parser or of `postlude.py`, is then folded as in any engine, and the ONNX refitter,
which wants a value for every weight that can be exchanged, finds each of them in the graph.

`--strip-weights` alone promises the library the same weights again (REFIT_IDENTICAL): the engine may then be as fast as
one that holds them, since what is computed from weights alone is folded at build time. Other weights would give
undefined results, which is why the record of such an engine names its weights.
"""

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["mark_weights", "set_refit_flags"]


def mark_weights(network: Any, names: Iterable[str]) -> None:
    """Let these weights of a parsed network be exchanged.

    Raises:
        RuntimeError: the library would keep one of them as it is.
    """
    for name in names:
        if not network.mark_weights_refittable(name):
            raise RuntimeError(f"the weights {name} cannot be exchanged: build without --refit")


def set_refit_flags(config: Any, library: Any, flags: Mapping[str, Any]) -> None:
    """What `--strip-weights` and `--refit` mean to the builder."""
    of = library.BuilderFlag
    if flags["strip_weights"]:
        config.set_flag(of.STRIP_PLAN)
    if flags["refit"]:
        config.set_flag(of.REFIT_INDIVIDUAL)
    elif flags["strip_weights"]:
        config.set_flag(of.REFIT_IDENTICAL)
