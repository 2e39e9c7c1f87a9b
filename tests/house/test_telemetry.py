"""Nothing is sent: the libraries below us report their use unless their switch is set before their import."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

BundleOf = Callable[..., Path]

# onnxruntime 1.32 writes its device id within a second of its import, before it looks up its server.
_DECODE = """
import os, pathlib, sys, time
from latentrt.runtime import open_bundle
import numpy as np
open_bundle(sys.argv[1], backend=sys.argv[2]).decode(np.zeros((1, 4, 8, 8), np.float32))
time.sleep(1)
print(sorted(str(path) for path in pathlib.Path(os.environ["HOME"]).rglob("*")))
print(os.environ.get("ORT_DISABLE_TELEMETRY"))
"""


def _run(code: str, *arguments: str, home: Path, **variables: str) -> list[str]:
    environment = {name: value for name, value in os.environ.items() if "TELEMETRY" not in name}
    environment |= {"HOME": str(home), "LATENTRT_CACHE": str(home.parent / "cache"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_decode_leaves_no_file_in_the_home_folder(bundle_of: BundleOf, tmp_path: Path, backend: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    files, switch = _run(_DECODE, str(bundle_of("sd")), backend, home=home)
    assert files == "[]"
    assert switch == ("1" if backend == "onnxruntime" else "None")


@pytest.mark.parametrize(
    ("library", "variable"), [("onnxruntime", "ORT_DISABLE_TELEMETRY"), ("huggingface_hub", "HF_HUB_DISABLE_TELEMETRY")]
)
def test_the_switch_is_set_before_the_import_and_the_users_own_value_stays(
    tmp_path: Path, library: str, variable: str
) -> None:
    code = f"""
import os, sys, types
from latentrt.runtime.extras import require
class Recorder:
    def find_spec(self, name, path=None, target=None):
        if name == {library!r}:
            print(os.environ.get({variable!r}))
            sys.exit(0)
sys.meta_path.insert(0, Recorder())
require({library!r}, extra="cpu")
"""
    assert _run(code, home=tmp_path) == ["1"]
    assert _run(code, home=tmp_path, **{variable: "0"}) == ["0"]
