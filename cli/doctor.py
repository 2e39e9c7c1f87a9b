"""`latentrt doctor`: show what can run on this machine, and what is missing."""

import os
import platform
from pathlib import Path
from typing import Any

import click

from ..runtime.arrays.kinds import DTYPES
from ..runtime.backends.choose import backends_here
from ..runtime.backends.cuda.devices import compute_capability, has_nvidia_driver
from ..runtime.errors import BackendUnavailable
from ..runtime.extras import installed_version, packages_of
from ..runtime.system.processor import usable_cores
from .options.common import as_json
from .options.types import SizeType
from .printing.bundle_backends import bundle_lines, bundle_report
from .printing.terminal import echo, emit_json

__all__ = ["doctor"]

_RUNTIMES = ("onnxruntime", "onnxruntime-gpu")
_EXTRAS = {
    "numpy": "",
    "safetensors": "",
    "onnxruntime": "cpu",
    "onnxruntime-gpu": "gpu",
    "openvino": "openvino",
    "torch": "export",
    "onnx": "export",
    "tensorrt": "tensorrt",
    "tensorrt-rtx-cu13": "tensorrt-rtx",
    "polygraphy": "tensorrt-rtx",
    "cuda-core": "tensorrt-rtx",
    "cuda-bindings": "tensorrt-rtx",
    "pillow": "media",
    "av": "media",
    "matplotlib": "plot",
    "msgpack": "flax",
    "huggingface_hub": "hub",
}


@click.command(epilog="Example: latentrt doctor bundle --dtype float16 --size 1024x768")
@click.argument("bundle", type=click.Path(path_type=Path), required=False)
@click.option(
    "--dtype", type=click.Choice(DTYPES), help="With BUNDLE: the precision of the computation.  [default: float32]"
)
@click.option(
    "--size",
    type=SizeType(("HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES")),
    metavar="HEIGHTxWIDTH[xFRAMES]",
    help="With BUNDLE: the size of the picture or clip.",
)
@as_json
def doctor(bundle: Path | None, dtype: str | None, size: tuple[int, ...] | None, json_output: bool) -> None:
    """Show which backends can run on this machine.

    For each other backend the report says what is missing. It also lists the installed packages and the commands that
    are ready.

    With BUNDLE it shows instead which backend a call of this bundle takes, and for each other backend the reason why
    the call does not take it.
    """
    if bundle is not None:
        of_bundle = bundle_report(bundle, dtype or "float32", size)
        emit_json(of_bundle) if json_output else echo(*bundle_lines(of_bundle))
        return
    if dtype is not None or size is not None:
        raise click.UsageError("--dtype and --size are those of a call: give BUNDLE too")
    try:
        gpu = f"NVIDIA, compute capability {compute_capability()}" if has_nvidia_driver() else None
    except BackendUnavailable as error:  # there is a driver, but no cuda-core to ask it
        gpu = f"NVIDIA ({error})"
    report = {
        "latentrt": installed_version("latentrt"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": usable_cores(),
        "machine_cores": os.cpu_count(),
        "gpu": gpu,
        "packages": {name: installed_version(name) for name in _EXTRAS},
        "conflicts": _conflicts(),
        "backends": [{"name": name, "usable": why is None, "reason": why} for name, why in backends_here()],
        "commands": {
            "export": _usable("torch", "onnx"),
            "build": any(_usable(library, "polygraphy") for library in ("tensorrt", "tensorrt-rtx-cu13")),
            "verify": _usable("torch") and any(why is None for _, why in backends_here()),
            "demo": _usable("torch", "onnx", "pillow", "av") and any(why is None for _, why in backends_here()),
            "encode, decode": any(why is None for _, why in backends_here()),
            "pictures": _usable("pillow"),
            "clips": _usable("av"),
        },
    }
    if json_output:
        emit_json(report)
    else:
        echo(*_lines(report))


def _lines(report: dict[str, Any]) -> list[str]:
    cores = f"{report['cores']} cores"
    if report["cores"] != report["machine_cores"]:
        cores = f"{report['cores']} of {report['machine_cores']} cores (affinity or CPU quota)"
    lines = [f"latentrt {report['latentrt']}, Python {report['python']}, {report['system']}, {cores}"]
    lines.append(f"GPU: {report['gpu'] or 'none (no NVIDIA driver answers)'}")
    lines.append("Backends")
    for backend in report["backends"]:
        state = "usable" if backend["usable"] else f"no: {backend['reason']}"
        lines.append(f"  {backend['name']:<22} {state}")
    lines.append("Packages")
    for name, version in report["packages"].items():
        if name.startswith("onnxruntime") and version is None and any(_usable(other) for other in _RUNTIMES):
            continue  # the two onnxruntimes exclude each other
        hint = f'not installed (pip install "latentrt[{_EXTRAS[name]}]")'
        lines.append(f"  {name:<22} {version or hint}")
    lines += [f"  {conflict}" for conflict in report["conflicts"]]
    lines.append("Commands")
    for name, usable in report["commands"].items():
        lines.append(f"  {name:<22} {'ready' if usable else 'something above is missing'}")
    return lines


def _conflicts() -> list[str]:
    """Packages that bring the same module, and hide each other."""
    both = packages_of("onnxruntime")
    if len(both) < 2:
        return []
    names = " ".join(both)
    return [f"{' and '.join(both)} hide each other: run `pip uninstall {names}`, and install one of them again"]


def _usable(*packages: str) -> bool:
    return all(installed_version(name) is not None for name in packages)
