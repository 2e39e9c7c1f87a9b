"""Where latents come from: the table of origins, the names that users give, and the documented table."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import pytest
from architectures import ALL
from origins_table import origins_table
from places import ROOT

from latentrt.runtime.arrays.latent_form import LatentForm, Layout
from latentrt.runtime.config.families import FAMILIES, config_from_dict
from latentrt.runtime.errors import InputError
from latentrt.runtime.media import pipeline_classes
from latentrt.runtime.media.named_origin import named_origin, origin_names, origins_of

CONFIGS = {name: config_from_dict(ALL[name]) for name in ("sd", "flux", "flux2", "ltx20")}
# Classes whose latents LatentRT does not read as their pipeline does, with the reason.
LEFT_OUT = {
    **dict.fromkeys(("AnimateDiffPipeline", "AnimateDiffPAGPipeline", "LattePipeline"), "clips of an image VAE"),
    **dict.fromkeys(("AnimateDiffSDXLPipeline", "AnimateDiffControlNetPipeline"), "clips of an image VAE"),
    "AnimateDiffSparseControlNetPipeline": "clips of an image VAE",
    "AnimateDiffVideoToVideoPipeline": "clips of an image VAE",
    "AnimateDiffVideoToVideoControlNetPipeline": "clips of an image VAE",
    "AudioLDM2Pipeline": "sound",
    "ErnieImagePipeline": "its epsilon is not that of the config",
    "GlmImagePipeline": "it leaves the scaling factor out",
    "Kandinsky5I2IPipeline": "its latents have an axis of their own, and it leaves the shift out",
    "Kandinsky5T2IPipeline": "its latents have an axis of their own, and it leaves the shift out",
    "StableDiffusion3InpaintPipeline": "it leaves the shift out",
    "VisualClozeGenerationPipeline": "its latents are several pictures of several sizes",
}


def pipelines_in_diffusers() -> Iterator[tuple[str, str, str]]:
    """Each pipeline class with a VAE of our families: its name, the family, and the code that handles its latents."""
    folder = Path(diffusers.__file__).parent / "pipelines"
    for file in sorted(folder.rglob("pipeline_*.py")):
        text = file.read_text(encoding="utf-8")
        vae = re.search(r"^\s+vae: ([^,\n=]+)", text, re.MULTILINE)
        found = re.search(r'output_type (==|!=) "latent"', text)
        families = [name for name in FAMILIES if vae is not None and re.search(rf"\b{name}\b", vae[1])]
        if "deprecated" in file.parts or not families or found is None:
            continue
        for name in re.findall(r"^class (\w+Pipeline)\b", text, re.MULTILINE):
            yield name, families[0], text[found.start() :][:2600]


def test_the_table_has_every_pipeline_of_diffusers_that_gives_latents() -> None:
    wrong = []
    listed = {one.name: one for family in FAMILIES for one in origins_of(family)}
    seen = set()
    for name, family, code in pipelines_in_diffusers():
        seen.add(name)
        if name in LEFT_OUT:
            continue
        origin = listed.get(name)
        if origin is None or origin.family != family:
            wrong.append(f"{name} of {family} is not in the table")
            continue
        has_tokens = "_unpack_latents" in code or name == "Ideogram4Pipeline"
        assert origin.form.layout is not None
        if name not in pipeline_classes.FLUX2_KLEIN and origin.form.layout.has_tokens != has_tokens:
            wrong.append(f"{name}: {origin.form}")
    general = {"model", "diffusion", "comfyui"}
    wrong += [f"{name} is no pipeline" for name in {*listed, *LEFT_OUT} - seen - general]
    assert wrong == []
    assert len(seen) > 90
    assert not LEFT_OUT.keys() & listed.keys()


def test_a_name_means_what_its_pipeline_gives() -> None:
    cells, tokens = LatentForm("diffusion", Layout.CELLS), LatentForm("diffusion", Layout.TOKENS)
    model = LatentForm("model", Layout.CELLS)
    wanted: dict[str, dict[str, Any]] = {
        "sd": {"StableDiffusionPipeline": cells, "comfyui": model, "diffusers": cells, "model": model},
        "flux": {
            "FluxPipeline": tokens,
            "StableDiffusion3Pipeline": cells,
            "comfyui": model,
            "diffusers": LatentForm("diffusion", None),
        },
        "flux2": {
            "Flux2Pipeline": tokens,
            "Flux2KleinPipeline": model,
            "Ideogram4Pipeline": LatentForm("diffusion", Layout.CHANNELS_LAST),
            "comfyui": cells,
        },
        "ltx20": {"LTX2Pipeline": model, "SanaVideoPipeline": cells, "comfyui": cells, "diffusers": model},
    }
    got = {of: {name: named_origin(name, CONFIGS[of]).form for name in names} for of, names in wanted.items()}
    assert got == wanted


@pytest.mark.parametrize(
    ("name", "of", "message"),
    [
        ("diffusers", "flux2", "give different latents: give the class of the pipeline, Flux2Pipeline or Flux2Klein"),
        ("LTX2Pipeline", "sd", "gives latents of another family, and the bundle is AutoencoderKL: give model, "),
        ("FluxPipeline", "ltx20", "or a pipeline of the family, such as LTX2Pipeline"),
        ("Flux2KleinPipline", "flux2", "'Flux2KleinPipline' is unknown: .* such as Flux2KleinPipeline"),
        ("SDXL", "sd", "is unknown: give model, .* or the class of a diffusers pipeline, such as StableDiffusionXLPip"),
        ("flux.1", "flux", "such as FluxPipeline"),
        ("qwen", "sd", "diffusers or the class of a diffusers pipeline$"),
        ("\x1b[2J" + "x" * 10_000, "sd", r"\\x1b\[2J"),
    ],
)
def test_a_name_that_says_nothing_is_refused_with_names(name: str, of: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        named_origin(name, CONFIGS[of])
    assert len(str(refused.value)) < 500


def test_every_name_is_known_and_no_name_is_twice() -> None:
    names = origin_names()
    assert len(names) == len(set(names))
    assert set(pipeline_classes.MAIN_CLASSES) < set(names)


def test_the_documents_show_the_table() -> None:
    text = (ROOT / "docs" / "reference" / "origins.md").read_text(encoding="utf-8")
    assert origins_table() in text, f"put this table into docs/reference/origins.md:\n{origins_table()}"
