"""The latents files in a folder, and the entries that are left out."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import MediaError
from ..media.pictures.picture_file import natural_key
from .folder_contents import LeftOut, unusable

__all__ = ["LATENTS_ENDINGS", "LatentsFolder"]

LATENTS_ENDINGS = (".safetensors", ".npy", ".npz", ".latent", ".pt")
"""The endings of latents files in a folder."""


@dataclass(frozen=True)
class LatentsFolder:
    """The entries of a folder of latents files, in natural order (a2 before a10).

    Attributes:
        folder: the folder.
        latents: the latents files.
        left_out: the other entries.
    """

    folder: Path
    latents: tuple[Path, ...]
    left_out: tuple[LeftOut, ...]

    @classmethod
    def of(cls, folder: Path) -> "LatentsFolder":
        """Sort the entries of a folder by their endings.

        Raises:
            MediaError: `folder` is not a folder, cannot be listed, or holds no latents files.
        """
        try:
            entries = sorted(folder.iterdir(), key=natural_key)
        except OSError as error:
            raise MediaError(
                f"{folder} is not a folder that can be listed ({error.strerror}): give a folder"
            ) from error
        latents, left_out = [], []
        for entry in entries:
            reason = unusable(entry)
            if reason is None and entry.suffix.lower() in LATENTS_ENDINGS:
                latents.append(entry)
            else:
                left_out.append(
                    LeftOut(entry, *(reason or (entry.suffix.lower()[:12], "no latents file by its ending")))
                )
        if not latents:
            raise MediaError(f"{folder} holds no latents files ({', '.join(LATENTS_ENDINGS)}): give another folder")
        return cls(folder, tuple(latents), tuple(left_out))
