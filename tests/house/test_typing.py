"""What type checkers and editors see of the public API: right uses pass mypy in its strict mode, wrong uses do not."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

USES = ROOT / "tests" / "support" / "typed_uses.py"
WRONG = {
    'open_bundle("b", backend="tensorflow")': "arg-type",
    'open_bundle("b", dtype="float8")': "arg-type",
    'open_bundle("b", provider="rocm")': "arg-type",
    'export_bundle("c", "b", ExportSettings(dtypes=("half",)))': "arg-type",
    'BuildSettings("onnxruntime")': "arg-type",
    'VerifySettings(backend="torch")': "arg-type",
    'verify_bundle("b", "c", threads=1)': "call-arg",
    'open_bundle("b").decode([], output="unit8")': "arg-type",
    'open_bundle("b").decode_stream([], output="uint16")': "arg-type",
    'open_bundle("b").enable_tiling(blend="cosine")': "arg-type",
    'open_bundle("b").enable_tiling(tile_size=512)': "call-arg",
    'AutoencoderKL.from_pretrained("b").enable_tiling(blend="ltx2")': "arg-type",
    'write_latents("a.safetensors", "latents")': "arg-type",
    'read_latents("a.safetensors").width.real': "union-attr",
}
IMPORTS = """
from latentrt.export import BuildSettings, ExportSettings, VerifySettings, export_bundle, verify_bundle
from latentrt.runtime import AutoencoderKL, open_bundle, read_latents, write_latents
"""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, dict[int, str]]:
    """The codes of mypy's errors, by file and line."""
    wrong = tmp_path_factory.mktemp("typing") / "wrong_uses.py"
    wrong.write_text("\n".join(WRONG) + IMPORTS)  # the lines of the uses begin at 1
    # The cache of scripts/check, which runs before the tests: without one mypy takes half a minute.
    command = [sys.executable, "-m", "mypy", "--cache-dir", str(ROOT / ".mypy_cache"), str(USES), str(wrong)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    found: dict[Path, dict[int, str]] = {USES: {}, wrong: {}}
    for line in done.stdout.splitlines():
        if match := re.fullmatch(r"(.+?):(\d+): error: .*\[([\w-]+)\]", line):
            found[(ROOT / match[1]).resolve()][int(match[2])] = match[3]
    return found


def test_right_uses_pass(complaints: dict[Path, dict[int, str]]) -> None:
    assert complaints[USES] == {}


def test_each_wrong_use_is_refused(complaints: dict[Path, dict[int, str]]) -> None:
    (wrong,) = (path for path in complaints if path != USES)
    assert complaints[wrong] == dict(enumerate(WRONG.values(), 1))
