"""The graphs that run a picture in strips: encoder and decoder as chains of stages, each run tile by tile.

`export/models/strip_modules.py` has the modules of the stages, and `runtime/bundle/ports.py` the names of their inputs
and outputs. The weights are those of the whole graph.
"""

from collections.abc import Iterator
from typing import Any

from torch import nn

from ...runtime.bundle import ports
from ...runtime.bundle.strip_stage import StripStage
from ...runtime.config.model_config import ModelConfig
from ..lowering.graph import TensorSpec
from ..models.strip_modules import AttentionStage, ConvolutionStage, KeysStage
from .components import GraphSpec

__all__ = ["strip_specs"]


def strip_specs(config: ModelConfig, model: nn.Module, component: str) -> Iterator[GraphSpec]:
    """The stages of one component, in their order."""
    chain = _Chain(component, model)
    if component == "encoder":
        _encoder(chain, model, config.in_channels)
    else:
        _decoder(chain, model, config.latent_channels)
    yield from chain.specs


class _Chain:
    """Collects the stages in their order. A stage reads the result of the one before, and may add an earlier result."""

    def __init__(self, component: str, model: nn.Module) -> None:
        self.component, self.model = component, model
        self.specs: list[GraphSpec] = []
        self.channels = {-1: 0}  # of each stage's result

    @property
    def last(self) -> int:
        """The last stage whose result is a picture, which keys are not."""
        stages = [
            spec.strip_stage for spec in self.specs if spec.strip_stage is not None and spec.strip_stage.kind != "keys"
        ]
        return stages[-1].index if stages else -1

    def convolution(self, layer: Any, *, skip: int | None = None, down: int = 1, **options: Any) -> None:
        module = ConvolutionStage(self.model, layer, adds=skip is not None, **options)
        inputs = [_tile(layer.in_channels), *_zeros()]
        if module.norm is not None:
            inputs += _statistics(module.norm)
        if skip is not None:
            # The input's own width: with a shortcut it is not the result's.
            shape = (ports.BATCH, self.channels[skip], ports.RESULT_ROWS, ports.RESULT_COLUMNS)
            inputs.append(TensorSpec(ports.SKIP, "float32", shape))
        up, before = 1 if module.upsample is None else 2, 0 if down == 2 else 1
        index = len(self.specs)
        stage = StripStage(index, "convolution", self.last, skip, up=up, down=down, before=before, after=1)
        self._add(stage, module, inputs, layer.out_channels, gives_rows=not module.last)

    def resnet(self, block: Any) -> None:
        skip = self.last
        self.convolution(block.conv1, norm=block.norm1, activation=block.nonlinearity)
        shortcut = block.conv_shortcut
        self.convolution(block.conv2, skip=skip, norm=block.norm2, activation=block.nonlinearity, shortcut=shortcut)

    def middle(self, block: Any) -> None:
        first, second = block.resnets
        self.resnet(first)
        for attention in block.attentions:
            self._attention(attention)
        self.resnet(second)

    def end(self, network: Any, **options: Any) -> None:
        norm, activation = network.conv_norm_out, network.conv_act
        self.convolution(network.conv_out, norm=norm, activation=activation, last=True, **options)

    def _attention(self, layer: Any) -> None:
        source, channels = self.last, layer.group_norm.num_channels
        inputs = [_tile(channels), *_statistics(layer.group_norm)]
        pair = [
            TensorSpec(name, "float32", (ports.BATCH, ports.POSITIONS, channels)) for name in (ports.KEYS, ports.VALUES)
        ]
        keys = StripStage(len(self.specs), "keys", source)
        self.specs.append(self._spec(keys, KeysStage(self.model, layer), inputs, pair))
        module = AttentionStage(self.model, layer)
        self._add(StripStage(len(self.specs), "attention", source), module, [*inputs, *pair], channels, gives_rows=True)

    def _add(
        self, stage: StripStage, module: nn.Module, inputs: list[TensorSpec], channels: int, *, gives_rows: bool
    ) -> None:
        rows = TensorSpec(ports.ROW_MEAN, "float32", (ports.BATCH, channels, ports.RESULT_ROWS))
        shape = (ports.BATCH, channels, ports.RESULT_ROWS, ports.RESULT_COLUMNS)
        outputs = [TensorSpec(ports.RESULT, "float32", shape)]
        if gives_rows:
            outputs += [rows, TensorSpec(ports.ROW_VARIANCE, "float32", rows.shape)]
        self.channels[stage.index] = channels
        self.specs.append(self._spec(stage, module, inputs, outputs))

    def _spec(
        self, stage: StripStage, module: nn.Module, inputs: list[TensorSpec], outputs: list[TensorSpec]
    ) -> GraphSpec:
        name = f"exact_{stage.index:02d}"
        return GraphSpec(self.component, name, module, tuple(inputs), tuple(outputs), None, strip_stage=stage)


def _encoder(chain: _Chain, model: Any, channels: int) -> None:
    network = model.encoder
    chain.channels[-1] = channels
    chain.convolution(network.conv_in)
    for block in network.down_blocks:
        for resnet in block.resnets:
            chain.resnet(resnet)
        for layer in block.downsamplers:
            chain.convolution(layer.conv, down=2)
    chain.middle(network.mid_block)
    chain.end(network, after=model.quant_conv)


def _decoder(chain: _Chain, model: Any, channels: int) -> None:
    network = model.decoder
    chain.channels[-1] = channels
    chain.convolution(network.conv_in, before=model.post_quant_conv)
    chain.middle(network.mid_block)
    for block in network.up_blocks:
        for resnet in block.resnets:
            chain.resnet(resnet)
        for layer in block.upsamplers:
            chain.convolution(layer.conv, upsample=layer)
    chain.end(network)


def _tile(channels: int) -> TensorSpec:
    return TensorSpec(ports.TILE, "float32", (ports.BATCH, channels, ports.TILE_ROWS, ports.TILE_COLUMNS))


def _zeros() -> list[TensorSpec]:
    return [TensorSpec(side, "int64", (1,)) for side in ports.SIDES]


def _statistics(norm: nn.GroupNorm) -> list[TensorSpec]:
    return [TensorSpec(name, "float32", (ports.BATCH, norm.num_groups)) for name in (ports.MEAN, ports.VARIANCE)]
