"""The graphs that run a clip chunk by chunk: one per stage of the decoder and of the encoder.

The inputs of a graph are `chunk` (the next frames), `first` and, if not causal, `last` (int64 (1,), 0 or 1), the inputs
of the whole-clip graph other than latents, and the state of every layer. The outputs are `result` and the next states.
The layers of a non-causal decoder are late by one frame per convolution, so the first chunk of a stage needs `lead`
frames before the stage returns a frame.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.bundle import ports
from ...runtime.config.model_config import ModelConfig, NoiseStack
from ..lowering.graph import TensorSpec
from ..models.time_axis import Stream
from .components import GraphSpec, Stage, meta_model

__all__ = ["stream_specs"]

Shape = tuple[int, ...]
_PROBE_CELLS = 4  # height and width of the latents with which shapes are looked up
_MAX_LEAD = 1024  # frames


class EncoderStream(nn.Module):
    """One stage of the encoder: a chunk of a clip or the previous stage's result -> the next stage's input, or moments.

    The first chunk has one frame and a multiple of the stage's temporal stride; later chunks have a multiple of it.
    """

    def __init__(self, model: Any, index: int) -> None:
        super().__init__()
        self.model = model
        self.index = index
        self.stream = Stream(causal=True)

    def forward(self, chunk: Tensor, first: Any, *states: Tensor) -> tuple[Tensor, ...]:
        self.stream.begin(_from(states, 0), first, 0)
        return (self.run(chunk, ()), *self.stream.states)

    def run(self, chunk: Tensor, extras: Sequence[Tensor]) -> Tensor:
        """Run the stage with the stream begun before. `extras` is empty."""
        result: Tensor = self.model.encoder.stage(self.index, chunk, self.stream)
        return result


class DecoderStream(nn.Module):
    """One stage of the decoder: latents or the previous stage's result -> the next stage's input, or the clip."""

    def __init__(self, model: Any, index: int, causal: bool, conditioned: bool, noisy: bool) -> None:
        super().__init__()
        self.model = model
        self.stream = Stream(causal)
        self.index = index
        self.conditioned = conditioned
        self.noisy = noisy
        self.extras = conditioned + noisy

    def forward(self, chunk: Tensor, first: Any, *rest: Any) -> tuple[Tensor, ...]:
        after = 0 if self.stream.causal else 1  # a causal stage has no input `last`
        extras = [rest[after + index] for index in range(self.extras)]
        self.stream.begin(_from(rest, after + self.extras), first, rest[0] if after else 0)
        return (self.run(chunk, extras), *self.stream.states)

    def run(self, chunk: Tensor, extras: Sequence[Tensor]) -> Tensor:
        """Run the stage with the stream begun before. `extras` is temb and noise, as far as the stage takes them."""
        temb = extras[0] if self.conditioned else None
        noise = extras[int(self.conditioned)] if self.noisy else None
        result: Tensor = self.model.decoder.stage(self.index, chunk, self.stream, temb, noise)
        return result


def stream_specs(config: ModelConfig, model: nn.Module, component: str) -> Iterator[GraphSpec]:
    """Yield the streaming graphs of a component, stage by stage.

    An encoder that is not causal has none: its first frame depends on frames up to the last.
    """
    causal = bool(config.causal(component))
    if component == "encoder":
        if causal:
            yield from _encoder_specs(config, model)
        return
    noise = {stack.block: stack for stack in config.noise_stacks}
    # Timesteps and noise change no shape, so shapes are looked up in a model without them.
    plain: Any = meta_model(config.without_conditions())
    shape: Shape = (1, config.latent_channels, 1, _PROBE_CELLS, _PROBE_CELLS)
    for index, part in enumerate(plain.decoder.stages):
        stack = noise.get(part.block)
        module = DecoderStream(model, index, causal, config.timestep_conditioning, stack is not None)
        lead, shapes = _probe(DecoderStream(plain, index, causal, False, False), shape)
        extras = _decoder_extras(config, stack)
        stage = Stage(index, lead, 1, part.ratio)
        yield _spec("decoder", module, stage, shape, extras, shapes, causal)
        shape = (1, shapes[0][1], 1, *shapes[0][-2:])


def _from(rest: Any, index: int) -> Iterator[Any]:
    """Yield `rest` from an index on. While it is traced, `rest` has no length and cannot be sliced."""
    while True:
        yield rest[index]
        index += 1


def _encoder_specs(config: ModelConfig, model: Any) -> Iterator[GraphSpec]:
    pixels, stages = _PROBE_CELLS * config.spatial_ratio, model.encoder.stages
    shape: Shape = (1, config.in_channels, 1, pixels, pixels)
    ratios = [part.ratio for part in stages] + [config.temporal_ratio]
    for index, (ratio, after) in enumerate(pairwise(ratios)):
        module = EncoderStream(model, index)
        lead, shapes = _probe(module, shape)
        yield _spec("encoder", module, Stage(index, lead, after // ratio, ratio), shape, (), shapes, True)
        shape = (1, shapes[0][1], 1, *shapes[0][-2:])


def _decoder_extras(config: ModelConfig, stack: NoiseStack | None) -> tuple[TensorSpec, ...]:
    temb = (TensorSpec(ports.TEMB, "float32", (ports.BATCH,)),) if config.timestep_conditioning else ()
    if stack is None:
        return temb
    axes = (_axis(ports.HEIGHT, stack.scale), _axis(ports.WIDTH, stack.scale))
    return (*temb, TensorSpec(ports.noise_input(stack.block), "float32", (stack.maps, *axes)))


def _axis(name: str, scale: int) -> str:
    return name if scale == 1 else f"{scale}*{name}"


def _probe(module: EncoderStream | DecoderStream, shape: Shape) -> tuple[int, list[Shape]]:
    """Return the fewest frames of a first chunk that give a result, and the shapes of the result and the states."""
    for frames in range(1, _MAX_LEAD + 1):
        chunk = torch.empty((*shape[:2], frames, *shape[3:]), device="meta")
        module.stream.begin(None, first=1, last=0)
        try:
            result = module.run(chunk, ())
        except RuntimeError:
            if frames < _MAX_LEAD:  # a convolution has fewer frames than taps
                continue
            raise
        if result.shape[2] > 0:
            return frames, [tuple(result.shape), *(tuple(state.shape) for state in module.stream.states)]
    raise AssertionError(f"{_MAX_LEAD} frames give no result")


def _spec(
    component: str,
    module: nn.Module,
    stage: Stage,
    shape: Shape,
    extras: tuple[TensorSpec, ...],
    shapes: list[Shape],
    causal: bool,
) -> GraphSpec:
    def space(own: Shape) -> tuple[str, str]:
        factor = own[-1] // _PROBE_CELLS  # axes are named as multiples of the latents' axes
        return _axis(ports.HEIGHT, factor), _axis(ports.WIDTH, factor)

    def spec(name: str, own: Shape, frames: int | str) -> TensorSpec:
        return TensorSpec(name, "float32", (ports.BATCH, own[1], frames, *space(own)))

    flags = tuple(TensorSpec(name, "int64", (1,)) for name in ((ports.FIRST,) if causal else (ports.FIRST, ports.LAST)))
    states = [(ports.state(number), own) for number, own in enumerate(shapes[1:])]
    return GraphSpec(
        component,
        f"stream_{stage.index}",
        module,
        (spec(ports.CHUNK, shape, ports.FRAMES), *flags, *extras, *(spec(name, own, 2) for name, own in states)),
        (
            spec(ports.RESULT, shapes[0], ports.RESULT_FRAMES),
            *(spec(ports.next_state(name), own, 2) for name, own in states),
        ),
        causal,
        stage,
    )
