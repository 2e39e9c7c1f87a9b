"""Which backend runs a graph, and why: the fallback policy in one function."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from ..arrays.kinds import DTYPES
from ..bundle.manifest import Manifest
from ..errors import BackendUnavailable, InputError, MissingExtra
from .choices import Backend, Choices, graphs_of
from .names import BackendName
from .onnxruntime.component import PROVIDERS, missing_provider
from .openvino.component import missing_openvino
from .tensorrt.opener import LIBRARIES, missing_library

__all__ = ["BACKENDS", "Backend", "backends_here", "choose_backend", "graphs_of", "other_backends"]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)


def choose_backend(
    manifest: Manifest,
    *,
    backend: str = "auto",
    dtype: str = "float32",
    provider: str | None = None,
    threads: int | None = None,
    session_options: Mapping[str, Any] | None = None,
    contexts: int = 1,
    allow_build: bool = True,
    engines: bool = True,
) -> Backend:
    """The backend for a bundle. `auto` takes the fastest that can run (`Choices.fastest` says which that is) and logs
    why it skipped the others; one that is named is taken or refused, never replaced. With `allow_build=False` none that
    compiles within calls. With `engines=False` none that loads compiled engines.

    Raises:
        BackendUnavailable: what was asked for cannot run here (MissingExtra: it is not installed).
        InputError: an unknown name, or a precision that the bundle does not hold.
    """
    if backend not in BACKENDS:
        raise BackendUnavailable(f"backend must be one of {', '.join(BACKENDS)} in this version, got {backend!r}")
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if provider is not None and provider not in PROVIDERS:
        raise InputError(f"provider must be one of {', '.join(PROVIDERS)}, got {provider!r}")
    if provider is not None and backend not in ("auto", "onnxruntime"):
        raise InputError(f"provider is ONNX Runtime's: backend {backend!r} takes none, got {provider!r}")
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(f"threads must be a whole number of at least 1, or None for all cores, got {threads!r}")
    if not isinstance(engines, bool):
        raise InputError(f"engines must be True, False or None, got {engines!r}")
    choices = Choices(manifest, dtype, threads, session_options, contexts, allow_build=allow_build, engines=engines)
    if backend == "auto" and provider is None:
        return choices.fastest()
    return choices.named(backend, provider)


def other_backends(
    manifest: Manifest,
    chosen: Backend,
    *,
    backend: str,
    dtype: str,
    provider: str | None,
    threads: int | None,
    session_options: Mapping[str, Any] | None,
    contexts: int,
    allow_build: bool,
    engines: bool,
) -> tuple[Backend, ...]:
    """The backends that may run a call where no exact strategy of the `chosen` one fits into its memory budget. The
    options are `choose_backend`'s; where the user named a backend or a provider there are no others."""
    if backend != "auto" or provider is not None:
        return ()
    choices = Choices(manifest, dtype, threads, session_options, contexts, allow_build=allow_build, engines=engines)
    return choices.others(chosen)


def backends_here() -> list[tuple[str, str | None]]:
    """Every backend and provider with the reason why it cannot run here, or None. (What a bundle lacks beside that,
    an engine for this GPU, is said when it is opened.)"""

    def reason(ask: Callable[[], str | None]) -> str | None:
        try:
            return ask()
        except MissingExtra as error:
            return str(error)

    rows = [(f"onnxruntime:{provider}", reason(partial(missing_provider, provider))) for provider in PROVIDERS]
    rows.append(("openvino", reason(missing_openvino)))
    return rows + [(library, missing_library(library)) for library in LIBRARIES]
