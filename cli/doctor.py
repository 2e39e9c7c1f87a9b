"""`latentrt doctor`: show what can run on this machine, and what is missing."""

import os
import platform
from typing import Any

import click

from ..runtime.backends.choose import backends_here
from ..runtime.backends.cuda.devices import compute_capability, has_nvidia_driver
from ..runtime.errors import BackendUnavailable
from ..runtime.extras import installed_version
from .options.common import as_json
from .terminal import echo, emit_json

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


@click.command(epilog="Example: latentrt doctor --json")
@as_json
def doctor(json_output: bool) -> None:
    """Show which backends can run on this machine.

    For each other backend the report says what is missing. It also lists the installed packages and the commands that
    are ready.
    """
    try:
        gpu = f"NVIDIA, compute capability {compute_capability()}" if has_nvidia_driver() else None
    except BackendUnavailable as error:  # there is a driver, but no cuda-core to ask it
        gpu = f"NVIDIA ({error})"
    report = {
        "latentrt": installed_version("latentrt"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "gpu": gpu,
        "packages": {name: installed_version(name) for name in _EXTRAS},
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
    lines = [f"latentrt {report['latentrt']}, Python {report['python']}, {report['system']}, {report['cores']} cores"]
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
    lines.append("Commands")
    for name, usable in report["commands"].items():
        lines.append(f"  {name:<22} {'ready' if usable else 'something above is missing'}")
    return lines


def _usable(*packages: str) -> bool:
    return all(installed_version(name) is not None for name in packages)
