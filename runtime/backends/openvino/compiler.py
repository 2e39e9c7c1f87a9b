"""OpenVINO itself, and how it compiles a graph.

OpenVINO's own default precision is the fastest of the CPU, such as bfloat16. So the wanted precision is always set, and
read back. In bfloat16 the bundle's float32 graph runs, which OpenVINO lowers as it loads: streaming graphs exist in no
other precision, and a bundle's own bfloat16 graph is neither faster nor nearer to float32 (SD-size decoder: 52.0 dB
lowered, 51.2 dB its own; LTX-2 at a quarter of its width: 61.1 and 61.0 dB; times within the machine's noise; in the
model for every size).
"""

import contextlib
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from ...errors import EngineError
from ...extras import require
from ...system.file_identity import UnchangedFiles
from ...system.forked_process import finalize_in_own_process, never_free, observe_forks
from ...system.processor import engine_threads, processor
from .models import FixedSizes

__all__ = ["PRECISIONS", "GraphCompiler", "library", "missing_openvino", "reason_of"]

PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
_log = logging.getLogger(__name__)


def missing_openvino(dtype: str = "float32") -> str | None:
    """Why OpenVINO cannot run here in that precision, or None.

    Raises:
        MissingExtra: it is not installed.
    """
    library()
    if _shared.is_stuck:
        return (
            "this process was forked after its parent process had freed a model of OpenVINO, and OpenVINO would wait "
            "for threads of the parent process: fork before the first call, or start processes with 'spawn'"
        )
    if dtype not in PRECISIONS:
        return f"on the CPU it runs {' and '.join(PRECISIONS)}, not {dtype}"
    if dtype == "bfloat16" and "BF16" not in _shared.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return "this CPU has no bfloat16 instructions, so it would run in float32"
    return None


def library() -> ModuleType:
    """OpenVINO itself.

    Raises:
        MissingExtra: it is not installed.
    """
    return require("openvino", extra="openvino")


class GraphCompiler:
    """Compiles one graph, for every size or for given sizes.

    Args:
        graph: the ONNX file.
        dtype: the precision of the computation.
        threads: the number of threads that one engine call may use. None: one for each core that may be used.
        key: a name for what the graph and its weights hold. The compiled model is kept in the cache folder under it.
            Without a key it is not kept.
        files: the SHA-256 of the graph and its weights, which must not change.

    Attributes:
        output_names: the names of the graph's outputs, once it was compiled.
        weights_bytes: the bytes of its weights, once it was compiled.
    """

    def __init__(
        self, graph: Path, *, dtype: str, threads: int | None, key: str, files: Mapping[Path, str] | None
    ) -> None:
        from .cache import CompiledModelCache  # here: only calls of this backend pay for it

        self._settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[dtype],
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            # Threads bound to cores would share one core with another process's while others idle.
            "ENABLE_CPU_PINNING": False,
        }
        most = engine_threads(threads)
        if most is not None:
            self._settings["INFERENCE_NUM_THREADS"] = most
        self._graph, self._dtype = graph, dtype
        # Models are compiled later too, for sizes that become known, from the same files.
        self._files = UnchangedFiles(files or {})
        self._cache = CompiledModelCache(key) if key else None
        self.output_names: list[str] = []
        self.weights_bytes = 0

    def compile(self, sizes: FixedSizes | None) -> Any:
        """A compiled model, for the given sizes or for every size (None).

        Raises:
            EngineError: OpenVINO does not load the graph. BundleError: a file changed.
        """
        with _shared.compiling:
            return self._compiled(sizes)

    def _compiled(self, sizes: FixedSizes | None) -> Any:
        from .graph import constant_bytes, fix_shapes, rewrite_for_cpu
        from .winograd import apply_winograd

        self._files.check()
        try:
            # By its path: OpenVINO reads external weights from the safetensors file in the same folder.
            source = _shared.core().read_model(str(self._graph))
            self.output_names = [port.any_name for port in source.outputs]
            self.weights_bytes = constant_bytes(source)
            rewrite_for_cpu(source)
            if sizes is not None:
                fix_shapes(source, shapes=dict(sizes.shapes), values=dict(sizes.values))
                fewer = apply_winograd(source) if self._pays_to_add else 0
                of, size = self._graph.name, tuple(sizes.shapes[0][1])
                _log.info("%s: compiling for %s, %d convolutions with fewer multiplications", of, size, fewer)
            unkept: contextlib.AbstractContextManager[dict[str, str]] = contextlib.nullcontext({})
            with self._cache.checked() if self._cache and sizes is None else unkept as kept:
                model = _shared.core().compile_model(source, "CPU", self._settings | kept)
        except Exception as error:  # OpenVINO's errors are plain RuntimeErrors
            _shared.count_freed()
            raise EngineError(f"OpenVINO does not load {self._graph}: {reason_of(error)}") from error
        _shared.watch(model)
        got = model.get_property("INFERENCE_PRECISION_HINT").to_string()
        if got != PRECISIONS[self._dtype]:
            raise EngineError(f"OpenVINO runs {self._graph} in {got}, and {self._dtype} was asked for")
        return model

    @property
    def _pays_to_add(self) -> bool:
        """Whether additions cost less than the multiplications they save. In bfloat16 only on a CPU with vectors of
        bfloat16 and without units for matrix products (AMX), for which it was not measured."""
        have = processor().instructions
        return self._dtype == "float32" or ("avx512_bf16" in have and "amx_bf16" not in have)


def reason_of(error: Exception) -> str:
    """The last line of OpenVINO's message: those before it are places in its source."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


class _Shared:
    """What all compilations of the process share.

    Attributes:
        compiling: held by the thread that compiles. OpenVINO sets the process's locale to "C" while it compiles with a
            cache, and then sets back what it found. Two threads that compile at once would leave "C", in which Python
            reads text as ASCII.
        is_stuck: whether this process was forked after a model was freed. OpenVINO gives the threads of a freed model
            to the next model, and they do not exist here.
    """

    def __init__(self) -> None:
        self.compiling = threading.RLock()
        self.is_stuck = False
        self._core: Any = None
        self._freed = 0
        observe_forks(self)

    def watch(self, model: Any) -> None:
        """Count a compiled model when it is freed."""
        finalize_in_own_process(model, self.count_freed).atexit = False

    def count_freed(self) -> None:
        """A model was freed, or its compilation failed."""
        self._freed += 1

    def core(self) -> Any:
        """OpenVINO's core."""
        if self._core is None:
            core = library().Core()
            # Weights and compiled models are read, not mapped: if a mapped file is cut short, the process ends
            # (SIGBUS).
            core.set_property({"ENABLE_MMAP": False})
            self._core = core
        return self._core

    def after_fork(self) -> None:
        """The child process makes a core of its own. The inherited core has threads that do not exist there."""
        if self._core is not None:
            never_free(self._core)
        self.compiling, self._core = threading.RLock(), None
        self.is_stuck = self._freed > 0


_shared = _Shared()
