"""The order of the rooms is checked, and the check finds an import that goes upwards."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from places import ROOT

pytestmark = pytest.mark.slow

FOLDERS = ("cli", "export", "integrations", "runtime", "tiling")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds the package as one folder `latentrt`, and pyproject.toml with the contracts."""
    folder = tmp_path_factory.mktemp("layers")
    only_code = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "root", folder / "latentrt", ignore=only_code)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, folder / "latentrt" / name, ignore=only_code)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_rooms_as_they_are_keep_every_contract(tree: Path) -> None:
    output = broken_contracts(tree)
    assert output == []


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        (
            "tiling/plan.py",
            "from ..runtime.errors import BundleError",
            "Imports between the folders run one way",
        ),
        (
            "runtime/system/hashing.py",
            "from ..media.latents_file import read_latents",
            "Imports between the rooms of runtime run one way",
        ),
        (
            "export/weights/narrowing.py",
            "from ..bundle import export_bundle",
            "Imports between the rooms of export run one way",
        ),
        (
            "runtime/calls/workload.py",
            "from ..backends.component import Component",
            "A call knows no backend",
        ),
        (
            "runtime/backends/openvino/cache.py",
            "from ..onnxruntime.component import OnnxRuntimeComponent",
            "The backends do not know each other",
        ),
        (
            "runtime/arrays/boundary.py",
            "import torch",
            "runtime and tiling need no framework",
        ),
    ],
)
def test_a_wrong_import_breaks_its_contract(tree: Path, module: str, line: str, contract: str) -> None:
    path = tree / "latentrt" / module
    whole = path.read_text(encoding="utf-8")
    path.write_text(f"{whole}\n\ndef _wrong() -> None:\n    {line}\n", encoding="utf-8")
    try:
        assert contract in broken_contracts(tree)
    finally:
        path.write_text(whole, encoding="utf-8")


def broken_contracts(tree: Path) -> list[str]:
    """The names of the contracts that import-linter finds broken in the tree."""
    done = subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"], cwd=tree, capture_output=True, text=True, check=False
    )
    found = [line.partition(" BROKEN")[0] for line in done.stdout.splitlines() if " BROKEN" in line]
    assert done.returncode == (1 if found else 0), done.stdout + done.stderr
    return found
