"""Checks of an output before anything runs: whether it may be replaced, and whether it can hold the result."""

import os
import re
from pathlib import Path

from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError, OutputError
from ..extras import require
from ..media.pictures.picture_file import PICTURE_ENDINGS
from ..system.outputs.folder_filling import folder_entries
from ..system.outputs.leftovers import remove_leftovers
from ..system.outputs.partial_output import output_ending, require_folder, translated_errors

__all__ = ["STANDARD_OUTPUT", "check_destination", "check_replaceable"]

STANDARD_OUTPUT = Path("-")
"""The output that means standard output."""


def check_replaceable(output: str | Path, overwrite: bool, source: Path | None = None) -> None:
    """Refuse an output that exists and may not be replaced.

    Args:
        output: the output.
        overwrite: whether a file may be replaced, or a folder that holds nothing except PNG files with the names that
            LatentRT gives them. An empty folder may always be replaced.
        source: the file that is read, which is never replaced.

    Raises:
        OutputError: the output exists and may not be replaced.
    """
    ending, names_folder, output = output_ending(output), str(output).endswith(("/", os.sep)), Path(output)
    with translated_errors(output):
        remove_leftovers(output)
        if not os.path.lexists(output):
            return
        entries = folder_entries(output) if output.is_dir() else None
    if entries == []:
        return
    if not overwrite:
        raise OutputError(f"{output} exists already: give another name, delete it first, or replace it with --force")
    if source is not None and output.exists() and source.exists() and output.samefile(source):
        raise OutputError(f"{output} is the file that is read: give another name")
    if entries is None:
        if not ending:
            raise OutputError(f"{output} is a file, and a folder is wanted: choose another name, or remove it first")
        return
    other = next((one.name for one in entries if not re.fullmatch(r"(frame_)?\d{5,}\.png", one.name)), None)
    if other is not None:
        raise OutputError(f"{output} is a folder and holds {other}, which is not replaced: choose another name")
    if output.suffix and not names_folder:
        raise OutputError(
            f"{output} is a folder, which is not replaced: end its name in / for its frames, or choose another"
        )


def check_destination(vae: Autoencoder, batch: int, output: str | Path, frames: int | None = None) -> None:
    """Refuse an output that cannot hold a decoded batch.

    Args:
        vae: the decoding model.
        batch: how many pictures or clips are decoded.
        output: the output.
        frames: the frames of a decoded clip. A clip of one frame can be a picture.

    Raises:
        InputError: the output holds a single picture or clip, and the batch has several.
        OutputError: the ending is unknown or cannot hold the model's output, or the folder of `output` does not exist.
        MissingExtra: Pillow is not installed.
    """
    ending, output = output_ending(output), Path(output)
    if output == STANDARD_OUTPUT:
        if not vae.video or batch != 1:
            raise InputError("-o - writes the raw frames of one clip: give a file or a folder name for anything else")
        return
    require_folder(output)
    channels = vae.config.out_channels
    if ending == ".npy":
        return
    if channels == 4 and (ending in (".jpg", ".jpeg") or (vae.video and ending and ending not in PICTURE_ENDINGS)):
        raise OutputError(
            f"{output.name} cannot hold the model's 4 channels: give .npy, a folder name, or .png for a picture"
        )
    require("PIL.Image", extra="media")
    if vae.video:
        if batch != 1:
            raise InputError(f"the latents hold {batch} clips and {output.name} holds one: write .npy, or split them")
        if ending in PICTURE_ENDINGS and frames != 1:
            raise OutputError(
                f"cannot write a clip of {frames} frames as {output.name}: give .mp4, .webm, .gif, .npy, or a folder "
                "name/"
            )
    elif ending in PICTURE_ENDINGS:
        if batch != 1:
            raise InputError(f"the latents hold {batch} pictures, and {output.name} holds one: give a folder or .npy")
    elif ending:
        raise OutputError(
            f"cannot write a picture as {output.name}: give {', '.join(PICTURE_ENDINGS)}, .npy, or a folder name/"
        )
