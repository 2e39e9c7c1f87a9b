"""--stream, --tile, --overlap, --blend, --exact, --strip, --storage: for every command that can work in pieces."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from ..export.benchmark.tiles import TILED_AXES, tiling_arguments
from ..runtime.autoencoders.autoencoder import Autoencoder
from ..runtime.calls.strip_settings import STORAGES
from ..runtime.errors import InputError
from .options import Memory, Size

__all__ = [
    "TILED_BLENDS",
    "Way",
    "enable_streaming",
    "enable_tiling",
    "memory_option",
    "tiles_wanted",
    "tiling_options",
    "way_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])
TILED_BLENDS = ("linear", "diffusers", "ltx2")


def tiling_options(command: Function) -> Function:
    """--tile, --overlap and --blend; `enable_tiling` takes what they give."""
    for option in (
        click.option(
            "--blend",
            type=click.Choice(TILED_BLENDS),
            help="How tiles are put together.  [default: linear]",
        ),
        click.option(
            "--overlap",
            type=Size(("HxW", "HxWxT", "N"), least=0),
            metavar="HxW[xT]",
            help="By how much tiles overlap; one number: height and width.  [default: the blend's]",
        ),
        click.option(
            "--tile",
            type=Size(("HxW", "HxWxT", "auto")),
            metavar="HxW[xT]",
            help='Work in tiles of so many pixels (and frames): bounded memory. "auto" takes the blend\'s own size.',
        ),
    ):
        command = option(command)
    return command


def _exact_options(command: Function) -> Function:
    """--exact, --strip and --storage."""
    for option in (
        click.option(
            "--storage",
            type=click.Choice(STORAGES),
            help="With --exact: how activations wait between steps; float16 takes half the room and approximates.  "
            "[default: float32]",
        ),
        click.option(
            "--strip",
            type=Size(("N", "HxW")),
            metavar="H[xW]",
            help="With --exact: pixel rows of a strip, or tiles in two dimensions.  [default: what memory allows]",
        ),
        click.option(
            "--exact",
            is_flag=True,
            help="Images: in strips with the pixels of a single pass, in bounded memory, whatever the size.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Way:
    """How calls run, as the options say: clips chunk by chunk, in tiles, in exact strips."""

    stream: bool
    tile: tuple[int, ...] | None
    overlap: tuple[int, ...] | None
    blend: str | None
    exact: bool
    strip: tuple[int, ...] | None
    storage: str | None

    def enable(self, vae: Autoencoder, memory: str | None = None) -> None:
        """Let calls run so. `memory`: as for `enable_tiling`.

        Raises:
            click.UsageError: options that do not go together. InputError: what this bundle's model does not take.
        """
        strips = {"exact": self.exact, "strip": self.strip, "storage": self.storage}
        enable_tiling(vae, self.tile, self.overlap, self.blend, memory=memory, **strips)  # type: ignore[arg-type]
        if self.stream:
            enable_streaming(vae, self.tile)


def way_options(stream_help: str) -> Callable[[Function], Function]:
    """--stream with that help, and the options of tiles and exact strips, as one `way`."""

    def packing(command: Function) -> Function:
        @functools.wraps(command)
        def packed(*arguments: Any, **options: Any) -> Any:
            way = Way(**{field.name: options.pop(field.name) for field in fields(Way)})
            return command(*arguments, way=way, **options)

        options = tiling_options(_exact_options(packed))
        return click.option("--stream", is_flag=True, help=stream_help)(options)  # type: ignore[return-value]

    return packing


memory_option = click.option(
    "--memory",
    type=Memory(),
    help="What the call may take, such as 8GiB: the planner chooses how to run, exactly where that fits.",
)


def tiles_wanted(
    tile: tuple[int, ...] | None, overlap: tuple[int, ...] | None, blend: str | None, memory: str | None = None
) -> bool:
    """Whether the options ask for tiles.

    Raises:
        click.UsageError: `memory` beside them, or an overlap of tiles whose size is not given.
    """
    if tile is None and overlap is None and blend is None:
        return False
    if memory is not None:
        raise click.UsageError("--memory chooses the tiles: leave --tile, --overlap and --blend out, or --memory")
    if overlap is not None and not tile:
        raise click.UsageError("--overlap needs --tile HxW[xT]: an overlap is a part of a tile")
    return True


def enable_tiling(
    vae: Autoencoder,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    *,
    exact: bool = False,
    strip: tuple[int, ...] | None = None,
    storage: str | None = None,
    memory: str | None = None,
) -> bool:
    """Enable tiling as the options say; False where none of them was given. `memory`: what --memory gave, which tiles
    do not go with; of exact strips the planner makes the most.

    Raises:
        click.UsageError: options that do not go together. InputError: what this bundle's model does not take.
    """
    if strip is not None and not exact:
        raise click.UsageError("--strip is the size of exact strips: give --exact too, or --tile for overlapping tiles")
    if storage is not None and not exact:
        raise click.UsageError("--storage is for activations of exact strips: give --exact too")
    if exact:
        if tile is not None or overlap is not None or blend is not None:
            raise click.UsageError("--exact needs no --tile, --overlap or --blend: nothing overlaps")
        if not vae.config.supports_strips:
            raise InputError(f"--exact is for image models, and the bundle is {vae.family}: leave it out")
        rows = strip[0] if strip is not None and len(strip) == 1 else strip
        settings: dict[str, Any] = {"exact": True, "strip": rows, "storage": storage or STORAGES[0]}
        vae.enable_tiling(**settings)
        return True
    if not tiles_wanted(tile, overlap, blend, memory):
        return False
    arguments = tiling_arguments(vae, tile or (), overlap or (), blend or "linear")
    for axis, size in zip(TILED_AXES, tile or (), strict=False):
        stride = arguments.get(f"tile_sample_stride_{axis}", 1)
        if stride < 1:
            raise click.UsageError(f"--overlap: {size - stride} is not below the tile's {size} along {axis}")
    vae.enable_tiling(**arguments)
    return True


def enable_streaming(vae: Autoencoder, tile: tuple[int, ...] | None) -> None:
    """Enable streaming as --stream says, with tiles of height and width at most.

    Raises:
        click.UsageError: `tile` has frames. InputError: not a video model.
    """
    if tile is not None and len(tile) == 3:
        raise click.UsageError("--stream needs no tiles in time: give --tile HxW, or leave --stream out")
    clips = vae.clip_calls
    if clips is None:
        raise InputError(f"--stream is for video models, and the bundle is {vae.family}: leave it out")
    clips.enable_streaming()
