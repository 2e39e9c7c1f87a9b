"""`inspect --for` lists the engines that run on a GPU, and exits with 1 if there is none."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import invoke

from latentrt.runtime.bundle.engine_records import EngineRecord
from latentrt.runtime.bundle.manifest import Manifest

ENGINE = EngineRecord(
    component="decoder",
    causal=None,
    dtype="float16",
    backend="tensorrt-rtx",
    graph="decoder.onnx",
    graph_sha256="0" * 64,
    weights_sha256="0" * 64,
    library_version="1.7.1.116",
    compute_capabilities=("8.9",),
    profiles=(),
    settings={},
    key="k",
    file="engines/ada",
    bytes=1,
    sha256="0" * 64,
)


@pytest.fixture
def bundle(bundle_of: Callable[[str], Path], tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(bundle_of("no_attention"), tmp_path / "bundle"))
    engines = (
        ENGINE,
        dataclasses.replace(ENGINE, file="engines/hopper", compute_capabilities=("9.0",), kind="exact"),
        dataclasses.replace(
            ENGINE,
            file="engines/any",
            component="encoder",
            compute_capabilities=("8.0",),
            settings={"hardware_compatible": True, "version_compatible": True},
        ),
    )
    dataclasses.replace(Manifest.open(folder), engines=engines).write()
    return folder


def test_the_engines_of_a_gpu_are_listed(bundle: Path) -> None:
    result = invoke("inspect", bundle, "--for", "8.9")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert "  runs      decoder, float16, whole samples: engines/ada, needs tensorrt-rtx 1.7.1.116" in lines
    assert "  runs      encoder, float16, whole samples: engines/any, needs tensorrt-rtx 1.7.1.116 or later" in lines
    assert "  does not  decoder, float16, strips: engines/hopper, needs tensorrt-rtx 1.7.1.116: built for 9.0" in lines


@pytest.mark.parametrize(
    ("capability", "runs", "missing"),
    [
        ("9.0", ["engines/hopper", "engines/any"], []),
        ("12.0", ["engines/any"], ["decoder"]),
        ("7.5", [], ["encoder", "decoder"]),
    ],
)
def test_a_component_without_an_engine_is_named(
    capability: str, runs: list[str], missing: list[str], bundle: Path
) -> None:
    result = invoke("inspect", bundle, "--for", capability, "--json")
    report: dict[str, Any] = json.loads(result.output)
    assert [one["file"] for one in report["runs"]] == runs
    assert report["components_without"] == missing
    assert result.exit_code == (0 if runs else 1)
    text = invoke("inspect", bundle, "--for", capability).output
    assert all(f"the {name} has no engine for it: run `latentrt build`" in text for name in missing)


def test_what_is_no_compute_capability_is_refused(bundle: Path) -> None:
    result = invoke("inspect", bundle, "--for", "ada")
    assert result.exit_code == 2
    assert "'ada' is not a compute capability: give 8.9" in result.output
