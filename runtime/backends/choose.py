"""Which backend runs a bundle, and why: the fallback policy in one function."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, get_args

from ...tiling.argument_names import argument
from ..arrays.kinds import DTYPES
from ..bundle.manifest import Manifest
from ..errors import BackendUnavailable, InputError, MissingExtra
from .backend import Backend, BackendRequest
from .choices import ENGINE_BACKENDS, Choices, JudgedBackend, graphs_of
from .names import BackendName

__all__ = ["BACKENDS", "Backend", "backends_here", "choose_backend", "graphs_of", "judged_backends", "other_backends"]

BACKENDS: tuple[BackendName, ...] = get_args(BackendName)


def choose_backend(
    manifest: Manifest,
    *,
    backend: str | Backend = "auto",
    dtype: str = "float32",
    provider: str | None = None,
    threads: int | None = None,
    session_options: Any = None,
    contexts: int = 1,
    allow_build: bool = True,
    engines: bool = True,
) -> Backend:
    """The backend for a bundle.

    `auto` takes the fastest that can run (`Choices.fastest` says which that is) and logs why it skipped the others. A
    backend that is named is taken or refused, never replaced. An object is taken as it is. With `allow_build=False` no
    backend is taken that compiles within calls. With `engines=False` none is taken that loads compiled engines.

    Raises:
        BackendUnavailable: what was asked for cannot run here (MissingExtra: it is not installed).
        InputError: an unknown name, an option that the backend does not take, or a precision that the bundle does not
            hold.
    """
    if isinstance(backend, Backend):
        backend = backend.for_bundle(manifest)
        _check_own_options(backend, dtype=dtype, provider=provider, threads=threads, session_options=session_options)
        graphs_of(manifest, backend.graph_dtype)
        return backend
    if not isinstance(backend, str):
        raise InputError(
            f"{argument('backend')} must be a name or an object of a subclass of Backend, got {type(backend).__name__}"
        )
    if backend not in BACKENDS:
        raise BackendUnavailable(
            f"{argument('backend')} must be one of {', '.join(BACKENDS)} in this version, got {backend!r}"
        )
    if dtype not in DTYPES:
        raise InputError(f"{argument('dtype')} must be one of {', '.join(DTYPES)}, got {dtype!r}")
    if provider is not None:
        _check_provider(backend, provider)
    if threads is not None and (isinstance(threads, bool) or not isinstance(threads, int) or threads < 1):
        raise InputError(
            f"{argument('threads')} must be a whole number of at least 1, or None for all cores, got {threads!r}"
        )
    if not isinstance(engines, bool):
        raise InputError(f"{argument('engines')} must be True, False or None, got {engines!r}")
    _check_session_options(session_options)
    request = BackendRequest(manifest, dtype, threads, session_options, contexts, allow_build, engines)
    choices = Choices(request)
    if backend == "auto" and provider is None:
        return choices.fastest()
    return choices.named(backend, provider)


def other_backends(
    manifest: Manifest,
    chosen: Backend,
    *,
    backend: str | Backend,
    dtype: str,
    provider: str | None,
    threads: int | None,
    session_options: Any,
    contexts: int,
    allow_build: bool,
    engines: bool,
) -> tuple[Backend, ...]:
    """The backends that may run a call if no exact strategy of the `chosen` one fits into its memory budget. The other
    arguments are those of `choose_backend`. There are none if the user chose a backend or a provider."""
    if backend != "auto" or provider is not None:
        return ()
    request = BackendRequest(manifest, dtype, threads, session_options, contexts, allow_build, engines)
    return Choices(request).others(chosen)


def judged_backends(manifest: Manifest, dtype: str = "float32") -> tuple[JudgedBackend, ...]:
    """Every backend with the reason why it cannot run a bundle here in a precision, if it cannot. They stand in the
    order in which `auto` looks at them, and `auto` takes the first that can run. ONNX Runtime's TensorRT stands last.
    `auto` never takes it.

    Raises:
        InputError: no such precision.
    """
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    choices = Choices(BackendRequest(manifest, dtype))
    return (*choices.judged(), choices.judged_provider("tensorrt"))


def backends_here() -> list[tuple[str, str | None]]:
    """Every backend and provider with the reason why it cannot run here, or None. (If a bundle lacks an engine for this
    GPU, opening it says so.)"""
    from .onnxruntime.component import PROVIDERS, missing_provider
    from .openvino.component import missing_openvino
    from .tensorrt.opener import missing_library

    def reason(ask: Callable[[], str | None]) -> str | None:
        try:
            return ask()
        except MissingExtra as error:
            return str(error)

    rows = [(f"onnxruntime:{provider}", reason(partial(missing_provider, provider))) for provider in PROVIDERS]
    rows.append(("openvino", reason(missing_openvino)))
    return rows + [(library, missing_library(library)) for library in ENGINE_BACKENDS]


def _check_own_options(backend: Backend, *, dtype: str, **options: Any) -> None:
    """Refuse options of `open_bundle` that an object of the caller's was made with, or without."""
    given = [name for name, value in options.items() if value is not None]
    if given:
        raise InputError(
            f"{given[0]}: the backend {backend.label} was given as an object, which has options of its own: leave "
            f"{given[0]} out"
        )
    if dtype != backend.dtype:
        raise InputError(
            f"dtype: the backend {backend.label} computes in {backend.dtype}, and {dtype} was asked for: give "
            f"dtype={backend.dtype!r}, or another backend"
        )


def _check_provider(backend: str, provider: str) -> None:
    from .onnxruntime.component import PROVIDERS

    if provider not in PROVIDERS:
        raise InputError(f"{argument('provider')} must be one of {', '.join(PROVIDERS)}, got {provider!r}")
    if backend not in ("auto", "onnxruntime"):
        raise InputError(f"{argument('provider')} is ONNX Runtime's: backend {backend!r} takes none, got {provider!r}")


def _check_session_options(options: Any) -> None:
    if options is None or isinstance(options, Mapping):
        return
    from .onnxruntime.options import OnnxRuntimeOptions
    from .tensorrt.options import TensorRtOptions

    if not isinstance(options, OnnxRuntimeOptions | TensorRtOptions):
        raise InputError(
            f"session_options must be OnnxRuntimeOptions, TensorRtOptions or a mapping, got {type(options).__name__}"
        )
