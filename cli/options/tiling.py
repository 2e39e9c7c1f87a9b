"""The options of tiles, strips and streams, for every command that can work in pieces."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import click

from ...export.benchmark.tiles import tiling_arguments
from ...runtime.autoencoders.autoencoder import Autoencoder
from ...runtime.calls.strip_settings import STORAGES
from ...runtime.errors import InputError
from .renamed import RenamedOption
from .types import Memory, SizeType

__all__ = [
    "TILED_BLENDS",
    "Way",
    "enable_tiling",
    "exact_option",
    "memory_option",
    "tiles_wanted",
    "tiling_options",
    "way_options",
]

Function = TypeVar("Function", bound=Callable[..., Any])
TILED_BLENDS = ("linear", "diffusers", "ltx2")

memory_option = click.option(
    "--memory",
    type=Memory(),
    help="The most memory of a call, such as 8GiB. The planner chooses how to run, exactly if an exact way fits.",
)

exact_option = click.option(
    "--require-exact",
    "exact",
    is_flag=True,
    help="Refuse a call that would approximate. With --memory the error names the least budget that is exact.",
)


def tiling_options(command: Function) -> Function:
    """--tile, --overlap and --blend. `enable_tiling` takes their values."""
    for option in (
        click.option(
            "--blend",
            type=click.Choice(TILED_BLENDS),
            help="How tiles are blended.  [default: linear]",
        ),
        click.option(
            "--overlap",
            type=SizeType(("LENGTH", "HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES"), least=0),
            metavar="HEIGHTxWIDTH[xFRAMES]",
            help="The overlap of tiles; one number is for height and width.  [default: the blend's]",
        ),
        click.option(
            "--tile",
            type=SizeType(("HEIGHTxWIDTH", "HEIGHTxWIDTHxFRAMES", "auto")),
            metavar="HEIGHTxWIDTH[xFRAMES]",
            help='Work in tiles of this many pixels (and frames), in bounded memory. "auto" takes the blend\'s size.',
        ),
    ):
        command = option(command)
    return command


def _strip_options(command: Function) -> Function:
    """--strips, --strip and --storage."""
    for option in (
        click.option(
            "--storage",
            type=click.Choice(STORAGES),
            help="With --strips: how activations are kept between the steps. float16 takes half the memory and "
            "approximates.  [default: float32]",
        ),
        click.option(
            "--strip",
            type=SizeType(("HEIGHT", "HEIGHTxWIDTH")),
            metavar="HEIGHT[xWIDTH]",
            help="With --strips: the pixel rows of a strip, or its rows and columns.  [default: what memory allows]",
        ),
        click.option(
            "--strips",
            cls=RenamedOption,
            former="--exact",
            since="0.1",
            is_flag=True,
            help="Work in strips, with the pixels of a single pass, in bounded memory at any size. Clips stream then.",
        ),
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class Way:
    """How calls run, as the options say: whole, chunk by chunk, in tiles, or in strips.

    Attributes:
        stream: --stream.
        tile: --tile, (H, W) or (H, W, T) in pixels and frames; () for the blend's own size.
        overlap: --overlap, (N,), (H, W) or (H, W, T) in pixels and frames.
        blend: --blend.
        strips: --strips.
        strip: --strip, (rows,) or (rows, columns) in pixels.
        storage: --storage.
    """

    stream: bool
    tile: tuple[int, ...] | None
    overlap: tuple[int, ...] | None
    blend: str | None
    strips: bool
    strip: tuple[int, ...] | None
    storage: str | None

    def enable(self, vae: Autoencoder, memory: str | None = None) -> None:
        """Make the autoencoder's calls run this way. `memory` is the value of --memory.

        Raises:
            click.UsageError: options that do not go together. InputError: the bundle's model does not take an option.
        """
        if not self._enable_strips(vae):
            enable_tiling(vae, self.tile, self.overlap, self.blend, memory=memory)
        if self.stream:
            self._enable_streaming(vae)

    def _enable_strips(self, vae: Autoencoder) -> bool:
        if not self.strips:
            if self.strip is not None:
                raise click.UsageError(
                    "--strip is the size of strips: give --strips too, or --tile for overlapping tiles"
                )
            if self.storage is not None:
                raise click.UsageError("--storage is for the activations of strips: give --strips too")
            return False
        if any(option is not None for option in (self.tile, self.overlap, self.blend)):
            raise click.UsageError("--strips needs no --tile, --overlap or --blend: strips do not overlap")
        if not (vae.config.supports_strips or vae.config.supports_streams):
            raise InputError(f"--strips: {vae.family} does not run in strips; leave it out")
        strip = self.strip[0] if self.strip is not None and len(self.strip) == 1 else self.strip
        settings: dict[str, Any] = {"exact": True, "strip": strip, "storage": self.storage or STORAGES[0]}
        vae.enable_tiling(**settings)
        return True

    def _enable_streaming(self, vae: Autoencoder) -> None:
        if self.tile is not None and len(self.tile) == 3:
            raise click.UsageError("--stream needs no tiles in time: give --tile HEIGHTxWIDTH, or leave --stream out")
        if not vae.config.supports_streams:
            raise InputError(f"--stream is for video models, and the bundle is {vae.family}: leave it out")
        vae.enable_streaming()


def way_options(stream_help: str) -> Callable[[Function], Function]:
    """--stream with that help, and the options of tiles and strips, as one `way`."""

    def packing(command: Function) -> Function:
        @functools.wraps(command)
        def packed(*arguments: Any, **options: Any) -> Any:
            way = Way(**{field.name: options.pop(field.name) for field in fields(Way)})
            return command(*arguments, way=way, **options)

        options = tiling_options(_strip_options(packed))
        return click.option("--stream", is_flag=True, help=stream_help)(options)  # type: ignore[return-value]

    return packing


def tiles_wanted(
    tile: tuple[int, ...] | None, overlap: tuple[int, ...] | None, blend: str | None, memory: str | None = None
) -> bool:
    """Whether the options ask for tiles.

    Raises:
        click.UsageError: tiles together with `memory`, or an overlap without the size of a tile.
    """
    if tile is None and overlap is None and blend is None:
        return False
    if memory is not None:
        raise click.UsageError("--memory chooses the tiles: leave --tile, --overlap and --blend out, or --memory")
    if overlap is not None and not tile:
        raise click.UsageError("--overlap needs --tile HEIGHTxWIDTH[xFRAMES]: an overlap is a part of a tile")
    return True


def enable_tiling(
    vae: Autoencoder,
    tile: tuple[int, ...] | None,
    overlap: tuple[int, ...] | None,
    blend: str | None,
    *,
    memory: str | None = None,
) -> bool:
    """Enable tiling as the options say. Returns False if they ask for no tiles.

    `memory` is the value of --memory, which does not go with tiles.

    Raises:
        click.UsageError: options that do not go together. InputError: the bundle's model does not take an option.
    """
    if not tiles_wanted(tile, overlap, blend, memory):
        return False
    arguments = tiling_arguments(vae, tile or (), overlap or (), blend or "linear")
    vae.enable_tiling(**arguments)
    return True
