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
DOORS = ["latentrt.tiling", "latentrt.runtime", "latentrt.export"]
# The promise is 0.25 s for the whole import, of which NumPy alone takes 0.12 s on the machine where it was made. A test
# holds what does not depend on the machine and its load: that our part takes no longer than NumPy's.
IMPORT_LIMIT = 1.0
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
IMPORT_RATIO = """
import time
started = time.process_time()
import numpy
numpy_ready = time.process_time()
import latentrt.runtime
{more}
print((time.process_time() - numpy_ready) / (numpy_ready - started))
"""


def test_importing_a_door_imports_nothing_heavy() -> None:
    for door in DOORS:
        assert imported_by(f"import {door}").isdisjoint(HEAVY)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    assert imported_by("import latentrt.export.cli").isdisjoint(HEAVY)


def test_importing_every_module_of_runtime_and_tiling_imports_nothing_heavy() -> None:
    assert imported_by(EVERY_MODULE_OF_RUNTIME).isdisjoint(HEAVY)


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
from latentrt.runtime.autoencoder import Autoencoder
original = Autoencoder.decode
def decode(self, *arguments, **options):
    import torch
    return original(self, *arguments, **options)
Autoencoder.decode = decode
"""
    assert "torch" in imported_by(sneaky + ENCODE_AND_DECODE, str(bundle_of("sd")))


def test_importing_runtime_is_quick() -> None:
    assert our_part_takes_less_than(IMPORT_LIMIT)


def test_the_check_of_the_import_time_can_fail() -> None:
    more = "while time.process_time() - numpy_ready < 1.1 * (numpy_ready - started): pass"
    assert not our_part_takes_less_than(IMPORT_LIMIT, more=more)


def imported_by(code: str, *arguments: str) -> set[str]:
    """The top-level names in `sys.modules` after the code has run."""
    report = "\nimport json, sys\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    return set(json.loads(output_of(code + report, *arguments)))


def our_part_takes_less_than(limit: float, *, more: str = "") -> bool:
    """Whether one of five runs does, in units of NumPy's own import and in processor time: a busy machine adds any
    amount to the clock's."""
    return any(float(output_of(IMPORT_RATIO.format(more=more))) < limit for _ in range(5))


def output_of(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
