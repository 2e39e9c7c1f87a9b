"""The graphs that run a clip chunk after chunk: one per stage of the decoder, and one for the encoder.

Each takes `chunk` (frames as they come), `first` and, if not causal, `last` (int64 (1,), 0 or 1), what its whole-clip
graph takes beside its latents, and every layer's state; it gives `result` and the next states. A non-causal decoder's
layers are late by one frame a convolution, so a stage's first chunk needs `lead` frames before anything comes out.
"""

from collections.abc import Iterator, Sequence
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
_PROBE_CELLS = 4  # latent height and width when shapes are looked up
_MOST_LEAD = 1024


class EncoderStream(nn.Module):
    """A chunk of a clip -> moments. The first chunk has 1 + a multiple of the temporal ratio of frames, later ones a
    multiple."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.stream = Stream(causal=True)

    def forward(self, chunk: Tensor, first: Any, *states: Tensor) -> tuple[Tensor, ...]:
        self.stream.begin(_from(states, 0), first, 0)
        return (self.run(chunk, ()), *self.stream.states)

    def run(self, chunk: Tensor, extras: Sequence[Tensor]) -> Tensor:
        moments: Tensor = self.model.encoder(chunk, self.stream)
        return moments


class DecoderStream(nn.Module):
    """One stage of the decoder: latents, or what the stage before gave -> what the next one takes, or the clip."""

    def __init__(self, model: Any, index: int, causal: bool, conditioned: bool, noisy: bool) -> None:
        super().__init__()
        self.model = model
        self.stream = Stream(causal)
        self.index = index
        self.conditioned = conditioned
        self.noisy = noisy
        self.extras = conditioned + noisy

    def forward(self, chunk: Tensor, first: Any, *rest: Any) -> tuple[Tensor, ...]:
        after = 0 if self.stream.causal else 1  # a causal stage does not ask which chunk is the last
        extras = [rest[after + index] for index in range(self.extras)]
        self.stream.begin(_from(rest, after + self.extras), first, rest[0] if after else 0)
        return (self.run(chunk, extras), *self.stream.states)

    def run(self, chunk: Tensor, extras: Sequence[Tensor]) -> Tensor:
        temb = extras[0] if self.conditioned else None
        noise = extras[int(self.conditioned)] if self.noisy else None
        result: Tensor = self.model.decoder.stage(self.index, chunk, self.stream, temb, noise)
        return result


def stream_specs(config: ModelConfig, model: nn.Module, component: str) -> Iterator[GraphSpec]:
    """The streaming graphs of a component, stage by stage. None for an encoder that is not causal: it looks ahead
    from its very first frame to the last."""
    causal = bool(config.causal(component))
    if component == "encoder":
        if causal:
            yield _encoder_spec(config, model)
        return
    noise = {stack.block: stack for stack in config.noise_stacks}
    # Neither timesteps nor noise change a shape, so shapes are looked up in a model without them.
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
    """`rest` from an index on: while it is traced it can be indexed and has no length."""
    while True:
        yield rest[index]
        index += 1


def _encoder_spec(config: ModelConfig, model: nn.Module) -> GraphSpec:
    module = EncoderStream(model)
    pixels = _PROBE_CELLS * config.spatial_ratio
    shape = (1, config.in_channels, 1, pixels, pixels)
    _, shapes = _probe(module, shape)
    return _spec("encoder", module, Stage(0, 1, config.temporal_ratio, 1), shape, (), shapes, True)


def _decoder_extras(config: ModelConfig, stack: NoiseStack | None) -> tuple[TensorSpec, ...]:
    temb = (TensorSpec(ports.TEMB, "float32", (ports.BATCH,)),) if config.timestep_conditioning else ()
    if stack is None:
        return temb
    axes = (_axis(ports.HEIGHT, stack.scale), _axis(ports.WIDTH, stack.scale))
    return (*temb, TensorSpec(ports.noise_input(stack.block), "float32", (stack.maps, *axes)))


def _axis(name: str, scale: int) -> str:
    return name if scale == 1 else f"{scale}*{name}"


def _probe(module: EncoderStream | DecoderStream, shape: Shape) -> tuple[int, list[Shape]]:
    """The fewest frames of a first chunk out of which something comes, and the shapes of result and states."""
    for frames in range(1, _MOST_LEAD + 1):
        chunk = torch.empty((*shape[:2], frames, *shape[3:]), device="meta")
        module.stream.begin(None, first=1, last=0)
        try:
            result = module.run(chunk, ())
        except RuntimeError:
            if frames < _MOST_LEAD:  # a convolution got fewer frames than it has taps
                continue
            raise
        if result.shape[2] > 0:
            return frames, [tuple(result.shape), *(tuple(state.shape) for state in module.stream.states)]
    raise AssertionError(f"nothing comes out of {_MOST_LEAD} frames")


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
        factor = own[-1] // _PROBE_CELLS  # pixels of the encoder and cells of the decoder are counted from latents
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
