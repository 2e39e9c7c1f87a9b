"""The jobs in the order of their value. Time is short: jobs that remain at the end are not run."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .cases import Case, Contender, compilers, peers
from .processes import Job
from .report import Report
from .setup import Setup
from .small import BUILD_PARTS, small_measures

if TYPE_CHECKING:  # gpu_check imports this module before it makes latentrt importable
    from latentrt.runtime.arrays.kinds import Dtype

__all__ = ["GROUPS", "schedule"]

_QUICK = {"optimization_level": 1}  # the lowest level at which kernels are timed; for engines built to check parity
_QUICK_SECONDS = 60.0
_STREAM_SECONDS, _STRIPS_SECONDS = 90.0, 170.0  # time limits for a few graphs, and for dozens
_SMALL_SECONDS = 60.0
_OUTPUTS = ("on the host", "on the device", "uint8")
_DECODED = tuple(f"decode, {output}" for output in _OUTPUTS)
_ENCODED = tuple(f"encode, {output}" for output in _OUTPUTS[:2])
_OVERHEAD = tuple(f"host overhead, {way}" for way in ("on the host", "uint8", "tiles"))
_SEARCH = "max-autotune-no-cudagraphs"
_NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}  # LatentRT refuses ONNX Runtime's TensorRT in float32 without it

Jobs = Iterator[Job]


def schedule(setup: Setup, report: Report, groups: tuple[str, ...]) -> Jobs:
    """Yield the jobs of some of `GROUPS`. The next job may depend on the report of the jobs before it.

    Weights, references and float16 engines come first, since all other jobs need them.
    """
    for model in setup.models[1:]:
        yield setup.prepared(model, meanwhile=True)
    yield setup.prepared(setup.models[0])
    for case in setup.firsts:
        yield from _engines(setup, report, case, tile=True)
        if "decodes" in groups:
            yield from _decodes(setup, report, case)
        else:
            yield setup.by_torch(case, {}, reference=True)
    for group, jobs in GROUPS.items():
        if group in groups:
            yield from jobs(setup, report)


def _engines(setup: Setup, report: Report, case: Case, *, tile: bool = False) -> Jobs:
    """Build a float16 engine with each library; after a timeout, again with a shorter search."""
    for library in setup.libraries:
        engine = setup.engine(case, library, "float16", tile=tile)
        yield setup.built(engine)
        if report.status("engine", case.name, engine.by) == "timed out":
            yield setup.built(replace(engine, options=_QUICK), _QUICK_SECONDS)


def _decodes(setup: Setup, report: Report, case: Case) -> Jobs:
    """Measure the first case of a model with torch and with our float16 engines, and the parts of a call."""
    clip = ("clip",) if case.video else ()
    results = ("decode, on the device", "decode, on the host", "decode, uint8")
    reference, fastest, *others = peers(case)
    asked = {reference: results, fastest: (*results, *clip)} | dict.fromkeys(others, results)
    yield setup.by_torch(case, asked, reference=True)
    features = ("tiles, overlapped", "tiles, one by one", "caller's stream", "release and reload", "replayed call")
    for label in setup.engines:
        parts = (*_DECODED, *clip, *features, *_OVERHEAD)
        yield setup.by_us(case, Contender.of(label, "float16"), parts, report)


def _features(setup: Setup, report: Report) -> Jobs:
    """Measure sharing of a GPU in float16, small models, and streams."""
    held = ("memory cap", "caller's workspace", "two contexts", "no build within a call")
    for case in setup.firsts:
        for label in setup.engines:
            contender = Contender.of(label, "float16")
            yield setup.by_us(case, contender, held, report)
            yield setup.by_us(case, contender, ("warm start",), report)
    for small in setup.small:
        yield from _small(setup, small)
    for case in setup.firsts:
        if case.video:
            yield from _parts(setup, report, case, "float16")


def _small(setup: Setup, case: Case) -> Jobs:
    for label in setup.engines:
        contender = Contender.of(label, "float16")
        library = contender.kind if contender.kind in setup.libraries else (*setup.libraries, "tensorrt")[0]
        folder = setup.folder(case.model) / f"small {contender.name}"
        asked = (("verify", contender.name), ("overflow", contender.name), *((part, library) for part in BUILD_PARTS))
        arguments = (case, contender, library, setup.capabilities(library), folder, setup.device)
        yield Job(f"{case.model} small", asked, small_measures, arguments, _SMALL_SECONDS)


def _parts(setup: Setup, report: Report, case: Case, dtype: "Dtype") -> Jobs:
    """Build the engines of streams or strips, and measure the calls that run on them."""
    for library in setup.libraries if case.video else setup.libraries_of(dtype):
        engine = setup.engine(case, library, dtype, part="engines of parts", kind="parts", options=_QUICK)
        yield setup.built(engine, _STREAM_SECONDS if case.video else _STRIPS_SECONDS)
    parts = ("stream", "stream to a clip") if case.video else ("exact strips",)
    for label in setup.engines:
        yield setup.by_us(case, Contender.of(label, dtype), parts, report, engine="engines of parts")


def _precisions(setup: Setup, report: Report) -> Jobs:
    """Measure the other precisions of our engines, and ONNX Runtime on the GPU."""
    for dtype in ("float32", "bfloat16"):
        for case in setup.firsts:
            for library in setup.libraries_of(dtype):
                yield setup.built(setup.engine(case, library, dtype, options=_QUICK), _QUICK_SECONDS)
            for label in setup.engines:
                yield setup.by_us(case, Contender.of(label, dtype), _DECODED, report)
        if dtype == "float32" and "onnxruntime:cuda" in setup.providers:
            for case in setup.firsts:
                for each in ("float16", "float32"):
                    yield setup.by_us(case, Contender("onnxruntime", each, "cuda"), _DECODED, report)


def _sizes(setup: Setup, report: Report) -> Jobs:
    """Measure the other cases of a model."""
    for case in setup.cases:
        if case in setup.firsts:
            continue
        yield from _engines(setup, report, case)
        reference, *low = (one for one in peers(case) if one.detail or one.dtype == "float32")
        asked: dict[Contender, tuple[str, ...]] = {reference: ("decode, on the device",)}
        asked |= dict.fromkeys(low, ("decode, on the device", "decode, on the host"))
        yield setup.by_torch(case, asked, reference=True)
        for label in setup.engines:
            parts = (*_DECODED, *(("clip",) if case.video else ()))
            yield setup.by_us(case, Contender.of(label, "float16"), parts, report)


def _encoders(setup: Setup, report: Report) -> Jobs:
    for case in setup.firsts:
        yield setup.prepared(case.model, "encoder")
        for library in setup.libraries:
            yield setup.built(setup.engine(case, library, "float16", component="encoder"))
        asked = dict.fromkeys(peers(case)[:2], _ENCODED[::-1])
        yield setup.by_torch(case, asked, "encoder", reference=True)
        for label in dict.fromkeys((*setup.engines, *setup.providers[:1])):
            yield setup.by_us(case, Contender.of(label, "float16"), _ENCODED, report, component="encoder")


def _compiled(setup: Setup, report: Report) -> Jobs:
    """Measure torch.compile, whose compilation takes longer than its calls; the more common precision first."""
    for index in range(2):
        for case in setup.firsts:
            yield setup.by_torch(case, {compilers(case)[index]: ("decode, on the device", "decode, on the host")})


def _slow(setup: Setup, report: Report) -> Jobs:
    """Measure what takes longest or is least informative."""
    for case in setup.firsts:
        if not case.video:
            yield from _parts(setup, report, case, "float16")
    for case in setup.firsts:
        for library in setup.libraries:
            options = _QUICK | {"strip_weights": True, "refit": True}
            engine = setup.engine(case, library, "float16", part="engine that is refitted", options=options)
            yield setup.built(engine, _QUICK_SECONDS)
        for label in setup.engines:  # from here on, this is the newest engine of the case's size
            contender = Contender.of(label, "float16")
            yield setup.by_us(case, contender, ("refitted",), report, engine="engine that is refitted")
    for case in setup.firsts if "onnxruntime:cuda" in setup.providers else ():
        yield setup.by_us(case, Contender("onnxruntime", "bfloat16", "cuda"), _DECODED[:1], report)
    for case in setup.firsts if "onnxruntime:tensorrt" in setup.providers else ():
        for dtype in ("float16", "float32"):
            contender = Contender("onnxruntime", dtype, "tensorrt")
            yield setup.by_us(case, contender, _DECODED, report, environment=_NO_TF32)
    for case in setup.firsts:
        yield setup.by_torch(case, {compilers(case, _SEARCH)[0]: ("decode, on the device",)})
    for case in setup.firsts[::-1]:
        yield from _parts(setup, report, case, "float32")


def _nothing(setup: Setup, report: Report) -> Jobs:
    yield from ()


GROUPS: dict[str, Callable[[Setup, Report], Jobs]] = {
    "decodes": _nothing,  # `schedule` yields them before all groups
    "features": _features,
    "precisions": _precisions,
    "sizes": _sizes,
    "encoders": _encoders,
    "compiled": _compiled,
    "slow": _slow,
}
"""Groups of jobs, in the order in which they run."""
