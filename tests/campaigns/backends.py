"""The bundles and backends that campaigns of load run: each bundle of the demo on each backend of this machine."""

from collections.abc import Mapping
from pathlib import Path

from .material import Material

__all__ = ["LOADS", "SIZES", "bundle_of_load"]

SIZES: Mapping[str, list[tuple[int, ...]]] = {
    "image": [(3, 3), (6, 6), (12, 12), (8, 5)],
    "video": [(1, 2, 2), (2, 3, 2), (3, 4, 4), (4, 3, 5)],
}
"""Sizes of latents in cells, by kind."""

LOADS: Mapping[str, tuple[str, str]] = {
    f"{kind}_{backend}": (kind, backend) for kind in ("image", "video") for backend in ("onnxruntime", "openvino")
}
"""Kind and backend by the name of the group."""


def bundle_of_load(group: str, work: str) -> tuple[Path, str, str]:
    """The bundle, the kind and the backend of a group."""
    kind, backend = LOADS[group]
    material = Material(Path(work))
    return (material.image_bundle if kind == "image" else material.video_bundle), kind, backend
