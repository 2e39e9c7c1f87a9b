"""Pictures drawn by a program: dead leaves, 1/f textures, gradients, strokes, lettering, gratings, soft shadows."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?&"


def scene(seed: int, size: int) -> np.ndarray:
    """One picture, uint8 (size, size, 3); the same seed gives the same picture."""
    rng = np.random.default_rng([2718, seed])
    palette = _palette(rng)
    full = 2 * size  # drawn twice as large, then averaged: edges without stairs
    noise = [_noise(rng, full, rng.uniform(0.9, 1.8)) for _ in range(2)]
    kind = rng.choice(["leaves", "texture", "gradient", "grating"], p=[0.6, 0.13, 0.15, 0.12])
    if kind == "leaves":
        picture = _dead_leaves(rng, full, palette, noise)
    elif kind == "texture":
        weights = rng.normal(size=(2, 3)) * rng.uniform(0.05, 0.2)
        picture = palette[0] + np.stack(noise, axis=-1) @ weights
    elif kind == "gradient":
        picture = _gradient(rng, full, palette) + noise[0][..., None] * rng.uniform(0, 0.04)
    else:
        picture = _grating(rng, full, palette)
    if rng.random() < 0.3:
        picture = _few_shapes(rng, picture, palette, noise)
    if rng.random() < 0.35:
        picture = _shadow(rng, picture)
    image = Image.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8))
    if rng.random() < 0.3:
        _strokes(rng, image, palette)
    if rng.random() < 0.2:
        _lettering(rng, image, palette)
    image = image.resize((size, size), Image.Resampling.BOX)
    if rng.random() < 0.3:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.5)))
    return np.asarray(image)


def _palette(rng: np.random.Generator) -> np.ndarray:
    """Colours that go together, float (24, 3) in 0..1, mostly of moderate saturation."""
    hue, spread = rng.random(), rng.choice([0.04, 0.12, 0.5])
    light, contrast = rng.uniform(0.3, 0.65), rng.uniform(0.1, 0.3)
    colours = [
        colorsys.hls_to_rgb(
            (hue + spread * rng.normal()) % 1.0,
            float(np.clip(rng.normal(light, contrast), 0.02, 0.98)),
            float(np.clip(rng.beta(1.5, 3.0), 0, 0.9)),
        )
        for _ in range(24)
    ]
    return np.array(colours)


def _noise(rng: np.random.Generator, size: int, exponent: float) -> np.ndarray:
    """Noise whose amplitude falls as frequency**-exponent, float (size, size), mean 0, standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    amplitude = frequency**-exponent
    amplitude[0, 0] = 0.0
    phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
    field = np.fft.irfft2(amplitude * phase, s=(size, size))
    return (field - field.mean()) / (field.std() + 1e-9)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates -1..1 down and across."""
    line = np.linspace(-1, 1, size)
    return line[:, None], line[None]


def _outline(rng: np.random.Generator, x: float, y: float, radius: float) -> list[tuple[float, float]]:
    """Corners of a random ellipse, rectangle, triangle or uneven polygon."""
    kind = rng.random()
    if kind < 0.45:
        count, wobble = 28, 0.0
    elif kind < 0.65:
        count, wobble = 4, 0.0
    else:
        count, wobble = int(rng.integers(3, 9)), 0.35
    angles = np.sort(rng.random(count)) if wobble else np.arange(count) / count
    reach = radius * (1 + wobble * rng.uniform(-1, 1, count))
    turn, squash = rng.uniform(0, 2 * np.pi), rng.uniform(0.25, 1.0)
    u, v = reach * np.cos(2 * np.pi * angles), squash * reach * np.sin(2 * np.pi * angles)
    across, down = x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)
    return list(zip(across.tolist(), down.tolist(), strict=True))


def _paint(
    rng: np.random.Generator, index: np.ndarray, count: int, palette: np.ndarray, noise: list[np.ndarray]
) -> np.ndarray:
    """Fill each region of an index map (size, size) with a colour, a slope and a texture of its own."""
    size = index.shape[0]
    down, across = _grid(size)
    base = palette[rng.integers(0, len(palette), count)] + rng.normal(0, 0.04, (count, 3))
    slope = rng.normal(0, 0.06, (2, count))
    rough = rng.exponential(0.04, (2, count)) * (rng.random((2, count)) < 0.6)
    light = slope[0][index] * down + slope[1][index] * across
    light += rough[0][index] * noise[0] + rough[1][index] * noise[1]
    return base[index] + light[..., None]


def _dead_leaves(rng: np.random.Generator, size: int, palette: np.ndarray, noise: list[np.ndarray]) -> np.ndarray:
    """Shapes that cover one another, radii with density r**-3: the statistics of natural pictures."""
    count = int(rng.choice([60, 200, 700]))
    smallest, largest = size * rng.uniform(0.008, 0.03), size * rng.uniform(0.3, 0.6)
    chance = rng.random(count)
    radii = 1 / np.sqrt(chance / smallest**2 + (1 - chance) / largest**2)
    index = Image.new("I", (size, size), 0)
    draw = ImageDraw.Draw(index)
    for number, radius in enumerate(radii, start=1):
        x, y = rng.uniform(-0.1, 1.1, 2) * size
        draw.polygon(_outline(rng, x, y, radius), fill=number)
    return _paint(rng, np.asarray(index).astype(np.int64), count + 1, palette, noise)


def _few_shapes(
    rng: np.random.Generator, picture: np.ndarray, palette: np.ndarray, noise: list[np.ndarray]
) -> np.ndarray:
    """A few big shapes in front of `picture`."""
    size = picture.shape[0]
    count = int(rng.integers(1, 7))
    index = Image.new("I", (size, size), 0)
    draw = ImageDraw.Draw(index)
    for number in range(1, count + 1):
        x, y = rng.uniform(0, 1, 2) * size
        draw.polygon(_outline(rng, x, y, size * rng.uniform(0.05, 0.3)), fill=number)
    marks = np.asarray(index).astype(np.int64)
    return np.where(marks[..., None] > 0, _paint(rng, marks, count + 1, palette, noise), picture)


def _gradient(rng: np.random.Generator, size: int, palette: np.ndarray) -> np.ndarray:
    """A smooth change between three colours, straight or round."""
    down, across = _grid(size)
    turn = rng.uniform(0, 2 * np.pi)
    place = 0.5 + 0.5 * (np.cos(turn) * down + np.sin(turn) * across)
    if rng.random() < 0.4:
        place = np.hypot(down - rng.uniform(-1, 1), across - rng.uniform(-1, 1)) / 2
    place = np.clip(place, 0, 1)
    stops = [0, rng.uniform(0.2, 0.8), 1]
    return np.stack([np.interp(place, stops, palette[:3, channel]) for channel in range(3)], axis=-1)


def _grating(rng: np.random.Generator, size: int, palette: np.ndarray) -> np.ndarray:
    """Stripes or a checkerboard, turned and seen at an angle."""
    down, across = _grid(size)
    turn, tilt = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.4)
    depth = 1 + tilt * down
    u = (np.cos(turn) * down + np.sin(turn) * across) / depth
    v = (np.cos(turn) * across - np.sin(turn) * down) / depth
    wave = np.sin(np.pi * rng.uniform(2, 14) * u)
    if rng.random() < 0.6:
        wave = wave * np.sin(np.pi * rng.uniform(2, 14) * v)
    sharp = np.tanh(wave * rng.uniform(1, 30))
    mix = (0.5 + 0.5 * sharp)[..., None]
    return palette[0] * mix + palette[1] * (1 - mix)


def _shadow(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Darken under one blurred shape."""
    size = picture.shape[0]
    mask = Image.new("L", (size // 4, size // 4), 0)
    x, y = rng.uniform(0, 1, 2) * size / 4
    ImageDraw.Draw(mask).polygon(_outline(rng, x, y, size / 4 * rng.uniform(0.15, 0.5)), fill=255)
    mask = mask.filter(ImageFilter.GaussianBlur(size / 4 * rng.uniform(0.01, 0.08)))
    shade = np.asarray(mask.resize((size, size), Image.Resampling.BILINEAR)) / 255
    return picture * (1 - rng.uniform(0.2, 0.6) * shade[..., None])


def _colour(rng: np.random.Generator, palette: np.ndarray) -> tuple[int, int, int]:
    red, green, blue = (np.clip(palette[rng.integers(len(palette))], 0, 1) * 255).astype(int).tolist()
    return red, green, blue


def _strokes(rng: np.random.Generator, image: Image.Image, palette: np.ndarray) -> None:
    """Curved lines of different widths."""
    draw, size = ImageDraw.Draw(image), image.width
    for _ in range(int(rng.integers(2, 16))):
        steps = rng.normal(0, size * 0.06, (8, 2)).cumsum(axis=0) + rng.uniform(0, size, 2)
        line = [tuple(point) for point in steps.tolist()]
        draw.line(line, fill=_colour(rng, palette), width=int(rng.integers(2, 12)), joint="curve")


def _lettering(rng: np.random.Generator, image: Image.Image, palette: np.ndarray) -> None:
    """Lines of random letters."""
    draw, size = ImageDraw.Draw(image), image.width
    height = int(rng.integers(16, 64))
    font = ImageFont.load_default(height)
    left, top = rng.uniform(0, 0.4) * size, rng.uniform(0, 0.8) * size
    colour = _colour(rng, palette)
    for line in range(int(rng.integers(1, 7))):
        words = "".join(rng.choice(list(_LETTERS + "      "), int(rng.integers(5, 30))))
        draw.text((left, top + 1.2 * height * line), words, fill=colour, font=font)
