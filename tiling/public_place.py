"""Public classes and functions show where users import them, and not the file that holds their code."""

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["shown_in"]

Public = TypeVar("Public", bound=type | Callable[..., Any])


def shown_in(module: str) -> Callable[[Public], Public]:
    """A decorator that makes a class or function show as a name of `module`, which must export it.

    Tracebacks, `help` and pickles then name that module. A traceback says `latentrt.InputError`, for example.
    """

    def decorated(public: Public) -> Public:
        public.__module__ = module
        return public

    return decorated
