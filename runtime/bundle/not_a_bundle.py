"""Why a path is not a bundle, and what to do: users name checkpoints, files, or the folder around a bundle."""

import itertools
from pathlib import Path

__all__ = ["MANIFEST_NAME", "not_a_bundle"]

MANIFEST_NAME = "manifest.json"
_CONFIG_NAMES = ("config.json", "model_index.json", "vae/config.json")
_WEIGHTS = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".msgpack")
_MOST_LOOKED_AT = 200  # entries of a folder
_MOST_NAMED = 3  # bundles in a message


def not_a_bundle(given: Path, folder: Path) -> str:
    """One sentence that says what the path is instead of a bundle, and what to do.

    Args:
        given: the path as the user gave it.
        folder: the same path, resolved.
    """
    if not folder.exists():
        return f"{given} is not a bundle: there is no such folder; make one with `latentrt export`"
    if not folder.is_dir():
        exporting = f"export a checkpoint first, as in `latentrt export {given} bundle`"
        cure = exporting if folder.suffix.lower() in _WEIGHTS else "make one with `latentrt export`"
        return f"{given} is not a bundle: it is a file, and a bundle is a folder; {cure}"
    start = f"{given} is not a bundle: it holds no {MANIFEST_NAME}"
    if any((folder / name).is_file() for name in _CONFIG_NAMES):
        return f"{start}, it is a checkpoint; export it first, as in `latentrt export {given} bundle`"
    inside = _bundles_in(folder)
    if inside:
        names = " or ".join(str(given / name) for name in inside)
        return f"{start}, but a folder in it is one; give {names}"
    return f"{start}; make one with `latentrt export`"


def _bundles_in(folder: Path) -> list[str]:
    """The names of the first folders in this folder that hold a manifest."""
    try:
        entries = list(itertools.islice(folder.iterdir(), _MOST_LOOKED_AT))
        return sorted(path.name for path in entries if (path / MANIFEST_NAME).is_file())[:_MOST_NAMED]
    except OSError:
        return []
