"""diffusers folders in the forms that they come in: shards, variants, pipelines, subfolders."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from architectures import ALL, diffusers_model
from checkpoint_checks import assert_same
from safetensors.numpy import load_file, save_file

from latentrt.export.checkpoints import SourceOptions, open_checkpoint
from latentrt.export.checkpoints.parameters.of_config import parameters_of
from latentrt.export.models.reference_model import model_from_config
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.errors import CheckpointError

STEM = "diffusion_pytorch_model"
WEIGHTS = f"{STEM}.safetensors"
SMALL = "relu_one_block"


@pytest.fixture
def folder(checkpoint_of: Callable[[str], Path], tmp_path: Path) -> Path:
    """A small checkpoint of one's own."""
    return Path(shutil.copytree(checkpoint_of(SMALL), tmp_path / "model"))


@pytest.fixture
def tensors(checkpoint_of: Callable[[str], Path]) -> dict[str, np.ndarray]:
    """What `folder` holds."""
    return load_file(checkpoint_of(SMALL) / WEIGHTS)


def split(
    folder: Path, index: str = f"{WEIGHTS}.index.json", form: str = f"{STEM}-0000{{}}-of-00002.safetensors"
) -> None:
    """Replace the folder's weights by two shards and their index."""
    whole = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    places: dict[str, str] = {}
    for number in (1, 2):
        part = {name: value for at, (name, value) in enumerate(whole.items()) if at % 2 == number - 1}
        save_file(part, folder / form.format(number))
        places |= dict.fromkeys(part, form.format(number))
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("name", ALL)
def test_the_parameters_of_a_config_are_those_of_the_models(name: str) -> None:
    config = config_from_dict(ALL[name])
    expected = parameters_of(config)
    assert expected == {key: tuple(value.shape) for key, value in model_from_config(config).state_dict().items()}
    theirs = {key: tuple(value.shape) for key, value in diffusers_model(ALL[name]).state_dict().items()}
    assert theirs.pop("bn.num_batches_tracked", ()) == ()  # FLUX.2's, a counter of training
    assert expected == theirs


def test_shards_are_one_checkpoint(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    split(folder)
    assert_same(open_checkpoint(folder), tensors)
    assert open_checkpoint(folder).format == "diffusers folder (sharded)"


def test_shards_that_diffusers_wrote_are_read(tmp_path: Path) -> None:
    model = diffusers_model(ALL["sd"])
    model.save_pretrained(tmp_path / "model", max_shard_size="500KB")
    assert not (tmp_path / "model" / WEIGHTS).exists()
    expected = {name: value.numpy() for name, value in model.state_dict().items()}
    assert_same(open_checkpoint(tmp_path / "model"), expected)
    model.save_pretrained(tmp_path / "half", max_shard_size="500KB", variant="fp16")
    assert_same(open_checkpoint(tmp_path / "half"), expected)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda places: {}, "must hold a weight_map|tensors are missing"),
        (lambda places: {"weight_map": 7}, "must hold a weight_map"),
        (lambda places: {"weight_map": {"x": 7}}, "must hold a weight_map"),
        (lambda places: {"weight_map": {"x": "../../secret.safetensors"}}, "outside its folder; refused"),
        (lambda places: {"weight_map": {"x": "/secret.safetensors"}}, "outside its folder; refused"),
        (lambda places: {"weight_map": {"x": "gone.safetensors"}}, "incomplete: gone.safetensors"),
        (lambda places: {"weight_map": {"x": "a" * 300}}, "is incomplete: a+, which"),
        (lambda places: {"weight_map": {"x": "a\0b"}}, "is incomplete: "),
        (lambda places: {"weight_map": {**places, "x": next(iter(places.values()))}}, r"disagree .*\(x\)"),
        (lambda places: {"weight_map": dict(list(places.items())[1:])}, r"disagree about where tensors are \("),
    ],
)
def test_an_index_that_is_wrong_is_one_sentence(
    change: Callable[[dict[str, str]], object], sentence: str, folder: Path
) -> None:
    split(folder)
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps(change(json.loads(index.read_text())["weight_map"])))
    with pytest.raises(CheckpointError, match=sentence) as caught:
        open_checkpoint(folder)
    assert "\n" not in str(caught.value)


def test_a_variant_is_taken_when_it_is_asked_for(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    half = {name: value.astype(np.float16) for name, value in tensors.items()}
    save_file(half, folder / f"{STEM}.fp16.safetensors")
    assert_same(open_checkpoint(folder), tensors)
    assert_same(open_checkpoint(folder, options=SourceOptions(variant="fp16")), half)
    with pytest.raises(CheckpointError, match=r"no weights of the variant 'ema'; its variants: fp16"):
        open_checkpoint(folder, options=SourceOptions(variant="ema"))


def test_the_only_variant_is_taken_and_said(
    folder: Path, tensors: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    (folder / WEIGHTS).rename(folder / f"{STEM}.ema.safetensors")
    with caplog.at_level(logging.WARNING):
        assert_same(open_checkpoint(folder), tensors)
    assert "the weights are the variant ema" in caplog.text


def test_several_variants_without_plain_weights_ask_for_one(folder: Path) -> None:
    shutil.copy(folder / WEIGHTS, folder / f"{STEM}.fp16.safetensors")
    (folder / WEIGHTS).rename(folder / f"{STEM}.bf16.safetensors")
    with pytest.raises(CheckpointError, match=r"several variants \(bf16, fp16\): choose one with --variant"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "form", [f"{STEM}-0000{{}}-of-00002.fp16.safetensors", f"{STEM}.fp16-0000{{}}-of-00002.safetensors"]
)
def test_a_sharded_variant_is_read(form: str, folder: Path, tensors: dict[str, np.ndarray]) -> None:
    split(folder, f"{WEIGHTS}.index.fp16.json", form)
    assert_same(open_checkpoint(folder, options=SourceOptions(variant="fp16")), tensors)


def test_a_pipeline_and_a_subfolder_mean_the_model_in_them(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    pipeline = folder.with_name("pipeline")
    shutil.copytree(folder, pipeline / "vae")
    shutil.copytree(folder, pipeline / "other")
    (pipeline / "vae" / "config.json").unlink()
    assert_same(open_checkpoint(pipeline, options=SourceOptions(subfolder="other")), tensors)
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        open_checkpoint(pipeline, options=SourceOptions(subfolder="vae"))
    with pytest.raises(CheckpointError, match="has no subfolder unet"):
        open_checkpoint(pipeline, options=SourceOptions(subfolder="unet"))
    shutil.copy(folder / "config.json", pipeline / "vae")
    assert_same(open_checkpoint(pipeline), tensors)
