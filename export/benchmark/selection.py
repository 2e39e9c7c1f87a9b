"""Selects the cases of a bundle that can be measured here, and the reasons why others cannot."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from ...runtime.arrays.grid import Grid
from ...runtime.backends.choose import backends_here, choose_backend
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import BackendUnavailable, InputError
from ..sample_size import sample_size
from .case import Case

__all__ = ["STRATEGIES", "Selection", "Skipped", "select_cases"]

STRATEGIES = ("default", "whole", "tiled", "stream", "strips")
_IMAGE_SIZE = (512, 512)  # default size, (H, W)
_VIDEO_SIZE = (256, 256, 17)  # default size, (H, W, T)
_Engine = tuple[str, str | None, str]
"""Backend, provider, precision."""


@dataclass(frozen=True)
class Skipped:
    """A backend or an engine that is not measured.

    Attributes:
        what: the backend, or the backend and a precision.
        reason: why it is not measured.
    """

    what: str
    reason: str


@dataclass(frozen=True)
class Selection:
    """What to measure. An empty sequence takes the default.

    Attributes:
        sizes: (H, W) or (H, W, T), as the command line takes them; by default one size per kind of model.
        components: "encoder" or "decoder"; by default all of the bundle.
        backends: names of backends; by default all that can run here.
        dtypes: precisions; by default float32.
        strategies: names of `STRATEGIES`; by default those of `chosen_strategies`.
        provider: ONNX Runtime provider.
        threads: number of threads; None is the engine's default.
        batch: number of samples in a call.
        repeats: number of measured calls of a case.
        tile: sizes of tiles, as --tile gives them.
        overlap: overlaps of tiles, as --overlap gives them.
        blend: blend of tiles, as --blend gives it.
        warm: specialise the engine for the size first, as `warmup` does it.
        memory: the `memory=` argument of calls.
    """

    sizes: Sequence[tuple[int, ...]] = ()
    components: Sequence[str] = ()
    backends: Sequence[str] = ()
    dtypes: Sequence[str] = ()
    strategies: Sequence[str] = ()
    provider: str | None = None
    threads: int | None = None
    batch: int = 1
    repeats: int = 5
    tile: tuple[int, ...] | None = None
    overlap: tuple[int, ...] | None = None
    blend: str | None = None
    warm: bool = False
    memory: str | None = None

    @property
    def chosen_strategies(self) -> Sequence[str]:
        """The given strategies; by default a plain call, and tiles if an option for tiles is given."""
        tiled = any(option is not None for option in (self.tile, self.overlap, self.blend))
        return tuple(dict.fromkeys(self.strategies)) or (("default", "tiled") if tiled else ("default",))


def select_cases(manifest: Manifest, wanted: Selection) -> tuple[list[Case], list[Skipped]]:
    """Return the cases in the order of their measurement, and the engines that cannot run here.

    Sizes are padded to the model's grid, as `encode` does it.

    Raises:
        InputError: a size or strategy is for another kind of model, or the bundle lacks a component or the only
            precision.
        BackendUnavailable: the only named backend and precision cannot run here, or none of several can.
    """
    config = manifest.config
    video, grid = config.video, Grid.of(config)
    by_default = (_VIDEO_SIZE if video else _IMAGE_SIZE,)
    sizes = [sample_size(size, manifest.family, grid) for size in wanted.sizes or by_default]
    supported = {
        "stream": config.supports_streams,
        "strips": config.supports_strips or config.supports_streams,  # a clip in strips is a stream
    }
    for strategy in wanted.chosen_strategies:
        if not supported.get(strategy, True):
            kind = "video models" if strategy == "stream" else "other models"
            raise InputError(f"--strategy {strategy} is for {kind}, not {manifest.family}")
    components = wanted.components or manifest.components
    for component in components:
        manifest.find_graphs(component)  # raises an error for a missing component
    engines, skipped = _engines(manifest, wanted)
    cases = [
        Case(
            component,
            size,
            wanted.batch,
            backend,
            provider,
            dtype,
            strategy,
            wanted.threads,
            wanted.repeats,
            *((wanted.tile, wanted.overlap, wanted.blend) if strategy == "tiled" else (None, None, None)),
            wanted.warm,
            wanted.memory,
        )
        for component, size, (backend, provider, dtype), strategy in product(
            components, sizes, engines, wanted.chosen_strategies
        )
    ]
    return cases, skipped


def _engines(manifest: Manifest, wanted: Selection) -> tuple[list[_Engine], list[Skipped]]:
    found: list[_Engine] = []
    skipped: list[Skipped] = []
    named = bool(wanted.backends) or wanted.provider is not None
    backends = list(_named(wanted) if named else _those_here(skipped))
    pairs = list(product(backends, wanted.dtypes or ("float32",)))
    for (label, name, provider), dtype in pairs:
        try:
            chosen = choose_backend(manifest, backend=name, provider=provider, dtype=dtype, threads=wanted.threads)
        except (BackendUnavailable, InputError) as error:
            if named and len(pairs) == 1:
                raise
            reason = str(error).replace(str(manifest.folder), "the bundle")  # a report is published without local paths
            skipped.append(Skipped(f"{label} {dtype}", reason))
        else:
            own, _, own_provider = chosen.label.partition(":")
            found.append((own, own_provider or None, dtype))
    if not found:
        raise BackendUnavailable("; ".join(f"{row.what}: {row.reason}" for row in skipped))
    return list(dict.fromkeys(found)), skipped


def _those_here(skipped: list[Skipped]) -> Iterator[tuple[str, str, str | None]]:
    """Yield label, backend and provider of each backend that can run here. The others are appended to `skipped`."""
    for label, reason in backends_here():
        if reason is None:
            name, _, provider = label.partition(":")
            yield label, name, provider or None
        else:
            skipped.append(Skipped(label, reason))


def _named(wanted: Selection) -> Iterator[tuple[str, str, str | None]]:
    """Yield label, backend and provider of each named backend. Only ONNX Runtime has providers."""
    for name in wanted.backends or ("onnxruntime",):
        yield name, name, wanted.provider if name == "onnxruntime" or len(wanted.backends) == 1 else None
