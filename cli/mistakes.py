"""Mistakes of a first command line, each with the command to type: swapped arguments, and files of another kind."""

import shlex
from pathlib import Path

from ..runtime.bundle.not_a_bundle import MANIFEST_NAME
from ..runtime.errors import InputError, OutputError
from ..runtime.media.clips.clip_reader import CLIP_ENDINGS
from ..runtime.media.pictures.picture_file import PICTURE_ENDINGS
from ..runtime.system.file_kinds import kind_of

__all__ = ["check_input", "check_latents", "check_order"]

_LATENTS = ".safetensors"


def check_order(command: str, bundle: Path, other: Path, output: Path) -> None:
    """Refuse a bundle that comes after the other argument.

    Raises:
        InputError: `bundle` is no bundle, and `other` is one.
    """
    if not _is_bundle(bundle) and _is_bundle(other):
        raise InputError(f"the bundle comes first: `{_typed(command, other, bundle, '-o', output)}`")


def check_latents(bundle: Path, latents: Path) -> None:
    """Refuse a picture or a clip where latents are wanted.

    Raises:
        InputError: the name of the file is that of a picture or clip.
    """
    if (
        latents.suffix.lower() in (*PICTURE_ENDINGS, *CLIP_ENDINGS)
        and latents.is_file()
        and not _is_safetensors(latents)
    ):
        kind = "picture" if latents.suffix.lower() in PICTURE_ENDINGS else "clip"
        target = latents.with_suffix(_LATENTS).name
        raise InputError(
            f"{latents} is a {kind}, and decode takes latents: encode it first, as in "
            f"`{_typed('encode', bundle, latents, '-o', target)}`"
        )


def check_input(bundle: Path, source: Path, output: Path) -> None:
    """Refuse latents where a picture or a clip is wanted, and an output that is a picture or a clip.

    Raises:
        InputError: the input holds latents. OutputError: the output is named as a picture or a clip.
    """
    if source.suffix.lower() == _LATENTS and source.is_file() and _is_safetensors(source):
        target = output if output.suffix.lower() in (*PICTURE_ENDINGS, *CLIP_ENDINGS) else "OUTPUT"
        raise InputError(
            f"{source} holds latents, and encode takes pictures and clips: decode it, as in "
            f"`{_typed('decode', bundle, source, '-o', target)}`"
        )
    if output.suffix.lower() in (*PICTURE_ENDINGS, *CLIP_ENDINGS) and source.is_file():
        raise OutputError(
            f"cannot write {output}: latents files end in {_LATENTS}, so name one, as in "
            f"`{_typed('encode', bundle, source, '-o', output.with_suffix(_LATENTS))}`"
        )


def _is_bundle(path: Path) -> bool:
    return (path / MANIFEST_NAME).is_file()


def _is_safetensors(path: Path) -> bool:
    kind = kind_of(path)
    return kind is not None and kind.name == "safetensors"


def _typed(*words: object) -> str:
    return shlex.join(["latentrt", *map(str, words)])
