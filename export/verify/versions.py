"""The versions that a comparison depends on: of latentrt, of PyTorch and of the backend's library."""

from ...runtime.extras import installed_version, packages_of

__all__ = ["versions_with"]

_MODULES = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
    "torch": "torch",
}
"""By the name of a backend: the module of its library."""


def versions_with(backend: str) -> dict[str, str | None]:
    """The installed versions, by the package's name on PyPI.

    Args:
        backend: the name of a backend, with or without its provider or device, such as "onnxruntime:cpu".
    """
    module = _MODULES.get(backend.partition(":")[0])
    packages = ["latentrt", "torch", *(packages_of(module) if module else ())]
    return {name: installed_version(name) for name in dict.fromkeys(packages)}
