"""The public names, written out: adding or removing one is a decision, not an accident."""

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

import latentrt
import latentrt.cli
import latentrt.export
import latentrt.integrations
import latentrt.runtime
import latentrt.tiling

EXPECTED = {
    "latentrt": [
        "BackendUnavailable",
        "BundleError",
        "Cancelled",
        "CheckpointError",
        "ConfigError",
        "DeviceMemoryError",
        "EngineError",
        "InputError",
        "LatentRTError",
        "MediaError",
        "MissingExtra",
        "OutputError",
        "SelftestError",
        "__version__",
        "open_bundle",
    ],
    "latentrt.cli": [],
    "latentrt.export": [
        "BuildSettings",
        "BuiltEngine",
        "Comparison",
        "ConversionReport",
        "ConvertSettings",
        "ExportSettings",
        "Extent",
        "NotCompared",
        "ParityReport",
        "SourceOptions",
        "VerifySettings",
        "build_engines",
        "convert_checkpoint",
        "export_bundle",
        "verify_bundle",
    ],
    "latentrt.integrations": [],
    "latentrt.runtime": [
        "AutoencoderKL",
        "AutoencoderKLConfig",
        "AutoencoderKLFlux2",
        "AutoencoderKLFlux2Config",
        "AutoencoderKLLTX2Video",
        "AutoencoderKLLTX2VideoConfig",
        "AutoencoderKLOutput",
        "Backend",
        "BackendCapabilities",
        "BackendUnavailable",
        "BundleError",
        "CallScope",
        "CancelToken",
        "Cancelled",
        "CheckpointError",
        "Clip",
        "ClipReader",
        "ClipWriter",
        "Component",
        "ComponentCapabilities",
        "ConfigError",
        "DecoderOutput",
        "DeviceMemoryError",
        "DiagonalGaussian",
        "EncodedFile",
        "EngineError",
        "FailedFile",
        "FolderReport",
        "InputError",
        "LatentRTError",
        "LatentsFile",
        "MediaError",
        "MissingExtra",
        "OnnxRuntimeOptions",
        "OutputError",
        "SelftestError",
        "TensorRtOptions",
        "decode_file",
        "decode_folder",
        "encode_file",
        "encode_folder",
        "open_bundle",
        "open_clip",
        "read_clip",
        "read_latents",
        "read_picture",
        "write_clip",
        "write_latents",
        "write_picture",
    ],
    "latentrt.tiling": [
        "Axis",
        "InputError",
        "LatentRTError",
        "Line",
        "Piece",
        "Plan",
        "Span",
        "Tile",
        "apply",
        "evened_size",
        "last_short",
        "last_slid_back",
        "with_stubs",
    ],
}
DOORS = [latentrt.cli, latentrt.export, latentrt.integrations, latentrt.runtime, latentrt.tiling]
MODULES = sorted(module.name for door in DOORS for module in pkgutil.walk_packages(door.__path__, door.__name__ + "."))
MODULES += ["latentrt.__main__", "latentrt.former_names"]
FILES = sorted(
    path
    for folder in ("cli", "export", "integrations", "root", "runtime", "tiling")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("door", EXPECTED)
def test_a_door_exports_exactly_these_names(door: str) -> None:
    module = importlib.import_module(door)
    assert getattr(module, "__all__", []) == EXPECTED[door]


def test_every_module_lists_its_public_names_and_has_them() -> None:
    assert {name: wrong for name in [*EXPECTED, *MODULES] if (wrong := wrong_public_names(name))} == {}


def test_every_module_is_found() -> None:
    assert {"latentrt.export.models.autoencoder_kl", "latentrt.runtime.backends.onnxruntime.component"} <= set(MODULES)
    assert len(MODULES) + len(EXPECTED) == len(FILES)


@pytest.mark.slow
def test_no_private_name_is_imported_from_another_file() -> None:
    assert {str(path): found for path in FILES if (found := list(private_imports(path.read_text())))} == {}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from .plan import _spans", ["_spans"]),
        ("def f():\n    from ..runtime.grid import Grid, _round", ["_round"]),
        ("from ._plan import spans", ["_plan"]),
        ("import latentrt.runtime._grid", ["_grid"]),
        ("from . import grid as g\ng._round(3)", ["g._round"]),
        ("from __future__ import annotations\nfrom .plan import spans as _spans\nself._x = 1", []),
    ],
)
def test_the_check_of_private_imports_finds_each_way(code: str, found: list[str]) -> None:
    assert list(private_imports(code)) == found


def wrong_public_names(name: str) -> list[str]:
    """What is wrong with the `__all__` of a module."""
    module = importlib.import_module(name)
    if not hasattr(module, "__all__"):  # only a room, whose `__init__` holds its docstring alone
        is_sign = hasattr(module, "__path__") and has_no_code(Path(str(module.__file__)).read_text())
        return [] if is_sign else ["no __all__"]
    names = list(module.__all__)
    twice = [public for public in set(names) if names.count(public) > 1]
    return twice + [public for public in names if not hasattr(module, public) or is_private(public)]


def private_imports(code: str) -> Iterator[str]:
    """Private names of our other files that the code imports, or reaches through a module that it imports.

    Third-party modules are their own business; a module of ours is imported relatively or as `latentrt.*`.
    """
    nodes = list(ast.walk(ast.parse(code)))
    modules = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("latentrt")):
            yield from filter(is_private, [*(node.module or "").split("."), *(alias.name for alias in node.names)])
            modules |= {alias.asname or alias.name for alias in node.names if alias.name.islower()}
        elif isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.startswith("latentrt")]
            yield from (part for name in ours for part in name.split(".") if is_private(part))
    for node in nodes:
        match node:
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in modules and is_private(name):
                yield f"{module}.{name}"


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def has_no_code(source: str) -> bool:
    return all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in ast.parse(source).body)
