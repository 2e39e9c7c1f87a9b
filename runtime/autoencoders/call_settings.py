"""What an autoencoder is set to before its calls: slicing and tiling, plans, measurements and warm-up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..calls.blends import ImageBlend
from ..calls.strategy import WHOLE, Strategy
from ..errors import InputError
from .bundle_model import BundleModel

if TYPE_CHECKING:
    from ...tiling import Plan
    from ..bundle.manifest import Manifest
    from ..calls.strategy import Tiling
    from ..planner.calibration import Calibration
    from ..planner.decision import Decision

__all__ = ["CallSettings"]


class CallSettings(BundleModel):
    """A model whose calls can be sliced and tiled, and planned and warmed up before they run.

    Attributes:
        settings: what is enabled, as the strategy of calls that are not planned.
    """

    settings: Strategy = WHOLE
    _tiling: Tiling  # of tiled_encode and tiled_decode, whether or not it is enabled
    _may_stream = False

    def __init__(self, manifest: Manifest, **options: Any) -> None:
        """`options` as in `open_bundle`."""
        super().__init__(manifest, **options)
        self.enable_tiling()
        self.disable_tiling()

    @property
    def use_slicing(self) -> bool:
        """Whether slicing is enabled. As in diffusers, it can be set."""
        return self.settings.sliced

    @use_slicing.setter
    def use_slicing(self, enabled: bool) -> None:
        self.settings = replace(self.settings, sliced=_flag("use_slicing", enabled))

    @property
    def use_tiling(self) -> bool:
        """Whether tiling is enabled. As in diffusers, it can be set: True takes the settings that `enable_tiling` made
        last, or its defaults."""
        return self.settings.tiling is not None

    @use_tiling.setter
    def use_tiling(self, enabled: bool) -> None:
        if _flag("use_tiling", enabled):
            self._tile(self._tiling)
        else:
            self.disable_tiling()

    def enable_slicing(self) -> None:
        """Run one batch element at a time: less memory for large batches, the same result."""
        self.settings = replace(self.settings, sliced=True)

    def disable_slicing(self) -> None:
        self.settings = replace(self.settings, sliced=False)

    @abstractmethod
    def enable_tiling(
        self,
        tile_sample_min_height: int | None = None,
        tile_sample_min_width: int | None = None,
        *,
        tile_sample_stride_height: int | None = None,
        tile_sample_stride_width: int | None = None,
        blend: ImageBlend = "linear",
        tiles_per_call: int = 1,
    ) -> None:
        """Encode and decode in overlapping tiles from now on.

        These are the arguments that all families take; each family documents them, and may take more.
        """

    def disable_tiling(self) -> None:
        """Encode and decode in one pass again; the settings stay for `tiled_encode` and `tiled_decode`."""
        self.settings = self.settings.untiled

    def _tile(self, tiling: Tiling) -> None:
        self._tiling, self.settings = tiling, replace(self.settings, tiling=tiling)

    # Before calls

    def tile_plan(self, component: str, sample_size: Sequence[int]) -> Plan:
        """How the "encoder" or the "decoder" would tile a sample of that size, (H, W) or (T, H, W), with the settings
        that `enable_tiling` made last, or its defaults. The plan has one tile if that holds everything.

        Raises:
            InputError: another component, or a size off the grid.
        """
        from .preparation import tile_plan

        return tile_plan(self.grid, self._tiling, component, sample_size)

    def plan(
        self,
        size: Sequence[int],
        *,
        component: str = "decoder",
        batch: int = 1,
        memory: int | str | None = None,
        exact: bool = False,
        output: str = "float32",
        in_chunks: bool = False,
        caller_bytes: int = 0,
        complete: bool = False,
    ) -> Decision:
        """How a call would run within a memory budget. Nothing runs, except small calls that have to be measured.

        Args:
            size: of the sample, (H, W) or (T, H, W).
            component: "encoder" or "decoder".
            batch: how many samples.
            memory: the budget, in bytes or such as "8GiB". None: 70 % of the free memory where the engines run.
            exact: look at nothing that approximates.
            output: what becomes of a decoded sample: "float32", "uint8", "device", or "frames" for a clip whose pixels
                the caller does not keep, as with `decode_frames`.
            in_chunks: whether the input of a stream is read chunk by chunk, as `encode_file` reads a clip.
            caller_bytes: host memory that the caller holds during the call.
            complete: look at every strategy, and measure with up to 70 % of the free memory.

        Returns:
            Every strategy that was looked at, and the chosen one: `decision.chosen` is None if nothing fits.

        Raises:
            InputError: a wrong argument, or tiling is enabled. EngineError: no strategy could be measured.
            BackendUnavailable: the backend does not say how much memory its engines take.
        """
        from .preparation import PlannedCall, plan

        wanted = PlannedCall(tuple(size), component, batch, memory, exact, output, in_chunks, caller_bytes, complete)
        return plan(self.opened, self.settings, wanted, may_stream=self._may_stream)

    def calibrate(self, size: Sequence[int], components: Iterable[str] = ()) -> Calibration:
        """Measure what the planner needs for calls of that sample size, (H, W) or (T, H, W); without `components` for
        all of the bundle. The measurements are kept in the cache folder.

        Raises:
            BackendUnavailable: there is nothing to measure. EngineError: no strategy could be measured.
        """
        from .preparation import calibrate

        return calibrate(self.opened, self.settings, size, tuple(components))

    def run_strategy(self, strategy: Strategy, component: str, array: Any, *, specialise: bool | None = None) -> None:
        """Run a component by a strategy on a sample or latents, with any settings, and drop the result: for
        measuring. The frames of a stream are dropped as they come. `specialise`: prepare the engine for this shape, as
        `warmup` does."""
        from .preparation import run_strategy

        run_strategy(self.opened, strategy, component, array, specialise=specialise)

    def warmup(self, shapes: Iterable[Sequence[int]] = (), components: Iterable[str] = ()) -> None:
        """Do everything slow beforehand: run the engines once on zeros for each shape. Without shapes, load them.

        A shape is a sample's, (B, in_channels, ...), for encoder and decoder, or latents', (B, latent_channels, ...),
        for the decoder. `components`: only these, without it all that the bundle holds. With OpenVINO each shape (of a
        tile, with tiles) gets a model of its own, which is faster than the model for every size, and holds the weights
        once more. In bfloat16 it costs 1 to 2.5 dB where it has fewer multiplications (on CPUs without AMX). With
        streaming enabled, the steps of most frames of each stage have such a model, if two of them come between the
        first and the last. If a graph has several engines (TensorRT), its shapes decide which are loaded; without
        shapes none of them is.

        Raises:
            InputError: a shape that is neither.
        """
        from .preparation import warm_up

        chosen = tuple(components) or self.manifest.components
        warm_up(self.opened, self.settings, [tuple(shape) for shape in shapes], chosen, may_stream=self._may_stream)


def _flag(name: str, enabled: object) -> bool:
    if not isinstance(enabled, bool):
        raise InputError(f"{name}: wanted True or False, got {enabled!r}")
    return enabled
