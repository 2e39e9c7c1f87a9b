"""Files say where their latents come from: what encode writes for another program, and how decode reads it."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_line import invoke
from safetensors.numpy import load_file, save_file

from latentrt.runtime.errors import InputError, MediaError, OutputError
from latentrt.runtime.files.decoded_file import decode_file
from latentrt.runtime.files.decoded_folder import decode_folder
from latentrt.runtime.files.encoded_file import encode_file
from latentrt.runtime.files.encoded_folder import encode_folder
from latentrt.runtime.media.latents_file import LatentsFile, read_latents, read_metadata, write_latents
from latentrt.runtime.media.named_origin import origins_of
from latentrt.runtime.media.pictures.picture_file import read_picture, write_picture

Opened = Callable[..., Any]
# One origin of each form, by the architecture of the model.
FORMS = [
    ("sd", "model"),
    ("sd", "diffusion"),
    ("sd", "comfyui"),
    ("flux", "FluxPipeline"),
    ("flux2", "Flux2Pipeline"),
    ("flux2", "Ideogram4Pipeline"),
    ("flux2", "BriaFibo2Pipeline"),
    ("flux2", "Flux2KleinPipeline"),
    ("flux2", "comfyui"),
    ("ltx20", "comfyui"),
    ("ltx20", "LTX2Pipeline"),
]


def picture(height: int = 30, width: int = 48) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("of", "origin"), FORMS)
def test_what_encode_writes_for_an_origin_decodes_without_options(
    of: str, origin: str, opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vae = opened(of, backend="onnxruntime")
    write_picture(tmp_path / "in.png", picture())
    plain = encode_file(vae, tmp_path / "in.png", tmp_path / "plain.safetensors")
    encode_file(vae, tmp_path / "in.png", tmp_path / "z.safetensors", origin=origin)
    read = read_latents(tmp_path / "z.safetensors")
    assert (read.origin, read.height, read.width) == (origin, 30, 48), "the origin and the original size are kept"
    form = next(one.form for one in origins_of(vae.family) if one.name == origin)
    if form.layout is not None and form.layout.has_tokens:
        assert read.latents.shape == (1, 6, 4 * vae.config.latent_channels)
    decode_file(vae, tmp_path / "z.safetensors", tmp_path / "out.npy")
    decode_file(vae, tmp_path / "plain.safetensors", tmp_path / "plain.npy")
    wanted = np.load(tmp_path / "plain.npy")
    assert wanted.shape == (1, vae.config.out_channels, *((1,) if vae.video else ()), 30, 48)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), wanted, rtol=0, atol=1e-4 * max(1, np.abs(wanted).max()))
    if form.space == "diffusion":
        assert read.scaled or origin == "comfyui"
        assert read.latents.shape != plain.latents.shape or np.abs(read.latents - plain.latents).max() > 1e-3
    assert warnings(caplog) == []


def test_a_file_for_comfyui_has_its_tensors(opened: Opened, tmp_path: Path) -> None:
    vae = opened("sd", backend="onnxruntime")
    write_picture(tmp_path / "in.png", picture())
    with pytest.raises(OutputError, match=r"end in \.safetensors, or in \.latent with origin='comfyui'"):
        encode_file(vae, tmp_path / "in.png", tmp_path / "z.latent")
    encoded = encode_file(vae, tmp_path / "in.png", tmp_path / "z.latent", origin="comfyui")
    tensors = load_file(tmp_path / "z.latent")
    assert set(tensors) == {"latent_tensor", "latent_format_version_0"}
    np.testing.assert_array_equal(tensors["latent_tensor"], encoded.latents)


def test_a_folder_for_comfyui_resumes_and_decodes(opened: Opened, tmp_path: Path) -> None:
    vae = opened("sd", backend="onnxruntime")
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", picture())
    first = encode_folder(vae, tmp_path / "in", tmp_path / "z", origin="comfyui")
    assert [run.output.name for run in first.written] == ["a.latent"]
    again = encode_folder(vae, tmp_path / "in", tmp_path / "z", origin="comfyui")
    assert (len(again.written), len(again.kept)) == (0, 1)
    report = decode_folder(vae, tmp_path / "z", tmp_path / "out", origin="comfyui")
    assert read_picture(report.written[0].output).shape == (30, 48, 3)
    with pytest.raises(InputError, match="gives latents of another family"):  # and not a failure of each file
        decode_folder(vae, tmp_path / "z", tmp_path / "other", origin="LTX2Pipeline")
    assert not (tmp_path / "other").exists()


def test_a_rerun_for_another_origin_is_refused(opened: Opened, tmp_path: Path) -> None:
    vae = opened("flux", backend="onnxruntime")
    (tmp_path / "in").mkdir()
    write_picture(tmp_path / "in" / "a.png", picture())
    encode_folder(vae, tmp_path / "in", tmp_path / "z", scaled=True)
    with pytest.raises(OutputError, match=r"with other settings \(--to\)"):
        encode_folder(vae, tmp_path / "in", tmp_path / "z", origin="FluxPipeline")
    assert len(encode_folder(vae, tmp_path / "in", tmp_path / "z", origin="diffusion").kept) == 1


def test_a_file_that_does_not_say_its_origin_is_read_by_the_default_with_one_line(
    opened: Opened, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vae = opened("flux", backend="onnxruntime")
    np.save(tmp_path / "a.npy", random(1, 16, 2, 2))
    np.save(tmp_path / "b.npy", random(1, 2, 64))
    decode_file(vae, tmp_path / "a.npy", tmp_path / "out.npy")
    (line,) = warnings(caplog)
    assert "a.npy does not say where its latents come from: they are read as model latents, which is the def" in line
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vae.decode(random(1, 16, 2, 2)).sample)
    caplog.clear()
    decode_file(vae, tmp_path / "b.npy", tmp_path / "tokens.npy", size=(16, 32))
    assert "they are read as tokens of FluxPipeline" in warnings(caplog)[0]
    caplog.clear()
    decode_file(vae, tmp_path / "a.npy", tmp_path / "again.npy", origin="model")
    assert warnings(caplog) == []


def test_tokens_that_a_pipeline_wrote_with_their_size_need_no_option(opened: Opened, tmp_path: Path) -> None:
    vae = opened("flux", backend="onnxruntime")
    tokens = random(1, 6, 64)
    content = LatentsFile(tokens, family=vae.family, height=32, width=48, origin="FluxPipeline")
    write_latents(tmp_path / "z.safetensors", content)
    assert {"origin": "FluxPipeline", "scaled": "true"}.items() <= read_metadata(tmp_path / "z.safetensors").items()
    np.save(tmp_path / "z.npy", tokens)
    decode_file(vae, tmp_path / "z.safetensors", tmp_path / "a.npy")
    decode_file(vae, tmp_path / "z.npy", tmp_path / "b.npy", origin="FluxPipeline", size=(32, 48))
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), np.load(tmp_path / "b.npy"))
    with pytest.raises(InputError, match="from a FLUX pipeline: give size, the height and width"):
        decode_file(vae, tmp_path / "z.npy", tmp_path / "c.npy", origin="FluxPipeline")


def test_latents_file_with_a_wrong_origin_is_not_written(tmp_path: Path) -> None:
    for content, message in (
        (LatentsFile(random(1, 4, 2, 2), origin="SDXL"), "'SDXL' is unknown"),
        (LatentsFile(random(1, 4, 2, 2), origin="diffusers"), "give the class of the pipeline"),
        (LatentsFile(random(1, 4, 2, 2), scaled=False, origin="diffusion"), "leave scaled out"),
        (LatentsFile(random(1, 16, 2, 2), origin="FluxPipeline"), r"float16 \(B, h/2 \* w/2, 4 \* C\) from FluxPipel"),
        (LatentsFile(random(1, 6, 64)), r"must be float32 or float16 \(B, C, h, w\)"),
    ):
        with pytest.raises(InputError, match=message):
            write_latents(tmp_path / "z.safetensors", content)
    assert list(tmp_path.iterdir()) == []


def test_read_latents_takes_an_origin_for_files_that_do_not_say_it(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", random(1, 4, 2, 2))
    write_latents(tmp_path / "b.safetensors", LatentsFile(random(1, 4, 2, 2), scaled=True))
    save_file({"latent_tensor": random(1, 4, 2, 2)}, tmp_path / "c.latent")
    assert read_latents(tmp_path / "a.npy").origin is None
    assert read_latents(tmp_path / "a.npy", origin="StableDiffusionXLPipeline").origin == "StableDiffusionXLPipeline"
    assert read_latents(tmp_path / "b.safetensors").origin == "diffusion"
    assert (
        read_latents(tmp_path / "b.safetensors", origin="StableDiffusionPipeline").origin == "StableDiffusionPipeline"
    )
    assert read_latents(tmp_path / "c.latent", origin="comfyui").origin == "comfyui"
    with pytest.raises(
        InputError, match="says that its latents come from diffusion, not from model: leave origin= out"
    ):
        read_latents(tmp_path / "b.safetensors", origin="model")
    with pytest.raises(InputError, match="'SDXL' is unknown"):
        read_latents(tmp_path / "a.npy", origin="SDXL")


def test_an_origin_that_contradicts_the_file_or_the_model_is_refused(opened: Opened, tmp_path: Path) -> None:
    vae = opened("flux", backend="onnxruntime")
    write_latents(tmp_path / "model.safetensors", LatentsFile(random(1, 16, 2, 2), origin="model"))
    tokens = LatentsFile(random(1, 6, 64), origin="FluxPipeline", height=32, width=48)
    write_latents(tmp_path / "tokens.safetensors", tokens)
    np.save(tmp_path / "cells.npy", random(1, 16, 2, 2))
    for name, options, message in (
        ("model.safetensors", {"origin": "FluxPipeline"}, "holds model latents, not diffusion latents: leave origin="),
        ("model.safetensors", {"scaled": True}, "holds model latents, not diffusion latents: leave scaled out"),
        ("tokens.safetensors", {"origin": "StableDiffusion3Pipeline"}, "come from FluxPipeline: leave origin="),
        ("cells.npy", {"origin": "FluxPipeline"}, "which FluxPipeline does not give"),
        ("cells.npy", {"origin": "model", "scaled": True}, "leave one of them out"),
        ("cells.npy", {"origin": "LTX2Pipeline"}, "gives latents of another family"),
        ("cells.npy", {"origin": "model", "size": (16, 16)}, "leave size out"),
    ):
        with pytest.raises(InputError, match=message):
            decode_file(vae, tmp_path / name, tmp_path / "x.npy", **options)
        assert not (tmp_path / "x.npy").exists()
    decode_file(vae, tmp_path / "tokens.safetensors", tmp_path / "x.npy", origin="diffusers")
    decode_file(vae, tmp_path / "tokens.safetensors", tmp_path / "y.npy", scaled=True)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), np.load(tmp_path / "y.npy"))
    with pytest.raises(InputError, match="give the class of the pipeline, StableDiffusion3Pipeline or FluxPipeline"):
        encode_file(vae, tmp_path / "cells.npy", tmp_path / "z.safetensors", origin="diffusers")


def test_an_origin_of_a_newer_version_is_refused_unless_the_user_names_one(opened: Opened, tmp_path: Path) -> None:
    vae = opened("sd", backend="onnxruntime")
    metadata = {"format": "latentrt-latents-1", "scaled": "true", "origin": "NewPipeline"}
    save_file({"latents": random(1, 4, 2, 2)}, tmp_path / "z.safetensors", metadata)
    with pytest.raises(InputError, match="come from 'NewPipeline', which this version does not know: give origin"):
        decode_file(vae, tmp_path / "z.safetensors", tmp_path / "x.npy")
    decode_file(vae, tmp_path / "z.safetensors", tmp_path / "x.npy", origin="diffusion")
    save_file({"latents": random(1, 4, 2, 2)}, tmp_path / "long.safetensors", metadata | {"origin": "x" * 1000})
    with pytest.raises(MediaError, match="origin"):
        read_latents(tmp_path / "long.safetensors")


def test_an_odd_picture_for_a_pipeline_of_tokens_is_refused(opened: Opened, tmp_path: Path) -> None:
    vae = opened("flux", backend="onnxruntime")
    write_picture(tmp_path / "in.png", picture(24, 48))
    with pytest.raises(InputError, match="make the picture a multiple of 16 pixels high and wide"):
        encode_file(vae, tmp_path / "in.png", tmp_path / "z.safetensors", origin="FluxPipeline")
    assert not (tmp_path / "z.safetensors").exists()


def test_the_command_line_names_origins_and_the_way_around_the_range(
    bundle_of: Callable[[str], Path], tmp_path: Path
) -> None:
    bundle = bundle_of("sd")
    bright = np.linspace(0, 1, 3 * 16 * 16, dtype=np.float32).reshape(1, 3, 16, 16)
    np.save(tmp_path / "bright.npy", bright)
    arguments = ("encode", bundle, tmp_path / "bright.npy", "-o", tmp_path / "z.safetensors", "--to", "diffusers")
    with pytest.raises(InputError, match=r"x \* 2 - 1 \(or give --no-check-range if it is that bright\)"):
        invoke(*arguments)
    assert invoke(*arguments, "--no-check-range").exit_code == 0
    assert read_latents(tmp_path / "z.safetensors").origin == "diffusion"
    wrong = invoke(
        "decode", bundle, tmp_path / "z.safetensors", "-o", tmp_path / "x.png", "--from", "StableDiffusionXL"
    )
    assert wrong.exit_code == 2
    assert "'StableDiffusionXL' is unknown" in wrong.output
    assert "StableDiffusionXLPipeline" in wrong.output
    right = invoke("decode", bundle, tmp_path / "z.safetensors", "-o", tmp_path / "x.png", "--from", "diffusers")
    assert right.exit_code == 0
