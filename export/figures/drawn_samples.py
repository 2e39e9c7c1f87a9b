"""Draws a sample picture and a sample clip with NumPy.

The picture is a landscape with sun, clouds, hills, a house and a tree. In the clip the clouds drift and two balls
bounce.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["demo_clip", "demo_picture"]

Floats = npt.NDArray[np.floating[Any]]
Pixels = npt.NDArray[np.uint8]

_BALLS = ((214, 62, 52), (250, 200, 60))  # red, yellow
_RADIUS = 0.07  # radius of a ball, in picture heights
_BOUNCE_FRAMES = 24  # frames from one bounce to the next


def demo_picture(height: int = 256, width: int = 256, seed: int = 0) -> Pixels:
    """Draw the landscape, uint8 (height, width, 3). Each seed draws another landscape."""
    return _eight_bits(_Landscape(height, width, seed).view(0.0))


def demo_clip(frames: int = 25, height: int = 256, width: int = 256, seed: int = 0) -> Iterator[Pixels]:
    """Draw the landscape with drifting clouds and bouncing balls; yields the frames, uint8 (height, width, 3)."""
    landscape = _Landscape(height, width, seed)
    for frame in range(frames):
        view = landscape.view(0.006 * frame)
        for index, colour in enumerate(_BALLS):
            landscape.add_ball(view, frame, index, colour)
        yield _eight_bits(view)


class _Landscape:
    """The parts of a clip that are the same in all frames. Lengths are in picture heights; y grows downwards."""

    def __init__(self, height: int, width: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.pixel = 1.0 / height
        self.wide = width / height
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / height)[None, :]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]
        self.lattice: Floats = rng.random((64, 64), dtype=np.float32)
        self.phase = rng.uniform(0, 6.28, 6)
        self.sun = (self.wide * rng.uniform(0.62, 0.82), rng.uniform(0.16, 0.26))
        self.ground: Floats = np.zeros((height, width, 3), np.float32)
        self.is_ground: Floats = np.zeros((height, width, 1), np.float32)
        self._draw_hills()
        self._draw_house(self.wide * rng.uniform(0.2, 0.3), 0.74)
        self._draw_tree(self.wide * rng.uniform(0.7, 0.8), 0.84)

    def view(self, drift: float) -> Floats:
        """Draw a frame (H, W, 3) in 0..255. `drift` is the distance that the clouds have moved, in picture heights."""
        sky = self._sky(drift)
        return sky + (self.ground - sky) * self.is_ground

    def add_ball(self, view: Floats, frame: int, index: int, colour: tuple[int, int, int]) -> None:
        """Draw one ball and its shadow into `view`."""
        across = self.wide * (0.15 + 0.45 * index) + self.wide * 0.011 * frame * (1 - 2 * index)
        phase = (frame / _BOUNCE_FRAMES + 0.3 + 0.45 * index) % 1.0
        ground = 0.93
        centre = ground - _RADIUS - 0.42 * 4 * phase * (1 - phase)
        shadow = np.hypot((self.x - across) / 1.4, (self.y - ground) / 0.35)
        view *= 1 - 0.35 * np.clip(1.3 - shadow / _RADIUS, 0, 1)[..., None]
        distance = np.hypot(self.x - across, self.y - centre)
        light = np.hypot(self.x - across - 0.4 * _RADIUS, self.y - centre + 0.4 * _RADIUS) / _RADIUS
        shade = np.clip(1.15 - 0.4 * light, 0.2, 1.1)[..., None] * np.array(colour, np.float32)
        view += (shade - view) * self._inside(distance - _RADIUS)

    def _sky(self, drift: float) -> Floats:
        down = np.clip(self.y / 0.6, 0, 1)[..., None]
        colour = _mix((84, 146, 214), (226, 228, 214), down)
        distance = np.hypot(self.x - self.sun[0], self.y - self.sun[1])
        glow = np.exp(-((distance / 0.22) ** 2))[..., None] * 0.6
        colour = _mix(colour, (255, 236, 178), glow)
        colour = _mix(colour, (255, 246, 210), self._inside(distance - 0.07))
        cloud = self._noise(3.0, drift) * 0.6 + self._noise(7.0, drift) * 0.3 + self._noise(15.0, drift) * 0.1
        thick = np.clip((cloud - 0.52) * 5, 0, 1) * np.clip(1.5 - 2.2 * self.y, 0, 1)
        return _mix(colour, (250, 250, 250), 0.85 * thick[..., None])

    def _draw_hills(self) -> None:
        layers = [
            (0.50, 0.070, 2.2, (124, 150, 168), (150, 172, 176)),
            (0.60, 0.055, 3.4, (82, 128, 96), (110, 150, 104)),
            (0.72, 0.030, 2.6, (104, 152, 70), (66, 112, 52)),
        ]
        texture = (self._noise(18.0) - 0.5)[..., None] * 26 + (self._noise(45.0) - 0.5)[..., None] * 18
        for index, (level, swing, waves, top, bottom) in enumerate(layers):
            angle = waves * self.x
            first, second = self.phase[2 * index : 2 * index + 2]
            edge = level - swing * (np.sin(2 * angle + first) + 0.5 * np.sin(5 * angle + second))
            colour = _mix(top, bottom, np.clip((self.y - edge) / 0.3, 0, 1)[..., None])
            self._cover(self._inside(edge - self.y), colour + texture * (0.3 + 0.35 * index))

    def _draw_house(self, x: float, y: float) -> None:
        walls = self._box(x, y, 0.11, 0.08)
        boards = 8 * np.sin(np.floor(self.y / 0.02) * 2.4)[..., None]
        paint = _mix((232, 218, 192), (206, 186, 156), np.clip((self.x - x) * 4 + 0.5, 0, 1)[..., None])
        self._cover(walls, paint + boards)
        self._cover(self._box(x - 0.05, y - 0.2, 0.018, 0.05), np.array((150, 92, 78), np.float32))
        slope = np.abs(self.x - x) * 0.75 - (self.y - (y - 0.185))
        roof = self._inside(np.maximum(slope, self.y - (y - 0.075)))
        tiles = 14 * np.sin(self.y * 330)[..., None] * np.ones_like(self.x)[..., None]
        self._cover(roof, np.array((176, 74, 58), np.float32) + tiles)
        self._cover(self._box(x - 0.055, y - 0.015, 0.024, 0.024), np.array((92, 132, 168), np.float32))
        self._cover(self._box(x + 0.05, y + 0.025, 0.024, 0.055), np.array((112, 74, 52), np.float32))

    def _draw_tree(self, x: float, y: float) -> None:
        side = np.abs(self.x - x) - 0.016 - 0.02 * np.clip((self.y - y + 0.1) / 0.1, 0, 1) ** 3
        trunk = self._inside(np.maximum(side, np.abs(self.y - y + 0.13) - 0.13))
        bark = (self._noise(60.0) - 0.5)[..., None] * 40
        self._cover(trunk, np.array((104, 76, 54), np.float32) + bark)
        ragged = (self._noise(26.0) - 0.5) * 0.05
        leaves = (self._noise(30.0) - 0.5)[..., None] * 70
        for across, up, radius in ((-0.075, 0.26, 0.085), (0.08, 0.27, 0.08), (0.0, 0.35, 0.105)):
            distance = np.hypot(self.x - x - across, self.y - y + up)
            light = np.clip(0.5 + (self.x - x - across - (self.y - y + up)) / (3 * radius), 0, 1)[..., None]
            self._cover(self._inside(distance - radius + ragged), _mix((36, 84, 42), (112, 160, 62), light) + leaves)

    def _cover(self, mask: Floats, colour: Floats) -> None:
        """Paint `colour` where `mask` (H, W, 1) is 1."""
        self.ground += (colour - self.ground) * mask
        self.is_ground = np.maximum(self.is_ground, mask)

    def _inside(self, distance: Floats) -> Floats:
        """Return a mask (H, W, 1) that is 1 where a signed distance is negative, with an edge of one pixel."""
        soft: Floats = np.clip(0.5 - distance / self.pixel, 0, 1).astype(np.float32)
        return np.broadcast_to(soft, (self.y.shape[0], self.x.shape[1]))[..., None]

    def _box(self, x: float, y: float, half_width: float, half_height: float) -> Floats:
        return self._inside(np.maximum(np.abs(self.x - x) - half_width, np.abs(self.y - y) - half_height))

    def _noise(self, frequency: float, drift: float = 0.0) -> Floats:
        """Return soft noise (H, W) in 0..1: interpolated random numbers, `frequency` of them per picture height."""
        across, down = (self.x + drift) * frequency + 31, self.y * frequency
        column, row = np.floor(across).astype(np.int64), np.floor(down).astype(np.int64)
        u, v = _ease(across - column), _ease(down - row)
        corner = [[self.lattice[(row + i) % 64, (column + j) % 64] for j in (0, 1)] for i in (0, 1)]
        above = corner[0][0] + (corner[0][1] - corner[0][0]) * u
        below = corner[1][0] + (corner[1][1] - corner[1][0]) * u
        noise: Floats = above + (below - above) * v
        return noise


def _ease(value: Floats) -> Floats:
    return (value * value * (3 - 2 * value)).astype(np.float32)


def _mix(first: npt.ArrayLike, second: npt.ArrayLike, weight: Floats) -> Floats:
    """Interpolate from `first` (weight 0) to `second` (weight 1)."""
    start = np.asarray(first, np.float32)
    mixed: Floats = start + (np.asarray(second, np.float32) - start) * weight.astype(np.float32)
    return mixed


def _eight_bits(view: Floats) -> Pixels:
    return (np.clip(view, 0, 255) + 0.5).astype(np.uint8)
