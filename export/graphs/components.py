"""The graphs of whole components: for each graph a small module, and the names and axes of its inputs and outputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...runtime.bundle import ports
from ...runtime.bundle.graph import Stage
from ...runtime.bundle.strip_stage import StripStage
from ...runtime.config.model_config import ModelConfig
from ..lowering.graph import TensorSpec
from ..models.attention import ATTENTION_KINDS, Attention
from ..models.reference_model import model_from_config

__all__ = ["ATTENTION_KINDS", "COMPONENTS", "GraphSpec", "Stage", "component_of", "graph_specs", "meta_model"]

COMPONENTS = ("encoder", "decoder")
_PREFIXES = {"encoder": ("encoder.", "quant_conv."), "decoder": ("decoder.", "post_quant_conv.")}


@dataclass(frozen=True)
class GraphSpec:
    """A graph to export.

    Attributes:
        component: "encoder" or "decoder".
        variant: part of the file name; "" for the component's default graph.
        module: the module to trace.
        inputs: the inputs, in the order of the module's `forward`.
        outputs: the outputs.
        causal: causality of a video model's graph; None for image models.
        stage: place of the graph in a stream; None for other graphs.
        strip_stage: place of the graph in a pass in strips; None for other graphs.
    """

    component: str
    variant: str
    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    causal: bool | None
    stage: Stage | None = None
    strip_stage: StripStage | None = None

    @property
    def is_whole(self) -> bool:
        """True if the graph is the whole component."""
        return self.stage is None and self.strip_stage is None

    @property
    def has_cpu_form(self) -> bool:
        """True if the bundle also gets the graph in the form that ONNX Runtime runs faster on a CPU.

        These are the decoders of pictures, the strip graphs that double a picture, and streams. Graphs of whole clips
        have no such form, since it would take twice the memory.
        """
        if self.strip_stage is not None:
            return self.strip_stage.up == 2
        return self.stage is not None or (self.causal is None and self.component == "decoder")


class EncoderGraph(nn.Module):
    """The encoder of a model: sample -> moments."""

    def __init__(self, model: Any, options: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.options = options

    def forward(self, sample: Tensor) -> Tensor:
        return self.model.encode(sample, **self.options)


class DecoderGraph(nn.Module):
    """The decoder of a model: latents, temb if it is conditioned, noise for each noisy block -> sample."""

    def __init__(self, model: Any, options: dict[str, Any], conditioned: bool, noisy_blocks: tuple[bool, ...]) -> None:
        super().__init__()
        self.model = model
        self.options = options
        self.conditioned = conditioned
        self.noisy_blocks = noisy_blocks

    def forward(self, latents: Tensor, *extras: Tensor) -> Tensor:
        options = dict(self.options)
        if self.conditioned:
            options["temb"] = extras[0]
        if any(self.noisy_blocks):
            indices = iter(range(int(self.conditioned), len(self.noisy_blocks) + 1))
            options["noise"] = tuple(extras[next(indices)] if noisy else None for noisy in self.noisy_blocks)
        return self.model.decode(latents, **options)


def component_of(parameter: str) -> str | None:
    """Return the component to which a parameter belongs, or None for the statistics of the latents."""
    for component, prefixes in _PREFIXES.items():
        if parameter.startswith(prefixes):
            return component
    return None


def meta_model(config: ModelConfig, *, attention: str = "sdpa", fuse_qkv: bool = True) -> nn.Module:
    """Return the reference model on the "meta" device, without memory for its weights, ready to trace.

    Args:
        config: the model's config.
        attention: one of `ATTENTION_KINDS`.
        fuse_qkv: run the three projections of an attention as one.
    """
    with torch.device("meta"):
        model = model_from_config(config)
    for module in model.modules():
        if isinstance(module, Attention):
            module.fuse_qkv = fuse_qkv
            module.product.kind = attention
    return model


def graph_specs(
    config: ModelConfig, model: nn.Module, component: str, causal: tuple[bool, ...] = ()
) -> Iterator[GraphSpec]:
    """Yield the graphs of a whole component: one for images, and for video one per causality.

    Args:
        config: the model's config.
        model: the reference model.
        component: "encoder" or "decoder".
        causal: causalities of a video model to export in addition to the config's own, which comes first.
    """
    default = config.causal(component)
    yield _spec(config, model, component, default, "")
    for choice in dict.fromkeys(causal):
        if default is not None and choice != default:
            yield _spec(config, model, component, choice, "causal" if choice else "non_causal")


def _spec(config: ModelConfig, model: nn.Module, component: str, causal: bool | None, variant: str) -> GraphSpec:
    options: dict[str, Any] = {} if causal is None else {"causal": causal}
    sample_axes = ports.sample_axes(video=config.video)
    latent_axes = map(ports.latent_axis, sample_axes)
    if component == "encoder":
        sample = TensorSpec(ports.SAMPLE, "float32", (ports.BATCH, config.in_channels, *sample_axes))
        moments = TensorSpec(ports.MOMENTS, "float32", (ports.BATCH, 2 * config.latent_channels, *latent_axes))
        return GraphSpec(component, variant, EncoderGraph(model, options), (sample,), (moments,), causal)
    latents = TensorSpec(ports.LATENTS, "float32", (ports.BATCH, config.latent_channels, *latent_axes))
    sample = TensorSpec(ports.SAMPLE, "float32", (ports.BATCH, config.out_channels, *sample_axes))
    inputs = [latents]
    if config.timestep_conditioning:
        inputs.append(TensorSpec(ports.TEMB, "float32", (ports.BATCH,)))
    for stack in config.noise_stacks:
        shape = (stack.maps, *ports.noise_axes(stack.block))
        inputs.append(TensorSpec(ports.noise_input(stack.block), "float32", shape))
    module = DecoderGraph(model, options, config.timestep_conditioning, config.inject_noise)
    return GraphSpec(component, variant, module, tuple(inputs), (sample,), causal)
