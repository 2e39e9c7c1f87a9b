"""One graph of a bundle that runs in PyTorch."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from ...export.memory_errors import SMALLER_SAMPLE, is_memory_error
from ...runtime.backends.component import CallScope, ComponentCapabilities, NotFinite
from ...runtime.bundle import ports
from ...runtime.bundle.graph import Graph
from ...runtime.bundle.manifest import Manifest
from ...runtime.errors import DeviceMemoryError, EngineError, LatentRTError
from .devices import on_stream
from .frames import TorchFrames
from .full_float32 import full_float32
from .models import RUNNING, LoadedModel
from .pixels import to_pixels
from .stages import stage_of

__all__ = ["TorchComponent"]

_FLAGS = (ports.FIRST, ports.LAST, *ports.SIDES)
_SMALLER = {
    "whole": "decode in tiles or strips (enable_tiling), or stream (enable_streaming)",
    "stream": "give it fewer frames at a time (frames_per_chunk), or stream in tiles (enable_tiling)",
    "exact": "take lower strips (enable_tiling(exact=True, strip=...))",
}


class TorchComponent:
    """A stage of the reference model. On a GPU the results of `run` and of a stream's last stage may be pixels that the
    GPU made.

    Args:
        manifest: the bundle.
        graph: the graph that the stage stands for.
        weights: the model.

    Raises:
        EngineError: this version has no such stage.
    """

    def __init__(self, manifest: Manifest, graph: Graph, weights: LoadedModel) -> None:
        self._graph, self._device = graph, weights.device
        self._stage = stage_of(manifest, graph, weights)
        self._weights = weights  # last: it is freed after the stage, which has its tensors too
        self.capabilities = ComponentCapabilities(
            steps=True,
            pixels=weights.device.type != "cpu",
            counts_nonfinite=weights.lowered,
            keeps_results=True,
            reuses_states=True,
        )

    def run(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        out: NDArray[Any] | None = None,
        keep_on_device: bool = False,
        pixels: bool = False,
        stream: int | None = None,
    ) -> Any:
        """As `Component.run`.

        Args:
            pixels: give the result as uint8, channels last, converted on the device.
            stream: the pointer of a CUDA stream of the caller's, in which all work is done. With `keep_on_device` the
                call may return before the result is there.

        Raises:
            NotFinite: a result of lower precision has NaN or infinity.
        """
        with self._computing(call, stream):
            ((_, result), *_) = self._stage(self._placed(inputs)).items()
            result = self._finished(result, pixels=pixels)
            if not keep_on_device:
                return _on_host(result, out)
            if stream is None and self._device.type == "cuda":
                torch.cuda.current_stream(self._device).synchronize()
            return result.contiguous().numpy() if self._device.type == "cpu" else result.contiguous()

    def step(
        self,
        inputs: Mapping[str, Any],
        *,
        call: CallScope,
        last: bool = False,
        out: NDArray[Any] | None = None,
        keep_result: bool = False,
        in_place: bool = False,
        pixels: bool = False,
    ) -> dict[str, Any]:
        """As `SteppingComponent.step`. With `keep_result` the result is `TorchFrames` for the next stage. States stay
        on the device.

        Raises:
            NotFinite: as `run`.
        """
        with self._computing(call, None):
            made = self._stage(self._placed(inputs), last=last, in_place=in_place)
            first = next(iter(made))
            result = made.pop(first)
            if keep_result:
                self._require_finite(result)
                results: dict[str, Any] = {first: TorchFrames(result)}
            else:
                results = {first: _on_host(self._finished(result, pixels=pixels), out)}
            for name, tensor in made.items():
                results[name] = TorchFrames(tensor) if ports.is_next_state(name) else _on_host(tensor.float(), None)
            return results

    def _placed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs on the model's device. A first chunk does not look at its states, so they are left out."""
        skips = ports.FIRST in inputs and bool(inputs[ports.FIRST][0])
        placed: dict[str, Any] = {}
        for name, array in inputs.items():
            if name in _FLAGS:
                placed[name] = int(array[0])
            elif not (skips and ports.is_state(name)):
                placed[name] = self._tensor(array)
        return placed

    def _tensor(self, array: Any) -> Tensor:
        if isinstance(array, TorchFrames):
            tensor = array.tensor
        elif isinstance(array, np.ndarray):
            # PyTorch warns of memory that may not be written.
            tensor = torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())
        else:
            tensor = array.detach() if isinstance(array, Tensor) else from_dlpack(array)
        if not self._weights.lowered:
            tensor = tensor.to(torch.float32)
        return self._weights.placed(tensor)

    def _finished(self, result: Tensor, *, pixels: bool) -> Tensor:
        """A result in float32, or as pixels."""
        self._require_finite(result)
        result = result.float()
        return to_pixels(result) if pixels else result

    def _require_finite(self, result: Tensor) -> None:
        if self._weights.lowered:
            bad = result.numel() - int(torch.isfinite(result).sum())
            if bad:
                raise NotFinite(bad, result.numel())

    @contextmanager
    def _computing(self, call: CallScope, stream: int | None) -> Iterator[None]:
        """A context in which this thread computes for a call, in the component's precision. PyTorch's errors in it
        become errors of ours."""
        weights = self._weights
        precision = weights.precision if weights.lowered else None  # some devices warn of float32, even if disabled
        call.check()
        token = RUNNING.set(call)
        try:
            with (
                torch.no_grad(),
                full_float32(),
                on_stream(self._device, stream),
                torch.autocast(self._device.type, precision, enabled=weights.lowered, cache_enabled=False),
            ):
                yield
        except LatentRTError:
            raise
        except (MemoryError, RuntimeError) as error:
            raise self._translated(error) from error
        finally:
            RUNNING.reset(token)

    def _translated(self, error: MemoryError | RuntimeError) -> EngineError:
        what = f"{self._graph.file} on {self._device}"
        if not is_memory_error(error):
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            return EngineError(f"PyTorch failed while running {what}: {reason}")
        if self._device.type == "cpu":
            return EngineError(f"{what} ran out of memory: {SMALLER_SAMPLE}, or {_SMALLER[self._graph.kind]}")
        return DeviceMemoryError(f"{what} ran out of memory: {_SMALLER[self._graph.kind]}, or free GPU memory")


def _on_host(result: Tensor, out: NDArray[Any] | None) -> NDArray[Any]:
    """The values in `out`, or in an array that the caller owns."""
    if out is None:
        values: NDArray[Any] = result.cpu().contiguous().numpy()
        return values
    torch.from_numpy(out).copy_(result)
    return out
