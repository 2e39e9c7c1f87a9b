"""The commands that the kill campaign ends at random moments, and how to see that their outputs are whole."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentrt.export.checkpoints import open_checkpoint
from latentrt.runtime.bundle.manifest import Manifest
from latentrt.runtime.media.clips.clip_reader import open_clip
from latentrt.runtime.media.latents_file import read_latents
from latentrt.runtime.media.pictures.picture_file import read_picture

from .material import Material
from .parsers.bundles import bundle_copy

__all__ = ["COMMANDS", "Command"]


@dataclass(frozen=True)
class Command:
    """A command on the demo's models.

    Attributes:
        arguments: the words after `latentrt`, for an output folder.
        content: reads an output, and gives values that every whole output has. Raises any error if it is not whole.
        output: the name of the output in the output folder. None: the command writes to the cache folder alone.
        force: whether the same command with --force replaces an output.
        grows: whether the output is a folder that the command fills file by file, and that a second run completes.
        prepare: makes files in the output folder that the command needs.
    """

    arguments: Callable[[Material, Path], list[str | Path]]
    content: Callable[[Path], Any] = lambda path: None
    output: str | None = None
    force: bool = False
    grows: bool = False
    prepare: Callable[[Material, Path], None] = lambda material, folder: None


def _bundle(path: Path) -> Any:
    manifest = Manifest.open(path)
    manifest.verify_hashes()
    return manifest.digest


def _verified(path: Path) -> Any:
    return _bundle(path)


def _checkpoint(path: Path) -> Any:
    checkpoint = open_checkpoint(path)
    return sorted((name, float(tensor.read().sum())) for name, tensor in checkpoint.tensors.items())


def _latents(path: Path) -> Any:
    return read_latents(path).latents.tobytes()


def _latents_folder(path: Path) -> Any:
    # A killed writer leaves its claim, with a hidden name, until the next run.
    return {file.name: _latents(file) for file in path.iterdir() if not file.name.startswith(".")}


def _picture(path: Path) -> Any:
    return read_picture(path).tobytes()


def _figure(path: Path) -> Any:
    return read_picture(path).shape  # figures show measured times


def _clip(path: Path) -> Any:
    with open_clip(path) as clip:
        return [frame.tobytes() for frame in clip]


def _array(path: Path) -> Any:
    array = np.load(path)
    return array.shape, array.tobytes()


def _text(path: Path) -> Any:
    assert path.read_text(encoding="utf-8").endswith("\n"), f"{path} is cut off"


def _demo(path: Path) -> Any:
    for name in ("image_bundle", "video_bundle"):
        _bundle(path / name)
    assert (path / "video_side_by_side.mp4").is_file()


def _copy_bundle(material: Material, folder: Path) -> None:
    bundle_copy(material.image_bundle, folder / "bundle", ("manifest.json",))


def _older_bundle(material: Material, folder: Path) -> None:
    """A bundle as an earlier version wrote it."""
    _copy_bundle(material, folder)
    manifest = folder / "bundle" / "manifest.json"
    values = json.loads(manifest.read_text(encoding="utf-8"))
    for key in ("first_reader", "verifications", "weight_bytes"):
        del values[key]
    manifest.write_text(json.dumps(values), encoding="utf-8")


_RUN = ("--backend", "onnxruntime", "--threads", "1")


def _decode(output: str, content: Callable[[Path], Any], *options: str, video: bool = False) -> Command:
    def arguments(material: Material, folder: Path) -> list[str | Path]:
        bundle = material.video_bundle if video else material.image_bundle
        latents = material.clip_latents if video else material.picture_latents
        return ["decode", bundle, latents, "-o", folder / output, *_RUN, *options]

    return Command(arguments, content, output, force=True)


COMMANDS: Mapping[str, Command] = {
    "export_image": Command(lambda m, f: ["export", m.image_model, f / "bundle"], _bundle, "bundle"),
    "export_video": Command(lambda m, f: ["export", m.video_model, f / "bundle"], _bundle, "bundle"),
    "convert": Command(lambda m, f: ["convert", m.video_model, f / "model"], _checkpoint, "model"),
    "encode": Command(
        lambda m, f: ["encode", m.image_bundle, m.picture, "-o", f / "latents.safetensors", *_RUN],
        _latents,
        "latents.safetensors",
        force=True,
    ),
    "encode_stream": Command(
        lambda m, f: ["encode", m.video_bundle, m.clip, "-o", f / "latents.safetensors", "--stream", *_RUN],
        _latents,
        "latents.safetensors",
        force=True,
    ),
    "encode_folder": Command(
        lambda m, f: ["encode", m.image_bundle, m.demo / "inputs", "-o", f / "latents", *_RUN],
        _latents_folder,
        "latents",
        grows=True,
    ),
    "decode_png": _decode("picture.png", _picture),
    "decode_npy": _decode("clip.npy", _array, video=True),
    "decode_mp4": _decode("clip.mp4", _clip, video=True),
    "decode_stream": _decode("clip.mkv", _clip, "--stream", video=True),
    "decode_gif": _decode("clip.gif", _clip, video=True),
    "decode_frames": _decode("frames", _clip, "--stream", video=True),
    "verify": Command(
        lambda m, f: ["verify", f / "bundle", "--source", m.image_model, "--backend", "onnxruntime", "--min-psnr", "1"],
        _verified,
        "bundle",
        prepare=_copy_bundle,
    ),
    "upgrade": Command(lambda m, f: ["upgrade", f / "bundle"], _bundle, "bundle", prepare=_older_bundle),
    "selftest": Command(lambda m, f: ["selftest", m.image_bundle, *_RUN]),
    "compare": Command(
        lambda m, f: [
            *("compare", m.image_bundle, "--backend", "onnxruntime", "--backend", "openvino"),
            *("--plot", f / "compare.png"),
        ],
        _figure,
        "compare.png",
    ),
    "plan": Command(
        lambda m, f: ["plan", m.image_bundle, "--size", "512x512", "--draw", f / "plan.png", *_RUN],
        _figure,
        "plan.png",
    ),
    "calibrate": Command(lambda m, f: ["calibrate", m.image_bundle, "--component", "decoder", *_RUN]),
    "bench": Command(
        lambda m, f: [
            *("bench", m.image_bundle, "--size", "64x64", "--component", "decoder", "--repeats", "1"),
            *("--backend", "onnxruntime", "--markdown", f / "bench.md"),
        ],
        _text,
        "bench.md",
    ),
    "warmup": Command(lambda m, f: ["warmup", m.image_bundle, "--size", "64x64", *_RUN]),
    "inspect": Command(lambda m, f: ["inspect", m.image_bundle, "--verify"]),
    "demo": Command(lambda m, f: ["demo", f / "demo"], _demo, "demo"),
}
"""Every command that works or writes for a while. (`build` needs a GPU.)"""
