"""The demo run: model, bundle, latents, reconstruction and a side-by-side view, for pictures and for a clip."""

import importlib.resources
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...runtime import open_bundle
from ...runtime.arrays.size_text import size_text
from ...runtime.files.decoded_file import decode_file
from ...runtime.files.encoded_file import encode_file
from ...runtime.media.clips.clip_reader import open_clip
from ...runtime.media.clips.clip_writer import write_clip
from ...runtime.media.pictures.picture_file import list_pictures, read_picture, write_picture
from ...runtime.system.outputs.partial_output import partial_output, translated_errors
from ..bundle import export_bundle
from ..figures.drawn_samples import demo_clip, demo_picture
from ..figures.side_by_side import side_by_side
from ..verify.quality import psnr

__all__ = ["run_demo"]

Pixels = NDArray[np.uint8]
_RATE = Fraction(24)  # frames per second of the clip
_FRAMES = 49  # of the clip
_SIZE = 256  # height and width of the picture and the clip, in pixels


def run_demo(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Run the demo. The folder exists afterwards only if everything succeeded.

    Args:
        folder: the new folder.
        say: called with a line of text after each step.

    Returns:
        The report, as values for JSON.

    Raises:
        OutputError: the folder exists already or cannot be written.
    """
    with partial_output(folder) as partial, translated_errors(folder):
        partial.mkdir()
        for name in ("inputs", "latents", "reconstructions"):
            (partial / name).mkdir()
        report = {"folder": str(folder), "image": _image(partial, say), "video": _video(partial, say)}
    say(f"Look at {folder / 'image_side_by_side.png'} and {folder / 'video_side_by_side.mp4'}")
    return report


def _bundle_of(kind: str, folder: Path, say: Callable[[str], None]) -> Path:
    model, bundle = folder / f"{kind}_model", folder / f"{kind}_bundle"
    with importlib.resources.as_file(importlib.resources.files(__package__) / kind) as embedded:
        shutil.copytree(embedded, model, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    manifest = export_bundle(model, bundle)
    size = sum(file.size_bytes for file in manifest.files) / 1e6
    seconds = manifest.produced_by["seconds"]
    say(f"{kind}: exported {manifest.family}, {size:.1f} MB{'' if seconds is None else f', in {seconds} s'}")
    return bundle


def _image(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    write_picture(folder / "inputs" / "drawn.png", demo_picture(_SIZE, _SIZE))
    with importlib.resources.as_file(importlib.resources.files(__package__) / "pictures") as photographs:
        for path in list_pictures(photographs):
            shutil.copy(path, folder / "inputs" / path.name)
    rows, results = [], []
    with open_bundle(_bundle_of("image", folder, say)) as vae:
        for path in list_pictures(folder / "inputs"):
            latents = folder / "latents" / f"{path.stem}.safetensors"
            output = folder / "reconstructions" / f"{path.stem}.png"
            encode_file(vae, path, latents)
            decode_file(vae, latents, output)
            before, after = read_picture(path), read_picture(output)
            quality = psnr(after, before, peak=255.0)
            say(f"image: {path.name} {size_text(before.shape[:2])}, PSNR {quality:.1f} dB")
            rows.append(side_by_side([(path.name, before), (f"through the VAE, {quality:.1f} dB", after)]))
            results.append({"input": path.name, "psnr_db": quality})
    write_picture(folder / "image_side_by_side.png", _stacked(rows))
    return {"pictures": results}


def _video(folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    source, output = folder / "inputs" / "clip.mp4", folder / "reconstructions" / "clip.mp4"
    with write_clip(source, _RATE) as writer:
        for frame in demo_clip(_FRAMES, _SIZE, _SIZE):
            writer.write(frame)
    latents = folder / "latents" / "clip.safetensors"
    with open_bundle(_bundle_of("video", folder, say)) as vae:
        encode_file(vae, source, latents)
        decode_file(vae, latents, output)
    qualities = []
    with write_clip(folder / "video_side_by_side.mp4", _RATE) as writer:
        for before, after in _pairs(source, output):
            qualities.append(psnr(after, before, peak=255.0))
            writer.write(side_by_side([("clip.mp4", before), ("through the VAE", after)]))
    quality = float(np.mean(qualities))
    say(f"video: clip.mp4 {size_text((len(qualities), _SIZE, _SIZE))}, mean PSNR {quality:.1f} dB")
    return {"clip": {"input": source.name, "frames": len(qualities), "psnr_db": quality}}


def _pairs(first: Path, second: Path) -> Iterator[tuple[Pixels, Pixels]]:
    with open_clip(first) as one, open_clip(second) as two:
        yield from zip(one, two, strict=True)


def _stacked(rows: list[Pixels]) -> Pixels:
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0)), mode="edge") for row in rows])
