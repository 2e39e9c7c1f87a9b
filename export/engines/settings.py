"""How to build engines: the user's settings, checked before anything is compiled."""

from dataclasses import dataclass
from typing import Any

from ...runtime.arrays.kinds import Dtype
from ...runtime.backends.names import LIBRARIES, EngineBackendName
from ...runtime.errors import BackendUnavailable, InputError
from ...runtime.execution.stream_lengths import ENGINE_FRAMES

__all__ = ["LARGEST_PICTURE", "PORTABLE", "BuildSettings", "Extent"]

LARGEST_PICTURE = (2048, 2048)
PORTABLE = ("8.0", "8.6", "8.9", "12.0")  # tensorrt-rtx: one engine from Ampere to Blackwell
_RTX_REFUSALS = {
    # Tried with 1.7.1 on a machine without a driver: each fails late, or does nothing and says nothing.
    "strip_weights": "--strip-weights: tensorrt-rtx 1.7.1 does not build a stripped engine that can be refitted",
    "refit": "--refit: tensorrt-rtx 1.7.1 does not build a refittable engine without a GPU",
    "version_compatible": "--version-compatible: engines of tensorrt-rtx 1.7.1 belong to their version",
    "hardware_compatible": "--hardware-compatible: tensorrt-rtx takes --compute-capability, several in one engine",
    "timing_cache": "--timing-cache: tensorrt-rtx times nothing while it builds, its kernels are made at run time",
}
_LEVELS = range(6)


@dataclass(frozen=True)
class Extent:
    """The size of a sample.

    Attributes:
        batch: the number of samples.
        height: in pixels.
        width: in pixels.
        frames: the number of frames; 1 for pictures.
    """

    batch: int
    height: int
    width: int
    frames: int = 1


@dataclass(frozen=True)
class BuildSettings:
    """What `build_engines` builds.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx".
        dtypes: the precisions of the graphs to build.
        components: the components to build.
        tiles: the largest sample of each profile. A profile starts at the smallest legal size unless `static`. () is
            512x512 pixels, and 17 frames for video.
        static: build for the tiles' own sizes only.
        whole: build the graphs that run a whole sample at once.
        shapes: instead of `tiles`, each profile as its (min, opt, max) sizes.
        stream: for video models: also build the graphs that run a clip chunk by chunk.
        chunk: with `stream`: the most frames of a chunk.
        exact: also build the graphs that run a picture in strips, or those of streams, which run a clip in strips;
            `tiles` are the largest strips.
        picture: for image models, with `exact`: (height, width) of the largest picture, in pixels.
        compute_capabilities: for tensorrt-rtx: the GPUs to build for, in one engine, such as "8.9". () is 8.0 to 12.0.
            tensorrt builds for this machine's GPU.
        optimization_level: 0 to 5, how long the library searches for fast kernels; None is the library's own level.
        workspace_bytes: the most scratch memory of one layer; None is no limit.
        tf32: let float32 graphs multiply with 10 bits of mantissa.
        strip_weights: for tensorrt: leave the weights out of the engine; loading takes them from the bundle.
        refit: for tensorrt: build an engine that takes the weights of any bundle with the same graph.
        version_compatible: for tensorrt: build an engine that runs in later versions of the library too.
        hardware_compatible: for tensorrt: build an engine that runs on every GPU since Ampere.
        timing_cache: for tensorrt: keep the timings of kernels for later builds; None keeps them.
    """

    backend: EngineBackendName
    dtypes: tuple[Dtype, ...] = ("float32",)
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
        """These settings, after a check that they go together.

        Raises:
            InputError: no library takes a value. BackendUnavailable: the chosen library does not take a value.
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
        """The settings that change an engine's content, apart from profiles and capabilities."""
        return {
            "optimization_level": self.optimization_level,
            "workspace_bytes": self.workspace_bytes,
            "tf32": self.tf32,
            "strip_weights": self.strip_weights,
            "refit": self.refit,
            "version_compatible": self.version_compatible,
            "hardware_compatible": self.hardware_compatible,
        }
