"""How to build engines: what the user chose, checked before anything is compiled."""

from dataclasses import dataclass
from typing import Any

from ...runtime.errors import BackendUnavailable, InputError
from ...runtime.execution.stream_lengths import ENGINE_FRAMES

__all__ = ["LARGEST_PICTURE", "LIBRARIES", "PORTABLE", "BuildSettings", "Extent"]

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
LARGEST_PICTURE = (2048, 2048)
PORTABLE = ("8.0", "8.6", "8.9", "12.0")  # tensorrt-rtx: one engine from Ampere to Blackwell
_RTX_REFUSALS = {
    # Tried with 1.7.1 on a machine without a driver; each would else fail late, or do nothing without a word.
    "strip_weights": "--strip-weights: tensorrt-rtx 1.7.1 does not build a stripped engine that can be refitted",
    "refit": "--refit: tensorrt-rtx 1.7.1 does not build a refittable engine without a GPU",
    "version_compatible": "--version-compatible: engines of tensorrt-rtx 1.7.1 belong to their version",
    "hardware_compatible": "--hardware-compatible: tensorrt-rtx takes --compute-capability, several in one engine",
    "timing_cache": "--timing-cache: tensorrt-rtx times nothing while it builds, its kernels are made at run time",
}
_LEVELS = range(6)


@dataclass(frozen=True)
class Extent:
    """A sample's size: batch, frames (1 for pictures), height and width in pixels."""

    batch: int
    height: int
    width: int
    frames: int = 1


@dataclass(frozen=True)
class BuildSettings:
    """What to build. `tiles` are the largest sample of each profile, which starts at the smallest legal size, or is
    static; `shapes` are profiles as (min, opt, max) instead. `compute_capabilities` () is the library's own choice:
    8.0 to 12.0 in one engine for tensorrt-rtx, this machine's GPU for tensorrt.

    `stream`: also engines of a video model's streaming graphs, for steps of at most `chunk` frames of the clip.
    `exact`: also engines of an image model's steps of exact strips, for strips of at most the tiles' size of pictures
    of at most `picture` (height, width) pixels. Both in the precisions of `dtypes`. `whole` False: only those.
    """

    backend: str
    dtypes: tuple[str, ...] = ("float32",)
    components: tuple[str, ...] = ("encoder", "decoder")
    tiles: tuple[Extent, ...] = ()
    static: bool = False
    whole: bool = True
    shapes: tuple[tuple[Extent, Extent, Extent], ...] = ()
    stream: bool = False
    chunk: int = ENGINE_FRAMES
    exact: bool = False
    picture: tuple[int, int] = LARGEST_PICTURE
    compute_capabilities: tuple[str, ...] = ()
    optimization_level: int | None = None
    workspace_bytes: int | None = None
    tf32: bool = False
    strip_weights: bool = False
    refit: bool = False
    version_compatible: bool = False
    hardware_compatible: bool = False
    timing_cache: bool | None = None

    def checked(self) -> "BuildSettings":
        """These settings, if they go together.

        Raises:
            InputError: a value that no library takes. BackendUnavailable: one that this library does not.
        """
        if self.backend not in LIBRARIES:
            raise InputError(f"--backend must be one of {', '.join(LIBRARIES)}, got {self.backend!r}")
        if self.optimization_level is not None and self.optimization_level not in _LEVELS:
            raise InputError(f"--optimization-level must be 0 to 5, got {self.optimization_level}")
        if self.workspace_bytes is not None and self.workspace_bytes < 1:
            raise InputError(f"--workspace must be at least one byte, got {self.workspace_bytes}")
        if self.chunk < 1:
            raise InputError(f"--chunk must be at least one frame, got {self.chunk}")
        if min(self.picture) < 1:
            raise InputError(f"--picture must be a height and a width in pixels, got {self.picture}")
        if self.backend == "tensorrt-rtx":
            for name, reason in _RTX_REFUSALS.items():
                if getattr(self, name):
                    raise BackendUnavailable(f"{reason}; build without it, or with --backend tensorrt")
        elif self.compute_capabilities:
            raise BackendUnavailable(
                "--compute-capability: tensorrt times its kernels on the GPU that it builds for, so build there; "
                "tensorrt-rtx builds for other GPUs"
            )
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        return self.compute_capabilities or (PORTABLE if self.backend == "tensorrt-rtx" else ())

    def flags(self) -> dict[str, Any]:
        """What of these settings changes an engine's content, beside profiles and capabilities."""
        return {
            "optimization_level": self.optimization_level,
            "workspace_bytes": self.workspace_bytes,
            "tf32": self.tf32,
            "strip_weights": self.strip_weights,
            "refit": self.refit,
            "version_compatible": self.version_compatible,
            "hardware_compatible": self.hardware_compatible,
        }
