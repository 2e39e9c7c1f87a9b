"""Decoding the latents files of a folder to a folder of pictures, clips or arrays."""

import os
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ...tiling.public_place import shown_in
from ..arrays.ran import FileRun, Ran
from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError, MediaError, OutputError
from ..media.clips.clip_reader import CLIP_ENDINGS
from ..media.latents_file import latents_shape
from ..media.pictures.picture_file import PICTURE_ENDINGS
from ..system.budget import parse_memory
from ..system.outputs.partial_output import output_ending, translated_errors
from .decoded_file import check_conditions, decode_file
from .folder_job import FolderJob
from .folder_report import FolderReport
from .folder_run import FailureReport, run_folder
from .given_latents import GivenOrigin, check_given_origin
from .latents_folder import LatentsFolder
from .output_names import output_names
from .progress import FileProgress

__all__ = ["decode_folder"]

_OF_FILES = (*PICTURE_ENDINGS, *CLIP_ENDINGS, ".npy")


@shown_in("latentrt.runtime")
def decode_folder(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    ending: str | None = None,
    origin: str | None = None,
    scaled: bool = False,
    frame_rate: Fraction | None = None,
    temb: float | None = None,
    seed: int | None = None,
    memory: int | str | None = None,
    exact: bool = False,
    overwrite: bool = False,
    check: Callable[[], None] | None = None,
    progress: FileProgress | None = None,
    on_failed: FailureReport | None = None,
    key: str | None = None,
    size: tuple[int, int] | None = None,
) -> FolderReport:
    """Decode each latents file of a folder to one file. Its name is that of the latents file, with another ending.

    A file that fails is reported, and the run goes on, unless many files in a row fail in the engine (see
    `run_folder`). A second run leaves out the outputs that exist, so it tries the
    files that failed again. Several processes may decode one folder at a time, also on several machines: each takes the
    files that no other process works on.

    Args:
        vae: the model.
        source: the folder of latents files.
        output: the folder of the outputs. It is made if it does not exist.
        ending: the ending of the outputs, such as ".jpg". None: ".png" for pictures and clips of one frame, and ".mp4"
            for other clips.
        origin: see `decode_file`.
        scaled: see `decode_file`.
        frame_rate: see `decode_file`.
        temb: see `decode_file`.
        seed: see `decode_file`. The files get different noise, which depends on their names.
        memory: see `Autoencoder.decode`.
        exact: see `Autoencoder.decode`.
        overwrite: whether to replace outputs that exist.
        check: called between the files. It may raise to stop the work.
        progress: called with the number of files that need no further work, and with the progress within each file.
        on_failed: called for each file that fails.
        key: see `decode_file`.
        size: see `decode_file`. It holds for all files.

    Returns:
        What happened to each file. `failed` lists the files that could not be decoded, with the reasons.

    Raises:
        MediaError: `source` is no folder, or holds no latents files.
        InputError: an argument does not fit the decoder.
        OutputError: `ending` is unknown, or `output` cannot be written (for example because the disk is full).
        EngineError: the engine failed for many files in a row.
    """
    source, ending_of_output, output, check = (
        Path(source),
        output_ending(output),
        Path(output),
        check or (lambda: None),
    )
    _check_ending(vae, ending)
    check_conditions(vae, temb, seed)
    check_given_origin(vae, GivenOrigin(origin, scaled, size))
    if memory is not None:
        parse_memory(memory)
    if frame_rate is not None and not vae.video:
        raise InputError(f"frame_rate is for clips, and this is {vae.family}: leave it out")
    contents = LatentsFolder.of(source)
    if ending_of_output in _OF_FILES:
        raise OutputError(
            f"{output.name} is one file, and each of the {len(contents.latents)} latents files in {source} gets its "
            f"own: name a folder for them"
        )
    endings = []
    for file in contents.latents:
        check()
        endings.append(ending or _natural_ending(vae, file, key))
    with translated_errors(output):
        output.mkdir(parents=True, exist_ok=True)
        existing: dict[str, str | None] = {entry.name: None for entry in output.iterdir()}
    targets = output_names(contents.latents, output, existing, endings=endings)
    jobs = [
        _existing(file, target) if target.name in existing else FolderJob(file, target)
        for file, target in zip(contents.latents, targets, strict=True)
    ]
    marks = {job.output: _mark(job.output) for job in jobs}

    def look_again(job: FolderJob) -> FolderJob:
        if not os.path.lexists(job.output):
            return replace(job, state="absent")
        return job if _mark(job.output) == marks[job.output] else replace(job, state="same")

    def work(job: FolderJob) -> FileRun:
        report = decode_file(
            vae,
            job.source,
            job.output,
            origin=origin,
            scaled=scaled,
            frame_rate=frame_rate if job.output.suffix.lower() in CLIP_ENDINGS else None,
            temb=temb,
            seed=seed,
            memory=memory,
            exact=exact,
            overwrite=overwrite,
            progress=progress,
            key=key,
            size=size,
        )
        ran = Ran(report["backend"], report["dtype"], report["strategy"], report["exact"], report["planned_bytes"])
        return FileRun(job.source, job.output, ran, report["seconds"])

    return run_folder(
        jobs,
        output,
        work,
        look_again,
        overwrite=overwrite,
        left_out=contents.left_out,
        check=check,
        progress=progress,
        on_failed=on_failed,
    )


def _check_ending(vae: Autoencoder, ending: str | None) -> None:
    known = (*PICTURE_ENDINGS, *(CLIP_ENDINGS if vae.video else ()), ".npy")
    if ending is not None and ending not in known:
        raise OutputError(f"cannot write {vae.family} outputs as {ending!r}: give one of {', '.join(known)}")


def _natural_ending(vae: Autoencoder, file: Path, key: str | None) -> str:
    """The ending of an output by its kind: a picture or a clip."""
    if not vae.video:
        return ".png"
    try:
        shape = latents_shape(file, key=key)
    except MediaError:  # the file fails when it is its turn
        return ".mp4"
    return ".png" if len(shape) in (4, 5) and vae.grid.sample_size(shape[-3:])[0] == 1 else ".mp4"


def _existing(source: Path, output: Path) -> FolderJob:
    """The job of an output that exists. Pictures and clips do not record their latents, so times are compared."""
    try:
        is_older = output.lstat().st_mtime_ns < source.stat().st_mtime_ns
    except OSError:
        is_older = False
    return FolderJob(source, output, "unrecorded", "older than its latents" if is_older else "")


def _mark(file: Path) -> tuple[int, int] | None:
    """What changes if another process writes a file anew. None if there is no file."""
    try:
        found = file.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
