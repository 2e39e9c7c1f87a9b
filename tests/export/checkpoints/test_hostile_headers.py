"""Fuzzed headers: an error of ours every time, in bounded memory and time.

LATENTRT_FUZZ_CASES=10000 runs that many for each format; by default they are 4,000 together, to be quick.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import ALL, diffusers_model
from originals import description_of, ldm_tensors, ltx2_tensors
from places import TESTS
from safetensors.torch import save_file

from latentrt.runtime.config.families import config_from_dict
from latentrt.runtime.errors import ConfigError

pytestmark = pytest.mark.slow

SUPPORT = TESTS / "support"
CASES = int(os.environ.get("LATENTRT_FUZZ_CASES", "0"))
MEMORY_BYTES = 500_000_000


def fuzz(kind: str, cases: int, source: Path) -> None:
    command = [sys.executable, str(SUPPORT / "fuzz_headers.py"), kind, str(CASES or cases), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1]) < MEMORY_BYTES


def stored(tensors: dict[str, Any], path: Path, metadata: dict[str, str] | None = None) -> Path:
    """Save in few bytes: each case writes the file again."""
    save_file({name: value.to(torch.float8_e5m2) for name, value in tensors.items()}, path, metadata)
    return path


def test_hostile_ldm_files(tmp_path: Path) -> None:
    """A full checkpoint of a published structure, so that nothing is asked for before the tensors are looked at."""
    thin = ALL["sd"] | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
    tensors = ldm_tensors(diffusers_model(thin).state_dict(), "vae.") | {"cond_stage_model.x": torch.ones(1)}
    fuzz("safetensors", 1200, stored(tensors, tmp_path / "source.safetensors"))


def test_hostile_ltx2_files(tmp_path: Path) -> None:
    tiny = ALL["ltx20"] | {
        "latent_channels": 4,
        "block_out_channels": [8, 16, 16, 32],
        "decoder_block_out_channels": [4, 8, 16],
        "layers_per_block": [1, 1, 1, 1, 1],
    }
    header = {"config": json.dumps({"vae": description_of(tiny)})}
    tensors = ltx2_tensors(diffusers_model(tiny).state_dict(), tiny)
    fuzz("safetensors", 1200, stored(tensors, tmp_path / "source.safetensors", header))


def test_hostile_flax_files() -> None:
    fuzz("msgpack", 1600, TESTS / "flax_fixture" / "bfloat16" / "diffusion_flax_model.msgpack")


@pytest.mark.parametrize("zipped", [False, True])
def test_hostile_pickles(zipped: bool, tmp_path: Path) -> None:
    thin = ALL["sd"] | {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1}
    tensors = ldm_tensors(diffusers_model(thin).state_dict(), "vae.") | {"cond_stage_model.x": torch.ones(1)}
    narrow = {name: value.to(torch.float8_e5m2) for name, value in tensors.items()}
    torch.save(narrow, tmp_path / "source.ckpt", _use_new_zipfile_serialization=zipped)
    fuzz("torch", 600, tmp_path / "source.ckpt")


@pytest.mark.parametrize("name", ["sd", "ltx20", "flux2"])
def test_hostile_configs(name: str, checkpoint_of: Callable[[str], Path]) -> None:
    fuzz("config", 600, checkpoint_of(name) / "diffusion_pytorch_model.safetensors")


def test_the_fuzzer_finds_an_error_that_is_not_ours(tmp_path: Path) -> None:
    """The proof that it can fail: a reader that takes lengths on trust."""
    save_file({"encoder.conv_in.weight": torch.ones(2)}, tmp_path / "source.safetensors")
    broken = """
import struct, sys
import latentrt.export.weights.safetensors_file as module
original = module.SafetensorsFile._parse
def parse(self, prefix, read, size):
    struct.unpack("<Q", prefix)
    return original(self, prefix, read, size)
