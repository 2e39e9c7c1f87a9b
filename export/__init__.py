"""Checkpoint in, bundle out: what the commands export, convert, build and verify do, as Python functions.

    export_bundle        a checkpoint becomes a bundle: ONNX graphs, weights and a manifest
    build_engines        the graphs of a bundle become TensorRT engines in the bundle
    verify_bundle        a bundle is compared with the PyTorch model on every backend
    convert_checkpoint   a checkpoint becomes a diffusers folder

Each function takes one value of settings and returns one value that says what was done. Each name below is imported
when it is first used, so `import latentrt.export` imports neither PyTorch nor NumPy.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bundle import ExportSettings, export_bundle
    from .checkpoints import SourceOptions
    from .convert import ConversionReport, ConvertSettings, convert_checkpoint
    from .engines.build import BuiltEngine, build_engines
    from .engines.settings import BuildSettings, Extent
    from .verify.parity import verify_bundle
    from .verify.report import Comparison, NotCompared, ParityReport
    from .verify.settings import VerifySettings

__all__ = [
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
]

_MODULES = {
    "BuildSettings": "engines.settings",
    "BuiltEngine": "engines.build",
    "Comparison": "verify.report",
    "ConversionReport": "convert",
    "ConvertSettings": "convert",
    "ExportSettings": "bundle",
    "Extent": "engines.settings",
    "NotCompared": "verify.report",
    "ParityReport": "verify.report",
    "SourceOptions": "checkpoints",
    "VerifySettings": "verify.settings",
    "build_engines": "engines.build",
    "convert_checkpoint": "convert",
    "export_bundle": "bundle",
    "verify_bundle": "verify.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
