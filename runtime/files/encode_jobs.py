"""Encoding the files of a folder: the latents file of each source, and whether an earlier run has made it."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from ..autoencoders.autoencoder import Autoencoder
from ..calls.tiling_settings import TilingSettings
from ..errors import MediaError
from ..media.alpha import WHITE, Background, background_colour
from ..media.encode_record import EncodeRecord, EncodeSettings
from ..media.named_origin import COMFYUI, NamedOrigin
from ..system.outputs.partial_output import translated_errors
from .folder_job import FolderJob, State
from .output_names import output_names

__all__ = ["encode_jobs", "output_again", "settings_of"]

_ENDING, _COMFYUI_ENDING = ".safetensors", ".latent"


def settings_of(
    vae: Autoencoder,
    *,
    seed: int | None,
    origin: NamedOrigin,
    background: Background = WHITE,
    matrix: str | None = None,
) -> EncodeSettings:
    """The settings of an encode, with the tiling that is enabled on `vae` now.

    Args:
        vae: the model.
        seed: see `encode_file`.
        origin: the origin whose form the latents get.
        background: see `encode_file`.
        matrix: see `encode_file`.
    """
    draw = "mean" if seed is None else f"seed {seed}"
    colour = background_colour(background)
    behind = None if colour == background_colour(WHITE) else "#{:02x}{:02x}{:02x}".format(*colour)
    scaled = str(origin.form.space == "diffusion").lower()
    digest, tiles = _encoder_digest(vae), _tiles(vae)
    return EncodeSettings(draw, scaled, digest, vae.dtype, tiles, behind, matrix, origin.name)


def encode_jobs(
    sources: Sequence[Path], folder: Path, vae: Autoencoder, settings: EncodeSettings, check: Callable[[], None]
) -> list[FolderJob]:
    """The jobs for some sources, in their order.

    Args:
        sources: the pictures or clips.
        folder: the folder of the latents files. It need not exist.
        vae: the model.
        settings: the settings of this run.
        check: called between the files. It may raise to stop.

    Raises:
        OutputError: `folder` cannot be listed.
    """
    held: dict[str, dict[str, str] | None] = {}
    ending = _COMFYUI_ENDING if settings.origin == COMFYUI else _ENDING
    with translated_errors(folder):
        found = sorted(folder.glob(f"*{ending}")) if folder.is_dir() else []
    for path in found:
        if path.name.startswith("."):
            continue
        check()
        held[path.name] = _metadata(path)
    owners = {name: metadata.get("source_name") if metadata else None for name, metadata in held.items()}
    jobs = []
    names = output_names(sources, folder, owners, endings=[ending] * len(sources))
    for source, output in zip(sources, names, strict=True):
        check()
        job = FolderJob(source, output)
        if output.name in held:
            try:
                job = _with_state(job, held[output.name], vae.family, settings)
            except MediaError as error:
                job = replace(job, state="unreadable", reason=str(error))
        jobs.append(job)
    return jobs


def output_again(job: FolderJob, family: str, settings: EncodeSettings) -> FolderJob:
    """A job with the state that its latents file has now.

    Raises:
        MediaError: the source cannot be read.
    """
    if not os.path.lexists(job.output):
        return FolderJob(job.source, job.output)
    return _with_state(job, _metadata(job.output), family, settings)


def _metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a latents file. None if the file is damaged, or LatentRT did not write it."""
    from ..media.latents_file import is_ours, read_metadata  # imported here: safetensors is slow to import

    try:
        metadata = read_metadata(path)
    except MediaError:
        return None
    return metadata if is_ours(metadata) else None


def _with_state(job: FolderJob, metadata: dict[str, str] | None, family: str, settings: EncodeSettings) -> FolderJob:
    state, reason = _state(metadata, job.source, family, settings)
    return replace(job, state=state, reason=reason)


def _state(metadata: dict[str, str] | None, source: Path, family: str, settings: EncodeSettings) -> tuple[State, str]:
    if metadata is None:
        return "other", "damaged or from elsewhere"
    record = EncodeRecord.from_metadata(metadata)
    if record is None:
        if metadata.get("family", family) != family:
            return "other", "with other settings (the bundle)"
        if metadata.get("scaled", settings.scaled) != settings.scaled:
            return "other", "with other settings (--scaled)"
        return "unrecorded", "by a version that recorded no settings"
    if different := record.settings.differences(settings):
        return "other", f"with other settings ({', '.join(different)})"
    if not record.source.is_unchanged(source):
        return "other", "of a source that has changed since"
    return "same", ""


def _encoder_digest(vae: Autoencoder) -> str:
    """The hex SHA-256 of the config and the encoder's weights.

    It is the same for every precision and backend, and for a bundle that was exported again.
    """
    manifest = vae.manifest
    weights = {graph.weights for graph in manifest.find_graphs("encoder")}
    hashes = sorted(file.sha256 for file in manifest.files if file.name in weights)
    text = json.dumps([manifest.config.to_dict(), hashes], sort_keys=True, default=list)
    return sha256(text.encode()).hexdigest()


def _tiles(vae: Autoencoder) -> str | None:
    """The enabled tiling as text. None if it is exact, because strips and streams do not change the numbers."""
    settings = vae.settings
    if settings.is_exact:
        return None
    if not isinstance(settings.tiling, TilingSettings):
        return "strips in float16"
    sizes = "x".join(f"{tiles.size}/{tiles.stride}" for tiles in settings.tiling.tiles)
    return f"{settings.tiling.blend} {sizes}"
