"""The description that LTX-2 files give of their VAE (`config.vae`), translated to diffusers' config and names.

The description lists blocks, each `[kind, options]`. `encoder_blocks` are in encoding order. `decoder_blocks` go from
the picture to the latents, and the tensors of the decoder number them backwards.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...runtime.config.ltx2 import SAMPLING_STRIDES
from ...runtime.errors import CheckpointError
from ...tiling.plain_text import shown

__all__ = ["Ltx2Layout"]

_BLOCK = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d{1,4})\.(.+)")
_LAST = re.compile(r"decoder\.last_(time_embedder|scale_shift_table)\b")
_MAX_COUNT = 1 << 20  # far above every count in a real config

_Block = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Side:
    """The differences between encoder and decoder.

    Attributes:
        name: prefix of the tensor names, up to "_blocks".
        sampler_name: diffusers name of a sampler within its block.
        samplers: kind of a sampler in the description -> its kind in diffusers.
        multiplier: default factor between the channels of a sampler's two sides.
        backwards: True if tensors number the listed blocks from the end.
    """

    name: str
    sampler_name: str
    samplers: Mapping[str, str]
    multiplier: int
    backwards: bool

    def place(self, stage: int, mid: int) -> str:
        """Return the diffusers name of a stage. The stage numbered `mid` is the mid block."""
        if stage == mid:
            return f"{self.name.partition('.')[0]}.mid_block"
        return f"{self.name}_blocks.{mid - 1 - stage if self.backwards else stage}"


_ENCODER = _Side(
    "encoder.down",
    "downsamplers.0",
    {"compress_space_res": "spatial", "compress_time_res": "temporal", "compress_all_res": "spatiotemporal"},
    multiplier=2,
    backwards=False,
)
_DECODER = _Side(
    "decoder.up",
    "upsamplers.0",
    {"compress_space": "spatial", "compress_time": "temporal", "compress_all": "spatiotemporal"},
    multiplier=1,
    backwards=True,
)


@dataclass(frozen=True)
class _Stage:
    """Residual blocks and the sampler that is listed after them.

    Attributes:
        layers: number of residual blocks.
        noise: True if the residual blocks inject noise.
        sampler: kind of the sampler in diffusers; None for the mid block.
        multiplier: channels on the latents' side of the sampler, as a multiple of those on the picture's side.
        residual: True if the sampler adds its input.
    """

    layers: int
    noise: bool
    sampler: str | None
    multiplier: int
    residual: bool


class Ltx2Layout:
    """The blocks of an original checkpoint.

    Args:
        vae: the description, `config.vae` of the file's header.
        path: the file, for messages.

    Raises:
        CheckpointError: the description is damaged, or names a part that diffusers' model does not have.
    """

    def __init__(self, vae: Mapping[str, Any], path: Path) -> None:
        self._vae = vae
        self._path = path
        self._names: dict[tuple[str, int], str] = {}
        self._encoder = self._walk(self._blocks("encoder_blocks"), _ENCODER)
        self._decoder = self._walk(self._blocks("decoder_blocks"), _DECODER)
        for name, wanted in (
            ("dims", (3,)),
            ("norm_layer", ("pixel_norm",)),
            ("latent_log_var", ("uniform", "constant")),
        ):
            if vae.get(name, wanted[0]) not in wanted:
                raise self._error(f"{name} must be {' or '.join(map(str, wanted))}, got {shown(vae[name])}")

    @property
    def upsampling(self) -> tuple[str, ...]:
        """Kinds of the upsamplers, in decoding order."""
        return tuple(stage.sampler for stage in self._decoder[::-1] if stage.sampler)

    def diffusers_name(self, name: str) -> str:
        """Translate the name of an original parameter to diffusers; an unknown name stays unchanged."""
        if match := _BLOCK.fullmatch(name):
            place = self._names.get((match[1], int(match[2])))
            return name if place is None else f"{place}.{re.sub(r'^res_blocks[.]', 'resnets.', match[3])}"
        return _LAST.sub(r"decoder.\1", name)

    def fields(self, decoder_width: int, *, timestep_conditioning: bool) -> dict[str, Any]:
        """Return the config in diffusers' JSON form.

        Args:
            decoder_width: channels after the first convolution of the decoder.
            timestep_conditioning: value for a description without this entry.
        """
        vae = self._vae
        latents = self._whole(vae, "latent_channels", 128)
        patch = self._whole(vae, "patch_size", 4)
        down, up = self._encoder[:-1], self._decoder[:-1]
        width, widths = latents, []
        for stage in down:
            width *= stage.multiplier
            widths.append(width)
        inputs = [decoder_width]
        for stage in up[::-1]:
            inputs.append(inputs[-1] // stage.multiplier)
        strides = [SAMPLING_STRIDES[stage.sampler] for stage in down if stage.sampler]
        return {
            "_class_name": "AutoencoderKLLTX2Video",
            "in_channels": self._whole(vae, "in_channels", 3),
            "out_channels": self._whole(vae, "out_channels", 3),
            "latent_channels": latents,
            "block_out_channels": widths,
            "down_block_types": ["LTX2VideoDownBlock3D"] * len(down),
            "layers_per_block": [stage.layers for stage in self._encoder],
            "spatio_temporal_scaling": [True] * len(down),
            "downsample_type": [stage.sampler for stage in down],
            "decoder_block_out_channels": inputs[-2::-1],
            "decoder_layers_per_block": [stage.layers for stage in self._decoder],
            "decoder_spatio_temporal_scaling": [True] * len(up),
            "decoder_inject_noise": [stage.noise for stage in self._decoder],
            "upsample_type": list(self.upsampling),
            "upsample_residual": [stage.residual for stage in up],
            "upsample_factor": [stage.multiplier for stage in up],
            "timestep_conditioning": vae.get("timestep_conditioning", timestep_conditioning),
            "patch_size": patch,
            "patch_size_t": 1,
            "encoder_causal": True,
            "decoder_causal": vae.get("causal_decoder", False),
            "encoder_spatial_padding_mode": self._padding("encoder", "zeros"),
            "decoder_spatial_padding_mode": self._padding("decoder", "reflect"),
            "spatial_compression_ratio": patch * math.prod(stride[1] for stride in strides),
            "temporal_compression_ratio": math.prod(stride[0] for stride in strides),
        }

    def _padding(self, side: str, default: str) -> Any:
        return self._vae.get(f"{side}_spatial_padding_mode", self._vae.get("spatial_padding_mode", default))

    def _blocks(self, name: str) -> list[_Block]:
        entries = self._vae.get(name)
        if not isinstance(entries, Sequence) or isinstance(entries, str) or not 0 < len(entries) < _MAX_COUNT:
            raise self._error(f"{name} must be a list of blocks")
        blocks: list[_Block] = []
        for entry in entries:
            match entry:
                case [str(kind), int(layers)]:  # the short form of residual blocks
                    blocks.append((kind, {"num_layers": layers}))
                case [str(kind), dict() as options]:
                    blocks.append((kind, options))
                case _:
                    raise self._error(f"{name} must hold pairs of a kind and its options")
        return blocks

    def _walk(self, blocks: Sequence[_Block], side: _Side) -> list[_Stage]:
        """Group each sampler with the residual blocks listed before it, and record the diffusers names of the blocks.

        The last stage is the mid block, whose sampler is None.
        """
        stages: list[_Stage] = []
        places: list[tuple[int, bool]] = []  # per block: index of its stage, and True for a sampler
        resnets: Mapping[str, Any] | None = None
        for kind, options in blocks:
            if kind != "res_x" and kind not in side.samplers:
                supported = ", ".join(("res_x", *side.samplers))
                raise self._error(f"block {shown(kind)} is not supported; supported: {supported}")
            if kind == "res_x" and resnets is not None:
                raise self._error("two res_x blocks follow each other, which is not supported")
            places.append((len(stages), kind != "res_x"))
            if kind == "res_x":
                resnets = options
            else:
                stages.append(self._stage(resnets, side.samplers[kind], options, side))
                resnets = None
        stages.append(self._stage(resnets, None, {}, side))
        for at, (stage, is_sampler) in enumerate(places):
            index = len(blocks) - 1 - at if side.backwards else at
            place = side.place(stage, len(stages) - 1)
            self._names[side.name, index] = f"{place}.{side.sampler_name}" if is_sampler else place
        return stages

    def _stage(
        self, resnets: Mapping[str, Any] | None, sampler: str | None, options: Mapping[str, Any], side: _Side
    ) -> _Stage:
        return _Stage(
            layers=0 if resnets is None else self._whole(resnets, "num_layers", 1),
            noise=resnets is not None and self._flag(resnets, "inject_noise"),
            sampler=sampler,
            multiplier=self._whole(options, "multiplier", side.multiplier),
            residual=self._flag(options, "residual"),
        )

    def _whole(self, values: Mapping[str, Any], name: str, default: int) -> int:
        value = values.get(name, default)
        if type(value) is not int or not 1 <= value < _MAX_COUNT:
            raise self._error(f"{name} must be a whole number of at least 1, got {shown(value)}")
        return value

    def _flag(self, values: Mapping[str, Any], name: str) -> bool:
        value = values.get(name, False)
        if not isinstance(value, bool):
            raise self._error(f"{name} must be true or false, got {shown(value)}")
        return value

    def _error(self, reason: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: the description of its VAE (config.vae) cannot be used: {reason}")
