"""What users can do before calls: show tiles, plan, measure and warm up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..calls.strategy import Strategy
from .call_settings import CallSettings

if TYPE_CHECKING:
    from ...tiling import Plan
    from ..planner.calibration import Calibration
    from ..planner.decision import Decision

__all__ = ["CallPreparation"]


class CallPreparation(CallSettings):
    """A model whose calls can be shown, planned and warmed up before they run."""

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
