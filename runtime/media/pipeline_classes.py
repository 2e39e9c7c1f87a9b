"""The pipeline classes of diffusers whose latents LatentRT reads, by what `output_type="latent"` gives.

Read in diffusers 0.42.1. Classes of one list give the same form of latents. A class is missing where its own decode
does not reverse the VAE's statistics: StableDiffusion3InpaintPipeline leaves the shift out, ErnieImagePipeline adds
another epsilon than the config has, and GlmImagePipeline leaves the factor out.
"""

from collections.abc import Mapping

__all__ = [
    "FLUX2_KLEIN",
    "FLUX2_SPREAD",
    "FLUX2_TOKENS",
    "FLUX2_TOKENS_CHANNELS_LAST",
    "KL_CELLS",
    "KL_TOKENS",
    "LTX2_DIFFUSION",
    "LTX2_MODEL",
    "MAIN_CLASSES",
]

KL_CELLS = (
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "AuraFlowPipeline",
    "CogView3PlusPipeline",
    "CogView4ControlPipeline",
    "CogView4Pipeline",
    "HiDreamImagePipeline",
    "HunyuanDiTControlNetPipeline",
    "HunyuanDiTPAGPipeline",
    "HunyuanDiTPipeline",
    "KolorsImg2ImgPipeline",
    "KolorsPAGPipeline",
    "KolorsPipeline",
    "LatentConsistencyModelImg2ImgPipeline",
    "LatentConsistencyModelPipeline",
    "Lumina2Pipeline",
    "LuminaPipeline",
    "OmniGenPipeline",
    "PRXPipeline",
    "PixArtAlphaPipeline",
    "PixArtSigmaPAGPipeline",
    "PixArtSigmaPipeline",
    "StableDiffusion3ControlNetInpaintingPipeline",
    "StableDiffusion3ControlNetPipeline",
    "StableDiffusion3Img2ImgPipeline",
    "StableDiffusion3PAGImg2ImgPipeline",
    "StableDiffusion3PAGPipeline",
    "StableDiffusionAdapterPipeline",
    "StableDiffusionControlNetImg2ImgPipeline",
    "StableDiffusionControlNetInpaintPipeline",
    "StableDiffusionControlNetPAGInpaintPipeline",
    "StableDiffusionControlNetPAGPipeline",
    "StableDiffusionControlNetPipeline",
    "StableDiffusionDepth2ImgPipeline",
    "StableDiffusionImageVariationPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "StableDiffusionLatentUpscalePipeline",
    "StableDiffusionPAGImg2ImgPipeline",
    "StableDiffusionPAGInpaintPipeline",
    "StableDiffusionPAGPipeline",
    "StableDiffusionUpscalePipeline",
    "StableDiffusionXLAdapterPipeline",
    "StableDiffusionXLControlNetImg2ImgPipeline",
    "StableDiffusionXLControlNetInpaintPipeline",
    "StableDiffusionXLControlNetPAGImg2ImgPipeline",
    "StableDiffusionXLControlNetPAGPipeline",
    "StableDiffusionXLControlNetPipeline",
    "StableDiffusionXLControlNetUnionImg2ImgPipeline",
    "StableDiffusionXLControlNetUnionInpaintPipeline",
    "StableDiffusionXLControlNetUnionPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
    "StableDiffusionXLPAGImg2ImgPipeline",
    "StableDiffusionXLPAGInpaintPipeline",
    "StableDiffusionXLPAGPipeline",
    "StableUnCLIPImg2ImgPipeline",
    "StableUnCLIPPipeline",
    "ZImageControlNetInpaintPipeline",
    "ZImageControlNetPipeline",
    "ZImageImg2ImgPipeline",
    "ZImageInpaintPipeline",
    "ZImageOmniPipeline",
    "ZImagePipeline",
)
"""AutoencoderKL: diffusion latents, (B, C, h, w)."""

KL_TOKENS = (
    "FluxPipeline",
    "BriaPipeline",
    "ChromaImg2ImgPipeline",
    "ChromaInpaintPipeline",
    "ChromaPipeline",
    "FluxControlImg2ImgPipeline",
    "FluxControlInpaintPipeline",
    "FluxControlNetImg2ImgPipeline",
    "FluxControlNetInpaintPipeline",
    "FluxControlNetPipeline",
    "FluxControlPipeline",
    "FluxFillPipeline",
    "FluxImg2ImgPipeline",
    "FluxInpaintPipeline",
    "FluxKontextInpaintPipeline",
    "FluxKontextPipeline",
    "LongCatImageEditPipeline",
    "LongCatImagePipeline",
    "OvisImagePipeline",
)
"""AutoencoderKL: diffusion latents, (B, h/2 * w/2, 4 * C)."""

FLUX2_TOKENS = ("Flux2Pipeline",)
"""AutoencoderKLFlux2: diffusion latents, (B, h/2 * w/2, 4 * C)."""

FLUX2_TOKENS_CHANNELS_LAST = ("Ideogram4Pipeline",)
"""AutoencoderKLFlux2: diffusion latents, (B, h/2 * w/2, 4 * C), with the channels of a cell next to each other."""

FLUX2_SPREAD = ("BriaFibo2Pipeline",)
"""AutoencoderKLFlux2: diffusion latents that are unpacked, (B, C, h, w)."""

FLUX2_KLEIN = ("Flux2KleinPipeline", "Flux2KleinInpaintPipeline", "Flux2KleinKVPipeline")
"""AutoencoderKLFlux2: model latents, (B, C, h, w)."""

LTX2_MODEL = (
    "LTX2Pipeline",
    "LTX2ConditionPipeline",
    "LTX2DFRPipeline",
    "LTX2DFRTemporalRefinePipeline",
    "LTX2HDRPipeline",
    "LTX2ImageToVideoPipeline",
    "LTX2InContextPipeline",
    "LTX2LatentUpsamplePipeline",
)
"""AutoencoderKLLTX2Video: model latents, (B, C, t, h, w)."""

LTX2_DIFFUSION = ("SanaVideoPipeline", "SanaImageToVideoPipeline", "SanaWMPipeline")
"""AutoencoderKLLTX2Video: diffusion latents, (B, C, t, h, w)."""

MAIN_CLASSES: Mapping[str, int | None] = {
    "StableDiffusionPipeline": 4,
    "StableDiffusionXLPipeline": 4,
    "StableDiffusion3Pipeline": 16,
    "FluxPipeline": 16,
    "Flux2Pipeline": None,
    "Flux2KleinPipeline": None,
    "LTX2Pipeline": None,
}
"""The main pipelines of each family, for which the origin `diffusers` stands. The number is that of the latent channels
of their VAE, or None where the family has one number."""
