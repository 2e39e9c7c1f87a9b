"""`latentrt convert` and `inspect`: any checkpoint as a diffusers folder, in little memory and without torch."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import safetensors.torch
import torch
from architectures import ALL
from command_line import invoke
from originals import description_of, ldm_tensors, ltx2_tensors, write_sparse
from places import TESTS
from safetensors.numpy import load_file, save_file

from latentrt.export.checkpoints import open_checkpoint
from latentrt.export.checkpoints.parameters.of_config import parameters_of
from latentrt.export.convert import convert_checkpoint
from latentrt.export.weights.safetensors_file import SafetensorsFile
from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.config.ltx2 import AutoencoderKLLTX2VideoConfig
from latentrt.runtime.errors import CheckpointError, OutputError
from latentrt.runtime.system.tensor_files.stored_dtypes import STORED_DTYPES, widened

WEIGHTS = "diffusion_pytorch_model.safetensors"
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = sys.modules["onnx"] = sys.modules["diffusers"] = None  # importing any of them fails
from latentrt.cli.main import main
main()
"""
PEAK = """
import sys
sys.path.insert(0, sys.argv[1])
from peak_memory import peak_bytes
{code}
print("PEAK", peak_bytes())
"""
COMMAND = "from latentrt.cli.main import cli; cli(sys.argv[2:], standalone_mode=False)"


