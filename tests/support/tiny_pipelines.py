"""Pipelines of diffusers around a VAE that a test gives: tiny parts with random weights, and no text encoders."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import diffusers as library
import numpy as np
import torch
from PIL import Image

__all__ = ["PIPELINES", "TinyPipeline", "noise", "seeded"]

diffusers: Any = library  # most of its classes have no types
ltx2: Any = import_module("diffusers.pipelines.ltx2")
SIZE = {"height": 64, "width": 64}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 2) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed))


@dataclass(frozen=True)
class TinyPipeline:
    """A pipeline class with its tiny parts, and the call that tests make.

    Attributes:
        kind: the name of the class in diffusers.
        architecture: the VAE, in `architectures.ALL`.
        parts: makes the parts besides the VAE.
        options: options of the call.
        result: the attribute of the output.
    """

    kind: str
    architecture: str
    parts: Callable[[], dict[str, Any]]
    options: Callable[[], dict[str, Any]]
    result: str = "images"

    def made(self, vae: Any, dtype: torch.dtype = torch.float32) -> Any:
        """The pipeline around `vae`. Parts of another dtype than float32 are copies."""
        parts = self.parts()
        kind: Any = getattr(diffusers, self.kind, None) or Ideogram4WithoutText
        pipe = kind(vae=vae, **parts)
        pipe.set_progress_bar_config(disable=True)
        return pipe.to(dtype=dtype) if dtype != torch.float32 else pipe

    def run(self, pipe: Any, output_type: str = "pt", **options: Any) -> torch.Tensor:
        """The pictures or frames of the pipeline, in [0, 1]."""
        torch.manual_seed(0)  # LTX-2 draws noise for the audio too
        with torch.no_grad():
            made = pipe(**{**self.options(), "generator": seeded(1), "output_type": output_type, **options})
        return getattr(made, self.result)  # type: ignore[no-any-return]


@cache
def picture() -> Image.Image:
    return Image.fromarray((np.random.default_rng(0).random((64, 64, 3)) * 255).astype(np.uint8))


@cache
def mask() -> Image.Image:
    values = np.zeros((64, 64), np.uint8)
    values[16:48, 16:48] = 255
    return Image.fromarray(values)


def no_text(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names)


# Stable Diffusion


def unet(**options: Any) -> Any:
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        block_out_channels=(32, 64), layers_per_block=1, sample_size=8, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32, **options,
    ).eval()  # fmt: skip


@cache
def sd_unet() -> Any:
    return unet()


def sd_parts() -> dict[str, Any]:
    scheduler = diffusers.DDIMScheduler(steps_offset=1, clip_sample=False)
    return {"unet": sd_unet(), "scheduler": scheduler, **no_text("text_encoder", "tokenizer", "feature_extractor")} | {
        "safety_checker": None,
        "requires_safety_checker": False,
    }


def sd_options() -> dict[str, Any]:
    return {"prompt_embeds": noise(1, 7, 32), "num_inference_steps": 2, "guidance_scale": 1.0, **SIZE}


def from_picture(options: Callable[[], dict[str, Any]], *, masked: bool = False) -> Callable[[], dict[str, Any]]:
    def with_image() -> dict[str, Any]:
        made = options() | {"image": picture(), "strength": 0.9, "num_inference_steps": 3}
        made |= {"mask_image": mask()} if masked else {}
        return made

    return with_image


def without_size(options: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    return lambda: {name: value for name, value in options().items() if name not in SIZE}


@cache
def sdxl_unet() -> Any:
    return unet(
        addition_embed_type="text_time", addition_time_embed_dim=8, projection_class_embeddings_input_dim=80,
        transformer_layers_per_block=1, attention_head_dim=(2, 4), use_linear_projection=True,
    )  # fmt: skip


def sdxl_parts() -> dict[str, Any]:
    scheduler = diffusers.EulerDiscreteScheduler()
    texts = no_text("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    return {"unet": sdxl_unet(), "scheduler": scheduler, **texts, "add_watermarker": False}


def sdxl_options() -> dict[str, Any]:
    return sd_options() | {"pooled_prompt_embeds": noise(1, 32)}


# Transformers over packed latents


@cache
def sd3_transformer() -> Any:
    torch.manual_seed(0)
    return diffusers.SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64, out_channels=16,
    ).eval()  # fmt: skip


def sd3_parts() -> dict[str, Any]:
    texts = no_text(*(f"{name}{end}" for name in ("text_encoder", "tokenizer") for end in ("", "_2", "_3")))
    return {"transformer": sd3_transformer(), "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(), **texts}


def sd3_options() -> dict[str, Any]:
    return sd_options() | {"pooled_prompt_embeds": noise(1, 64)}


@cache
def flux_transformer() -> Any:
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        patch_size=1, in_channels=64, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=32, pooled_projection_dim=32, axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip


def flux_parts() -> dict[str, Any]:
    texts = no_text("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")
    return {"transformer": flux_transformer(), "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(), **texts}


def flux_options() -> dict[str, Any]:
    return {"prompt_embeds": noise(1, 8, 32), "pooled_prompt_embeds": noise(1, 32), "num_inference_steps": 2, **SIZE}


@cache
def flux2_transformer() -> Any:
    torch.manual_seed(0)
    return diffusers.Flux2Transformer2DModel(
        patch_size=1, in_channels=32, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=16, timestep_guidance_channels=256, axes_dims_rope=[4, 4, 4, 4],
    ).eval()  # fmt: skip


def flux2_parts() -> dict[str, Any]:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return {"transformer": flux2_transformer(), "scheduler": scheduler, **no_text("text_encoder", "tokenizer")}


def flux2_options() -> dict[str, Any]:
    return {"prompt_embeds": noise(1, 8, 16), "num_inference_steps": 2, **SIZE}


def klein_parts() -> dict[str, Any]:
    return flux2_parts() | {"is_distilled": True}


class Ideogram4WithoutText(library.Ideogram4Pipeline):  # type: ignore[misc,unused-ignore]
    """Ideogram 4 with random features of a prompt: its pipeline takes no `prompt_embeds`."""

    def encode_prompt(
        self, prompt: Any, grid_h: int, grid_w: int, max_sequence_length: int, device: torch.device
    ) -> tuple[torch.Tensor, ...]:
        own: Any = import_module("diffusers.pipelines.ideogram4.pipeline_ideogram4")

        length = max_sequence_length + grid_h * grid_w
        positions = torch.arange(length)[None, :, None].expand(1, length, 3).contiguous()
        indicator = torch.full((1, length), own.LLM_TOKEN_INDICATOR)
        indicator[:, max_sequence_length:] = own.OUTPUT_IMAGE_INDICATOR
        features = torch.zeros(1, length, 16)
        features[:, :max_sequence_length] = noise(1, max_sequence_length, 16)
        return features, positions, torch.ones(1, length, dtype=torch.long), indicator


@cache
def ideogram_transformer(seed: int) -> Any:
    torch.manual_seed(seed)
    return diffusers.Ideogram4Transformer2DModel(
        in_channels=32, num_layers=1, attention_head_dim=16, num_attention_heads=2, intermediate_size=32, adaln_dim=16,
        llm_features_dim=16, mrope_section=(4, 2, 2),
    ).eval()  # fmt: skip


def ideogram_parts() -> dict[str, Any]:
    parts = {"transformer": ideogram_transformer(0), "unconditional_transformer": ideogram_transformer(1)}
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return parts | {"scheduler": scheduler, **no_text("text_encoder", "tokenizer")}


def ideogram_options() -> dict[str, Any]:
    return {"prompt": "a cat", "num_inference_steps": 2, "guidance_scale": 2.0, "guidance_schedule": None} | {
        "max_sequence_length": 8,
        **SIZE,
    }


# LTX-2


@cache
def ltx_modules() -> dict[str, Any]:
    torch.manual_seed(0)
    transformer = diffusers.LTX2VideoTransformer3DModel(
        in_channels=16, out_channels=16, patch_size=1, patch_size_t=1, num_attention_heads=2, attention_head_dim=8,
        cross_attention_dim=16, audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2,
        audio_attention_head_dim=4, audio_cross_attention_dim=8, num_layers=2, qk_norm="rms_norm_across_heads",
        caption_channels=32, rope_double_precision=False, rope_type="split",
    ).eval()  # fmt: skip
    connectors = ltx2.LTX2TextConnectors(
        caption_channels=32, text_proj_in_factor=3, video_connector_num_attention_heads=4,
        video_connector_attention_head_dim=8, video_connector_num_layers=1,
        video_connector_num_learnable_registers=None, audio_connector_num_attention_heads=4,
        audio_connector_attention_head_dim=8, audio_connector_num_layers=1,
        audio_connector_num_learnable_registers=None, connector_rope_base_seq_len=32, rope_theta=10000.0,
        rope_double_precision=False, causal_temporal_positioning=False, rope_type="split",
    ).eval()  # fmt: skip
    audio = diffusers.AutoencoderKLLTX2Audio(
        base_channels=4, output_channels=2, ch_mult=(1,), num_res_blocks=1, attn_resolutions=None, in_channels=2,
        resolution=32, latent_channels=2, norm_type="pixel", causality_axis="height", dropout=0.0,
        mid_block_add_attention=False, sample_rate=16000, mel_hop_length=160, is_causal=True, mel_bins=8,
    ).eval()  # fmt: skip
    vocoder = ltx2.vocoder.LTX2Vocoder(
        in_channels=16, hidden_channels=32, out_channels=2, upsample_kernel_sizes=[4, 4], upsample_factors=[2, 2],
        resnet_kernel_sizes=[3], resnet_dilations=[[1, 3, 5]], leaky_relu_negative_slope=0.1,
        output_sampling_rate=16000,
    ).eval()  # fmt: skip
    return {"audio_vae": audio, "connectors": connectors, "transformer": transformer, "vocoder": vocoder}


def ltx_parts() -> dict[str, Any]:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    return {**ltx_modules(), "scheduler": scheduler, **no_text("text_encoder", "tokenizer")}


def ltx_options() -> dict[str, Any]:
    return {
        "prompt_embeds": noise(1, 16, 96), "prompt_attention_mask": torch.ones(1, 16, dtype=torch.long),
        "num_inference_steps": 2, "guidance_scale": 1.0, "stg_scale": 0.0, "modality_scale": 1.0,
        "guidance_rescale": 0.0, "audio_guidance_scale": 1.0, "audio_stg_scale": 0.0, "audio_modality_scale": 1.0,
        "audio_guidance_rescale": 0.0, "spatio_temporal_guidance_blocks": None, "use_cross_timestep": False,
        "height": 64, "width": 96, "num_frames": 9, "frame_rate": 25.0,
    }  # fmt: skip


def ltx_timestep() -> dict[str, Any]:
    return ltx_options() | {"decode_timestep": 0.05, "decode_noise_scale": 0.025}


def ltx_conditioned() -> dict[str, Any]:
    frames = [picture()] * 9
    return ltx_options() | {
        "conditions": [ltx2.pipeline_ltx2_condition.LTX2VideoCondition(frames=frames, index=0, strength=1.0)],
        "num_frames": 17,
    }


@cache
def upsampler() -> Any:
    torch.manual_seed(0)
    return ltx2.LTX2LatentUpsamplerModel(in_channels=16, mid_channels=32, num_blocks_per_stage=1).eval()


def upsampled() -> dict[str, Any]:
    return {"latents": noise(1, 16, 2, 2, 3), "height": 64, "width": 96, "num_frames": 9}


def pictures(kind: str, architecture: str, parts: Any, options: Any) -> TinyPipeline:
    return TinyPipeline(kind, architecture, parts, options)


def clips(kind: str, architecture: str, parts: Any, options: Any) -> TinyPipeline:
    return TinyPipeline(kind, architecture, parts, options, "frames")


PIPELINES: dict[str, TinyPipeline] = {
    "sd": pictures("StableDiffusionPipeline", "sd", sd_parts, sd_options),
    "sd_img2img": pictures(
        "StableDiffusionImg2ImgPipeline", "sd", sd_parts, without_size(from_picture(sd_options))
    ),
    "sd_inpaint": pictures(
        "StableDiffusionInpaintPipeline", "sd", sd_parts, from_picture(sd_options, masked=True)
    ),
    "sdxl": pictures("StableDiffusionXLPipeline", "sdxl", sdxl_parts, sdxl_options),
    "sd3": pictures("StableDiffusion3Pipeline", "flux", sd3_parts, sd3_options),
    "flux": pictures("FluxPipeline", "flux", flux_parts, flux_options),
    "flux_img2img": pictures("FluxImg2ImgPipeline", "flux", flux_parts, from_picture(flux_options)),
    "flux_inpaint": pictures("FluxInpaintPipeline", "flux", flux_parts, from_picture(flux_options, masked=True)),
    "flux2": pictures("Flux2Pipeline", "flux2", flux2_parts, flux2_options),
    "flux2_image": pictures(
        "Flux2Pipeline", "flux2", flux2_parts, lambda: flux2_options() | {"image": picture()}
    ),
    "flux2_klein": pictures("Flux2KleinPipeline", "flux2", klein_parts, flux2_options),
    "ideogram4": pictures("Ideogram4WithoutText", "flux2", ideogram_parts, ideogram_options),
    "ltx2": clips("LTX2Pipeline", "ltx20", ltx_parts, ltx_options),
    "ltx2_image": clips(
        "LTX2ImageToVideoPipeline", "ltx20", ltx_parts, lambda: ltx_options() | {"image": picture()}
    ),
    "ltx2_condition": clips("LTX2ConditionPipeline", "ltx20", ltx_parts, ltx_conditioned),
    "ltx2_upsample": clips(
        "LTX2LatentUpsamplePipeline", "ltx20", lambda: {"latent_upsampler": upsampler()}, upsampled
    ),
    "ltx2_timestep": clips("LTX2Pipeline", "timestep", ltx_parts, ltx_timestep),
}  # fmt: skip
"""Every pipeline class that is tested, by a short name."""
