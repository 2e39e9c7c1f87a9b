"""Training clips: a camera moves over still pictures, and shapes move in front of it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .pool import Pool, jitter


def clip(rng: np.random.Generator, pool: Pool, frames: int, size: int) -> Tensor:
    """Draw a clip, float (3, frames, size, size) in -1..1."""
    scale = float(np.exp(rng.uniform(np.log(0.8), np.log(2.8))))
    world = jitter(rng, _world(pool.draw(rng), scale).float())
    scale = scale / (1 if scale < 1.6 else 2)
    still = rng.random() < 0.15
    place = _path(rng, frames, 0.0 if still else rng.exponential(1.0)) * scale
    free = torch.tensor([world.shape[-1], world.shape[-2]]).float() - size * scale
    start = torch.from_numpy(rng.random(2)).float() * free.clamp_min(1) + size * scale / 2
    zoom = scale * np.exp(np.arange(frames) * (0.0 if still else rng.normal(0, 0.008)))
    turn = rng.normal(0, 0.3) * (rng.random() < 0.3) + np.arange(frames) * (
        0.0 if still else rng.normal(0, 0.008) * (rng.random() < 0.4)
    )
    picture = _look(world, start + place, zoom, turn, size)
    for _ in range(rng.choice(4, p=[0.45, 0.3, 0.15, 0.1])):
        picture = _object(rng, pool, picture, place / scale)
    if rng.random() < 0.1:
        picture = picture * torch.linspace(rng.uniform(0.4, 1), rng.uniform(0.4, 1), frames)[:, None, None, None]
    return picture.clamp(0, 1).transpose(0, 1) * 2 - 1


def _world(levels: list[Tensor], scale: float) -> Tensor:
    """Return the level of the pyramid from which a camera at `scale` samples without aliasing."""
    return levels[0] if scale < 1.6 else levels[1]


def _path(rng: np.random.Generator, frames: int, speed: float) -> Tensor:
    """Return places (frames, 2) in pixels of the clip, from 0 on: a straight path with a slow swing."""
    time = np.arange(frames)[:, None]
    angle = rng.uniform(0, 2 * np.pi)
    straight = min(speed, 5.0) * np.array([np.cos(angle), np.sin(angle)]) * time
    swing = rng.exponential(1.0, 2) * min(speed, 1.0) * np.sin(time * rng.uniform(0.1, 0.5) + rng.uniform(0, 6, 2))
    path = straight + swing
    return torch.from_numpy(path - path[:1]).float()


def _look(world: Tensor, centre: Tensor, zoom: np.ndarray, turn: np.ndarray, size: int) -> Tensor:
    """Sample (3, H, W) around `centre` (frames, 2) with `zoom` pixels per pixel: (frames, 3, size, size)."""
    line = torch.arange(size) - (size - 1) / 2
    across, down = line[None, None, :], line[None, :, None]
    cos = torch.from_numpy(np.cos(turn) * zoom).float()[:, None, None]
    sin = torch.from_numpy(np.sin(turn) * zoom).float()[:, None, None]
    x = centre[:, 0, None, None] + cos * across - sin * down
    y = centre[:, 1, None, None] + sin * across + cos * down
    height, width = world.shape[-2:]
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    worlds = world.expand(len(centre), -1, -1, -1)
    return functional.grid_sample(worlds, grid, padding_mode="reflection", align_corners=False)


def _object(rng: np.random.Generator, pool: Pool, picture: Tensor, camera: Tensor) -> Tensor:
    """Draw a moving shape in front of a clip (frames, 3, size, size)."""
    frames, _, size, _ = picture.shape
    path = _path(rng, frames, rng.exponential(1.5)) + torch.from_numpy(rng.uniform(0, size, 2)).float()
    if rng.random() < 0.5:  # bounce at the borders
        path = size - (path.remainder(2 * size) - size).abs()
    else:  # nearer than the world, so it moves more
        path = path - camera * rng.uniform(1.0, 1.8)
    radius, squash = size * rng.uniform(0.06, 0.3), rng.uniform(0.4, 1.0)
    power = rng.choice([2.0, 2.0, 8.0])
    line = torch.arange(size).float()
    across = line[None, None, :] - path[:, 0, None, None]
    down = line[None, :, None] - path[:, 1, None, None]
    turn = torch.arange(frames)[:, None, None] * rng.normal(0, 0.05) + rng.uniform(0, 6)
    u = (turn.cos() * across - turn.sin() * down).abs() / radius
    v = (turn.sin() * across + turn.cos() * down).abs() / (radius * squash)
    reach = (u**power + v**power + 1e-9) ** (1 / power)
    mask = ((1 - reach) * radius * squash + 0.5).clamp(0, 1)[:, None]
    if rng.random() < 0.5:
        fill = torch.from_numpy(rng.beta(1.2, 1.2, 3)).float()[None, :, None, None]
        fill = fill * (1.1 - 0.35 * reach[:, None].clamp(0, 1) * rng.random())
    else:
        texture = jitter(rng, pool.draw(rng)[0].float())
        start = torch.from_numpy(rng.random(2)).float() * torch.tensor([texture.shape[-1], texture.shape[-2]])
        scale = np.full(frames, rng.uniform(0.7, 1.4))
        centre = start + (size / 2 - path) * float(scale[0])
        fill = _look(texture, centre, scale, np.zeros(frames), size)
    return picture * (1 - mask) + fill * mask