def combined(name: str, tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """An original file of an architecture, with other models in it, and its header."""
    others = {"model.diffusion_model.x": np.ones(4, np.float32), "audio_vae.encoder.conv_in.conv.weight": np.ones(3)}
    if name in ("ltx20", "ltx23"):
        return ltx2_tensors(tensors, ALL[name]) | others, {"config": json.dumps({"vae": description_of(ALL[name])})}
    others["conditioner.embedders.0.x"] = np.ones(4, np.float32)
    return ldm_tensors(tensors, "first_stage_model.") | others, {}


@pytest.mark.parametrize("name", ["sdxl", "ltx20", "ltx23"])
def test_converting_gives_the_folder_that_the_file_came_from(
    name: str, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    original = load_file(checkpoint_of(name) / WEIGHTS)
    tensors, metadata = combined(name, original)
    save_file(tensors, tmp_path / "model.safetensors", metadata or None)
    convert_checkpoint(tmp_path / "model.safetensors", tmp_path / "folder")
    converted = load_file(tmp_path / "folder" / WEIGHTS)
    assert converted.keys() == original.keys()
    for key, value in original.items():
        assert converted[key].dtype == value.dtype
        np.testing.assert_array_equal(converted[key], value, err_msg=key)
    theirs = getattr(diffusers, ALL[name]["_class_name"]).from_pretrained(tmp_path / "folder")
    assert all(torch.equal(value, torch.from_numpy(original[key])) for key, value in theirs.state_dict().items())
    want = json.loads((checkpoint_of(name) / "config.json").read_text())
    assert {key for key in want if not key.startswith("_") and want[key] != listed(theirs.config[key])} <= {
        "sample_size"
    }
    assert open_checkpoint(tmp_path / "folder").variant in ("SDXL", "LTX-2.0", "LTX-2.3 or 2.5")


def listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_converting_needs_no_torch(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    tensors, metadata = combined("ltx23", load_file(checkpoint_of("ltx23") / WEIGHTS))
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    for arguments in (("convert", "model.safetensors", "folder"), ("inspect", "folder")):
        command = [sys.executable, "-c", WITHOUT_TORCH, *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "AutoencoderKLLTX2Video (LTX-2.3 or 2.5)" in done.stdout


def test_a_refused_conversion_leaves_nothing(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    tensors, metadata = combined("ltx20", load_file(checkpoint_of("ltx20") / WEIGHTS))
    last = "vae.per_channel_statistics.mean-of-means"
    save_file(tensors | {last: np.full(16, np.nan, np.float32)}, tmp_path / "model.safetensors", metadata)
    with pytest.raises(CheckpointError, match=r"NaN or infinite \(latents_mean\)"):
        convert_checkpoint(tmp_path / "model.safetensors", tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
    save_file(tensors, tmp_path / "model.safetensors", metadata)
    convert_checkpoint(tmp_path / "model.safetensors", tmp_path / "folder")
    with pytest.raises(OutputError, match="folder exists already"):
        convert_checkpoint(tmp_path / "model.safetensors", tmp_path / "folder")


def test_the_command_takes_the_scaling_factor_and_reports(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    save_file(ldm_tensors(load_file(checkpoint_of("sd") / WEIGHTS)), tmp_path / "vae.safetensors")
    looked = invoke("inspect", tmp_path / "vae.safetensors")
    assert "scaling_factor: missing; export needs --scaling-factor" in looked.stdout
    result = invoke("convert", tmp_path / "vae.safetensors", tmp_path / "out", "--scaling-factor", "0.13025", "--json")
    report = json.loads(result.stdout)
    assert (report["family"], report["variant"], report["config"]["scaling_factor"]) == (
        "AutoencoderKL",
        "SDXL",
        0.13025,
    )
    assert json.loads((tmp_path / "out" / "config.json").read_text())["scaling_factor"] == 0.13025


def test_inspecting_a_file_tells_what_it_is(tmp_path: Path, checkpoint_of: Callable[[str], Path]) -> None:
    original = load_file(checkpoint_of("ltx23") / WEIGHTS)
    tensors, _ = combined("ltx23", original)
    save_file(tensors, tmp_path / "model.safetensors")
    report = json.loads(invoke("inspect", tmp_path / "model.safetensors", "--json").stdout)
    assert (report["family"], report["variant"]) == ("AutoencoderKLLTX2Video", "LTX-2.3 or 2.5")
    assert report["format"] == "LTX-2 original file (inside a combined checkpoint, config from its shapes)"
    assert report["parameters"] == sum(value.size for value in original.values())
    np.testing.assert_array_equal(np.array(report["config"]["latents_std"], np.float32), original["latents_std"])
    assert "its upsamplers are those of LTX-2.3 or 2.5" in report["notes"][0]
    text = invoke("inspect", tmp_path / "model.safetensors").stdout
    assert "checkpoint of an AutoencoderKLLTX2Video (LTX-2.3 or 2.5)" in text
    assert "latents_mean of " in text


def test_sixteen_channels_that_nothing_tells_can_be_inspected(
    tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    save_file(ldm_tensors(load_file(checkpoint_of("flux") / WEIGHTS), "vae."), tmp_path / "vae.safetensors")
    report = json.loads(invoke("inspect", tmp_path / "vae.safetensors", "--json").stdout)
    assert (report["config"]["scaling_factor"], report["config"]["shift_factor"]) == (None, None)
    assert "pass --scaling-factor and --shift-factor" in report["notes"][0]


# Memory


@pytest.mark.parametrize("command", ["inspect", "convert"])
def test_a_combined_file_costs_the_memory_of_its_vae(command: str, tmp_path: Path) -> None:
    """A sparse file of 20 GB with a VAE of 120 MB in it."""
    values = ALL["ltx23"] | {
        "latent_channels": 64,
        "block_out_channels": [64, 128, 256, 256],
        "decoder_block_out_channels": [128, 256, 256, 512],
    }
    config = config_from_dict(values)
    assert isinstance(config, AutoencoderKLLTX2VideoConfig)
    own = ltx2_tensors(parameters_of(config), values)
    others = {f"model.diffusion_model.{index}.weight": (50_000, 50_000) for index in range(4)}
    others["audio_vae.decoder.conv_in.conv.weight"] = (10_000, 10_000)
    path = tmp_path / "model.safetensors"
    bytes_in_all = write_sparse(path, others | own, metadata={"config": json.dumps({"vae": description_of(values)})})
    vae_bytes = 2 * sum(int(np.prod(shape)) for shape in own.values())
    assert bytes_in_all > 20e9
    assert vae_bytes > 50e6
    arguments = [command, str(path), *([str(tmp_path / "folder")] if command == "convert" else [])]
    # Deviations of zero would be refused.
    fill(path, "vae.per_channel_statistics.std-of-means", np.ones(64, np.float32))
    assert peak_of(COMMAND, *arguments) < 1.3 * vae_bytes + 300e6


def test_the_measure_of_memory_sees_what_is_held() -> None:
    assert peak_of("import numpy as np; held = np.ones(60_000_000); del held") > 480e6
    assert peak_of("import numpy as np") < 100e6


def peak_of(code: str, *arguments: str) -> int:
    """The peak of memory of a fresh interpreter that runs the code, in bytes."""
    support = str(TESTS / "support")
    command = [sys.executable, "-c", PEAK.format(code=code), support, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split("PEAK")[1])


def fill(path: Path, name: str, values: np.ndarray) -> None:
    """Write bfloat16 values into a tensor of a file."""
    entry = SafetensorsFile(path)[name]
    with path.open("r+b") as file:
        header = int.from_bytes(file.read(8), "little")
        file.seek(8 + header + entry.start_bytes)
        file.write((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


# Stored precision


FLOATS = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


@pytest.mark.parametrize("name", FLOATS)
def test_every_value_of_a_narrow_dtype_is_widened_as_torch_does(name: str) -> None:
    raw = np.arange(1 << (8 * STORED_DTYPES[name].itemsize), dtype=f"<u{STORED_DTYPES[name].itemsize}")
    signed = torch.from_numpy(raw.view(f"<i{raw.itemsize}")).view(FLOATS[name])
    ours = widened(raw.view(STORED_DTYPES[name]), name)
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, signed.to(torch.float32).numpy())


@pytest.mark.parametrize("name", FLOATS)
def test_a_checkpoint_of_a_narrow_dtype_is_widened_exactly(
    name: str, tmp_path: Path, checkpoint_of: Callable[[str], Path]
) -> None:
    tensors = safetensors.torch.load_file(checkpoint_of("sd") / WEIGHTS)
    stored = {key: value.to(FLOATS[name]) for key, value in tensors.items()}
    (tmp_path / "model").mkdir()
    safetensors.torch.save_file(stored, tmp_path / "model" / WEIGHTS)
    (tmp_path / "model" / "config.json").write_text((checkpoint_of("sd") / "config.json").read_text())
    assert {tensor.dtype for tensor in open_checkpoint(tmp_path / "model").tensors.values()} == {name}
    convert_checkpoint(tmp_path / "model", tmp_path / "folder")
    converted = safetensors.torch.load_file(tmp_path / "folder" / WEIGHTS)
    assert all(torch.equal(converted[key], value.to(torch.float32)) for key, value in stored.items())
