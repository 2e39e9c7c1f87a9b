"""Which tensor of a file holds the latents."""

from collections.abc import Sequence
from pathlib import Path

from ..errors import MediaError

__all__ = ["COMFYUI_KEY", "COMFYUI_VERSION_KEY", "chosen_tensor"]

COMFYUI_KEY = "latent_tensor"
"""The name of the tensor in ComfyUI's `.latent` files."""

COMFYUI_VERSION_KEY = "latent_format_version_0"
"""The name of an empty tensor in ComfyUI's files, except in those of its first versions."""

# In this order: LatentRT's name, ComfyUI's in files and in memory, and names that programs often use.
_NAMES = ("latents", COMFYUI_KEY, "samples", "latent")
_MOST_NAMES = 6  # in a message
_LONGEST_NAME = 60  # characters


def chosen_tensor(path: Path, names: Sequence[str], key: str | None) -> str:
    """The name of the tensor that holds the latents.

    Args:
        path: the file, for messages.
        names: the names of all tensors.
        key: the name that the user gave. None chooses `latents`, ComfyUI's names, or the only tensor.

    Raises:
        MediaError: there is no tensor of the name, or the choice is not clear.
    """
    shown = ", ".join(name[:_LONGEST_NAME] for name in names[:_MOST_NAMES])
    shown += ", ..." if len(names) > _MOST_NAMES else ""
    if key is not None:
        if key not in names:
            raise MediaError(f"{path} holds no tensor named {key[:_LONGEST_NAME]!r}, but {shown or 'none at all'}")
        return key
    for name in _NAMES:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    if not names:
        raise MediaError(f"{path} holds no tensors: give a latents file")
    raise MediaError(
        f"{path} holds {len(names)} tensors ({shown}), none named latents: give key= (--key) with the name"
    )