module.SafetensorsFile._parse = parse
sys.path.insert(0, sys.argv[1])
from fuzz_headers import main
from pathlib import Path
main("safetensors", 300, Path(sys.argv[2]))
"""
    command = [sys.executable, "-c", broken, str(SUPPORT), str(tmp_path / "source.safetensors")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "struct.error" in done.stderr


@pytest.mark.parametrize("size", [20_000_000, 2_000_000_000])
def test_a_header_of_many_bytes_is_not_read(size: int, tmp_path: Path) -> None:
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(size.to_bytes(8, "little") + b"{")
        file.truncate(size + 100)
    code = (
        "import sys; from pathlib import Path; from latentrt.export.weights.safetensors_file import SafetensorsFile\n"
        "sys.path.insert(0, sys.argv[2]); from peak_memory import peak_bytes\n"
        "try: SafetensorsFile(Path(sys.argv[1]))\n"
        "except Exception as error: print(error, peak_bytes())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.safetensors"), str(SUPPORT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "MiB, and at most 8 MiB are read" in done.stdout
    assert int(done.stdout.split()[-1]) < 150_000_000


def measured(code: str, *arguments: object) -> tuple[str, int, float]:
    """The error that Python code ends with, the peak of memory in bytes, and the seconds, in a process of its own."""
    script = (
        "import sys, time; from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1]); from peak_memory import peak_bytes\n"
        "from latentrt.export.checkpoints import open_checkpoint; from latentrt.runtime.errors import LatentRTError\n"
        "from latentrt.runtime.bundle.manifest import Manifest\n"
        f"start = time.process_time()\ntry: {code}\n"
        "except LatentRTError as error: print(error, peak_bytes(), time.process_time() - start, sep='\\n')"
    )
    command = [sys.executable, "-c", script, str(SUPPORT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    message, peak, seconds = done.stdout.splitlines()
    assert message.isprintable()
    return message, int(peak), float(seconds)


@pytest.mark.parametrize("name", ["manifest.json", "config.json", "diffusion_pytorch_model.safetensors.index.json"])
@pytest.mark.parametrize("kind", ["large", "deep", "digits", "exponent", "NaN", "pipe", "device"])
def test_json_that_is_hostile_is_refused_in_little_memory(name: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL", "scaling_factor": 1.0}')
    path = tmp_path / name
    path.unlink(missing_ok=True)
    if kind == "large":
        with path.open("wb") as file:
            file.write(b'{"a": [')
            file.truncate(180_000_000)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        value = {"deep": '{"a":' * 500 + "1" + "}" * 500, "digits": "9" * 4000, "exponent": "1e99999999", "NaN": "NaN"}
        path.write_text(f'{{"_class_name": "AutoencoderKL", "schema_version": 2, "x": {value[kind]}}}')
    opener = "Manifest.open" if name == "manifest.json" else "open_checkpoint"
    message, peak, seconds = measured(f"{opener}(Path(sys.argv[2]))", tmp_path)
    sentence = {
        "large": "more than 8 MiB",
        "deep": "nested more than 64 deep",
        "digits": "a number of 4000 digits",
        "exponent": "which is too large",
        "NaN": "NaN, which is not a JSON number",
        "pipe": "no ordinary file",
        "device": "no ordinary file",
    }[kind]
    if name.endswith("index.json") and kind in ("pipe", "device"):
        sentence = "weights are missing"  # only ordinary files are looked at
    assert sentence in message
    assert peak < 200_000_000
    assert seconds < 5


@pytest.mark.parametrize(
    "name", ["diffusion_pytorch_model.safetensors", "diffusion_flax_model.msgpack", "alone.safetensors"]
)
def test_weights_that_are_a_pipe_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL", "scaling_factor": 1.0}')
    os.mkfifo(tmp_path / name)
    source = tmp_path / name if name.startswith("alone") else tmp_path
    assert measured("open_checkpoint(Path(sys.argv[2]))", source)[0]


def test_values_of_any_length_make_messages_that_can_be_read() -> None:
    huge: list[Any] = ["x" * 10**6, 10**4000, [[["y" * 1000] * 100] * 10], {"z" * 10**5: 1}]
    for field in ("latent_channels", "block_out_channels", "act_fn", "scaling_factor", "_class_name", "force_upcast"):
        for value in huge:
            values = {"_class_name": "AutoencoderKL", "scaling_factor": 1.0} | {field: value}
            with pytest.raises(ConfigError) as caught:
                config_from_dict(values)
            assert len(str(caught.value)) < 700
            assert str(caught.value).isprintable()
