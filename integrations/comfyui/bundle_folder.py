"""The folder `models/latentrt` of ComfyUI, which holds bundles."""

from pathlib import Path

import folder_paths

from ...runtime.errors import InputError

__all__ = ["bundle_names", "bundle_path", "new_bundle_path", "register_folder"]

_KIND = "latentrt"  # in extra_model_paths.yaml and in folder_paths
_MANIFEST = "manifest.json"


def register_folder() -> None:
    """Make `models/latentrt` known to ComfyUI. Folders that extra_model_paths.yaml names are searched too."""
    folder_paths.add_model_folder_path(_KIND, str(Path(folder_paths.models_dir) / _KIND))


def bundle_names() -> list[str]:
    """The names of all bundles, sorted. A bundle in a subfolder is named "subfolder/bundle"."""
    found = set()
    for root in _roots():
        for manifest in (*root.glob(f"*/{_MANIFEST}"), *root.glob(f"*/*/{_MANIFEST}")):
            name = manifest.parent.relative_to(root)
            if not any(part.startswith(".") for part in name.parts):
                found.add(name.as_posix())
    return sorted(found)


def bundle_path(name: str) -> Path:
    """The folder of a bundle.

    Raises:
        InputError: there is no bundle of that name.
    """
    if name in bundle_names():
        for root in _roots():
            if (root / name / _MANIFEST).is_file():
                return root / name
    raise InputError(
        f"there is no bundle {name!r} in {' or '.join(map(str, _roots()))}: make one with the node Make LatentRT bundle"
    )


def new_bundle_path(name: str) -> Path:
    """The folder for a new bundle. Its parent is made.

    Raises:
        InputError: the name is no name of a folder.
    """
    if not name or name != Path(name).name or name.startswith(".") or "\\" in name:
        raise InputError(f"name: wanted the name of a folder in models/latentrt, such as sdxl, got {name!r}")
    root = _roots()[0]
    root.mkdir(parents=True, exist_ok=True)
    return root / name


def _roots() -> list[Path]:
    return [Path(root) for root in folder_paths.get_folder_paths(_KIND)]
