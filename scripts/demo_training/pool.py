"""The pool of still pictures from which both trainings take their samples."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from . import photographs, scenes

SCENE_SIZE = 320  # height and width of a drawn scene, in pixels


class Pool:
    """Photographs and drawn scenes, each at full and half size: float16 (3, H, W) in 0..1."""

    def __init__(self, photos: dict[str, float], seeds: range, photo_share: float = 0.5) -> None:
        """Load photographs and draw scenes.

        Args:
            photos: name of each photograph -> its relative frequency.
            seeds: seeds of the scenes.
            photo_share: share of photographs among the drawn samples.
        """
        pictures = [photographs.photograph(name) for name in photos]
        pictures += [scenes.scene(seed, SCENE_SIZE) for seed in seeds]
        weights = np.array(list(photos.values()))
        self.chances = np.concatenate(
            [photo_share * weights / weights.sum(), np.full(len(seeds), (1 - photo_share) / len(seeds))]
        )
        self.levels = [_pyramid(picture) for picture in pictures]

    @classmethod
    def training(cls) -> "Pool":
        """Return the training pictures."""
        return cls(photographs.TRAINING, range(400))

    @classmethod
    def held_out(cls) -> "Pool":
        """Return the pictures that training never uses."""
        return cls(dict.fromkeys(photographs.HELD_OUT, 1.0), range(1_000_000, 1_000_008))

    def draw(self, rng: np.random.Generator) -> list[Tensor]:
        """Return the pyramid of a random picture."""
        return self.levels[rng.choice(len(self.levels), p=self.chances)]


def _pyramid(picture: np.ndarray) -> list[Tensor]:
    full = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255
    return [full[0].half(), functional.avg_pool2d(full, 2)[0].half()]


def jitter(rng: np.random.Generator, picture: Tensor) -> Tensor:
    """Change the colours of (..., 3, H, W) in 0..1 a little: channels, saturation, gamma, contrast, light."""
    if rng.random() < 0.35:
        picture = picture[..., torch.from_numpy(rng.permutation(3)), :, :]
    if rng.random() < 0.5:
        grey = picture.mean(dim=-3, keepdim=True)
        picture = grey + (picture - grey) * rng.uniform(0.3, 1.4)
    if rng.random() < 0.5:
        tint = torch.from_numpy(rng.normal(1.0, 0.1, (3, 1, 1))).float()
        picture = (picture - 0.5) * rng.uniform(0.7, 1.25) * tint + 0.5 + rng.normal(0, 0.06)
    picture = picture.clamp(0, 1)
    if rng.random() < 0.3:
        picture = picture.clamp_min(1e-3) ** rng.uniform(0.7, 1.4)
    return picture


def crop(rng: np.random.Generator, levels: list[Tensor], size: int) -> Tensor:
    """Cut a random square at a random scale, flip and quarter turn: float (3, size, size) in 0..1."""
    scale = float(np.exp(rng.uniform(np.log(0.7), np.log(3.0))))
    side = round(size * scale)
    full = levels[0]
    side = min(side, full.shape[-2], full.shape[-1])
    top = int(rng.integers(0, full.shape[-2] - side + 1))
    left = int(rng.integers(0, full.shape[-1] - side + 1))
    piece = full[:, top : top + side, left : left + side].float()
    if side != size:
        piece = functional.interpolate(piece[None], (size, size), mode="bicubic", antialias=True, align_corners=False)[
            0
        ].clamp(0, 1)
    if rng.random() < 0.5:
        piece = piece.flip(-1)
    if rng.random() < 0.25:
        piece = piece.transpose(-1, -2)
    return piece
