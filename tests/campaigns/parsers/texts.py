"""Short texts from files and from the command line: numbers, sizes, memory, rates, colours, digests, names."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from latentrt.cli.options.types import Capability, FrameRate, Memory, SizeType
from latentrt.export.checkpoints.hub_address import hub_address
from latentrt.runtime.bundle.digest import checked_digest
from latentrt.runtime.errors import CheckpointError, LatentRTError
from latentrt.runtime.media.alpha import background_colour
from latentrt.runtime.system.budget import parse_memory
from latentrt.runtime.system.number_text import parse_fraction, parse_whole_number

from ..material import Material
from ..mutations import mutated_text
from .subject import Maker, Subject

__all__ = ["TEXTS"]


def _text_parser(parse: Callable[[str], Any], *seeds: str, refusals: tuple[type[BaseException], ...]) -> Maker:
    def make(material: Material, place: Path) -> Subject:
        def read(path: Path) -> Any:
            return parse(path.read_bytes().decode("utf-8", "surrogateescape"))

        named = {f"{number}.txt": seed.encode() for number, seed in enumerate(seeds)}
        return Subject(named, read, mutated_text, refusals, is_sentence=False)

    return make


def _option(kind: Any, *seeds: str) -> Maker:
    """A parameter type of the command line."""
    return _text_parser(lambda text: kind.convert(text, None, None), *seeds, refusals=(click.UsageError,))


TEXTS: Mapping[str, Maker] = {
    "number": _text_parser(parse_whole_number, "0", "42", "123456789012345678", refusals=(ValueError,)),
    "fraction": _text_parser(parse_fraction, "24", "29.97", "30000/1001", "1e3", ".5", refusals=(ValueError,)),
    "memory": _text_parser(parse_memory, "8GiB", "800 MiB", "2.5GB", "12345678", refusals=(LatentRTError,)),
    "memory_option": _option(Memory(), "8GiB", "800 MiB", "2.5GB", "12345678"),
    "size_option": _option(SizeType(("HxW", "HxWxT")), "512x768", "384x544x121"),
    "tile_option": _option(SizeType(("HxW", "HxWxT", "auto")), "512x768", "384x544x121", "auto"),
    "overlap_option": _option(SizeType(("HxW", "HxWxT", "N"), least=0), "64x64", "64", "64x64x8"),
    "rate_option": _option(FrameRate(), "24", "29.97", "30000/1001"),
    "capability_option": _option(Capability(), "8.9", "12.0"),
    "background": _text_parser(
        background_colour, "white", "#80ff00", "rgb(0, 128, 255)", "hsl(0, 100%, 50%)", refusals=(LatentRTError,)
    ),
    "digest": _text_parser(checked_digest, f"sha256:{'0123456789abcdef' * 4}", refusals=(LatentRTError,)),
    "hub_name": _text_parser(
        hub_address,
        "org/name",
        "hf://org/name@main/vae",
        "org/name/ae.safetensors",
        "https://huggingface.co/org/name/blob/main/ae.safetensors",
        "./a/b",
        refusals=(CheckpointError,),
    ),
}
"""Parsers of short texts."""
