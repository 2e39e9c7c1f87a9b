"""What importing costs, and that running a bundle never imports a framework. Each check runs in a fresh interpreter."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

HEAVY = {"PIL", "av", "cuda", "diffusers", "onnx", "onnxruntime", "polygraphy", "tensorrt", "tensorrt_rtx", "torch"}
HEAVY |= {"huggingface_hub", "msgpack", "openvino", "transformers"}
FRAMEWORKS = {"diffusers", "onnx", "polygraphy", "torch", "transformers"}
DOORS = ["latentrt", "latentrt.cli", "latentrt.tiling", "latentrt.runtime", "latentrt.export", "latentrt.integrations"]
DOORS += ["latentrt.integrations.diffusers"]
DOORS += ["latentrt.integrations.torch_backend"]  # a program asks for it before it knows that PyTorch is there
# What an import costs is what it reads beside NumPy. Seconds depend on the machine (0.1 s, and 0.17 where Python may
# not keep compiled modules), so a test counts modules.
MODULES_LIMIT = 85
EVERY_MODULE_OF_RUNTIME = """
import importlib, pkgutil, latentrt.runtime, latentrt.tiling
for door in (latentrt.runtime, latentrt.tiling):
    for module in pkgutil.walk_packages(door.__path__, door.__name__ + "."):
        importlib.import_module(module.name)
"""
ENCODE_AND_DECODE = """
import importlib.util, sys
from latentrt.runtime import open_bundle
import numpy as np

assert importlib.util.find_spec("torch"), "this proves nothing where torch is not installed"
with open_bundle(sys.argv[1]) as vae:
    shape = (1, vae.config.in_channels, *((1,) if vae.video else ()), 64, 64)
    vae(np.zeros(shape, np.float32)).sample
"""
READ_BESIDE_NUMPY = """
import sys
import numpy
before = set(sys.modules)
{code}
print(len(set(sys.modules) - before))
"""


def test_importing_a_door_imports_nothing_heavy() -> None:
    for door in DOORS:
        assert imported_by(f"import {door}").isdisjoint(HEAVY)


@pytest.mark.parametrize("door", ["latentrt", "latentrt.export", "latentrt.cli.main"])
def test_a_lazy_door_imports_no_numpy(door: str) -> None:
    assert "numpy" not in imported_by(f"import {door}")


def test_a_settings_value_of_the_exporter_imports_no_framework() -> None:
    code = "from latentrt.export import BuildSettings, ExportSettings, VerifySettings, convert_checkpoint"
    assert imported_by(code).isdisjoint(FRAMEWORKS)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert imported_by("import latentrt.cli.main").isdisjoint(HEAVY)


def test_importing_every_module_of_runtime_and_tiling_imports_nothing_heavy() -> None:
    assert imported_by(EVERY_MODULE_OF_RUNTIME).isdisjoint(HEAVY)


@pytest.mark.slow
def test_the_check_of_imports_sees_each_heavy_library() -> None:
    libraries = HEAVY - {"tensorrt", "transformers"}  # those that the tests' environment always has
    assert libraries <= imported_by(f"import {', '.join(sorted(libraries))}")


@pytest.mark.parametrize("name", ["sd", "ltx20"])
def test_encoding_and_decoding_never_import_a_framework(name: str, bundle_of: Callable[[str], Path]) -> None:
    imported = imported_by(ENCODE_AND_DECODE, str(bundle_of(name)))
    assert "onnxruntime" in imported
    assert imported.isdisjoint(FRAMEWORKS)


def test_a_framework_that_only_a_call_imports_is_seen(bundle_of: Callable[[str], Path]) -> None:
    sneaky = """
from latentrt.runtime.autoencoders.autoencoder import Autoencoder
original = Autoencoder.decode
def decode(self, *arguments, **options):
    import torch
    return original(self, *arguments, **options)
Autoencoder.decode = decode
"""
    assert "torch" in imported_by(sneaky + ENCODE_AND_DECODE, str(bundle_of("sd")))


@pytest.mark.parametrize(
    "code",
    ["import latentrt.runtime", "from latentrt.runtime import open_bundle, AutoencoderKL, AutoencoderKLLTX2Video"],
)
def test_importing_runtime_reads_little_besides_numpy(code: str) -> None:
    assert modules_read_by(code) <= MODULES_LIMIT


def test_importing_runtime_reads_no_backend_and_no_planner() -> None:
    code = "import latentrt.runtime, sys; rooms = ('backends', 'planner', 'execution')\n"
    code += "print(sum(name.startswith(tuple(f'latentrt.runtime.{room}' for room in rooms)) for name in sys.modules))"
    assert output_of(code) == "0"


def test_the_check_of_what_an_import_reads_can_fail() -> None:
    assert modules_read_by("import latentrt.runtime, click, sqlite3, unittest, http.server") > MODULES_LIMIT


def imported_by(code: str, *arguments: str) -> set[str]:
    """The top-level names in `sys.modules` after the code has run."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(output_of(code + report, *arguments)))


def modules_read_by(code: str) -> int:
    return int(output_of(READ_BESIDE_NUMPY.format(code=code)))


def output_of(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
