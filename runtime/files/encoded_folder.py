"""Encoding the files of a folder to a folder of latents files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ...tiling.public_place import shown_in
from ..arrays.ran import FileRun
from ..autoencoders.autoencoder import Autoencoder
from ..errors import InputError, OutputError
from ..media.alpha import WHITE, Background, background_colour
from ..media.clips.frame_colours import check_matrix
from ..system.budget import parse_memory
from ..system.outputs.partial_output import output_ending, translated_errors
from .encode_jobs import encode_jobs, output_again, settings_of
from .encoded_file import check_stream, encode_file
from .folder_job import FolderJob, check_same
from .folder_report import FolderReport
from .folder_run import FailureReport, run_folder
from .formed_latents import origin_to_write
from .named_seed import check_seed
from .progress import FileProgress
from .sources import folder_contents

__all__ = ["encode_folder"]


@shown_in("latentrt.runtime")
def encode_folder(
    vae: Autoencoder,
    source: str | Path,
    output: str | Path,
    *,
    seed: int | None = None,
    origin: str | None = None,
    scaled: bool = False,
    stream: bool = False,
    memory: int | str | None = None,
    exact: bool = False,
    overwrite: bool = False,
    check: Callable[[], None] | None = None,
    progress: FileProgress | None = None,
    on_failed: FailureReport | None = None,
    background: Background = WHITE,
    matrix: str | None = None,
    max_pixels: int | None = None,
    check_range: bool = True,
) -> FolderReport:
    """Encode the pictures of a folder (image models) or its clips (video models) to one latents file each.

    A file that fails is reported, and the run goes on, unless many files in a row fail in the engine (see
    `run_folder`). A second run leaves out the files that an earlier run encoded
    in the same way, so it tries the files that failed again. Several processes may encode one folder at a time, also on
    several machines: each takes the files that no other process works on.

    Args:
        vae: the model.
        source: the folder of pictures or clips.
        output: the folder of the latents files. It is made if it does not exist.
        seed: see `encode_file`.
        origin: see `encode_file`. Files for ComfyUI end in .latent.
        scaled: see `encode_file`.
        stream: see `encode_file`.
        memory: see `Autoencoder.encode`.
        exact: see `Autoencoder.encode`.
        overwrite: whether to replace the latents files that this run would make differently.
        check: called between the steps. It may raise to stop the work.
        progress: called with the number of files that need no further work, and with the progress within each file.
        on_failed: called for each file that fails.
        background: see `encode_file`.
        matrix: see `encode_file`.
        max_pixels: see `encode_file`.
        check_range: see `encode_file`.

    Returns:
        What happened to each file. `failed` lists the files that could not be encoded, with the reasons.

    Raises:
        MediaError: `source` is no folder, or holds no pictures or clips.
        InputError: an argument does not fit the model.
        OutputError: `output` holds files that this run would make differently, or it cannot be written (for example
            because the disk is full).
        EngineError: the engine failed for many files in a row.
    """
    source, output, check = Path(source), Path(output), check or (lambda: None)
    behind = background_colour(background)
    check_seed(seed)
    if memory is not None:
        parse_memory(memory)
    check_stream(vae, stream)
    check_matrix(matrix)
    contents = folder_contents(source, vae)
    files = contents.clips if vae.video else contents.pictures
    if vae.video and not files:
        raise InputError(f"{source} holds the frames of one clip, not clips: encode it with encode_file")
    if output_ending(output) in (".safetensors", ".latent"):
        raise OutputError(
            f"{output.name} is one latents file, and each of the {len(files)} files in {source} gets its own: "
            f"name a folder for them"
        )
    wanted = origin_to_write(vae, origin, scaled=scaled)
    settings = settings_of(vae, seed=seed, origin=wanted, background=behind, matrix=matrix)
    jobs = encode_jobs(files, output, vae, settings, check)
    if not overwrite:
        check_same(jobs, output)
    with translated_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    encode = partial(
        encode_file,
        vae,
        seed=seed,
        origin=origin,
        scaled=scaled,
        stream=stream,
        memory=memory,
        exact=exact,
        overwrite=overwrite,
        check=check,
        progress=progress,
        background=behind,
        matrix=matrix,
        max_pixels=max_pixels,
        check_range=check_range,
    )

    def work(job: FolderJob) -> FileRun:
        encoded = encode(job.source, job.output)
        return FileRun(job.source, job.output, encoded.ran, encoded.seconds)

    return run_folder(
        jobs,
        output,
        work,
        lambda job: output_again(job, vae.family, settings),
        overwrite=overwrite,
        left_out=contents.left_out,
        check=check,
        progress=progress,
        on_failed=on_failed,
    )
